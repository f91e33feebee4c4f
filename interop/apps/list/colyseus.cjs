"use strict";
const { until } = require("../lib/app.cjs");

const SERVER = `
const { Room, Server } = require("@colyseus/core");
const { WebSocketTransport } = require("@colyseus/ws-transport");
const { schema, t } = require("@colyseus/schema");

const State = schema({ said: t.map("string") }, "State");

class Chat extends Room {
  onCreate() {
    this.state = new State();
    this.onMessage("say", (client, text) => this.state.said.set(client.sessionId, text));
  }
}

const server = new Server({ transport: new WebSocketTransport(), greet: false });
server.define("chat", Chat);
server.listen(Number(process.argv[2]), "127.0.0.1");
`;

async function open(app) {
  globalThis.WebSocket ||= require("ws");
  const { Client } = await app.import("@colyseus/sdk");
  const join = () => new Client(app.https).joinOrCreate("chat");
  const rooms = [await join(), await join()];
  return async (text) => {
    for (const room of rooms) {
      const said = `${text} of ${room.sessionId}`;
      room.send("say", said);
      const known = (other) => other.state.said?.get(room.sessionId) === said;
      await until(() => rooms.every(known), `the state of both has ${said}`);
    }
  };
}

module.exports = {
  title: "Colyseus",
  did: "the state of a room syncs between two players",
  npm: ["@colyseus/core@0.18.17", "@colyseus/ws-transport@0.18.4", "@colyseus/schema@5.0.8", "@colyseus/sdk@0.18.4"],
  tunnels: 2,
  start: (app) => app.serve("server.cjs", SERVER),
  open,
};
