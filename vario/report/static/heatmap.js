// Layers over steps as colours: one row per layer, what was measured, held until the next reading.

import { make } from "./dom.js";
import { color, number, shortened, steps, viridis } from "./format.js";
import { answered } from "./linked.js";
import { SvgContext, save } from "./svg.js";

const GAP = 1;
const FOOT = 21;
const SAMPLE = 20000; // values that decide the colours
const FAR = 12; // usual gaps after the last reading its colour pales: it may be that nothing is read any more
const LEAST = 3; // pixels of a row, however many there are
const MOST = 24; // and however few
const BAR = 12; // pixels that a scroll bar takes
const NUMBERLESS = [213, 94, 0]; // vermilion: on no viridis scale

// `map`: {title, scale: "log" | "share" | "signed", rows}; `tall` is how high all rows may be together.
// `onRow(name, step)` when one is chosen.
export async function heatMap(box, map, source, linked, onRow) {
  const view = new HeatMap(box, map, source, linked, onRow);
  await view.ask();
  view.begin();
  return view;
}

function fitted(context, name, width) {
  let most = name.length;
  while (most > 3 && context.measureText(shortened(name, most)).width > width) most--;
  return shortened(name, most);
}

class HeatMap {
  constructor(box, map, source, linked, onRow) {
    Object.assign(this, { box, map, source, linked, onRow, chosen: -1, name: null, words: "", asked: 0 });
    this.end = new AbortController();
  }

  // True where the answer is still wanted when it comes.
  async ask() {
    const mine = ++this.asked;
    const { range, all: [, until] } = this.linked;
    const found = await this.source.rows(this.map, range);
    const all = await Promise.all(found.map(async ({ name, curve }) => ({ name, curve: await curve })));
    if (mine !== this.asked || this.end.signal.aborted) return false;
    this.all = all;
    this.until = until;
    this.sift();
    return true;
  }

