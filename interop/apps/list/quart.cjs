"use strict";
const chat = require("../lib/chat.cjs");

const SERVER = `
import asyncio
import sys
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, send_file, websocket

app = Quart("chat")
users = set()

@app.get("/")
async def page():
    return await send_file("chat.html")

@app.websocket("/ws")
async def chat():
    user = websocket._get_current_object()
    users.add(user)
    try:
        while True:
            text = await websocket.receive()
            for other in users:
                await other.send(text)
    finally:
        users.remove(user)

config = Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
asyncio.run(serve(app, config))
`;

module.exports = {
  ...chat,
  title: "Quart on Hypercorn",
  pip: ["quart==0.22.0", "hypercorn==0.18.0"],
  start: (app) => chat.serve(app, "server.py", SERVER),
};
