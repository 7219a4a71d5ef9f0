// A line chart over steps: bucket means inside bands from smallest to largest, limits, the steps in
// question, and marks where a value was no number. Drag to zoom, double click to see all again.

import { make } from "./dom.js";
import { amount, color, faded, steps } from "./format.js";
import { answered } from "./linked.js";
import { chartPicture, chartTable } from "./picture.js";
import { smoothed } from "./smooth.js";
import { save } from "./svg.js";

const LINES = 8; // --line-1 to --line-8 in the page's style
const PER_LINE = 4; // what uPlot is given of a line: smallest, mean, largest, smoothed mean

// `spec`: {title, lines: [{label, curve}], limits: [{value, label}], span: [first, last] or null}; a line may
// have an `ink` (1 to 8), be dashed (`dash`) and share its place in the legend with others (`group`); a chart may
// show its limits wherever they are (`always`) and be so many pixels high (`height`).
// It asks at once, and is drawn when `turn` has come.
export async function lineChart(figure, spec, source, linked, turn = null) {
  const chart = new LineChart(figure, spec, source, linked);
  await chart.ask();
  await turn;
  chart.begin();
  return chart;
}

class LineChart {
  constructor(figure, spec, source, linked) {
    Object.assign(this, { figure, spec, source, linked, plot: null, curves: [], asked: 0, pointed: null });
    this.log = null; // null until the curves decide or a person does
    this.chosen = false;
    this.end = new AbortController();
  }

  // True where the answer is still wanted when it comes.
  async ask() {
    const mine = ++this.asked;
    const range = this.linked.range;
    const curves = await Promise.all(this.spec.lines.map((line) => this.source.curve(line.curve, range)));
    if (mine !== this.asked || this.end.signal.aborted) return false;
    this.curves = curves;
    this.broken = curves.some(({ mean, high }) => !(mean.every(Number.isFinite) && high.every(Number.isFinite)));
    // Here, where all charts that were asked for together are still to be drawn: each that is drawn changes
    // the page, and the next one to ask for a width would make the browser lay it all out once more.
    this.wide = this.figure.querySelector(".plot").clientWidth;
    return true;
  }

  begin() {
    const { figure, spec, linked, end } = this;
    const caption = figure.querySelector("figcaption");
    this.logged = tool("log", "Logarithmic or linear axis", () => this.turn());
    const csv = tool("csv", "Save the numbers of this chart", () => this.saveTable());
    const svg = tool("svg", "Save this chart as a picture", () => save(`${spec.title}.svg`, chartPicture(this), "image/svg+xml"));
    const box = make("span", "tools");
    box.append(this.logged, csv, svg);
    const name = make("span", "name", spec.title);
    if (spec.note) name.append(make("small", "", spec.note));
    caption.replaceChildren(name, box);
    this.legend = make("div", "legend");
    this.legend.setAttribute("aria-hidden", "true");
    this.holder = figure.querySelector(".plot");
    figure.append(this.legend);
    figure.setAttribute("role", "group");
    this.draw();
    linked.on("zoom", () => this.zoomed(), end.signal);
    linked.on("soften", () => this.put(), end.signal);
    linked.on("point", ({ step, from }) => from !== this.plot && follow(this.plot, step), end.signal);
    this.sizes = new ResizeObserver(() => {
      const width = (this.wide = this.holder.clientWidth);
      if (width && width !== this.plot.width) this.plot.setSize({ width, height: this.plot.height });
    });
    this.sizes.observe(this.holder);
  }

  // All anew, as a change of theme or of the axis needs it.
  draw() {
    if (!this.chosen) this.log = wantsLog(this.curves);
    this.logged.setAttribute("aria-pressed", this.log);
    this.plot?.destroy();
    this.pointed = null;
    this.holder.replaceChildren();
    this.plot = plotted(this);
    this.told();
  }

  // The same chart with the curves of now.
  put() {
    if (!this.chosen && wantsLog(this.curves) !== this.log) return this.draw();
    this.plot.setData(this.columns(), false);
    scaled(this.plot, this.linked.shown);
    this.told();
  }

  async refresh() {
    if (await this.ask()) this.put();
  }

