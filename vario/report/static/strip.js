// A distribution over time: how many gradient entries have which magnitude, with lines at the quantiles.

import { make } from "./dom.js";
import { color, number, steps, viridis } from "./format.js";

const LEFT = 58;
const FOOT = 20;
const TALL = 200;

// `packed`: what the record's page holds; `source.distribution` unpacks it.
export async function densityStrip(box, packed, label, source, linked) {
  const strip = await source.distribution(packed);
  const canvas = make("canvas");
  const readout = make("p", "readout");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", described(strip, label));
  const cursor = make("div", "crosshair");
  cursor.hidden = true;
  const stage = make("div", "stage");
  stage.append(canvas, cursor);
  box.replaceChildren(stage, readout);
  const view = {};
  const draw = () => paint(canvas, box.clientWidth, strip, linked.range, view);
  const mark = (step) => {
    const inside = step !== null && step >= view.first && step <= view.last;
    cursor.hidden = !inside;
    if (inside) Object.assign(cursor.style, { left: `${LEFT + ((step - view.first) / (view.last - view.first)) * view.width}px`, height: `${TALL}px` });
    readout.textContent = inside ? told(strip, step) : "";
  };
  canvas.addEventListener("pointermove", (event) => {
    const step = view.first + ((event.offsetX - LEFT) / view.width) * (view.last - view.first);
    mark(step);
    linked.point(step, view);
  });
  canvas.addEventListener("pointerleave", () => {
    mark(null);
    linked.point(null, view);
  });
  linked.on("point", ({ step, from }) => from !== view && mark(step));
  linked.on("zoom", draw);
  new ResizeObserver(draw).observe(box);
  draw();
  return { draw };
}

function paint(canvas, width, strip, range, view) {
  if (!width) return;
  const ratio = devicePixelRatio;
  canvas.width = width * ratio;
  canvas.height = (TALL + FOOT) * ratio;
  Object.assign(canvas.style, { width: `${width}px`, height: `${TALL + FOOT}px` });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const { steps: at, bins, first, width: decade } = strip;
  const last = first + bins * decade;
  view.width = width - LEFT - 8;
  [view.first, view.last] = range ?? [at[0], Math.max(at.at(-1), at[0] + 1)];
  const x = (step) => LEFT + ((step - view.first) / (view.last - view.first)) * view.width;
  const y = (power) => TALL - ((power - first) / (last - first)) * TALL;
  context.save();
  context.beginPath();
  context.rect(LEFT, 0, view.width, TALL);
  context.clip();
  columns(context, strip, x, y);
  lines(context, strip, x, y);
  context.restore();
  context.fillStyle = color("muted");
  context.font = "11px system-ui";
  context.textAlign = "right";
  const every = Math.ceil((last - first) / 7);
  for (let power = Math.ceil(first); power <= last; power += every) context.fillText(`1e${power}`, LEFT - 6, Math.min(Math.max(y(power) + 4, 10), TALL - 1));
  context.fillText(steps(view.last), LEFT + view.width, TALL + 14);
  context.textAlign = "left";
  context.fillText(`step ${steps(view.first)}`, LEFT, TALL + 14);
}

// A column lies around its step; where the next one is far off it pales: nothing was measured there.
function columns(context, strip, x, y) {
  const { steps: at } = strip;
  const gaps = Array.from(at.slice(1), (step, i) => step - at[i]).sort((a, b) => a - b);
  const usual = gaps[gaps.length >> 1] ?? 1;
  for (let i = 0; i < at.length; i++) {
    const before = i === 0 ? usual : at[i] - at[i - 1];
    const after = i === at.length - 1 ? usual : at[i + 1] - at[i];
    if (before > 2 * usual) column(context, strip, i, x(at[i] - before / 2), x(at[i] - usual), y, 0.4);
    column(context, strip, i, x(at[i] - Math.min(before / 2, usual)), x(at[i] + Math.min(after / 2, usual)), y, 1);
    if (after > 2 * usual) column(context, strip, i, x(at[i] + usual), x(at[i] + after / 2), y, 0.4);
  }
}

function column(context, { bins, first, width: decade, density }, i, left, right, y, strength) {
  for (let bin = 0; bin < bins; bin++) {
    const share = density[i * bins + bin] / 255;
    if (!share) continue;
    const [r, g, b] = viridis(share);
    context.fillStyle = `rgba(${r}, ${g}, ${b}, ${strength * (0.12 + 0.88 * share)})`;
    const low = y(first + bin * decade);
    const high = y(first + (bin + 1) * decade);
    context.fillRect(left, high, right - left + (strength === 1 ? 0.4 : 0), low - high + 0.4);
  }
}

function lines(context, { steps: at, quantiles }, x, y) {
  quantiles.forEach((values, q) => {
    context.beginPath();
    let pen = false;
    values.forEach((value, i) => {
      if (!Number.isFinite(value)) return (pen = false);
      context[pen ? "lineTo" : "moveTo"](x(at[i]), y(value));
      pen = true;
    });
    const middle = q === (quantiles.length - 1) / 2;
    context.strokeStyle = color("strip-line");
    context.lineWidth = middle ? 2 : 1;
    context.setLineDash(middle ? [] : [3, 3]);
    context.stroke();
  });
  context.setLineDash([]);
}

function told({ steps: at, quantiles, shares }, step) {
  let i = at.findIndex((s) => s >= step);
  if (i < 0) i = at.length - 1;
  const words = shares.map((share, q) => `${Math.round(100 * share)} % below ${number(10 ** quantiles[q][i], 2)}`);
  return `step ${steps(at[i])} · ${words.join(", ")}`;
}

function described({ steps: at, quantiles, shares }, label) {
  const middle = quantiles[shares.indexOf(0.5)];
  return `Magnitudes of the gradient entries of ${label} over ${at.length} columns of steps; the median is ${number(10 ** middle[0])} first and ${number(10 ** middle.at(-1))} last.`;
}
