"use strict";
const input = require("../lib/input.cjs");

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

module.exports = {
  title: "Streamlit",
  did: "a script runs again on an input in Chromium",
  pip: ["streamlit==1.67.0"],
  start,
  open: (app) => input.open(app),
};
