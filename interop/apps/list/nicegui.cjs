"use strict";
const input = require("../lib/input.cjs");

const SERVER = `
import sys
from nicegui import ui

@ui.page("/")
def page():
    box = ui.input("say")
    heard = ui.label("nothing")
    box.on("keydown.enter", lambda: heard.set_text("heard " + box.value.upper()))

ui.run(host="127.0.0.1", port=int(sys.argv[1]), show=False, reload=False)
`;

module.exports = {
  title: "NiceGUI",
  did: "an event handler in Python answers an input in Chromium",
  pip: ["nicegui==3.18.0"],
  start: (app) => app.serve("server.py", SERVER),
  open: (app) => input.open(app, "/", "input"),
};
