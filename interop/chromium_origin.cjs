// A page served through a proxy that terminates TLS, in headless Chromium: chromium_origin.cjs BASE OTHER_BASE.
//
// Prints as JSON whether a WebSocket to BASE opens from a page of BASE, and from one of OTHER_BASE.
"use strict";
const { chromium } = require("playwright-core");

const [BASE, OTHER] = process.argv.slice(2);
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/** Runs in the page. */
function speak(url) {
  return new Promise((done) => {
    const socket = new WebSocket(url);
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (event) => done(event.data);
    socket.onclose = () => done("refused");
  });
}

(async () => {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  const said = [];
  for (const base of [BASE, OTHER]) {
    await page.goto(`${base}/direct/page`);
    said.push(await page.evaluate(speak, `${BASE.replace("http", "ws")}/direct`));
  }
  console.log(JSON.stringify(said));
  await browser.close();
})();
