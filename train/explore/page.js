"use strict";
// The page's own arithmetic is short: unpacking numbers, the sampler, and where pruning would cut. The rest is drawing.
const data = JSON.parse(document.getElementById("data").textContent);
const floats = text => new Float32Array(bytes(text).buffer);
function bytes(text) {
  const letters = atob(text), found = new Uint8Array(letters.length);
  for (let n = 0; n < letters.length; n++) found[n] = letters.charCodeAt(n);
  return found;
}
const name = id => data.names[id] ?? `<${id}>`;
const percent = p => `${p && p < 1e-5 ? (100 * p).toExponential(0) : (100 * p).toFixed(p && p < 0.001 ? 3 : 1)}%`;

/** What page.packed made: {shape, at(flat index)}. */
function unpacked({shape, low, high, codes}) {
  const numbers = new Uint16Array(bytes(codes).buffer);
  return {shape, at: i => low + numbers[i] * (high - low) / 65535};
}

// ---- the sampler: models/generate/sampling.py, with the tokens beyond the first few hundred as one

/** [{id, p}, ...] of a step, likeliest first; the last one, with id null, is all tokens that are not here by name. */
function distribution(node, temperature, k, p) {
  const ids = node.ids, scores = node.read ??= {top: floats(node.scores), rest: floats(node.rest)};
  if (temperature === 0) return ids.map((id, n) => ({id, p: n ? 0 : 1})).concat({id: null, p: 0});
  const highest = scores.top[0] / temperature;
  const chances = Array.from(scores.top, score => Math.exp(score / temperature - highest));
  const at = data.ahead.temperatures.findIndex(t => Math.abs(t - temperature) < 1e-6);
  let rest = Math.exp(scores.rest[at] - highest);
  if (k <= ids.length) {
    chances.forEach((_, n) => { if (scores.top[n] < scores.top[k - 1]) chances[n] = 0; });
    rest = 0;
  }
  let whole = chances.reduce((a, b) => a + b, rest);
  if (p < 1) {
    let before = 0;
    chances.forEach((chance, n) => { if (before >= p * whole) chances[n] = 0; before += chance; });
    rest = Math.max(0, Math.min(rest, p * whole - before));
    whole = chances.reduce((a, b) => a + b, rest);
  }
  return ids.map((id, n) => ({id, p: chances[n] / whole})).concat({id: null, p: rest / whole});
}

/** Random numbers that can be repeated (mulberry32). */
let seed = 1;
function random() {
  seed = (seed + 0x6D2B79F5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}

function drawn(chances) {
  let left = random();
  for (const one of chances) if ((left -= one.p) < 0) return one;
  return chances[0];
}

/** nn/compression/prune.py, choose: of each layer all heads but the share of the lowest scores; one stays. */
function kept(row, by, amount) {
  const order = row[by].map((value, n) => [value, n]).sort((a, b) => a[0] - b[0]);
  const half = amount * order.length, floor = Math.floor(half);
  const number = half - floor === 0.5 ? floor + floor % 2 : Math.round(half);  // Python rounds halves to even
  const gone = new Set(order.slice(0, Math.min(number, order.length - 1)).map(pair => pair[1]));
  return row[by].map((_, n) => !gone.has(n));
}

// ---- building

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

const svg = (tag, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const choice = (label, options, change) => el("label", {}, label,
  el("select", {onchange: event => change(event.target.value)},
    ...options.map(([value, text]) => el("option", {value}, text))));
const controls = (...parts) => el("div", {class: "controls"}, ...parts);
const scroll = part => el("div", {class: "scroll"}, part);
const spoken = (tag, id) => el(tag, {"aria-live": "polite", id});
const namesOf = side => data.sides[side].map(one => one.name);
function slider(label, id, low, high, step, start, change, told = value => value) {
  const shown = el("span", {class: "mono"}, told(start));
  const input = el("input", {type: "range", id, min: low, max: high, step, value: start, oninput: () => {
    shown.textContent = told(+input.value);
    change(+input.value);
  }});
  return el("label", {}, label, input, shown);
}
const plain = variable => getComputedStyle(document.documentElement).getPropertyValue(variable);
const colour = (variable, alpha) => `rgb(${plain(variable)} / ${alpha})`;
const redraws = [];
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach(redraw => redraw()));

/** One of several items is on: by a click, or by arrow keys while the list has the focus. */
function rove(list, items, pick) {
  let at = 0;
  const go = n => {
    items[at].classList.remove("on");
    at = Math.max(0, Math.min(items.length - 1, n));
    items[at].classList.add("on");
    pick(at);
  };
  list.tabIndex = 0;
  list.addEventListener("keydown", event => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (step) { event.preventDefault(); go(at + step); }
  });
  items.forEach((item, n) => item.addEventListener("click", () => go(n)));
  return go;
}

