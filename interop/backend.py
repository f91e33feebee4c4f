"""An echo backend on Python `websockets`. Prints `listening PORT`, then serves until it is ended.

Everything comes back as it came, but texts that begin with `!` are orders (see `obey`), the same
ones that `backend.cjs` knows, so that every client can be run against either.
"""

import asyncio
import json
import urllib.parse

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Opcode
from websockets.http11 import Response
from websockets.datastructures import Headers

# Compression parameters from `terms` in the query, or else the library's defaults.
TERMS = {
    "none": None,
    "plain": {},
    "server-no-takeover": {"server_no_context_takeover": True},
    "client-no-takeover": {"client_no_context_takeover": True},
    "both-no-takeover": {"server_no_context_takeover": True, "client_no_context_takeover": True},
    "narrow": {"server_max_window_bits": 10, "client_max_window_bits": 10},
}

# How connections ended, by the tag in their query; a later connection reads them.
ends = {}


class Counting(ServerConnection):
    """Counts received pings, which the library answers by itself."""

    pings = 0

    def process_event(self, event):
        if getattr(event, "opcode", None) is Opcode.PING:
            self.pings += 1
        super().process_event(event)


async def obey(socket, order):
    verb, _, rest = order[1:].partition(" ")
    if verb == "close":
        code, _, reason = rest.partition(" ")
        await socket.close(int(code), reason)
    elif verb == "facts":
        request = socket.request
        await socket.send(json.dumps({
            "subprotocol": socket.subprotocol,
            "extensions": socket.response.headers.get("Sec-WebSocket-Extensions", ""),
            "target": request.path,
            "host": request.headers.get("Host"),
            "headers": {name.lower(): value for name, value in request.headers.raw_items()},
            "pings": socket.pings,
        }))
    elif verb == "fragments":
        await socket.send([rest[i:i + 3] for i in range(0, len(rest), 3)])
    elif verb == "ping":
        await (await socket.ping(rest.encode()))
        await socket.send("ponged")
    elif verb == "pause":
        # Nothing more is read.
        socket.transport.pause_reading()
        await asyncio.Future()
    elif verb == "ended":
        for _ in range(60):
            if rest in ends:
                break
            await asyncio.sleep(0.05)
        await socket.send(json.dumps(ends.get(rest)))


async def talk(socket):
    try:
        async for message in socket:
            if isinstance(message, str) and message.startswith("!"):
                await obey(socket, message)
            else:
                await socket.send(message)
    except ConnectionClosed:
        pass
    finally:
        await socket.wait_closed()
        tag = asked(socket.request, "tag")
        if tag is not None:
            ends[tag] = {"code": socket.close_code, "reason": socket.close_reason}


def choose(socket, offered):
    return "chat.v2" if "chat.v2" in offered else None


def asked(request, name):
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)
    return query.get(name, [None])[0]


def before(socket, request):
    """The application's own rejection and page, and the compression parameters."""
    path = urllib.parse.urlsplit(request.path).path
    if path.endswith("/deny"):
        headers = Headers({"WWW-Authenticate": 'Bearer realm="app"', "Content-Length": "7"})
        return Response(401, "Unauthorized", headers, b"not you")
    if path.endswith("/page"):
        return socket.respond(200, "a page of the application\n")
    terms = asked(request, "terms")
    if terms is not None:
        chosen = TERMS[terms]
        factories = [] if chosen is None else [ServerPerMessageDeflateFactory(**chosen)]
        socket.protocol.available_extensions = factories
    return None


async def main():
    async with serve(
        talk, "127.0.0.1", 0, create_connection=Counting, process_request=before,
        select_subprotocol=choose, max_size=16 << 20, ping_interval=None,
    ) as server:
        print("listening", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


asyncio.run(main())
