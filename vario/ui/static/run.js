// The page of one run: findings first, then its course, its layers, and the facts about it.

import { Linked } from "/shared/linked.js";
import { steps } from "/shared/format.js";
import { AskedSource } from "./asked.js";
import { Refused, askJson, runPath } from "./api.js";
import { Board } from "./board.js";
import { button, clear, dial, el } from "./build.js";
import { empty } from "./figures.js";
import { Findings } from "./findings.js";
import { Live } from "./live.js";
import { RunSections } from "./sections.js";
import { rangeOf, rangeText } from "./route.js";
import { duration, plain, shortId, standing } from "./words.js";

const SMOOTH = { off: 0, light: 0.006, strong: 0.025 };
const ABOUT_EVERY = 3000; // milliseconds between two questions about what a run in flight has

export function runPage(frame, route) {
  return new RunPage(frame, route);
}

class RunPage {
  constructor(frame, { parts, query }) {
    Object.assign(this, { frame, query, about: null, version: -1, asking: false, looking: false, latest: null, asked: 0, drawn: 0 });
    [this.id, this.stream = null] = parts;
    this.board = new Board();
    this.source = new AskedSource(this.id);
    frame.crumbs([["runs", "#/runs"], [plain(shortId(this.id), 60)]], plain(shortId(this.id), 60));
    this.keys = this.#keys();
    this.load();
  }

  async load() {
    try {
      const about = await askJson(runPath(this.id), {}, this.source.end.signal);
      if (this.about) return this.learn(about);
      this.about = about;
      this.drawn = about.steps;
      this.build();
      await this.board.settled();
      this.drawn = Math.min(this.drawn, await this.source.settled());
      this.follow();
      await this.look();
    } catch (error) {
      this.#failed(error);
    }
    this.follow();
  }

  // Diagnosing and watching cost the server time that the first charts need: they come after those.
  follow() {
    if (this.live || this.ended) return;
    this.live = new Live(this.id, { onChange: (news) => this.news(news), onRuns: () => this.about || this.load(), onBack: () => this.back() });
  }

