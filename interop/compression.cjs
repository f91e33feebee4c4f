// Compression with a client on Node `ws`: compression.cjs NAME WS_BASE BACKEND CA_FILE.
//
// Prints one line per check; the checks of compression.py without bombs.
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const { Client, expect, must, run, same } = require("./kit.cjs");

const [NAME, BASE, BACKEND, CA] = process.argv.slice(2);
const ca = fs.readFileSync(CA);
const LIMIT = 1 << 20;

// The client's offers, and the parameters the backends answer with.
const OFFERS = {
  plain: {},
  "server-no-takeover": { serverNoContextTakeover: true },
  "client-no-takeover": { clientNoContextTakeover: true },
  "both-no-takeover": { serverNoContextTakeover: true, clientNoContextTakeover: true },
  narrow: { serverMaxWindowBits: 10, clientMaxWindowBits: 10 },
};
const ANSWERS = ["plain", "server-no-takeover", "client-no-takeover", "both-no-takeover", "narrow"];

const open = (route, query, offered) =>
  new Client(`${BASE}/${BACKEND}${route}${query}`, { ca, perMessageDeflate: { threshold: 0, ...OFFERS[offered] } }).open();

/** One tunnel, long enough to reveal a compression window kept or reset by only one end. */
async function converse(route, offered, answered) {
  const query = `?terms=${answered}&case=${NAME}-${offered}`;
  const client = await open(route, query, offered);
  const agreed = client.head["sec-websocket-extensions"] || "";
  mustAgree(route, agreed, await client.facts());
  // Half of it repeats within a message; all of it repeats the previous message.
  const blob = crypto.randomBytes(200).toString("hex");
  const texts = Array.from({ length: 60 }, (_, number) => `${number} ${blob}`);
  for (const text of texts) client.socket.send(text);
  for (const text of texts) same(await client.next(), text);
  for (const text of ["", "x", "short", "tide ".repeat(13000), "", `short ${blob}`]) same(await client.ask(text), text);
  ["frag".repeat(100), "", "mented".repeat(100)].forEach((part, index) => client.socket.send(part, { fin: index === 2 }));
  same(await client.next(), "frag".repeat(100) + "mented".repeat(100));
  same(await client.ask(Buffer.alloc(5000)), Buffer.alloc(5000));
  client.socket.close();
  await client.closed;
  mustBeRecorded(`/${BACKEND}${route}${query}`, agreed, client.wire);
}

function mustAgree(route, agreed, facts) {
  const [told, answer] = [facts.headers["sec-websocket-extensions"], facts.extensions];
  if (route === "-strip") return same([told, answer, agreed], [undefined, "", ""]);
  must(told.startsWith("permessage-deflate"), `the backend was offered "${told}"`);
  must(answer.startsWith("permessage-deflate"), `the backend answered "${answer}"`);
  same(agreed.split("; ").sort(), answer.split("; ").sort());
}

function mustBeRecorded(target, agreed, wire) {
  // The query, 60 messages with the blob, 6 of several sizes, one fragmented, one binary.
  const compressed = agreed ? 69 : 0;
  same([wire.messages, wire.compressed], [69, compressed]);
  const between = {};
  if (agreed) {
    const range = (fresh) => (fresh ? [14000, 30000] : [1000, 8000]);
    between.up_bytes = range(agreed.includes("client_no_context_takeover"));
    between.down_bytes = range(agreed.includes("server_no_context_takeover"));
    between.down_bytes[0] = Math.max(between.down_bytes[0], wire.bytes);
  }
  const equals = { up_messages: 69, down_messages: 69, up_compressed: compressed, down_compressed: compressed };
  expect(target, { equals, between });
}

async function everyAnswer(route, offered) {
  for (const answered of ANSWERS) {
    await converse(route, offered, answered).catch((error) => {
      throw new Error(`answered ${answered}: ${error.message || JSON.stringify(error)}`);
    });
  }
}

async function backendWithout() {
  for (const route of ["", "-pass", "-strip"]) {
    const client = await open(route, "?terms=none", "plain");
    same(client.head["sec-websocket-extensions"], undefined);
    same(await client.ask("plain ".repeat(1000)), "plain ".repeat(1000));
    client.socket.close();
  }
}

async function sizes(route) {
  const client = await open(route, "", "plain");
  // Incompressible data is slightly larger on the wire, whose size counts under `pass`.
  const largest = route === "-pass" ? LIMIT - 8192 : LIMIT;
  for (const size of [0, 1, 125, 126, 1015, 1016, 1017, 4096, 65535, 65536, largest]) {
    for (const message of [crypto.randomBytes(size), Buffer.alloc(size, "tide")]) same(await client.ask(message), message);
  }
  same(await client.ask("x".repeat(LIMIT)), "x".repeat(LIMIT));
  client.socket.close();
}

async function overTheLimit() {
  for (const [what, message] of [["text", "x".repeat(LIMIT + 1)], ["random", crypto.randomBytes(LIMIT + 1)], ["bomb", Buffer.alloc(64 << 20)]]) {
    const query = `?case=${NAME}-${what}`;
    const client = await open("", query, "plain");
    same(await client.ask("before"), "before");
    client.socket.send(message);
    same([what, (await client.closed).code], [what, 1009]);
    expect(`/${BACKEND}${query}`, {
      equals: { end: "decompressed_too_big", by: "client", close_client: 1009, up_compressed: 1 },
    });
  }
}

run(`compression ${NAME} > ${BACKEND}`, [
  ...Object.keys(OFFERS).map((offered) => [`inspect, ${offered} offered, five answers`, () => everyAnswer("", offered)]),
  ...Object.keys(OFFERS).map((offered) => [`pass, ${offered} offered, five answers`, () => everyAnswer("-pass", offered)]),
  ["strip, whatever is offered and would be answered", () => everyAnswer("-strip", "plain")],
  ["a backend that compresses nothing", backendWithout],
  ["inspect, 0 B to the limit", () => sizes("")],
  ["pass, 0 B to the limit", () => sizes("-pass")],
  ["inspect, over the limit and a bomb are closed with 1009", overTheLimit],
]);
