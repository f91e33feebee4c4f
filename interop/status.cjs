// The status page of a proxy with open tunnels, in headless Chromium:
// status.cjs TIDEGATE SCREENSHOT_FOLDER.
//
// Starts two echo backends (Node `ws`), the proxy, and clients of its own. Prints one line per check,
// `ok NAME` or `FAIL NAME: why`.
"use strict";
const fs = require("fs");
const net = require("net");
const os = require("os");
const path = require("path");
const { spawn } = require("child_process");
const { WebSocket, WebSocketServer } = require("ws");
const { chromium } = require("playwright-core");

const [BIN, FOLDER] = process.argv.slice(2);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const TUNNELS = 24;
const ROUTES = 40;
const wait = (time) => new Promise((done) => setTimeout(done, time));

function must(truth, why) {
  if (!truth) throw new Error(why);
}

async function until(what, look) {
  for (let tries = 0; tries < 150; tries += 1) {
    const found = await look();
    if (found) return found;
    await wait(100);
  }
  throw new Error(`waited in vain for ${what}`);
}

// ---- the proxy and its clients ----

function echo() {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  server.on("connection", (socket) => socket.on("message", (data, binary) => socket.send(data, { binary })));
  return new Promise((done) => server.on("listening", () => done(server)));
}

/** A port that refuses connections: it was just closed. */
function closedPort() {
  return new Promise((done) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

let proxy, folder, config, at, admin;
const lines = [];

async function start() {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "tidegate-status-"));
  const [first, second] = [await echo(), await echo()];
  config = fs.readFileSync(path.join(__dirname, "status.toml"), "utf8")
    .replaceAll("@FIRST@", first.address().port).replace("@SECOND@", second.address().port)
    .replace("@CLOSED@", await closedPort());
  for (let n = 1; n <= ROUTES; n += 1) {
    config += `\n[[route]]\nname = "room-${n}"\nhost = "*"\npath = "/room-${n}"\norigins = ["missing"]\nbackends = ["127.0.0.1:${first.address().port}"]\n`;
  }
  fs.writeFileSync(path.join(folder, "proxy.toml"), config);
  proxy = spawn(BIN, ["run", "--config", path.join(folder, "proxy.toml")], { stdio: ["ignore", "ignore", "pipe"] });
  let rest = "";
  proxy.stderr.on("data", (data) => {
    const all = (rest + data).split("\n");
    rest = all.pop();
    lines.push(...all);
  });
  const address = (message) => until(message, () => {
    const line = lines.find((one) => one.includes(`"message":"${message}"`));
    return line && /"address":"([^"]+)"/.exec(line)[1];
  });
  [at, admin] = [await address("listening"), await address("admin listening")];
}

function connect(target = "/chat", from = "127.0.0.1") {
  const socket = new WebSocket(`ws://${at}${target}`, { localAddress: from, perMessageDeflate: false });
  return new Promise((done, fail) => {
    socket.on("open", () => done(socket));
    socket.on("error", fail);
  });
}
const refused = (...where) => connect(...where).then(() => must(false, "it was let in"), () => {});

const open = [];
let talking;

async function live() {
  for (let n = 0; n < TUNNELS; n += 1) {
    // One client has more tunnels than the others.
    open.push(await connect("/chat", `127.0.0.${n % 3 ? 2 + n : 50}`));
  }
  let beat = 0;
  talking = setInterval(() => {
    beat += 1;
    open.forEach((socket, n) => {
      if (beat % (1 + (n % 5)) === 0) socket.send("x".repeat(20 + 40 * n + Math.round(300 * (1 + Math.sin(beat / 9)))));
    });
  }, 50);
}

// ---- the page ----

let browser, page;
const told = [];
const asked = new Set();

async function openPage(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(15000);
  const made = await context.newPage();
  made.on("console", (message) => told.push(message.text()));
  made.on("pageerror", (error) => told.push(`script failed: ${error.message}`));
  made.on("request", (request) => asked.add(request.url()));
  await made.goto(`http://${admin}/status`);
  await made.waitForFunction(() => document.getElementById("state").textContent !== "Waiting");
  return made;
}

