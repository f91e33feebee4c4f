// The clients of close_codes.cjs, and as much of each protocol as the client needs to be connected.
//
// A client has its `name`, the npm `package` if that is another, `serve`, which attaches its protocol to an HTTP
// server, and `open`, which connects to the address of such a server and resolves once the client is
// connected. `setting` is what differs from the defaults.
"use strict";
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const { spawn } = require("child_process");
const { HocuspocusProvider, HocuspocusProviderWebsocket } = require("@hocuspocus/provider");
const nats = require("@nats-io/nats-core");
const { Client: Stomp } = require("@stomp/stompjs");
const { Centrifuge } = require("centrifuge");
const { Client: Colyseus } = require("@colyseus/sdk");
const { Client: ColyseusBefore17 } = require("colyseus.js");
const { JSDOM } = require("jsdom");
const mqtt = require("mqtt");
const natsWs = require("nats.ws");
const { PartySocket } = require("partysocket");
const Pusher = require("pusher-js");
const { Client: Rpc } = require("rpc-websockets");
const WebSocket = require("ws");
const { WebsocketProvider } = require("y-websocket");
const yjs = require("yjs");
const { must } = require("./kit.cjs");
const { attach, endpoint, route } = require("./reconnect_backend.cjs");
const LIBRARIES = require("./reconnect_clients.cjs");

/** Python, with the packages of requirements.txt. */
let python = "python3";
const usePython = (program) => (python = program);

/** As in a browser, an error without a listener is not thrown. */
class Socket extends WebSocket {
  constructor(...settings) {
    super(...settings);
    this.on("error", () => {});
  }
}
// Some libraries look for the browser's class.
globalThis.WebSocket = Socket;

/** A promise, and the functions that settle it. */
function promise() {
  let settle;
  const kept = new Promise((done, fail) => (settle = [done, fail]));
  return [kept, ...settle];
}

/** Resolves at the first event of this name, of an emitter of Node or of a browser. */
const event = (source, name) => new Promise((done) => (source.addEventListener || source.on).call(source, name, done));

// ---- protocols ----

/** What serves every path with one protocol, given by a function of each connection. */
function speak(protocol) {
  const sockets = endpoint(protocol);
  return (server) => route(server, () => sockets);
}

/** What sends a greeting and then `answers`, in which a pattern of a message from the client has its answer. */
const dialogue = (greeting, ...answers) => speak((socket) => {
  if (greeting) socket.send(greeting);
  socket.on("message", (data) => {
    for (const [pattern, answer] of answers) {
      const found = pattern.exec(data.toString("latin1"));
      if (found) socket.send(typeof answer === "function" ? answer(found, data) : answer);
    }
  });
});

const silence = dialogue(null);
// JOIN_ROOM (10), the reconnection token and the serializer, each after its length.
const colyseusRoom = dialogue(Buffer.from("\x0a\x05token\x04none"));
// Authentication (2) of the document has succeeded (2), after which the client may write.
const hocuspocusServer = dialogue(null, [/^\x04room\x02/, Buffer.from("\x04room\x02\x02\x0aread-write")]);
const centrifugo = dialogue(null, [/"id":(\d+)/, ([, id]) =>
  `{"id":${id},"connect":{"client":"one","version":"1","ping":25}}`]);
const pusherServer = dialogue(JSON.stringify({
  event: "pusher:connection_established",
  data: JSON.stringify({ socket_id: "1.1", activity_timeout: 120 }),
}));
const cable = dialogue('{"type":"welcome"}', [/"subscribe"/, (found, data) =>
  JSON.stringify({ type: "confirm_subscription", identifier: JSON.parse(data).identifier })]);
// CONNECT (0x10) is answered with CONNACK.
const mqttBroker = dialogue(null, [/^\x10/, Buffer.from([0x20, 2, 0, 0])]);
const stompBroker = dialogue(null, [/^(CONNECT|STOMP)\n/, "CONNECTED\nversion:1.2\n\n\0"]);
const natsServer = dialogue(
  Buffer.from('INFO {"server_id":"one","version":"2.10.0","proto":1,"headers":true,"max_payload":1048576}\r\n'),
  [/PING\r\n/, Buffer.from("PONG\r\n")],
);

