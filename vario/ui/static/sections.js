// The sections of a run beneath its findings: charts, layers, tables, events. Those without content are not shown.

import { clear, el } from "./build.js";
import { chartFigure, factsOf, pairs, said } from "./figures.js";
import { LayersView } from "./layers_view.js";
import { NOISE, SIGNAL, noiseChart } from "./noise.js";
import { plain } from "./words.js";

const SECTIONS = [
  ["loss", "Loss and metrics"],
  ["layers", "Layers"],
  ["noise", "Noise scale"],
  ["curvature", "Curvature"],
  ["examples", "Examples"],
  ["data", "Data"],
  ["settings", "Settings"],
  ["more", "More series"],
  ["events", "Events"],
  ["cost", "What vario cost"],
];
const QUIET = ["activation/", "input/", "target/", "eval/", "hyper/", "logits/", "accuracy/"];
const MOST_EVENTS = 200;
const MOST_MODELS = 3; // whose layers stand one below the other; of more one is looked at, and chosen in the bar
const MISLABELLED = "Part of the labels of this data is wrong: the examples below that were always guessed wrong are likely mislabelled.";
const FIRST = 4; // charts of the loss that are asked for before anything is laid out

export class RunSections {
  constructor(about, tools, choice, onChoice) {
    Object.assign(this, { tools, choice, onChoice, boxes: new Map(), written: new Map(), maps: [], noisy: [] });
    this.root = el("div");
    this.picker = el("select", { "aria-label": "Model whose layers are shown", hidden: true, onchange: () => this.pick(this.picker.value) });
    this.frame = new Promise((done) => requestAnimationFrame(() => setTimeout(done))); // the one with the first chart
    for (const [at, title] of SECTIONS) {
      const box = el("section", { id: at, hidden: true, "aria-labelledby": `${at}-title` }, el("h2", { id: `${at}-title` }, title), el("div"));
      this.boxes.set(at, box);
      this.root.append(box);
    }
    this.learn(about);
  }

  titles() {
    return SECTIONS.filter(([at]) => !this.boxes.get(at).hidden);
  }

