// A small Socket.IO chat. Prints `listening PORT`, then serves until it is ended.
"use strict";
const http = require("http");
const { Server } = require("socket.io");

const server = http.createServer((request, response) => response.writeHead(404).end());
const io = new Server(server, { pingInterval: 1000, pingTimeout: 2000 });
io.on("connection", (socket) => {
  socket.on("say", (text, told) => {
    io.emit("said", { from: socket.id, text });
    told("told");
  });
  socket.on("blob", (data, back) => back(data));
});
server.listen(0, "127.0.0.1", () => console.log("listening", server.address().port));