  // Where the source has more to say about the range, with that.
  async zoomed() {
    const move = () => scaled(this.plot, this.linked.shown);
    if (this.source.live) await answered(() => this.refresh(), move);
    else move();
  }

  turn() {
    [this.log, this.chosen] = [!this.log, true];
    this.draw();
  }

  columns() {
    const { log, linked } = this;
    const reach = linked.smooth * (linked.shown[1] - linked.shown[0]);
    const tables = this.curves.map(({ steps: at, low, mean, high }) => [Array.from(at), usable(low, log), usable(mean, log), usable(high, log), smoothed(at, mean, reach, log)]);
    return tables.length > 1 ? uPlot.join(tables) : tables[0] ?? [[]];
  }

  ink(i) {
    return color(`line-${((this.spec.lines[i].ink ?? i + 1) - 1) % LINES + 1}`);
  }

  told() {
    readout(this, this.pointed);
    this.figure.setAttribute("aria-label", described(this.spec, this.curves));
  }

  // The reading under the pointer; null where there is none.
  point(index) {
    if (index !== this.pointed) readout(this, (this.pointed = index));
  }

  async saveTable() {
    const whole = this.source.whole ? await Promise.all(this.spec.lines.map((line) => this.source.whole(line.curve))) : this.curves;
    save(`${this.spec.title}.csv`, chartTable(this.spec, whole), "text/csv");
  }

  destroy() {
    this.end.abort();
    this.sizes?.disconnect();
    this.plot?.destroy();
  }
}

// A linear axis would hide most of the curve, and a logarithmic one can show all of it.
export function wantsLog(curves) {
  const values = new Float64Array(curves.reduce((sum, { mean }) => sum + mean.length, 0));
  let count = 0;
  for (const { mean } of curves) for (const value of mean) if (Number.isFinite(value)) values[count++] = value;
  const sorted = values.subarray(0, count).sort();
  if (count < 2 || sorted[0] <= 0) return false;
  const middle = sorted[count >> 1];
  return sorted[count - 1] / middle > 20 || middle / sorted[0] > 100;
}

