// The checks of Socket.IO's own client: socketio_client.cjs HTTP_BASE [CA_FILE].
//
// Prints one line per check, `ok NAME` or `FAIL NAME: why`.
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const { io } = require("socket.io-client");

const [BASE, CA] = process.argv.slice(2);
const ca = CA ? fs.readFileSync(CA) : undefined;
const wait = (time) => new Promise((done) => setTimeout(done, time));
const open = new Set();

function connect(options) {
  const socket = io(BASE, { ca, forceNew: true, reconnection: false, ...options });
  open.add(socket);
  // Listens at once: the upgrade may happen together with the first response.
  socket.upgraded = new Promise((done) => socket.io.on("open", () => socket.io.engine.once("upgrade", (to) => done(to.name))));
  return new Promise((done, fail) => {
    socket.once("connect", () => done(socket));
    socket.once("connect_error", fail);
  });
}

const transport = (socket) => socket.io.engine.transport.name;
const heard = (socket, text) =>
  new Promise((done) => socket.on("said", (said) => said.text === text && done(said.from)));

function wanted(got, value) {
  if (got !== value) throw new Error(`got ${JSON.stringify(got)}, wanted ${JSON.stringify(value)}`);
}

/** Two clients who see each other, and go on doing so over several of the server's pings. */
async function chat(options, name) {
  const first = await connect(options);
  const second = await connect(options);
  if (name === "upgraded") {
    wanted(await first.upgraded, "websocket");
    wanted(await second.upgraded, "websocket");
  } else {
    wanted(transport(first), name);
  }
  for (const [speaker, text] of [[first, "hello"], [second, "hello yourself"]]) {
    const both = [heard(first, text), heard(second, text)];
    wanted(await speaker.timeout(5000).emitWithAck("say", text), "told");
    for (const from of await Promise.all(both)) wanted(from, speaker.id);
  }
  const data = crypto.randomBytes(200000);
  wanted(Buffer.compare(Buffer.from(await first.timeout(5000).emitWithAck("blob", data)), data), 0);
  await wait(2500);
  const last = heard(second, "still there?");
  await first.timeout(5000).emitWithAck("say", "still there?");
  wanted(await last, first.id);
  wanted(transport(first), name === "upgraded" ? "websocket" : name);
}

const CHECKS = [
  ["polling, then upgrade, as it is by default", () => chat({}, "upgraded")],
  ["polling only", () => chat({ transports: ["polling"] }, "polling")],
  ["websocket only", () => chat({ transports: ["websocket"] }, "websocket")],
];

(async () => {
  let failed = 0;
  for (const [what, check] of CHECKS) {
    const name = `socket.io: ${what}`;
    try {
      const late = wait(20000).then(() => Promise.reject(new Error("no result within 20 s")));
      await Promise.race([check(), late]);
      console.log("ok", name);
    } catch (error) {
      failed += 1;
      const why = error.description ? `${error.message} (${error.description.message || error.description})` : error.message;
      console.log(`FAIL ${name}: ${String(why).replace(/\n/g, " ")}`);
    }
    for (const socket of open) socket.disconnect();
    open.clear();
  }
  process.exit(failed ? 1 : 0);
})();