// ---- clients in Node ----

/** A client that reconnect.cjs also uses. */
const known = (name, setting, settings) => ({
  name,
  setting,
  serve: attach,
  open: (at) => LIBRARIES[name](at, Socket, settings)(),
});

async function colyseus(at) {
  const seat = { name: "room", roomId: "one", processId: "two", sessionId: "three" };
  const room = await new Colyseus(`ws://${at}`).consumeSeatReservation(seat);
  room.reconnection.minUptime = 0;
}

function colyseusBefore17(at) {
  const seat = { room: { name: "room", roomId: "one", processId: "two" }, sessionId: "three" };
  return new ColyseusBefore17(`ws://${at}`).consumeSeatReservation(seat);
}

function hocuspocus(at) {
  const websocketProvider = new HocuspocusProviderWebsocket({ url: `ws://${at}`, WebSocketPolyfill: Socket });
  const provider = new HocuspocusProvider({ websocketProvider, name: "room", document: new yjs.Doc(), token: "secret" });
  provider.attach();
  return event(provider, "authenticated");
}

function yWebsocket(at) {
  const [connected, done] = promise();
  const provider = new WebsocketProvider(`ws://${at}`, "room", new yjs.Doc(), { WebSocketPolyfill: Socket });
  provider.on("status", ({ status }) => status === "connected" && done());
  return connected;
}

function centrifuge(at) {
  const client = new Centrifuge(`ws://${at}`, { websocket: Socket });
  client.connect();
  return client.ready();
}

function pusher(at) {
  const [host, port] = at.split(":");
  const address = { wsHost: host, wsPort: port, wssPort: port, forceTLS: false };
  const client = new Pusher("key", { cluster: "", ...address, enabledTransports: ["ws", "wss"], disableStats: true });
  const [connected, done] = promise();
  client.connection.bind("connected", done);
  return connected;
}

const party = (at) => event(new PartySocket({ host: at, room: "one", WebSocket: Socket }), "open");

function stomp(at) {
  const [connected, done] = promise();
  new Stomp({ brokerURL: `ws://${at}`, onConnect: done }).activate();
  return connected;
}

function rpc(at) {
  const client = new Rpc(`ws://${at}`);
  client.on("error", () => {});
  return event(client, "open");
}

// ---- clients that need a browser's window ----

/** What an application's browser has and jsdom does not, as far as htmx needs it. */
function complete(window) {
  window.CSS = { escape: (text) => text.replace(/[^\w-]/g, "\\$&") };
  const expression = Object.getPrototypeOf(window.document.createExpression("*"));
  const { evaluate } = expression;
  expression.evaluate = function (node, type = 0, result = null) {
    return evaluate.call(this, node, type, result);
  };
}

/** What calls `use` with a window in which these scripts have run, the same one each time. */
function inWindow(scripts, use) {
  let window;
  return (at) => {
    if (!window) {
      ({ window } = new JSDOM("", { url: "http://127.0.0.1/", runScripts: "outside-only", pretendToBeVisual: true }));
      complete(window);
      scripts.forEach((script) => window.eval(fs.readFileSync(script, "utf8")));
    }
    return use(window, at);
  };
}

/** The path of a file in a package, whether its `exports` name it or not. */
function file(name) {
  const folder = require.resolve.paths(name).find((each) => fs.existsSync(path.join(each, name)));
  must(folder, `${name} is not installed`);
  return path.join(folder, name);
}

/** An element that htmx connects; `opened` is the event that tells it. */
const htmx = (attribute, opened, ...scripts) => inWindow(scripts.map(file), (window, at) => {
  const element = window.document.createElement("div");
  element.setAttribute("hx-ext", "ws");
  element.setAttribute(attribute, `ws://${at}/`);
  window.document.body.append(element);
  const connected = event(element, opened);
  window.htmx.process(element);
  return connected;
});

