// Installs the packages of an application: PyPI's and npm's into its folder, Debian's into the system.
"use strict";
const fs = require("fs");
const path = require("path");
const { spawn, spawnSync } = require("child_process");

const ROOT = path.resolve(__dirname, "../../..");
const CACHE = path.join(ROOT, "target/interop/apps");
/** In seconds: some packages of Home Assistant are compiled. */
const LIMIT = 1800;

/** Runs a command to its end, output to `log`; fails with its last line. */
function command(log, folder, more, program, ...args) {
  return new Promise((done, fail) => {
    const output = fs.openSync(log, "a");
    const timed = ["-k", "5", String(LIMIT), program, ...args];
    const child = spawn("timeout", timed, { cwd: folder, env: { ...process.env, ...more }, stdio: ["ignore", output, output] });
    child.on("exit", (code) => {
      fs.closeSync(output);
      const lines = fs.readFileSync(log, "utf8").trim().split("\n");
      if (code === 0) done();
      else fail(new Error(`${program} ended with ${code}: ${lines.pop().slice(0, 200)} (${log})`));
    });
    child.on("error", fail);
  });
}

/** Why Debian's packages cannot be installed here, or nothing. */
function obstacle(missing) {
  if (process.getuid() === 0 && !spawnSync("apt-get", ["--version"]).error) return null;
  return `${missing.join(", ")}: not installed, and only root can install Debian's packages`;
}

async function debian(packages, log) {
  const missing = Object.keys(packages).filter((name) => !fs.existsSync(packages[name]));
  if (!missing.length) return null;
  const reason = obstacle(missing);
  if (reason) return reason;
  // Installed services are not started.
  const more = { DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  await command(log, ROOT, more, "apt-get", "update");
  await command(log, ROOT, more, "apt-get", "install", "-y", "--no-install-recommends", ...missing);
  return null;
}

async function pip(packages, folder, log) {
  const venv = path.join(folder, "venv");
  if (!fs.existsSync(path.join(venv, "bin/pip"))) await command(log, folder, {}, "python3", "-m", "venv", venv);
  await command(log, folder, {}, `${venv}/bin/pip`, "install", "--quiet", "--disable-pip-version-check", ...packages);
}

async function npm(packages, folder, log) {
  const dependencies = Object.fromEntries(packages.map((name) => {
    const at = name.lastIndexOf("@");
    return [name.slice(0, at), name.slice(at + 1)];
  }));
  fs.writeFileSync(path.join(folder, "package.json"), JSON.stringify({ private: true, dependencies }));
  await command(log, folder, {}, "npm", "install", "--no-package-lock", "--no-audit", "--no-fund");
}

/** Installs what is missing; resolves to the reason why it is impossible here, or to nothing. */
async function install(name, { debian: system, npm: node, pip: python }) {
  const folder = path.join(CACHE, name);
  fs.mkdirSync(folder, { recursive: true });
  const log = path.join(folder, "install.log");
  const done = path.join(folder, "installed.json");
  const reason = system && (await debian(system, log));
  if (reason) return reason;
  const wanted = JSON.stringify({ npm: node, pip: python });
  if (fs.existsSync(done) && fs.readFileSync(done, "utf8") === wanted) return null;
  if (python) await pip(python, folder, log);
  if (node) await npm(node, folder, log);
  fs.writeFileSync(done, wanted);
  return null;
}

/** The version of an application: of its first package from the registry that its file names first. */
function version(file) {
  const registry = Object.keys(file).find((key) => ["debian", "npm", "pip"].includes(key));
  if (registry === "npm") return file.npm[0].slice(file.npm[0].lastIndexOf("@") + 1);
  if (registry === "pip") return file.pip[0].split("==")[1];
  const shown = spawnSync("dpkg-query", ["-W", "-f", "${Version}", Object.keys(file.debian)[0]]).stdout.toString();
  // Without epoch and Debian's revision.
  return shown.replace(/^\d+:/, "").replace(/[-+].*/, "");
}

module.exports = { CACHE, ROOT, install, version };
