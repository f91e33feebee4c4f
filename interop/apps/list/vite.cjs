"use strict";
const { HOST } = require("../lib/app.cjs");
const edited = require("../lib/edited_module.cjs");

const HOT = "import.meta.hot";

async function start(app) {
  const port = await app.port();
  app.write("index.html", edited.page('type="module" src="/main.js"'));
  app.write("main.js", edited.source("nothing", HOT));
  app.write("vite.config.mjs", `export default { server: { allowedHosts: ["${HOST}"] } };\n`);
  app.start(process.execPath, [app.bin("vite"), "--host", "127.0.0.1", "--port", port, "--strictPort"]);
  return app.listening(port);
}

module.exports = {
  title: "Vite",
  did: edited.did,
  settings: "`server.allowedHosts`",
  quick: true,
  npm: ["vite@8.3.8"],
  start,
  open: (app) => edited.open(app, "main.js", HOT),
};
