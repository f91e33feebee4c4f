"use strict";
const mqtt = require("../lib/mqtt.cjs");

const SERVER = `
const http = require("http");
const { Aedes } = require("aedes");
const { createWebSocketStream, WebSocketServer } = require("ws");

Aedes.createBroker().then((broker) => {
  const server = http.createServer();
  new WebSocketServer({ server }).on("connection", (socket, request) => broker.handle(createWebSocketStream(socket), request));
  server.listen(Number(process.argv[2]), "127.0.0.1");
});
`;

module.exports = {
  ...mqtt,
  title: "Aedes",
  quick: true,
  npm: ["aedes@1.2.0", mqtt.PACKAGE, "ws@8.23.0"],
  start: (app) => app.serve("server.cjs", SERVER),
  open: (app) => mqtt.open(app),
};
