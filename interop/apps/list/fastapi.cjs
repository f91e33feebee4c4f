"use strict";
const chat = require("../lib/chat.cjs");

const SERVER = `
import sys
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse

app = FastAPI()
users = set()

@app.get("/")
def page():
    return FileResponse("chat.html")

@app.websocket("/ws")
async def chat(socket: WebSocket):
    await socket.accept()
    users.add(socket)
    try:
        while True:
            text = await socket.receive_text()
            for user in users:
                await user.send_text(text)
    except WebSocketDisconnect:
        users.remove(socket)

uvicorn.run(app, port=int(sys.argv[1]))
`;

module.exports = {
  ...chat,
  title: "FastAPI on uvicorn",
  quick: true,
  pip: ["fastapi==0.163.2", "uvicorn==0.54.0", "websockets==17.4"],
  start: (app) => chat.serve(app, "server.py", SERVER),
};
