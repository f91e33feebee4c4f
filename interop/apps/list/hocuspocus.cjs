"use strict";
const WebSocket = require("ws");
const { until } = require("../lib/app.cjs");

const SERVER = `
const { Server } = require("@hocuspocus/server");
new Server({ address: "127.0.0.1", port: Number(process.argv[2]), quiet: true }).listen();
`;

async function open(app) {
  const { HocuspocusProvider, HocuspocusProviderWebsocket } = app.require("@hocuspocus/provider");
  const { Doc } = app.require("yjs");
  const users = [new Doc(), new Doc()];
  const providers = users.map((document) => {
    const websocketProvider = new HocuspocusProviderWebsocket({ url: app.wss, WebSocketPolyfill: WebSocket });
    const provider = new HocuspocusProvider({ name: "tide", document, websocketProvider });
    provider.attach();
    return provider;
  });
  await until(() => providers.every((provider) => provider.isSynced), "both providers have synced");
  return async (text) => {
    for (const [number, document] of users.entries()) {
      const other = users[1 - number].getText("text");
      document.getText("text").insert(0, `${text} of user ${number}, `);
      await until(() => other.toString().startsWith(`${text} of user ${number}, `), "the other document has the text");
    }
  };
}

module.exports = {
  title: "Hocuspocus",
  did: "a document syncs between two providers",
  npm: ["@hocuspocus/server@4.7.0", "@hocuspocus/provider@4.7.0", "yjs@13.6.33"],
  tunnels: 2,
  start: (app) => app.serve("server.cjs", SERVER),
  open,
};
