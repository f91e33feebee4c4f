"use strict";
(() => {
  const POLL_MS = 1000;
  const ANSWER_MS = 5000;
  const KEPT_S = 300;
  const SHOWN_MIN_S = 60;
  const RECENT_S = 60;
  const GAP_S = 5;
  const DAY_S = 86400;
  const POOLS_SHOWN = 12;
  const ROUTES_NAMED = 3;

  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  // ---- words and numbers ----

  const whole = new Intl.NumberFormat("en");
  function short(n) {
    if (n === null || n === undefined) return "\u2013";
    if (n >= 1e6) return `${(n / 1e6).toPrecision(3)}M`;
    if (n >= 1e4) return `${(n / 1e3).toPrecision(3)}k`;
    return whole.format(Math.round(n));
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
  function trip(seconds) {
    if (seconds === null || seconds === undefined) return "\u2013";
    if (seconds >= 10) return `${seconds.toPrecision(3)} s`;
    const ms = seconds * 1000;
    return ms < 10 ? `${ms.toFixed(ms < 1 ? 2 : 1)} ms` : `${whole.format(Math.round(ms))} ms`;
  }
  function span(seconds) {
    const s = Math.max(0, Math.floor(seconds));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < DAY_S) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
    return `${Math.floor(s / DAY_S)} d ${Math.floor((s % DAY_S) / 3600)} h`;
  }
  /** A time that may be short. */
  const pause = (seconds) => seconds < 10 ? `${seconds.toFixed(1)} s` : span(seconds);
  const plural = (n, one, many) => `${whole.format(n)} ${n === 1 ? one : many}`;
  const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");
  const day = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);

  // ---- pieces of the page; text goes in as text, never as markup ----

  function make(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function say(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }
  function mark(element, name, value) {
    if (value === undefined) element.removeAttribute(`data-${name}`);
    else if (element.getAttribute(`data-${name}`) !== value) element.setAttribute(`data-${name}`, value);
  }

  /**
   * Cells are { text, sub, more, mark, tone, pill, share, className }. Elements are kept, so that a
   * selection is.
   */
  function fill(body, rows) {
    while (body.rows.length > rows.length) body.deleteRow(-1);
    rows.forEach((cells, at) => {
      const shape = cells.map((cell) => Object.keys(cell).join()).join(";");
      let row = body.rows[at];
      if (!row) row = body.insertRow();
      if (row.dataset.shape !== shape) {
        row.replaceChildren(...cells.map(() => make("td")));
        row.dataset.shape = shape;
        row.className = cells.length === 1 ? "group" : "";
      }
      cells.forEach((cell, column) => fillCell(row.cells[column], cell));
    });
  }
  const EXTRAS = ["sub", "more", "mark"];
  function fillCell(place, cell) {
    const { text, tone, pill, share, className } = cell;
    const extras = EXTRAS.filter((name) => cell[name] !== undefined);
    if (cell.span) place.colSpan = cell.span;
    if (place.className !== (className || "")) place.className = className || "";
    if (!place.firstChild) {
      place.append(make("span", pill ? "pill" : share ? "share" : ""));
      if (share) place.firstChild.append(track(), make("span"));
      for (const name of extras) place.append(" ", make("span", name));
    }
    const first = place.firstChild;
    if (share) {
      fillTrack(first, share);
    } else {
      say(first, text);
    }
    mark(pill ? first : place, "tone", tone);
    extras.forEach((name, at) => {
      say(place.children[1 + at], cell[name]);
      place.children[1 + at].hidden = cell[name] === "";
    });
  }
  function track() {
    const made = make("span", "track");
    made.append(make("span", "fill"), make("span", "due"));
    return made;
  }
  function fillTrack(place, { is, due }) {
    const [bar, words] = place.children;
    bar.firstChild.style.width = `${(is || 0) * 100}%`;
    bar.lastChild.style.left = `${due * 100}%`;
    say(words, is === null ? "\u2013" : `${Math.round(is * 100)} %`);
  }

  // ---- charts ----

  const TILES = [
    {
      title: "Tunnels", of: (s) => [s.tunnels.open],
      figure: (s) => [whole.format(s.tunnels.open), `of ${short(s.tunnels.max)}`],
      legend: (s) => [`${plural(s.connections.open, "connection", "connections")}`], scale: short,
    },
    {
      title: "Messages", of: (s, r) => r && [r.up + r.down, r.down],
      figure: (s, r) => [r ? rate(r.up + r.down) : "\u2013", "/s"],
      legend: (s, r) => [`up ${rate(r && r.up)}`, `down ${rate(r && r.down)}`], lines: true, scale: rate,
    },
    {
      title: "Bytes", of: (s, r) => r && [r.bytesUp + r.bytesDown, r.bytesDown],
      figure: (s, r) => [r ? size(r.bytesUp + r.bytesDown) : "\u2013", "/s"],
      legend: (s, r) => [`up ${size(r && r.bytesUp)}`, `down ${size(r && r.bytesDown)}`], lines: true, scale: size,
    },
    {
      title: "Handshakes", of: (s, r) => r && [r.opened, r.refused],
      figure: (s, r) => [rate(r && r.opened), "/s opened"],
      legend: (s, r) => ["", `rejected ${rate(r && r.refused)}`], lines: true, scale: rate,
    },
    {
      title: "Ping round trip", of: (s) => s.rtt.client.p50 === null ? null : [s.rtt.client.p50, s.rtt.client.p95],
      figure: (s) => [trip(s.rtt.client.p50), "median"],
      legend: (s) => [`max ${trip(s.rtt.client.max)}`, `95 % ${trip(s.rtt.client.p95)}`], lines: true, scale: trip,
    },
    {
      title: "Memory", of: (s) => [s.memory.resident_bytes],
      figure: (s) => [size(s.memory.resident_bytes), ""],
      legend: (s) => [`${short(s.descriptors.open)} of ${short(s.descriptors.max)} descriptors`], scale: size,
    },
  ];
  const WIDTH = 300;
  const HEIGHT = 50;

  function draw(tile) {
    const card = make("article", "card tile");
    const figure = make("div", "figure");
    figure.append(make("span"), " ", make("small"));
    const legend = make("div", "legend");
    const plot = make("div", "plot");
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    for (const name of ["area", "base", "line1", "line0"]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      svg.append(path);
    }
    svg.querySelector(".base").setAttribute("d", `M0 ${HEIGHT - 0.5}H${WIDTH}`);
    const ends = make("div", "ends");
    ends.append(make("span", "from"), make("span", "peak"), make("span", "wide-inline", "now"));
    plot.append(svg, ends);
    card.append(make("h2", "", tile.title), figure, legend, plot);
    byId("tiles").append(card);
    return { figure, legend, svg, from: ends.children[0], peak: ends.children[1] };
  }
  const drawn = TILES.map(draw);

  /** Where a moment lies: the chart begins with the first, and is never shorter than a minute. */
  function across(now) {
    const shown = Math.max(SHOWN_MIN_S, now - history[0].status.now);
    return { shown, x: (t) => (WIDTH * (1 - (now - t) / shown)).toFixed(1) };
  }
  function path(points, high, x) {
    let d = "";
    let broken = true;
    for (const [t, value] of points) {
      if (value === null) {
        broken = true;
        continue;
      }
      const y = HEIGHT - 1 - (HEIGHT - 3) * (value / high);
      d += `${broken ? "M" : "L"}${x(t)} ${y.toFixed(1)}`;
      broken = false;
    }
    return d;
  }
  function area(points, high, x) {
    const runs = [[]];
    for (const point of points) {
      if (point[1] === null) runs.push([]);
      else runs[runs.length - 1].push(point);
    }
    return runs.filter((run) => run.length > 1).map((run) =>
      `${path(run, high, x)}L${x(run[run.length - 1][0])} ${HEIGHT}L${x(run[0][0])} ${HEIGHT}Z`).join("");
  }

  function showTile(tile, parts, status, rates) {
    const [figure, unit] = tile.figure(status, rates);
    say(parts.figure.children[0], figure);
    say(parts.figure.children[1], unit);
    const words = tile.legend(status, rates);
    while (parts.legend.children.length < words.length) parts.legend.append(make("span"));
    words.forEach((text, at) => {
      say(parts.legend.children[at], text);
      parts.legend.children[at].hidden = text === "";
      if (tile.lines) mark(parts.legend.children[at], "line", String(at));
    });
    const values = history.map((kept) => [kept.status.now, kept.gap ? null : tile.of(kept.status, kept.rates)]);
    const line = (at) => values.map(([t, value]) => [t, value ? value[at] ?? null : null]);
    const all = values.flatMap(([, value]) => value || []).filter((value) => value !== null);
    const peak = all.length ? Math.max(...all) : 0;
    const high = peak || 1;
    const { shown, x } = across(status.now);
    parts.svg.querySelector(".area").setAttribute("d", area(line(0), high, x));
    parts.svg.querySelector(".line0").setAttribute("d", path(line(0), high, x));
    parts.svg.querySelector(".line1").setAttribute("d", path(line(1), high, x));
    say(parts.from, `\u2212${span(shown)}`);
    say(parts.peak, `peak ${tile.scale(all.length ? peak : null)}`);
    parts.svg.setAttribute("aria-label", `${tile.title}, last ${span(shown)}: peak ${tile.scale(peak)}, now ${figure} ${unit}`);
  }

  // ---- what is kept ----

  let history = [];

  function keep(status) {
    const last = history[history.length - 1];
    if (last && last.status.started !== status.started) history = [];
    if (last && status.now <= last.status.now && last.status.started === status.started) return;
    const seconds = last ? status.now - last.status.now : 0;
    const gap = seconds > GAP_S;
    const per = (read) => Math.max(0, read(status) - read(last.status)) / seconds;
    const rates = !last || history.length === 0 ? null : {
      up: per((s) => s.messages.up), down: per((s) => s.messages.down),
      bytesUp: per((s) => s.bytes.up), bytesDown: per((s) => s.bytes.down),
      opened: per((s) => s.tunnels.opened),
      refused: per((s) => s.requests_rejected + s.connections_dropped),
    };
    history.push({ status, rates, gap });
    history = history.filter((kept) => status.now - kept.status.now <= KEPT_S);
  }

  /** The oldest that is kept of the last minute: this page may not have looked for so long. */
  const minuteAgo = (status) => history.find((kept) => status.now - kept.status.now <= RECENT_S);

  /** How much a count of a list grew since then. */
  function recent(status, list, same) {
    const then = minuteAgo(status);
    const before = then && then.status[list].find(same);
    return then ? (row) => row.count - (before ? before.count : 0) : () => 0;
  }

  // ---- the whole ----

  /** The routes that a cause came at, if there is more than one to tell apart. */
  function where(status, row) {
    const { routes } = row;
    if (!routes || status.pools.length < 2) return "";
    if (row.routes_total === 1) return routes[0].route;
    const named = routes.slice(0, ROUTES_NAMED).map(({ route, count }) => `${route} ${short(count)}`);
    const left = row.routes_total - named.length;
    if (left > 0) named.push(`${plural(left, "more route", "more routes")}`);
    return named.join(", ");
  }
  function causeRows(status, list, of, reason, word) {
    return status[list].map((row) => {
      const grown = recent(status, list, (other) => other[of] === row[of] && other[reason] === row[reason])(row);
      return [
        { className: "name", text: row[reason], sub: `${word} ${row[of]}`.replace("the tidegate", "tidegate"), more: where(status, row) },
        { className: "num", text: whole.format(row.count) },
        { className: "num recent", text: grown ? `+${whole.format(grown)}` : "0", tone: grown ? "some" : undefined },
      ];
    });
  }
  function showList(id, rows) {
    fill(byId(id), rows);
    byId(id).closest("table").hidden = rows.length === 0;
    const empty = byId(`${id}-empty`);
    if (empty) empty.hidden = rows.length > 0;
  }

  function showPools(status) {
    const rows = (pools) => pools.flatMap((pool) => {
      const most = pool.tunnels_max === null ? "" : ` of at most ${whole.format(pool.tunnels_max)}`;
      const head = [{ text: `${pool.route}: ${plural(pool.tunnels, "tunnel", "tunnels")}${most}`, span: 6 }];
      const backends = pool.backends.map((backend) => [
        { text: backend.id },
        { pill: true, text: backend.up ? "up" : "ejected", tone: backend.up ? "good" : "bad" },
        { className: "wide", share: { is: backend.share, due: backend.expected_share } },
        { className: "num", text: whole.format(backend.tunnels) },
        { className: "num wide", text: whole.format(backend.opened) },
        { className: "num", text: whole.format(backend.connect_failures) },
      ]);
      return [head, ...backends];
    });
    // Whoever needs attention is always in sight.
    const full = (pool) => pool.tunnels_max !== null && pool.tunnels >= pool.tunnels_max;
    const ill = (pool) => full(pool) || pool.backends.some((backend) => !backend.up);
    const healthy = status.pools.filter((pool) => !ill(pool));
    const folded = new Set(healthy.slice(Math.max(0, POOLS_SHOWN - (status.pools.length - healthy.length))));
    fill(byId("pools"), rows(status.pools.filter((pool) => !folded.has(pool))));
    fill(byId("pools-rest"), rows([...folded]));
    byId("pools-rest-part").hidden = folded.size === 0;
    const tunnels = [...folded].reduce((sum, pool) => sum + pool.tunnels, 0);
    say(byId("pools-rest-title"), `${plural(folded.size, "more route", "more routes")}, all backends up: ${plural(tunnels, "tunnel", "tunnels")}`);
  }

  /** Which side of a tunnel was made to wait, and for how long. */
  function waited(seconds) {
    const sides = ["client", "backend"].filter((side) => seconds[side] > 0);
    const words = sides.map((side) => `${side} ${pause(seconds[side])}`);
    return words.length ? `delayed: ${words.join(", ")}` : "";
  }
  function showRules(status) {
    showList("would", causeRows(status, "would_have_closed", "side", "reason", "by the"));
    showList("delayed", causeRows(status, "delayed", "side", "reason", "by the"));
    byId("would-part").hidden = status.would_have_closed.length === 0;
    byId("delayed-part").hidden = status.delayed.length === 0;
    byId("rules").hidden = status.would_have_closed.length + status.delayed.length === 0;
    const { client, backend } = status.delayed_seconds;
    say(byId("delayed-time"), `clients ${pause(client)}, backends ${pause(backend)} in total`);
  }

  function showWho(status) {
    showList("clients", status.clients.map((row) => [
      { text: row.client },
      { className: "num", text: whole.format(row.tunnels) },
      { className: "num", text: rate(row.messages_per_second) },
      { className: "num", text: size(row.bytes_per_second) },
    ]));
    showList("busiest", status.busiest.map((row) => [
      { text: row.client, sub: `${row.route} \u2192 ${row.backend}`, mark: waited(row.delayed_seconds) },
      { className: "num", text: span(row.age_seconds) },
      { className: "num wide", text: trip(row.rtt_seconds) },
      { className: "num", text: rate(row.messages_per_second) },
      { className: "num", text: size(row.bytes_per_second) },
    ]));
  }

  function showReload(status) {
    const { reload } = status;
    const faults = byId("faults");
    faults.hidden = !reload || reload.applied;
    if (!reload) {
      say(byId("reload"), "None since the process started.");
      return;
    }
    const when = `${clock(reload.at)}, ${span(status.now - reload.at)} ago`;
    if (reload.applied) {
      say(byId("reload"), `Applied at ${when}. Changed: ${reload.changed}.`);
      return;
    }
    say(byId("reload"), `Rejected at ${when}; the active configuration is unchanged.`);
    say(faults, reload.errors.join("\n"));
  }

  function showDoors(status) {
    fill(byId("listeners"), status.listeners.map((row) => [
      { text: row.name, sub: row.tls ? "TLS" : "plain" },
      { className: "num", text: whole.format(row.connections) },
      { className: "num", text: whole.format(row.opened) },
    ]));
    byId("certificates-part").hidden = status.certificates.length === 0;
    fill(byId("certificates"), status.certificates.map((row) => {
      const left = row.not_after - status.now;
      const tone = left < 3 * DAY_S ? "bad" : left < 14 * DAY_S ? "warn" : undefined;
      const words = left < 0 ? "expired" : `in ${plural(Math.floor(left / DAY_S), "day", "days")}`;
      return [
        { text: row.name || "(no name)" },
        { className: "num", pill: true, text: `${day(row.not_after)}, ${words}`, tone },
      ];
    }));
  }

  function troubles(status) {
    const found = [];
    const note = (tone, text) => found.push({ tone, text });
    if (status.state === "draining") {
      note("warn", `Draining: ${plural(status.tunnels.open, "tunnel", "tunnels")} left to close. New tunnels are rejected.`);
    }
    for (const pool of status.pools) {
      const down = pool.backends.filter((backend) => !backend.up).map((backend) => backend.id);
      if (down.length === pool.backends.length) note("bad", `Route ${pool.route}: no backend is up (${down.join(", ")}).`);
      else if (down.length) note("warn", `Route ${pool.route}: ejected: ${down.join(", ")}.`);
      if (pool.tunnels_max !== null && pool.tunnels >= pool.tunnels_max) note("warn", `Route ${pool.route} is full: ${whole.format(pool.tunnels)} tunnels.`);
    }
    if (status.reload && !status.reload.applied) {
      note("bad", `The last reload was rejected: ${plural(status.reload.errors_total, "error", "errors")}, listed below.`);
    }
    for (const row of status.certificates) {
      const left = row.not_after - status.now;
      if (left < 14 * DAY_S) note(left < 3 * DAY_S ? "bad" : "warn", `Certificate for ${row.name || "(no name)"} ${left < 0 ? "has expired" : `expires in ${span(left)}`}.`);
    }
    const { open, max } = status.descriptors;
    if (open !== null && max !== null && open > 0.8 * max) note("warn", `${whole.format(open)} of ${whole.format(max)} file descriptors are in use.`);
    for (const row of status.listeners) {
      if (row.accept_pauses > 0) note("warn", `Listener ${row.name} had to pause ${plural(row.accept_pauses, "time", "times")}: descriptors or memory ran out.`);
    }
    if (status.log_lines_lost > 0) note("warn", `${plural(status.log_lines_lost, "log line was", "log lines were")} lost.`);
    return found;
  }
  function showTroubles(status) {
    const found = troubles(status);
    const list = byId("notes");
    const card = byId("notes-card");
    mark(card, "calm", found.length ? "no" : "yes");
    mark(card, "grave", found.some(({ tone }) => tone === "bad") ? "yes" : "no");
    say(byId("notes-title"), found.length ? "Needs attention" : "Nothing needs attention");
    list.hidden = found.length === 0;
    while (list.children.length > found.length) list.lastChild.remove();
    found.forEach(({ tone, text }, at) => {
      if (!list.children[at]) list.append(make("li"));
      say(list.children[at], text);
      mark(list.children[at], "tone", tone);
    });
  }

  const STATES = { running: "Running", draining: "Draining", silent: "No answer", waiting: "Waiting" };
  function showState(state) {
    mark(byId("state"), "state", state);
    say(byId("state"), STATES[state] || state);
    mark(byId("main"), "stale", state === "silent" ? "yes" : "no");
  }

  function show(status) {
    keep(status);
    const { rates } = history[history.length - 1];
    showState(status.state);
    document.title = `${whole.format(status.tunnels.open)} tunnels \u00b7 tidegate`;
    say(byId("version"), status.version);
    say(byId("uptime"), span(status.now - status.started));
    say(byId("generation"), `no. ${status.generation}`);
    say(byId("clock"), clock(status.now));
    showTroubles(status);
    TILES.forEach((tile, at) => showTile(tile, drawn[at], status, rates));
    showPools(status);
    const looked = Math.round(status.now - minuteAgo(status).status.now);
    const heading = looked > RECENT_S - 5 ? "Last minute" : `Last ${looked} s`;
    for (const head of document.querySelectorAll(".since")) say(head, heading);
    const refused = ["rejected", "dropped"].flatMap((list) => causeRows(status, list, "stage", "reason", "at"));
    showList("refused", refused);
    showList("ended", causeRows(status, "ended", "by", "reason", "by the"));
    showList("closes", causeRows(status, "close_frames", "side", "code", "to the").map(([name, ...counts]) => [{ ...name, more: "" }, ...counts]));
    showRules(status);
    showWho(status);
    showReload(status);
    showDoors(status);
  }

  // ---- asking, one question at a time, and none while nobody looks ----

  let timer = null;
  let asking = false;

  async function ask() {
    clearTimeout(timer);
    if (asking || document.hidden) return;
    asking = true;
    const began = performance.now();
    try {
      const reply = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
      if (!reply.ok) throw new Error(`status ${reply.status}`);
      show(await reply.json());
    } catch {
      showState("silent");
    }
    asking = false;
    timer = setTimeout(ask, Math.max(0, POLL_MS - (performance.now() - began)));
  }
  document.addEventListener("visibilitychange", ask);
  ask();
})();
