"""Compression with a client on Python `websockets`: compression.py NAME WS_BASE BACKEND CA_FILE PID.

Prints one line per check. Under WS_BASE the proxy has, for each backend: /BACKEND (`inspect`, the
default), /BACKEND-pass, /BACKEND-strip. Backends take their own terms from `terms` in the query.
PID is the proxy's, whose memory is watched.
"""

import asyncio
import os
import secrets
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Opcode

from kit import close_of, expect, facts, must, run, same, send_all

NAME, BASE, BACKEND, CA, PID = sys.argv[1:]
TLS = ssl.create_default_context(cafile=CA)
LIMIT = 1 << 20

# The client's offers, and the parameters the backends answer with.
OFFERS = {
    "plain": {"client_max_window_bits": True},
    "server-no-takeover": {"client_max_window_bits": True, "server_no_context_takeover": True},
    "client-no-takeover": {"client_max_window_bits": True, "client_no_context_takeover": True},
    "both-no-takeover": {
        "client_max_window_bits": True,
        "server_no_context_takeover": True,
        "client_no_context_takeover": True,
    },
    "narrow": {"client_max_window_bits": 10, "server_max_window_bits": 10},
}
ANSWERS = ["plain", "server-no-takeover", "client-no-takeover", "both-no-takeover", "narrow"]


class Counting(PerMessageDeflate):
    """Counts the bytes received on the wire."""

    messages = compressed = payload = 0

    def decode(self, frame, *, max_size=None):
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self.messages += frame.fin
            self.compressed += frame.rsv1
            self.payload += len(frame.data)
        return super().decode(frame, max_size=max_size)


class Offer(ClientPerMessageDeflateFactory):
    """Creates counting connections."""

    counting = None

    def process_response_params(self, params, accepted_extensions):
        extension = super().process_response_params(params, accepted_extensions)
        extension.__class__ = Counting
        self.counting = extension
        return extension


def dial(route, query, offer):
    url = f"{BASE}/{BACKEND}{route}{query}"
    return connect(url, ssl=TLS, extensions=[offer], compression=None, max_size=16 << 20, open_timeout=10)


async def converse(route, offered, answered, case=NAME):
    """One tunnel, long enough to reveal a compression window kept or reset by only one end."""
    query = f"?terms={answered}&case={case}-{offered}"
    offer = Offer(**OFFERS[offered])
    async with dial(route, query, offer) as socket:
        agreed = socket.response.headers.get("Sec-WebSocket-Extensions", "")
        known = await facts(socket)
        must_agree(route, agreed, known, socket)
        # Half of it repeats within a message; all of it repeats the previous message.
        blob = secrets.token_hex(200)
        texts = [f"{number} {blob}" for number in range(60)]
        sending = asyncio.create_task(send_all(socket, texts))
        for text in texts:
            same(await socket.recv(), text)
        await sending
        for text in ["", "x", "short", "tide " * 13000, "", f"short {blob}"]:
            await socket.send(text)
            same(await socket.recv(), text)
        await socket.send(["frag" * 100, "", "mented" * 100])
        same(await socket.recv(), "frag" * 100 + "mented" * 100)
        await socket.send(bytes(5000))
        same(await socket.recv(), bytes(5000))
    must_be_recorded(f"/{BACKEND}{route}{query}", agreed, offer.counting)


def must_agree(route, agreed, known, socket):
    offered = socket.request.headers["Sec-WebSocket-Extensions"]
    told, answer = known["headers"].get("sec-websocket-extensions"), known["extensions"] or ""
    if route == "-strip":
        same((told, answer, agreed), (None, "", ""))
        return
    same(told, offered)
    must(answer.startswith("permessage-deflate"), f"the backend answered {answer!r}")
    same(sorted(agreed.split("; ")), sorted(answer.split("; ")))


def must_be_recorded(target, agreed, counting):
    # The query, 60 messages with the blob, 6 of several sizes, one fragmented, one binary.
    equals, between = {"up_messages": 69, "down_messages": 69, "end": "client_closed"}, {}
    if not agreed:
        expect(target, equals={**equals, "up_compressed": 0, "down_compressed": 0})
        return
    same((counting.messages, counting.compressed), (69, 69))
    equals |= {"up_compressed": 69, "down_compressed": 69}
    for way, fresh in [
        ("up_bytes", "client_no_context_takeover" in agreed),
        ("down_bytes", "server_no_context_takeover" in agreed),
    ]:
        between[way] = [14000, 30000] if fresh else [1000, 8000]
    between["down_bytes"][0] = max(between["down_bytes"][0], counting.payload)
    expect(target, equals=equals, between=between)


