// Clients that reconnect by themselves, with the settings that their libraries have for it.
"use strict";
const signalR = require("@microsoft/signalr");
const { createClient } = require("graphql-ws");
const phoenix = require("phoenix");
const ReconnectingWebSocket = require("reconnecting-websocket");
const { io } = require("socket.io-client");
const WebSocket = require("ws");
const { must, wait } = require("./kit.cjs");

// One function per library: connects to an address of reconnect_backend.cjs, and returns a function that
// resolves once the server has answered something that was sent after the call.

function plain(at, Socket) {
  const socket = new ReconnectingWebSocket(`ws://${at}/plain`, [], { WebSocket: Socket });
  let asked = 0;
  return async () => {
    const text = `question ${(asked += 1)}`;
    const answered = new Promise((done) => socket.addEventListener("message", ({ data }) => data === text && done()));
    if (socket.readyState !== WebSocket.OPEN) await new Promise((done) => socket.addEventListener("open", done));
    socket.send(text);
    await answered;
  };
}

function graphql(at, Socket) {
  // In Node a failed attempt is an Error, which the library takes as final; in browsers it is a CloseEvent.
  const shouldRetry = () => true;
  const client = createClient({ url: `ws://${at}/graphql`, webSocketImpl: Socket, shouldRetry });
  let failed = null;
  const waiting = new Set();
  client.subscribe({ query: "subscription { tick }" }, {
    next: () => waiting.forEach((done) => done()),
    error: (error) => (failed = new Error(`the subscription ended: ${error.code || error.message}`)),
    complete: () => (failed = new Error("the subscription ended")),
  });
  // The subscription is not repeated here: the library must do that.
  return async () => {
    const ticked = new Promise((done) => waiting.add(done));
    const polled = (async () => {
      while (!failed) await wait(50);
      throw failed;
    })();
    await Promise.race([ticked, polled]);
  };
}

function socketio(at, Socket, settings) {
  const socket = io(`http://${at}`, { forceNew: true, ...settings });
  return () => new Promise((done) => socket.emit("say", "hello", done));
}

function channels(at, Socket) {
  const socket = new phoenix.Socket(`ws://${at}/phoenix`, { transport: Socket });
  socket.connect();
  const channel = socket.channel("room:lobby");
  channel.join();
  return () => new Promise((done) => channel.push("say", { text: "hello" }, 30000).receive("ok", done));
}

function hub(at, Socket) {
  const connection = new signalR.HubConnectionBuilder()
    .withUrl(`http://${at}/signalr`, { skipNegotiation: true, transport: signalR.HttpTransportType.WebSockets, WebSocket: Socket })
    .withAutomaticReconnect()
    .configureLogging(signalR.LogLevel.None)
    .build();
  const started = connection.start();
  return async () => {
    await started;
    while (connection.state !== signalR.HubConnectionState.Connected) {
      must(connection.state === signalR.HubConnectionState.Reconnecting, `the connection is ${connection.state}`);
      await wait(50);
    }
    must((await connection.invoke("say", "hello")) === "hello", "another answer");
  };
}

module.exports = { "reconnecting-websocket": plain, "graphql-ws": graphql, "socket.io-client": socketio, phoenix: channels, "@microsoft/signalr": hub };
