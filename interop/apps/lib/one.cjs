// Runs one application: one.cjs NAME. Prints `silent` when the minute begins, then what was seen.
"use strict";
const dns = require("dns");
const { App, HOST, must, until, wait } = require("./app.cjs");
const { Proxy } = require("./proxy.cjs");

const [NAME] = process.argv.slice(2);
const SILENCE = 60000;
const ROUND = 60000;

/** Does something with the application; `text` differs each time. */
async function round(use, text) {
  const late = wait(ROUND).then(() => Promise.reject(new Error(`not done within ${ROUND / 1000} s`)));
  late.catch(() => {});
  try {
    await Promise.race([use(text), late]);
  } catch (error) {
    throw new Error(`${text}: ${error.message}`);
  }
}

async function run(app, file) {
  const backends = await file.start(app);
  const proxy = new Proxy(app, [backends].flat());
  try {
    await proxy.start();
    const use = await file.open(app);
    await round(use, "first");
    const wanted = file.tunnels ?? 1;
    await until(() => proxy.open().length >= wanted, `${wanted} open tunnels`);
    const held = proxy.open();
    await Promise.all([round(use, "reloading"), proxy.reload()]);
    await round(use, "reloaded");
    console.log("silent");
    await wait(SILENCE);
    await round(use, "later");
    const open = proxy.open();
    const lost = held.filter((number) => !open.includes(number));
    must(!lost.length, `tunnels that did not stay open: ${lost}`);
    const complaints = proxy.complaints();
    must(!complaints.length, `tidegate: ${complaints.slice(0, 3).join(" ")}`);
    return `${held.length} ${proxy.protocols(held)}`;
  } catch (error) {
    const complaints = proxy.program && !error.message.startsWith("tidegate") ? proxy.complaints().slice(0, 3) : [];
    throw new Error([error.message, ...complaints].join(" "));
  }
}

/** Makes this process find the applications' name at 127.0.0.1. */
function resolve() {
  const { lookup } = dns;
  dns.lookup = (name, ...rest) => lookup(name === HOST ? "127.0.0.1" : name, ...rest);
}

async function main() {
  resolve();
  const file = require(`../list/${NAME}.cjs`);
  const app = new App(NAME);
  process.on("SIGTERM", () => process.exit(1));
  process.on("exit", () => app.programs.forEach((program) => program.kill("SIGKILL")));
  let failed = null;
  const tunnels = await run(app, file).catch((error) => (failed = error));
  if (failed) await app.screenshots();
  await app.stop();
  if (failed) console.log(`failed ${String(failed.message).replace(/\s+/g, " ").slice(0, 1500)}`);
  else console.log(`tunnels ${tunnels}`);
  process.exit(failed ? 1 : 0);
}

// What a client library throws outside of any call is the application's failure too.
process.on("uncaughtException", (error) => {
  console.log(`failed ${error.stack.replace(/\s+/g, " ").slice(0, 500)}`);
  process.exit(1);
});
main();
