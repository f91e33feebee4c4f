// WebSockets over HTTP/2 in a browser: http2_browser.cjs HTTPS_BASE chromium|firefox-esr NETLOG.
//
// A page that came over HTTP/2 opens sockets, which the browser must put on the connection of the page (RFC 8441):
// Chromium's log of its network says so, and the records of tidegate for both browsers.
"use strict";
const { spawn } = require("child_process");
const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require("playwright-core");
const WebSocket = require("ws");
const { expect, must, run, same } = require("./kit.cjs");

const [BASE, BROWSER, NETLOG] = process.argv.slice(2);
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  `--log-net-log=${NETLOG}`, "--net-log-capture-mode=Everything",
];
const SOCKETS = 5;
const target = (number) => `/node?case=http2-${BROWSER}-${number}`;

/** Runs in the page: a message and its echo on each socket, all of which are open at once. */
const CONVERSE = `async (targets) => {
  const open = (target) => new Promise((done, fail) => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + target);
    socket.onopen = () => done(socket);
    socket.onclose = (event) => fail(new Error("closed with " + event.code));
  });
  const sockets = await Promise.all(targets.map(open));
  const echoes = await Promise.all(sockets.map((socket, number) => new Promise((done) => {
    socket.onmessage = (event) => done(event.data);
    socket.send("hello " + number);
  })));
  await Promise.all(sockets.map((socket) => new Promise((done) => { socket.onclose = done; socket.close(); })));
  const [entry] = performance.getEntriesByType("navigation");
  return JSON.stringify({ echoes, protocol: entry.nextHopProtocol });
}`;

/** The page in Chromium; evaluates the script there. */
async function inChromium(script, argument) {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
  try {
    const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
    await page.goto(`${BASE}/node/page`);
    return await page.evaluate(`(${script})(${JSON.stringify(argument)})`);
  } finally {
    await browser.close();
  }
}

/** The page in Firefox, which is driven by WebDriver BiDi. */
async function inFirefox(script, argument) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "firefox-"));
  // The name of the preference has changed.
  const names = ["network.http.http2.websockets", "network.http.spdy.websockets"];
  fs.writeFileSync(path.join(profile, "user.js"), names.map((name) => `user_pref("${name}", true);\n`).join(""));
  const browser = spawn("firefox-esr", ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"], {
    env: { ...process.env, HOME: profile },
  });
  try {
    const url = await new Promise((done, fail) => {
      let said = "";
      browser.stderr.on("data", (data) => {
        said += data;
        const found = /WebDriver BiDi listening on (ws:\S+)/.exec(said);
        if (found) done(found[1]);
      });
      browser.on("exit", (code) => fail(new Error(`firefox ended with ${code}: ${said.slice(-200)}`)));
    });
    const socket = new WebSocket(`${url}/session`);
    await new Promise((done, fail) => socket.on("open", done).on("error", fail));
    const pending = new Map();
    socket.on("message", (data) => {
      const answer = JSON.parse(data);
      if (pending.has(answer.id)) pending.get(answer.id)(answer);
    });
    const ask = async (method, params) => {
      const id = pending.size + 1;
      const answer = await new Promise((done) => {
        pending.set(id, done);
        socket.send(JSON.stringify({ id, method, params }));
      });
      must(answer.type === "success", `${method}: ${answer.message}`);
      return answer.result;
    };
    await ask("session.new", { capabilities: { alwaysMatch: { acceptInsecureCerts: true } } });
    const { context } = await ask("browsingContext.create", { type: "tab" });
    await ask("browsingContext.navigate", { context, url: `${BASE}/node/page`, wait: "complete" });
    const { result, exceptionDetails } = await ask("script.evaluate", {
      expression: `(${script})(${JSON.stringify(argument)})`, target: { context }, awaitPromise: true,
    });
    must(!exceptionDetails, exceptionDetails && exceptionDetails.text);
    return result.value;
  } finally {
    browser.removeAllListeners("exit");
    const ended = new Promise((done) => browser.on("exit", done));
    browser.kill();
    await ended;
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

async function sockets() {
  const inBrowser = BROWSER === "chromium" ? inChromium : inFirefox;
  const targets = Array.from({ length: SOCKETS }, (_, number) => target(number));
  const { echoes, protocol } = JSON.parse(await inBrowser(CONVERSE, targets));
  same(protocol, "h2");
  same(echoes, targets.map((_, number) => `hello ${number}`));
  targets.forEach((one) => expect(one, { equals: { end: "client_closed", protocol: "h2", up_messages: 1 } }));
}

/** What Chromium itself says that it sent. */
async function extendedConnect() {
  const log = JSON.parse(fs.readFileSync(NETLOG, "utf8"));
  const sent = log.constants.logEventTypes.HTTP2_SESSION_SEND_HEADERS;
  const heads = log.events.filter((event) => event.type === sent && event.params && event.params.headers);
  const connects = heads.filter(({ params: { headers } }) =>
    headers.includes(":method: CONNECT") && headers.includes(":protocol: websocket"));
  same(connects.length, SOCKETS);
  same(new Set(heads.map((event) => event.source.id)).size, 1);
}

const CHECKS = [["its sockets are streams of its page's connection", sockets]];
if (BROWSER === "chromium") CHECKS.push(["its log of the network has each extended CONNECT", extendedConnect]);
run(`http2 ${BROWSER}`, CHECKS, 60000);