  // Only sections whose content is another than before are made anew.
  learn(about) {
    const streams = about.streams.filter(({ name }) => (this.choice.stream ? name === this.choice.stream : !name.includes("@")));
    this.about = about;
    const shown = this.#picked(streams.length ? streams : about.streams);
    const charts = (section) => about.charts.filter((chart) => chart.section === section);
    this.#keep("loss", charts("loss"));
    this.#layers(shown);
    const noisy = shown.filter(({ series }) => [SIGNAL, NOISE].every((name) => series.some((one) => one.name === name))).map(({ name }) => name);
    this.#write("noise", [noisy, charts("noise")], ([names, told]) => this.#grid([...names.map((name) => noiseChart(name, names.length > 1)), ...told]));
    this.#write("curvature", others(shown, (name) => name.startsWith("curvature/")), (told) => this.#grid(told));
    const names = new Set(shown.map(({ name }) => name));
    const examples = about.facts.examples.filter(({ stream }) => names.has(stream));
    const mislabelled = examples.length > 0 && this.noisy.some((stream) => names.has(stream));
    this.#write("examples", [charts("examples"), examples, mislabelled], ([told, found, noisy]) => [noisy && el("p", { class: "muted" }, MISLABELLED), found.map(exampleTable), this.#grid(told)]);
    this.#write("data", [charts("data"), factsOf(about.facts.data, names, false)], ([told, facts]) => [this.#grid(told), tables(facts)]);
    this.#write("settings", [charts("settings"), factsOf(about.facts.settings, names), about.facts.environment], ([told, settings, environment]) => [
      el("div", { class: "columns" }, settings.length > 0 && pairs(settings, "optimizer and schedule"), environment.length > 0 && pairs(environment, "environment")),
      this.#grid(told),
    ]);
    const drawn = new Set(about.charts.flatMap(({ lines }) => lines.map(({ name }) => name)));
    const rest = others(shown, (name) => !drawn.has(name) && !name.startsWith("curvature/") && !QUIET.some((start) => name.startsWith(start)));
    this.#write("more", rest, (told) => told.length > 0 && el("details", {}, el("summary", {}, el("b", {}, String(told.length)), ` more series of the whole model`), this.#grid(told)));
    this.#write("events", about.events.filter(({ kind }) => !["parameters", "modules"].includes(kind)), (told) => eventTable(told));
    this.#write("cost", [factsOf(about.facts.cost, names), charts("cost")], ([facts, told]) => [this.#grid(told), facts.length > 0 && costs(facts)]);
  }

  // The model that is looked at: one of those of a search, of a fold, of a population.
  pick(model) {
    this.choice.model = model;
    this.onChoice({ model });
    this.learn(this.about);
  }

  // What is wrong: the model to begin with, where nobody has chosen one, and those with wrong labels.
  found(findings) {
    const [first, noisy] = [findings[0]?.stream, findings.filter(({ id }) => id === "label-noise").map(({ stream }) => stream)];
    if (this.preferred === first && this.noisy.join() === noisy.join()) return;
    [this.preferred, this.noisy] = [first, noisy];
    this.learn(this.about);
  }

  #picked(streams) {
    this.picker.hidden = streams.length <= MOST_MODELS;
    if (this.picker.hidden) return streams;
    const of = (model) => streams.find(({ name }) => name === model);
    const looked = of(this.choice.model) ?? of(this.preferred) ?? streams[0];
    if (this.picker.length !== streams.length) clear(this.picker, streams.map(({ name }) => new Option(`model: ${plain(name, 40)}`, name)));
    this.picker.value = looked.name;
    return [looked];
  }

  lookAt(place, model) {
    if (!this.picker.hidden && model !== this.picker.value) this.pick(model);
    const of = this.maps.find(({ view }) => view.curvesOf(place).length) ?? this.maps[0];
    if (!of) return;
    of.view.choose({ layer: place });
    this.boxes.get("layers").scrollIntoView();
  }

  step(move) {
    this.maps[0]?.view.step(move);
  }

  #layers(streams) {
    const box = this.boxes.get("layers");
    const before = this.maps.map(({ name }) => name);
    const gone = this.maps.filter(({ name }) => !streams.some((stream) => stream.name === name));
    for (const { view } of gone) this.tools.board.drop(view.root);
    this.maps = this.maps.filter((map) => !gone.includes(map));
    for (const stream of streams) {
      const old = this.maps.find(({ name }) => name === stream.name);
      if (old) {
        old.view.learn(stream);
        continue;
      }
      if (!LayersView.knows(stream)) continue;
      const view = new LayersView(stream, this.tools, this.onChoice);
      if (!this.maps.length) [view.layer, view.map] = [this.choice.layer, this.choice.map];
      this.maps.push({ name: stream.name, view });
    }
    box.hidden = !this.maps.length;
    if (before.join("\n") === this.maps.map(({ name }) => name).join("\n")) return;
    const shown = this.maps.flatMap(({ name, view }) => (this.maps.length > 1 ? [el("h3", {}, plain(name, 80)), view.root] : [view.root]));
    clear(box.lastChild, shown);
  }

  #write(at, told, make) {
    const text = JSON.stringify(told, (key, value) => (typeof value === "function" ? null : value));
    if (this.written.get(at) === text) return;
    this.written.set(at, text);
    const box = this.boxes.get(at);
    this.tools.board.drop(box);
    clear(box.lastChild, make(told));
    box.hidden = !box.lastChild.childElementCount;
  }

  // A chart that is to show what it shows already stays as it is: the reader may be looking at it.
  #keep(at, told) {
    const before = this.written.get(at) ?? new Map();
    const after = new Map(told.map((chart, i) => {
      const key = JSON.stringify(chart);
      return [key, before.get(key) ?? chartFigure(chart, { ...this.tools, now: i < FIRST, turn: i ? this.frame : null })];
    }));
    this.written.set(at, after);
    for (const [key, figure] of before) if (!after.has(key)) this.tools.board.drop(figure);
    const [box, figures] = [this.boxes.get(at), [...after.values()]];
    box.hidden = !figures.length;
    if (after.size === before.size && [...after.keys()].every((key) => before.has(key))) return;
    clear(box.lastChild, el("div", { class: "grid" }, figures));
  }

  #grid(told) {
    return told.length > 0 && el("div", { class: "grid" }, told.map((chart) => chartFigure(chart, this.tools)));
  }
}

