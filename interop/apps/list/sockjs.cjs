"use strict";
const { until } = require("../lib/app.cjs");

const SERVER = `
const http = require("http");
const sockjs = require("sockjs");

const chat = sockjs.createServer({ log: () => {} });
const users = new Set();
chat.on("connection", (user) => {
  users.add(user);
  user.on("data", (text) => users.forEach((other) => other.write(text)));
  user.on("close", () => users.delete(user));
});
const server = http.createServer();
chat.installHandlers(server, { prefix: "/chat" });
server.listen(Number(process.argv[2]), "127.0.0.1");
`;

async function open(app) {
  const SockJS = app.require("sockjs-client");
  // One user by WebSocket, and one as if a firewall allowed only HTTP.
  const users = ["websocket", "xhr-streaming"].map((transport) => {
    const socket = new SockJS(`${app.https}/chat`, null, { transports: [transport] });
    socket.heard = [];
    socket.onmessage = ({ data }) => socket.heard.push(data);
    return socket;
  });
  await until(() => users.every((user) => user.readyState === 1), "both users are connected");
  return async (text) => {
    for (const [number, user] of users.entries()) {
      const said = `${text} of user ${number}`;
      user.send(said);
      await until(() => users.every((other) => other.heard.includes(said)), `both have heard ${said}`);
    }
  };
}

module.exports = {
  title: "SockJS",
  did: "a chat between a client by WebSocket and one by streamed HTTP",
  npm: ["sockjs@0.3.24", "sockjs-client@1.6.1"],
  start: (app) => app.serve("server.cjs", SERVER),
  open,
};
