// Runs applications: all.cjs [--quick | NAME...]. A few are active at a time; their minutes of silence overlap.
"use strict";
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const { spawn } = require("child_process");
const { X509Certificate, createHash } = require("crypto");
const { chromium } = require("playwright-core");
const { HOST } = require("./app.cjs");
const { CACHE, install, version } = require("./install.cjs");
const table = require("./table.cjs");

const LIST = path.join(__dirname, "../list");
const ACTIVE = 2;
const LIMIT = 360000;
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

const names = fs.readdirSync(LIST).map((file) => path.basename(file, ".cjs")).sort();
const files = Object.fromEntries(names.map((name) => [name, require(path.join(LIST, `${name}.cjs`))]));
const running = new Set();

/** Ends what one application has started: its processes are one group. */
function end(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // All have ended.
  }
}

/** The clients trust the certificate by these: Node, Python's ssl, and its requests. */
function trust() {
  const certificate = path.join(CACHE, "cert.pem");
  return { NODE_EXTRA_CA_CERTS: certificate, SSL_CERT_FILE: certificate, REQUESTS_CA_BUNDLE: certificate };
}

/** Runs one application; calls `silent` once it only waits. Resolves to its last line of output. */
function run(name, browser, silent) {
  const env = { ...process.env, ...trust(), APPS_CHROMIUM: browser.wsEndpoint() };
  const errors = fs.openSync(path.join(CACHE, "work", `${name}.err`), "w");
  const options = { detached: true, env, stdio: ["ignore", "pipe", errors] };
  const child = spawn(process.execPath, [path.join(__dirname, "one.cjs"), name], options);
  fs.closeSync(errors);
  running.add(child);
  let last = "failed it printed nothing";
  readline.createInterface({ input: child.stdout }).on("line", (line) => {
    if (line === "silent") silent();
    if (/^(failed|tunnels) /.test(line)) last = line;
  });
  const late = setTimeout(() => {
    last = `failed not done within ${LIMIT / 1000} s`;
    child.kill("SIGTERM");
    setTimeout(() => end(child, "SIGKILL"), 5000);
  }, LIMIT);
  child.on("exit", () => end(child, "SIGKILL"));
  // After its last line of output.
  return new Promise((done) => child.on("close", () => {
    clearTimeout(late);
    running.delete(child);
    done(last);
  }));
}

/** Prints the result of one application, and returns its row of the table. */
function report(name, last) {
  const file = files[name];
  if (last.startsWith("skipped ")) {
    console.log(`skipped ${name}: ${last.slice(8)}`);
    return null;
  }
  const [what, number, ...rest] = last.split(" ");
  if (what === "failed") {
    console.log(`FAIL ${name}: ${[number, ...rest].join(" ")}`);
    return { failed: true };
  }
  const protocol = rest.join(" ");
  const row = table.row(file, version(file), protocol);
  const wrong = process.env.UPDATE ? null : table.check(row);
  const tunnels = number === "1" ? "1 tunnel" : `${number} tunnels`;
  if (wrong) console.log(`FAIL ${name}: ${wrong}`);
  else console.log(`ok ${name}: ${file.did} (${tunnels} throughout, ${protocol})`);
  return { failed: Boolean(wrong), row };
}

/** Debian's Chromium, once for all applications. */
async function startChromium() {
  // Trusts the certificate by the hash of its key.
  const { publicKey } = new X509Certificate(fs.readFileSync(path.join(CACHE, "cert.pem")));
  const key = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
  const args = [...FLAGS, `--ignore-certificate-errors-spki-list=${key}`, `--host-resolver-rules=MAP ${HOST} 127.0.0.1`];
  return chromium.launchServer({ executablePath: "/usr/bin/chromium", args });
}

/** A fixed number of places; `enter` resolves to a function that leaves, and may be called twice. */
function places(free) {
  const waiting = [];
  const leave = () => (waiting.length ? waiting.shift()() : (free += 1));
  return async () => {
    if (free > 0) free -= 1;
    else await new Promise((done) => waiting.push(done));
    let left = false;
    return () => {
      if (!left) leave();
      left = true;
    };
  };
}

async function all(chosen) {
  fs.mkdirSync(path.join(CACHE, "work"), { recursive: true });
  const missing = await install("chromium", { debian: { chromium: "/usr/bin/chromium" } });
  if (missing) {
    console.log(`skipped ${chosen.join(", ")}: ${missing}`);
    return [];
  }
  const browser = await startChromium();
  const enter = places(ACTIVE);
  let installed = Promise.resolve();
  const results = chosen.map(async (name) => {
    const installing = installed.then(() => install(name, files[name]));
    installed = installing.catch(() => {});
    let last;
    try {
      const reason = await installing;
      if (reason) return report(name, `skipped ${reason}`);
      const leave = await enter();
      last = await run(name, browser, leave);
      leave();
    } catch (error) {
      last = `failed ${error.message}`;
    }
    return report(name, last);
  });
  const rows = (await Promise.all(results)).filter(Boolean);
  await browser.close();
  return rows;
}

async function main() {
  const args = process.argv.slice(2);
  const quick = args.includes("--quick");
  const chosen = quick ? names.filter((name) => files[name].quick) : args.length ? args : names;
  const unknown = chosen.filter((name) => !files[name]);
  if (unknown.length) {
    console.log(`FAIL ${unknown.join(", ")}: no such application; there are ${names.join(" ")}`);
    process.exit(1);
  }
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));
  process.on("exit", () => running.forEach((child) => end(child, "SIGKILL")));
  const rows = await all(chosen);
  const failed = rows.filter((row) => row.failed).length;
  if (process.env.UPDATE) table.write(rows.map((row) => row.row).filter(Boolean));
  console.log(`apps: ${rows.length - failed} passed, ${failed} failed (logs in ${path.join(CACHE, "work")})`);
  process.exit(failed ? 1 : 0);
}

main().catch((error) => {
  console.log(`FAIL apps: ${error.message}`);
  process.exit(1);
});
