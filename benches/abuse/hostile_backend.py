"""A backend that serves the attackers, and attacks as well; the last part of the path says how."""

import asyncio
import base64
import hashlib
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# One write, repeated as long as the proxy reads.
FLOODS = {
    "flood": b"1000\r\n" + bytes(0x1000) + b"\r\n",
    "tiny-chunks": b"1\r\nx\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "frames": b"\x82\x01x",
    "empty-fragments": b"\x00\x00",
    "pings": b"\x89\x00",
    "close": b"\x82\x01x",
    # In the head of a response.
    "fields": b"X-Field: 0\r\n",
}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BEGIN = {"flood": CHUNKED, "tiny-chunks": CHUNKED, "fields": b"HTTP/1.1 200 OK\r\n",
         "empty-fragments": b"\x02\x00", "close": b"\x88\x00"}
WRITE_BYTES = 64 << 10


class Hostile(asyncio.Protocol):
    def __init__(self):
        self.head, self.flood = b"", None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if self.head is None:
            return
        self.head += data
        if b"\r\n\r\n" not in self.head:
            return
        head, self.head = self.head, None
        self.answer(head)

    def answer(self, head):
        way = head.split(b" ")[1].split(b"?")[0].rsplit(b"/")[-1].decode()
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if b"sec-websocket-key" in fields and way != "hold":
            self.transport.write(accepted(head, fields))
        elif way == "answer":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            self.head = b""
        if way in FLOODS:
            self.transport.write(BEGIN.get(way, b""))
            self.flood = FLOODS[way] * (WRITE_BYTES // len(FLOODS[way]) + 1)
            self.transport.set_write_buffer_limits(high=2 * WRITE_BYTES)
            self.resume_writing()

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        asyncio.get_running_loop().call_soon(self.more)

    def more(self):
        if self.paused or self.transport.is_closing():
            return
        self.transport.write(self.flood)
        if not self.paused:
            asyncio.get_running_loop().call_soon(self.more)


def accepted(head, fields):
    """The 101; the key keeps its case only in the head."""
    at = head.lower().index(b"sec-websocket-key:") + len(b"sec-websocket-key:")
    key = head[at:head.index(b"\r\n", at)].strip()
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    answer = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Accept: " + accept + b"\r\n")
    if b"permessage-deflate" in fields.get(b"sec-websocket-extensions", b""):
        answer += b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
    return answer + b"\r\n"


async def main(port):
    server = await asyncio.get_running_loop().create_server(Hostile, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
