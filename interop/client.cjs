// The checks of a client on Node `ws`: client.cjs NAME WS_BASE BACKEND [CA_FILE].
//
// Prints one line a check, `ok NAME` or `FAIL NAME: why`. Under WS_BASE the proxy has, for each
// backend: /BACKEND (defaults), /BACKEND-pass (compression passes), /BACKEND-beat (a heartbeat
// every second, half a second of patience).
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const http = require("http");
const https = require("https");
const { isDeepStrictEqual } = require("util");
const WebSocket = require("ws");

const [NAME, BASE, BACKEND, CA] = process.argv.slice(2);
const ca = CA ? fs.readFileSync(CA) : undefined;
const SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20];
const LIMIT = 1 << 20;
const wait = (time) => new Promise((done) => setTimeout(done, time));

/** A client whose messages are kept until asked for. */
class Client {
  constructor(path, options, protocols) {
    const settings = { ca, perMessageDeflate: false, maxPayload: 16 << 20, ...options };
    this.socket = new WebSocket(`${BASE}/${BACKEND}${path}`, protocols || [], settings);
    this.kept = [];
    this.wanted = null;
    this.socket.on("error", (error) => (this.error = error));
    this.socket.on("message", (data, binary) => this.keep(binary ? data : data.toString()));
    this.closed = new Promise((done) =>
      this.socket.on("close", (code, reason) => {
        this.keep(null);
        done({ code, reason: reason.toString() });
      }));
  }
  open() {
    return new Promise((done, fail) => {
      this.socket.on("open", () => done(this));
      this.socket.on("upgrade", (response) => (this.head = response.headers));
      this.socket.on("unexpected-response", (request, response) => {
        const body = [];
        response.on("data", (data) => body.push(data));
        response.on("end", () => fail({ refused: response, body: Buffer.concat(body).toString() }));
      });
      this.socket.on("error", fail);
    });
  }
  keep(message) {
    this.kept.push(message);
    if (this.wanted) this.wanted();
  }
  async next() {
    while (!this.kept.length) await new Promise((done) => (this.wanted = done));
    const message = this.kept.shift();
    if (message === null) throw new Error(`closed while a message was awaited (${JSON.stringify(await this.closed)})`);
    return message;
  }
  async ask(text) {
    this.socket.send(text);
    return this.next();
  }
  async facts() {
    return JSON.parse(await this.ask("!facts"));
  }
}

const open = (path = "", options = {}, protocols = undefined) => new Client(path, options, protocols).open();

function same(got, wanted) {
  if (isDeepStrictEqual(got, wanted)) return;
  const short = (value) => (Buffer.isBuffer(value) ? `${value.length} bytes` : JSON.stringify(value) || "nothing").slice(0, 120);
  throw new Error(`got ${short(got)}, wanted ${short(wanted)}`);
}

async function refused(opening) {
  let client;
  try {
    client = await opening;
  } catch (error) {
    if (error.refused) return { status: error.refused.statusCode, headers: error.refused.headers, body: error.body };
    throw error;
  }
  client.socket.terminate();
  throw new Error("it was let in");
}

async function endOf(tag) {
  const client = await open();
  const end = JSON.parse(await client.ask(`!ended ${tag}`));
  client.socket.close();
  return end;
}

async function echo(make) {
  const client = await open();
  for (const size of SIZES) {
    const message = make(size);
    same(await client.ask(message), message);
  }
  client.socket.close();
}

async function inFlight() {
  const client = await open();
  const texts = Array.from({ length: 500 }, (_, number) => String(number).repeat(50));
  for (const text of texts) client.socket.send(text);
  for (const text of texts) same(await client.next(), text);
  client.socket.close();
}

async function fragmentedUp() {
  const client = await open();
  const parts = ["frag", "", "men", "ted"];
  parts.forEach((part, index) => client.socket.send(part, { fin: index === parts.length - 1 }));
  same(await client.next(), "fragmented");
  client.socket.close();
}

async function fragmentedDown() {
  const client = await open();
  same(await client.ask("!fragments one two three"), "one two three");
  client.socket.close();
}

async function deflateStripped() {
  const client = await open("", { perMessageDeflate: true });
  same(client.head["sec-websocket-extensions"], undefined);
  same((await client.facts()).extensions, "");
  same(await client.ask("plain"), "plain");
  client.socket.close();
}

async function deflatePassed(options) {
  const client = await open("-pass", { perMessageDeflate: { threshold: 0, ...options } });
  const agreed = client.head["sec-websocket-extensions"] || "";
  if (!agreed.startsWith("permessage-deflate")) throw new Error(`agreed on "${agreed}"`);
  for (const text of ["short", "tide ".repeat(40000), "short again"]) same(await client.ask(text), text);
  client.socket.close();
}

async function subprotocol() {
  const client = await open("", {}, ["chat.v1", "chat.v2"]);
  same(client.socket.protocol, "chat.v2");
  same((await client.facts()).subprotocol, "chat.v2");
  client.socket.close();
}

async function applicationHead() {
  const headers = { Authorization: "Bearer abc.def", Cookie: "sid=123; theme=dark" };
  const client = await open("/deep/path?x=1&y=%20two", { headers });
  const facts = await client.facts();
  same(facts.authorization, "Bearer abc.def");
  same(facts.cookie, "sid=123; theme=dark");
  same(facts.target, `/${BACKEND}/deep/path?x=1&y=%20two`);
  same(facts.host, BASE.split("://")[1]);
  client.socket.close();
}

async function applicationRefuses() {
  const answer = await refused(open("/deny"));
  same(answer.status, 401);
  same(answer.headers["www-authenticate"], 'Bearer realm="app"');
  same(answer.body, "not you");
}

