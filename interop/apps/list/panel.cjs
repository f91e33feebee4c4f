"use strict";

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

async function open(app) {
  const page = await app.page("/script");
  const input = page.locator("input[type=text]");
  return async (text) => {
    await input.fill(text);
    await input.press("Enter");
    await page.getByText(`heard ${text.toUpperCase()}`).waitFor();
  };
}

module.exports = {
  title: "Panel",
  did: "a bound function answers an input in Chromium",
  settings: "`--allow-websocket-origin` with the public host",
  pip: ["panel==1.9.4"],
  start,
  open,
};
