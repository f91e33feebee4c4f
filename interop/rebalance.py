"""A fourth backend for 9,000 tunnels of three: rebalance.py TIDEGATE FOLDER [TUNNELS [RATE]].

Each client has an address of its own. After a reload has added the fourth backend, `tidegate ctl rebalance` closes the tunnels
that belong there, about a quarter, at the given rate; their clients come back to it, and all others notice nothing.

Prints one line per check, `ok NAME` or `FAIL NAME: why`, with what was measured.
"""

import asyncio
import base64
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter

BIN, FOLDER = sys.argv[1], sys.argv[2]
TUNNELS = int(sys.argv[3]) if len(sys.argv) > 3 else 9000
RATE = int(sys.argv[4]) if len(sys.argv) > 4 else 50
BACKENDS = ["a", "b", "c", "d"]
PORT = 8080
CONFIG = """
[[listener]]
name = "plain"
address = "127.0.0.1:8080"
tls = false

[[route]]
name = "chat"
host = "*"
origins = ["missing"]
pool = "chat"

[[pool]]
name = "chat"
backends = [%s]

[heartbeat]
interval = "off"

[admin]
enabled = false

[control]
socket = "control.sock"

[log]
format = "json"
"""
ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(bytes(16)).decode()
HEAD = f"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
# A text message with the mask 0.
PING = b"\x81\x81\x00\x00\x00\x00x"
failed = False


def report(name, problem, measured=""):
    global failed
    failed |= bool(problem)
    print(f"FAIL rebalance: {name}: {problem} {measured}" if problem else f"ok rebalance: {name} {measured}", flush=True)


class Backend(asyncio.Protocol):
    """Sends its name, and an `x` for each message."""

    def __init__(self, name):
        self.name, self.head = name.encode(), b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if self.head is None:
            if data[0] & 15 == 8:
                self.transport.write(b"\x88\x00")
                self.transport.close()
            else:
                self.transport.write(b"\x81\x01x")
            return
        self.head += data
        if not self.head.endswith(b"\r\n\r\n"):
            return
        fields = dict(line.split(b": ", 1) for line in self.head.lower().split(b"\r\n")[1:] if b": " in line)
        # The value of the key is case-sensitive.
        at = self.head.lower().index(b"sec-websocket-key: ") + 19
        key = self.head[at : at + len(fields[b"sec-websocket-key"])]
        accept = base64.b64encode(hashlib.sha1(key + ACCEPT).digest())
        self.head = None
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n\x81\x01" + self.name
        )


class Client(asyncio.Protocol):
    """One tunnel: notes what comes after the name of its backend."""

    def __init__(self):
        self.data, self.backend, self.closed, self.opened = b"", None, None, asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(HEAD.encode())

    def data_received(self, data):
        self.data += data
        if self.backend is None:
            if b"\r\n\r\n\x81\x01" in self.data and len(self.data) > self.data.index(b"\r\n\r\n") + 6:
                self.backend = self.data[-1:].decode()
                self.data = b""
                self.opened.set_result(None)
        elif self.data[:1] == b"\x88" and len(self.data) >= 4:
            self.closed = (time.monotonic(), struct.unpack("!H", self.data[2:4])[0])
            self.transport.write(b"\x88\x80" + bytes(4))
            self.transport.close()

    def connection_lost(self, _):
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(self.data[:80]))
        elif self.closed is None:
            self.closed = (time.monotonic(), None)