const text = (selector) => page.locator(selector).innerText();
const tile = (name) => page.locator(".tile", { hasText: name });
const figure = async (name) => (await tile(name).locator(".figure span").innerText()).replace(/,/g, "");
const rows = async (id) => (await page.locator(`#${id} tr`).allInnerTexts()).map((row) => row.replace(/\s+/g, " "));
const says = (id, words) => until(`${words} in ${id}`, async () => (await rows(id)).find((row) => words.test(row)));

async function loads() {
  page = await openPage();
  must((await text("#state")) === "Running", await text("#state"));
}

async function counts() {
  await until("the tunnels", async () => (await figure("Tunnels")) === String(TUNNELS));
  must((await page.title()).startsWith(`${TUNNELS} tunnels`), await page.title());
  const [first] = await rows("clients");
  must(/^127\.0\.0\.50 8 /.test(first), first);
  must((await rows("clients")).length === 10 && (await rows("busiest")).length === 10, "ten rows each");
  const pools = await rows("pools");
  must(pools[0].includes(`chat <b>rooms</b>: ${TUNNELS} tunnels`), pools[0]);
  must((await page.locator("#pools b").count()) === 0, "a name became markup");
}

async function moves() {
  // Each of `open` sends every (1 + n % 5) beats of 50 ms, and all comes back.
  const due = open.reduce((sum, _, n) => sum + 2 * 20 / (1 + (n % 5)), 0);
  const near = async () => Math.abs(Number(await figure("Messages")) - due) < due / 4;
  await until(`${due} messages a second`, near);
  must(/[KM]iB|B/.test(await figure("Bytes")), await figure("Bytes"));
  const line = () => tile("Messages").locator(".line0").getAttribute("d");
  const before = await line();
  await until("the chart to move", async () => (await line()) !== before && (await line()).startsWith("M"));
}

async function pings() {
  await until("a round trip", async () => / ?ms$/.test(await figure("Ping round trip")));
}

async function refusals() {
  must((await text("#notes-title")) === "Nothing needs attention", await text("#notes"));
  await refused("/nowhere");
  await refused("/nowhere");
  await refused("/gone");
  must(/ 2 \+2$/.test(await says("rejected", /^no_route/)), (await rows("rejected")).join());
  await says("rejected", /^no_backend at backend 1 \+1/);
}

async function ends() {
  const [one, two] = [await connect(), await connect()];
  one.close(4000);
  two.send("x".repeat(5000));
  await says("ended", /^client_closed by the client chat <b>rooms<\/b> 1 \+1/);
  await says("ended", /^message_too_big by the client chat <b>rooms<\/b> 1 \+1/);
  await says("closes", /^1009 to the client 1 \+1/);
  await says("closes", /^4xxx to the backend 1 \+1/);
}

async function delays() {
  const socket = await connect("/slow", "127.0.0.60");
  for (let n = 0; n < 40; n += 1) socket.send("y".repeat(n === 0 ? 2000 : 20));
  await says("delayed", /^message_rate by the client slow 1 \+1/);
  await says("would", /^message_too_big by the client slow 1 \+1/);
  await until("the time", async () => /^clients [\d.]+ s, backends 0.0 s in total$/.test(await text("#delayed-time")));
  socket.terminate();
  await until("its end", async () => (await figure("Tunnels")) === String(TUNNELS));
}

/** What matters comes first; routes that are well are folded beyond a dozen. */
async function order() {
  const top = (id) => page.locator(`#${id}`).evaluate((place) => place.getBoundingClientRect().top + scrollY);
  const places = await Promise.all(["rejected", "ended", "would", "delayed", "pools"].map(top));
  must(places.every((place) => place <= places[4]), places.join());
  const heads = (id) => page.locator(`#${id} tr.group`).count();
  must((await heads("pools")) === 12, `${await heads("pools")} routes in sight`);
  must((await text("#pools")).includes("gone: "), "the route that needs attention is folded");
  must(!(await page.locator("#pools-rest").isVisible()), "the rest is in sight");
  await page.locator("#pools-rest-title").click();
  must((await heads("pools-rest")) === ROUTES + 3 - 12, `${await heads("pools-rest")} routes folded`);
  await wait(2200);
  must(await page.locator("#pools-rest").isVisible(), "it was folded again");
}

