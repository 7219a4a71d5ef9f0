// Elements of the page. Text always goes in as text: nothing of a run ever becomes markup.

import { svgElement } from "/shared/svg.js";

// `attributes`: class, listeners as `onclick`, everything else as it is called in HTML; null leaves it out.
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function button(text, attributes = {}) {
  return el("button", { type: "button", ...attributes }, text);
}

export function clear(box, ...children) {
  box.replaceChildren(...children.flat(Infinity).filter(Boolean));
  return box;
}

const NEEDLE = { error: [-52, "#d55e00"], warning: [-24, "#e69f00"], advice: [18, "#56b4e9"], unknown: [0, "#8a94a3"], well: [46, "#009e73"] };

// The variometer itself: the needle points up where all is well, down where the run sinks.
export function dial(state) {
  const [angle, ink] = NEEDLE[state] ?? NEEDLE.unknown;
  const root = svgElement("svg", { class: "dial", viewBox: "0 0 80 80", "aria-hidden": "true" });
  root.append(svgElement("circle", { cx: 40, cy: 40, r: 37, fill: "none", stroke: "currentColor", opacity: 0.25, "stroke-width": 2 }));
  for (let tick = -3; tick <= 3; tick++) {
    root.append(svgElement("path", { d: `M8 40h${tick % 2 ? 6 : 9}`, stroke: "currentColor", opacity: 0.55, "stroke-width": 2, transform: `rotate(${tick * 26} 40 40)` }));
  }
  root.append(svgElement("path", { d: "M44 36.5 9 40 44 43.5z", fill: ink, transform: `rotate(${angle} 40 40)` }));
  root.append(svgElement("circle", { cx: 40, cy: 40, r: 6, fill: ink }));
  return root;
}

// A small line without axes; values that are no numbers leave gaps.
export function sparkline(values, label) {
  const [wide, tall] = [120, 26];
  const root = svgElement("svg", { class: "spark", viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": label, preserveAspectRatio: "none" });
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  if (known.length < 2) return root;
  const log = Math.min(...known) > 0 && Math.max(...known) / Math.min(...known) > 50;
  const scaled = values.map((value) => (value === null || (log && value <= 0) ? null : log ? Math.log(value) : value));
  const good = scaled.filter((value) => value !== null);
  const [low, high] = [Math.min(...good), Math.max(...good)];
  let path = "";
  scaled.forEach((value, i) => {
    if (value === null) return;
    const x = 2 + (i / Math.max(values.length - 1, 1)) * (wide - 4);
    const y = tall - 3 - ((value - low) / (high - low || 1)) * (tall - 6);
    path += `${path && scaled[i - 1] !== null ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
  });
  root.append(svgElement("path", { d: path, fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-linejoin": "round", "vector-effect": "non-scaling-stroke" }));
  return root;
}

// One evidence as a needle on a scale: the value, its interval as a bar, the limit as a mark.
export function meter({ value, low, high, limit }, label) {
  const known = [value, low, high, limit].filter((one) => one !== null && one !== undefined);
  if (value === null || limit === null || new Set(known).size < 2) return null;
  const log = Math.min(...known) > 0 && Math.max(...known) / Math.min(...known) > 30;
  const of = (one) => (log ? Math.log(one) : one);
  let [from, to] = [of(Math.min(...known, log ? Infinity : 0)), of(Math.max(...known))];
  const margin = 0.06 * (to - from || 1);
  [from, to] = [log || from < 0 ? from - margin : from, to + margin];
  const x = (one) => 4 + (132 * (of(one) - from)) / (to - from);
  const root = svgElement("svg", { class: "meter", viewBox: "0 0 140 22", width: 140, height: 22, role: "img", "aria-label": label });
  const [a, b] = [low === null ? 4 : x(low), high === null ? 136 : x(high)];
  root.append(
    svgElement("path", { d: "M4 11H136", stroke: "currentColor", opacity: 0.25 }),
    svgElement("path", { d: `M${a} 11H${Math.max(b, a + 1)}`, class: "spread", "stroke-width": 6, opacity: 0.45 }),
    svgElement("path", { d: `M${x(limit)} 2V20`, class: "mark", "stroke-width": 2, "stroke-dasharray": "3 2" }),
    svgElement("circle", { cx: x(value), cy: 11, r: 4.5, class: "point" }),
  );
  return root;
}
