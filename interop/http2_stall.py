"""Latency next to a tunnel whose backend does not read: http2_stall.py HTTPS_BASE BACKEND CA_FILE.

99 tunnels of one connection echo messages at fixed times, first alone and then while a 100th tunnel has sent all that it
may. The 99th percentile of the echoes must not rise by more than 20 %, whatever the size of the messages of that tunnel.
"""

import asyncio
import ssl
import sys
import time
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events

from kit import must, run, same

BASE, BACKEND, CA = sys.argv[1:4]
URL = urlsplit(BASE)
SIBLINGS, RATE, SECONDS = 99, 400, 6
# Of messages to the backend that does not read.
SIZES = (8, 30, 64 << 10)
ROUNDS = 3
RATIO_MAX = 1.2
# Less than this is the clock of this program.
DIFFERENCE_SECONDS_MIN = 0.0005
# A tunnel that gets no credit for this time is stalled.
STALLED_SECONDS = 1
FRAME_BYTES_MAX = 16384
ECHO = b"tidegate"
ECHOED = bytes([0x82, len(ECHO)]) + ECHO
PING = 0x89


def message(payload, opcode=2):
    """A frame that is masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


class Connection:
    """One connection, whose tunnels are read all the time."""

    async def open(self):
        tls = ssl.create_default_context(cafile=CA)
        tls.set_alpn_protocols(["h2"])
        self.reader, self.writer = await asyncio.open_connection(URL.hostname, URL.port, ssl=tls, server_hostname="localhost")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 24)
        self.opened, self.received, self.due, self.taken, self.credited = {}, {}, {}, [], 0
        self.settings, self.changed = asyncio.Event(), asyncio.Event()
        self.flush()
        self.reading = asyncio.create_task(self.read())
        await asyncio.wait_for(self.settings.wait(), 10)
        return self

    def flush(self):
        if data := self.h2.data_to_send():
            self.writer.write(data)

    async def read(self):
        while data := await self.reader.read(1 << 16):
            now = time.monotonic()
            for event in self.h2.receive_data(data):
                self.handle(event, now)
            self.flush()
            self.changed.set()
        raise ConnectionError("the connection ended")

    def handle(self, event, now):
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settings.set()
        elif isinstance(event, h2.events.ResponseReceived):
            self.opened[event.stream_id] = dict(event.headers)[b":status"]
        elif isinstance(event, h2.events.WindowUpdated):
            self.credited = now
        elif isinstance(event, h2.events.DataReceived):
            stream = event.stream_id
            self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            self.received[stream] = self.took(stream, self.received.get(stream, b"") + event.data, now)
        elif isinstance(event, (h2.events.ConnectionTerminated, h2.events.StreamReset, h2.events.StreamEnded)):
            raise ConnectionError(f"{event}")

    def took(self, stream, data, now):
        """Consumes echoes and answers Pings; returns the rest."""
        while True:
            if data.startswith(ECHOED):
                self.taken.append(now - self.due[stream].pop(0))
                data = data[len(ECHOED):]
            elif len(data) >= 2 and data[0] == PING and len(data) >= 2 + data[1]:
                self.h2.send_data(stream, message(data[2:2 + data[1]], 0xA))
                data = data[2 + data[1]:]
            else:
                return data

    async def until(self, what, reached):
        async def wait():
            while not reached():
                must(not self.reading.done(), f"{self.reading}")
                self.changed.clear()
                await self.changed.wait()
        try:
            await asyncio.wait_for(wait(), 30)
        except asyncio.TimeoutError as late:
            raise AssertionError(f"waited in vain for {what}") from late

    async def tunnel(self):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", URL.netloc),
            (":path", f"/{BACKEND}"), ("sec-websocket-version", "13"),
        ])
        self.flush()
        await self.until("a tunnel", lambda: stream in self.opened)
        same(self.opened[stream], b"200")
        return stream

    async def percentile(self, siblings):
        """The 99th percentile of the echoes of these tunnels, from the time at which each was due."""
        self.taken = []
        start = time.monotonic()
        for number in range(RATE * SECONDS):
            due = start + number / RATE
            await asyncio.sleep(max(0, due - time.monotonic()))
            stream = siblings[number % len(siblings)]
            self.due.setdefault(stream, []).append(due)
            self.h2.send_data(stream, message(ECHO))
            self.flush()
        await self.until("the last echo", lambda: len(self.taken) == RATE * SECONDS)
        return sorted(self.taken)[len(self.taken) * 99 // 100]

    async def fill(self, stream, data):
        """Sends messages, each in frames of its own, until there is no credit for some time; returns the number of bytes."""
        sent, rest, self.credited = 0, b"", time.monotonic()
        while time.monotonic() < self.credited + STALLED_SECONDS:
            for _ in range(200):
                rest = rest or data
                part = rest[:min(FRAME_BYTES_MAX, self.h2.local_flow_control_window(stream))]
                if not part:
                    break
                self.h2.send_data(stream, part)
                sent, rest = sent + len(part), rest[len(part):]
            self.flush()
            await self.writer.drain()
            await asyncio.sleep(0.005)
        return sent


async def one_round(size):
    connection = await Connection().open()
    try:
        siblings = [await connection.tunnel() for _ in range(SIBLINGS)]
        stalled = await connection.tunnel()
        alone = await connection.percentile(siblings)
        connection.h2.send_data(stalled, message(b"!pause", 1))
        sent = await connection.fill(stalled, message(bytes(size)))
        must(sent > 64 << 10, f"only {sent} bytes were taken")
        loaded = await connection.percentile(siblings)
        print(f"# {size} bytes: p99 {alone * 1e3:.2f} ms alone, {loaded * 1e3:.2f} ms next to a tunnel with {sent} bytes",
              file=sys.stderr)
        return alone, loaded
    finally:
        connection.reading.cancel()
        connection.writer.transport.abort()


async def latency(size):
    """The best round counts, since other programs may take the processor in any."""
    seen = []
    for _ in range(ROUNDS):
        seen.append(await one_round(size))
        if any(loaded <= max(RATIO_MAX * alone, alone + DIFFERENCE_SECONDS_MIN) for alone, loaded in seen):
            return
    raise AssertionError(f"p99 alone and next to it: {seen}")


CHECKS = [(f"p99 of {SIBLINGS} tunnels next to one with messages of {size} bytes", lambda size=size: latency(size)) for size in SIZES]
sys.exit(1 if asyncio.run(run(f"http2 stall > {BACKEND}", CHECKS, limit=90)) else 0)
