// The demo and the status page over HTTP/2: http2_pages.cjs TIDEGATE NETLOG.
//
// The demo is `tidegate demo`. The status page comes from an admin listener, which speaks HTTP/1.1, through a route of
// another tidegate. curl and Chromium's log of its network say which version was used.
"use strict";
const { execFile, spawn } = require("child_process");
const fs = require("fs");
const net = require("net");
const os = require("os");
const path = require("path");
const { promisify } = require("util");
const { chromium } = require("playwright-core");
const { must, run, same } = require("./kit.cjs");

const [BIN, NETLOG] = process.argv.slice(2);
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  `--log-net-log=${NETLOG}`, "--net-log-capture-mode=Everything",
];
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "tidegate-pages-"));
const started = [];

/** Starts tidegate; returns what the expression finds in its output. */
function start(words, expression) {
  const child = spawn(BIN, words, { stdio: ["ignore", "pipe", "pipe"] });
  started.push(child);
  return new Promise((done, fail) => {
    let said = "";
    const look = (data) => {
      said += data;
      const found = expression.exec(said);
      if (found) done(found[1]);
    };
    child.stdout.on("data", look);
    child.stderr.on("data", look);
    child.on("exit", (code) => fail(new Error(`tidegate ${words[0]} ended with ${code}: ${said.slice(-200)}`)));
  });
}

/** A port that was free a moment ago. */
function freePort() {
  return new Promise((done) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

const pages = {};

async function startAll() {
  pages.demo = await start(["demo", "--listen", "127.0.0.1:0"], /(https:\/\/127\.0\.0\.1:\d+)/);
  await promisify(execFile)("openssl", [
    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", "/CN=pages",
    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", `${folder}/key.pem`, "-out", `${folder}/cert.pem`,
  ]);
  fs.chmodSync(`${folder}/key.pem`, 0o600);
  // The one in front of the admin listener of the other: no route may lead to an admin listener of its own.
  const admin = await freePort();
  const listening = /"message":"listening".*?"address":"([^"]+)"/;
  await start(["run", "--config", config("inner", `tls = false`, 1, `[admin]\naddress = "127.0.0.1:${admin}"`)], listening);
  const certificate = `[[certificate]]\nchain = "${folder}/cert.pem"\nkey = "${folder}/key.pem"\ndefault = true\n[admin]\naddress = "127.0.0.1:0"`;
  pages.status = `https://${await start(["run", "--config", config("front", "", admin, certificate)], listening)}/status`;
}

function config(name, listener, backend, more) {
  const file = path.join(folder, `${name}.toml`);
  fs.writeFileSync(file, `
[[listener]]
address = "127.0.0.1:0"
${listener}
[[route]]
host = "*"
path = "/"
origins = ["same-origin", "missing"]
backends = ["127.0.0.1:${backend}"]
${more}
[log]
format = "json"
[control]
socket = "off"
`);
  return file;
}

async function curl() {
  for (const url of Object.values(pages)) {
    const words = ["--silent", "--insecure", "--http2", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}", url];
    same(`${url} ${(await promisify(execFile)("curl", words)).stdout}`, `${url} 2 200`);
  }
}

async function inChromium() {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
  try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const version = (page) => page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
    const demo = await context.newPage();
    await demo.goto(pages.demo);
    await demo.waitForFunction(() => document.getElementById("state").textContent === "Connected");
    same(await version(demo), "h2");
    const status = await context.newPage();
    await status.goto(pages.status);
    await status.waitForFunction(() => document.getElementById("state").textContent === "Running");
    same(await version(status), "h2");
  } finally {
    await browser.close();
  }
}

/** What Chromium itself says that it sent. */
async function netlog() {
  const log = JSON.parse(fs.readFileSync(NETLOG, "utf8"));
  const sent = log.constants.logEventTypes.HTTP2_SESSION_SEND_HEADERS;
  const heads = log.events.filter((event) => event.type === sent && event.params && event.params.headers)
    .map((event) => event.params.headers);
  const of = (url, ...fields) => heads.filter((head) =>
    head.includes(`:authority: ${new URL(url).host}`) && fields.every((field) => head.includes(field)));
  const sockets = of(pages.demo, ":method: CONNECT", ":protocol: websocket");
  must(of(pages.demo, ":path: /").length > 0 && sockets.length > 0, `${sockets.length} extended CONNECT of the demo`);
  must(of(pages.status, ":path: /status.json").length > 0, "no request for /status.json");
}

process.on("exit", () => {
  started.forEach((child) => child.kill("SIGKILL"));
  fs.rmSync(folder, { recursive: true, force: true });
});

async function main() {
  await startAll();
  await run("http2 pages", [
    ["curl gets the demo and the status page", curl],
    ["Chromium shows both", inChromium],
    ["its log of the network has the demo's sockets and the status requests", netlog],
  ], 60000);
}

main().catch((error) => {
  console.log(`FAIL http2 pages: ${error.message}`);
  process.exitCode = 1;
});
