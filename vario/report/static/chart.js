// A line chart over steps: bucket means inside bands from smallest to largest, limits, the steps in
// question, and marks where a value was no number. Drag to zoom, double click to see all again.

import { make } from "./dom.js";
import { color, faded, number, steps } from "./format.js";

const LINES = 8; // --line-1 to --line-8 in the page's style

// `spec`: {title, lines: [{label, curve}], limits: [{value, label}], span: [first, last] or null}.
export async function lineChart(figure, spec, source, linked) {
  const curves = await Promise.all(spec.lines.map((line) => source.curve(line.curve)));
  const state = { log: wantsLog(curves), plot: null };
  const caption = figure.querySelector("figcaption");
  caption.replaceChildren(make("span", "name", spec.title), tools(figure, spec, curves, state, draw));
  const legend = make("div", "legend");
  legend.setAttribute("aria-hidden", "true");
  const holder = figure.querySelector(".plot");
  figure.append(legend);
  figure.setAttribute("role", "group");
  figure.setAttribute("aria-label", described(spec, curves));

  function draw() {
    state.plot?.destroy();
    holder.replaceChildren();
    state.plot = plotted(holder, spec, curves, state.log, linked, (index) => readout(legend, spec, curves, state.plot, index));
    readout(legend, spec, curves, state.plot, null);
    zoomed(state.plot, linked.shown);
  }
  draw();
  linked.on("zoom", () => zoomed(state.plot, linked.shown));
  linked.on("point", ({ step, from }) => from !== state.plot && follow(state.plot, step));
  new ResizeObserver(() => {
    const width = holder.clientWidth;
    if (width && width !== state.plot.width) state.plot.setSize({ width, height: state.plot.height });
  }).observe(holder);
  return { draw };
}

// A linear axis would hide most of the curve, and a logarithmic one can show all of it.
export function wantsLog(curves) {
  const values = curves.flatMap(({ mean }) => Array.from(mean).filter(Number.isFinite));
  if (values.length < 2 || values.some((value) => value <= 0)) return false;
  values.sort((a, b) => a - b);
  return values.at(-1) / values[values.length >> 1] > 20 || values[values.length >> 1] / values[0] > 100;
}

