// The table of applications in docs/compatibility.md: its rows are what a run has done.
"use strict";
const fs = require("fs");
const path = require("path");
const { ROOT } = require("./install.cjs");

const DOCUMENT = path.join(ROOT, "docs/compatibility.md");
const HEAD = "| application | version | client's protocol | what was done | the application's own settings | result |";

/** `settings` of an application: what it needs behind any proxy that terminates TLS. `protocol`: what its clients used. */
function row({ title, did, settings }, version, protocol) {
  return `| ${title} | ${version} | ${protocol} | ${did} | ${settings || ""} | works |`;
}

/** The lines of the table, and where they are. */
function documented() {
  const lines = fs.readFileSync(DOCUMENT, "utf8").split("\n");
  const first = lines.indexOf(HEAD) + 2;
  if (first < 2) throw new Error(`${DOCUMENT} has no table of applications`);
  const count = lines.slice(first).findIndex((line) => !line.startsWith("|"));
  return { lines, first, count };
}

/** What is wrong with the documented row, or nothing. */
function check(wanted) {
  const { lines, first, count } = documented();
  return lines.slice(first, first + count).includes(wanted) ? null : `docs/compatibility.md has another row than ${wanted}`;
}

/** Replaces the rows of the applications that were run; the others stay. */
function write(rows) {
  const title = (line) => line.split("|")[1].trim();
  const { lines, first, count } = documented();
  const run = rows.map(title);
  const others = lines.slice(first, first + count).filter((line) => !run.includes(title(line)));
  const sorted = [...others, ...rows].sort((one, other) => title(one).localeCompare(title(other), "en"));
  lines.splice(first, count, ...sorted);
  fs.writeFileSync(DOCUMENT, lines.join("\n"));
}

module.exports = { check, row, write };