/** A picture of rows and columns that says what is under the pointer or the arrow keys; a click or Enter pins it.
 *  o: rows, columns, width and height of a cell, left and top (room for names), rowName, columnName,
 *  paint(context, i, j, x, y), say(i, j), pick(i, j), label. Returns {canvas, output, redraw, go}. */
function grid(o) {
  const canvas = el("canvas", {tabindex: 0, role: "img", "aria-label": o.label}), base = el("canvas");
  const output = spoken("output");
  let i = 0, j = 0, pinned = false;
  const scale = window.devicePixelRatio || 1;
  const show = () => {
    const c = canvas.getContext("2d");
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, canvas.width, canvas.height);
    c.drawImage(base, 0, 0);
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.strokeStyle = plain("--mark");
    c.lineWidth = 2;
    c.strokeRect(o.left + j * o.width, o.top + i * o.height, o.width, o.height);
    output.textContent = o.say(i, j);
    output.classList.toggle("pinned", pinned);
  };
  const redraw = () => {
    const width = o.left + o.columns * o.width + 2, height = o.top + o.rows * o.height + 2;
    for (const one of [canvas, base]) { one.width = width * scale; one.height = height * scale; }
    canvas.style.width = `${width}px`;
    const c = base.getContext("2d");
    c.scale(scale, scale);
    c.font = `${Math.min(12, Math.max(9, o.height - 3))}px ui-monospace, "DejaVu Sans Mono", monospace`;
    c.textBaseline = "middle";
    c.fillStyle = plain("--soft");
    for (let r = 0; o.left && r < o.rows; r++) clipped(c, o.rowName(r), 0, o.top + (r + 0.5) * o.height, o.left - 4);
    if (o.top) for (let k = 0; k < o.columns; k++) {
      c.save();
      c.translate(o.left + (k + 0.5) * o.width, o.top - 3);
      if (o.width < 40) c.rotate(-Math.PI / 2); else c.translate(-o.width / 2 + 2, -7);
      clipped(c, o.columnName(k), 0, 0, o.width < 40 ? o.top : o.width - 4);
      c.restore();
    }
    for (let r = 0; r < o.rows; r++) for (let k = 0; k < o.columns; k++) {
      o.paint(c, r, k, o.left + k * o.width, o.top + r * o.height);
    }
    show();
  };
  const go = (row, column, quiet = false) => {
    i = Math.max(0, Math.min(o.rows - 1, row));
    j = Math.max(0, Math.min(o.columns - 1, column ?? j));
    show();
    if (!quiet && o.pick) o.pick(i, j);
  };
  const under = event => {
    const box = canvas.getBoundingClientRect();
    const row = (event.clientY - box.top - o.top) / o.height, column = (event.clientX - box.left - o.left) / o.width;
    return [Math.floor(row), Math.floor(column)];
  };
  canvas.addEventListener("pointermove", event => { if (!pinned && !o.still) go(...under(event)); });
  canvas.addEventListener("click", event => { pinned = !o.still && !pinned; go(...under(event)); });
  canvas.addEventListener("keydown", event => {
    const step = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0]}[event.key];
    if (step) { event.preventDefault(); go(i + step[0], j + step[1]); }
    if (event.key === "Enter") { pinned = !pinned && !o.still; show(); }
  });
  redraws.push(redraw);
  return {canvas, output, redraw, go, o};
}

