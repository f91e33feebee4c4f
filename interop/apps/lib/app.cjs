// What the file of an application works with: its folder, its processes, the proxy's address, Chromium.
"use strict";
const fs = require("fs");
const net = require("net");
const path = require("path");
const { createRequire } = require("module");
const { pathToFileURL } = require("url");
const { spawn } = require("child_process");
const { chromium } = require("playwright-core");
const { CACHE } = require("./install.cjs");

/** The public name of each application, known to the clients only: they find it at 127.0.0.1. */
const HOST = "app.example.com";
const STARTED = 90000;
const wait = (time) => new Promise((done) => setTimeout(done, time));

/** Asks until the answer is true; fails after `limit` milliseconds. */
async function until(ask, why, limit = 20000) {
  const end = Date.now() + limit;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`${why}, not within ${limit / 1000} s`);
    await wait(50);
  }
}

function must(truth, why) {
  if (!truth) throw new Error(why);
}

function accepts(port) {
  return new Promise((done) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.on("connect", () => { socket.destroy(); done(true); });
    socket.on("error", () => done(false));
  });
}

class App {
  constructor(name) {
    this.name = name;
    this.folder = path.join(CACHE, name);
    this.work = path.join(CACHE, "work", name);
    fs.rmSync(this.work, { recursive: true, force: true });
    fs.mkdirSync(this.work, { recursive: true });
    this.python = path.join(this.folder, "venv/bin/python");
    this.require = createRequire(path.join(this.folder, "package.json"));
    this.programs = [];
    this.pages = [];
    /** The address through tidegate, known once it runs. */
    this.authority = null;
  }
  get https() {
    return `https://${this.authority}`;
  }
  get wss() {
    return `wss://${this.authority}`;
  }
  /** For packages that are ES modules. */
  async import(name) {
    const file = path.join(this.folder, "import.mjs");
    fs.writeFileSync(file, "export default (name) => import(name);\n");
    return (await import(pathToFileURL(file))).default(name);
  }
  /** A program of the application's PyPI or npm packages. */
  bin(name) {
    const places = ["venv/bin", "node_modules/.bin"].map((place) => path.join(this.folder, place, name));
    return places.find((place) => fs.existsSync(place));
  }
  write(name, text) {
    const file = path.join(this.work, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
    return file;
  }
  /** A free port, below those that connections get, which could take it before its server does. */
  async port() {
    for (;;) {
      const port = 10000 + Math.floor(Math.random() * 20000);
      const server = net.createServer();
      const free = await new Promise((done) => {
        server.on("listening", () => done(true)).on("error", () => done(false));
        server.listen(port, "127.0.0.1");
      });
      if (!free) continue;
      await new Promise((done) => server.close(done));
      return port;
    }
  }
  /** Starts a program in the work folder, output to NAME.log; it is ended with the run. */
  start(command, args, { name = "server", env = {}, ...options } = {}) {
    const log = path.join(this.work, `${name}.log`);
    const output = fs.openSync(log, "a");
    const all = { cwd: this.work, stdio: ["ignore", output, output], ...options };
    const program = spawn(command, args.map(String), { ...all, env: { ...process.env, ...env } });
    fs.closeSync(output);
    program.on("error", (error) => (program.failed = error.message));
    program.on("exit", (code, signal) => (program.failed = `${name} ended with ${code ?? signal}`));
    program.output = () => fs.readFileSync(log, "utf8");
    this.programs.push(program);
    return program;
  }
  /** Runs a program to its end. */
  async run(command, args, options) {
    const program = this.start(command, args, { name: path.basename(command), ...options });
    await until(() => program.failed, `${command} has not ended`, STARTED);
    must(program.exitCode === 0, `${program.failed}: ${program.output().trim().split("\n").pop()}`);
    return program.output();
  }
  /** Waits until a program accepts connections. */
  async listening(port, program = this.programs[this.programs.length - 1]) {
    await until(async () => {
      must(!program.failed, `${program.failed}: ${program.output().trim().split("\n").slice(-3).join(" | ")}`);
      return accepts(port);
    }, `nothing listens on port ${port}`, STARTED);
    return port;
  }
  /** A server of a few lines of JavaScript or Python, which gets its port as the last argument. */
  async serve(name, source, args = []) {
    const port = await this.port();
    // Node looks for the packages of an ES module next to it.
    const file = name.endsWith(".mjs") ? path.join(this.folder, name) : path.join(this.work, name);
    fs.writeFileSync(file, source);
    const program = name.endsWith(".py") ? this.python : process.execPath;
    const options = { name, env: { NODE_PATH: path.join(this.folder, "node_modules"), PYTHONUNBUFFERED: "1" } };
    return this.listening(port, this.start(program, [file, ...args, port], options));
  }
  /** A page of a new user in Chromium. */
  async page(target) {
    this.browser ||= await chromium.connect(process.env.APPS_CHROMIUM);
    const context = await this.browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(30000);
    this.pages.push(page);
    await page.goto(this.https + target, { timeout: 60000 });
    return page;
  }
  /** A client in Python: SOURCE takes its rounds from `rounds()` of rounds.py; returns what runs one. */
  client(source) {
    const file = this.write("client.py", source);
    const env = { PYTHONPATH: __dirname, PYTHONUNBUFFERED: "1" };
    const program = this.start(this.python, [file, this.authority], { name: "client", env, stdio: "pipe" });
    let output = "";
    let errors = "";
    program.stdout.on("data", (data) => (output += data));
    program.stderr.on("data", (data) => (errors += data));
    return async (text) => {
      program.stdin.write(`${text}\n`);
      await until(() => {
        must(!program.failed, `the client ended: ${errors.trim().split("\n").pop()}`);
        return output.includes(`done ${text}\n`);
      }, `the client has not finished ${text}`, 30000);
    };
  }
  /** What the pages show, to look into a failure. */
  async screenshots() {
    const all = this.pages.map((page, number) =>
      page.screenshot({ path: path.join(this.work, `page-${number}.png`), timeout: 5000 }).catch(() => {}));
    await Promise.all(all);
  }
  async stop() {
    const limit = wait(3000);
    await Promise.race([limit, Promise.all(this.pages.map((page) => page.context().close().catch(() => {})))]);
    const alive = () => this.programs.filter((program) => program.exitCode === null && program.signalCode === null);
    alive().forEach((program) => program.kill("SIGTERM"));
    await until(() => !alive().length, "all programs have ended", 5000).catch(() => {});
    alive().forEach((program) => program.kill("SIGKILL"));
  }
}

module.exports = { App, HOST, must, until, wait };
