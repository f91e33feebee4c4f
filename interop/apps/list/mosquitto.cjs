"use strict";
const mqtt = require("../lib/mqtt.cjs");

async function start(app) {
  const [port, plain] = [await app.port(), await app.port()];
  // With no listener but one for WebSockets it ends.
  const listeners = [`listener ${plain} 127.0.0.1`, `listener ${port} 127.0.0.1`, "protocol websockets"];
  const settings = [...listeners, "allow_anonymous true", "user root"];
  app.start("mosquitto", ["-c", app.write("mosquitto.conf", settings.join("\n"))]);
  return app.listening(port);
}

module.exports = {
  ...mqtt,
  title: "Eclipse Mosquitto",
  debian: { mosquitto: "/usr/sbin/mosquitto" },
  npm: [mqtt.PACKAGE],
  start,
  open: (app) => mqtt.open(app),
};
