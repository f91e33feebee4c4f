// An input in Chromium, which a program answers on the same page.
"use strict";

/** A round enters a text in the first input that `selector` finds, and waits for `heard` and the text in capitals. */
async function open(app, target = "/", selector = "input[type=text]") {
  const page = await app.page(target);
  const input = page.locator(selector);
  return async (text) => {
    await input.fill(text);
    await input.press("Enter");
    await page.getByText(`heard ${text.toUpperCase()}`).waitFor();
  };
}

module.exports = { open };
