// A trial: does a treatment help here? The verdicts with their intervals, then the paired runs themselves.

import { number, steps } from "/shared/format.js";
import { Linked } from "/shared/linked.js";
import { svgElement } from "/shared/svg.js";
import { AskedSource } from "./asked.js";
import { Refused, askJson } from "./api.js";
import { Board } from "./board.js";
import { clear, dial, el } from "./build.js";
import { chartFigure, empty, pairs, said } from "./figures.js";
import { Live } from "./live.js";
import { duration, plain, plural, shortCommand, shortId } from "./words.js";

const STATES = { helps: "well", hurts: "error", equivalent: "advice", undecided: "unknown" };
const TONES = { helps: "well", hurts: "error", equivalent: "advice", undecided: "muted" };
const PLAN = [12, 268]; // where the picture of the intervals begins and ends

export function trialPage(frame, route) {
  return new TrialPage(frame, route);
}

class TrialPage {
  constructor(frame, { parts }) {
    Object.assign(this, { frame, id: parts[0] ?? "", written: "", keys: { Escape: { act: () => (this.linked?.range ? this.linked.zoom(null) : false) } } });
    this.board = new Board();
    this.source = new AskedSource("");
    frame.crumbs([["runs", "#/runs"], [`trial ${plain(shortId(this.id), 60)}`]], `trial ${plain(shortId(this.id), 60)}`);
    this.live = new Live("", { onRuns: () => this.load(), onBack: () => this.load() });
    this.load();
  }

  async load() {
    try {
      const told = await askJson(`/api/trial/${encodeURIComponent(this.id)}`, {}, this.source.end.signal);
      this.frame.view.removeAttribute("aria-busy");
      const text = JSON.stringify(told);
      if (text !== this.written) this.show(told);
      this.written = text;
    } catch (error) {
      if (error.name === "AbortError" || error.constructor.name === "Unreachable") return;
      if (!(error instanceof Refused)) throw error;
      if (!this.written) clear(this.frame.view, el("div", { "data-testid": "refused" }, empty("This trial cannot be shown", plain(error.message, 600))));
      this.frame.view.removeAttribute("aria-busy");
    }
  }

  back() {
    return this.load();
  }

  show(told) {
    this.board.drop(this.frame.view);
    const { verdicts = [], arms = [] } = told;
    const ends = arms.flatMap(({ curves = {} }) => Object.values(curves).map((curve) => curve.at(-1)?.[0] ?? 0));
    this.linked = new Linked([0, Math.max(1, ...ends)]);
    const tools = { board: this.board, source: this.source, linked: this.linked };
    const baseline = arms.find(({ role }) => role === "baseline") ?? arms[0];
    const sections = verdicts.map((verdict) => {
      const arm = arms.find(({ name }) => name === verdict.treatment);
      return arm && baseline && arm !== baseline && paired(told, baseline, arm, tools);
    });
    clear(this.frame.view, heading(told), verdicts.length > 0 && el("section", {}, el("h2", {}, "Verdicts"), table(told)), sections, apart(told));
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

function heading(told) {
  const [first] = told.verdicts ?? [];
  const word = told.verdicts?.find(({ verdict }) => verdict !== "undecided") ?? first;
  const text = word ? sentence(word, told) : `No verdict yet, ${plural(told.runs_done ?? 0, "run")} done`;
  const facts = [
    ["trial", told.trial ?? told.id],
    ["metric", told.metric && `${told.metric}, ${told.higher_is_better ? "higher" : "lower"} is better`],
    ["pairs", told.seeds && `${told.pairs} of at most ${told.seeds}`],
    ["budget", told.budget && `equal ${told.budget}`],
    ["took", duration(told.seconds)],
    ["status", told.status],
  ];
  const list = facts.filter(([, value]) => value && value !== "–").map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, el("bdi", {}, plain(value, 200)))));
  const command = Array.isArray(told.command) ? told.command.join(" ") : told.command;
  return el("header", { class: "verdict" }, dial(STATES[word?.verdict] ?? "unknown"), el("div", {}, el("h1", {}, plain(text, 200)), command && el("p", { class: "cmd", title: plain(command, 1000) }, el("code", {}, plain(shortCommand(command, told.id), 600))), el("dl", {}, list)));
}

