"use strict";

// The files of this folder become one script: format.js, elements.js, status.js.

const DAY_S = 86400;

// ---- formatting ----

const integer = new Intl.NumberFormat("en");
function short(n) {
  if (n === null || n === undefined) return "\u2013";
  if (n >= 1e6) return `${(n / 1e6).toPrecision(3)}M`;
  if (n >= 1e4) return `${(n / 1e3).toPrecision(3)}k`;
  return integer.format(Math.round(n));
}
function rate(n) {
  if (n === null || n === undefined) return "\u2013";
  return n > 0 && n < 10 ? n.toFixed(1) : short(n);
}
function size(n) {
  if (n === null || n === undefined) return "\u2013";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) {
    n /= 1024;
    at += 1;
  }
  const shown = at === 0 || n >= 100 ? Math.round(n) : n.toPrecision(n < 10 ? 2 : 3);
  return `${shown} ${units[at]}`;
}
function roundTrip(seconds) {
  if (seconds === null || seconds === undefined) return "\u2013";
  if (seconds >= 10) return `${seconds.toPrecision(3)} s`;
  const ms = seconds * 1000;
  return ms < 10 ? `${ms.toFixed(ms < 1 ? 2 : 1)} ms` : `${integer.format(Math.round(ms))} ms`;
}
function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < DAY_S) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / DAY_S)} d ${Math.floor((s % DAY_S) / 3600)} h`;
}
/** Formats a duration that may be below a second. */
const duration = (seconds) => seconds < 10 ? `${seconds.toFixed(1)} s` : span(seconds);
const count = (n, one, many) => `${integer.format(n)} ${n === 1 ? one : many}`;
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");
const day = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);
