"use strict";
const chat = require("../lib/chat.cjs");

const SERVER = `
import sys
from sanic import Sanic
from sanic.response import file

app = Sanic("chat")
users = set()

@app.get("/")
async def page(request):
    return await file("chat.html")

@app.websocket("/ws")
async def chat(request, socket):
    users.add(socket)
    try:
        async for text in socket:
            for user in users:
                await user.send(text)
    finally:
        users.remove(socket)

if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]), single_process=True)
`;

module.exports = {
  ...chat,
  title: "Sanic",
  pip: ["sanic==25.12.1"],
  start: (app) => chat.serve(app, "server.py", SERVER),
};
