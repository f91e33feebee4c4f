"use strict";
const fs = require("fs");
const path = require("path");

/** It runs only as its repository is laid out: in `src`, with its packages, and known by a link to that. */
function arrange(app) {
  const [source, packages] = ["src", "node_modules"].map((name) => path.join(app.folder, name));
  if (!fs.existsSync(source)) {
    fs.renameSync(path.join(packages, "ep_etherpad-lite"), source);
    fs.renameSync(packages, path.join(source, "node_modules"));
    fs.mkdirSync(packages);
    fs.symlinkSync("../src", path.join(packages, "ep_etherpad-lite"));
  }
  return path.join(source, "node/server.js");
}

async function start(app) {
  const port = await app.port();
  const dbSettings = { filename: path.join(app.work, "pads.db") };
  const settings = { ip: "127.0.0.1", port, dbType: "dirty", dbSettings, skinName: "no-skin" };
  app.start(process.execPath, [arrange(app), "--settings", app.write("settings.json", JSON.stringify(settings))]);
  return app.listening(port);
}

const inner = (page) => page.frameLocator('iframe[name="ace_outer"]').frameLocator('iframe[name="ace_inner"]').locator("#innerdocbody");

async function open(app) {
  const pages = [await app.page("/p/tide"), await app.page("/p/tide")];
  for (const page of pages) await inner(page).locator("div").first().waitFor();
  return async (text) => {
    for (const [number, page] of pages.entries()) {
      const said = `${text}-of-user-${number}`;
      await inner(page).click();
      await page.keyboard.press("Control+End");
      await page.keyboard.type(`\n${said}`);
      for (const other of pages) await inner(other).getByText(said).first().waitFor();
    }
  };
}

module.exports = {
  title: "Etherpad",
  did: "a pad syncs between two users in Chromium",
  npm: ["ep_etherpad-lite@1.8.14"],
  tunnels: 2,
  start,
  open,
};
