"use strict";

const SERVER = `
import sys
import socketio
import uvicorn

io = socketio.AsyncServer(async_mode="asgi")

@io.event
async def say(sid, text):
    await io.emit("said", text)

uvicorn.run(socketio.ASGIApp(io), port=int(sys.argv[1]))
`;

const CLIENT = `
import asyncio
import sys
import socketio
from rounds import rounds

async def user():
    io, heard = socketio.AsyncClient(reconnection=False), asyncio.Queue()
    io.on("said", heard.put)
    await io.connect(f"https://{sys.argv[1]}")
    for _ in range(100):
        if io.transport() == "websocket":
            return io, heard
        await asyncio.sleep(0.1)
    raise Exception("it stayed with polling")

async def main():
    users = [await user() for _ in range(2)]
    async for text in rounds():
        await users[0][0].emit("say", text)
        for _, heard in users:
            assert await asyncio.wait_for(heard.get(), 10) == text

asyncio.run(main())
`;

module.exports = {
  title: "python-socketio on uvicorn",
  did: "two of its own clients, from polling to WebSocket, and a broadcast between them",
  pip: ["python-socketio==5.18.1", "uvicorn==0.54.0", "websockets==17.4", "aiohttp==3.14.5"],
  tunnels: 2,
  start: (app) => app.serve("server.py", SERVER),
  open: (app) => app.client(CLIENT),
};
