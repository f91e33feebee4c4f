// Polls /status.json and updates the page.
(() => {
  const POLL_MS = 1000;
  const RESPONSE_TIMEOUT_MS = 5000;
  const HISTORY_S = 300;
  const CHART_MIN_S = 60;
  const RECENT_S = 60;
  const GAP_S = 5;
  const POOLS_SHOWN = 12;
  const NAMES_SHOWN = 4;
  const ROUTES_LISTED = 3;

  const SVG = "http://www.w3.org/2000/svg";

  // ---- charts ----

  const TILES = [
    {
      title: "Tunnels", of: (s) => [s.tunnels.open],
      figure: (s) => [integer.format(s.tunnels.open), `of ${short(s.tunnels.max)}`],
      legend: (s) => [`${count(s.connections.open, "connection", "connections")}`], scale: short,
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
      title: "Handshakes", of: (s, r) => r && [r.opened, r.rejected],
      figure: (s, r) => [rate(r && r.opened), "/s opened"],
      legend: (s, r) => ["", `rejected ${rate(r && r.rejected)}`], lines: true, scale: rate,
    },
    {
      title: "Ping round trip", of: (s) => s.rtt.client.p50 === null ? null : [s.rtt.client.p50, s.rtt.client.p95],
      figure: (s) => [roundTrip(s.rtt.client.p50), "median"],
      legend: (s) => [`max ${roundTrip(s.rtt.client.max)}`, `95 % ${roundTrip(s.rtt.client.p95)}`], lines: true, scale: roundTrip,
    },
    {
      title: "Memory", of: (s) => [s.memory.resident_bytes],
      figure: (s) => [size(s.memory.resident_bytes), ""],
      legend: (s) => [`${short(s.descriptors.open)} of ${short(s.descriptors.max)} descriptors`], scale: size,
    },
  ];
  const WIDTH = 300;
  const HEIGHT = 50;

  function makeTile(tile) {
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
  const charts = TILES.map(makeTile);

  /** Maps time to x. The chart starts with the oldest sample and covers at least a minute. */
  function timeAxis(now) {
    const shown = Math.max(CHART_MIN_S, now - history[0].status.now);
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
    setText(parts.figure.children[0], figure);
    setText(parts.figure.children[1], unit);
    const words = tile.legend(status, rates);
    while (parts.legend.children.length < words.length) parts.legend.append(make("span"));
    words.forEach((text, at) => {
      setText(parts.legend.children[at], text);
      parts.legend.children[at].hidden = text === "";
      if (tile.lines) setData(parts.legend.children[at], "line", String(at));
    });
    const values = history.map((sample) => [sample.status.now, sample.gap ? null : tile.of(sample.status, sample.rates)]);
    const line = (at) => values.map(([t, value]) => [t, value ? value[at] ?? null : null]);
    const all = values.flatMap(([, value]) => value || []).filter((value) => value !== null);
    const peak = all.length ? Math.max(...all) : 0;
    const high = peak || 1;
    const { shown, x } = timeAxis(status.now);
    parts.svg.querySelector(".area").setAttribute("d", area(line(0), high, x));
    parts.svg.querySelector(".line0").setAttribute("d", path(line(0), high, x));
    parts.svg.querySelector(".line1").setAttribute("d", path(line(1), high, x));
    setText(parts.from, `\u2212${span(shown)}`);
    setText(parts.peak, `peak ${tile.scale(all.length ? peak : null)}`);
    parts.svg.setAttribute("aria-label", `${tile.title}, last ${span(shown)}: peak ${tile.scale(peak)}, now ${figure} ${unit}`);
  }

  // ---- history ----

  let history = [];

  function record(status) {
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
      rejected: per((s) => s.requests_rejected + s.connections_dropped),
    };
    history.push({ status, rates, gap });
    history = history.filter((sample) => status.now - sample.status.now <= HISTORY_S);
  }

  /** The oldest sample of the last minute; the page may have been open for less. */
  const minuteAgo = (status) => history.find((sample) => status.now - sample.status.now <= RECENT_S);

  /** Returns a function that computes by how much a count has grown since then. */
  function recent(status, list, same) {
    const then = minuteAgo(status);
    const before = then && then.status[list].find(same);
    return then ? (row) => row.count - (before ? before.count : 0) : () => 0;
  }

  // ---- sections ----

  /** Lists the routes of a reason; empty if there is only one route. */
  function where(status, row) {
    const { routes } = row;
    if (!routes || status.pools.length < 2) return "";
    if (row.routes_total === 1) return routes[0].route;
    const named = routes.slice(0, ROUTES_LISTED).map(({ route, count }) => `${route} ${short(count)}`);
    const left = row.routes_total - named.length;
    if (left > 0) named.push(`${count(left, "more route", "more routes")}`);
    return named.join(", ");
  }
  function reasonRows(status, list, of, reason, word) {
    return status[list].map((row) => {
      const grown = recent(status, list, (other) => other[of] === row[of] && other[reason] === row[reason])(row);
      return [
        { className: "name", text: row[reason], sub: `${word} ${row[of]}`.replace("the tidegate", "tidegate"), more: where(status, row) },
        { className: "num", text: integer.format(row.count) },
        { className: "num recent", text: grown ? `+${integer.format(grown)}` : "0", tone: grown ? "some" : undefined },
      ];
    });
  }
  function showList(id, rows) {
    fill(byId(id), rows);
    byId(id).closest("table").hidden = rows.length === 0;
    const empty = byId(`${id}-empty`);
    if (empty) empty.hidden = rows.length > 0;
  }

  /** What is special about a backend. */
  const flags = (backend) => [
    backend.drained && "drained",
    backend.canary && "canary",
    backend.backup && "backup",
    backend.ejected && "ejected",
    backend.probe && `probe ${backend.probe}`,
    backend.slow_start !== null && `slow start at ${Math.round(100 * backend.slow_start)} %`,
    backend.tunnels_max !== null && `at most ${integer.format(backend.tunnels_max)} tunnels`,
  ].filter(Boolean);
  function showPools(status) {
    const rows = (pools) => pools.flatMap((pool) => {
      const most = pool.tunnels_max === null ? "" : ` of at most ${integer.format(pool.tunnels_max)}`;
      const tls = pool.tls === null ? "" : pool.tls.verified ? ", TLS" : ", TLS, certificates NOT VERIFIED";
      const name = pool.pool === null ? "" : ` (pool ${pool.pool}${tls})`;
      const canaries = pool.backends.some((backend) => backend.canary) ? `, canaries ${pool.canary_share}` : "";
      const waiting = pool.waiting ? `, ${count(pool.waiting, "handshake waits", "handshakes wait")}` : "";
      const head = [{ text: `${pool.route}${name}: ${count(pool.tunnels, "tunnel", "tunnels")}${most}${canaries}${waiting}`, span: 6 }];
      const backends = pool.backends.map((backend) => [
        {
          text: backend.name && backend.name !== backend.id ? `${backend.id} (${backend.name})` : backend.id,
          sub: [...flags(backend), backend.problem ?? ""].filter(Boolean).join(", "),
        },
        { pill: true, text: backend.state, tone: { up: "good", down: "bad" }[backend.state] },
        { className: "wide", share: { actual: backend.share, expected: backend.expected_share } },
        { className: "num", text: integer.format(backend.tunnels) },
        { className: "num wide", text: integer.format(backend.opened) },
        { className: "num", text: integer.format(backend.connect_failures) },
      ]);
      return [head, ...backends];
    });
    // Routes that need attention are never folded.
    const full = (pool) => pool.tunnels_max !== null && pool.tunnels >= pool.tunnels_max;
    const unhealthy = (pool) => full(pool) || pool.backends.some((backend) => backend.state === "down");
    const healthy = status.pools.filter((pool) => !unhealthy(pool));
    const folded = new Set(healthy.slice(Math.max(0, POOLS_SHOWN - (status.pools.length - healthy.length))));
    fill(byId("pools"), rows(status.pools.filter((pool) => !folded.has(pool))));
    fill(byId("pools-rest"), rows([...folded]));
    byId("pools-rest-part").hidden = folded.size === 0;
    const tunnels = [...folded].reduce((sum, pool) => sum + pool.tunnels, 0);
    setText(byId("pools-rest-title"), `${count(folded.size, "more route", "more routes")}, no backend down: ${count(tunnels, "tunnel", "tunnels")}`);
  }

  /** Lists the sides of a tunnel that were delayed, and for how long. */
  function delays(seconds) {
    const sides = ["client", "backend"].filter((side) => seconds[side] > 0);
    const words = sides.map((side) => `${side} ${duration(seconds[side])}`);
    return words.length ? `delayed: ${words.join(", ")}` : "";
  }
  function showLimits(status) {
    showList("would", reasonRows(status, "would_have_closed", "side", "reason", "by the"));
    showList("delayed", reasonRows(status, "delayed", "side", "limit", "by the"));
    byId("would-part").hidden = status.would_have_closed.length === 0;
    byId("delayed-part").hidden = status.delayed.length === 0;
    byId("limits").hidden = status.would_have_closed.length + status.delayed.length === 0;
    const { client, backend } = status.delayed_seconds;
    setText(byId("delayed-time"), `clients ${duration(client)}, backends ${duration(backend)} in total`);
  }

  function showTopLists(status) {
    showList("clients", status.clients.map((row) => [
      { text: row.client },
      { className: "num", text: integer.format(row.tunnels) },
      { className: "num", text: rate(row.messages_per_second) },
      { className: "num", text: size(row.bytes_per_second) },
    ]));
    showList("busiest", status.busiest.map((row) => [
      { text: row.client, sub: `${row.route} \u2192 ${row.backend}`, mark: delays(row.delayed_seconds) },
      { className: "num", text: span(row.age_seconds) },
      { className: "num wide", text: roundTrip(row.rtt_seconds) },
      { className: "num", text: rate(row.messages_per_second) },
      { className: "num", text: size(row.bytes_per_second) },
    ]));
  }

  function showReload(status) {
    const { reload } = status;
    const errors = byId("reload-errors");
    errors.hidden = !reload || reload.applied;
    if (!reload) {
      setText(byId("reload"), "None since the process started.");
      return;
    }
    const when = `${clock(reload.at)}, ${span(status.now - reload.at)} ago`;
    if (reload.applied) {
      setText(byId("reload"), `Applied at ${when}. Changed: ${reload.changed}.`);
      return;
    }
    setText(byId("reload"), `Rejected at ${when}; the previous configuration stays active.`);
    setText(errors, reload.errors.join("\n"));
  }

  function showListeners(status) {
    fill(byId("listeners"), status.listeners.map((row) => [
      { text: row.name, sub: row.tls ? "TLS" : "plain" },
      { className: "num", text: integer.format(row.connections) },
      { className: "num", text: integer.format(row.opened) },
    ]));
    byId("certificates-part").hidden = status.certificates.length === 0;
    fill(byId("certificates"), status.certificates.map((row) => {
      const { order } = row;
      const next = order && (order.in_progress ? "being ordered" : `ordered next at ${clock(order.next)}, ${day(order.next)}`);
      if (row.not_after === null) {
        return [{ text: names(row), sub: next }, { className: "num", pill: true, text: "not issued", tone: "bad" }];
      }
      const left = row.not_after - status.now;
      const tone = expiryTone(row, left);
      const words = left < 0 ? "expired" : left < DAY_S ? `in ${span(left)}` : `in ${count(Math.floor(left / DAY_S), "day", "days")}`;
      return [
        { text: names(row), sub: next || undefined },
        { className: "num", pill: true, text: `${day(row.not_after)}, ${words}`, tone },
      ];
    }));
  }

  /** The first names of a certificate. */
  function names(row) {
    const more = row.names.length - NAMES_SHOWN;
    const shown = row.names.slice(0, NAMES_SHOWN).join(", ");
    return more > 0 ? `${shown} and ${more} more` : shown || "(no name)";
  }

  // An ordered certificate may live for less than a week, so only failures count.
  function expiryTone(row, left) {
    if (row.order) return left < 0 ? "bad" : row.order.failures > 0 ? "warn" : undefined;
    return left < 3 * DAY_S ? "bad" : left < 14 * DAY_S ? "warn" : undefined;
  }

  function problems(status) {
    const found = [];
    const add = (tone, text) => found.push({ tone, text });
    if (status.state === "draining") {
      add("warn", `Draining: ${count(status.tunnels.open, "tunnel", "tunnels")} left to close. New tunnels are rejected.`);
    }
    for (const pool of status.pools) {
      const down = pool.backends.filter((backend) => backend.state === "down").map((backend) => backend.id);
      const present = pool.backends.filter((backend) => backend.state !== "absent").length;
      if (down.length === present) add("bad", `Route ${pool.route}: no backend is up (${down.join(", ")}).`);
      else if (down.length) add("warn", `Route ${pool.route}: down: ${down.join(", ")}.`);
      for (const backend of pool.backends.filter((of) => of.problem && of.state === "up")) {
        add("warn", `Route ${pool.route}: ${backend.id}: ${backend.problem}.`);
      }
      for (const name of pool.names.filter((of) => of.problem)) {
        add("warn", `Route ${pool.route}: ${name.name}: ${name.problem}. In use: ${count(name.addresses, "address", "addresses")} of the last answer.`);
      }
      for (const name of pool.names) {
        for (const kept of name.kept || []) {
          const set = [kept.drained && "drained", kept.weight !== null && `weight ${kept.weight}`].filter(Boolean).join(", ");
          add("warn", `Route ${pool.route}: ${kept.address} is not in the answer for ${name.name}: ${set}, for another ${span(kept.seconds_left)}.`);
        }
      }
      if (pool.maintenance) add("warn", `Route ${pool.route} is in maintenance (by ${pool.maintenance}): requests get 503.`);
      if (pool.tunnels_max !== null && pool.tunnels >= pool.tunnels_max) add("warn", `Route ${pool.route} is full: ${integer.format(pool.tunnels)} tunnels.`);
    }
    for (const row of status.rebalances) {
      add("warn", `Pool ${row.pool} is being rebalanced: ${count(row.closed, "tunnel", "tunnels")} closed, ${integer.format(row.left)} left.`);
    }
    if (status.reload && !status.reload.applied) {
      add("bad", `The last reload was rejected: ${count(status.reload.errors_total, "error", "errors")}, listed below.`);
    }
    for (const row of status.certificates) {
      const error = row.order && row.order.last_error;
      if (error) add(row.not_after === null ? "bad" : "warn", `No new certificate for ${row.name}, ${span(status.now - error.at)} ago: ${error.text}`);
      if (row.not_after === null) continue;
      const left = row.not_after - status.now;
      const tone = expiryTone(row, left);
      if (tone) add(tone, `Certificate for ${row.name || "(no name)"} ${left < 0 ? "has expired" : `expires in ${span(left)}`}.`);
    }
    const { open, max } = status.descriptors;
    if (open !== null && max !== null && open > 0.8 * max) add("warn", `${integer.format(open)} of ${integer.format(max)} file descriptors are in use.`);
    for (const row of status.listeners) {
      if (row.accept_pauses > 0) add("warn", `Listener ${row.name} had to pause ${count(row.accept_pauses, "time", "times")}: descriptors or memory ran out.`);
    }
    for (const row of status.log_losses) {
      const why = row.error ?? "lines came faster than they were written";
      add("warn", `${count(row.lines, "line", "lines")} to ${row.to} lost, the last ${span(status.now - row.last)} ago: ${why}`);
    }
    return found;
  }
  function showProblems(status) {
    const found = problems(status);
    const list = byId("notes");
    const card = byId("notes-card");
    setData(card, "calm", found.length ? "no" : "yes");
    setData(card, "grave", found.some(({ tone }) => tone === "bad") ? "yes" : "no");
    setText(byId("notes-title"), found.length ? "Needs attention" : "Nothing needs attention");
    list.hidden = found.length === 0;
    while (list.children.length > found.length) list.lastChild.remove();
    found.forEach(({ tone, text }, at) => {
      if (!list.children[at]) list.append(make("li"));
      setText(list.children[at], text);
      setData(list.children[at], "tone", tone);
    });
  }

  const STATES = { running: "Running", draining: "Draining", silent: "Not responding", waiting: "Waiting" };
  function showState(state) {
    setData(byId("state"), "state", state);
    setText(byId("state"), STATES[state] || state);
    setData(byId("main"), "stale", state === "silent" ? "yes" : "no");
  }

  function show(status) {
    record(status);
    const { rates } = history[history.length - 1];
    showState(status.state);
    document.title = `${integer.format(status.tunnels.open)} tunnels \u00b7 tidegate`;
    setText(byId("version"), status.version);
    setText(byId("uptime"), span(status.now - status.started));
    setText(byId("generation"), `${status.generation}`);
    setText(byId("clock"), clock(status.now));
    showProblems(status);
    TILES.forEach((tile, at) => showTile(tile, charts[at], status, rates));
    showPools(status);
    const looked = Math.round(status.now - minuteAgo(status).status.now);
    const heading = looked > RECENT_S - 5 ? "Last minute" : `Last ${looked} s`;
    for (const head of document.querySelectorAll(".since")) setText(head, heading);
    const rejected = ["rejected", "dropped"].flatMap((list) => reasonRows(status, list, "stage", "reason", "at"));
    showList("rejected", rejected);
    showList("ended", reasonRows(status, "ended", "by", "reason", "by the"));
    showList("closes", reasonRows(status, "close_frames", "side", "code", "to the").map(([name, ...counts]) => [{ ...name, more: "" }, ...counts]));
    showLimits(status);
    showTopLists(status);
    showReload(status);
    showListeners(status);
  }

  // ---- polling: one request at a time, and none while the page is hidden ----

  let timer = null;
  let polling = false;

  async function poll() {
    clearTimeout(timer);
    if (polling || document.hidden) return;
    polling = true;
    const began = performance.now();
    try {
      const reply = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(RESPONSE_TIMEOUT_MS) });
      if (!reply.ok) throw new Error(`status ${reply.status}`);
      show(await reply.json());
    } catch {
      showState("silent");
    }
    polling = false;
    timer = setTimeout(poll, Math.max(0, POLL_MS - (performance.now() - began)));
  }
  document.addEventListener("visibilitychange", poll);
  poll();
})();
