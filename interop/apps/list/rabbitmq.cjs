"use strict";
const { until } = require("../lib/app.cjs");

const BIN = "/usr/lib/rabbitmq/bin";

async function start(app) {
  const [epmd, amqp, port, distribution] = [await app.port(), await app.port(), await app.port(), await app.port()];
  const settings = ["web_stomp.tcp.ip = 127.0.0.1", `web_stomp.tcp.port = ${port}`, "stomp.listeners.tcp = none", ""];
  const env = {
    ERL_EPMD_PORT: epmd,
    ERL_EPMD_ADDRESS: "127.0.0.1",
    HOME: app.work,
    RABBITMQ_NODENAME: "interop@localhost",
    RABBITMQ_NODE_PORT: amqp,
    RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1",
    RABBITMQ_DIST_PORT: distribution,
    RABBITMQ_MNESIA_BASE: `${app.work}/data`,
    RABBITMQ_LOG_BASE: `${app.work}/log`,
    RABBITMQ_PID_FILE: `${app.work}/pid`,
    RABBITMQ_CONF_ENV_FILE: app.write("rabbitmq-env.conf", ""),
    RABBITMQ_CONFIG_FILE: app.write("rabbitmq.conf", settings.join("\n")),
    RABBITMQ_ENABLED_PLUGINS_FILE: app.write("enabled_plugins", "[rabbitmq_web_stomp].\n"),
  };
  // Otherwise the broker starts one that outlives it.
  await app.listening(epmd, app.start("epmd", ["-port", epmd, "-address", "127.0.0.1"], { name: "epmd" }));
  app.start(`${BIN}/rabbitmq-server`, [], { env });
  return app.listening(port);
}

function connect(app) {
  globalThis.WebSocket ||= require("ws");
  const { Client } = app.require("@stomp/stompjs");
  const client = new Client({
    brokerURL: `${app.wss}/ws`,
    connectHeaders: { login: "guest", passcode: "guest" },
    reconnectDelay: 0,
  });
  client.heard = [];
  client.onConnect = () => {
    // The broker confirms the subscription: it may deliver nothing that was published before.
    client.watchForReceipt("subscribed", () => (client.subscribed = true));
    client.subscribe("/topic/tide", ({ body }) => client.heard.push(body), { receipt: "subscribed" });
  };
  client.activate();
  return client;
}

async function open(app) {
  const clients = [connect(app), connect(app)];
  await until(() => clients.every((client) => client.subscribed), "both clients have subscribed");
  return async (text) => {
    for (const [number, client] of clients.entries()) {
      const said = `${text} of client ${number}`;
      client.publish({ destination: "/topic/tide", body: said });
      await until(() => clients.every((other) => other.heard.includes(said)), `both have heard ${said}`);
    }
  };
}

module.exports = {
  title: "RabbitMQ (web STOMP)",
  did: "STOMP.js publishes and subscribes, with STOMP's heartbeats",
  debian: { "rabbitmq-server": `${BIN}/rabbitmq-server` },
  npm: ["@stomp/stompjs@7.5.0"],
  tunnels: 2,
  start,
  open,
};