async function matches() {
  const scrape = await (await fetch(`http://${admin}/metrics`)).text();
  const sum = (name) => scrape.split("\n").filter((line) => line.startsWith(`${name}{`))
    .reduce((all, line) => all + Number(line.split(" ").pop()), 0);
  must(sum("tidegate_tunnels") === TUNNELS, `tunnels ${sum("tidegate_tunnels")}`);
  const status = await (await fetch(`http://${admin}/status.json`)).json();
  must(status.requests_rejected === sum("tidegate_requests_rejected_total"), "refused");
  must(status.tunnels.opened === sum("tidegate_tunnels_opened_total"), "opened");
}

async function outage() {
  // The one request to it failed a while ago, and probes fail since.
  await until("a note", async () => (await text("#notes-card")).includes("Route gone: no backend is up"));
  must((await says("pools", /down/)).length > 0, "no state");
}

async function reload(change, words) {
  fs.writeFileSync(path.join(folder, "proxy.toml"), change(config));
  proxy.kill("SIGHUP");
  await until(`the reload: ${words}`, async () => words.test(await text("#reload")));
}

async function reloads() {
  await reload((toml) => toml.replace("200", "201"), /^Applied at .* Changed: concurrency\b/);
  await reload((toml) => toml.replace("4KiB", "4Kib"), /^Rejected at /);
  must(/message_from_client/.test(await text("#reload-errors")), await text("#reload-errors"));
  must((await text("#notes-card")).includes("The last reload was rejected"), await text("#notes-card"));
}

async function hides() {
  const hide = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  let questions = 0;
  const count = (request) => (questions += request.url().endsWith("/status.json") ? 1 : 0);
  await hide(true);
  await wait(1200);
  page.on("request", count);
  await wait(2500);
  must(questions === 0, `${questions} questions while hidden`);
  await hide(false);
  await until("a question", () => questions > 0);
  page.off("request", count);
}

async function silence() {
  await page.route("**/status.json", (route) => route.abort());
  await until("silence", async () => (await text("#state")) === "Not responding");
  await page.unroute("**/status.json");
  await until("an answer", async () => (await text("#state")) === "Running");
}

/** Texts and charts that reach beyond the padding of the card they stand in. */
function overflows() {
  const found = [];
  for (const card of document.querySelectorAll(".card")) {
    const style = getComputedStyle(card);
    const box = card.getBoundingClientRect();
    const [left, right] = [box.left + parseFloat(style.paddingLeft), box.right - parseFloat(style.paddingRight)];
    const walk = document.createTreeWalker(card, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
      const range = document.createRange();
      range.selectNode(node);
      for (const piece of range.getClientRects()) {
        const out = Math.max(piece.right - right, left - piece.left);
        // The mark of the expected share overlaps the end of its bar.
        if (piece.width > 0 && out > 1.5) {
          const words = (node.textContent || node.nodeName).trim().slice(0, 40);
          found.push(`"${words}" is ${out.toFixed(1)} px outside of "${card.querySelector("h2").textContent}"`);
        }
      }
    }
  }
  return [...new Set(found)];
}

async function looks(name, width, height, colorScheme, isMobile) {
  const before = page;
  page = await openPage({ viewport: { width, height }, colorScheme, isMobile, deviceScaleFactor: isMobile ? 2 : 1 });
  try {
    // Long enough for a chart.
    await wait(15000);
    await page.screenshot({ path: `${FOLDER}/${name}.png`, fullPage: true });
    const [content, view] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    must(content <= view, `${content} px wide in a window of ${view} px`);
    const over = await page.evaluate(overflows);
    must(over.length === 0, over.join("; "));
  } finally {
    await page.context().close();
    page = before;
  }
}

