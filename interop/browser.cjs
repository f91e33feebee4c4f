// The demo's page in headless Chromium: browser.cjs URL SCREENSHOT_FOLDER.
//
// Prints one line per check, `ok NAME` or `FAIL NAME: why`.
"use strict";
const fs = require("fs");
const http = require("http");
const { chromium } = require("playwright-core");

const [URL_, FOLDER] = process.argv.slice(2);
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

function must(truth, why) {
  if (!truth) throw new Error(why);
}

let browser, context, page;
// The browser's own messages about failed connections, which contain the status.
const told = [];

async function newPage(options = {}) {
  const from = options.in || context;
  const made = await from.newPage();
  made.on("console", (message) => told.push(message.text()));
  made.on("pageerror", (error) => told.push(`script failed: ${error.message}`));
  return made;
}

async function openDemo(options) {
  const made = await newPage(options);
  await made.goto(URL_);
  await made.waitForFunction(() => document.getElementById("state").textContent === "Connected");
  return made;
}

const text = (id) => page.locator(`#${id}`).innerText();

async function press(button, outcome, tone = "good", timeout = 30000) {
  await page.click(`#${button}`);
  await page.waitForFunction((id) => !document.getElementById(id).disabled, button, { timeout });
  const place = page.locator(`#${outcome}`);
  must((await place.getAttribute("data-tone")) === tone, await place.innerText());
  return place.innerText();
}

const newest = () => page.locator("#log > li").first().innerText();

async function connects() {
  page = await openDemo();
  must(!told.some((line) => /failed|refused to|violates/i.test(line)), told.join("; "));
}

async function sends() {
  for (const message of ["hello tide", "<img src=x onerror=alert(1)> \u2713"]) {
    await page.fill("#echo-text", message);
    await page.press("#echo-text", "Enter");
    const row = page.locator("#echoes li").last();
    await row.locator("text=/back in/").waitFor();
    must((await row.innerText()).includes(message), await row.innerText());
  }
  must((await page.locator("#echoes img").count()) === 0, "a message became markup");
}

async function measures() {
  await page.waitForFunction(() => /^\d/.test(document.getElementById("rtt").textContent));
  const line = await page.locator("#spark-line").getAttribute("d");
  must(line.startsWith("M"), "nothing is drawn");
}

async function chats() {
  const other = await openDemo();
  await other.waitForFunction(() => document.getElementById("users").textContent === "2 users");
  await page.fill("#chat-text", "is anyone out there?");
  await page.press("#chat-text", "Enter");
  await other.locator("#chat li", { hasText: "is anyone out there?" }).waitFor();
  await other.fill("#chat-text", "yes, here");
  await other.click("#chat-send");
  await page.locator("#chat li", { hasText: "yes, here" }).waitFor();
  await other.close();
  await page.waitForFunction(() => document.getElementById("users").textContent === "1 user");
}

async function tooLarge() {
  const outcome = await press("try-large", "large-outcome");
  must(outcome.includes("1009"), outcome);
  must((await newest()).includes("1009 message too big"), await newest());
  must((await text("state")) === "Connected", "the other sockets fell with it");
}

async function foreignFrame() {
  told.length = 0;
  await press("try-origin", "origin-outcome");
  must(told.some((line) => /response code: 403/.test(line)), `the browser saw no 403: ${told.join("; ")}`);
}

