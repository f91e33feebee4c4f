"use strict";
const { until } = require("../lib/app.cjs");

const settings = (app, port) => `
run_as_root = true
daemonize = false
data_path = "${app.work}/data"
pidfile = "${app.work}/prosody.pid"
certificates = "${app.work}"
modules_enabled = { "roster", "saslauth", "disco", "ping", "websocket" }
modules_disabled = { "s2s", "tls" }
interfaces = { "127.0.0.1" }
http_interfaces = { "127.0.0.1" }
http_ports = { ${port} }
https_ports = {}
c2s_ports = {}
s2s_ports = {}
consider_websocket_secure = true
trusted_proxies = { "127.0.0.1" }
log = { info = "*console" }
VirtualHost "localhost"
`;

async function start(app) {
  const port = await app.port();
  const file = app.write("prosody.cfg.lua", settings(app, port));
  app.write("data/.keep", "");
  for (const user of ["one", "two"]) {
    await app.run("prosodyctl", ["--config", file, "register", user, "localhost", "secret"]);
  }
  app.start("prosody", ["--config", file, "-F"]);
  return app.listening(port);
}

async function open(app) {
  globalThis.WebSocket ||= require("ws");
  const { client, xml } = app.require("@xmpp/client");
  const users = ["one", "two"].map((username) => {
    const service = `${app.wss}/xmpp-websocket`;
    const user = client({ service, domain: "localhost", resource: "interop", username, password: "secret" });
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
      const to = ["two", "one"][number];
      await user.send(xml("message", { type: "chat", to: `${to}@localhost` }, xml("body", {}, `${text} to ${to}`)));
      await until(() => users[1 - number].heard.includes(`${text} to ${to}`), `${to} has the message`);
    }
  };
}

module.exports = {
  title: "Prosody",
  did: "XMPP messages between two clients of xmpp.js",
  settings: "`consider_websocket_secure`",
  debian: { prosody: "/usr/bin/prosody" },
  npm: ["@xmpp/client@0.14.0"],
  tunnels: 2,
  start,
  open,
};