function plotted(holder, spec, curves, log, linked, onIndex) {
  const tables = curves.map(({ steps: at, low, mean, high }) => [Array.from(at), usable(low, log), usable(mean, log), usable(high, log)]);
  const data = tables.length > 1 ? uPlot.join(tables) : tables[0] ?? [[]];
  const series = [{}];
  const bands = [];
  spec.lines.forEach((line, i) => {
    const ink = color(`line-${(i % LINES) + 1}`);
    const at = 1 + 3 * i;
    const edge = { show: true, stroke: "transparent", width: 0, points: { show: false } };
    series.push(edge, { label: line.label, stroke: ink, width: 1.6, points: { show: data[0].length < 40, size: 5 } }, edge);
    bands.push({ series: [at + 2, at], fill: faded(ink, 0.2) });
  });
  const axis = { stroke: color("muted"), grid: { stroke: color("hair"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const plot = new uPlot(
    {
      width: holder.clientWidth || 480,
      height: 190,
      padding: [10, 10, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: true, y: false, setScale: false }, points: { show: (u, i) => i % 3 === 2, size: 7 } },
      scales: { x: { time: false }, y: { distr: log ? 3 : 1, range: (u, low, high) => around(low, high, log, spec.limits) } },
      axes: [
        { ...axis, values: (u, splits) => splits.map((v) => (Number.isInteger(v) ? steps(v) : "")), size: 28, space: 60 },
        {
          ...axis,
          size: 58,
          space: 28,
          filter: (u, splits) => splits, // uPlot's own would drop the 2 and 5 of a logarithmic axis
          values: (u, splits) => splits.map((v) => number(v, 6)),
          ...(log ? { splits: (u, i, low, high) => logTicks(low, high) } : {}),
        },
      ],
      series,
      bands,
      hooks: {
        drawClear: [(u) => shade(u, spec.span), (u) => broken(u, curves)],
        draw: [(u) => limits(u, spec.limits)],
        setCursor: [(u) => onIndex(u.cursor.left < 0 ? null : u.cursor.idx)],
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
  return plot;
}

// uPlot leaves a gap where a value is null, and bridges where it is undefined (another curve's step).
function usable(values, log) {
  return Array.from(values, (value) => (Number.isFinite(value) && (!log || value > 0) ? value : null));
}

function around(low, high, log, marks) {
  if (low === null || low === undefined) return log ? [0.1, 1] : [0, 1];
  for (const { value } of marks ?? []) {
    // A limit far outside would flatten the curve; then its label at the edge says where it is.
    const near = log ? value > low / 100 && value < high * 100 : value > low - 2 * (high - low) && value < high + 2 * (high - low);
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
  ctx.save();
  ctx.fillStyle = faded(color("span"), 0.08);
  if (b - a < 0.95 * bbox.width) ctx.fillRect(a, bbox.top, Math.max(b - a, 2), bbox.height);
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
  ctx.strokeStyle = ctx.fillStyle = color("limit");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.font = `${11 * devicePixelRatio}px system-ui`;
  ctx.textAlign = "right";
  for (const { value, label } of marks ?? []) {
    if (u.scales.y.distr === 3 && value <= 0) continue;
    const y = u.valToPos(value, "y", true);
    const inside = y >= bbox.top && y <= bbox.top + bbox.height;
    if (inside) {
      ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    const px = devicePixelRatio;
    const above = inside ? y - 5 * px : y < bbox.top ? bbox.top : bbox.top + bbox.height - 6 * px;
    const high = above < bbox.top + 12 * px ? (inside ? y : bbox.top) + 13 * px : above;
    ctx.fillText(inside ? label : `${label} ${y < bbox.top ? "↑" : "↓"}`, bbox.left + bbox.width - 4, high);
  }
  ctx.restore();
}

function zoomed(plot, range) {
  const [min, max] = range;
  plot.setScale("x", { min, max: max === min ? min + 1 : max });
}

function follow(plot, step) {
  const left = step === null ? -10 : plot.valToPos(step, "x");
  plot.setCursor({ left, top: step === null ? -10 : plot.over.clientHeight / 2 }, true);
}

// The legend is also the readout: at the pointer, else at the last step.
function readout(legend, spec, curves, plot, index) {
  if (!plot) return;
  const step = index === null || index === undefined ? plot.data[0].at(-1) : plot.data[0][index];
  const items = spec.lines.map((line, i) => {
    const value = valueAt(curves[i], step);
    const item = make("span", "item");
    const dot = make("i");
    dot.style.background = `var(--line-${(i % LINES) + 1})`;
    item.append(dot, make("bdi", "", line.label), make("b", "", value));
    return item;
  });
  legend.replaceChildren(make("span", "at", step === undefined ? "" : `step ${steps(step)}`), ...items);
}

function valueAt({ steps: at, low, mean, high }, step) {
  let i = at.findIndex((s) => s >= step);
  if (i < 0) i = at.length - 1;
  if (i < 0) return "–";
  const spread = low[i] !== high[i] && Number.isFinite(low[i]) ? ` (${number(low[i])} to ${number(high[i])})` : "";
  return number(mean[i]) + spread;
}

function tools(figure, spec, curves, state, draw) {
  const box = make("span", "tools");
  const log = make("button", "", "log");
  log.type = "button";
  log.title = "Logarithmic or linear axis";
  log.setAttribute("aria-pressed", state.log);
  log.addEventListener("click", () => {
    state.log = !state.log;
    log.setAttribute("aria-pressed", state.log);
    draw();
  });
  const csv = make("button", "", "csv");
  csv.type = "button";
  csv.title = "Save the numbers of this chart";
  csv.addEventListener("click", () => save(`${spec.title}.csv`, table(spec, curves)));
  box.append(log, csv);
  return box;
}

function table(spec, curves) {
  const rows = ["series,step,low,mean,high"];
  spec.lines.forEach((line, i) => {
    const { steps: at, low, mean, high } = curves[i];
    const name = `"${line.label.replaceAll('"', '""')}"`;
    for (let k = 0; k < at.length; k++) rows.push([name, at[k], low[k], mean[k], high[k]].join(","));
  });
  return rows.join("\n");
}

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name.replace(/[^\w.-]+/g, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function described(spec, curves) {
  const parts = spec.lines.map((line, i) => {
    const { steps: at, mean } = curves[i];
    return at.length ? `${line.label} from ${number(mean[0])} at step ${at[0]} to ${number(mean.at(-1))} at step ${at.at(-1)}` : `${line.label}: nothing`;
  });
  return `${spec.title}. ${parts.join("; ")}`;
}