const actioncable = inWindow([file("@rails/actioncable/app/assets/javascripts/actioncable.js")], ({ ActionCable }, at) => {
  const [connected, done] = promise();
  ActionCable.ConnectionMonitor.staleThreshold = 1;
  ActionCable.createConsumer(`ws://${at}/cable`).subscriptions.create("Room", { connected: done });
  return connected;
});

const robust = inWindow([file("robust-websocket/robust-websocket.js")], ({ RobustWebSocket }, at) =>
  event(new RobustWebSocket(`ws://${at}/`), "open"));

// ---- clients in Python ----

/** The clients of close_codes.py under this name, in one process. */
function inPython(name) {
  let program;
  const waiting = new Map();
  return (at) => {
    if (!program) {
      program = spawn(python, [path.join(__dirname, "close_codes.py"), name], { stdio: ["pipe", "pipe", "inherit"] });
      readline.createInterface({ input: program.stdout }).on("line", (line) => waiting.get(line).done());
      program.on("exit", (code) => waiting.forEach(({ fail }) => fail(new Error(`close_codes.py ended with ${code}`))));
    }
    const [connected, done, fail] = promise();
    waiting.set(at, { done, fail });
    program.stdin.write(`${at}\n`);
    return connected;
  };
}

const CLIENTS = [
  { name: "@colyseus/sdk", setting: "`reconnection.minUptime = 0`", serve: colyseusRoom, open: colyseus },
  { name: "@hocuspocus/provider", serve: hocuspocusServer, open: hocuspocus },
  known("@microsoft/signalr", "`withAutomaticReconnect()`"),
  { name: "@nats-io/nats-core", serve: natsServer, open: (at) => nats.wsconnect({ servers: `ws://${at}` }) },
  { name: "@rails/actioncable", setting: "`staleThreshold = 1`", serve: cable, open: actioncable },
  { name: "@stomp/stompjs", serve: stompBroker, open: stomp },
  { name: "centrifuge", serve: centrifugo, open: centrifuge },
  { name: "colyseus.js", serve: colyseusRoom, open: colyseusBefore17 },
  known("graphql-ws"),
  {
    name: "htmx 1",
    package: "htmx-1",
    setting: "`ext/ws.js`",
    serve: silence,
    open: htmx("ws-connect", "htmx:wsOpen", "htmx-1/dist/htmx.js", "htmx-1/dist/ext/ws.js"),
  },
  {
    name: "htmx-ext-ws",
    setting: "with htmx 2",
    serve: silence,
    open: htmx("ws-connect", "htmx:wsOpen", "htmx-2/dist/htmx.js", "htmx-ext-ws/ws.js"),
  },
  {
    name: "htmx 4",
    package: "htmx-4",
    setting: "`ext/hx-ws.js`",
    serve: silence,
    open: htmx("hx-ws:connect", "htmx:ws:after:connection", "htmx-4/dist/htmx.js", "htmx-4/dist/ext/hx-ws.js"),
  },
  { name: "mqtt", serve: mqttBroker, open: (at) => event(mqtt.connect(`ws://${at}`), "connect") },
  { name: "nats.ws", serve: natsServer, open: (at) => natsWs.connect({ servers: `ws://${at}` }) },
  {
    name: "paho-mqtt (Python)",
    package: "paho-mqtt",
    setting: '`transport="websockets"`',
    serve: mqttBroker,
    open: inPython("paho-mqtt"),
  },
  { name: "partysocket", serve: silence, open: party },
  known("phoenix"),
  { name: "pusher-js", serve: pusherServer, open: pusher },
  known("reconnecting-websocket"),
  { name: "robust-websocket", serve: silence, open: robust },
  { name: "rpc-websockets", serve: silence, open: rpc },
  known("socket.io-client", '`transports: ["websocket"]`', { transports: ["websocket"] }),
  {
    name: "websockets (Python)",
    package: "websockets",
    setting: "`async for … in connect(…)`",
    serve: silence,
    open: inPython("websockets"),
  },
  { name: "y-websocket", serve: silence, open: yWebsocket },
];

module.exports = { CLIENTS, usePython };