/** Figures as they may be on a busy day, on the narrowest phone. */
async function large() {
  const before = page;
  const real = await (await fetch(`http://${admin}/status.json`)).json();
  let seconds = 0;
  page = await openPage({ viewport: { width: 320, height: 740 }, isMobile: true, deviceScaleFactor: 2 });
  try {
    await page.route("**/status.json", (route) => {
      seconds += 4;
      const grown = (n) => ({ up: n * seconds, down: 9 * n * seconds });
      const routes = [{ route: "a-route-with-a-rather-long-name-of-its-own", count: 987654 }];
      route.fulfill({ json: {
        ...real, now: real.now + seconds + 60, state: "draining",
        connections: { open: 123456, opened: 98765432, max: 1234567 },
        tunnels: { open: 123456, opened: 5432 * seconds, max: 1234567 },
        requests_rejected: 54321 * seconds,
        messages: grown(123456), bytes: grown(999e6),
        rtt: { client: { tunnels: 123456, p50: 12.345 - seconds / 10, p95: 45.678, max: 123.456 }, backend: real.rtt.backend },
        memory: { resident_bytes: 123.4 * 2 ** 30 }, descriptors: { open: 123456, max: 1048576 },
        ended: [{ by: "backend", reason: "too_many_fragments", count: 98765432, routes, routes_total: 43 }],
        delayed_seconds: { client: 98765432, backend: 12345678 },
        busiest: real.busiest.map((row) => ({ ...row, delayed_seconds: { client: 12345, backend: 54321 }, rtt_seconds: 12.3, age_seconds: 987654, bytes_per_second: 1e9, messages_per_second: 123456 })),
      } });
    });
    await until("the figures", async () => seconds > 12);
    await page.screenshot({ path: `${FOLDER}/status-phone-large.png`, fullPage: true });
    const over = await page.evaluate(overflows);
    must(over.length === 0, over.join("; "));
  } finally {
    await page.context().close();
    page = before;
  }
}

async function quiet() {
  const wrong = told.filter((line) => !/ERR_FAILED/.test(line));
  must(wrong.length === 0, wrong.join("; "));
  const elsewhere = [...asked].filter((url) => !url.startsWith(`http://${admin}/`) && !url.startsWith("data:"));
  must(elsewhere.length === 0, elsewhere.join());
}

async function drains() {
  clearInterval(talking);
  proxy.kill("SIGTERM");
  await until("the drain", async () => (await text("#state")) === "Draining");
  must(/Draining: \d+ tunnels? left/.test(await text("#notes-card")), await text("#notes-card"));
  await page.screenshot({ path: `${FOLDER}/status-draining.png`, fullPage: true });
}

const CHECKS = [
  ["the page loads", loads],
  ["tunnels, clients and backends are counted", counts],
  ["messages move as they are sent", moves],
  ["pings are timed", pings],
  ["refusals have their causes", refusals],
  ["ends and close codes have theirs", ends],
  ["delayed and reported limits show their route", delays],
  ["the page, its data and the metrics agree", matches],
  ["a route without a backend is pointed out", outage],
  ["problems come before backends, and healthy sections are folded", order],
  ["a hidden page asks nothing", hides],
  ["a proxy that does not answer is pointed out", silence],
  ["phone, light", () => looks("status-phone-light", 360, 740, "light", true)],
  ["phone, large figures", large],
  ["desktop, light", () => looks("status-desktop-light", 1280, 900, "light", false)],
  ["reloads show what changed, or the faults", reloads],
  ["phone, dark", () => looks("status-phone-dark", 360, 740, "dark", true)],
  ["desktop, dark", () => looks("status-desktop-dark", 1280, 900, "dark", false)],
  ["no error, no breach of the policy, no request to elsewhere", quiet],
  ["a drain is shown", drains],
];

(async () => {
  fs.mkdirSync(FOLDER, { recursive: true });
  await start();
  await live();
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
  let failed = 0;
  for (const [what, check] of CHECKS) {
    try {
      await check();
      console.log(`ok status: ${what}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL status: ${what}: ${String(error.message).split("\n")[0]}`);
      if (page) await page.screenshot({ path: `${FOLDER}/status-failed-${failed}.png`, fullPage: true }).catch(() => {});
      // Without the page nothing can be checked.
      if (check === loads) break;
    }
  }
  await browser.close();
  return failed ? 1 : 0;
})().catch((error) => {
  console.log(`FAIL status: ${error.message.split("\n")[0]}`);
  return 1;
}).then((code) => {
  if (proxy) proxy.kill("SIGKILL");
  if (folder) fs.rmSync(folder, { recursive: true, force: true });
  process.exit(code);
});
