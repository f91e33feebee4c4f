// Two clients of xmpp.js, for the servers.
"use strict";
const { until } = require("./app.cjs");

const PACKAGE = "@xmpp/client@0.14.0";
const USERS = ["one", "two"];
const PASSWORD = "secret";

/** Logs both users in; a round is a message of each to the other. */
async function open(app) {
  globalThis.WebSocket ||= require("ws");
  const { client, xml } = app.require("@xmpp/client");
  const users = USERS.map((username) => {
    const service = `${app.wss}/xmpp-websocket`;
    const user = client({ service, domain: "localhost", resource: "interop", username, password: PASSWORD });
    user.heard = [];
    user.on("error", (error) => (user.failed = error));
    user.on("stanza", (stanza) => stanza.is("message") && user.heard.push(stanza.getChildText("body")));
    return user;
  });
  for (const user of users) {
    await user.start();
    await user.send(xml("presence"));
  }
  return async (text) => {
    for (const [number, user] of users.entries()) {
      const to = USERS[1 - number];
      await user.send(xml("message", { type: "chat", to: `${to}@localhost` }, xml("body", {}, `${text} to ${to}`)));
      await until(() => users[1 - number].heard.includes(`${text} to ${to}`), `${to} has the message`);
    }
  };
}

module.exports = { did: "XMPP messages between two clients of xmpp.js", PACKAGE, PASSWORD, USERS, open, tunnels: 2 };
