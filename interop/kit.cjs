// Helpers for the Node checks.
"use strict";
const fs = require("fs");
const { isDeepStrictEqual } = require("util");
const WebSocket = require("ws");

const wait = (time) => new Promise((done) => setTimeout(done, time));

/** A client whose messages are kept until asked for. */
class Client {
  constructor(url, options, protocols) {
    const settings = { perMessageDeflate: false, maxPayload: 16 << 20, ...options };
    this.socket = new WebSocket(url, protocols || [], settings);
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
      this.socket.on("upgrade", (response) => {
        this.head = response.headers;
        this.wire = new Wire(response.socket);
      });
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

/** Counts the messages from the server as they are on the wire, beneath the library. */
class Wire {
  constructor(stream) {
    this.messages = 0;
    this.compressed = 0;
    this.bytes = 0;
    this.rest = Buffer.alloc(0);
    stream.on("data", (data) => this.take(data));
  }
  take(data) {
    this.rest = this.rest.length ? Buffer.concat([this.rest, data]) : data;
    for (;;) {
      const { rest } = this;
      const short = rest.length < 2 ? 0 : rest[1] & 127;
      const header = short === 127 ? 10 : short === 126 ? 4 : 2;
      if (rest.length < header) return;
      const payload = short === 127 ? Number(rest.readBigUInt64BE(2)) : short === 126 ? rest.readUInt16BE(2) : short;
      if (rest.length < header + payload) return;
      if ((rest[0] & 8) === 0) {
        this.bytes += header + payload;
        this.messages += rest[0] >> 7;
        this.compressed += (rest[0] >> 6) & 1;
      }
      this.rest = rest.subarray(header + payload);
    }
  }
}

function same(got, wanted) {
  if (isDeepStrictEqual(got, wanted)) return;
  const short = (value) => (Buffer.isBuffer(value) ? `${value.length} bytes` : JSON.stringify(value) || "nothing").slice(0, 160);
  throw new Error(`got ${short(got)}, wanted ${short(wanted)}`);
}

function must(truth, why) {
  if (!truth) throw new Error(why);
}

/** Makes records.py check this tunnel's record: `equals`, `between`, `has`. */
function expect(target, record) {
  const file = process.env.INTEROP_EXPECTED;
  if (file) fs.appendFileSync(file, JSON.stringify({ target, ...record }) + "\n");
}

/** Prints one line per check, `ok NAME` or `FAIL NAME: why`; then leaves. */
async function run(title, checks, limit = 20000) {
  let failed = 0;
  for (const [what, check] of checks) {
    const name = `${title}: ${what}`;
    try {
      const late = wait(limit).then(() => Promise.reject(new Error(`no result within ${limit / 1000} s`)));
      await Promise.race([check(), late]);
      console.log("ok", name);
    } catch (error) {
      failed += 1;
      const why = error.refused ? `refused with ${error.refused.statusCode}` : error.message;
      console.log(`FAIL ${name}: ${String(why).replace(/\n/g, " ")}`);
    }
  }
  process.exit(failed ? 1 : 0);
}

module.exports = { Client, expect, must, run, same, wait };