  begin() {
    const { box, map, linked, end } = this;
    this.canvas = make("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${map.title}: ${this.rows.length} layers over steps. Arrow keys choose a layer; its numbers are shown below.`);
    this.cursor = make("div", "crosshair");
    this.cursor.hidden = true;
    this.readout = make("p", "readout");
    this.scale = make("div", "scale");
    this.stage = make("div", "stage");
    this.below = make("div"); // as high as the rows that the canvas has no room for
    this.stage.append(this.canvas, this.below, this.cursor);
    this.stage.addEventListener("scroll", () => this.scrolled());
    box.replaceChildren(this.scale, this.stage, this.readout);
    this.canvas.addEventListener("pointermove", (event) => this.over(event));
    this.canvas.addEventListener("pointerleave", () => this.left());
    this.canvas.addEventListener("click", (event) => this.choose(this.rowAt(event.offsetY), this.stepAt(event.offsetX)));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    linked.on("point", ({ step, from }) => from !== this && this.mark(step), end.signal);
    linked.on("zoom", () => this.zoomed(), end.signal);
    this.draw();
    this.sizes = new ResizeObserver(() => this.box.clientWidth !== this.drawn && this.draw());
    this.sizes.observe(box);
  }

  // News of a run in flight.
  async refresh() {
    if (!this.all.length || this.linked.grown(this.until, this.width)) await this.fresh();
  }

  async fresh() {
    if (await this.ask()) this.draw();
  }

  async zoomed() {
    if (this.source.live) await answered(() => this.fresh(), () => this.draw());
    else this.draw();
  }

  // Only the rows whose names hold all of the words.
  filter(words) {
    if (words === this.words) return;
    this.words = words;
    this.sift();
    this.draw();
  }

  sift() {
    const words = this.words.toLowerCase().split(/\s+/).filter(Boolean);
    this.rows = words.length ? this.all.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word))) : this.all;
    this.chosen = this.rows.findIndex(({ name }) => name === this.name);
  }

  draw() {
    const width = (this.drawn = this.box.clientWidth);
    if (!width) return;
    this.size = Math.max(LEAST, Math.min(MOST, Math.floor((this.map.tall ?? 900) / Math.max(this.rows.length, 1))));
    const context = this.canvas.getContext("2d");
    context.font = "11px system-ui";
    const names = this.size >= 9 ? this.rows.map(({ name }) => context.measureText(shortened(name, 60)).width) : [];
    this.names = names.length ? Math.min(200, width * 0.34, Math.max(...names) + 10) : 0;
    this.height = this.rows.length * this.size;
    this.many = Math.min(this.rows.length, Math.floor((this.map.tall ?? 900) / this.size)); // on the canvas at once
    this.below.style.height = `${this.height - this.many * this.size}px`;
    this.stage.classList.toggle("scrolls", this.many < this.rows.length);
    this.stage.style.height = `${this.many * this.size + FOOT}px`;
    this.width = width - this.names - (this.many < this.rows.length ? BAR : 0);
    this.cells = null;
    if (this.rows.length) this.measure();
    this.show();
    if (this.rows.length) this.describe();
  }

  // What was measured, with the chosen row marked.
  show() {
    const ratio = devicePixelRatio;
    const [width, height] = [this.names + this.width, this.many * this.size + FOOT];
    const context = this.canvas.getContext("2d");
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    context.scale(ratio, ratio);
    this.top = this.topmost();
    const shown = this.rows.slice(this.top, this.top + this.many);
    if (shown.length) this.paint(context, shown, (this.cells ??= this.colored(shown)), this.chosen - this.top);
    else this.nothing(context);
  }

  // Rows that cannot all be on the screen at once are painted as they come.
  topmost() {
    if (this.many === this.rows.length) return 0;
    return Math.min(Math.round(this.stage.scrollTop / this.size), this.rows.length - this.many);
  }

  scrolled() {
    if (!this.drawn || this.topmost() === this.top) return;
    this.cells = null;
    this.show();
  }

  paint(context, rows, cells, chosen) {
    context.imageSmoothingEnabled = false;
    if (this.size > 7) {
      rows.forEach((row, i) => context.drawImage(cells, 0, i, cells.width, 1, this.names, i * this.size, this.width, this.size - GAP));
    } else {
      context.drawImage(cells, this.names, 0, this.width, rows.length * this.size);
    }
    this.ticks(context, rows);
    this.write(context, rows, chosen);
  }

  nothing(context) {
    this.scale.replaceChildren();
    context.font = "12px system-ui";
    context.fillStyle = color("muted");
    context.fillText(this.words ? "No layer has these words in its name." : "Nothing was read yet.", 0, 14);
  }

  // The range of steps, and the range of values that the colours span.
  measure() {
    const read = this.all.map(({ curve: { steps: at } }) => [at[0], at.at(-1)]).filter(([first]) => first !== undefined);
    const early = read.reduce((least, [first]) => Math.min(least, first), Infinity);
    const late = read.reduce((most, [, last]) => Math.max(most, last), early + 1);
    [this.first, this.last] = this.linked.range ?? (this.source.live ? this.linked.all : [early, late]);
    const some = new Set(this.all.filter((row, i) => i % Math.ceil(this.all.length / 50) === 0).map(({ curve }) => curve.steps));
    const gaps = [...some].flatMap((at) => Array.from(at.slice(1), (step, i) => step - at[i])).sort((x, y) => x - y);
    // At least a pixel or two wide, so that a single early reading can be seen at all.
    this.usual = Math.max(gaps[gaps.length >> 1] ?? 1, ((this.last - this.first) * 3) / Math.max(this.width, 1));
    const total = this.all.reduce((sum, { curve }) => sum + curve.mean.length, 0);
    const every = Math.ceil(total / SAMPLE);
    const values = [];
    let k = 0; // where the next of every so many lies in this row
    for (const { curve: { mean } } of this.all) {
      for (; k < mean.length; k += every) if (Number.isFinite(mean[k]) && (this.map.scale !== "log" || mean[k] > 0)) values.push(mean[k]);
      k -= mean.length;
    }
    const sorted = Float64Array.from(values).sort();
    const at = (share) => sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)];
    // One wild value must not take the colours of all others: the span leaves out 1 % at either end.
    this.span = this.map.scale === "share" ? [0, 1] : this.map.scale === "signed" ? [-1, 1] : [at(0.01) ?? 0.1, at(0.99) ?? 1];
    // Nor may values that died out to 1e-16: below a hundred-millionth all is the darkest colour.
    if (this.map.scale === "log") this.span[0] = Math.max(this.span[0], this.span[1] * 1e-8);
    if (this.map.scale === "log" && this.span[1] / this.span[0] < 10) {
      const middle = Math.sqrt(this.span[0] * this.span[1]);
      this.span = [middle / Math.sqrt(10), middle * Math.sqrt(10)];
    }
  }

  // A picture with one pixel per row and two screen pixels of steps. A reading holds until the next one; the
  // last one holds to the end, paler where that is far off.
  colored(rows) {
    const wide = Math.max(1, Math.floor(this.width));
    const picture = make("canvas");
    [picture.width, picture.height] = [wide, rows.length];
    const context = picture.getContext("2d");
    const image = context.createImageData(wide, rows.length);
    const pixels = new Uint32Array(image.data.buffer);
    const shades = Uint32Array.from({ length: 256 }, (_, i) => pixel(viridis(i / 255)));
    const numberless = pixel(NUMBERLESS);
    const shadeOf = this.shading();
    const places = new Map(); // rows that were read at the same steps fall on the same pixels
    rows.forEach(({ curve: { steps: at, mean } }, row) => {
      if (!places.has(at)) places.set(at, this.cellsOf(at, wide));
      const start = row * wide;
      for (const { from, to, left, held, end } of places.get(at)) {
        let sum = 0;
        for (let i = from; i < to; i++) sum += mean[i];
        const shade = Number.isFinite(sum) ? shades[shadeOf(sum / (to - from))] : numberless;
        if (end > held) pixels.fill(((shade & 0xffffff) | 0xad000000) >>> 0, start + held, start + end);
        pixels.fill(shade, start + left, start + held);
      }
    });
    context.putImageData(image, 0, 0);
    return picture;
  }

  // Which readings make one cell (all that fall on the same two pixels), its first pixel, the one after those
  // for which it holds, and the one after its paler rest.
  cellsOf(at, wide) {
    const x = (step) => Math.min(Math.max((step - this.first) / (this.last - this.first), 0), 1) * wide;
    const cells = [];
    for (let from = 0, to = 0; from < at.length; from = to) {
      const left = x(at[from]);
      do to++;
      while (to < at.length && x(at[to]) - left < 2);
      const [end, held] = to < at.length ? [at[to], at[to]] : [this.last + 1, at[to - 1] + FAR * this.usual];
      if (end < this.first || left >= wide) continue;
      const whole = Math.min(Math.ceil(Math.max(x(held), left + 1.5)), wide);
      cells.push({ from, to, left: Math.floor(left), held: whole, end: Math.max(Math.ceil(x(end)), whole) });
    }
    return cells;
  }

  // The readings of the row that has most of them, as ticks beneath the map.
  ticks(context, rows) {
    const { steps: at } = rows.reduce((most, { curve }) => (curve.steps.length > most.steps.length ? curve : most), rows[0].curve);
    context.fillStyle = color("muted");
    for (const step of at) {
      if (step < this.first || step > this.last) continue;
      context.fillRect(this.names + ((step - this.first) / (this.last - this.first)) * this.width, rows.length * this.size, 1, 4);
    }
  }

  // Which of 256 shades a value has.
  shading() {
    const [low, high] = this.map.scale === "log" ? this.span.map(Math.log) : this.span;
    const factor = 255 / (high - low);
    const within = (share) => Math.round(share < 0 ? 0 : share > 255 ? 255 : share);
    if (this.map.scale === "log") return (value) => (value > 0 ? within((Math.log(value) - low) * factor) : 0);
    return (value) => within((value - low) * factor);
  }

  write(context, rows, chosen) {
    const foot = rows.length * this.size + 17;
    context.font = `${Math.min(this.size, 11)}px system-ui`;
    context.textBaseline = "middle";
    rows.forEach(({ name }, i) => {
      if (i === chosen) {
        context.strokeStyle = color("ink");
        const thin = this.size < 9; // then the frame lies around the row: over it, nothing of it would be seen
        context.lineWidth = thin ? 1 : 2;
        if (thin) context.strokeRect(this.names + 0.5, i * this.size - 1.5, this.width - 1, this.size + 3);
        else context.strokeRect(this.names + 1, i * this.size, this.width - 2, this.size - 1);
      }
      context.fillStyle = color(i === chosen ? "ink" : "muted");
      if (this.names) context.fillText(fitted(context, shortened(name, 60), this.names - 8), 0, i * this.size + this.size / 2);
    });
    context.font = "11px system-ui";
    context.fillStyle = color("muted");
    context.textBaseline = "alphabetic";
    context.fillText(`step ${steps(this.first)}`, this.names, foot);
    context.textAlign = "right";
    context.fillText(steps(this.last), this.names + this.width, foot);
    context.textAlign = "left";
  }

  describe() {
    const [low, high] = this.span;
    const stops = [0, 0.25, 0.5, 0.75, 1].map((share) => `rgb(${viridis(share).join(",")})`).join(",");
    const bar = make("i");
    bar.style.background = `linear-gradient(90deg, ${stops})`;
    const ends = this.map.scale === "log" ? ["≤ ", "≥ "] : ["", ""];
    this.scale.replaceChildren(ends[0] + number(low), bar, ends[1] + number(high));
  }

  over(event) {
    const row = this.rowAt(event.offsetY);
    const step = this.stepAt(event.offsetX);
    if (row < 0 || step < this.first) return this.left();
    const { name, curve } = this.rows[row];
    let k = curve.steps.findIndex((at) => at >= step);
    if (k < 0) k = curve.steps.length - 1;
    const what = k < 0 ? "nothing was read" : `step ${steps(curve.steps[k])} · ${number(curve.mean[k])}`;
    this.readout.replaceChildren(make("bdi", "", name), ` · ${what}`);
    this.mark(step);
    this.linked.point(step, this);
  }

  left() {
    this.readout.textContent = "";
    this.mark(null);
    this.linked.point(null, this);
  }

  mark(step) {
    const inside = step !== null && step >= this.first && step <= this.last;
    this.cursor.hidden = !inside;
    if (!inside) return;
    this.cursor.style.left = `${this.names + ((step - this.first) / (this.last - this.first)) * this.width}px`;
    this.cursor.style.height = `${this.height}px`;
  }

  stepAt(x) {
    return this.first + ((x - this.names) / this.width) * (this.last - this.first);
  }

  rowAt(y) {
    const row = Math.floor(y / this.size);
    return row >= 0 && row < this.many ? this.top + row : -1;
  }

  key(event) {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!move || !this.rows.length) return;
    event.preventDefault();
    this.choose(Math.min(Math.max(this.chosen + move, 0), this.rows.length - 1));
  }

  choose(row, step = null) {
    if (row < 0) return;
    this.onRow(this.rows[row].name, step);
  }

  select(name) {
    this.name = name;
    this.chosen = this.rows.findIndex((row) => row.name === name);
    if (!this.drawn) return;
    const top = this.topmost(); // not the last one painted: the page may have been scrolled just now
    const far = this.chosen >= 0 && (this.chosen < top || this.chosen >= top + this.many);
    if (far) this.stage.scrollTop = (this.chosen - (this.many >> 1)) * this.size; // which shows it
    if (!far || this.topmost() === this.top) this.show();
  }

  savePicture() {
    const paper = new SvgContext(this.names + this.width, this.height + FOOT);
    this.paint(paper, this.rows, this.colored(this.rows), this.chosen);
    save(`${this.map.title}.svg`, paper.text(), "image/svg+xml");
  }

  saveTable() {
    const rows = ["layer,step,value"];
    for (const { name, curve } of this.all) curve.steps.forEach((step, i) => rows.push(`"${name.replaceAll('"', '""')}",${step},${curve.mean[i]}`));
    save(`${this.map.title}.csv`, rows.join("\n"), "text/csv");
  }

  destroy() {
    this.end.abort();
    this.sizes?.disconnect();
  }
}

function pixel([r, g, b]) {
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}