def every_answer(route, offered):
    async def check():
        for answered in ANSWERS:
            try:
                await converse(route, offered, answered)
            except Exception as error:
                raise AssertionError(f"answered {answered}: {error or type(error).__name__}") from error
    return check


async def backend_without():
    for route in ["", "-pass", "-strip"]:
        async with dial(route, "?terms=none", Offer(**OFFERS["plain"])) as socket:
            same(socket.response.headers.get("Sec-WebSocket-Extensions"), None)
            await socket.send("plain " * 1000)
            same(await socket.recv(), "plain " * 1000)


async def sizes(route):
    # Incompressible data is slightly larger on the wire, whose size counts under `pass`.
    largest = LIMIT - 8192 if route == "-pass" else LIMIT
    for size in [0, 1, 125, 126, 1015, 1016, 1017, 4096, 65535, 65536, largest]:
        await echo_both(route, [os.urandom(size), b"tide" * (size // 4) + b"." * (size % 4)])
    await echo_both(route, [[os.urandom(largest // 64) for _ in range(64)]])
    await echo_both(route, ["x" * LIMIT, ["x" * (LIMIT // 2), "x" * (LIMIT // 2)]])


async def echo_both(route, messages):
    async with dial(route, "", Offer(**OFFERS["plain"])) as socket:
        for message in messages:
            await socket.send(message)
            if isinstance(message, list):
                message = type(message[0])().join(message)
            same(await socket.recv(), message)


async def over_the_limit():
    cases = {
        "text": ("decompressed_too_big", "x" * (LIMIT + 1)),
        "random": ("decompressed_too_big", os.urandom(LIMIT + 1)),
        "twice": ("message_too_big", os.urandom(LIMIT * 2)),
        "fragments": ("decompressed_too_big", ["x" * (LIMIT // 2), "x" * (LIMIT // 2), "x"]),
        "bomb": ("decompressed_too_big", bytes(64 << 20)),
        "bomb-fragments": ("decompressed_too_big", [bytes(1000)] * 20 + [bytes(64 << 20)]),
    }
    for what, (end, message) in cases.items():
        query = f"?case={NAME}-{what}"
        async with dial("", query, Offer(**OFFERS["plain"])) as socket:
            await socket.send("before")
            same(await socket.recv(), "before")
            try:
                await socket.send(message)
            except ConnectionClosed:
                pass
            same((what, (await close_of(socket))[0]), (what, 1009))
        expect(f"/{BACKEND}{query}", equals={
            "end": end, "by": "client", "key": "limits.message_from_client",
            "close_client": 1009, "up_compressed": 1})


def memory_peak():
    """In KiB."""
    for line in open(f"/proc/{PID}/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1])


async def forty_bombs():
    """Sends bombs that inflate to 320 MiB, all at once, while other tunnels relay."""
    async def bomb():
        async with dial("", "?case=forty", Offer(**OFFERS["plain"])) as socket:
            try:
                await socket.send(packed)
            except ConnectionClosed:
                pass
            same((await close_of(socket))[0], 1009)
    packed, before = bytes(8 << 20), memory_peak()
    others = converse("", "plain", "plain", f"{NAME}-among-bombs")
    await asyncio.gather(others, *[bomb() for _ in range(40)])
    grown = memory_peak() - before
    must(grown < 16 << 10, f"tidegate grew by {grown} KiB")


async def pass_counts_the_wire():
    async with dial("-pass", "", Offer(**OFFERS["plain"])) as socket:
        await socket.send("x" * (LIMIT + 1))
        same(await socket.recv(), "x" * (LIMIT + 1))
        try:
            await socket.send(os.urandom(LIMIT + 1))
        except ConnectionClosed:
            pass
        same((await close_of(socket))[0], 1009)


CHECKS = [
    *[(f"inspect, {offered} offered, five answers", every_answer("", offered)) for offered in OFFERS],
    *[(f"pass, {offered} offered, five answers", every_answer("-pass", offered)) for offered in OFFERS],
    ("strip, whatever is offered and would be answered", every_answer("-strip", "plain")),
    ("a backend that compresses nothing", backend_without),
    ("inspect, 0 B to the limit", lambda: sizes("")),
    ("pass, 0 B to the limit", lambda: sizes("-pass")),
    ("inspect, over the limit and bombs are closed with 1009", over_the_limit),
    ("inspect, forty bombs at once and others at work", forty_bombs),
    ("pass counts compressed bytes only", pass_counts_the_wire),
]

sys.exit(1 if asyncio.run(run(f"compression {NAME} > {BACKEND}", CHECKS)) else 0)
