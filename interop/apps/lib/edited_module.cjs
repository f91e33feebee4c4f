// A module that a development server replaces in Chromium when its file changes.
"use strict";
const { must } = require("./app.cjs");

/** The page; `script` is the attributes of its script. */
const page = (script) => `<!doctype html><p id="shown"></p><script ${script}></script>`;

/** The module; `hot` is what the server gives it. */
const source = (text, hot) => `
document.getElementById("shown").textContent = ${JSON.stringify(text)};
${hot}.accept();
`;

/** A round writes the module to `file` with another text. The page must not be loaded again. */
async function open(app, file, hot) {
  const shown = await app.page("/");
  await shown.locator('#shown >> text="nothing"').waitFor();
  await shown.evaluate(() => (window.loaded = "once"));
  return async (text) => {
    app.write(file, source(text, hot));
    await shown.locator(`#shown >> text="${text}"`).waitFor();
    must((await shown.evaluate(() => window.loaded)) === "once", "the page was loaded again");
  };
}

module.exports = { did: "an edited module is replaced in Chromium without loading the page again", open, page, source };
