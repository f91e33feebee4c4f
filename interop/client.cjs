// The checks of a client on Node `ws`: client.cjs NAME WS_BASE BACKEND [CA_FILE].
//
// Prints one line per check, `ok NAME` or `FAIL NAME: why`. Under WS_BASE the proxy has, for each
// backend: /BACKEND (defaults), /BACKEND-beat (a heartbeat every second on both sides, half a
// second of timeout), /BACKEND-slow (20 messages a second, delayed).
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const http = require("http");
const https = require("https");
const { Client, expect, must, run, same, wait } = require("./kit.cjs");

const [NAME, BASE, BACKEND, CA] = process.argv.slice(2);
const ca = CA ? fs.readFileSync(CA) : undefined;
const SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20];
const LIMIT = 1 << 20;

const open = (path = "", options = {}, protocols = undefined) =>
  new Client(`${BASE}/${BACKEND}${path}`, { ca, ...options }, protocols).open();

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
  same(facts.headers.authorization, "Bearer abc.def");
  same(facts.headers.cookie, "sid=123; theme=dark");
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
  const query = `?tag=${NAME}-beat`;
  const client = await open(`-beat${query}`);
  let beats = 0;
  client.socket.on("ping", () => (beats += 1));
  await wait(3500);
  must(beats >= 3, `${beats} heartbeats in 3.5 s`);
  same(await client.ask("still here"), "still here");
  const { pings } = await client.facts();
  // Pongs to one side's heartbeat are not relayed to the other.
  must(pings >= 3 && pings <= 4, `${pings} heartbeats to the backend in 3.5 s`);
  client.socket.close();
  expect(`/${BACKEND}-beat${query}`, {
    equals: { end: "client_closed" },
    between: { client_rtt_ms: [0, 500], backend_rtt_ms: [0, 500] },
    has: ["client_rtt_max_ms", "backend_rtt_max_ms"],
  });
}

async function deadClient() {
  const query = `?tag=${NAME}-dead`;
  const client = await open(`-beat${query}`, { autoPong: false });
  same((await client.closed).code, 1001);
  expect(`/${BACKEND}-beat${query}`, { equals: { end: "heartbeat_timeout", by: "client", key: "heartbeat.timeout" } });
}

async function deadBackend() {
  const query = `?deaf=1&tag=${NAME}-deaf`;
  const client = await open(`-beat${query}`);
  same((await client.closed).code, 1013);
  expect(`/${BACKEND}-beat${query}`, { equals: { end: "heartbeat_timeout", by: "backend", key: "heartbeat.backend_timeout" } });
}

/** 200 at once: 40 are the burst, and the others are held back, but not lost. */
async function delayed() {
  const query = `?tag=${NAME}-slow`;
  const client = await open(`-slow${query}`);
  const begun = Date.now();
  const texts = Array.from({ length: 200 }, (_, number) => `number ${number}`);
  for (const text of texts) client.socket.send(text);
  let burst = 0;
  for (const text of texts) {
    same(await client.next(), text);
    burst += Date.now() - begun < 1500;
  }
  const took = Date.now() - begun;
  must(burst >= 40 && burst <= 75, `${burst} of them within 1.5 s`);
  must(took > 7500 && took < 12000, `all of them within ${took} ms`);
  client.socket.close();
  expect(`/${BACKEND}-slow${query}`, { equals: { end: "client_closed", up_messages: 200, down_messages: 200 } });
}

async function pingFlood() {
  const query = `?tag=${NAME}-flood`;
  const client = await open(query);
  for (let number = 0; number < 1000; number += 1) client.socket.ping(String(number));
  same((await client.closed).code, 1008);
  expect(`/${BACKEND}${query}`, { equals: { by: "client", key: "limits.control_frames_from_client", close_client: 1008 } });
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
  ["a silent client survives the heartbeats of both sides, and their round trips are recorded", silence],
  ["a client that answers no heartbeat is closed with 1001", deadClient],
  ...(BACKEND === "node" ? [["a client of a backend that answers no heartbeat is closed with 1013", deadBackend]] : []),
  ["200 messages at once against 20/s all arrive, in order and in time", delayed],
  ["1000 pings at once are closed with 1008", pingFlood],
];

run(`${NAME} > ${BACKEND}`, CHECKS);
