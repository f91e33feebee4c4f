"use strict";
const { until } = require("../lib/app.cjs");

const SERVER = `
const http = require("http");
const { createPubSub, createSchema, createYoga } = require("graphql-yoga");
const { useServer } = require("graphql-ws/use/ws");
const { WebSocketServer } = require("ws");

const topics = createPubSub();
const schema = createSchema({
  typeDefs: "type Query { ok: Boolean } type Mutation { say(text: String!): Boolean } type Subscription { said: String }",
  resolvers: {
    Mutation: { say: (_, { text }) => { topics.publish("said", text); return true; } },
    Subscription: { said: { subscribe: () => topics.subscribe("said"), resolve: (text) => text } },
  },
});
const server = http.createServer(createYoga({ schema }));
useServer({ schema }, new WebSocketServer({ server, path: "/graphql" }));
server.listen(Number(process.argv[2]), "127.0.0.1");
`;

async function open(app) {
  const { createClient } = app.require("graphql-ws");
  const client = createClient({ url: `${app.wss}/graphql`, webSocketImpl: require("ws"), retryAttempts: 0, lazy: false });
  const heard = [];
  let failed = null;
  client.subscribe({ query: "subscription { said }" }, {
    next: ({ data }) => heard.push(data.said),
    error: (error) => (failed = error),
    complete: () => {},
  });
  const headers = { "content-type": "application/json" };
  const say = (text) => fetch(`${app.https}/graphql`, {
    method: "POST",
    headers,
    body: JSON.stringify({ query: "mutation ($text: String!) { say(text: $text) }", variables: { text } }),
  });
  return (text) => until(async () => {
    if (failed) throw failed;
    await say(text);
    return heard.includes(text);
  }, `the subscription has got ${text}`);
}

module.exports = {
  title: "GraphQL Yoga",
  did: "a subscription of graphql-ws gets what mutations by HTTP publish",
  quick: true,
  npm: ["graphql-yoga@5.24.1", "graphql@16.11.0", "graphql-ws@6.4.2", "ws@8.23.0"],
  start: (app) => app.serve("server.cjs", SERVER),
  open,
};
