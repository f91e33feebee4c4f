"use strict";
const { must, until } = require("../lib/app.cjs");

const SERVER = `
const http = require("http");
const { EventEmitter, on } = require("events");
const { initTRPC } = require("@trpc/server");
const { applyWSSHandler } = require("@trpc/server/adapters/ws");
const { WebSocketServer } = require("ws");

const { procedure, router } = initTRPC.create();
const topics = new EventEmitter();
const calls = router({
  say: procedure.input(String).mutation(({ input }) => topics.emit("said", input)),
  said: procedure.subscription(async function* ({ signal }) {
    for await (const [text] of on(topics, "said", { signal })) yield text;
  }),
});
const server = http.createServer();
applyWSSHandler({ wss: new WebSocketServer({ server }), router: calls, keepAlive: { enabled: true } });
server.listen(Number(process.argv[2]), "127.0.0.1");
`;

async function open(app) {
  const { createTRPCClient, createWSClient, wsLink } = app.require("@trpc/client");
  const heard = [];
  const [subscriber, publisher] = [0, 1].map(() => {
    const client = createWSClient({ url: app.wss, WebSocket: require("ws"), retryDelayMs: () => 3600000 });
    return createTRPCClient({ links: [wsLink({ client })] });
  });
  await new Promise((onStarted, onError) => {
    const onData = (text) => heard.push(text);
    subscriber.said.subscribe(undefined, { onStarted, onError, onData });
  });
  return async (text) => {
    must((await publisher.say.mutate(text)) === true, "the mutation had no subscriber");
    await until(() => heard.includes(text), `the subscription has got ${text}`);
  };
}

module.exports = {
  title: "tRPC",
  did: "a subscription gets what another client's mutations publish",
  npm: ["@trpc/server@11.25.2", "@trpc/client@11.25.2", "ws@8.23.0"],
  tunnels: 2,
  start: (app) => app.serve("server.cjs", SERVER),
  open,
};
