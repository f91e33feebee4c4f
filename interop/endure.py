"""Reloads and drains at full size, with open tunnels: endure.py TIDEGATE WORK_FOLDER [reloads|drain].

A thousand reloads, one in ten of them invalid, under live tunnels and new connections; then a drain
of nine thousand tunnels. Clients and backend use asyncio streams and their own frame code. Prints
one line per check, with its measurements.
"""

import asyncio
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import ssl
import struct
import subprocess
import sys
import time

from kit import must, run, same

TIDEGATE, WORK, *PARTS = sys.argv[1:]
RELOADS, LIVE, WORKERS = 1000, 200, 8
TUNNELS, WINDOW, DEADLINE, TRAFFIC_EVERY = 9000, 20, 40, 20
KEY = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"


# ---- frames (RFC 6455 5.2) ----

def frame(first, payload, mask=None):
    length = len(payload)
    assert length < 126
    bit = 0x80 if mask else 0
    body = bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if mask else payload
    return bytes([first, bit | length]) + (mask or b"") + body


async def read_frame(reader):
    """Returns first byte and payload, or None at EOF between frames. EOF inside a frame is an error."""
    try:
        head = await reader.readexactly(2)
    except asyncio.IncompleteReadError as short:
        if short.partial:
            raise AssertionError("cut inside a header") from short
        return None
    length = head[1] & 0x7F
    if length >= 126:
        wide = await reader.readexactly(2 if length == 126 else 8)
        length = int.from_bytes(wide, "big")
    mask = await reader.readexactly(4) if head[1] & 0x80 else None
    body = await reader.readexactly(length)
    if mask:
        body = bytes(b ^ mask[i % 4] for i, b in enumerate(body))
    return head[0], body


# ---- the backend, in a separate process ----

def backend(pipe):
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    ends = {"1001": 0, "client": 0, "aborted": 0}

    async def serve(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                         b"Upgrade: websocket\r\n"
                         b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
            while True:
                got = await read_frame(reader)
                if got is None:
                    ends["aborted"] += 1
                    break
                if got[0] == 0x88:
                    code = struct.unpack("!H", got[1][:2])[0] if got[1] else 1005
                    ends["1001" if code == 1001 else "client"] += 1
                    writer.write(frame(0x88, got[1]))
                    break
                writer.write(frame({0x89: 0x8A}.get(got[0], got[0]), got[1]))
            await writer.drain()
        except (AssertionError, asyncio.IncompleteReadError, ConnectionError):
            ends["aborted"] += 1
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(None, pipe.recv)
            pipe.send(dict(ends))

    asyncio.run(main())


# ---- the proxy ----

class Proxy:
    def __init__(self, port, tables=""):
        os.makedirs(WORK, exist_ok=True)
        for name in ("cert.pem", "key.pem"):
            if not os.path.exists(f"{WORK}/{name}"):
                subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj",
                                "/CN=endure", "-addext", "subjectAltName=DNS:localhost",
                                "-keyout", f"{WORK}/key.pem", "-out", f"{WORK}/cert.pem"],
                               check=True, capture_output=True)
                os.chmod(f"{WORK}/key.pem", 0o600)
        self.text = f"""
[[listener]]
address = "127.0.0.1:0"
[[certificate]]
chain = "cert.pem"
key = "key.pem"
default = true
[[route]]
host = "*"
origins = ["*"]
backends = ["127.0.0.1:{port}"]
[concurrency]
connections_per_client = 20000
tunnels_per_client = 20000
requests_per_client = 20000
[rates]
handshakes_per_client = "100000/s"
handshakes_burst = 100000
requests_per_client = "100000/s"
requests_burst = 100000
[admin]
enabled = false
[control]
socket = "control.sock"
[log]
format = "json"
{tables}"""
        self.write(self.text)
        self.log = f"{WORK}/tidegate.err"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen([TIDEGATE, "run", "--config", f"{WORK}/proxy.toml"],
                                          stderr=log, preexec_fn=lambda: resource.setrlimit(
                                              resource.RLIMIT_NOFILE, (20000, 20000)))
        self.port = None
        deadline = time.monotonic() + 10
        while self.port is None and time.monotonic() < deadline:
            for record in self.records():
                if record.get("message") == "listening":
                    self.port = int(record["address"].rsplit(":", 1)[1])
            time.sleep(0.02)
        must(self.port, f"tidegate did not start: {open(self.log).read()[-500:]}")

    def write(self, text):
        with open(f"{WORK}/proxy.new", "w") as file:
            file.write(text)
        os.rename(f"{WORK}/proxy.new", f"{WORK}/proxy.toml")

    def records(self):
        return [json.loads(line) for line in open(self.log) if line.startswith("{")]

    async def order(self, request):
        reader, writer = await asyncio.open_unix_connection(f"{WORK}/control.sock", limit=1 << 26)
        writer.write(json.dumps(request).encode() + b"\n")
        answer = json.loads(await reader.readline())
        writer.close()
        return answer

    def memory(self):
        for line in open(f"/proc/{self.child.pid}/smaps_rollup"):
            if line.startswith("Pss:"):
                return int(line.split()[1])
        return 0

    def stop(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


def context():
    tls = ssl.create_default_context(cafile=f"{WORK}/cert.pem")
    return tls


async def connect(port, tls):
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname="localhost", limit=4096)
    writer.write(KEY)
    head = await reader.readuntil(b"\r\n\r\n")
    must(head.startswith(b"HTTP/1.1 101"), head[:60])
    return reader, writer


