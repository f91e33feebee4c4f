"use strict";
const fs = require("fs");
const { must } = require("../lib/app.cjs");
const xmpp = require("../lib/xmpp.cjs");

const COMMAND = "/usr/sbin/ejabberdctl";
const settings = (port) => `
hosts: [localhost]
listen:
  - port: ${port}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers:
      /xmpp-websocket: ejabberd_http_ws
      /api: mod_http_api
api_permissions:
  register:
    who: { ip: 127.0.0.0/8 }
    what: register
modules:
  mod_roster: {}
`;

async function start(app) {
  const port = await app.port();
  // The command would run it as a user who has no access to the work folder.
  const [, libraries] = /^ERL_LIBS='(.*)'$/m.exec(fs.readFileSync(COMMAND, "utf8"));
  const env = {
    HOME: app.work,
    ERL_LIBS: libraries,
    EJABBERD_CONFIG_PATH: app.write("ejabberd.yml", settings(port)),
    EJABBERD_LOG_PATH: `${app.work}/ejabberd.log`,
  };
  app.start("erl", ["-noinput", "-mnesia", "dir", `"${app.work}/data"`, "-s", "ejabberd"], { env });
  await app.listening(port);
  for (const user of xmpp.USERS) {
    const body = JSON.stringify({ user, host: "localhost", password: xmpp.PASSWORD });
    const answer = await fetch(`http://127.0.0.1:${port}/api/register`, { method: "POST", body });
    must(answer.ok, `the user ${user} was not registered: ${answer.status}`);
  }
  return port;
}

module.exports = {
  ...xmpp,
  title: "ejabberd",
  debian: { ejabberd: COMMAND },
  npm: [xmpp.PACKAGE],
  start,
};
