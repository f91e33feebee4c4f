// Clients that reconnect by themselves, while their backend is killed, restarted and stopped:
// reconnect.cjs TIDEGATE.
//
// Starts the backend, the proxy and one client of each library, with the library's own settings for
// reconnecting. Prints one line per check, `ok NAME` or `FAIL NAME: why`.
"use strict";
const fs = require("fs");
const os = require("os");
const path = require("path");
const readline = require("readline");
const { spawn } = require("child_process");
const WebSocket = require("ws");
const { must, run, wait } = require("./kit.cjs");
const LIBRARIES = require("./reconnect_clients.cjs");

const [BIN] = process.argv.slice(2);
const LIMIT = 60000;

/** Starts a program; resolves to it and to the first line that matches. */
function start(command, args, output, pattern) {
  const program = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  process.on("exit", () => program.kill("SIGKILL"));
  const last = [];
  return new Promise((done, fail) => {
    (output === "stdout" ? program.stderr : program.stdout).resume();
    readline.createInterface({ input: program[output] }).on("line", (line) => {
      last.splice(0, last.length, ...last.slice(-5), line);
      const found = pattern.exec(line);
      if (found) done([program, found[1]]);
    });
    program.on("exit", (code) => fail(new Error(`${command} ended with ${code}: ${last.join(" ")}`)));
  });
}

async function startBackend(port) {
  const file = path.join(__dirname, "reconnect_backend.cjs");
  return start(process.execPath, [file, String(port)], "stdout", /^listening (\d+)$/);
}

async function startProxy(port) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "tidegate-reconnect-"));
  process.on("exit", () => fs.rmSync(folder, { recursive: true }));
  const config = fs.readFileSync(path.join(__dirname, "reconnect.toml"), "utf8").replace("@BACKEND@", port);
  fs.writeFileSync(path.join(folder, "proxy.toml"), config);
  const args = ["run", "--config", path.join(folder, "proxy.toml")];
  return start(BIN, args, "stderr", /"message":"listening".*"address":"([^"]+)"/);
}

/** The `ws` client for one library; it keeps the code with which each connection was closed. */
function socketClass(codes) {
  return class extends WebSocket {
    constructor(url, protocols, options) {
      super(url, protocols, options);
      this.once("open", () => this.once("close", (code) => codes.push(code)));
    }
  };
}

let backend, port, clients;

async function connect() {
  [backend, port] = await startBackend(0);
  const [, at] = await startProxy(port);
  clients = Object.entries(LIBRARIES).map(([name, open]) => {
    const codes = [];
    return { name, codes, ask: open(at, socketClass(codes)) };
  });
  for (const { ask } of clients) await ask();
}

const ended = () => new Promise((done) => backend.once("exit", done));

async function kill() {
  const gone = ended();
  backend.kill("SIGKILL");
  await gone;
  [backend] = await startBackend(port);
}

/** Longer than the first attempts of most clients, which get a 502. */
async function restart() {
  const gone = ended();
  backend.kill("SIGTERM");
  await gone;
  await wait(1500);
  [backend] = await startBackend(port);
}

/** The process neither reads nor ends; the kernel goes on accepting for it. */
async function stall() {
  backend.kill("SIGSTOP");
  await wait(5000);
  backend.kill("SIGCONT");
}

/** Whether each client comes back, and which codes it got. */
function incident(name, happen, code) {
  let happened;
  return clients.map((client) => [
    `${client.name} comes back to a backend that was ${name}`,
    async () => {
      happened = happened || (async () => {
        clients.forEach(({ codes }) => codes.splice(0));
        await happen();
      })();
      await happened;
      await client.ask();
      // Socket.IO brings its own `ws`.
      if (client.name !== "socket.io-client") must(client.codes[0] === code, `it was closed with ${client.codes}`);
    },
  ]);
}

connect().then(
  () => run("reconnect", [
    ...incident("killed", kill, 1012),
    ...incident("restarted", restart, 1012),
    ...incident("stopped for a while", stall, 1013),
  ], LIMIT),
  (error) => {
    console.log(`FAIL reconnect: ${error.message}`);
    process.exit(1);
  },
);
