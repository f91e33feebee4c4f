"use strict";
const { HOST } = require("../lib/app.cjs");
const edited = require("../lib/edited_module.cjs");

const HOT = "module.hot";

async function start(app) {
  const port = await app.port();
  app.write("public/index.html", edited.page('src="/main.js"'));
  app.write("src/index.js", edited.source("nothing", HOT));
  const settings = { mode: "development", devServer: { allowedHosts: [HOST] } };
  const config = app.write("webpack.config.cjs", `module.exports = ${JSON.stringify(settings)};\n`);
  const args = ["serve", "--config", config, "--host", "127.0.0.1", "--port", port, "--no-open"];
  // The program looks for its parts from the work folder, which is inside that of the packages' cache.
  const env = { NODE_PATH: `${app.folder}/node_modules` };
  app.start(process.execPath, [app.bin("webpack"), ...args], { env });
  return app.listening(port);
}

module.exports = {
  title: "webpack-dev-server",
  did: `${edited.did}, by server-sent events`,
  settings: "`devServer.allowedHosts`",
  npm: ["webpack-dev-server@6.1.0", "webpack@5.113.0", "webpack-cli@7.3.1"],
  tunnels: 0,
  start,
  open: (app) => edited.open(app, "src/index.js", HOT),
};
