"use strict";

const FLOW = [
  { id: "tab", type: "tab", label: "tide" },
  {
    id: "source", type: "http in", z: "tab", url: "/say/:text", method: "get",
    x: 100, y: 60, wires: [["shown", "answer"]],
  },
  {
    id: "shown", type: "debug", z: "tab", active: true, tosidebar: true, complete: "req.params.text", targetType: "msg",
    x: 300, y: 60, wires: [],
  },
  { id: "answer", type: "http response", z: "tab", x: 300, y: 120, wires: [] },
];
const SETTINGS = "module.exports = { uiHost: '127.0.0.1', editorTheme: { tours: false }, telemetry: { enabled: false } };\n";

async function start(app) {
  const port = await app.port();
  app.write("flow.json", JSON.stringify(FLOW));
  const settings = app.write("settings.js", SETTINGS);
  const args = [app.bin("node-red"), "--userDir", app.work, "--settings", settings, "--port", port, "flow.json"];
  app.start(process.execPath, args);
  return app.listening(port);
}

async function open(app) {
  const page = await app.page("/");
  await page.locator("#red-ui-header-button-deploy").waitFor();
  await page.locator("#red-ui-loading-progress").waitFor({ state: "hidden" });
  await page.evaluate(() => window.RED.sidebar.show("debug"));
  return async (text) => {
    await fetch(`${app.https}/say/${text}`);
    await page.locator(`.red-ui-debug-msg-payload:has-text("${text}")`).first().waitFor();
  };
}

module.exports = {
  title: "Node-RED",
  did: "a flow's messages appear in the editor's debug view in Chromium",
  npm: ["node-red@4.1.8"],
  start,
  open,
};
