// tidegate in front of one application: its defaults, one route, and the backends.
"use strict";
const fs = require("fs");
const path = require("path");
const { CACHE } = require("./install.cjs");
const { HOST, must, until } = require("./app.cjs");

// Ends that are the application's or the client's own decision.
const ORDINARY = ["client_closed", "backend_closed", "client_disconnected", "no_request"];
// The fields of a record that say what happened.
const TELLING = ["event", "end", "by", "stage", "status", "key", "value", "detail", "target", "close_client", "close_backend"];

const toml = (backends, more) => `
[[listener]]
address = "127.0.0.1:0"

[[certificate]]
chain = "${CACHE}/cert.pem"
key = "${CACHE}/key.pem"

[[route]]
host = "${HOST}"
origins = ["same-origin", "missing"]
backends = [${backends.map((port) => `"127.0.0.1:${port}"`).join(", ")}]
${more}
# How the run observes it; nothing of this changes what connections experience.
[admin]
enabled = false

[control]
socket = "off"

[log]
format = "json"

[access]
to = "access.jsonl"
start = true
`;

const ADDED = `
[[route]]
host = "${HOST}"
path = "/added-by-the-reload"
origins = ["same-origin", "missing"]
backends = ["127.0.0.1:1"]
`;

class Proxy {
  constructor(app, backends) {
    this.app = app;
    this.backends = backends;
    this.config = app.write("proxy.toml", toml(backends, ""));
  }
  async start() {
    const args = ["run", "--config", this.config];
    this.program = this.app.start(process.env.TIDEGATE_BIN, args, { name: "tidegate" });
    const address = /"message":"listening".*"address":"127\.0\.0\.1:(\d+)"/;
    const found = await until(() => {
      must(!this.program.failed, `tidegate: ${this.program.output().split("\n")[0]}`);
      return address.exec(this.program.output());
    }, "tidegate does not listen");
    this.app.authority = `${HOST}:${found[1]}`;
  }
  /** SIGHUP, with one more route in the file. */
  async reload() {
    fs.writeFileSync(this.config, toml(this.backends, ADDED));
    this.program.kill("SIGHUP");
    await until(() => /"message":"reloaded/.test(this.program.output()), "tidegate has not reloaded");
  }
  records() {
    const text = fs.readFileSync(path.join(this.app.work, "access.jsonl"), "utf8");
    return text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
  }
  /** The numbers of the tunnels that are open. */
  open() {
    const records = this.records();
    const numbers = (event) => records.filter((record) => record.event === event).map((record) => record.session);
    const ended = numbers("ended");
    return numbers("started").filter((number) => !ended.includes(number));
  }
  /** The versions of HTTP by which these tunnels came, or the responses if there are no tunnels. */
  protocols(tunnels) {
    const wanted = ({ event, session }) => (tunnels.length ? event === "started" && tunnels.includes(session) : event === "served");
    const found = this.records().filter(wanted).map(({ protocol }) => (protocol === "h2" ? "HTTP/2" : "HTTP/1.1"));
    return [...new Set(found)].sort().join(", ");
  }
  /** Everything that tidegate refused, ended, or warned of. */
  complaints() {
    const records = this.records().filter(({ event, end }) =>
      ["ended", "rejected", "aborted", "dropped"].includes(event) && !ORDINARY.includes(end));
    const lines = this.program.output().split("\n").filter((line) => /"level":"(WARN|ERROR)"/.test(line));
    const shown = (record) => JSON.stringify(Object.fromEntries(TELLING.map((field) => [field, record[field]])));
    return [...records.map(shown), ...lines];
  }
}

module.exports = { Proxy };