/** A page that another server gives out, in the same browser. */
async function foreignPage() {
  const url = URL_.replace("http", "ws") + "/echo";
  const server = http.createServer((request, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end(`<!doctype html><title>waiting</title><script>
      const socket = new WebSocket(${JSON.stringify(url)});
      socket.onopen = () => (document.title = "open");
      socket.onclose = () => (document.title = document.title === "open" ? "open" : "refused");
    </script>`);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const stranger = await newPage();
  try {
    told.length = 0;
    await stranger.goto(`http://127.0.0.1:${server.address().port}/`);
    await stranger.waitForFunction(() => document.title !== "waiting");
    must((await stranger.title()) === "refused", "it was let in");
    must(told.some((line) => /response code: 403/.test(line)), `the browser saw no 403: ${told.join("; ")}`);
  } finally {
    await stranger.close();
    server.close();
  }
}

async function tooMany() {
  told.length = 0;
  const outcome = await press("try-many", "many-outcome");
  must(Number(/^(\d+) /.exec(outcome)[1]) >= 20, outcome);
  must(told.some((line) => /response code: 429/.test(line)), `the browser saw no 429: ${told.join("; ")}`);
  must((await text("state")) === "Connected", "the page's own sockets fell");
}

async function drains() {
  const outcome = await press("try-drain", "drain-outcome", "good", 60000);
  must(/^10 connections closed with 1012 over /.test(outcome), outcome);
  must(outcome.includes("reconnected after"), outcome);
  const closes = /Closed after ([\d., ]+) s/.exec(await newest())[1].split(", ").map(Number);
  must(Math.max(...closes) - Math.min(...closes) > 1, `all at once: ${closes}`);
  must((await text("state")) === "Connected", "not back");
  await page.fill("#echo-text", "after the drain");
  await page.press("#echo-text", "Enter");
  await page.locator("#echoes li", { hasText: "after the drain" }).locator("text=/back in/").waitFor();
}

async function disconnects() {
  await page.click("#toggle");
  await page.waitForFunction(() => document.getElementById("state").textContent === "Not connected");
  must(await page.locator("#echo-send").isDisabled(), "a message could be sent");
  await page.click("#toggle");
  await page.waitForFunction(() => document.getElementById("state").textContent === "Connected");
}

async function looks(name, width, height, colorScheme, isMobile) {
  const narrow = await browser.newContext({
    viewport: { width, height }, colorScheme, isMobile, deviceScaleFactor: isMobile ? 2 : 1, ignoreHTTPSErrors: true,
  });
  const before = page;
  try {
    page = await openDemo({ in: narrow });
    await page.fill("#echo-text", "hello tide");
    await page.press("#echo-text", "Enter");
    await page.fill("#chat-text", "is anyone out there?");
    await page.press("#chat-text", "Enter");
    await press("try-large", "large-outcome");
    await press("try-origin", "origin-outcome");
    await page.screenshot({ path: `${FOLDER}/${name}.png`, fullPage: true });
    const [content, view] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    must(content <= view, `${content} px wide in a window of ${view} px`);
  } finally {
    await narrow.close();
    page = before;
  }
}

const CHECKS = [
  ["the page connects", connects],
  ["a message comes back, as text", sends],
  ["the round trip is measured and drawn", measures],
  ["two windows chat", chats],
  ["too large a message is closed with 1009", tooLarge],
  ["a frame with Origin null is refused with 403", foreignFrame],
  ["a page of another origin is refused with 403", foreignPage],
  ["too many sockets are refused with 429", tooMany],
  ["disconnect and connect by hand", disconnects],
  ["a drain closes with 1012, spread, and the page returns", drains],
  ["desktop, light", () => looks("desktop-light", 1280, 900, "light", false)],
  ["desktop, dark", () => looks("desktop-dark", 1280, 900, "dark", false)],
  ["phone, light", () => looks("phone-light", 390, 844, "light", true)],
  ["phone, dark", () => looks("phone-dark", 390, 844, "dark", true)],
];

(async () => {
  fs.mkdirSync(FOLDER, { recursive: true });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
  context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ignoreHTTPSErrors: true });
  context.setDefaultTimeout(15000);
  let failed = 0;
  for (const [what, check] of CHECKS) {
    try {
      await check();
      console.log(`ok browser: ${what}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL browser: ${what}: ${String(error.message).split("\n")[0]}`);
      if (page) await page.screenshot({ path: `${FOLDER}/failed-${failed}.png`, fullPage: true }).catch(() => {});
      // Without the page nothing can be checked.
      if (check === connects) break;
    }
  }
  await browser.close();
  process.exit(failed ? 1 : 0);
})().catch((error) => {
  console.log(`FAIL browser: ${error.message.split("\n")[0]}`);
  process.exit(1);
});