function clipped(c, text, x, y, width) {
  while (text && c.measureText(text).width > width) text = text.slice(0, -1);
  c.fillText(text, x, y);
}

// ---- the views

function tokensView(body) {
  const sides = Object.entries(data.sides);  // ELMo's two read the same
  const same = some => JSON.stringify(some) === JSON.stringify(sides[0][1]);
  for (const [side, tokens] of sides.filter(([, some], n) => !n || !same(some))) {
    const chips = tokens.map(one => el("span", {class: "token"}, one.name, el("small", {}, one.id < 0 ? "" : one.id)));
    const list = el("div", {class: "tokens", "aria-label": `Tokens ${side}`}, ...chips), detail = spoken("div");
    const chip = part => el("span", {class: "token"}, part);
    const go = rove(list, chips, n => {
      const {name, id, bytes, steps} = tokens[n];
      detail.replaceChildren(
        el("output", {}, `token ${n + 1} of ${tokens.length}: ${name}, id ${id}, bytes ${bytes}`),
        el("table", {}, ...steps.map(([how, parts]) =>
          el("tr", {}, el("th", {}, how), el("td", {}, ...parts.flatMap(part => [chip(part), " "]))))));
    });
    if (sides.length > 1) body.append(el("h3", {}, side));
    body.append(list, detail);
    go(0);
  }
}

function attentionView(body) {
  for (const call of data.attention) call.read = unpacked(call.p);
  const kinds = [...new Set(data.attention.map(call => call.kind))];
  let calls, call, head = 0, matrix;
  const overview = el("div"), detail = el("div", {class: "sides"});
  function chooseKind(kind) {
    calls = data.attention.filter(one => one.kind === kind);
    const columns = Math.max(...calls.map(one => one.read.shape[0]));
    const size = Math.max(16, Math.min(56, Math.floor((body.clientWidth - 40) / columns)));
    const small = el("canvas");
    const heads = grid({rows: calls.length, columns, width: size, height: size, left: 24, top: 0,
      rowName: r => `${r + 1}`, still: true, label: "All layers (rows) and heads (columns); arrow keys choose one",
      say: (r, h) => `layer ${r + 1} of ${calls.length}, head ${h + 1} of ${calls[r].read.shape[0]}: ${calls[r].name}`,
      pick: (r, h) => chooseHead(r, h),
      paint(c, r, h, x, y) {
        const [H, T, S] = calls[r].read.shape;
        if (h >= H) return;
        const ink = plain("--ink").trim().split(" ").map(Number);
        small.width = S; small.height = T;
        const image = new ImageData(S, T), pixels = image.data;
        for (let n = 0; n < T * S; n++) {
          [pixels[4 * n], pixels[4 * n + 1], pixels[4 * n + 2]] = ink;
          pixels[4 * n + 3] = 255 * Math.sqrt(calls[r].read.at(h * T * S + n));
        }
        small.getContext("2d").putImageData(image, 0, 0);
        c.drawImage(small, x + 1, y + 1, size - 2, size - 2);
      }});
    overview.replaceChildren(scroll(heads.canvas), heads.output);
    heads.redraw();
    chooseHead(0, 0);
  }
  function chooseHead(r, h) {
    call = calls[r];
    head = Math.min(h, call.read.shape[0] - 1);
    const [, T, S] = call.read.shape, rows = namesOf(call.rows), columns = namesOf(call.columns);
    const wide = body.clientWidth > 700 ? body.clientWidth / 2 - 30 : body.clientWidth - 10;
    const named = (wide - 70) / S >= 11 ? 70 : 0, cell = Math.max(4, Math.min(24, Math.floor((wide - named) / S)));
    const value = (i, j) => call.read.at((head * T + i) * S + j);
    matrix = grid({rows: T, columns: S, width: cell, height: cell, left: named, top: named && 60,
      rowName: i => rows[i], columnName: j => columns[j], label: "Attention: rows look at columns",
      say: (i, j) => `${rows[i]} (${i + 1}) looks at ${columns[j]} (${j + 1}): ${value(i, j).toFixed(4)}`,
      pick: i => lines.go(i),
      paint(c, i, j, x, y) {
        c.fillStyle = colour("--ink", Math.sqrt(value(i, j)));
        c.fillRect(x, y, cell - (cell > 6), cell - (cell > 6));
      }});
    const lines = linesOf(rows, columns, value, i => matrix.go(i, null, true));
    detail.replaceChildren(el("div", {}, scroll(matrix.canvas), matrix.output), lines.host);
    matrix.redraw();
    lines.go(T - 1);
  }
  const called = kind => [kind, kind === "self" ? "every token looks at the text" : kind];
  body.append(controls(choice("which", kinds.map(called), chooseKind)), overview, detail);
  chooseKind(kinds[0]);
}

