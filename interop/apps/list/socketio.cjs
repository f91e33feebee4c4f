"use strict";
const https = require("https");
const { must, until } = require("../lib/app.cjs");

// One of three nodes; they reach each other's clients through Redis.
const NODE = `
const { createServer } = require("http");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");
const { Server } = require("socket.io");

(async () => {
  const [redis, port] = process.argv.slice(2);
  const publisher = createClient({ url: "redis://127.0.0.1:" + redis });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const server = createServer();
  const io = new Server(server, { adapter: createAdapter(publisher, subscriber) });
  io.on("connection", (socket) => {
    socket.emit("node", port);
    socket.on("say", (text) => io.emit("said", text));
  });
  server.listen(Number(port), "127.0.0.1");
})();
`;

async function start(app) {
  const redis = await app.port();
  const args = ["--port", redis, "--bind", "127.0.0.1", "--save", "", "--dir", app.work];
  await app.listening(redis, app.start("redis-server", args, { name: "redis" }));
  const nodes = [];
  for (const name of ["one", "two", "three"]) nodes.push(await app.serve(`${name}.cjs`, NODE, [redis]));
  return nodes;
}

/** A client at an address of its own, by polling first. */
function connect(app, number) {
  const { io } = app.require("socket.io-client");
  const agent = new https.Agent({ keepAlive: true, localAddress: `127.0.0.${number}` });
  const socket = io(app.https, { agent, forceNew: true, reconnection: false });
  socket.heard = [];
  socket.on("said", (text) => socket.heard.push(text));
  socket.on("node", (port) => (socket.node = port));
  return socket;
}

async function open(app) {
  const clients = Array.from({ length: 12 }, (_, number) => connect(app, number + 1));
  const upgraded = (socket) => socket.node && socket.io.engine.transport.name === "websocket";
  await until(() => clients.every(upgraded), "all clients have changed from polling to WebSocket");
  const nodes = new Set(clients.map((socket) => socket.node));
  must(nodes.size === 3, `${nodes.size} of three nodes have clients`);
  return async (text) => {
    for (const node of nodes) {
      const said = `${text} on ${node}`;
      clients.find((socket) => socket.node === node).emit("say", said);
      await until(() => clients.every((socket) => socket.heard.includes(said)), `all have heard ${said}`);
    }
  };
}

module.exports = {
  title: "Socket.IO, three nodes",
  did: "12 clients of different addresses, from polling to WebSocket, and broadcasts from each node to all",
  npm: ["socket.io@4.8.4", "socket.io-client@4.8.4", "@socket.io/redis-adapter@8.3.0", "redis@6.3.1"],
  debian: { "redis-server": "/usr/bin/redis-server" },
  tunnels: 12,
  start,
  open,
};
