"use strict";
const input = require("../lib/input.cjs");

const SCRIPT = `
from bokeh.io import curdoc
from bokeh.layouts import column
from bokeh.models import Div, TextInput

box, heard = TextInput(title="say"), Div(text="nothing")
box.on_change("value", lambda name, old, new: heard.update(text="heard " + new.upper()))
curdoc().add_root(column(box, heard))
`;

async function start(app) {
  const port = await app.port();
  const file = app.write("script.py", SCRIPT);
  const options = ["--address", "127.0.0.1", "--port", port, "--allow-websocket-origin", "*"];
  app.start(app.bin("bokeh"), ["serve", file, ...options], { env: { BOKEH_RESOURCES: "server" } });
  return app.listening(port);
}

module.exports = {
  title: "Bokeh",
  did: "a callback in Python answers an input in Chromium",
  settings: "`--allow-websocket-origin` with the public host",
  pip: ["bokeh==3.9.2"],
  start,
  open: (app) => input.open(app, "/script"),
};
