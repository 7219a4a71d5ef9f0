// The list of runs: what each is, how its loss went, what is wrong with it; to search, open and compare.

import { number, steps } from "/shared/format.js";
import { Refused, askJson } from "./api.js";
import { button, clear, el, sparkline } from "./build.js";
import { empty } from "./figures.js";
import { Live } from "./live.js";
import { address } from "./route.js";
import { ago, duration, plain, plural, shortCommand, shortId, standing } from "./words.js";

const MOST_COMPARED = 8;
const AGAIN = 1500; // milliseconds until the list is asked again for findings that are still being made

const ORDERS = {
  started: ({ started, id }) => [-(started ?? 0), id],
  loss: ({ loss_last: loss }) => [loss ?? Infinity],
  steps: ({ steps: count }) => [-count],
};

export function runsPage(frame, route) {
  return new RunsPage(frame, route);
}

class RunsPage {
  constructor(frame, { query }) {
    Object.assign(this, { frame, told: null, chosen: new Set(), order: query.get("by") ?? "started", at: -1, written: "", timer: null });
    frame.crumbs([["runs"]], "runs");
    this.search = el("input", { type: "search", id: "search", placeholder: "search command, finding, status", "aria-label": "Search runs", oninput: () => (frame.keep({ q: this.search.value }), this.show()) });
    this.search.value = query.get("q") ?? "";
    this.search.addEventListener("keydown", ({ key }) => key === "Enter" && this.#move(1));
    this.compare = button("Compare", { class: "primary", id: "compare", onclick: () => this.go() });
    this.count = el("p", { class: "count", role: "status" });
    this.list = el("div", { "data-testid": "runs" });
    this.rest = el("div");
    this.head = el("div", { class: "list-head" }, el("h1", {}, "Runs"), this.count, this.search, this.compare);
    clear(frame.view, this.head, this.list, this.rest);
    this.keys = this.#keys();
    this.live = new Live("", { onRuns: () => this.load(), onBack: () => this.load() });
    this.load();
  }

  async load() {
    clearTimeout(this.timer);
    try {
      this.told = await askJson("/api/runs");
    } catch (error) {
      if (!this.told) clear(this.list, empty(error instanceof Refused ? "This address is no longer valid" : "No answer", plain(error.message, 600)));
      if (!(error instanceof Refused) && error.constructor.name !== "Unreachable") throw error;
      return;
    }
    this.frame.view.removeAttribute("aria-busy");
    this.show();
    const waiting = this.told.runs.some(({ findings, status, steps: count }, place) => !findings && count && status !== "corrupt" && place < 40);
    if (waiting && !this.ended) this.timer = setTimeout(() => document.hidden || this.load(), AGAIN);
  }

  back() {
    this.load();
  }

  // Rows are made anew only where something that they show has changed.
  show() {
    if (!this.told) return;
    const { runs, trials = [], plans = [], home } = this.told;
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.rows = runs.filter((run) => words.every((word) => searched(run).includes(word)));
    const key = ORDERS[this.order] ?? ORDERS.started;
    if (this.order !== "started") this.rows.sort((a, b) => before(key(a), key(b)));
    this.#compared();
    this.count.textContent = words.length ? `${this.rows.length} of ${runs.length}` : runs.length ? plural(runs.length, "run") : "";
    const minute = Math.floor(Date.now() / 60000);
    const text = JSON.stringify([this.rows, this.order, minute, trials, plans]);
    if (text === this.written) return;
    this.written = text;
    if (!runs.length && !trials.length && !plans.length) {
      clear(this.list, empty("No runs yet", `Runs that are recorded in ${plain(home)} appear here by themselves.`, "vario run train.py"));
      this.search.hidden = this.compare.hidden = true;
      return;
    }
    this.search.hidden = false;
    const focused = document.activeElement?.closest?.("tr")?.dataset.id;
    clear(this.list, this.rows.length ? this.#table() : el("p", { class: "nothing" }, runs.length ? "No run has all of these words." : "No single runs."));
    if (focused) [...this.list.querySelectorAll("tr")].find((row) => row.dataset.id === focused)?.querySelector("a")?.focus();
    clear(this.rest, others("Trials", "trial", trials), others("Plans", "plan", plans));
  }

  #table() {
    const sorted = (name, text, kind = "") => {
      const pick = button(text, { onclick: () => ((this.order = name), this.frame.keep({ by: name === "started" ? null : name }), this.show()) });
      return el("th", { scope: "col", class: kind, "aria-sort": this.order === name ? (name === "loss" ? "ascending" : "descending") : null }, pick);
    };
    const plainHead = (text, kind = "") => el("th", { scope: "col", class: kind }, text);
    const head = el("tr", {}, plainHead("", "pick"), plainHead("command"), plainHead("training loss", "spark-cell"), sorted("loss", "last loss", "number"), sorted("steps", "steps", "number"), plainHead("findings"), sorted("started", "started"), plainHead("took", "number"));
    return el("table", { class: "runs" }, el("thead", {}, head), el("tbody", {}, this.rows.map((run) => this.#row(run))));
  }

  #row(run) {
    const { id, command, started, status, steps: count, duration_s: took, loss_last: loss, spark = [], error, ended } = run;
    const { word, tone } = standing(status);
    const pick = el("input", { type: "checkbox", "aria-label": `Compare ${plain(id, 80)}`, onchange: () => this.pick(id, pick.checked) });
    pick.checked = this.chosen.has(id);
    pick.disabled = word === "corrupt";
    const name = el("a", { href: address("run", [id]), title: plain(command, 1000) || plain(id) }, el("bdi", {}, plain(shortCommand(command, id), 160)));
    const under = el("small", { class: `state ${tone}` }, el("span", { "data-testid": "status" }, word), " · ", el("bdi", {}, plain(shortId(id), 60)), error ? el("span", { class: "why" }, plain(error, 300)) : tone === "error" && ended && ended !== word ? el("span", { class: "why" }, plain(ended.replace(/^\w+:? ?/, ""), 160)) : null);
    const course = spark.length > 1 ? sparkline(spark, `Loss from ${number(spark[0])} to ${number(spark.at(-1))}`) : null;
    return el(
      "tr",
      { "data-id": id, class: this.chosen.has(id) ? "chosen" : null },
      el("td", { class: "pick" }, pick),
      el("td", { class: "what" }, name, under),
      el("td", { class: "spark-cell" }, course),
      el("td", { class: "number", "data-name": "loss" }, loss === null || loss === undefined ? "–" : number(loss)),
      el("td", { class: "number", "data-name": "steps" }, steps(count ?? 0)),
      el("td", { class: "found" }, badges(run)),
      el("td", { class: "when", title: started ? new Date(started * 1000).toLocaleString() : null }, ago(started)),
      el("td", { class: "number", "data-name": "took" }, duration(took)),
    );
  }

  pick(id, on) {
    if (on) this.chosen.add(id);
    else this.chosen.delete(id);
    for (const row of this.list.querySelectorAll("tbody tr")) {
      row.classList.toggle("chosen", this.chosen.has(row.dataset.id));
      row.querySelector("input").checked = this.chosen.has(row.dataset.id);
    }
    this.#compared();
  }

  go() {
    if (this.chosen.size > 1) this.frame.go("compare", [[...this.chosen].slice(0, MOST_COMPARED).join(",")]);
  }

  #compared() {
    const known = new Set(this.told.runs.map(({ id }) => id));
    for (const id of this.chosen) if (!known.has(id)) this.chosen.delete(id);
    this.compare.textContent = this.chosen.size > 1 ? `Compare ${Math.min(this.chosen.size, MOST_COMPARED)} runs` : "Compare";
    this.compare.disabled = this.chosen.size < 2;
    this.compare.hidden = this.told.runs.length < 2;
    this.compare.title = this.chosen.size > MOST_COMPARED ? `The first ${MOST_COMPARED} that were chosen` : "Choose two or more runs first";
  }

  changed({ query }) {
    this.search.value = query.get("q") ?? "";
    this.show();
  }

  leave() {
    this.ended = true;
    clearTimeout(this.timer);
    this.live.close();
  }

  #move(by) {
    const links = [...this.list.querySelectorAll("tbody a")];
    const here = links.indexOf(document.activeElement);
    links[Math.min(Math.max(here + by, 0), links.length - 1)]?.focus();
  }

  #keys() {
    const here = () => document.activeElement?.closest?.("tr")?.dataset.id;
    return {
      "/": { text: "search", act: () => this.search.focus() },
      j: { name: "j k", text: "next run, the one before", act: () => this.#move(1) },
      k: { act: () => this.#move(-1) },
      Enter: { text: "open the run", act: () => (here() && document.activeElement.matches("a") ? this.frame.go("run", [here()]) : false) },
      x: { text: "choose the run", act: () => here() && this.pick(here(), !this.chosen.has(here())) },
      c: { text: "compare the chosen runs", act: () => this.go() },
      Escape: { act: () => (this.search.value ? ((this.search.value = ""), this.frame.keep({ q: null }), this.show()) : false) },
    };
  }
}

function searched({ id, command, status, top = [], error }) {
  return [id, command, status, ...top, error].join(" ").toLowerCase();
}

function before(a, b) {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
  return 0;
}

// How many findings of each kind, and the gravest by name.
function badges({ findings, top = [], status, steps: count }) {
  if (!findings) return count && status !== "corrupt" ? el("span", { class: "muted" }, "looking") : null;
  const counts = ["error", "warning", "advice"].filter((level) => findings[level] > 0);
  if (!counts.length) return el("span", { class: "muted" }, "nothing found");
  const shown = counts.map((level) => el("span", { class: `badge ${level}`, title: plural(findings[level], level === "advice" ? "piece of advice" : level, level === "advice" ? "pieces of advice" : `${level}s`) }, `${{ error: "✕", warning: "!", advice: "i" }[level]} ${findings[level]}`));
  return [el("span", { class: "badges" }, shown), top.length > 0 && el("span", { class: "top" }, plain(top[0], 60))];
}

function others(title, page, rows) {
  if (!rows.length) return null;
  const row = (one) => {
    const told = (one.verdicts ?? []).map(({ treatment, verdict }) => `${plain(treatment, 60)}: ${plain(verdict)}`).slice(0, 3);
    const fit = one.law ? [one.refused ? `${one.law}: refused` : `${one.law} on ${plural(one.runs ?? 0, "run")}`] : [];
    const rest = [...told, ...fit, one.status, ago(one.started ?? one.made)].filter(Boolean).map((text) => plain(text, 160)).join(" · ");
    return el("li", {}, el("a", { href: address(page, [one.id]) }, el("bdi", {}, plain(one.command ? shortCommand(one.command, one.id) : one.id, 160))), el("small", { class: "muted" }, rest), one.error && el("small", { class: "why" }, plain(one.error, 300)));
  };
  return el("section", {}, el("h2", {}, title), el("ul", { class: "plain-list" }, rows.map(row)));
}
