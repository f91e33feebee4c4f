"use strict";
const input = require("../lib/input.cjs");

const SCRIPT = `
import panel

panel.extension()
box = panel.widgets.TextInput(name="say")
panel.Column(box, panel.bind(lambda text: "heard " + text.upper(), box)).servable()
`;

async function start(app) {
  const port = await app.port();
  const file = app.write("script.py", SCRIPT);
  const options = ["--address", "127.0.0.1", "--port", port, "--allow-websocket-origin", "*"];
  app.start(app.bin("panel"), ["serve", file, ...options]);
  return app.listening(port);
}

module.exports = {
  title: "Panel",
  did: "a bound function answers an input in Chromium",
  settings: "`--allow-websocket-origin` with the public host",
  pip: ["panel==1.9.4"],
  start,
  open: (app) => input.open(app, "/script"),
};
