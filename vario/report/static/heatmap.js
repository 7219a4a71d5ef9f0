// Layers over steps as colours: one row per layer, what was measured, held until the next reading.

import { make } from "./dom.js";
import { color, number, shortened, steps, viridis } from "./format.js";

const GAP = 1;
const FOOT = 21;
const NUMBERLESS = [213, 94, 0]; // vermilion: on no viridis scale

// `map`: {title, scale: "log" | "share" | "signed", rows: [[name, curve]]}. `onRow(name)` when one is chosen.
export async function heatMap(box, map, source, linked, onRow) {
  const rows = await Promise.all(map.rows.map(async ([name, index]) => ({ name, curve: await source.curve(index) })));
  const view = new HeatMap(box, map, rows, linked, onRow);
  linked.on("point", ({ step, from }) => from !== view && view.mark(step));
  linked.on("zoom", () => view.draw());
  new ResizeObserver(() => view.draw()).observe(box);
  return view;
}

function fitted(context, name, width) {
  let most = name.length;
  while (most > 3 && context.measureText(shortened(name, most)).width > width) most--;
  return shortened(name, most);
}

class HeatMap {
  constructor(box, map, rows, linked, onRow) {
    Object.assign(this, { box, map, rows, linked, onRow, chosen: -1, marked: null });
    this.canvas = make("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${map.title}: ${rows.length} layers over steps. Arrow keys choose a layer; the table below has the numbers.`);
    this.cursor = make("div", "crosshair");
    this.readout = make("p", "readout");
    this.scale = make("div", "scale");
    const stage = make("div", "stage");
    stage.append(this.canvas, this.cursor);
    box.replaceChildren(this.scale, stage, this.readout);
    this.canvas.addEventListener("pointermove", (event) => this.over(event));
    this.canvas.addEventListener("pointerleave", () => this.left());
    this.canvas.addEventListener("click", (event) => this.choose(this.rowAt(event.offsetY)));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.draw();
  }

  draw() {
    const width = this.box.clientWidth;
    if (!width) return;
    const ratio = devicePixelRatio;
    const size = Math.max(4, Math.min(18, Math.floor(900 / this.rows.length)));
    const context = this.canvas.getContext("2d");
    context.font = "11px system-ui";
    const longest = Math.max(...this.rows.map(({ name }) => context.measureText(name).width));
    this.names = size >= 9 ? Math.min(200, width * 0.34, longest + 10) : 0;
    this.size = size;
    this.height = this.rows.length * size;
    this.width = width - this.names;
    this.canvas.width = width * ratio;
    this.canvas.height = (this.height + FOOT) * ratio;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${this.height + FOOT}px`;
    context.scale(ratio, ratio);
    this.measure();
    this.rows.forEach((row, i) => this.paint(context, row, i));
    this.ticks(context);
    this.write(context);
    this.describe();
  }

  // The range of steps, the columns, and the range of values that the colours span.
  measure() {
    const read = this.rows.flatMap(({ curve }) => [curve.steps[0], curve.steps.at(-1)]);
    [this.first, this.last] = this.linked.range ?? [Math.min(...read), Math.max(...read, Math.min(...read) + 1)];
    const gaps = this.rows.flatMap(({ curve: { steps: at } }) => Array.from(at.slice(1), (step, i) => step - at[i])).sort((x, y) => x - y);
    // At least a pixel or two wide, so that a single early reading can be seen at all.
    this.usual = Math.max(gaps[gaps.length >> 1] ?? 1, ((this.last - this.first) * 3) / Math.max(this.width, 1));
    const values = [];
    for (const { curve } of this.rows) for (const value of curve.mean) if (Number.isFinite(value) && (this.map.scale !== "log" || value > 0)) values.push(value);
    values.sort((a, b) => a - b);
    const at = (share) => values[Math.min(Math.floor(share * values.length), values.length - 1)];
    // One wild value must not take the colours of all others: the span leaves out 1 % at either end.
    this.span = this.map.scale === "share" ? [0, 1] : this.map.scale === "signed" ? [-1, 1] : [at(0.01) ?? 0.1, at(0.99) ?? 1];
    // Nor may values that died out to 1e-16: below a hundred-millionth all is the darkest colour.
    if (this.map.scale === "log") this.span[0] = Math.max(this.span[0], this.span[1] * 1e-8);
    if (this.map.scale === "log" && this.span[1] / this.span[0] < 10) {
      const middle = Math.sqrt(this.span[0] * this.span[1]);
      this.span = [middle / Math.sqrt(10), middle * Math.sqrt(10)];
    }
  }

  // A reading holds until the next one, paler where that is far off: nothing was measured there.
  paint(context, { curve }, index) {
    const { steps: at, mean } = curve;
    const top = index * this.size;
    const tall = this.size - (this.size > 7 ? GAP : 0);
    const x = (step) => this.names + Math.min(Math.max((step - this.first) / (this.last - this.first), 0), 1) * this.width;
    const usual = this.usual;
    let i = 0;
    while (i < at.length) {
      // All readings that fall on the same two pixels make one cell.
      const left = x(at[i]);
      let [sum, count, bad, next] = [0, 0, 0, i];
      do {
        if (Number.isFinite(mean[next])) [sum, count] = [sum + mean[next], count + 1];
        else bad++;
        next++;
      } while (next < at.length && x(at[next]) - left < 2);
      const end = next < at.length ? at[next] : at[next - 1] + usual;
      const held = Math.min(end, at[next - 1] + 2 * usual);
      const [r, g, b] = bad ? NUMBERLESS : viridis(this.share(sum / count));
      i = next;
      if (end < this.first || left >= this.names + this.width) continue;
      context.fillStyle = `rgb(${r}, ${g}, ${b})`;
      context.fillRect(left, top, Math.max(x(held) - left, 1.5) + 0.4, tall);
      if (end > held) {
        context.fillStyle = `rgba(${r}, ${g}, ${b}, 0.68)`;
        context.fillRect(x(held), top, x(end) - x(held), tall);
      }
    }
  }

  // The readings of the row that has most of them, as ticks beneath the map.
  ticks(context) {
    const { steps: at } = this.rows.reduce((most, { curve }) => (curve.steps.length > most.steps.length ? curve : most), this.rows[0].curve);
    context.fillStyle = color("muted");
    for (const step of at) {
      if (step < this.first || step > this.last) continue;
      context.fillRect(this.names + ((step - this.first) / (this.last - this.first)) * this.width, this.height, 1, 4);
    }
  }

  share(value) {
    const [low, high] = this.span;
    if (this.map.scale === "log") return value > 0 ? Math.log(value / low) / Math.log(high / low) : 0;
    return (value - low) / (high - low);
  }

  write(context) {
    context.font = `${Math.min(this.size, 11)}px system-ui`;
    context.textBaseline = "middle";
    this.rows.forEach(({ name }, i) => {
      if (i === this.chosen) {
        context.strokeStyle = color("ink");
        context.lineWidth = 2;
        context.strokeRect(this.names + 1, i * this.size, this.width - 2, this.size - 1);
      }
      context.fillStyle = color(i === this.chosen ? "ink" : "muted");
      if (this.names) context.fillText(fitted(context, name, this.names - 8), 0, i * this.size + this.size / 2);
    });
    context.font = "11px system-ui";
    context.fillStyle = color("muted");
    context.textBaseline = "alphabetic";
    context.fillText(`step ${steps(this.first)}`, this.names, this.height + 17);
    context.textAlign = "right";
    context.fillText(steps(this.last), this.names + this.width, this.height + 17);
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
    const step = this.first + ((event.offsetX - this.names) / this.width) * (this.last - this.first);
    if (row < 0 || step < this.first) return this.left();
    const { name, curve } = this.rows[row];
    let k = curve.steps.findIndex((at) => at >= step);
    if (k < 0) k = curve.steps.length - 1;
    this.readout.replaceChildren(make("bdi", "", name), ` · step ${steps(curve.steps[k])} · ${number(curve.mean[k])}`);
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

  rowAt(y) {
    const row = Math.floor(y / this.size);
    return row >= 0 && row < this.rows.length ? row : -1;
  }

  key(event) {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    this.choose(Math.min(Math.max(this.chosen + move, 0), this.rows.length - 1));
  }

  choose(row) {
    if (row < 0) return;
    this.onRow(this.rows[row].name);
  }

  select(name) {
    this.chosen = this.rows.findIndex((row) => row.name === name);
    this.draw();
  }
}
