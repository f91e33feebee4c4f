"use strict";
const { must, until } = require("../lib/app.cjs");

async function start(app) {
  const [port, plain] = [await app.port(), await app.port()];
  const settings = `listen: "127.0.0.1:${plain}"\nwebsocket { listen: "127.0.0.1:${port}", no_tls: true }\n`;
  app.start("nats-server", ["-c", app.write("nats.conf", settings)]);
  return app.listening(port);
}

async function open(app) {
  globalThis.WebSocket ||= require("ws");
  const { wsconnect } = app.require("@nats-io/nats-core");
  const connect = () => wsconnect({ servers: app.wss, reconnect: false });
  const [subscriber, publisher] = [await connect(), await connect()];
  const heard = [];
  subscriber.subscribe("tide.*", { callback: (error, message) => heard.push(message.string()) });
  subscriber.subscribe("ask", { callback: (error, message) => message.respond(`heard ${message.string()}`) });
  await subscriber.flush();
  return async (text) => {
    publisher.publish("tide.level", text);
    await until(() => heard.includes(text), `the subscriber has ${text}`);
    const answer = (await publisher.request("ask", text, { timeout: 5000 })).string();
    must(answer === `heard ${text}`, `the answer was ${answer}`);
  };
}

module.exports = {
  title: "NATS",
  did: "a publication and a request between two clients",
  debian: { "nats-server": "/usr/sbin/nats-server" },
  npm: ["@nats-io/nats-core@3.4.0"],
  tunnels: 2,
  start,
  open,
};
