"use strict";

const SERVER = `
import sys
import gradio

page = gradio.Interface(lambda text: "heard " + text.upper(), "text", "text")
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), quiet=True)
`;

async function open(app) {
  const page = await app.page("/");
  const boxes = page.locator("textarea");
  await boxes.first().waitFor({ timeout: 60000 });
  return async (text) => {
    await boxes.first().fill(text);
    await page.getByRole("button", { name: "Submit" }).click();
    await page.waitForFunction(
      (wanted) => [...document.querySelectorAll("textarea")].some((box) => box.value === wanted),
      `heard ${text.toUpperCase()}`);
  };
}

module.exports = {
  title: "Gradio",
  did: "an interface is submitted in Chromium; its queue answers by server-sent events",
  pip: ["gradio==6.31.0"],
  tunnels: 0,
  start: (app) => {
    process.env.GRADIO_ANALYTICS_ENABLED = "False";
    return app.serve("server.py", SERVER);
  },
  open,
};
