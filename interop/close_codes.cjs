// Which client libraries come back by themselves after which end of a connection:
// close_codes.cjs [--python PROGRAM] [--check DOCUMENT].
//
// Each client connects to a server of its own for each code. Once it is connected, the server ends the
// connection with this code and then waits for another one. Prints the table in Markdown; with --check,
// compares the table in the document with it, and prints one line per client, `ok NAME` or `FAIL NAME: why`.
"use strict";
const fs = require("fs");
const http = require("http");
const path = require("path");
const { parseArgs } = require("util");
const { must, run, wait } = require("./kit.cjs");
const { CLIENTS, usePython } = require("./close_codes_clients.cjs");

/** 1005 is a Close without a code, 1006 the end of the TCP connection without a Close. */
const CODES = [1000, 1001, 1005, 1006, 1008, 1009, 1011, 1012, 1013, 4000];
/** tidegate's own; some libraries look at it. */
const REASON = "the service restarts";
/** How long a client has to come back: twice the longest first delay that one of them may take. */
const WITHIN = 15000;
const STEP = 500;
const LIMIT = 60000;
const HEAD = "| client | version |";

const { values: options } = parseArgs({ options: { python: { type: "string" }, check: { type: "string" } } });
if (options.python) usePython(options.python);
// The libraries report there what happens to their connections.
console.info = console.warn = console.error = () => {};

/** Ends a connection as a server that closes with this code. */
function end(stream, code) {
  if (code === 1006) return stream.destroy();
  const payload = Buffer.alloc(code === 1005 ? 0 : 2 + REASON.length);
  if (payload.length) {
    payload.writeUInt16BE(code);
    payload.write(REASON, 2);
  }
  stream.write(Buffer.concat([Buffer.from([0x88, payload.length]), payload]));
}

/** Whether this client comes back after this code. */
async function comesBack({ serve, open }, code) {
  const streams = [];
  let ended = false;
  let back = () => {};
  const server = http.createServer((request, response) => response.writeHead(404).end());
  server.on("connection", (stream) => (stream.isReturn = ended));
  server.on("upgrade", (request, stream) => streams.push(stream) && stream.isReturn && back(true));
  // A TLS handshake (22): the client comes back over wss.
  server.on("clientError", ({ rawPacket }, stream) => stream.isReturn && rawPacket && rawPacket[0] === 22 && back(true));
  serve(server);
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  await open(`127.0.0.1:${server.address().port}`);
  const returned = new Promise((done) => (back = done));
  ended = true;
  // More than one if the machine is so busy that the client gave up an attempt.
  const connected = streams.filter((stream) => !stream.destroyed);
  const closed = connected.map((stream) => new Promise((done) => stream.once("close", done)));
  must(connected.length, `${code}: it disconnected before the end`);
  connected.forEach((stream) => end(stream, code));
  await Promise.race([Promise.all(closed), returned]);
  return Promise.race([returned, patience(WITHIN).then(() => false)]);
}

/** Waits in steps, so that a busy machine does not shorten the time that the clients have. */
async function patience(time) {
  for (let waited = 0; waited < time; waited += STEP) await wait(STEP);
}

function versions() {
  const { dependencies } = JSON.parse(fs.readFileSync(path.join(__dirname, "package.json"), "utf8"));
  const lines = fs.readFileSync(path.join(__dirname, "requirements.txt"), "utf8").trim().split("\n");
  return { ...dependencies, ...Object.fromEntries(lines.map((line) => line.split("=="))) };
}

/** The row of a client, once all codes have been tried. */
async function row(client, version) {
  const tries = CODES.map(async (code) => {
    const late = patience(LIMIT).then(() => must(false, `${client.name}, ${code}: not connected, or not closed`));
    return (await Promise.race([comesBack(client, code), late])) ? "yes" : "**no**";
  });
  const cells = [client.name, version.replace(/.*@/, ""), ...(await Promise.all(tries)), client.setting || ""];
  return `| ${cells.join(" | ")} |`.replace(/ {2}/g, " ");
}

function heading() {
  const cells = [...CODES, "setting"];
  return [`${HEAD} ${cells.join(" | ")} |`, `|${" --- |".repeat(cells.length + 2)}`];
}

/** The lines of the table in a document. */
function documented(name) {
  const lines = fs.readFileSync(name, "utf8").split("\n");
  const first = lines.findIndex((line) => line.startsWith(HEAD));
  must(first >= 0, `${name} has no table of clients`);
  const rest = lines.slice(first);
  return rest.slice(0, rest.findIndex((line) => !line.startsWith("|")));
}

function check(name, rows) {
  const wanted = documented(name);
  const clients = CLIENTS.map((client, index) => [
    `${client.name} comes back as ${name} says`,
    async () => {
      const line = await rows[index];
      must(wanted.includes(line), `tried, the row is ${line}`);
    },
  ]);
  const shape = async () => {
    must(wanted.slice(0, 2).join() === heading().join(), `the first row is ${heading()[0]}`);
    must(wanted.length === CLIENTS.length + 2, `${wanted.length - 2} clients, ${CLIENTS.length} were tried`);
  };
  return run("close codes", [...clients, [`${name} has these codes and clients`, shape]], 2 * LIMIT);
}

async function print(rows) {
  const lines = await Promise.all(rows);
  console.log([...heading(), ...lines].join("\n"));
  process.exit(0);
}

const pinned = versions();
const rows = CLIENTS.map((client) => row(client, pinned[client.package || client.name]));
rows.forEach((line) => line.catch(() => {}));
if (options.check) check(options.check, rows);
else print(rows);
