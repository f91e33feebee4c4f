"use strict";
const { until } = require("../lib/app.cjs");

const NOTEBOOK = `
import marimo

app = marimo.App()

@app.cell
def _():
    1 + 1
    return

if __name__ == "__main__":
    app.run()
`;

async function start(app) {
  const port = await app.port();
  const file = app.write("notebook.py", NOTEBOOK);
  const env = { HOME: app.work };
  const args = ["edit", "--skip-update-check", "--headless", "--no-token", "--host", "127.0.0.1", "--port", port, file];
  app.start(app.bin("marimo"), args, { env });
  return app.listening(port);
}

async function open(app) {
  const page = await app.page("/");
  const editor = page.locator(".cm-content").first();
  await editor.waitFor({ timeout: 60000 });
  return async (text) => {
    await editor.click();
    await page.keyboard.press("Control+a");
    await page.keyboard.type(`"tide " + "${text}"[::-1]`);
    await page.keyboard.press("Control+Enter");
    const reversed = `tide ${[...text].reverse().join("")}`;
    await until(async () => (await page.innerText("body")).includes(reversed), `the output ${reversed}`);
  };
}

module.exports = {
  title: "marimo",
  did: "a cell is edited and run in Chromium",
  pip: ["marimo==0.25.2"],
  start,
  open,
};