/** Which patches of the picture the chosen token looks at: those stay bright. */
function pictureView(body) {
  const {along} = data.picture, pixels = unpacked(data.picture.pixels), side = pixels.shape[0], N = along * along;
  const names = namesOf(""), words = names.slice(N), layers = data.attention, wide = 256, patch = wide / along;
  let layer = layers.length - 1, head = "mean", token = words.length - 1;
  const weights = () => {  // of the chosen token, to each patch
    const {read} = layers[layer], [H, T, S] = read.shape, chosen = head === "mean" ? [...Array(H).keys()] : [+head];
    const to = n => chosen.reduce((sum, h) => sum + read.at((h * T + N + token) * S + n), 0) / chosen.length;
    return Array.from({length: N}, (_, n) => to(n));
  };
  const small = el("canvas", {width: side, height: side}), image = new ImageData(side, side);
  for (let n = 0; n < side * side; n++) {
    for (let k = 0; k < 3; k++) image.data[4 * n + k] = 255 * pixels.at(3 * n + k);
    image.data[4 * n + 3] = 255;
  }
  small.getContext("2d").putImageData(image, 0, 0);
  let found = [];
  const shown = grid({rows: along, columns: along, width: patch, height: patch, left: 0, top: 0,
    label: "The picture; the patches that the token looks at are bright",
    say: (r, c) => `${words[token]} looks at ${names[r * along + c]}: ${found[r * along + c].toFixed(4)}; ` +
      `at all patches: ${found.reduce((a, b) => a + b, 0).toFixed(4)}`,
    paint(c, r, k, x, y) {
      c.imageSmoothingEnabled = false;
      c.drawImage(small, k * side / along, r * side / along, side / along, side / along, x, y, patch, patch);
      c.fillStyle = `rgb(0 0 0 / ${0.85 * (1 - found[r * along + k] / Math.max(...found))})`;
      c.fillRect(x, y, patch, patch);
    }});
  const update = () => { found = weights(); shown.redraw(); };
  const chips = words.map(text => el("span", {class: "token"}, text));
  const list = el("div", {class: "tokens", "aria-label": "Tokens behind the picture"}, ...chips);
  const go = rove(list, chips, n => { token = n; update(); });
  const numbered = (n, what) => Array.from({length: n}, (_, i) => [`${i}`, `${what} ${i + 1}`]);
  const byLayer = choice("layer", numbered(layers.length, "layer"), value => { layer = +value; update(); });
  byLayer.querySelector("select").value = `${layer}`;
  const heads = [["mean", "all heads' mean"], ...numbered(layers[0].read.shape[0], "head")];
  body.append(controls(byLayer, choice("head", heads, value => { head = value; update(); })), list,
    el("div", {}, scroll(shown.canvas), shown.output));
  go(token);
}

