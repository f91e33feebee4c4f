"use strict";
const { HOST, must } = require("../lib/app.cjs");

const PAGE = '<!doctype html><p id="shown"></p><script src="/main.js"></script>';
const module_ = (text) => `
document.getElementById("shown").textContent = ${JSON.stringify(text)};
module.hot.accept();
`;

async function start(app) {
  const port = await app.port();
  app.write("public/index.html", PAGE);
  app.write("src/index.js", module_("nothing"));
  const settings = { mode: "development", devServer: { allowedHosts: [HOST] } };
  const config = app.write("webpack.config.cjs", `module.exports = ${JSON.stringify(settings)};\n`);
  const args = ["serve", "--config", config, "--host", "127.0.0.1", "--port", port, "--no-open"];
  // The program looks for its parts from the work folder, which is inside that of the packages' cache.
  const env = { NODE_PATH: `${app.folder}/node_modules` };
  app.start(process.execPath, [app.bin("webpack"), ...args], { env });
  return app.listening(port);
}

async function open(app) {
  const page = await app.page("/");
  await page.locator('#shown >> text="nothing"').waitFor();
  await page.evaluate(() => (window.loaded = "once"));
  return async (text) => {
    app.write("src/index.js", module_(text));
    await page.locator(`#shown >> text="${text}"`).waitFor();
    must((await page.evaluate(() => window.loaded)) === "once", "the page was loaded again");
  };
}

module.exports = {
  title: "webpack-dev-server",
  did: "an edited module is replaced in Chromium without loading the page again, by server-sent events",
  settings: "`devServer.allowedHosts`",
  npm: ["webpack-dev-server@6.1.0", "webpack@5.113.0", "webpack-cli@7.3.1"],
  tunnels: 0,
  start,
  open,
};
