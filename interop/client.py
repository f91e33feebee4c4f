"""The checks of a client on Python `websockets`: client.py NAME WS_BASE BACKEND [CA_FILE].

Prints one line per check, `ok NAME` or `FAIL NAME: why`. Under WS_BASE the proxy has, for each
backend: /BACKEND (defaults), /BACKEND-beat (a heartbeat every second on both sides, half a second
of patience).
"""

import asyncio
import json
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kit import close_of, expect, facts, must, run, same, send_all

NAME, BASE, BACKEND = sys.argv[1:4]
TLS = ssl.create_default_context(cafile=sys.argv[4]) if len(sys.argv) > 4 else None
SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]
LIMIT = 1 << 20


def dial(path="", route="", **options):
    if TLS is not None:
        options.setdefault("ssl", TLS)
    options.setdefault("compression", None)
    return connect(f"{BASE}/{BACKEND}{route}{path}", max_size=16 << 20, open_timeout=10, **options)


async def end_of(tag):
    async with dial() as socket:
        await socket.send(f"!ended {tag}")
        return json.loads(await socket.recv())


async def echo_text():
    async with dial() as socket:
        for size in SIZES:
            text = ("tide\u00e9" * size)[:size].encode()[:size].decode(errors="ignore")
            text += "x" * (size - len(text.encode()))
            await socket.send(text)
            same(await socket.recv(), text)


async def echo_binary():
    async with dial() as socket:
        for size in SIZES:
            data = os.urandom(size)
            await socket.send(data)
            same(await socket.recv(), data)


async def many_in_flight():
    async with dial() as socket:
        texts = [str(number) * 50 for number in range(500)]
        sending = asyncio.create_task(send_all(socket, texts))
        for text in texts:
            same(await socket.recv(), text)
        await sending


async def fragmented_up():
    async with dial() as socket:
        await socket.send(["frag", "", "men", "ted"])
        same(await socket.recv(), "fragmented")
        await socket.send([b"\0" * 70000, b"\1" * 70000])
        same(await socket.recv(), b"\0" * 70000 + b"\1" * 70000)


async def fragmented_down():
    async with dial() as socket:
        await socket.send("!fragments one two three")
        parts = [part async for part in socket.recv_streaming()]
        same("".join(parts), "one two three")
        must(len(parts) > 1, "the fragments were joined on the way")


async def subprotocol():
    async with dial(subprotocols=["chat.v1", "chat.v2"]) as socket:
        same(socket.subprotocol, "chat.v2")
        same((await facts(socket))["subprotocol"], "chat.v2")


async def application_head():
    headers = {"Authorization": "Bearer abc.def", "Cookie": "sid=123; theme=dark"}
    async with dial("/deep/path?x=1&y=%20two", additional_headers=headers) as socket:
        known = await facts(socket)
        same(known["headers"]["authorization"], "Bearer abc.def")
        same(known["headers"]["cookie"], "sid=123; theme=dark")
        same(known["target"], f"/{BACKEND}/deep/path?x=1&y=%20two")
        same(known["host"], BASE.split("://")[1])


async def application_refuses():
    try:
        async with dial("/deny"):
            raise AssertionError("it was let in")
    except InvalidStatus as refused:
        same(refused.response.status_code, 401)
        same(refused.response.headers.get("WWW-Authenticate"), 'Bearer realm="app"')
        same(refused.response.body, b"not you")


async def client_closes(code, reason):
    tag = f"{NAME}-{BACKEND}-{code}"
    async with dial(f"?tag={tag}") as socket:
        await socket.send("before")
        await socket.recv()
        await socket.close(code, reason)
        same(socket.close_code, code)
    same(await end_of(tag), {"code": code, "reason": reason})


async def backend_closes(code, reason):
    async with dial() as socket:
        await socket.send(f"!close {code} {reason}".rstrip())
        same(await close_of(socket), (code, reason))


async def ping_is_answered_by_the_backend():
    async with dial() as socket:
        await asyncio.wait_for(await socket.ping(b"are you there"), 5)
        await asyncio.wait_for(await socket.ping(b""), 5)
        same((await facts(socket))["pings"], 2)


async def ping_of_the_backend_is_answered_here():
    async with dial() as socket:
        await socket.send("!ping tide")
        same(await socket.recv(), "ponged")


async def heartbeats():
    """Both libraries answer pings by themselves; the proxy's own pings are not relayed."""
    query = f"?tag={NAME}-beat"
    async with dial(query, route="-beat", ping_interval=None) as socket:
        await asyncio.sleep(3.5)
        await socket.send("still here")
        same(await socket.recv(), "still here")
        known = await facts(socket)
        must(known["pings"] >= 3, f"{known['pings']} heartbeats to the backend in 3.5 s")
    expect(
        f"/{BACKEND}-beat{query}", equals={"end": "client_closed"},
        between={"client_rtt_ms": [0, 500], "backend_rtt_ms": [0, 500]},
        has=["client_rtt_max_ms", "backend_rtt_max_ms"])


async def too_large():
    for message in ["x" * (LIMIT + 1), b"x" * (LIMIT + 1), ["x" * (LIMIT // 2), "x" * (LIMIT // 2), "x"]]:
        async with dial() as socket:
            try:
                await socket.send(message)
            except ConnectionClosed:
                pass
            same((await close_of(socket))[0], 1009)


async def foreign_origin():
    for origin in ["https://evil.example", "null", BASE.replace("ws", "http", 1) + "0"]:
        try:
            async with dial(origin=origin):
                raise AssertionError(f"{origin} was let in")
        except InvalidStatus as refused:
            same(refused.response.status_code, 403)


async def own_origin():
    async with dial(origin=BASE.replace("ws", "http", 1)) as socket:
        await socket.send("welcome")
        same(await socket.recv(), "welcome")


async def tls_1_2():
    old = ssl.create_default_context(cafile=sys.argv[4])
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with dial(ssl=old) as socket:
        same(socket.transport.get_extra_info("ssl_object").version(), "TLSv1.2")
        await socket.send("old but valid")
        same(await socket.recv(), "old but valid")


CHECKS = [
    ("echo of text", echo_text),
    ("echo of binary", echo_binary),
    ("500 messages in flight", many_in_flight),
    ("fragmented message up", fragmented_up),
    ("fragmented message down stays in fragments", fragmented_down),
    ("subprotocol", subprotocol),
    ("authorization, cookie, query and host unchanged", application_head),
    ("the application's own 401 and its body", application_refuses),
    ("client closes with 4001", lambda: client_closes(4001, "enough for today")),
    ("client closes with 1000", lambda: client_closes(1000, "")),
    ("backend closes with 4002", lambda: backend_closes(4002, "come back later")),
    ("backend closes with 1000", lambda: backend_closes(1000, "")),
    ("client's ping is answered by the backend", ping_is_answered_by_the_backend),
    ("backend's ping is answered by the client", ping_of_the_backend_is_answered_here),
    ("heartbeats on both sides, and their round trips recorded", heartbeats),
    ("message of 1 MiB and a byte is closed with 1009", too_large),
    ("foreign Origin is refused with 403", foreign_origin),
    ("the page's own Origin is welcome", own_origin),
] + ([("TLS 1.2", tls_1_2)] if TLS is not None else [])


sys.exit(1 if asyncio.run(run(f"{NAME} > {BACKEND}", CHECKS)) else 0)
