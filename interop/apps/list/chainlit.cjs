"use strict";

const SCRIPT = `
import chainlit

@chainlit.on_message
async def answer(message):
    await chainlit.Message("heard " + message.content.upper()).send()
`;

async function start(app) {
  const port = await app.port();
  const file = app.write("script.py", SCRIPT);
  const env = { HOME: app.work, CHAINLIT_APP_ROOT: app.work };
  app.start(app.bin("chainlit"), ["run", file, "--headless", "--host", "127.0.0.1", "--port", port], { env });
  return app.listening(port);
}

async function open(app) {
  const page = await app.page("/");
  return async (text) => {
    await page.locator("#chat-input").click();
    await page.keyboard.type(text);
    await page.keyboard.press("Enter");
    await page.getByText(`heard ${text.toUpperCase()}`).waitFor();
  };
}

module.exports = {
  title: "Chainlit",
  did: "messages of a chat are answered in Chromium",
  pip: ["chainlit==2.12.0"],
  start,
  open,
};
