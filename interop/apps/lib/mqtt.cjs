// A subscriber and a publisher of MQTT.js, for the brokers.
"use strict";
const { must, until } = require("./app.cjs");

const PACKAGE = "mqtt@5.16.0";

/** Connects both at `path`; a round is a message with each quality of service. */
async function open(app, path = "/", options = {}) {
  const mqtt = app.require("mqtt");
  const connect = (clientId) => mqtt.connectAsync(app.wss + path, { clientId, reconnectPeriod: 0, ...options });
  const [subscriber, publisher] = [await connect("subscriber"), await connect("publisher")];
  const heard = [];
  subscriber.on("message", (topic, text) => heard.push(text.toString()));
  await subscriber.subscribeAsync("tide/#", { qos: 2 });
  return async (text) => {
    for (const qos of [0, 1, 2]) await publisher.publishAsync("tide/level", `${text} ${qos}`, { qos });
    await until(() => heard.length >= 3, "the subscriber has three messages");
    must(heard.splice(0).join() === [0, 1, 2].map((qos) => `${text} ${qos}`).join(), "other messages came");
  };
}

module.exports = { PACKAGE, did: "MQTT.js publishes and subscribes, with each quality of service", open, tunnels: 2 };
