// Socket.IO on three servers with Redis between them, and many clients that begin with polling and upgrade:
// socketio_cluster.cjs TIDEGATE FOLDER [CLIENTS].
//
// All requests of a client must meet the same server, which `hash = "query:user"` sees to, and what a server sends to all
// must reach the clients of the others. Prints one line per check, `ok NAME` or `FAIL NAME: why`.
"use strict";
const fs = require("fs");
const http = require("http");
const net = require("net");
const path = require("path");
const { spawn } = require("child_process");

const wait = (time) => new Promise((done) => setTimeout(done, time));

/** One of the servers: prints its port. */
async function serve(name, redisPort) {
  const { Server } = require("socket.io");
  const { createAdapter } = require("@socket.io/redis-adapter");
  const { createClient } = require("redis");
  const publisher = createClient({ url: `redis://127.0.0.1:${redisPort}` });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const server = http.createServer((request, response) => response.writeHead(404).end());
  const io = new Server(server, { adapter: createAdapter(publisher, subscriber), pingTimeout: 60000 });
  io.on("connection", (socket) => {
    socket.emit("server", name);
    socket.on("to all", (text) => io.emit("said", text));
  });
  server.listen(0, "127.0.0.1", () => console.log("listening", server.address().port));
}

const children = [];
function start(command, args, options) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  children.push(child);
  child.text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (child.text += data));
  return child;
}
async function found(child, pattern) {
  for (let tries = 0; tries < 300; tries += 1) {
    const match = pattern.exec(child.text);
    if (match) return match[1];
    if (child.exitCode !== null) break;
    await wait(100);
  }
  throw new Error(`no ${pattern} in ${child.text}`);
}
function freePort() {
  return new Promise((done) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

let failed = false;
function report(name, problem, measured = "") {
  failed = failed || Boolean(problem);
  console.log(problem ? `FAIL ${name}: ${problem}` : `ok ${name} ${measured}`);
}

async function main(bin, folder, clients) {
  const { io } = require("socket.io-client");
  fs.mkdirSync(folder, { recursive: true });
  const redisPort = await freePort();
  const redis = start("redis-server", ["--port", redisPort, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]);
  await found(redis, /(Ready to accept connections)/);
  const names = ["a", "b", "c"];
  const servers = names.map((name) => start(process.execPath, [__filename, "serve", name, redisPort]));
  const ports = await Promise.all(servers.map((server) => found(server, /listening (\d+)/)));
  const listed = names.map((name, at) => `{ address = "127.0.0.1:${ports[at]}", id = "${name}" }`).join(", ");
  fs.writeFileSync(path.join(folder, "proxy.toml"), `
[[listener]]
address = "127.0.0.1:0"
tls = false
[[route]]
host = "*"
origins = ["missing"]
pool = "chat"
log_requests = "off"
[[pool]]
name = "chat"
backends = [${listed}]
hash = "query:user"
[rates]
handshakes_per_client = "10000/s"
handshakes_burst = 10000
connections_per_client = "10000/s"
connections_burst = 10000
requests_per_client = "10000/s"
requests_burst = 100000
[concurrency]
tunnels_per_client = 10000
connections_per_client = 10000
requests_per_client = 10000
[admin]
enabled = false
[control]
socket = "off"
[log]
format = "json"
`);
  const proxy = start(bin, ["run", "--config", "proxy.toml"], { cwd: folder });
  const port = await found(proxy, /"listening".*"address":"127\.0\.0\.1:(\d+)"/);

  const all = [];
  const errors = [];
  for (let user = 0; user < clients; user += 1) {
    const socket = io(`http://127.0.0.1:${port}`, {
      query: { user }, forceNew: true, reconnection: false, transports: ["polling", "websocket"], timeout: 60000,
    });
    const client = { user, socket, said: 0 };
    client.server = new Promise((done) => socket.once("server", done));
    client.upgraded = new Promise((done) => socket.io.on("open", () => {
      if (socket.io.engine.transport.name === "websocket") done();
      socket.io.engine.once("upgrade", done);
    }));
    socket.on("connect_error", (error) => errors.push(`${user}: ${error.message}`));
    socket.on("disconnect", (reason) => errors.push(`${user}: ${reason}`));
    socket.on("said", () => (client.said += 1));
    all.push(client);
    await wait(5);
  }
  const within = (promise, time) => Promise.race([promise, wait(time).then(() => null)]);
  const met = await within(Promise.all(all.map((client) => client.server)), 90000);
  report(`Socket.IO: ${clients} clients connect by polling`, met === null && `not all within 90 s; ${errors.slice(0, 3)}`);
  const upgraded = await within(Promise.all(all.map((client) => client.upgraded)), 90000);
  report("Socket.IO: all upgrade to a WebSocket", upgraded === null && `not all within 90 s; ${errors.slice(0, 3)}`);
  const spread = Object.fromEntries(names.map((name) => [name, (met || []).filter((of) => of === name).length]));
  report("Socket.IO: three servers have clients", Math.min(...Object.values(spread)) < clients / 5 && JSON.stringify(spread), JSON.stringify(spread));
  report("Socket.IO: no request meets a wrong server", errors.length > 0 && `${errors.length}: ${errors.slice(0, 3)}`);
  // One client of each server speaks to all.
  const speakers = names.map((name) => all[(met || []).indexOf(name)]).filter(Boolean);
  for (const { socket } of speakers) socket.emit("to all", "hello");
  const told = async () => {
    while (!all.every((client) => client.said === speakers.length)) await wait(100);
    return true;
  };
  const heard = await within(told(), 30000);
  report("Socket.IO: messages reach the clients of all servers", (heard === null || speakers.length < 3) && `${all.filter((client) => client.said < 3).length} missed some`);
  for (const { socket } of all) socket.off("disconnect").disconnect();
}

const [first, ...rest] = process.argv.slice(2);
if (first === "serve") {
  serve(rest[0], rest[1]);
} else {
  main(first, rest[0], Number(rest[1] || 1000))
    .catch((error) => report("Socket.IO", error.message))
    .finally(() => {
      for (const child of children) child.kill();
      setTimeout(() => process.exit(failed ? 1 : 0), 500);
    });
}
