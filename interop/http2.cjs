// HTTP/2 with Node's own client, and WebSockets over it (RFC 8441) with `ws` on its streams:
// http2.cjs HTTPS_BASE BACKEND CA_FILE.
"use strict";
const fs = require("fs");
const http2 = require("http2");
const WebSocket = require("ws");
const { expect, must, run, same } = require("./kit.cjs");

const [BASE, BACKEND, CA] = process.argv.slice(2);
const { host } = new URL(BASE);
let session;

function request(path, body) {
  const stream = session.request({ ":path": path, ...(body ? { ":method": "POST" } : {}) });
  if (body) stream.end(body);
  return new Promise((done, fail) => {
    const parts = [];
    let head;
    stream.on("response", (headers) => (head = headers));
    stream.on("data", (data) => parts.push(data));
    stream.on("end", () => done({ head, body: Buffer.concat(parts) }));
    stream.on("error", fail);
  });
}

/** A WebSocket of the `ws` library on a stream. */
function open(path, headers) {
  const stream = session.request({
    ":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":authority": host, ":path": path,
    "sec-websocket-version": "13", origin: `https://${host}`, ...headers,
  });
  return new Promise((done, fail) => {
    stream.on("error", fail);
    stream.on("response", (head) => {
      if (head[":status"] !== 200) return fail(Object.assign(new Error(`status ${head[":status"]}`), { head }));
      stream.removeListener("error", fail);
      const socket = new WebSocket(null, undefined, { autoPong: true, closeTimeout: 30000 });
      socket._isServer = false;
      const kept = [];
      let wake = () => {};
      socket.on("message", (data, binary) => { kept.push(binary ? data : data.toString()); wake(); });
      const closed = new Promise((end) => socket.on("close", (code) => end(code)));
      const next = async () => {
        while (!kept.length) await new Promise((more) => (wake = more));
        return kept.shift();
      };
      stream.setNoDelay = () => {};
      socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 16 << 20, skipUTF8Validation: false });
      done({ socket, stream, head, next, closed });
    });
  });
}

async function echo() {
  const target = `/${BACKEND}?case=http2-echo`;
  const { socket, next, closed } = await open(target);
  const sizes = [0, 1, 125, 126, 65535, 65536, 1 << 20];
  for (const size of sizes) {
    const data = Buffer.alloc(size, size);
    socket.send(data);
    must((await next()).equals(data), `${size} bytes differ`);
  }
  socket.send("!facts");
  const { headers } = JSON.parse(await next());
  same([headers.host, headers.upgrade, headers["sec-websocket-version"]], [host, "websocket", "13"]);
  socket.close(1000);
  same(await closed, 1000);
  expect(target, { equals: { end: "client_closed", protocol: "h2", up_messages: sizes.length + 1 } });
}

async function many() {
  const all = await Promise.all(Array.from({ length: 40 }, (_, n) => open(`/${BACKEND}?case=http2-many-${n}`)));
  await Promise.all(all.map(async ({ socket, next, closed }, n) => {
    for (let k = 0; k < 30; k += 1) {
      socket.send(`${n} ${k}`);
      same(await next(), `${n} ${k}`);
    }
    socket.close(1000);
    same(await closed, 1000);
  }));
}

async function negotiated() {
  const { head, socket, next, closed } = await open(`/${BACKEND}?case=http2-terms`, {
    "sec-websocket-protocol": "chat.v1, chat.v2",
  });
  same(head["sec-websocket-protocol"], "chat.v2");
  socket.send("!close 4001 over");
  same(await closed, 4001);
  void next;
}

async function refused() {
  const error = await open(`/${BACKEND}/deny?case=http2-deny`).then(() => null, (failed) => failed);
  must(error && error.head && error.head[":status"] >= 400, `${error}`);
  const foreign = await open(`/${BACKEND}`, { origin: "https://evil.example" }).then(() => null, (failed) => failed);
  same(foreign && foreign.head[":status"], 403);
}

async function plain() {
  const { head, body } = await request(`/${BACKEND}/page`);
  same([head[":status"], head.connection], [200, undefined]);
  must(body.length > 0 && head.date, "an empty page, or one without a date");
  const all = await Promise.all(Array.from({ length: 90 }, () => request(`/${BACKEND}/page`)));
  must(all.every(({ head: { ":status": status } }) => status === 200), "a response is missing");
}

async function uploads() {
  const data = Buffer.alloc(4 << 20, "tide ");
  const { head, body } = await request(`/${BACKEND}/page`, data);
  same(head[":status"], 200);
  must(body.equals(data), `${body.length} of ${data.length} bytes came back`);
}

/** A tunnel that is not read stops itself only. */
async function stalled() {
  const slow = await open(`/${BACKEND}?case=http2-stalled`);
  slow.stream.pause();
  slow.socket.pause();
  for (let n = 0; n < 64; n += 1) slow.socket.send(Buffer.alloc(64 << 10));
  const { socket, next, closed } = await open(`/${BACKEND}?case=http2-other`);
  for (let n = 0; n < 50; n += 1) {
    socket.send(String(n));
    same(await next(), String(n));
  }
  socket.close(1000);
  await closed;
  slow.stream.close(http2.constants.NGHTTP2_CANCEL);
  await slow.closed;
}

const CHECKS = [
  ["plain requests, 90 at once", plain],
  ["messages of all sizes, and a clean end", echo],
  ["40 tunnels on one connection", many],
  ["subprotocol, and the backend's close code", negotiated],
  ["refused by the backend, and by the route", refused],
  ["a tunnel that is not read leaves the others alone", stalled],
].concat(BACKEND === "node" ? [["an upload of 4 MiB comes back", uploads]] : []);

(async () => {
  session = http2.connect(BASE, { ca: fs.readFileSync(CA), servername: "localhost" });
  session.setMaxListeners(0);
  const settings = await new Promise((done, fail) => {
    session.on("remoteSettings", done);
    session.on("error", fail);
  });
  must(settings.enableConnectProtocol, "extended CONNECT is not announced");
  await run(`http2 node > ${BACKEND}`, CHECKS);
  session.destroy();
})().catch((error) => {
  console.log(`FAIL http2: ${error.message.split("\n")[0]}`);
  process.exit(1);
});
