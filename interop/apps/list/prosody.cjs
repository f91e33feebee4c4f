"use strict";
const xmpp = require("../lib/xmpp.cjs");

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
  for (const user of xmpp.USERS) {
    await app.run("prosodyctl", ["--config", file, "register", user, "localhost", xmpp.PASSWORD]);
  }
  app.start("prosody", ["--config", file, "-F"]);
  return app.listening(port);
}

module.exports = {
  ...xmpp,
  title: "Prosody",
  settings: "`consider_websocket_secure`",
  debian: { prosody: "/usr/bin/prosody" },
  npm: [xmpp.PACKAGE],
  start,
};
