// How Node reads request targets: listens on the port of its argument and answers each request with its
// readings as JSON, one for each usual way of getting a path from `req.url`.
const http = require("node:http");
const url = require("node:url");

const attempt = (read) => {
  try {
    return read();
  } catch {
    return null;
  }
};

const server = http.createServer((request, response) => {
  const target = request.url;
  const parsed = attempt(() => new URL(target, "http://localhost").pathname);
  const readings = {
    "new URL(req.url, base)": parsed,
    "new URL(base + req.url)": attempt(() => new URL("http://localhost" + target).pathname),
    "url.parse(req.url)": attempt(() => url.parse(target).pathname),
    "url.parse(req.url, false, true)": attempt(() => url.parse(target, false, true).pathname),
    "decodeURIComponent(new URL)": attempt(() => decodeURIComponent(parsed)),
    "path.normalize(decodeURIComponent)": attempt(() =>
      require("node:path").posix.normalize(decodeURIComponent(target.split("?")[0]))),
    "path.win32.normalize": attempt(() =>
      require("node:path").win32.normalize(decodeURIComponent(target.split("?")[0])).replaceAll("\\", "/")),
    "unescape": unescape(target.split("?")[0]),
  };
  response.end(JSON.stringify(readings));
});
server.listen(Number(process.argv[2]), "127.0.0.1");