function sentence({ treatment, verdict, more_seeds: more, pairs: count }, { margin }) {
  if (verdict === "undecided") return count ? `${treatment}: undecided; about ${steps(more ?? 0)} more seeds would tell` : `${treatment}: no pair gave a value`;
  if (verdict === "equivalent") return `${treatment} makes no difference${margin ? ` larger than ${number(margin)}` : ""}`;
  return `${treatment} ${verdict}`;
}

// One row per treatment: the difference with its interval as numbers and as a picture on one scale.
function table(told) {
  const { verdicts = [] } = told;
  const ends = verdicts.flatMap(({ difference: { value, low, high } }) => [value, low, high]).filter(Number.isFinite).map(Math.abs);
  const reach = Math.max(...ends, 1e-300) * 1.08;
  const better = told.higher_is_better ? ["worse", "better"] : ["better", "worse"];
  const scale = el("span", { class: "ends" }, el("span", {}, `← ${better[0]}`), el("span", {}, `${better[1]} →`));
  const difference = `difference in ${plain(told.metric, 60)}, 95\u00a0%`;
  const head = el("tr", {}, ["treatment", "verdict", difference, scale, "chance that it helps", "pairs", "step time"].map((text, i) => el("th", { scope: "col", class: i > 3 ? "number" : null }, text)));
  // Where a phone leaves no room for columns, each cell says by itself what it is.
  const cell = (name, text) => el("td", { class: "number", "data-name": name }, text);
  const rows = verdicts.map((one) => {
    const { treatment, verdict, probability, pairs: count, cost, cost_interval: times, reason, role } = one;
    return el(
      "tr",
      { "data-testid": "verdict" },
      el("th", { scope: "row" }, el("bdi", {}, plain(treatment, 120)), role === "control" && el("small", {}, "control"), reason && el("small", { class: "why" }, plain(reason, 300))),
      el("td", {}, el("span", { class: `word ${TONES[verdict] ?? ""}` }, plain(verdict)), verdict === "undecided" && one.more_seeds > 0 && el("small", {}, `about ${steps(one.more_seeds)} more seeds`)),
      el("td", { "data-name": difference }, differenceText(one.difference)),
      el("td", {}, forest(one.difference, reach, verdict)),
      cell("chance that it helps", count ? chance(probability) : "–"),
      cell("pairs", String(count)),
      cell("step time", cost === null || cost === undefined ? "–" : `${number(cost)}${times?.high ? ` (${number(times.low)} to ${number(times.high)})` : ""} ×`),
    );
  });
  return el("div", { class: "wide compared" }, el("table", { class: "verdicts" }, el("thead", {}, head), el("tbody", {}, rows)));
}

// Certainty is not to be had from a few pairs.
function chance(probability) {
  if (probability === null || probability === undefined) return "–";
  if (probability > 0.999) return "> 99.9 %";
  return probability < 0.001 ? "< 0.1 %" : `${number(100 * probability)} %`;
}

function signed(value) {
  return value === null ? "open" : `${value > 0 ? "+" : value < 0 ? "−" : ""}${number(Math.abs(value))}`;
}

function differenceText({ value, low, high }) {
  if (value === null) return "no value";
  if (low === null && high === null) return `${signed(value)} (interval still open)`;
  return `${signed(value)} (${signed(low)} to ${signed(high)})`;
}

function forest({ value, low, high }, reach, verdict) {
  const x = (at) => PLAN[0] + ((Math.max(-reach, Math.min(reach, at)) + reach) / (2 * reach)) * (PLAN[1] - PLAN[0]);
  const root = svgElement("svg", { class: `forest ${TONES[verdict] ?? ""}`, viewBox: "0 0 280 26", width: 280, height: 26, role: "img", "aria-label": `difference ${differenceText({ value, low, high })}` });
  root.append(svgElement("path", { d: `M${x(0)} 1V25`, class: "zero" }));
  if (value === null) return root;
  const [a, b] = [low === null ? PLAN[0] : x(low), high === null ? PLAN[1] : x(high)];
  root.append(svgElement("path", { d: `M${a} 13H${b}M${a} 8V18M${b} 8V18`, class: "whisker" }), svgElement("circle", { cx: x(value), cy: 13, r: 5 }));
  return root;
}

