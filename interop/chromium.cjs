// Compression and heartbeats with headless Chromium: chromium.cjs HTTPS_BASE.
//
// Prints one line per check, like compression.py and client.py on the same routes. A page of the
// application opens the WebSockets; the compression is the browser's, which offers `permessage-deflate; client_max_window_bits` and no more.
"use strict";
const { chromium } = require("playwright-core");
const { expect, must, run, same } = require("./kit.cjs");

const [BASE] = process.argv.slice(2);
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const ANSWERS = ["plain", "server-no-takeover", "client-no-takeover", "both-no-takeover", "narrow"];
let browser, page;

/** Runs in the page: says and hears it all; what was agreed on, and the backend's facts. */
async function converse(target) {
  const socket = new WebSocket(location.origin.replace("http", "ws") + target);
  socket.binaryType = "arraybuffer";
  const kept = [];
  let wake = () => {};
  const closed = new Promise((done) => (socket.onclose = (event) => { done(event); wake(); }));
  socket.onmessage = (event) => { kept.push(event.data); wake(); };
  const next = async () => {
    while (!kept.length) {
      if (socket.readyState > 1) throw new Error(`closed with ${(await closed).code}`);
      await new Promise((done) => (wake = done));
    }
    return kept.shift();
  };
  const same = (got, wanted) => {
    if (got !== wanted) throw new Error(`${String(got).slice(0, 80)} came for ${wanted.slice(0, 80)}`);
  };
  await Promise.race([new Promise((done) => (socket.onopen = done)), closed]);
  socket.send("!facts");
  const facts = JSON.parse(await next());
  const blob = Array.from(crypto.getRandomValues(new Uint8Array(200)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const texts = Array.from({ length: 60 }, (_, number) => `${number} ${blob}`);
  texts.forEach((text) => socket.send(text));
  for (const text of texts) same(await next(), text);
  for (const text of ["", "x", "short", "tide ".repeat(13000), "", `short ${blob}`, "x".repeat(1 << 20)]) {
    socket.send(text);
    same(await next(), text);
  }
  // As large as allowed, and incompressible.
  const data = new Uint8Array(1 << 20);
  for (let at = 0; at < data.length; at += 65536) crypto.getRandomValues(data.subarray(at, at + 65536));
  if (!target.includes("-pass")) socket.send(data);
  else socket.send(data.subarray(0, data.length - 8192));
  const back = new Uint8Array(await next());
  if (back.length < data.length - 8192 || back.some((byte, index) => byte !== data[index])) throw new Error("binary differs");
  socket.close();
  await closed;
  return { agreed: socket.extensions, facts };
}

/** Runs in the page: the code that such a message is closed with. */
async function tooLarge([target, size]) {
  const socket = new WebSocket(location.origin.replace("http", "ws") + target);
  return new Promise((done) => {
    socket.onopen = () => socket.send(new Uint8Array(size));
    socket.onclose = (event) => done(event.code);
    socket.onmessage = () => done("an answer");
  });
}

async function agrees(backend, route) {
  for (const terms of ANSWERS) {
    const target = `/${backend}${route}?terms=${terms}&case=chromium`;
    const { agreed, facts } = await page.evaluate(converse, target).catch((error) => {
      throw new Error(`answered ${terms}: ${error.message.split("\n")[0]}`);
    });
    const told = facts.headers["sec-websocket-extensions"];
    // The query, 60 messages with a blob, 7 of several sizes, one binary.
    const equals = { end: "client_closed", up_messages: 69, down_messages: 69 };
    if (route === "-strip") {
      same([told, facts.extensions || "", agreed], [undefined, "", ""]);
      expect(target, { equals: { ...equals, up_compressed: 0, down_compressed: 0 } });
      continue;
    }
    same(told, "permessage-deflate; client_max_window_bits");
    must(facts.extensions.startsWith("permessage-deflate"), `the backend answered "${facts.extensions}"`);
    same(agreed.split("; ").sort(), facts.extensions.split("; ").sort());
    expect(target, { equals: { ...equals, up_compressed: 69, down_compressed: 69 } });
  }
}

async function bombs(backend) {
  for (const size of [(1 << 20) + 1, 64 << 20]) {
    const target = `/${backend}?case=chromium-${size}`;
    same(await page.evaluate(tooLarge, [target, size]), 1009);
    expect(target, { equals: { end: "decompressed_too_big", by: "client", close_client: 1009, close_backend: 1001 } });
  }
}

/** The page does nothing; its browser answers pings without reporting them. */
async function heartbeats() {
  const target = "/node-beat?tag=chromium-beat";
  const known = await page.evaluate(async (target) => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + target);
    await new Promise((done) => (socket.onopen = done));
    await new Promise((done) => setTimeout(done, 3500));
    const answer = new Promise((done, fail) => {
      socket.onmessage = (event) => done(event.data);
      socket.onclose = (event) => fail(new Error(`closed with ${event.code}`));
    });
    socket.send("!facts");
    const facts = JSON.parse(await answer);
    // The browser would otherwise end before its Close was sent.
    const closed = new Promise((done) => socket.addEventListener("close", done));
    socket.close();
    await closed;
    return facts;
  }, target);
  must(known.pings >= 3, `${known.pings} heartbeats to the backend in 3.5 s`);
  // A stream of the HTTP/2 connection that the page came over (RFC 8441).
  expect(target, {
    equals: { end: "client_closed", protocol: "h2" },
    between: { client_rtt_ms: [0, 500], backend_rtt_ms: [0, 500] },
  });
}

const CHECKS = ["python", "node"].flatMap((backend) => [
  [`compression > ${backend}: inspect, five answers`, () => agrees(backend, "")],
  [`compression > ${backend}: pass, five answers`, () => agrees(backend, "-pass")],
  [`compression > ${backend}: strip`, () => agrees(backend, "-strip")],
  [`compression > ${backend}: over the limit and a bomb are closed with 1009`, () => bombs(backend)],
]).concat([["heartbeats on both sides, and their round trips recorded", heartbeats]]);

(async () => {
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
  page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  await page.goto(`${BASE}/node/page`);
  await run("chromium", CHECKS);
})().catch((error) => {
  console.log(`FAIL chromium: ${error.message.split("\n")[0]}`);
  process.exit(1);
});
