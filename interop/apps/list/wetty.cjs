"use strict";
const { until } = require("../lib/app.cjs");

async function start(app) {
  const port = await app.port();
  const args = [app.bin("wetty"), "--host", "127.0.0.1", "--port", port, "--command", "/bin/bash", "--base", "/"];
  app.start(process.execPath, args, { env: { PS1: "$ ", HOME: app.work } });
  return app.listening(port);
}

async function open(app) {
  const page = await app.page("/");
  await page.locator(".xterm-helper-textarea").waitFor({ state: "attached" });
  const shown = () => page.evaluate(() => {
    const { buffer } = window.wetty_term;
    return Array.from({ length: buffer.active.length }, (_, line) => buffer.active.getLine(line).translateToString()).join("\n");
  });
  return async (text) => {
    await page.focus(".xterm-helper-textarea");
    await page.keyboard.type(`echo tide-$((6 * 7))-${text}\n`);
    await until(async () => (await shown()).includes(`tide-42-${text}`), "the terminal shows the output");
  };
}

module.exports = {
  title: "WeTTY",
  did: "a shell echoes in a terminal in Chromium",
  npm: ["wetty@3.2.0"],
  start,
  open,
};
