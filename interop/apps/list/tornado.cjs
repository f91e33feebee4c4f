"use strict";

const SERVER = `
import asyncio
import sys
from tornado.web import Application
from tornado.websocket import WebSocketHandler

users = set()

class Chat(WebSocketHandler):
    def open(self):
        users.add(self)

    def on_message(self, message):
        for user in users:
            user.write_message(message)

    def on_close(self):
        users.remove(self)

async def main():
    Application([("/chat", Chat)], websocket_ping_interval=20).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
`;

const CLIENT = `
import asyncio
import sys
from rounds import rounds
from tornado.websocket import websocket_connect

async def main():
    users = [await websocket_connect(f"wss://{sys.argv[1]}/chat") for _ in range(2)]
    async for text in rounds():
        await users[0].write_message(text)
        for user in users:
            assert await user.read_message() == text

asyncio.run(main())
`;

module.exports = {
  title: "Tornado",
  did: "a chat between two of Tornado's own clients",
  pip: ["tornado==6.6.1"],
  tunnels: 2,
  start: (app) => app.serve("server.py", SERVER),
  open: (app) => app.client(CLIENT),
};
