// An echo backend on Node `ws`. Prints `listening PORT`, then serves until it is ended.
//
// Echoes everything, except that texts starting with `!` are commands, the same ones as in
// backend.py, so that every client works with either.
"use strict";
const http = require("http");
const { WebSocketServer } = require("ws");

// How connections ended, by the tag in their query; a later connection reads them.
const ends = new Map();
const wait = (time) => new Promise((done) => setTimeout(done, time));

async function obey(socket, request, order) {
  const [, verb, rest] = /^!(\S+) ?([^]*)$/.exec(order);
  if (verb === "close") {
    const [, code, reason] = /^(\d+) ?(.*)$/.exec(rest);
    socket.close(Number(code), reason);
  } else if (verb === "facts") {
    socket.send(JSON.stringify({
      subprotocol: socket.protocol || null,
      extensions: request.agreed || "",
      target: request.url,
      host: request.headers.host,
      headers: request.headers,
      pings: socket.pings,
    }));
  } else if (verb === "fragments") {
    const parts = rest.match(/.{1,3}/g);
    parts.forEach((part, index) => socket.send(part, { fin: index === parts.length - 1 }));
  } else if (verb === "ping") {
    socket.once("pong", (data) => {
      if (data.toString() === rest) socket.send("ponged");
    });
    socket.ping(rest);
  } else if (verb === "pause") {
    // Nothing more is read.
    socket.pause();
  } else if (verb === "ended") {
    for (let tries = 0; tries < 60 && !ends.has(rest); tries += 1) await wait(50);
    socket.send(JSON.stringify(ends.get(rest) || null));
  }
}

const server = http.createServer((request, response) => {
  if (request.method === "POST") return request.pipe(response);
  if (request.method === "PUT") return request.resume().on("end", () => response.end());
  const length = Number(new URL(request.url, "http://any").searchParams.get("bytes"));
  if (length > 0) return response.end(Buffer.alloc(length));
  response.setHeader("Content-Type", "text/plain");
  response.end("a page of the application\n");
});
// Compression parameters from `terms` in the query, or else the library's defaults.
const TERMS = {
  none: false,
  plain: {},
  "server-no-takeover": { serverNoContextTakeover: true },
  "client-no-takeover": { clientNoContextTakeover: true },
  "both-no-takeover": { serverNoContextTakeover: true, clientNoContextTakeover: true },
  narrow: { serverMaxWindowBits: 10, clientMaxWindowBits: 10 },
};
const made = new Map();

/** The server for what the query asks for; a `deaf` one answers no pings. */
function serverFor(query) {
  const [terms, deaf] = [query.get("terms") || "plain", query.has("deaf")];
  const key = `${terms} ${deaf}`;
  if (!made.has(key)) {
    const sockets = new WebSocketServer({
      noServer: true,
      maxPayload: 16 << 20,
      autoPong: !deaf,
      perMessageDeflate: TERMS[terms] && { threshold: 0, ...TERMS[terms] },
      handleProtocols: (offered) => (offered.has("chat.v2") ? "chat.v2" : false),
    });
    sockets.on("headers", (lines, request) => {
      const line = lines.find((header) => /^sec-websocket-extensions:/i.test(header)) || "";
      request.agreed = line.replace(/^[^:]*: */, "");
    });
    made.set(key, sockets);
  }
  return made.get(key);
}

server.on("upgrade", (request, stream, head) => {
  const url = new URL(request.url, "http://any");
  if (url.pathname.endsWith("/deny")) {
    stream.end("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"app\"\r\nContent-Length: 7\r\nConnection: close\r\n\r\nnot you");
    return;
  }
  serverFor(url.searchParams).handleUpgrade(request, stream, head, (socket) => {
    socket.pings = 0;
    socket.on("ping", () => (socket.pings += 1));
    socket.on("error", () => {});
    socket.on("close", (code, reason) => {
      const tag = url.searchParams.get("tag");
      if (tag) ends.set(tag, { code, reason: reason.toString() });
    });
    socket.on("message", (data, binary) => {
      const text = binary ? "" : data.toString();
      if (text.startsWith("!")) obey(socket, request, text);
      else socket.send(data, { binary });
    });
  });
});
server.listen(0, "127.0.0.1", () => console.log("listening", server.address().port));
