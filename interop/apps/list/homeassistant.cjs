"use strict";
const { until } = require("../lib/app.cjs");

const settings = (port) => `
homeassistant:
  name: Tide
  time_zone: UTC
http:
  server_host: 127.0.0.1
  server_port: ${port}
  use_x_forwarded_for: true
  trusted_proxies: [127.0.0.1]
api:
websocket_api:
input_text:
  said:
    name: Said
`;

async function start(app) {
  const port = await app.port();
  app.write("configuration.yaml", settings(port));
  const hass = app.bin("hass");
  await app.run(hass, ["--config", app.work, "--script", "auth", "--config", app.work, "add", "tide", "secret"]);
  app.start(hass, ["--config", app.work, "--skip-pip"]);
  return app.listening(port);
}

/** What the login page does. */
async function login(app) {
  const post = async (target, body) => {
    const response = await fetch(app.https + target, { method: "POST", body });
    return response.json();
  };
  const client_id = `${app.https}/`;
  const handler = ["homeassistant", null];
  const flow = await post("/auth/login_flow", JSON.stringify({ client_id, handler, redirect_uri: client_id }));
  const filled = JSON.stringify({ client_id, username: "tide", password: "secret" });
  const { result } = await post(`/auth/login_flow/${flow.flow_id}`, filled);
  const token = { grant_type: "authorization_code", code: result, client_id };
  return (await post("/auth/token", new URLSearchParams(token))).access_token;
}

async function open(app) {
  globalThis.WebSocket ||= require("ws");
  const { callService, createConnection, createLongLivedTokenAuth, subscribeEntities } = await app.import("home-assistant-js-websocket");
  const auth = createLongLivedTokenAuth(app.https, await login(app));
  const connection = await createConnection({ auth });
  let state = null;
  subscribeEntities(connection, (entities) => (state = entities["input_text.said"]?.state));
  return async (text) => {
    await callService(connection, "input_text", "set_value", { entity_id: "input_text.said", value: text });
    await until(() => state === text, `the entity's state is ${text}`);
  };
}

module.exports = {
  title: "Home Assistant",
  did: "its JavaScript client calls a service and sees the entity change",
  settings: "`http.use_x_forwarded_for` and `http.trusted_proxies`",
  // The newest that runs on Python 3.11, with what it would install at its first start.
  pip: [
    "homeassistant==2024.3.3", "home-assistant-frontend==20240307.0", "aiohttp_cors==0.7.0", "aiohttp-fast-url-dispatcher==0.3.0",
    "aiohttp-zlib-ng==0.3.1", "janus==1.0.0", "Pillow==10.2.0", "psutil-home-assistant==0.0.1", "securetar==2024.2.1",
    "SQLAlchemy==2.0.27", "josepy==1.15.0", "fnv-hash-fast==0.5.0",
  ],
  npm: ["home-assistant-js-websocket@9.7.0"],
  start,
  open,
};