  build() {
    const { about, frame, query } = this;
    this.linked = new Linked([0, Math.max(about.steps - 1, 1)]);
    this.linked.range = rangeOf(query.get("x"));
    this.linked.smooth = SMOOTH[query.get("smooth")] ?? 0;
    this.linked.on("zoom", ({ range }) => (frame.keep({ x: rangeText(range) }), this.#zoomed(range)));
    this.head = el("header", { class: "verdict" });
    this.trouble = el("div", { class: "trouble", role: "alert" });
    this.found = el("section", { id: "findings", "aria-labelledby": "findings-title" }, el("h2", { id: "findings-title" }, "Findings"), el("div"));
    const tools = { board: this.board, source: this.source, linked: this.linked };
    this.findings = new Findings(this.found.lastChild, tools, about.streams.length > 1, (place, stream) => this.sections.lookAt(place, stream));
    this.sections = new RunSections(about, tools, { stream: this.stream, model: query.get("model"), layer: query.get("layer"), map: query.get("map") }, (choice) => frame.keep(choice));
    this.bar = el("nav", { class: "sections", "aria-label": "Sections of this run" });
    this.whole = button("show all steps", { id: "all-steps", onclick: () => this.linked.zoom(null) });
    clear(frame.view, this.head, this.trouble, this.bar, this.found, this.sections.root, this.whole);
    this.#zoomed(this.linked.range);
    this.show();
    frame.view.removeAttribute("aria-busy");
    const at = query.get("at");
    if (at) requestAnimationFrame(() => this.jump(at));
  }

  // What is said of the run at the top, and the sections that there are.
  show() {
    const { about, told } = this;
    const { word, tone } = standing(about.status);
    const state = ["failed", "killed"].includes(word) ? "error" : told ? this.#state(told) : "unknown";
    const headline = told?.headline ?? (about.steps ? "Looking for what is wrong" : word === "running" ? "Waiting for the first step" : "No training step was seen");
    this.head.className = `verdict ${state}${told ? "" : " pending"}`;
    const facts = [["run", this.id], ["steps", steps(about.steps), "steps"], ["status", word === "running" ? "running" : about.ended, "status"], ["took", duration(about.duration_s)], ["vario took", about.facts.cost.find(([, name]) => name === "in all")?.[2]]];
    const list = facts.filter(([, value]) => value && value !== "–").map(([name, value, id]) => el("div", {}, el("dt", {}, name), el("dd", { "data-testid": id ?? null, class: id === "status" ? `state ${tone}` : null }, el("bdi", {}, plain(value, 240)))));
    clear(this.head, dial(state), el("div", {}, el("h1", {}, plain(headline, 200)), el("p", { class: "cmd" }, el("code", {}, plain(about.title, 600))), el("dl", {}, list)));
    clear(this.trouble, about.damage?.map((text) => el("p", {}, `Damaged: ${plain(text, 400)}`)), word === "killed" && el("p", {}, `The run was killed; its record ends at step ${steps(Math.max(about.steps - 1, 0))}.`));
    const links = [["findings", "Findings"], ...this.sections.titles()].map(([at, title]) => el("a", { href: `#/run/${encodeURIComponent(this.id)}?at=${at}`, "data-at": at, onclick: (event) => (event.preventDefault(), this.jump(at)) }, title));
    clear(this.bar, el("span", { class: `name state ${tone}` }, el("bdi", {}, plain(shortId(this.id), 40))), links, el("span", { class: "end" }, this.sections.picker, this.#smoothing()));
    if (!about.steps && !this.sections.titles().length && word !== "running") this.#stillborn();
  }

  async ask() {
    if (!this.about.steps && this.about.status === "running") return;
    const told = await askJson(runPath(this.id, "/findings"), {}, this.source.end.signal);
    this.version = told.version ?? this.version;
    if (told.pending) return;
    this.told = told;
    this.findings.show(told);
    this.sections.found(told.findings);
    this.show();
    const at = this.query.get("at");
    if (at && !this.moved) this.jump(at);
  }

  // Something changed: at most one question of each kind is on its way.
  async news(news) {
    if (!this.about) return this.load();
    if (document.hidden) return;
    const { steps: count, last_step: last, findings_version: version, status } = news;
    const changed = status && status !== this.about.status;
    const grown = count > this.drawn;
    if (!changed && !grown && (version === this.version || !this.told)) return;
    this.about.steps = Math.max(this.about.steps, count);
    this.linked.reach(Math.max(last, 1));
    const box = this.head.querySelector("[data-testid=steps]");
    if (box) box.textContent = steps(this.about.steps);
    this.latest = news;
    if (this.asking) return;
    this.asking = true;
    try {
      while (this.latest) {
        const now = this.latest;
        this.latest = null;
        if (grown || changed) await this.refresh(now.steps);
        if (now.status !== this.about.status || performance.now() - this.asked > ABOUT_EVERY) await this.load();
        if (this.about.steps > this.drawn) await this.refresh(this.about.steps); // it has gone on since the news
        if (now.findings_version !== this.version) this.look();
      }
    } catch (error) {
      this.#failed(error);
    }
    this.asking = false;
  }

  // Asks for the findings aside: the first may take a while, and the charts go on meanwhile.
  async look() {
    if (this.looking) return;
    this.looking = true;
    try {
      await this.ask();
    } catch (error) {
      this.#failed(error);
    }
    this.looking = false;
  }

  // The charts ask again; they then show `count` steps at least.
  refresh(count) {
    this.drawn = Math.max(this.drawn, count);
    this.source.fresh();
    return this.board.refresh();
  }

  learn(about) {
    this.asked = performance.now();
    this.about = about;
    this.linked.reach(Math.max(about.steps - 1, 1));
    this.sections.learn(about);
    this.show();
  }

  async back() {
    if (!this.about) return this.load();
    try {
      await this.load();
      this.source.fresh();
      await this.board.retry();
      await this.ask();
    } catch (error) {
      this.#failed(error);
    }
  }

  jump(at) {
    const target = document.getElementById(at);
    if (!target) return;
    this.frame.keep({ at });
    target.scrollIntoView();
    for (const one of this.bar.querySelectorAll("a")) one.toggleAttribute("aria-current", one.dataset.at === at);
  }

  changed({ query, parts }) {
    this.query = query;
    if (parts[0] !== this.id) return;
    const range = rangeOf(query.get("x"));
    if (rangeText(range) !== rangeText(this.linked?.range)) this.linked?.zoom(range);
    if (query.get("at")) this.jump(query.get("at"));
  }

  draw() {
    this.board.draw();
  }

  leave() {
    this.ended = true;
    this.live?.close();
    this.source.close();
    this.board.close();
  }

  #state({ findings, checked }) {
    if (!this.about.steps || !checked?.length) return "unknown";
    return findings[0]?.severity ?? "well";
  }

  #zoomed(range) {
    this.whole.hidden = range === null;
  }

  #smoothing() {
    const of = (share) => Object.keys(SMOOTH).find((name) => SMOOTH[name] === share);
    const pick = el("select", { "aria-label": "Smoothing of lines; bands keep every spike", onchange: () => this.smooth(pick.value) }, Object.keys(SMOOTH).map((name) => new Option(`smooth: ${name}`, name)));
    pick.value = of(this.linked.smooth) ?? "off";
    return pick;
  }

  smooth(name) {
    this.linked.soften(SMOOTH[name]);
    this.frame.keep({ smooth: name === "off" ? null : name });
    const pick = this.bar.querySelector("[aria-label^=Smoothing]");
    if (pick) pick.value = name;
  }

  #stillborn() {
    if (this.frame.view.querySelector(".blank")) return;
    this.trouble.after(empty("Nothing was recorded", "The script ended before its first optimizer step, or does not train with torch. What it printed says more."));
    this.found.hidden = true;
  }

