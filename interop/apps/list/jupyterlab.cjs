"use strict";
const CELL = (source = "") => ({ cell_type: "code", source, metadata: {}, outputs: [], execution_count: null, id: "one" });
const NOTEBOOK = {
  nbformat: 4,
  nbformat_minor: 5,
  metadata: { kernelspec: { name: "python3", display_name: "Python 3", language: "python" } },
  cells: [CELL()],
};

async function start(app) {
  const port = await app.port();
  app.write("notebooks/tide.ipynb", JSON.stringify(NOTEBOOK));
  const folders = ["HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"];
  const env = Object.fromEntries(folders.map((name) => [name, app.work]));
  app.start(app.bin("jupyter-lab"), [
    "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", `--ServerApp.port=${port}`, "--ServerApp.port_retries=0",
    "--ServerApp.allow_remote_access=True", "--IdentityProvider.token=interop", `--ServerApp.root_dir=${app.work}/notebooks`,
  ], { env });
  return app.listening(port);
}

async function open(app) {
  const page = await app.page("/lab/tree/tide.ipynb?token=interop");
  await page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first().waitFor({ timeout: 90000 });
  return async (text) => {
    await page.locator(".jp-Notebook .jp-CodeCell .cm-content").last().click();
    await page.keyboard.type(`print("tide " + "${text}"[::-1])`);
    await page.keyboard.press("Shift+Enter");
    const reversed = [...text].reverse().join("");
    await page.locator(`.jp-OutputArea-output:has-text("tide ${reversed}")`).first().waitFor();
  };
}

module.exports = {
  title: "JupyterLab",
  did: "cells of a notebook are run in Chromium",
  settings: "`ServerApp.allow_remote_access`",
  pip: ["jupyterlab==4.6.6"],
  start,
  open,
};
