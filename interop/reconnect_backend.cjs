// The backends of reconnect.cjs in one process: reconnect_backend.cjs PORT. Prints `listening PORT`.
// close_codes.cjs serves them within its own process.
//
// Socket.IO and GraphQL (graphql-ws) with their own servers; plain echo, Phoenix channels and SignalR
// are spoken here, as far as the clients need them to join, to call and to be answered. SIGTERM ends
// the process without a Close, as many applications end.
"use strict";
const http = require("http");
const { GraphQLObjectType, GraphQLSchema, GraphQLString } = require("graphql");
const { useServer } = require("graphql-ws/use/ws");
const { Server } = require("socket.io");
const { WebSocketServer } = require("ws");

const wait = (time) => new Promise((done) => setTimeout(done, time));

/** A WebSocket server for one path, which calls `serve` with each connection. */
function endpoint(serve) {
  const sockets = new WebSocketServer({ noServer: true });
  sockets.on("connection", (socket) => {
    socket.on("error", () => {});
    serve(socket);
  });
  return sockets;
}

const plain = endpoint((socket) => socket.on("message", (data) => socket.send(data.toString())));

// https://hexdocs.pm/phoenix/writing_a_channels_client.html: [join_ref, ref, topic, event, payload].
const phoenix = endpoint((socket) =>
  socket.on("message", (data) => {
    const [join, ref, topic, , payload] = JSON.parse(data);
    socket.send(JSON.stringify([join, ref, topic, "phx_reply", { status: "ok", response: payload }]));
  }));

// The JSON hub protocol: a handshake, then invocations (1), completions (3) and pings (6), each
// followed by the byte 0x1e.
const signalr = endpoint((socket) => {
  const send = (message) => socket.send(JSON.stringify(message) + "\x1e");
  let pings;
  socket.on("close", () => clearInterval(pings));
  socket.on("message", (data) => {
    for (const text of data.toString().split("\x1e").filter(Boolean)) {
      const message = JSON.parse(text);
      if (message.protocol) {
        send({});
        pings = setInterval(() => send({ type: 6 }), 1000);
      }
      if (message.type === 1) send({ type: 3, invocationId: message.invocationId, result: message.arguments[0] });
    }
  });
});

const graphql = new WebSocketServer({ noServer: true });
useServer({
  schema: new GraphQLSchema({
    query: new GraphQLObjectType({ name: "Query", fields: { any: { type: GraphQLString } } }),
    subscription: new GraphQLObjectType({
      name: "Subscription",
      fields: {
        tick: {
          type: GraphQLString,
          async *subscribe() {
            for (;;) {
              yield { tick: "tick" };
              await wait(100);
            }
          },
        },
      },
    }),
  }),
}, graphql);

const PATHS = { "/plain": plain, "/phoenix/websocket": phoenix, "/signalr": signalr, "/graphql": graphql };

/** Routes the upgrades of a server to what `choose` returns for the path. */
function route(server, choose) {
  server.on("upgrade", (request, stream, head) => {
    const sockets = choose(request.url.split("?")[0]);
    if (sockets) sockets.handleUpgrade(request, stream, head, (socket) => sockets.emit("connection", socket, request));
  });
}

/** Serves all five on an HTTP server. */
function attach(server) {
  route(server, (path) => PATHS[path]);
  new Server(server, { destroyUpgrade: false }).on("connection", (socket) => socket.on("say", (text, told) => told(text)));
}

if (require.main === module) {
  const server = http.createServer((request, response) => response.writeHead(404).end());
  attach(server);
  process.on("SIGTERM", () => process.exit(0));
  server.listen(Number(process.argv[2]), "127.0.0.1", () => console.log("listening", server.address().port));
}

module.exports = { attach, endpoint, route };