// The runs of a treatment and of the baseline with the same seeds, and their difference over training.
function paired(told, baseline, arm, tools) {
  const treated = curves(arm, 2, arm.name);
  if (!treated.length) return null;
  const lines = [...curves(baseline, 8, "baseline"), ...treated];
  const difference = band(arm.difference ?? []);
  const charts = [];
  charts.push(chartFigure({ title: `${told.metric}: pairs with the same seeds`, note: "one line per run", lines, limits: [], span: null }, { ...tools, tall: 240 }));
  if (difference) charts.push(chartFigure({ title: "Difference over training", note: "band: 95 %", lines: [{ label: `${arm.name} minus baseline`, ink: 2, curve: { ask: () => difference } }], limits: [[0, "no difference"]], always: true, span: null }, { ...tools, tall: 240 }));
  return el("section", { "data-testid": "pairs" }, el("h2", {}, el("bdi", {}, plain(arm.name, 120)), " against the baseline"), el("div", { class: "grid two-wide" }, charts), values(told, baseline, arm));
}

function curves({ curves: all = {} }, ink, name) {
  return Object.entries(all).filter(([, points]) => points.length).map(([seed, points]) => ({ label: `${plain(name, 40)}, seed ${seed}`, group: plain(name, 60), ink, curve: { ask: () => ({ steps: column(points, 0), mean: column(points, 1), low: column(points, 1), high: column(points, 1) }) } }));
}

function band(points) {
  if (!points.length) return null;
  return { steps: column(points, 0), mean: column(points, 1), low: column(points, 2), high: column(points, 3) };
}

function column(points, i) {
  return points.map((point) => point[i] ?? NaN);
}

function values({ metric }, { values: before = {} }, { values: after = {} }) {
  const seeds = Object.keys(before).filter((seed) => Number.isFinite(before[seed]) && Number.isFinite(after[seed]));
  if (!seeds.length) return null;
  const rows = seeds.map((seed) => el("tr", {}, el("th", { scope: "row" }, seed), [before[seed], after[seed]].map((value) => el("td", { class: "number" }, number(value, 4))), el("td", { class: "number" }, signed(after[seed] - before[seed]))));
  const head = el("tr", {}, ["seed", "baseline", "treatment", "difference"].map((text, i) => el("th", { scope: "col", class: i ? "number" : null }, text)));
  return el("details", { class: "after" }, el("summary", {}, el("b", {}, plural(seeds.length, "pair")), ` of ${plain(metric)} in numbers`), el("div", { class: "wide" }, el("table", {}, el("thead", {}, head), el("tbody", {}, rows))));
}

// At other budgets, against the control, and what else is to be known before the verdict is believed.
function apart(told) {
  const budgets = Object.entries(told.budgets ?? {}).filter(([, rows]) => rows.length);
  const others = budgets.length > 1 && el("div", { class: "columns" }, budgets.map(([name, rows]) => pairs(rows.map((one) => [one.treatment, `${one.verdict}, ${differenceText(one.difference)}`]), `at equal ${name}`)));
  const control = (told.against_control ?? []).length > 0 && el("div", { class: "columns" }, pairs(told.against_control.map((one) => [one.treatment, `${one.verdict}, ${differenceText(one.difference)}`]), "against the control"));
  const findings = (told.verdicts ?? []).filter((one) => Object.keys(one.findings ?? {}).length).map((one) => [one.treatment, Object.entries(one.findings).map(([id, count]) => `${id} (${plural(count, "run")})`).join(", ")]);
  const failures = (told.failures ?? []).map(({ treatment, seed, reason }) => [`${treatment}, seed ${seed}`, reason]);
  const notes = (told.notes ?? []).map((text) => el("li", {}, plain(text, 600)));
  const tuned = Object.keys(told.tuning ?? {}).length > 0 && pairs(Object.entries(told.tuning).map(([name, value]) => [name, said(value)]), "tuned alike beforehand");
  const parts = [others, control, findings.length > 0 && pairs(findings, "findings in the runs with it"), failures.length > 0 && pairs(failures, "runs that gave no value"), tuned, notes.length > 0 && el("ul", { class: "reasons" }, notes), told.metric_source && el("p", { class: "hint after" }, `The metric: ${plain(told.metric_source, 300)}.`)].filter(Boolean);
  return parts.length > 0 && el("section", {}, el("h2", {}, "Before it is believed"), parts);
}
