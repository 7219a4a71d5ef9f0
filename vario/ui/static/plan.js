// A plan: the runs, the law that was fitted to them with its band, and what it predicts.

import { number } from "/shared/format.js";
import { logTicks } from "/shared/chart.js";
import { save, svgElement } from "/shared/svg.js";
import { Refused, askJson } from "./api.js";
import { button, clear, dial, el } from "./build.js";
import { empty, pairs, said } from "./figures.js";
import { plain } from "./words.js";

const [WIDE, TALL] = [760, 430];
const BOX = { left: 66, right: 20, top: 14, foot: 44 };

export function planPage(frame, route) {
  return new PlanPage(frame, route);
}

class PlanPage {
  constructor(frame, { parts, query }) {
    Object.assign(this, { frame, id: parts[0] ?? "", at: query.get("at") ?? "", keys: {} });
    frame.crumbs([["runs", "#/runs"], [`plan ${plain(this.id, 60)}`]], `plan ${plain(this.id, 60)}`);
    this.load();
  }

  async load() {
    try {
      this.show(await askJson(`/api/plan/${encodeURIComponent(this.id)}`, { at: this.at || null }));
    } catch (error) {
      if (error.constructor.name === "Unreachable") return;
      if (!(error instanceof Refused)) throw error;
      const said = plain(error.message, 600);
      if (this.trouble?.isConnected) this.trouble.textContent = said;
      else clear(this.frame.view, el("div", { "data-testid": "refused" }, empty("This plan cannot be shown", said)));
    }
    this.frame.view.removeAttribute("aria-busy");
  }

  back() {
    return this.load();
  }

  leave() {}

  show(told) {
    const { law, inputs = [], output = "loss", n: count = 0, refused, warnings = [], parameters = {}, derived = {}, prediction } = told;
    const size = inputs.join(" × ");
    const points = measured(told);
    const headline = refused ? "No law was fitted" : prediction ? `${output} ${number(prediction.value, 4)} is predicted (${number(prediction.low, 4)} to ${number(prediction.high, 4)})` : `${law} on ${count} runs`;
    const facts = [["law", law], ["runs", String(count)], ["scatter of the runs", told.noise ? `${number(100 * told.noise)} %` : null]];
    const list = facts.filter(([, value]) => value).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, plain(value, 120))));
    const state = refused ? "error" : warnings.length ? "warning" : "well";
    const head = el("header", { class: "verdict" }, dial(state), el("div", {}, el("h1", {}, plain(headline, 200)), el("p", { class: "cmd" }, el("code", {}, plain(told.path ?? this.id, 300))), el("dl", {}, list)));
    const parts = [head];
    if (refused) parts.push(el("p", { class: "off" }, plain(refused, 600)));
    else parts.push(el("section", { class: "explorer" }, this.#figure(told, size, points), el("div", { class: "fitted" }, [["parameters", parameters], ["what follows from them", derived]].map(([title, all]) => Object.keys(all).length > 0 && pairs(Object.entries(all).map(([name, one]) => [name, spread(one)]), `${title}, 95 %`)))));
    if (warnings.length) parts.push(el("section", {}, el("h2", {}, "Before it is believed"), el("ul", { class: "reasons" }, warnings.map(({ text }) => el("li", {}, plain(text, 600))))));
    clear(this.frame.view, parts);
  }

  #figure(told, size, points) {
    const { output = "loss", law, band = [], prediction, inputs = [], ranges = {} } = told;
    const picture = drawn({ size, output, law, points, band, prediction, inputs });
    const tools = el("span", { class: "tools" }, button("csv", { title: "Save the numbers of this chart", onclick: () => save("plan.csv", table(points, band), "text/csv") }), button("svg", { title: "Save this chart as a picture", onclick: () => save("plan.svg", standing(picture), "image/svg+xml") }));
    const field = el("input", { type: "text", id: "at", "aria-label": "A run to predict", placeholder: inputs.map((name) => `${name}=${number(10 * Math.max(...(ranges[name] ?? [1])), 2)}`).join(","), spellcheck: "false" });
    field.value = this.at;
    const ask = (event) => {
      event.preventDefault();
      this.at = field.value.trim();
      this.frame.keep({ at: this.at || null });
      this.load();
    };
    this.trouble = el("p", { class: "off", role: "alert" }, prediction?.outside?.length ? `Beyond the runs: ${[prediction.outside].flat().map((one) => plain(said(one), 200)).join("; ")}` : "");
    const form = el("form", { class: "forecast", onsubmit: ask }, el("label", { for: "at" }, "Predict a run at"), field, el("button", {}, "predict"));
    return el("figure", { class: "map", "data-testid": "plan" }, el("figcaption", {}, el("span", { class: "name" }, `${plain(output)} over ${plain(size)}`, el("small", {}, "dots: runs; band: 95 % of new runs; ring: prediction")), tools), picture, form, this.trouble);
  }
}