/** Two columns of tokens with a line for each weight of the chosen one on the left. */
function linesOf(rows, columns, value, pick) {
  const column = names => el("div", {}, ...names.map(text => el("div", {class: "token"}, text)));
  const left = column(rows), right = column(columns), height = 20 * Math.max(rows.length, columns.length);
  const picture = svg("svg", {viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", height});
  const list = el("div", {class: "lines", "aria-label": "Lines from a token to what it sees"}, left, picture, right);
  const host = scroll(list), look = i => {
    picture.replaceChildren(...columns.map((_, j) => svg("line", {
      x1: 0, y1: 20 * i + 10, x2: 100, y2: 20 * j + 10, "vector-effect": "non-scaling-stroke",
      style: `stroke: rgb(var(--ink) / ${Math.sqrt(value(i, j))}); stroke-width: ${1 + 3 * value(i, j)}px`})));
    [...right.children].forEach((one, j) => { one.style.background = `rgb(var(--ink) / ${value(i, j)})`; });
  };
  const go = rove(list, [...left.children], i => {
    look(i);
    host.scrollTop = 20 * i - host.clientHeight / 2;
    pick(i);
  });
  [...left.children].forEach((one, i) => one.addEventListener("pointerenter", () => look(i)));
  return {host, go};
}

function statesView(body) {
  for (const [side, pack] of Object.entries(data.states)) {
    const states = unpacked(pack), [L, T, P] = states.shape, names = namesOf(side);
    const most = Math.max(-pack.low, pack.high);
    let layer = L - 1;
    const value = (i, j) => states.at((layer * T + i) * P + j), called = n => n ? `layer ${n}` : "the words themselves";
    const width = Math.max(3, Math.min(12, Math.floor((body.clientWidth - 90) / P)));
    const view = grid({rows: T, columns: P, width, height: 15, left: 80, top: 0,
      rowName: i => names[i], label: `The ${side} LSTM's output: rows are words, columns its units`,
      say: (i, j) => `${side}, ${called(layer)}, ${names[i]} (${i + 1}), unit ${j + 1}: ${value(i, j).toFixed(3)}`,
      paint(c, i, j, x, y) {
        const v = value(i, j);
        c.fillStyle = colour(v < 0 ? "--warm" : "--ink", Math.abs(v) / most);
        c.fillRect(x, y, width, 14);
      }});
    const layers = Array.from({length: L}, (_, n) => [L - 1 - n, called(L - 1 - n)]);
    body.append(el("h3", {}, side), controls(choice("behind", layers, n => { layer = +n; view.redraw(); })),
      scroll(view.canvas), view.output);
    view.redraw();
  }
}

function streamView(body) {
  const [side, what] = data.points, host = el("div");
  const shows = {  // of layer l and place j: the text of a cell, and how dark it is
    p: [`${what}: how probable is the first choice`, (l, j) => [name(l.top[j][0]), l.p[j][0]]],
    own: ["how probable is the right token", (l, j) => data.truth[j] < 0 ? ["", 0] : [percent(l.own[j]), l.own[j]]],
    rank: ["the right token's rank", (l, j) => data.truth[j] < 0 ? ["", 0] : [`${l.rank[j]}`, 1 / l.rank[j]]],
    entropy: ["entropy in nats", (l, j) => [l.entropy[j].toFixed(2), Math.exp(-l.entropy[j])]],
  };
  const told = (l, j) => {
    const guesses = l.top[j].map((id, n) => `${name(id)} ${percent(l.p[j][n])}`).join(", ");
    const right = `; right is ${name(data.truth[j])}: ${percent(l.own[j])}, rank ${l.rank[j]}`;
    return `${guesses}; entropy ${l.entropy[j].toFixed(3)} nats${data.truth[j] < 0 ? "" : right}`;
  };
  function choose(kind) {
    const of = kind.replace("length ", ""), lengths = data.lengths[of], layers = lengths ?? data.lens;
    const names = namesOf(lengths ? of : side), longest = lengths && Math.max(...lengths.flat());
    const layerOf = row => layers.length - 1 - row;
    const called = row => layerOf(row) ? `layer ${layerOf(row)}` : "embedding";
    const cell = lengths ? (l, j) => [l[j].toFixed(1), l[j] / longest] : shows[kind][1];
    const view = grid({rows: layers.length, columns: names.length, width: 74, height: 24, left: 74, top: 22,
      rowName: called, columnName: j => names[j], label: "Layers, the last on top, by places of the text",
      say(i, j) {
        const l = layers[layerOf(i)];
        return `${called(i)}, ${names[j]} (${j + 1}): ${lengths ? `length ${l[j].toFixed(3)}` : told(l, j)}`;
      },
      paint(c, i, j, x, y) {
        const [text, shade] = cell(layers[layerOf(i)], j);
        c.fillStyle = colour("--cool", 0.75 * shade);
        c.fillRect(x, y, 73, 23);
        c.fillStyle = plain("--text");
        clipped(c, text, x + 3, y + 12, 68);
      }});
    host.replaceChildren(scroll(view.canvas), view.output);
    view.redraw();
  }
  const kinds = data.lens ? Object.entries(shows).map(([kind, [text]]) => [kind, text]) : [];
  kinds.push(...Object.keys(data.lengths).map(one => [`length ${one}`, `length of the vectors ${one}`]));
  body.append(controls(choice("shown", kinds, choose)), host);
  choose(kinds[0][0]);
}

function aheadView(body) {
  const {nodes, start} = data.ahead, all = nodes[0].ids.length + 1, set = {temperature: 1, k: all, p: 1}, path = [0];
  const bars = el("div", {class: "bars"}), written = el("output", {id: "written"}), told = spoken("output", "drawn");
  const count = el("span", {class: "why", id: "count"});
  const node = () => nodes[path.at(-1)], leads = id => id !== null && id in node().next;
  const read = names => names.join("").replaceAll("␣", " ");
  let tally = new Map(), draws = 0;
  const begin = () => { tally = new Map(); draws = 0; show(); };
  const follow = id => { path.push(node().next[id]); begin(); };
  function draw(times) {
    const chances = distribution(node(), set.temperature, set.k, set.p);
    let one;
    for (let n = 0; n < times; n++) {
      one = drawn(chances);
      tally.set(one.id, (tally.get(one.id) ?? 0) + 1);
    }
    draws += times;
    const called = one.id === null ? "one of the other tokens" : name(one.id);
    const on = leads(one.id) ? "" : "; what follows it was not computed: draw again, or choose one with an arrow";
    told.textContent = times > 1 ? `${draws} draws` : `drawn: ${called}${on}`;
    if (times === 1 && leads(one.id)) follow(one.id); else show();
  }
  function row({id, p}) {
    const seen = tally.get(id) ?? 0, called = id === null ? `${node().others.toLocaleString("en")} others` : name(id);
    return [
      el("button", {disabled: !leads(id), onclick: () => follow(id), "data-id": `${id}`, title: `token ${id}`},
        called + (leads(id) ? " →" : "")),
      el("span", {class: "bar", style: `--p: ${p}; --seen: ${seen / Math.max(1, draws)}`}, ...(draws ? [el("i")] : [])),
      el("span", {class: "mono", "data-p": p}, percent(p)), el("span", {class: "mono"}, draws ? `${seen}` : "")];
  }
  function show() {
    const chances = distribution(node(), set.temperature, set.k, set.p), others = chances.pop();
    const left = chances.filter(one => one.p > 0), more = others.p > 0;
    written.textContent = `… ${read(start.slice(-12))}▸${read(node().text.map(name))}`;
    bars.replaceChildren(...left.slice(0, 14).concat(more ? others : []).flatMap(row));
    count.textContent = `${left.length}${more ? " and more" : ""} tokens can be drawn`;
  }
  const changed = key => value => { set[key] = value; begin(); };
  const button = (id, text, onclick) => el("button", {id, onclick}, text);
  body.append(written, controls(
    slider("temperature", "temperature", 0, 2, 0.05, 1, changed("temperature"), value => value.toFixed(2)),
    slider("top-k", "top-k", 1, all, 1, all, changed("k"), value => value === all ? "all" : `${value}`),
    slider("top-p", "top-p", 0.01, 1, 0.01, 1, changed("p"), value => value.toFixed(2)), count),
  controls(button("draw", "draw a token", () => draw(1)), button("hundred", "draw 100 times", () => draw(100)),
    button("back", "one back", () => { if (path.length > 1) path.pop(); begin(); }),
    button("start", "to the start", () => { path.length = 1; begin(); })), told, bars);
  show();
}

function headsView(body) {
  const {rows, loss} = data.heads, columns = Math.max(...rows.map(row => row.loss.length));
  const most = Math.max(1e-9, ...rows.flatMap(row => row.loss.map(one => Math.abs(one - loss))));
  const narrow = body.clientWidth < 600, room = body.clientWidth - (narrow ? 5 : 190);
  const width = Math.max(30, Math.min(64, Math.floor(room / columns))), cuts = el("span", {class: "why", id: "cuts"});
  let by = "magnitude", amount = 0.5;
  const view = grid({rows: rows.length, columns, width, height: 26, left: narrow ? 0 : 190, top: 20,
    rowName: i => rows[i].name, columnName: j => `${j + 1}`, label: "The loss without each head: layers by heads",
    say(i, j) {
      const one = rows[i].loss[j];
      if (one === undefined) return rows[i].name;
      const score = rows[i][by][j].toPrecision(3), stays = kept(rows[i], by, amount)[j] ? "stays" : "would be cut";
      const losses = `loss ${one.toFixed(4)} without it, ${loss.toFixed(4)} with it`;
      return `${rows[i].name}, head ${j + 1}: ${losses}; ${by} ${score}, ${stays}`;
    },
    paint(c, i, j, x, y) {
      if (rows[i].loss[j] === undefined) return;
      const change = rows[i].loss[j] - loss;
      c.fillStyle = colour(change > 0 ? "--warm" : "--cool", 0.85 * Math.sqrt(Math.abs(change) / most));
      c.fillRect(x, y, width - 1, 25);
      c.fillStyle = c.strokeStyle = plain("--text");
      clipped(c, (change >= 0 ? "+" : "") + change.toFixed(2), x + 2, y + 13, width - 4);
      if (kept(rows[i], by, amount)[j]) return;
      c.beginPath();
      c.moveTo(x + 2, y + 23);
      c.lineTo(x + width - 3, y + 2);
      c.stroke();
    }});
  function mark() {
    const stay = rows.flatMap(row => kept(row, by, amount));
    cuts.textContent = `${stay.filter(one => !one).length} of ${stay.length} heads are crossed out`;
    view.redraw();
  }
  const scores = [["magnitude", "magnitude"], ["gradient", "gradient"]];
  body.append(controls(choice("pruned by", scores, value => { by = value; mark(); }),
    slider("share", "share", 0, 0.9, 0.05, 0.5, value => { amount = value; mark(); }, value => value.toFixed(2)), cuts),
  scroll(view.canvas), view.output);
  mark();
}

function parametersView(body) {
  const total = data.parameters.reduce((sum, one) => sum + one[1], 0), root = {size: total, parts: new Map()};
  for (const [dotted, size, shape] of data.parameters) {
    let at = root;
    for (const part of dotted.split(".")) {
      if (!at.parts.has(part)) at.parts.set(part, {size: 0, parts: new Map()});
      at = at.parts.get(part);
      at.size += size;
    }
    at.leaf = {dotted, size, shape};
  }
  const leaves = [], output = spoken("output");
  const hue = dotted => dotted.includes("embedding") ? "--warm" : /attention|cross\./.test(dotted) ? "--ink" : "--cool";
  function boxes(node, across) {
    const flex = `flex: ${node.size} 1 0;`, parts = [...node.parts.values()].sort((a, b) => b.size - a.size);
    if (!node.leaf) {
      const style = `${flex} flex-direction: ${across ? "row" : "column"}`;
      return el("div", {style}, ...parts.map(part => boxes(part, !across)));
    }
    const {dotted, size} = node.leaf, style = `${flex} background: rgb(var(${hue(dotted)}) / .3)`;
    const box = el("div", {class: "leaf", style, title: dotted}, size > total / 150 ? dotted : "");
    leaves.push([box, node.leaf]);
    return box;
  }
  const map = el("div", {class: "map", "aria-label": "Parameters by size"}, boxes(root, body.clientWidth > 600));
  const go = rove(map, leaves.map(one => one[0]), n => {
    const {dotted, size, shape} = leaves[n][1];
    const of = `${size.toLocaleString("en")} of ${total.toLocaleString("en")}`;
    output.textContent = `${dotted} (${shape.join(", ")}): ${of}, ${percent(size / total)}`;
  });
  leaves.forEach(([box], n) => box.addEventListener("pointerenter", () => go(n)));
  body.append(map, output);
  go(0);
}

function graphView(body) {
  const host = el("div", {class: "scroll graph", tabindex: 0});
  host.innerHTML = data.graph;
  body.append(host);
}

// ---- the page

const VIEWS = [
  ["tokens", "Tokens", true, tokensView,
    "The text as the model gets it: each token with its id, its bytes, and how the tokenizer came to it."],
  ["attention", "Attention", data.attention.length, attentionView, "Who looks at whom. Each small picture is a head; " +
    "the large one has a row for each token that looks. The stronger the colour, the more; a row adds up to 1."],
  ["picture", "The picture", data.picture, pictureView, "Choose a token: the patches that it looks at stay bright, " +
    "the others go dark."],
  ["states", "LSTM states", data.states, statesView,
    "What each direction has in mind when it has read a word: blue above zero, red below."],
  ["stream", "Through the layers", true, streamView, "The vectors between the layers, and what they point to when " +
    "they are read as if the layers above added nothing (the logit lens)."],
  ["ahead", "What comes next", data.ahead, aheadView,
    "The model's scores of the next token, sampled here and now. Tokens with an arrow lead on."],
  ["heads", "Without a head", data.heads, headsView, "How much the loss of this text grows (red) or falls (green) if " +
    "one head says nothing. Crossed out: what pruning would cut first."],
  ["parameters", "Parameters", true, parametersView,
    "Areas are counts: blue in attention, red in embeddings, green elsewhere."],
  ["graph", "A recorded graph", data.graph, graphView,
    "The first layer as the framework recorded it: yellow are parameters and its input, blue are ops."],
];
const count = data.parameters.reduce((sum, one) => sum + one[1], 0).toLocaleString("en");
document.title = document.querySelector("h1").textContent = `Inside ${data.title}`;
document.getElementById("about").textContent = `${data.family}, ${count} parameters, reading: ${data.text}`;
for (const [id, title, there, build, why] of VIEWS.filter(view => view[2])) {
  const body = el("div"), heading = el("h2", {id: `${id}-title`}, title);
  document.querySelector("nav").append(el("a", {href: `#${id}`}, title));
  document.querySelector("main").append(el("section", {id, "aria-labelledby": `${id}-title`}, heading,
    el("p", {class: "why"}, why), body, el("p", {class: "where"}, "computed in ", el("code", {}, data.where[id]))));
  build(body);
}
