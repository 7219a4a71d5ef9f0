// Several runs beside each other: what differs between them, and their curves in the same charts.

import { number, steps } from "/shared/format.js";
import { Linked } from "/shared/linked.js";
import { AskedSource } from "./asked.js";
import { askJson, runPath } from "./api.js";
import { Board } from "./board.js";
import { button, clear, el } from "./build.js";
import { chartFigure, empty, factsOf, said } from "./figures.js";
import { Live } from "./live.js";
import { address, rangeOf, rangeText } from "./route.js";
import { duration, plain, shortCommand, shortId, standing } from "./words.js";

const SECTIONS = [["loss", "Loss and metrics"], ["noise", "Gradient noise"], ["examples", "Examples"], ["data", "Data"], ["cost", "Cost"]];

export function comparePage(frame, route) {
  return new ComparePage(frame, route);
}

class ComparePage {
  constructor(frame, { parts, query }) {
    Object.assign(this, { frame, query, written: "", busy: false, keys: { Escape: { act: () => (this.linked?.range ? this.linked.zoom(null) : false) } } });
    this.ids = [...new Set((parts[0] ?? "").split(",").filter(Boolean))].slice(0, 8);
    this.board = new Board();
    this.source = new AskedSource(this.ids[0] ?? "");
    frame.crumbs([["runs", "#/runs"], [`compare ${this.ids.length} runs`]], `compare ${this.ids.map(shortId).map((id) => plain(id, 20)).join(", ")}`);
    this.live = new Live("", { onRuns: () => this.load(), onBack: () => this.back() });
    this.load();
  }

  async load() {
    if (this.busy) return;
    this.busy = true;
    const asked = await Promise.allSettled(this.ids.map((id) => askJson(runPath(id), {}, this.source.end.signal)));
    this.busy = false;
    const found = asked.filter(({ status }) => status === "fulfilled").map(({ value }) => value);
    const wrong = asked.filter(({ status, reason }) => status === "rejected" && reason.name !== "AbortError").map(({ reason }) => reason);
    if (wrong.some(({ constructor }) => constructor.name === "Unreachable")) return;
    this.frame.view.removeAttribute("aria-busy");
    if (!found.length) return clear(this.frame.view, empty("Nothing to compare", wrong.map(({ message }) => plain(message)).join(" ") || "Choose two or more runs in the list."));
    this.show(found, wrong);
  }

  show(found, wrong) {
    const last = Math.max(...found.map(({ steps: count }) => count - 1), 1);
    if (!this.linked) {
      this.linked = new Linked([0, last]);
      this.linked.range = rangeOf(this.query.get("x"));
      this.linked.on("zoom", ({ range }) => (this.frame.keep({ x: rangeText(range) }), (this.whole.hidden = range === null)));
    }
    this.linked.reach(last);
    this.source.fresh();
    const text = JSON.stringify(found.map(({ id, status, charts, facts }) => [id, status, charts.map(({ title, lines }) => [title, lines]), facts.settings]));
    if (text === this.written) return void this.board.refresh();
    this.written = text;
    this.board.drop(this.frame.view);
    this.whole = button("show all steps", { id: "all-steps", onclick: () => this.linked.zoom(null) });
    this.whole.hidden = this.linked.range === null;
    const tools = { board: this.board, source: this.source, linked: this.linked };
    const sections = SECTIONS.map(([at, title]) => {
      const charts = together(found, at);
      return charts.length > 0 && el("section", { id: at }, el("h2", {}, title), el("div", { class: "grid" }, charts.map((chart) => chartFigure(chart, tools))));
    });
    clear(this.frame.view, el("div", { class: "list-head" }, el("h1", {}, `${found.length} runs`)), wrong.map(({ message }) => el("p", { class: "off" }, plain(message, 300))), table(found), sections, this.whole);
  }

  back() {
    return this.load().then(() => this.board.retry());
  }

  changed({ query }) {
    const range = rangeOf(query.get("x"));
    if (this.linked && rangeText(range) !== rangeText(this.linked.range)) this.linked.zoom(range);
  }

  draw() {
    this.board.draw();
  }

  leave() {
    this.live.close();
    this.source.close();
    this.board.close();
  }
}

// One chart per series: the same series of the main stream of every run that has it.
function together(found, section) {
  const charts = new Map();
  found.forEach((about, i) => {
    for (const chart of about.charts.filter((one) => one.section === section)) {
      const own = chart.lines.filter(({ stream }) => stream === about.main);
      for (const { stream, name, where, column } of own) {
        const key = JSON.stringify([name, where, column]);
        const title = own.length > 1 ? `${chart.title}: ${own.find((line) => line.name === name && line.where === where && line.column === column).label}` : chart.title;
        const line = { run: about.id, stream, name, where, column, label: shortId(about.id), ink: i + 1 };
        charts.set(key, { title, limits: [], span: null, lines: [...(charts.get(key)?.lines ?? []), line] });
      }
    }
  });
  return [...charts.values()];
}

// What the runs are, how they ended, and every setting in which they differ.
function table(found) {
  const mark = (i) => {
    const dot = el("i", { class: "swatch" });
    dot.style.background = `var(--line-${i + 1})`;
    return dot;
  };
  const head = el("tr", {}, el("td"), found.map(({ id }, i) => el("th", { scope: "col" }, mark(i), el("a", { href: address("run", [id]) }, el("bdi", {}, plain(shortId(id), 40))))));
  const row = (name, values) => el("tr", {}, el("th", { scope: "row" }, el("bdi", {}, plain(name, 80))), values.map((value) => el("td", {}, el("bdi", {}, value))));
  const rows = [
    row("command", found.map(({ command, id }) => plain(shortCommand(command, id), 160))),
    row("status", found.map(({ status }) => standing(status).word)),
    row("steps", found.map(({ steps: count }) => steps(count))),
    row("took", found.map(({ duration_s: took }) => duration(took))),
  ];
  const facts = found.map(({ streams, facts: { settings, data, environment } }) => {
    const names = new Set(streams.map(({ name }) => name));
    return new Map([...factsOf(settings, names), ...factsOf(data, names, false), ...environment].map(([name, value]) => [name, said(value)]));
  });
  const dull = new Set(["created", "run", "id", "pid"]);
  const differing = [...new Set(facts.flatMap((one) => [...one.keys()]))].filter((name) => !dull.has(name) && new Set(facts.map((one) => one.get(name))).size > 1);
  const differences = differing.slice(0, 60).map((name) => row(name, facts.map((one) => plain(one.get(name) ?? "–", 160))));
  const title = el("tr", { class: "divide" }, el("th", { scope: "row", colspan: found.length + 1 }, differing.length ? "settings that differ" : "all recorded settings are equal"));
  return el("div", { class: "wide compared", "data-testid": "differences" }, el("table", {}, el("thead", {}, head), el("tbody", {}, rows, title, differences)));
}
