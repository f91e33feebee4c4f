"""A backend of chaos.py: chaos_backend.py NAME PORT [FILE]. Sends its name to each client, and then what the client sends.

SIGUSR1 resets every connection. SIGUSR2 stops to accept connections, and with the next one goes on: until then they fill the
queue of the kernel. With FILE it has TLS, with the certificate FILE.pem and the key FILE.key, which SIGHUP reads again, and
then resumes no earlier session. Prints `listening` when it serves.
"""

import asyncio
import signal
import socket
import ssl
import struct
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

name, port = sys.argv[1], int(sys.argv[2])
files = sys.argv[3] if len(sys.argv) > 3 else None
# Small, so that it fills up.
BACKLOG = 8
RESET = struct.pack("ii", 1, 0)


async def talk(connection):
    try:
        await connection.send(name)
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


def reset_all(server):
    for connection in list(server.connections):
        connection.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, RESET
        )
        connection.transport.abort()


async def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    wake = asyncio.Event()
    loop = asyncio.get_running_loop()
    servers = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: [reset_all(server) for server in servers])
    loop.add_signal_handler(signal.SIGUSR2, wake.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: (wake.set(), loop.call_later(0.1, wake.set)))
    print("listening", flush=True)
    while True:
        context = None
        if files:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{files}.pem", f"{files}.key")
        server = await serve(
            talk, sock=listener.dup(), backlog=BACKLOG, compression=None, ping_interval=None,
            open_timeout=60, ssl=context,
        )
        servers.append(server)
        await wake.wait()
        wake.clear()
        # The other socket stays in the listening state.
        server.close(close_connections=False)
        await wake.wait()
        wake.clear()


asyncio.run(main())
