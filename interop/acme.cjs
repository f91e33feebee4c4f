// Headless Chromium with a certificate of Pebble, whose root the user has added:
// acme.cjs HTTPS_URL HOME. Prints the subject and issuer that the browser accepted, and an echo.
"use strict";
const { chromium } = require("playwright-core");

const [URL_, HOME] = process.argv.slice(2);
const { hostname, port } = new URL(URL_);
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  `--host-resolver-rules=MAP ${hostname}:${port} 127.0.0.1:${port}`,
];

(async () => {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS, env: { ...process.env, HOME } });
  const page = await browser.newPage();
  const response = await page.goto(URL_);
  const details = await response.securityDetails();
  const echo = await page.evaluate(() => new Promise((done) => {
    const socket = new WebSocket(location.origin.replace("http", "ws"));
    socket.onopen = () => socket.send("from Chromium");
    socket.onmessage = (event) => done(event.data);
    socket.onclose = (event) => done(`closed with ${event.code}`);
  }));
  console.log(JSON.stringify({ status: response.status(), subject: details.subjectName, issuer: details.issuer, echo }));
  await browser.close();
})().catch((error) => {
  console.error(error.message.split("\n")[0]);
  process.exit(1);
});
