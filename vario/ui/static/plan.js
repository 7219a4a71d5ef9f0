// A plan: the runs, the law that was fitted to them with its band, and what it predicts.

import { number } from "/shared/format.js";
import { logTicks } from "/shared/chart.js";
import { save, svgElement } from "/shared/svg.js";
import { Refused, askJson } from "./api.js";
import { button, clear, dial, el } from "./build.js";
import { empty, pairs } from "./figures.js";
import { plain } from "./words.js";

const [WIDE, TALL] = [860, 420];
const BOX = { left: 66, right: 20, top: 14, foot: 44 };

export function planPage(frame, route) {
  return new PlanPage(frame, route);
}

class PlanPage {
  constructor(frame, { parts }) {
    Object.assign(this, { frame, id: parts[0] ?? "", keys: {} });
    frame.crumbs([["runs", "#/runs"], [`plan ${plain(this.id, 60)}`]], `plan ${plain(this.id, 60)}`);
    this.load();
  }

  async load() {
    try {
      this.show(await askJson(`/api/plan/${encodeURIComponent(this.id)}`));
    } catch (error) {
      if (error.constructor.name === "Unreachable") return;
      if (!(error instanceof Refused)) throw error;
      clear(this.frame.view, el("div", { "data-testid": "refused" }, empty("This plan cannot be shown", plain(error.message, 600))));
    }
    this.frame.view.removeAttribute("aria-busy");
  }

  back() {
    return this.load();
  }

  leave() {}

  show(told) {
    const { law, title, inputs = [], output = "loss", runs = [], curve = [], parameters = [], predictions = [], facts = [], notes = [] } = told;
    const size = inputs.join(" × ");
    const best = predictions[0];
    const headline = best ? `${output} ${number(best[1])} (${number(best[2])} to ${number(best[3])}) is predicted` : `${law} on ${runs.length} runs`;
    const told_ = [["law", law], ["runs", String(runs.length)], ["inputs", size]];
    const head = el("header", { class: "verdict" }, dial(best ? "advice" : "unknown"), el("div", {}, el("h1", {}, plain(headline, 200)), title && el("p", { class: "cmd" }, plain(title, 300)), el("dl", {}, told_.filter(([, value]) => value).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, plain(value, 120)))))));
    const picture = drawn({ size, output, runs, curve, predictions, law });
    const tools = el("span", { class: "tools" }, button("csv", { title: "Save the numbers of this chart", onclick: () => save("plan.csv", table(told), "text/csv") }), button("svg", { title: "Save this chart as a picture", onclick: () => save("plan.svg", standing(picture), "image/svg+xml") }));
    const figure = el("figure", { class: "map", "data-testid": "plan" }, el("figcaption", {}, el("span", { class: "name" }, `${plain(output)} over ${plain(size)}`, el("small", {}, "band: 95 % of new runs")), tools), picture);
    const forecasts = predictions.map(([x, value, low, high, at]) => [Object.entries(at ?? {}).map(([name, one]) => `${name} = ${number(one)}`).join(", ") || number(x), `${number(value)} (${number(low)} to ${number(high)})`]);
    clear(
      this.frame.view,
      head,
      el("section", {}, figure),
      el("section", {}, el("div", { class: "columns" }, forecasts.length > 0 && pairs(forecasts, "predictions"), parameters.length > 0 && pairs(parameters.map(([name, value, low, high]) => [name, low === null || low === undefined ? number(value) : `${number(value)} (${number(low)} to ${number(high)})`]), "parameters, with 95 % intervals"), facts.length > 0 && pairs(facts, "the fit"))),
      notes.length > 0 && el("section", {}, el("h2", {}, "Before it is believed"), el("ul", { class: "reasons" }, notes.map((text) => el("li", {}, plain(text, 600))))),
    );
  }
}

// Both axes are logarithmic: a power law is straight, and what the future adds is seen at once.
function drawn({ size, output, runs, curve, predictions, law }) {
  const xs = [...runs, ...curve, ...predictions].map(([x]) => x).filter((x) => x > 0);
  const ys = [...runs.map(([, y]) => y), ...curve.flatMap(([, ...three]) => three), ...predictions.flatMap(([, a, b, c]) => [a, b, c])].filter((y) => y > 0);
  const root = svgElement("svg", { class: "law", viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "aria-label": `${plain(law)}: ${output} of ${runs.length} runs over ${size}, with the law and its band` });
  if (!xs.length || !ys.length) return root;
  const [x0, x1, y0, y1] = [Math.min(...xs) / 1.4, Math.max(...xs) * 1.4, Math.min(...ys) / 1.06, Math.max(...ys) * 1.06];
  const x = (value) => BOX.left + (Math.log(value / x0) / Math.log(x1 / x0)) * (WIDE - BOX.left - BOX.right);
  const y = (value) => TALL - BOX.foot - (Math.log(value / y0) / Math.log(y1 / y0)) * (TALL - BOX.top - BOX.foot);
  const say = (text, at, more = {}) => root.append(svgElement("text", { ...at, class: "tick", "font-size": 12, ...more }, text));
  for (const tick of logTicks(x0, x1)) {
    root.append(svgElement("path", { d: `M${x(tick)} ${BOX.top}V${TALL - BOX.foot}`, class: "hair" }));
    say(number(tick), { x: x(tick), y: TALL - BOX.foot + 18 }, { "text-anchor": "middle" });
  }
  for (const tick of logTicks(y0, y1)) {
    root.append(svgElement("path", { d: `M${BOX.left} ${y(tick)}H${WIDE - BOX.right}`, class: "hair" }));
    say(number(tick), { x: BOX.left - 8, y: y(tick) + 4 }, { "text-anchor": "end" });
  }
  say(plain(size, 80), { x: WIDE - BOX.right, y: TALL - 6 }, { "text-anchor": "end" });
  const good = curve.filter(([, ...three]) => three.every((one) => one > 0));
  if (good.length) {
    const upper = good.map(([at, , , high]) => `${x(at)} ${y(high)}`);
    const lower = good.map(([at, , low]) => `${x(at)} ${y(low)}`).reverse();
    root.append(svgElement("path", { d: `M${[...upper, ...lower].join("L")}Z`, class: "band" }));
    root.append(svgElement("path", { d: `M${good.map(([at, value]) => `${x(at)} ${y(value)}`).join("L")}`, class: "curve" }));
  }
  for (const [at, value] of runs) if (at > 0 && value > 0) root.append(svgElement("circle", { cx: x(at), cy: y(value), r: 3.5, class: "ran" }));
  for (const [at, value, low, high] of predictions) {
    root.append(svgElement("path", { d: `M${x(at)} ${y(low)}V${y(high)}M${x(at) - 6} ${y(low)}h12M${x(at) - 6} ${y(high)}h12`, class: "whisker" }), svgElement("circle", { cx: x(at), cy: y(value), r: 6, class: "foretold" }));
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

function table({ runs = [], curve = [], predictions = [] }) {
  const rows = ["kind,size,value,low,high"];
  for (const [x, y] of runs) rows.push(`run,${x},${y},,`);
  for (const row of curve) rows.push(`law,${row.slice(0, 4).join(",")}`);
  for (const row of predictions) rows.push(`prediction,${row.slice(0, 4).join(",")}`);
  return rows.join("\n");
}