function plotted(chart) {
  const { holder, spec, log, linked } = chart;
  const data = chart.columns();
  const series = [{}];
  const bands = [];
  spec.lines.forEach((line, i) => {
    const ink = chart.ink(i);
    const at = 1 + PER_LINE * i;
    const edge = { stroke: "transparent", width: 0, points: { show: false } };
    const few = data[0].length < 40;
    const raw = () => (linked.smooth ? faded(ink, 0.3) : ink);
    const dash = line.dash ? [6, 4] : undefined;
    series.push(edge, { label: line.label, stroke: raw, width: 1.6, dash, points: { show: few, size: 5, fill: color("card") } }, edge, { stroke: ink, width: 2, points: { show: false } });
    bands.push({ series: [at + 2, at], fill: faded(ink, 0.2) });
  });
  const axis = { stroke: color("muted"), grid: { stroke: color("hair"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const plot = new uPlot(
    {
      width: chart.wide || holder.clientWidth || 480,
      height: spec.height ?? 190,
      padding: [10, 18, 0, 0], // half of the last step's number
      legend: { show: false },
      cursor: { y: false, drag: { x: true, y: false, setScale: false }, points: { show: (u, i) => i % PER_LINE === 2, size: 7 } },
      scales: { x: { time: false }, y: { distr: log ? 3 : 1, range: (u, low, high) => around(low, high, log, spec.limits, spec.always) } },
      axes: [
        { ...axis, values: (u, splits) => splits.map((v) => (Number.isInteger(v) ? steps(v) : "")), size: 28, space: 60 },
        {
          ...axis,
          size: 58,
          space: 28,
          filter: (u, splits) => splits, // uPlot's own would drop the 2 and 5 of a logarithmic axis
          values: (u, splits) => splits.map((v) => amount(v, spec.unit, 6)),
          ...(log ? { splits: (u, i, low, high) => logTicks(low, high) } : {}),
        },
      ],
      series,
      bands,
      hooks: {
        drawClear: [(u) => shade(u, spec.span), (u) => chart.broken && broken(u, chart.curves)],
        draw: [(u) => limits(u, spec.limits)],
        setCursor: [(u) => chart.plot === u && chart.point(u.cursor.left < 0 ? null : u.cursor.idx)],
        setSelect: [
          (u) => {
            if (u.select.width < 4) return;
            const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
            u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            linked.zoom(range);
          },
        ],
      },
    },
    data,
    holder,
  );
  plot.over.addEventListener("pointermove", (event) => linked.point(plot.posToVal(event.offsetX, "x"), plot));
  plot.over.addEventListener("pointerleave", () => linked.point(null, plot));
  plot.over.addEventListener("dblclick", () => linked.zoom(null));
  scaled(plot, linked.shown);
  return plot;
}

// uPlot leaves a gap where a value is null, and bridges where it is undefined (another curve's step).
function usable(values, log) {
  const found = Array(values.length);
  for (let i = 0; i < values.length; i++) found[i] = Number.isFinite(values[i]) && (!log || values[i] > 0) ? values[i] : null;
  return found;
}

function around(low, high, log, marks, always) {
  if (low === null || low === undefined) return log ? [0.1, 1] : [0, 1];
  for (const { value } of marks ?? []) {
    // A limit far outside would flatten the curve; then its label at the edge says where it is.
    const near = always || (log ? value > low / 100 && value < high * 100 : value > low - 2 * (high - low) && value < high + 2 * (high - low));
    if (near && (!log || value > 0)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  if (log) return low === high ? [low / 2, high * 2] : [low / 1.15, high * 1.15];
  const margin = low === high ? Math.abs(low) / 2 || 0.5 : 0.06 * (high - low);
  return [low - margin, high + margin];
}

// Powers of ten, at most seven; 1, 2, 5 times them where the axis spans few decades; else even steps.
// uPlot's own search for them does not end where values are tiny, as vanishing gradients are.
export function logTicks(low, high) {
  const [a, b] = [Math.log10(low), Math.log10(high)];
  if (b - a < 0.7) {
    const step = Number(((high - low) / 4).toPrecision(1));
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }
  const every = Math.ceil((b - a) / 7);
  const found = [];
  for (let power = Math.floor(a); power <= b; power++) {
    if (power % every) continue;
    for (const digit of b - a < 2.5 ? [1, 2, 5] : [1]) {
      const value = Number(`${digit}e${power}`);
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found;
}

function shade(u, span) {
  if (!span) return;
  const { ctx, bbox } = u;
  const [a, b] = span.map((step) => Math.min(Math.max(u.valToPos(step, "x", true), bbox.left), bbox.left + bbox.width));
  if (b - a > 0.95 * bbox.width) return; // all steps are no place to look at
  ctx.save();
  ctx.fillStyle = faded(color("span"), 0.08);
  ctx.fillRect(a, bbox.top, Math.max(b - a, 2), bbox.height);
  ctx.fillStyle = color("span");
  ctx.fillRect(a, bbox.top - 3 * devicePixelRatio, Math.max(b - a, 2), 2 * devicePixelRatio);
  ctx.restore();
}

// Where a value was NaN or infinite there is no line; a hatched foot says so.
function broken(u, curves) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.fillStyle = color("error");
  ctx.font = `${10 * devicePixelRatio}px system-ui`;
  let told = false;
  for (const { steps: at, mean, high } of curves) {
    let from = -1;
    for (let i = 0; i <= at.length; i++) {
      const bad = i < at.length && !(Number.isFinite(mean[i]) && Number.isFinite(high[i]));
      if (bad && from < 0) from = i;
      if (!bad && from >= 0) {
        const a = Math.max(u.valToPos(at[from], "x", true), bbox.left);
        const b = Math.min(u.valToPos(at[Math.min(i, at.length - 1)], "x", true), bbox.left + bbox.width);
        const tall = 5 * devicePixelRatio;
        for (let x = a; x < Math.max(b, a + tall); x += 2 * tall) ctx.fillRect(x, bbox.top + bbox.height - tall, tall, tall);
        if (!told) ctx.fillText("no number", Math.min(a, bbox.left + bbox.width - 11 * tall), bbox.top + bbox.height - 1.6 * tall);
        told = true;
        from = -1;
      }
    }
  }
  ctx.restore();
}

function limits(u, marks) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.fillStyle = color("limit");
  ctx.font = `${11 * devicePixelRatio}px system-ui`;
  ctx.textAlign = "right";
  for (const { value, label } of marks ?? []) {
    if (u.scales.y.distr === 3 && value <= 0) continue;
    const y = u.valToPos(value, "y", true);
    const inside = y >= bbox.top && y <= bbox.top + bbox.height;
    if (inside) {
      ctx.strokeStyle = color("limit");
      ctx.lineWidth = 1.5 * devicePixelRatio;
      ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    const px = devicePixelRatio;
    const above = inside ? y - 5 * px : y < bbox.top ? bbox.top : bbox.top + bbox.height - 6 * px;
    const high = above < bbox.top + 12 * px ? (inside ? y : bbox.top) + 13 * px : above;
    const text = [inside ? label : `${label} ${y < bbox.top ? "↑" : "↓"}`, bbox.left + bbox.width - 4, high];
    ctx.strokeStyle = color("card"); // curves may run behind the words
    ctx.lineWidth = 4 * px;
    ctx.setLineDash([]);
    ctx.strokeText(...text);
    ctx.fillText(...text);
  }
  ctx.restore();
}

function scaled(plot, [min, max]) {
  plot.setScale("x", { min, max: max === min ? min + 1 : max });
}

function follow(plot, step) {
  const left = step === null ? -10 : plot.valToPos(step, "x");
  plot.setCursor({ left, top: step === null ? -10 : plot.over.clientHeight / 2 }, true);
}

// The legend is also the readout: at the pointer, else at the last step.
function readout(chart, index) {
  const { legend, spec, curves, plot } = chart;
  const all = plot.data[0];
  const step = index === null || index === undefined ? all.at(-1) : all[index];
  const items = grouped(spec.lines).map((places) => {
    const [first] = places;
    const item = make("span", "item");
    const dot = make("i");
    dot.style.background = chart.ink(first);
    const value = places.length > 1 ? spreadAt(places.map((i) => curves[i]), step, spec.unit) : valueAt(curves[first], step, spec.unit);
    item.append(dot, make("bdi", "", spec.lines[first].group ?? spec.lines[first].label), make("b", "", value));
    return item;
  });
  legend.replaceChildren(make("span", "at", step === undefined ? "" : `step ${steps(step)}`), ...items);
}

// Lines of one `group`, such as the runs of one arm, are one item.
function grouped(lines) {
  const groups = new Map();
  lines.forEach(({ group }, i) => groups.set(group ?? i, [...(groups.get(group ?? i) ?? []), i]));
  return [...groups.values()];
}

function spreadAt(curves, step, unit) {
  const values = curves.map(({ steps: at, mean }) => mean[Math.max(at.findLastIndex((one) => one <= step), 0)]).filter(Number.isFinite);
  if (!values.length) return "–";
  const [low, high] = [Math.min(...values), Math.max(...values)].map((value) => amount(value, unit));
  return low === high ? low : `${low} to ${high}`;
}

function valueAt({ steps: at, low, mean, high }, step, unit) {
  let i = at.findIndex((s) => s >= step);
  if (i < 0) i = at.length - 1;
  if (i < 0) return "–";
  const spread = low[i] !== high[i] && Number.isFinite(low[i]) ? ` (${amount(low[i], unit)} to ${amount(high[i], unit)})` : "";
  return amount(mean[i], unit) + spread;
}

function tool(text, title, act) {
  const button = make("button", "", text);
  button.type = "button";
  button.title = title;
  button.setAttribute("aria-label", title);
  button.addEventListener("click", act);
  return button;
}

function described(spec, curves) {
  const parts = spec.lines.map((line, i) => {
    const { steps: at, mean } = curves[i];
    return at.length ? `${line.label} from ${amount(mean[0], spec.unit)} at step ${at[0]} to ${amount(mean.at(-1), spec.unit)} at step ${at.at(-1)}` : `${line.label}: nothing`;
  });
  return `${spec.title}. ${parts.join("; ")}`;
}