function spread({ value, low, high }) {
  return low === null || low === undefined ? number(value) : `${number(value, 4)} (${number(low, 4)} to ${number(high, 4)})`;
}

// The runs that were fitted, each with the product of its inputs; none where the file does not keep them.
function measured({ data = {}, inputs = [], output = "loss" }) {
  return (data[output] ?? []).map((y, i) => ({ x: inputs.reduce((product, name) => product * (data[name]?.[i] ?? NaN), 1), y })).filter(({ x, y }) => x > 0 && y > 0);
}

// Both axes are logarithmic: a power law is straight, and what the future adds is seen at once.
function drawn({ size, output, law, points, band, prediction, inputs }) {
  const foretold = prediction ? [{ ...prediction, size: inputs.reduce((product, name) => product * prediction.inputs[name], 1) }] : [];
  const good = band.filter(({ value, low, high }) => value > 0 && low > 0 && high > 0);
  const xs = [...points.map(({ x }) => x), ...[...good, ...foretold].map((one) => one.size)];
  const ys = [...points.map(({ y }) => y), ...[...good, ...foretold].flatMap(({ low, high }) => [low, high])].filter((y) => y > 0);
  const root = svgElement("svg", { class: "law", viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "aria-label": `${plain(law)}: ${output} of ${points.length} runs over ${size}, with the law and its band` });
  if (!xs.length || !ys.length) return root;
  const [x0, x1, y0, y1] = [Math.min(...xs) / 1.4, Math.max(...xs) * 1.4, Math.min(...ys) / 1.03, Math.max(...ys) * 1.03];
  const x = (value) => BOX.left + (Math.log(value / x0) / Math.log(x1 / x0)) * (WIDE - BOX.left - BOX.right);
  const y = (value) => TALL - BOX.foot - (Math.log(value / y0) / Math.log(y1 / y0)) * (TALL - BOX.top - BOX.foot);
  const say = (text, at, anchor) => root.append(svgElement("text", { ...at, class: "tick", "font-size": 12, "text-anchor": anchor }, text));
  for (const tick of logTicks(x0, x1)) {
    root.append(svgElement("path", { d: `M${x(tick)} ${BOX.top}V${TALL - BOX.foot}`, class: "hair" }));
    say(number(tick), { x: x(tick), y: TALL - BOX.foot + 18 }, "middle");
  }
  for (const tick of logTicks(y0, y1)) {
    root.append(svgElement("path", { d: `M${BOX.left} ${y(tick)}H${WIDE - BOX.right}`, class: "hair" }));
    say(number(tick), { x: BOX.left - 8, y: y(tick) + 4 }, "end");
  }
  say(plain(size, 80), { x: WIDE - BOX.right, y: TALL - 6 }, "end");
  if (good.length) {
    const upper = good.map((one) => `${x(one.size)} ${y(one.high)}`);
    const lower = good.map((one) => `${x(one.size)} ${y(one.low)}`).reverse();
    root.append(svgElement("path", { d: `M${[...upper, ...lower].join("L")}Z`, class: "band" }));
    root.append(svgElement("path", { d: `M${good.map((one) => `${x(one.size)} ${y(one.value)}`).join("L")}`, class: "curve" }));
  }
  for (const point of points) root.append(svgElement("circle", { cx: x(point.x), cy: y(point.y), r: 3.5, class: "ran" }));
  for (const one of foretold) {
    const at = x(one.size);
    root.append(svgElement("path", { d: `M${at} ${y(one.low)}V${y(one.high)}M${at - 6} ${y(one.low)}h12M${at - 6} ${y(one.high)}h12`, class: "whisker" }), svgElement("circle", { cx: at, cy: y(one.value), r: 6, class: "foretold" }));
  }
  return root;
}

// A picture that stands alone carries the colours that the page's style gave it.
function standing(picture) {
  const copy = picture.cloneNode(true);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const own = picture.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((one, i) => {
    const { fill, stroke, strokeWidth, fontFamily } = getComputedStyle(own[i]);
    for (const [name, value] of Object.entries({ fill, stroke, "stroke-width": strokeWidth, "font-family": fontFamily })) one.setAttribute(name, value);
  });
  return new XMLSerializer().serializeToString(copy);
}

function table(points, band) {
  const rows = ["kind,size,value,low,high"];
  for (const { x, y } of points) rows.push(`run,${x},${y},,`);
  for (const { size, value, low, high } of band) rows.push(`law,${size},${value},${low},${high}`);
  return rows.join("\n");
}
