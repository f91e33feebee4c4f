"use strict";
const { spawnSync } = require("child_process");
const fs = require("fs");
const path = require("path");
const { until } = require("../lib/app.cjs");

const POSTGRES = "/usr/lib/postgresql/15/bin";
const SERVER = `
const http = require("http");
const express = require("express");
const { ParseServer } = require("parse-server");

(async () => {
  const [database, port] = process.argv.slice(2);
  const parse = new ParseServer({
    databaseURI: "postgres://parse@127.0.0.1:" + database + "/postgres",
    appId: "tide",
    masterKey: "interop",
    serverURL: "http://127.0.0.1:" + port + "/parse",
    allowClientClassCreation: true,
    liveQuery: { classNames: ["Tide"] },
  });
  await parse.start();
  const server = http.createServer(express().use("/parse", parse.app));
  await ParseServer.createLiveQueryServer(server);
  server.listen(Number(port), "127.0.0.1");
})();
`;

/** A PostgreSQL of its own, which does not run as root. */
async function database(app) {
  const id = (flag) => Number(spawnSync("id", [flag, "postgres"]).stdout.toString());
  const user = process.getuid() === 0 ? { uid: id("-u"), gid: id("-g") } : {};
  const folder = path.join(app.work, "database");
  fs.mkdirSync(folder);
  if (user.uid) fs.chownSync(folder, user.uid, user.gid);
  const options = { cwd: folder, ...user };
  await app.run(`${POSTGRES}/initdb`, ["-D", folder, "-A", "trust", "-U", "parse"], options);
  const port = await app.port();
  const args = ["-D", folder, "-p", port, "-k", "", "-c", "listen_addresses=127.0.0.1"];
  return app.listening(port, app.start(`${POSTGRES}/postgres`, args, { name: "postgres", ...options }));
}

async function open(app) {
  const Parse = app.require("parse/node");
  Parse.initialize("tide");
  Parse.serverURL = `${app.https}/parse`;
  Parse.liveQueryServerURL = app.wss;
  await new Parse.Object("Tide").save({ said: "nothing" });
  const subscription = await new Parse.Query("Tide").subscribe();
  const heard = [];
  subscription.on("create", (object) => heard.push(object.get("said")));
  return async (text) => {
    await new Parse.Object("Tide").save({ said: text });
    await until(() => heard.includes(text), `the query has got ${text}`);
  };
}

module.exports = {
  title: "Parse Server LiveQuery",
  did: "a live query gets the objects that are saved by HTTP",
  npm: ["parse-server@9.10.0", "parse@8.6.2"],
  debian: { postgresql: `${POSTGRES}/postgres` },
  start: async (app) => app.serve("server.cjs", SERVER, [await database(app)]),
  open,
};