async def serve():
    """The backends, in a process of their own. Prints their ports."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda name=name: Backend(name), "127.0.0.1", 0, backlog=1024) for name in BACKENDS
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()


async def open_tunnel(number):
    loop = asyncio.get_running_loop()
    source = (f"127.1.{number // 250}.{number % 250 + 1}", 0)
    _, client = await loop.create_connection(Client, "127.0.0.1", PORT, local_addr=source)
    await asyncio.wait_for(client.opened, 60)
    return client


async def open_all(numbers):
    """Opens the tunnels of these clients, 64 at a time."""
    places = asyncio.Semaphore(64)

    async def one(number):
        async with places:
            return await open_tunnel(number)

    return await asyncio.gather(*(one(number) for number in numbers))


async def command(request):
    reader, writer = await asyncio.open_unix_connection(f"{FOLDER}/control.sock", limit=1 << 24)
    writer.write(json.dumps(request).encode() + b"\n")
    answer = json.loads(await reader.readline())
    writer.close()
    return answer.get("ok", answer)


async def until(holds, limit, what):
    deadline = time.monotonic() + limit
    while not await holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"rebalance.py: {what} takes more than {limit} s")
        await asyncio.sleep(0.1)


def write_config(ports, count):
    listed = [f'{{ address = "127.0.0.1:{port}", id = "{name}" }}' for name, port in zip(BACKENDS, ports)]
    with open(f"{FOLDER}/proxy.toml", "w") as file:
        file.write(CONFIG % ", ".join(listed[:count]))


async def run(proxy, ports):
    start = time.monotonic()
    clients = await open_all(range(TUNNELS))
    share = Counter(client.backend for client in clients)
    report("tunnels are open", len(share) != 3 and "not on three backends", f"{dict(share)}, after {time.monotonic() - start:.0f} s")
    write_config(ports, 4)
    proxy.send_signal(signal.SIGHUP)

    async def is_reloaded():
        return (await command({"command": "status"}))["generation"] == 2

    await until(is_reloaded, 30, "the reload")
    request = {"command": "rebalance", "pool": "chat", "per_second": RATE, "dry_run": True}
    announced = (await command(request))["pools"][0]["moving"]
    part = announced / TUNNELS
    is_wrong = not 0.24 <= part <= 0.26
    report("a quarter belongs to the fourth backend", is_wrong and "not 24 to 26 %", f"{announced} of {TUNNELS}, {part:.2%}")
    await command(request | {"dry_run": False})

    async def is_over():
        return sum(client.closed is not None for client in clients) >= announced

    await until(is_over, announced / RATE * 1.5 + 60, "the rebalance")
    # Time for closes that must not be.
    await asyncio.sleep(3)
    closed = [number for number, client in enumerate(clients) if client.closed]
    times = sorted(clients[number].closed[0] for number in closed)
    codes = Counter(clients[number].closed[1] for number in closed)
    report("it closes these", len(closed) != announced and f"{len(closed)} are closed")
    report("with 1012", set(codes) != {1012} and dict(codes))
    rate = (len(times) - 1) / (times[-1] - times[0])
    seconds = Counter(int(at - times[0]) for at in times if at < times[0] + int(times[-1] - times[0]))
    measured = f"{rate:.2f}/s over {times[-1] - times[0]:.1f} s, {min(seconds.values())} to {max(seconds.values())} in each second"
    report(f"at {RATE}/s", not 0.9 * RATE <= rate <= 1.1 * RATE and "not within 10 %", measured)
    back = await open_all(closed)
    elsewhere = Counter(client.backend for client in back if client.backend != "d")
    report("their clients come back to the fourth", elsewhere and dict(elsewhere), f"{len(back)} of them")
    moved = set(closed)
    others = [client for number, client in enumerate(clients) if number not in moved]
    touched = sum(bool(client.data or client.closed) for client in others)
    report("the others get nothing", touched and f"{touched} got something", f"{len(others)} of them")
    for client in others + back:
        client.transport.write(PING)

    async def is_echoed():
        return all(client.data == b"\x81\x01x" for client in others + back)

    await until(is_echoed, 60, "the echo of a message on each tunnel")
    again = (await command(request))["pools"][0]["moving"]
    report("every tunnel relays, and none belongs elsewhere", again and f"{again} do")


async def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    backends = subprocess.Popen([sys.executable, __file__, BIN, "backends"], stdout=subprocess.PIPE)
    proxy = None
    try:
        ports = backends.stdout.readline().split()
        ports = [int(port) for port in ports]
        write_config(ports, 3)
        with open(f"{FOLDER}/proxy.log", "w") as log:
            proxy = subprocess.Popen([BIN, "run", "--config", "proxy.toml"], cwd=FOLDER, stderr=log)
        deadline = time.monotonic() + 10
        while not os.path.exists(f"{FOLDER}/control.sock"):
            if proxy.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"tidegate did not start: see {FOLDER}/proxy.log")
            await asyncio.sleep(0.05)
        await asyncio.wait_for(run(proxy, ports), 580)
    finally:
        for process in (proxy, backends):
            if process:
                process.kill()
                process.wait()
    return failed


if FOLDER == "backends":
    asyncio.run(serve())
else:
    sys.exit(asyncio.run(main()))
