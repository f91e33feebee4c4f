"use strict";
const WebSocket = require("ws");
const { until } = require("../lib/app.cjs");

const SERVER = `
const http = require("http");
const ShareDB = require("sharedb");
const JSONStream = require("@teamwork/websocket-json-stream");
const { WebSocketServer } = require("ws");

const documents = new ShareDB();
const server = http.createServer();
new WebSocketServer({ server }).on("connection", (socket) => documents.listen(new JSONStream(socket)));
server.listen(Number(process.argv[2]), "127.0.0.1");
`;

const call = (object, method, ...args) => new Promise((done, fail) =>
  object[method](...args, (error, value) => (error ? fail(error) : done(value))));

async function open(app) {
  const { Connection } = app.require("sharedb/lib/client");
  const documents = [0, 1].map(() => new Connection(new WebSocket(app.wss)).get("tides", "one"));
  for (const document of documents) await call(document, "subscribe");
  await call(documents[0], "create", { said: "" });
  return async (text) => {
    for (const [number, document] of documents.entries()) {
      const said = `${text} of user ${number}`;
      await call(document, "submitOp", { p: ["said"], od: document.data.said, oi: said });
      await until(() => documents.every(({ data }) => data?.said === said), `both documents have ${said}`);
    }
  };
}

module.exports = {
  title: "ShareDB",
  did: "operations on a document reach two users",
  npm: ["sharedb@7.0.0", "@teamwork/websocket-json-stream@2.0.0", "ws@8.23.0"],
  tunnels: 2,
  start: (app) => app.serve("server.cjs", SERVER),
  open,
};
