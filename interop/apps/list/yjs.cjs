"use strict";
const WebSocket = require("ws");
const { until } = require("../lib/app.cjs");

async function start(app) {
  const port = await app.port();
  app.start(process.execPath, [app.bin("y-websocket-server")], { env: { HOST: "127.0.0.1", PORT: port } });
  return app.listening(port);
}

async function open(app) {
  const { WebsocketProvider } = app.require("y-websocket");
  const { Doc } = app.require("yjs");
  const users = [new Doc(), new Doc()];
  // Without the channel by which documents of one process sync on their own.
  const options = { WebSocketPolyfill: WebSocket, disableBc: true };
  const providers = users.map((document) => new WebsocketProvider(app.wss, "tide", document, options));
  await until(() => providers.every((provider) => provider.synced), "both providers have synced");
  return async (text) => {
    for (const [number, document] of users.entries()) {
      const other = users[1 - number].getText("text");
      document.getText("text").insert(0, `${text} of user ${number}, `);
      await until(() => other.toString().startsWith(`${text} of user ${number}, `), "the other document has the text");
    }
  };
}

module.exports = {
  title: "Yjs (y-websocket)",
  did: "a document syncs between two providers",
  quick: true,
  npm: ["@y/websocket-server@0.1.1", "y-websocket@3.1.0", "yjs@13.6.33"],
  tunnels: 2,
  start,
  open,
};
