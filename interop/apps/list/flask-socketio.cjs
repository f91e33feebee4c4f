"use strict";

const SERVER = `
import sys
from flask import Flask
from flask_socketio import SocketIO, emit

app = Flask("chat")
io = SocketIO(app, async_mode="threading")

@io.on("say")
def say(text):
    emit("said", text, broadcast=True)

io.run(app, port=int(sys.argv[1]), allow_unsafe_werkzeug=True)
`;

const CLIENT = `
import asyncio
import queue
import sys
import socketio
from rounds import rounds

def user():
    io, heard = socketio.Client(reconnection=False), queue.Queue()
    io.on("said", heard.put)
    io.connect(f"https://{sys.argv[1]}", transports=["websocket"])
    return io, heard

async def main():
    users = [user(), user()]
    async for text in rounds():
        users[0][0].emit("say", text)
        for _, heard in users:
            assert await asyncio.to_thread(heard.get, timeout=10) == text

asyncio.run(main())
`;

module.exports = {
  title: "Flask-SocketIO on Werkzeug",
  did: "a broadcast between two clients of python-socketio",
  pip: ["flask-socketio==5.7.0", "simple-websocket==1.1.0", "python-socketio==5.18.1", "requests==2.32.5", "websocket-client==1.9.0"],
  tunnels: 2,
  start: (app) => app.serve("server.py", SERVER),
  open: (app) => app.client(CLIENT),
};
