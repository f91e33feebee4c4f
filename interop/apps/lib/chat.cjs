// A chat between two users in Chromium, for frameworks that bring no application of their own.
"use strict";
const { must } = require("./app.cjs");

const PAGE = `<!doctype html>
<title>chat</title>
<input id="say"><span id="state"></span><ul id="heard"></ul>
<script>
const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
const state = document.getElementById("state");
socket.onopen = () => (state.textContent = "open");
socket.onclose = (event) => (state.textContent = "closed with " + event.code);
socket.onmessage = ({ data }) => {
  const line = document.createElement("li");
  line.textContent = data;
  document.getElementById("heard").append(line);
};
document.getElementById("say").onchange = ({ target }) => socket.send(target.value);
</script>
`;

/** A server that serves chat.html at / and the chat at /ws. */
async function serve(app, name, source) {
  app.write("chat.html", PAGE);
  return app.serve(name, source);
}

async function open(app) {
  const pages = [await app.page("/"), await app.page("/")];
  for (const page of pages) await page.waitForFunction(() => document.getElementById("state").textContent === "open");
  return async (text) => {
    for (const [number, page] of pages.entries()) {
      const said = `${text} of user ${number}`;
      await page.fill("#say", said);
      await page.press("#say", "Enter");
      for (const other of pages) {
        await other.locator(`#heard >> text="${said}"`).first().waitFor();
        must((await other.innerText("#state")) === "open", await other.innerText("#state"));
      }
    }
  };
}

module.exports = { did: "a chat between two users in Chromium", open, serve, tunnels: 2 };
