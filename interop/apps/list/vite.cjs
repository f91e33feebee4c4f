"use strict";
const { HOST, must } = require("../lib/app.cjs");

const PAGE = '<!doctype html><p id="shown"></p><script type="module" src="/main.js"></script>';
const module_ = (text) => `
document.getElementById("shown").textContent = ${JSON.stringify(text)};
import.meta.hot.accept();
`;

async function start(app) {
  const port = await app.port();
  app.write("index.html", PAGE);
  app.write("main.js", module_("nothing"));
  app.write("vite.config.mjs", `export default { server: { allowedHosts: ["${HOST}"] } };\n`);
  app.start(process.execPath, [app.bin("vite"), "--host", "127.0.0.1", "--port", port, "--strictPort"]);
  return app.listening(port);
}

async function open(app) {
  const page = await app.page("/");
  await page.locator('#shown >> text="nothing"').waitFor();
  await page.evaluate(() => (window.loaded = "once"));
  return async (text) => {
    app.write("main.js", module_(text));
    await page.locator(`#shown >> text="${text}"`).waitFor();
    must((await page.evaluate(() => window.loaded)) === "once", "the page was loaded again");
  };
}

module.exports = {
  title: "Vite",
  did: "an edited module is replaced in Chromium without loading the page again",
  settings: "`server.allowedHosts`",
  quick: true,
  npm: ["vite@8.3.8"],
  start,
  open,
};
