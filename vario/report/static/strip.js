// A distribution over time: how many gradient entries have which magnitude, with lines at the quantiles.

import { make } from "./dom.js";
import { color, faded, number, steps } from "./format.js";
import { SvgContext, save } from "./svg.js";

const LEFT = 58;
const FOOT = 22;
const TALL = 180;

// `packed`: what the record's page holds, or what to ask a server for; `source.distribution` unpacks it.
export async function densityStrip(box, packed, label, source, linked) {
  const strip = new Strip(box, packed, label, source, linked);
  strip.data = await source.distribution(packed);
  strip.begin();
  return strip;
}

class Strip {
  constructor(box, packed, label, source, linked) {
    Object.assign(this, { box, packed, label, source, linked, until: linked.all[1] });
    this.end = new AbortController();
  }

  begin() {
    const { box, linked, end } = this;
    this.canvas = make("canvas");
    this.readout = make("p", "readout");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", described(this.data, this.label));
    this.cursor = make("div", "crosshair");
    this.cursor.hidden = true;
    const stage = make("div", "stage");
    stage.append(this.canvas, this.cursor);
    box.replaceChildren(stage, this.readout);
    this.canvas.addEventListener("pointermove", (event) => {
      const step = this.first + ((event.offsetX - LEFT) / this.width) * (this.last - this.first);
      this.mark(step);
      linked.point(step, this);
    });
    this.canvas.addEventListener("pointerleave", () => {
      this.mark(null);
      linked.point(null, this);
    });
    linked.on("point", ({ step, from }) => from !== this && this.mark(step), end.signal);
    linked.on("zoom", () => this.draw(), end.signal);
    this.draw();
    this.sizes = new ResizeObserver(() => this.box.clientWidth !== this.drawn && this.draw());
    this.sizes.observe(box);
  }

  // News of a run in flight.
  async refresh() {
    const until = this.linked.all[1];
    if (this.data.steps.length && !this.linked.grown(this.until, this.width)) return;
    const data = await this.source.distribution(this.packed);
    if (this.end.signal.aborted) return;
    Object.assign(this, { data, until });
    this.draw();
  }

  draw() {
    const width = (this.drawn = this.box.clientWidth);
    if (!width) return;
    const ratio = devicePixelRatio;
    this.canvas.width = width * ratio;
    this.canvas.height = (TALL + FOOT) * ratio;
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${TALL + FOOT}px` });
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    this.width = width - LEFT - 8;
    const { steps: at } = this.data;
    const shown = this.source.live ? this.linked.shown : this.linked.range;
    [this.first, this.last] = shown ?? [at[0], Math.max(at.at(-1), at[0] + 1)];
    paint(context, this.data, this);
  }

  mark(step) {
    const inside = step !== null && step >= this.first && step <= this.last && this.data.steps.length > 0;
    this.cursor.hidden = !inside;
    if (inside) Object.assign(this.cursor.style, { left: `${LEFT + ((step - this.first) / (this.last - this.first)) * this.width}px`, height: `${TALL}px` });
    this.readout.textContent = inside ? told(this.data, step) : "";
  }

  savePicture() {
    const paper = new SvgContext(LEFT + this.width + 8, TALL + FOOT);
    paint(paper, this.data, this);
    save("gradient-magnitudes.svg", paper.text(), "image/svg+xml");
  }

  destroy() {
    this.end.abort();
    this.sizes?.disconnect();
  }
}

function paint(context, strip, view) {
  const { bins, first, width: decade } = strip;
  const last = first + bins * decade;
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
  for (const step of strip.steps) if (step >= view.first && step <= view.last) context.fillRect(x(step), TALL, 1, 4);
  context.font = "11px system-ui";
  context.textAlign = "right";
  const every = Math.ceil((last - first) / 7);
  for (let power = Math.ceil(first); power <= last; power += every) context.fillText(`1e${power}`, LEFT - 6, Math.min(Math.max(y(power) + 4, 10), TALL - 1));
  context.fillText(steps(view.last), LEFT + view.width, TALL + 17);
  context.textAlign = "left";
  context.fillText(`step ${steps(view.first)}`, LEFT, TALL + 17);
}

// A column reaches half way to its neighbours; the ticks beneath are the readings.
function columns(context, strip, x, y) {
  const { steps: at } = strip;
  const gaps = Array.from(at.slice(1), (step, i) => step - at[i]).sort((a, b) => a - b);
  const usual = gaps[gaps.length >> 1] ?? 1;
  const ink = color("line-1");
  for (let i = 0; i < at.length; i++) {
    const left = at[i] - (i === 0 ? usual : at[i] - at[i - 1]) / 2;
    const right = at[i] + (i === at.length - 1 ? usual : at[i + 1] - at[i]) / 2;
    column(context, strip, i, x(left), x(right), y, ink);
  }
}

function column(context, { bins, first, width: decade, density }, i, left, right, y, ink) {
  for (let bin = 0; bin < bins; bin++) {
    const share = density[i * bins + bin] / 255;
    if (share < 0.02) continue;
    context.fillStyle = faded(ink, 0.85 * share);
    const low = y(first + bin * decade);
    const high = y(first + (bin + 1) * decade);
    context.fillRect(left, high, right - left, low - high);
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