async function clientCloses(code, reason) {
  const tag = `${NAME}-${BACKEND}-${code}`;
  const client = await open(`?tag=${tag}`);
  await client.ask("before");
  client.socket.close(code, reason);
  same((await client.closed).code, code);
  same(await endOf(tag), { code, reason });
}

async function backendCloses(code, reason) {
  const client = await open();
  client.socket.send(`!close ${code} ${reason}`.trim());
  same(await client.closed, { code, reason });
}

async function pingUp() {
  const client = await open();
  for (const payload of ["are you there", ""]) {
    const ponged = new Promise((done) => client.socket.once("pong", (data) => done(data.toString())));
    client.socket.ping(payload);
    same(await ponged, payload);
  }
  same((await client.facts()).pings, 2);
  client.socket.close();
}

async function pingDown() {
  const client = await open();
  const pinged = new Promise((done) => client.socket.once("ping", (data) => done(data.toString())));
  same(await client.ask("!ping tide"), "ponged");
  same(await pinged, "tide");
  client.socket.close();
}

async function tooLarge() {
  for (const message of ["x".repeat(LIMIT + 1), Buffer.alloc(LIMIT + 1)]) {
    const client = await open();
    client.socket.send(message);
    same((await client.closed).code, 1009);
  }
  const client = await open();
  client.socket.send("x".repeat(LIMIT), { fin: false });
  client.socket.send("x", { fin: true });
  same((await client.closed).code, 1009);
}

async function foreignOrigin() {
  for (const origin of ["https://evil.example", "null", BASE.replace("ws", "http") + "0"]) {
    same((await refused(open("", { headers: { Origin: origin } }))).status, 403);
  }
}

async function ownOrigin() {
  const client = await open("", { headers: { Origin: BASE.replace("ws", "http") } });
  same(await client.ask("welcome"), "welcome");
  client.socket.close();
}

async function silence() {
  const client = await open("-beat");
  let beats = 0;
  client.socket.on("ping", () => (beats += 1));
  await wait(4500);
  if (beats < 3) throw new Error(`${beats} heartbeats in 4.5 s`);
  same(await client.ask("still here"), "still here");
  // What answers our heartbeat is not the backend's business.
  same((await client.facts()).pings, 0);
  client.socket.close();
}

async function deadClient() {
  const client = await open("-beat", { autoPong: false });
  same((await client.closed).code, 1001);
}

/** One plain HTTP exchange: status and body. */
function plain(method, path, body) {
  const url = new URL(`${BASE.replace("ws", "http")}/${BACKEND}${path}`);
  const library = url.protocol === "https:" ? https : http;
  return new Promise((done, fail) => {
    const request = library.request(url, { method, ca, agent: false }, (response) => {
      const parts = [];
      response.on("data", (data) => parts.push(data));
      response.on("end", () => done({ status: response.statusCode, body: Buffer.concat(parts) }));
      response.on("error", fail);
    });
    request.on("error", fail);
    request.end(body);
  });
}

async function page() {
  const answer = await plain("GET", "/page?x=1");
  same(answer.status, 200);
  same(answer.body.toString(), "a page of the application\n");
}

async function bodies() {
  const body = crypto.randomBytes(3 << 20);
  same((await plain("POST", "/post", body)).body, body);
}

const CHECKS = [
  ["echo of text", () => echo((size) => "tid\u00e9".repeat(size).slice(0, Math.floor(size / 5) * 4) + "x".repeat(size % 5))],
  ["echo of binary", () => echo((size) => crypto.randomBytes(size))],
  ["500 messages in flight", inFlight],
  ["fragmented message up", fragmentedUp],
  ["fragmented message down", fragmentedDown],
  ["permessage-deflate offered, stripped", deflateStripped],
  ["permessage-deflate passed", () => deflatePassed({})],
  ["permessage-deflate passed, no context takeover", () => deflatePassed({ clientNoContextTakeover: true, serverNoContextTakeover: true })],
  ["subprotocol", subprotocol],
  ["authorization, cookie, query and host unchanged", applicationHead],
  ["the application's own 401 and its body", applicationRefuses],
  ["client closes with 4001", () => clientCloses(4001, "enough for today")],
  ["client closes with 1000", () => clientCloses(1000, "")],
  ["backend closes with 4002", () => backendCloses(4002, "come back later")],
  ["backend closes with 1000", () => backendCloses(1000, "")],
  ["client's ping is answered by the backend", pingUp],
  ["backend's ping is answered by the client", pingDown],
  ["message of 1 MiB and a byte is closed with 1009", tooLarge],
  ["foreign Origin is refused with 403", foreignOrigin],
  ["the page's own Origin is welcome", ownOrigin],
  ["a page over plain HTTP", page],
  ...(BACKEND === "node" ? [["3 MiB posted and given back over plain HTTP", bodies]] : []),
  ["a silent client survives the heartbeat", silence],
  ["a client that answers no heartbeat is closed with 1001", deadClient],
];

(async () => {
  let failed = 0;
  for (const [what, check] of CHECKS) {
    const name = `${NAME} > ${BACKEND}: ${what}`;
    try {
      const late = wait(20000).then(() => Promise.reject(new Error("no result within 20 s")));
      await Promise.race([check(), late]);
      console.log("ok", name);
    } catch (error) {
      failed += 1;
      const why = error.refused ? `refused with ${error.refused.statusCode}` : error.message;
      console.log(`FAIL ${name}: ${String(why).replace(/\n/g, " ")}`);
    }
  }
  process.exit(failed ? 1 : 0);
})();
