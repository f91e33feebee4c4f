// The pin cookie with independent cookie jars: pins.cjs TIDEGATE PYTHON.
//
// Starts three Socket.IO servers that do not know of each other, and tidegate before them, which takes them in
// turn. Socket.IO begins with polling and then upgrades: every request of a session must reach the server that
// began it, or that answers "Session ID unknown". Prints one line per check, `ok NAME` or `FAIL NAME: why`.
"use strict";
const fs = require("fs");
const http = require("http");
const os = require("os");
const path = require("path");
const readline = require("readline");
const { spawn } = require("child_process");
const { Server } = require("socket.io");
const { io } = require("socket.io-client");

const [BIN, PYTHON] = process.argv.slice(2);
const CLIENTS = 1000;
const AT_ONCE = 20;
let failed = false;

function report(name, problem) {
  console.log(problem ? `FAIL ${name}: ${problem}` : `ok ${name}`);
  failed ||= Boolean(problem);
}

/** A server that says its name; resolves to its port. */
function startServer(name) {
  const server = http.createServer((request, response) => response.end(name));
  new Server(server).on("connection", (socket) => socket.emit("name", name));
  return new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));
}

function startProxy(ports) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "tidegate-pins-"));
  process.on("exit", () => fs.rmSync(folder, { recursive: true }));
  fs.writeFileSync(path.join(folder, "pin.key"), "5a".repeat(32), { mode: 0o600 });
  let config = fs.readFileSync(path.join(__dirname, "pins.toml"), "utf8");
  ["A", "B", "C"].forEach((name, index) => (config = config.replace(`@${name}@`, ports[index])));
  fs.writeFileSync(path.join(folder, "proxy.toml"), config);
  const program = spawn(BIN, ["run", "--config", path.join(folder, "proxy.toml")], { stdio: ["ignore", "ignore", "pipe"] });
  process.on("exit", () => program.kill("SIGKILL"));
  return new Promise((done, fail) => {
    const lines = readline.createInterface({ input: program.stderr });
    lines.on("line", (line) => {
      const found = /"message":"listening".*"address":"([^"]+)"/.exec(line);
      if (found) done(found[1]);
    });
    program.on("exit", (code) => fail(new Error(`tidegate ended with ${code}`)));
  });
}

/** One session from polling to WebSocket: the name of its server, or why there is none. */
function session(at, withCredentials) {
  const socket = io(`http://${at}`, { forceNew: true, reconnection: false, withCredentials });
  const upgraded = new Promise((done) => socket.io.on("open", () => socket.io.engine.once("upgrade", done)));
  const name = new Promise((done, fail) => {
    socket.once("name", done);
    socket.once("connect_error", fail);
    socket.once("disconnect", (reason) => fail(new Error(reason)));
  });
  const late = new Promise((_, fail) => setTimeout(() => fail(new Error("no upgrade within a minute")), 60000).unref());
  return Promise.race([Promise.all([name, upgraded]), late])
    .then(([name]) => ({ name }), (error) => ({ error: error.message }))
    .finally(() => socket.close());
}

async function sessions(at, count, withCredentials) {
  const results = [];
  while (results.length < count) {
    results.push(...(await Promise.all(Array.from({ length: AT_ONCE }, () => session(at, withCredentials)))));
  }
  return results;
}

async function main() {
  const at = await startProxy(await Promise.all(["a", "b", "c"].map(startServer)));
  const pinned = await sessions(at, CLIENTS, true);
  const errors = pinned.filter((result) => result.error);
  report(`${CLIENTS} Socket.IO sessions with cookies, none on a wrong server`,
    errors.length && `${errors.length} failed, one with ${errors[0].error}`);
  const shares = ["a", "b", "c"].map((name) => pinned.filter((result) => result.name === name).length);
  report("Socket.IO sessions are spread over the servers",
    shares.some((share) => share < CLIENTS / 4) && `${shares}`);
  // What the cookie is needed for: without a jar, some request meets another server.
  const lost = (await sessions(at, AT_ONCE, false)).filter((result) => result.error);
  report("Socket.IO sessions without cookies fail", lost.length === 0 && "all went well");
  const python = spawn(PYTHON, [path.join(__dirname, "pins.py"), `http://${at}`], { stdio: "inherit" });
  python.on("exit", (code) => process.exit(failed || code !== 0 ? 1 : 0));
}

main();
