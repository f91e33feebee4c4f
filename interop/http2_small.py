"""Small messages over HTTP/2: http2_small.py HTTPS_BASE BACKEND CA_FILE SECONDS.

Messages of 8 bytes both ways on 32 tunnels of one connection. Such frames cost more than their bytes, so libraries limit
them; they must not end the connection, or a stream of it.
"""

import asyncio
import ssl
import sys
import time
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.settings

from kit import must, run, same

BASE, BACKEND, CA = sys.argv[1:4]
SECONDS = float(sys.argv[4])
URL = urlsplit(BASE)
TUNNELS, BYTES = 32, 8
# Masked with zeros, and the echo of a server.
SENT = bytes([0x82, 0x80 | BYTES, 0, 0, 0, 0]) + b"tidegate"
ECHOED = bytes([0x82, BYTES]) + b"tidegate"
PING = 0x89


async def echoes():
    tls = ssl.create_default_context(cafile=CA)
    tls.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(URL.hostname, URL.port, ssl=tls, server_hostname="localhost")
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    connection.increment_flow_control_window(1 << 24)
    writer.write(connection.data_to_send())
    waiting, received = {}, {}
    messages, until = 0, None
    while until is None or time.monotonic() < until or any(waiting.values()):
        data = await reader.read(65536)
        must(data, "the connection ended")
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RemoteSettingsChanged) and not waiting:
                for _ in range(TUNNELS):
                    waiting[opened(connection)] = True
            elif isinstance(event, h2.events.ResponseReceived):
                same(dict(event.headers).get(b":status"), b"200")
                received[event.stream_id] = b""
                connection.send_data(event.stream_id, SENT)
                if len(received) == TUNNELS:
                    until = time.monotonic() + SECONDS
            elif isinstance(event, h2.events.DataReceived):
                stream = event.stream_id
                connection.acknowledge_received_data(event.flow_controlled_length, stream)
                received[stream] += event.data
                while True:
                    received[stream] = answered(connection, stream, received[stream])
                    if not received[stream].startswith(ECHOED):
                        break
                    received[stream] = received[stream][len(ECHOED):]
                    messages += 1
                    if until is None or time.monotonic() < until:
                        connection.send_data(stream, SENT)
                    else:
                        waiting[stream] = False
            must(not isinstance(event, (h2.events.ConnectionTerminated, h2.events.StreamReset, h2.events.StreamEnded)),
                 f"{event} after {messages} messages")
        writer.write(connection.data_to_send())
        await writer.drain()
    must(messages > 10 * TUNNELS, f"only {messages} messages")
    print(f"# {messages} messages both ways in {SECONDS:g} s", file=sys.stderr)
    writer.close()


def answered(connection, stream, data):
    """Answers a Ping at the start of `data` once it is complete; returns the rest."""
    if len(data) < 2 or data[0] != PING or len(data) < 2 + data[1]:
        return data
    payload, rest = data[2:2 + data[1]], data[2 + data[1]:]
    connection.send_data(stream, bytes([0x8A, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
    return rest


def opened(connection):
    stream = connection.get_next_available_stream_id()
    connection.send_headers(stream, [
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", URL.netloc),
        (":path", f"/{BACKEND}"), ("sec-websocket-version", "13"),
    ])
    return stream


CHECKS = [(f"8 bytes both ways on {TUNNELS} tunnels for {SECONDS:g} s", echoes)]
sys.exit(1 if asyncio.run(run(f"http2 small > {BACKEND}", CHECKS, limit=SECONDS + 60)) else 0)