// Whole-model series that no chart of the course shows, so that a new instrument is seen at once.
function others(streams, wanted) {
  const charts = new Map();
  for (const { name: stream, series } of streams) {
    for (const { name, wheres, width } of series) {
      if (width > 1 || !wheres.includes("") || !wanted(name)) continue;
      const line = { stream, name, where: "", column: -1, label: streams.length > 1 ? stream : name.replace(/^.*\//, "").replaceAll("_", " ") };
      charts.set(name, [...(charts.get(name) ?? []), line]);
    }
  }
  return [...charts].map(([name, lines]) => ({ title: name.replace("/", ": ").replaceAll("_", " "), lines: lines.slice(0, 8), limits: [], span: null }));
}

// What it took in all, and folded away how often each instrument was read.
function costs(rows) {
  const read = rows.filter(([, value]) => /^[\d,]+ of /.test(value));
  const total = rows.filter((row) => !read.includes(row));
  const fold = read.length > 0 && el("details", { class: "after" }, el("summary", {}, el("b", {}, String(read.length)), " instruments, and on how many steps each was read"), el("div", { class: "columns" }, thirds(read).map((part) => pairs(part))));
  return [el("p", { class: "told-cost" }, total.map(([name, value]) => el("span", {}, el("span", { class: "muted" }, `${plain(name)} `), said(value)))), fold];
}

function thirds(rows) {
  const tall = Math.ceil(rows.length / 3);
  return [0, 1, 2].map((i) => rows.slice(i * tall, (i + 1) * tall)).filter((part) => part.length);
}

function tables(rows) {
  if (!rows.length) return null;
  const groups = new Map();
  for (const [name, value] of rows) {
    const [group, rest] = name.includes(": ") ? name.split(/: (.*)/s) : ["", name];
    groups.set(group, [...(groups.get(group) ?? []), [rest, value]]);
  }
  return el("div", { class: "columns" }, [...groups].map(([group, pairs_]) => pairs(pairs_, plain(group, 80))));
}

// Single examples, each with its picture or its words where the run kept them.
function exampleTable({ head, rows, sketches }) {
  const shown = sketches.some(Boolean);
  const cell = (text) => el("td", { class: "number" }, el("bdi", {}, plain(text, 80)));
  const row = ([first, ...rest], i) => el("tr", {}, cell(first), shown && el("td", {}, sketch(sketches[i])), rest.map(cell));
  const title = (text, kind) => el("th", { scope: "col", class: kind }, text);
  const top = el("thead", {}, el("tr", {}, title(head[0], "number"), shown && title("what it is", null), head.slice(1).map((text) => title(text, "number"))));
  return el("div", { class: "wide" }, el("table", { class: "examples" }, top, el("tbody", {}, rows.map(row))));
}

function sketch(kept) {
  if (!kept) return null;
  if (kept.picture) return el("img", { class: "sketch", src: kept.picture, alt: "" });
  return el("span", { class: "sketch" }, el("bdi", {}, plain(kept.text, 600)));
}

function eventTable(events) {
  if (!events.length) return null;
  const began = events[0].time;
  const latest = events.slice(-MOST_EVENTS);
  const row = ({ kind, step, where, time, data }) =>
    el("tr", {}, el("td", { class: "number" }, step < 0 ? "before" : String(step)), el("td", { class: "number" }, `${Math.max(0, time - began).toFixed(1)} s`), el("td", {}, plain(kind).replaceAll("_", " ")), el("td", {}, el("bdi", {}, plain(where, 80))), el("td", {}, el("bdi", {}, said(data))));
  const head = el("thead", {}, el("tr", {}, ["step", "time", "event", "where", "what"].map((text) => el("th", { scope: "col" }, text))));
  const table = el("div", { class: "wide" }, el("table", { class: "events" }, head, el("tbody", {}, latest.map(row))));
  return el("details", {}, el("summary", {}, el("b", {}, String(events.length)), ` ${events.length === 1 ? "event" : "events"}${events.length > latest.length ? `, the latest ${latest.length} shown` : ""}`), table);
}
