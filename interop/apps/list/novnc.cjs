"use strict";
const fs = require("fs");
const path = require("path");
const { until } = require("../lib/app.cjs");

/** A screen with a terminal on it, a VNC server, and websockify in front of that. */
async function start(app) {
  const [vnc, port] = [await app.port(), await app.port()];
  const env = { DISPLAY: `:${1000 + (vnc % 1000)}`, HOME: app.work };
  const screen = ["-geometry", "640x480", "-depth", "24", "-SecurityTypes", "None", "-localhost", "-rfbport", vnc];
  await app.listening(vnc, app.start("Xtigervnc", [env.DISPLAY, ...screen], { name: "vnc", env }));
  app.paint = (color) => app.run("xsetroot", ["-solid", color], { env });
  app.start("xterm", ["-geometry", "80x20+0+0"], { name: "xterm", env });
  app.start("websockify", ["--web", "/usr/share/novnc", `127.0.0.1:${port}`, `127.0.0.1:${vnc}`]);
  return app.listening(port);
}

/** Runs in the page: the color of a pixel of the screen outside of the terminal. */
function pixel() {
  const canvas = document.querySelector("#noVNC_container canvas");
  return [...canvas.getContext("2d").getImageData(630, 470, 1, 1).data].slice(0, 3).join();
}

async function open(app) {
  const page = await app.page("/vnc.html?autoconnect=true&path=websockify");
  await page.locator("#noVNC_container canvas").waitFor();
  const colors = [["#123456", "18,52,86"], ["#ff8800", "255,136,0"], ["#00aa44", "0,170,68"], ["#8844cc", "136,68,204"]];
  return async (text) => {
    const [color, wanted] = colors.shift();
    await app.paint(color);
    await until(async () => (await page.evaluate(pixel)) === wanted, `the canvas shows ${color}`);
    await page.locator("#noVNC_container canvas").click({ position: { x: 100, y: 100 } });
    await page.keyboard.type(`echo > ${text}\n`, { delay: 20 });
    await until(() => fs.existsSync(path.join(app.work, text)), "the terminal on the screen has run a command");
  };
}

module.exports = {
  title: "noVNC on websockify and TigerVNC",
  did: "a desktop is seen in Chromium, and a command typed into its terminal",
  debian: {
    novnc: "/usr/share/novnc/vnc.html",
    websockify: "/usr/bin/websockify",
    "tigervnc-standalone-server": "/usr/bin/Xtigervnc",
    xterm: "/usr/bin/xterm",
    "x11-xserver-utils": "/usr/bin/xsetroot",
  },
  start,
  open,
};