async def echo(reader, writer, text):
    writer.write(frame(0x82, text, os.urandom(4)))
    while True:
        got = await read_frame(reader)
        if got is None or got[0] == 0x82:
            break
        if got[0] == 0x89:
            writer.write(frame(0x8A, got[1], os.urandom(4)))
    same(got, (0x82, text))


async def goodbye(reader, writer):
    writer.write(frame(0x88, struct.pack("!H", 1000), os.urandom(4)))
    while (got := await read_frame(reader)) is not None:
        if got[0] == 0x88:
            break
    writer.close()


# ---- a thousand reloads ----

async def reloads(port):
    proxy = Proxy(port)
    tls, done, counts = context(), asyncio.Event(), {"new": 0, "echoes": 0}
    try:
        live = [await connect(proxy.port, tls) for _ in range(LIVE)]

        async def chatter(reader, writer):
            while not done.is_set():
                await echo(reader, writer, b"still here")
                counts["echoes"] += 1
                await asyncio.sleep(random.random())
            await goodbye(reader, writer)

        async def come_and_go():
            while not done.is_set():
                reader, writer = await connect(proxy.port, tls)
                await echo(reader, writer, b"new here")
                await goodbye(reader, writer)
                counts["new"] += 1

        tasks = [asyncio.create_task(chatter(*ends)) for ends in live]
        tasks += [asyncio.create_task(come_and_go()) for _ in range(WORKERS)]
        memory, taken, refused, began = [], 0, 0, time.monotonic()
        for number in range(1, RELOADS + 1):
            failed = [task.exception() for task in tasks if task.done()]
            must(not failed, f"after {number} reloads: {failed[:2]}")
            bad = number % 10 == 0
            limit = "idle = \"1\"" if bad else f"idle = \"{3600 + number}s\""
            proxy.write(f"{proxy.text}\n[limits]\n{limit}\n")
            answer = await proxy.order({"command": "reload"})
            taken += "ok" in answer
            refused += "error" in answer
            same("error" in answer, bad)
            if number % 100 == 0:
                memory.append(proxy.memory())
        took = time.monotonic() - began
        done.set()
        await asyncio.gather(*tasks)
        same((taken, refused), (RELOADS * 9 // 10, RELOADS // 10))
        ends = {record["end"] for record in proxy.records() if record.get("event") == "ended"}
        same(ends, {"client_closed"})
        must(counts["new"] > 100, f"only {counts['new']} new connections: no load at all")
        # The first hundred are a warm-up, after which the allocator's reserve is stable.
        must(memory[-1] < memory[1] * 1.1 + 1024, f"memory grows: {memory} KiB")
        print(f"   {taken} reloads taken, {refused} refused in {took:.1f} s; {counts['new']} new "
              f"connections and {counts['echoes']} echoes of {LIVE} live tunnels, none failed; "
              f"PSS each 100 reloads: {memory} KiB")
    finally:
        proxy.stop()


# ---- a drain of nine thousand ----

async def drain(port, pipe):
    most = TUNNELS if resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 20000 else 1500
    if most < TUNNELS:
        print(f"   skipped the full size: only {most} tunnels, as files are limited")
    proxy = Proxy(port, f"[drain]\nwindow = \"{WINDOW}s\"\ndeadline = \"{DEADLINE}s\"\n")
    tls, moments, began = context(), [], None
    try:
        places = asyncio.Semaphore(64)
        open_now, opened = 0, asyncio.Event()

        async def client():
            nonlocal open_now
            async with places:
                reader, writer = await connect(proxy.port, tls)
            open_now += 1
            if open_now == most:
                opened.set()
            await opened.wait()

            async def talk():
                while True:
                    await asyncio.sleep(random.random() * 2 * TRAFFIC_EVERY)
                    writer.write(frame(0x82, b"a message in passing", os.urandom(4)))

            talking = asyncio.create_task(talk())
            try:
                while True:
                    got = await read_frame(reader)
                    must(got is not None, "an end without a Close")
                    if got[0] == 0x88:
                        break
                    if got[0] == 0x89:
                        writer.write(frame(0x8A, got[1], os.urandom(4)))
            finally:
                talking.cancel()
            moments.append(time.monotonic() - began)
            same((struct.unpack("!H", got[1][:2])[0], got[1][2:]), (1012, b"the service restarts"))
            writer.write(frame(0x88, got[1], os.urandom(4)))
            must(await reader.read() == b"", "bytes after a Close")
            writer.close()

        clients = [asyncio.create_task(client()) for _ in range(most)]
        await asyncio.wait_for(opened.wait(), 240)
        before = proxy.memory()
        await asyncio.sleep(2)
        began = time.monotonic()
        proxy.child.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)
        loop = asyncio.get_running_loop()
        code = await asyncio.wait_for(loop.run_in_executor(None, proxy.child.wait), DEADLINE)
        took = time.monotonic() - began
        same(code, 0)
        must(took <= WINDOW + 5, f"the exit came after {took:.1f} s")
        tenths = [0] * 10
        for moment in moments:
            tenths[min(9, int(moment / WINDOW * 10))] += 1
        # The closes may never be ahead of or behind an even pace by more than a quarter of a tenth: half
        # a second, which a busy machine can stall the clients.
        share = most / 10
        ahead = [sum(tenths[:at]) - at * share for at in range(1, 10)]
        must(all(abs(count) <= share / 4 for count in ahead), f"uneven: {tenths}")
        stopped = next(r for r in proxy.records() if r.get("message") == "shutdown complete")
        same((stopped["tunnels"], stopped["aborted"]), (most, 0))
        pipe.send("ends")
        ends = await loop.run_in_executor(None, pipe.recv)
        same((ends["1001"], ends["aborted"]), (most, 0))
        print(f"   {most} tunnels closed with 1012 in tenths of {tenths}, the backend got as many "
              f"1001, none cut; exit {code} after {took:.1f} s of a window of {WINDOW} s; "
              f"{before} KiB PSS with all open")
    finally:
        proxy.stop()


async def main():
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    except (ValueError, OSError):
        pass
    mine, theirs = multiprocessing.Pipe()
    serving = multiprocessing.Process(target=backend, args=(theirs,), daemon=True)
    serving.start()
    port = mine.recv()
    checks = [
        ("reloads", f"{RELOADS} reloads, one in ten invalid, are noticed by no client",
         lambda: reloads(port)),
        ("drain", f"{TUNNELS} tunnels are drained evenly, and none is cut",
         lambda: drain(port, mine)),
    ]
    wanted = [(what, check) for name, what, check in checks if not PARTS or name in PARTS]
    failed = await run("endure", wanted, limit=400)
    serving.terminate()
    return failed


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main()) else 0)
