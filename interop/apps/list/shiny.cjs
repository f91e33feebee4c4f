"use strict";

const SCRIPT = `
from shiny import App, render, ui

page = ui.page_fluid(ui.input_text("say", "say"), ui.output_text("heard"))

def server(input, output, session):
    @render.text
    def heard():
        return "heard " + input.say().upper()

app = App(page, server)
`;

async function start(app) {
  const port = await app.port();
  const file = app.write("script.py", SCRIPT);
  app.start(app.bin("shiny"), ["run", "--host", "127.0.0.1", "--port", port, file]);
  return app.listening(port);
}

async function open(app) {
  const page = await app.page("/");
  return async (text) => {
    await page.fill("#say", text);
    await page.getByText(`heard ${text.toUpperCase()}`).waitFor();
  };
}

module.exports = {
  title: "Shiny for Python",
  did: "an output follows an input in Chromium",
  pip: ["shiny==1.8.0"],
  start,
  open,
};
