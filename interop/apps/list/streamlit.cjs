"use strict";

const SCRIPT = `
import streamlit

said = streamlit.text_input("say")
streamlit.write("heard " + said.upper())
`;

async function start(app) {
  const port = await app.port();
  const file = app.write("script.py", SCRIPT);
  const options = [
    "--server.address", "127.0.0.1", "--server.port", port, "--server.headless", "true",
    "--browser.gatherUsageStats", "false",
  ];
  app.start(app.bin("streamlit"), ["run", file, ...options], { env: { HOME: app.work } });
  return app.listening(port);
}

async function open(app) {
  const page = await app.page("/");
  const input = page.locator("input[type=text]");
  return async (text) => {
    await input.fill(text);
    await input.press("Enter");
    await page.getByText(`heard ${text.toUpperCase()}`).waitFor();
  };
}

module.exports = {
  title: "Streamlit",
  did: "a script runs again on an input in Chromium",
  pip: ["streamlit==1.67.0"],
  start,
  open,
};
