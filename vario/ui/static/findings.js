// The findings of a run as cards: causes first, each with its charts, what was measured and what to try.

import { steps } from "/shared/format.js";
import { button, clear, el, meter } from "./build.js";
import { chartFigure, commandBox } from "./figures.js";
import { amount, interval, plain, plural } from "./words.js";

const MARKS = { error: "✕", warning: "!", advice: "i" };
const MOST_NAMES = 6;
const NOT_YET = " (not in vario yet)";
const COMING = "  # comes with trials";

export class Findings {
  // `tools`: what charts need; `several`: models in the run; `onPlace(name, stream)` when a layer is asked for.
  constructor(box, tools, several, onPlace) {
    Object.assign(this, { box, tools, several, onPlace, cards: new Map(), told: "" });
    this.list = el("div", { "data-testid": "findings" });
    this.checks = el("div", { class: "checks" });
    clear(box, this.list, this.checks);
    this.list.append(el("p", { class: "waiting" }, "Looking for what is wrong"));
  }

  // Cards that are the same as before stay as they are, charts and opened folds included.
  show(told) {
    const text = JSON.stringify(told);
    if (text === this.told) return;
    this.told = text;
    const beneath = (cause) => told.findings.filter((one) => one.explained_by === cause.id && one.stream === cause.stream);
    const kept = new Map();
    for (const [cause, ...elsewhere] of once(told.findings)) {
      const key = `${cause.id} ${cause.stream}`;
      const parts = [cause, beneath(cause), elsewhere, elsewhere.flatMap((one) => [one, ...beneath(one)])];
      const said = JSON.stringify(parts);
      const old = this.cards.get(key);
      if (old?.said === said) kept.set(key, old);
      else kept.set(key, { said, root: this.#card(parts, old?.root) });
    }
    for (const [key, { root }] of this.cards) if (kept.get(key)?.root !== root) this.tools.board.drop(root);
    this.cards = kept;
    this.list.replaceChildren(...[...kept.values()].map(({ root }) => root));
    if (told.error) this.list.append(el("p", { class: "off" }, plain(told.error, 600)));
    this.#checked(told);
  }

  #card([cause, beneath, elsewhere, others], before) {
    const root = this.#one(cause, false);
    if (beneath.length) root.append(this.#fold(`Explains ${beneath.length}: ${beneath.map(({ title }) => plain(title).toLowerCase()).join(", ")}`, beneath));
    if (elsewhere.length) root.append(this.#fold(`The same in ${plural(elsewhere.length, "other model")}: ${named(elsewhere.map(({ stream }) => stream))}`, others));
    const open = new Set([...(before?.querySelectorAll("details[open] > summary") ?? [])].map((one) => one.textContent));
    for (const summary of root.querySelectorAll("summary")) summary.parentElement.open = open.has(summary.textContent);
    return root;
  }

  // Small cards, made when they are looked at.
  #fold(title, findings) {
    const fold = el("details", { class: "symptoms" }, el("summary", {}, title));
    fold.addEventListener("toggle", () => fold.open && fold.childElementCount === 1 && fold.append(...findings.map((one) => this.#one(one, true))));
    return fold;
  }

  #one(finding, small) {
    const { severity } = finding;
    const [first, last] = finding.steps;
    const when = first === last ? `step ${steps(first)}` : `steps ${steps(first)} to ${steps(last)}`;
    const meta = el("p", { class: "meta" }, `${Math.round(100 * finding.confidence)} % sure · `, ...this.#places(finding), ` · ${when} · `, this.several && finding.stream && [el("bdi", {}, plain(finding.stream, 60)), " · "], el("code", {}, plain(finding.id)));
    const charts = (finding.charts ?? []).slice(0, small ? 1 : 2).map((chart) => chartFigure(chart, { ...this.tools, tall: 170 }));
    return el(
      "article",
      { class: `finding ${severity}${small ? " small" : ""}`, "data-testid": "finding", "data-id": plain(finding.id), tabindex: "-1" },
      el("header", {}, el("span", { class: "badge" }, `${MARKS[severity] ?? "?"} ${plain(severity)}`), el(small ? "h4" : "h3", {}, plain(finding.claim, 200)), meta),
      el("p", { class: "lead" }, plain(finding.summary, 2000)),
      el("div", { class: "two" }, el("div", { class: "shown" }, charts), el("div", { class: "told" }, cures(finding.prescriptions), evidence(finding.evidence))),
    );
  }

  #places({ where, places, stream }) {
    const named = where.filter(Boolean);
    if (!named.length) return [plain(places ?? "whole model")];
    const shown = named.slice(0, 3).flatMap((name, i) => {
      const link = button(plain(name, 60), { class: "place", title: "Look at this layer", onclick: () => this.onPlace(name, stream) });
      return i ? [", ", link] : [link];
    });
    return named.length > 3 ? [...shown, ` and ${named.length - 3} more`] : shown;
  }

  #checked({ findings, checked = [], not_applicable: unknown = [] }) {
    const found = new Set(findings.map(({ id }) => id));
    const clear_ = checked.filter((id) => !found.has(id));
    const reasons = new Map();
    for (const { id, reason } of unknown) reasons.set(reason, [...(reasons.get(reason) ?? []), id]);
    const fold = (summary, count, rest, inside) => el("details", {}, el("summary", {}, el("b", {}, String(count)), ` ${count === 1 ? summary.replace("checks", "check") : summary}${rest}`), inside);
    clear(
      this.checks,
      clear_.length > 0 && fold("checks found nothing wrong", clear_.length, "", el("p", {}, codes(clear_))),
      unknown.length > 0 && fold("checks could not be made", unknown.length, "", el("ul", { class: "reasons" }, [...reasons].map(([reason, ids]) => el("li", {}, `${plain(reason)}: `, codes(ids))))),
    );
  }
}

// The causes in their order, each illness once: the first finding of it and those of other models.
function once(findings) {
  const told = new Map();
  for (const one of findings) if (!one.explained_by) told.set(one.id, [...(told.get(one.id) ?? []), one]);
  return [...told.values()];
}

function named(streams) {
  const shown = streams.slice(0, MOST_NAMES).map((name) => plain(name, 40)).join(", ");
  return streams.length > MOST_NAMES ? `${shown} and ${streams.length - MOST_NAMES} more` : shown;
}

function codes(names) {
  return names.flatMap((name, i) => [i ? ", " : null, el("code", {}, plain(name))]);
}

function cures(prescriptions) {
  const now = prescriptions.filter(({ available, change }) => available ?? !change.endsWith(NOT_YET));
  const later = prescriptions.filter((one) => !now.includes(one));
  if (!prescriptions.length) return null;
  const cure = ({ change, paper, trial }) => {
    const text = el("span", {}, plain(change.replace(NOT_YET, ""), 600), paper && " ", paper && el("code", { class: "paper" }, plain(paper)));
    return trial ? [text, commandBox(trial.replace(COMING, ""), trial.endsWith(COMING) ? "comes with trials" : "")] : [text];
  };
  const fold = later.length > 0 && el("details", {}, el("summary", {}, `${plural(later.length, "published method")}, not in vario yet`), el("ul", {}, later.map((one) => el("li", {}, cure({ ...one, trial: null })))));
  return [el("h4", {}, "What to try"), now.length > 0 && el("ol", { class: "cures" }, now.map((one) => el("li", {}, cure(one)))), fold];
}

function evidence(items) {
  if (!items.length) return null;
  const rows = items.map((item) => {
    const limit = item.limit === null ? "" : amount(item.name, item.limit);
    const label = `${amount(item.name, item.value)} against a limit of ${limit || "nothing"}`;
    return el("tr", {}, el("th", { scope: "row" }, plain(item.name), item.where && el("small", {}, el("bdi", {}, plain(item.where, 60)))), el("td", {}, interval(item)), el("td", {}, limit), el("td", {}, meter(item, label)));
  });
  const head = el("thead", {}, el("tr", {}, ["evidence", "value", "limit", ""].map((text) => el("th", { scope: text ? "col" : null }, text))));
  return [el("h4", {}, "What was measured"), el("table", { class: "evidence" }, head, el("tbody", {}, rows))];
}