  #failed(error) {
    if (error.name === "AbortError") return;
    if (error instanceof Refused && !this.about) {
      const title = error.status === 404 ? "There is no such run" : error.status === 403 ? "This address is no longer valid" : "This record cannot be read";
      clear(this.frame.view, el("div", { "data-testid": "refused" }, empty(title, plain(error.message, 600)), el("p", { class: "center" }, el("a", { href: "#/runs" }, "All runs"))));
      this.frame.view.removeAttribute("aria-busy");
    } else if (error instanceof Refused) clear(this.trouble, el("p", {}, plain(error.message, 600)));
    else if (error.constructor.name !== "Unreachable") throw error;
    else if (!this.about) clear(this.frame.view, empty("No answer", "The dashboard's server does not answer. This page goes on as soon as it does."));
  }

  #keys() {
    const names = () => ["findings", ...this.sections.titles().map(([at]) => at)];
    const move = (by) => {
      const all = names();
      const here = all.findIndex((at) => document.getElementById(at)?.getBoundingClientRect().bottom > 120);
      this.jump(all[Math.min(Math.max((here < 0 ? all.length - 1 : here) + by, 0), all.length - 1)]);
    };
    const order = Object.keys(SMOOTH);
    return {
      j: { name: "j k", text: "next section, the one before", act: () => move(1) },
      k: { act: () => move(-1) },
      l: { text: "the layers", act: () => this.jump("layers") },
      "]": { name: "[ ]", text: "the layer before, the next layer", act: () => this.sections?.step(1) },
      "[": { act: () => this.sections?.step(-1) },
      s: { text: "smooth the lines", act: () => this.smooth(order[(order.findIndex((name) => SMOOTH[name] === this.linked.smooth) + 1) % order.length]) },
      c: { text: "copy the first trial command", act: () => this.found?.querySelector(".copy")?.click() },
      Escape: { act: () => (this.linked?.range ? this.linked.zoom(null) : false) },
    };
  }
}
