"use strict";
const fs = require("fs");
const path = require("path");
const { until } = require("../lib/app.cjs");

async function start(app) {
  const port = await app.port();
  const args = ["--for-tls-proxy", "--local-session=/usr/bin/cockpit-bridge", "--address", "127.0.0.1", "--port", port];
  app.start("/usr/lib/cockpit/cockpit-ws", args, { env: { HOME: app.work, XDG_CONFIG_DIRS: app.work } });
  return app.listening(port);
}

async function open(app) {
  const page = await app.page("/system/terminal");
  const terminal = page.frameLocator('iframe[name$="/system/terminal"]');
  await terminal.locator(".xterm-helper-textarea").waitFor({ state: "attached" });
  return async (text) => {
    await terminal.locator(".xterm-helper-textarea").focus();
    await page.keyboard.type(`echo > ${path.join(app.work, text)}\n`);
    await until(() => fs.existsSync(path.join(app.work, text)), "the terminal has run the command");
  };
}

module.exports = {
  title: "Cockpit",
  did: "commands are run in the terminal page in Chromium",
  settings: "`--for-tls-proxy`",
  debian: {
    "cockpit-ws": "/usr/lib/cockpit/cockpit-ws",
    "cockpit-bridge": "/usr/bin/cockpit-bridge",
    "cockpit-system": "/usr/share/cockpit/systemd/manifest.json",
  },
  start,
  open,
};
