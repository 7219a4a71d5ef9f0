// A line chart for other programs: its numbers as CSV, itself as SVG.

import { amount, color, faded, steps } from "./format.js";
import { smoothed } from "./smooth.js";
import { SvgContext } from "./svg.js";

const HEAD = 30;
const ROW = 18;

export function chartTable(spec, curves) {
  const rows = ["series,step,low,mean,high"];
  spec.lines.forEach((line, i) => {
    const { steps: at, low, mean, high } = curves[i];
    const name = quoted(line.label);
    for (let k = 0; k < at.length; k++) rows.push([name, at[k], low[k], mean[k], high[k]].join(","));
  });
  return rows.join("\n");
}

// A spreadsheet would run a cell that begins like a formula: a leading quote makes it text.
function quoted(text) {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

export function chartPicture(chart) {
  const { plot, spec, curves, log, linked } = chart;
  const [left, top] = [plot.over.offsetLeft, plot.over.offsetTop + HEAD];
  const [width, height] = [plot.over.clientWidth, plot.over.clientHeight];
  const tall = HEAD + plot.height + ROW * (spec.lines.length + 1);
  const paper = new SvgContext(plot.width, tall);
  paper.fillStyle = color("card");
  paper.fillRect(0, 0, plot.width, tall);
  paper.fillStyle = color("ink");
  paper.font = "600 14px system-ui";
  paper.fillText(spec.title, 10, 20);
  const x = (step) => left + plot.valToPos(step, "x");
  const y = (value) => top + plot.valToPos(value, "y");
  axes(paper, plot, spec.unit, { left, top, width, height });
  paper.save();
  paper.beginPath();
  paper.rect(left, top, width, height);
  paper.clip();
  const reach = linked.smooth * (linked.shown[1] - linked.shown[0]);
  curves.forEach((curve, i) => {
    const ink = chart.ink(i);
    band(paper, curve, x, y, log, faded(ink, 0.2));
    line(paper, curve.steps, curve.mean, x, y, log, reach ? faded(ink, 0.3) : ink);
    if (reach) line(paper, curve.steps, smoothed(curve.steps, curve.mean, reach, log), x, y, log, ink);
  });
  for (const { value, label } of spec.limits ?? []) limit(paper, y(value), left, width, label);
  paper.restore();
  spec.lines.forEach(({ label }, i) => {
    const base = HEAD + plot.height + ROW * (i + 0.8);
    paper.fillStyle = chart.ink(i);
    paper.fillRect(left, base - 5, 14, 3);
    paper.fillStyle = color("muted");
    paper.fillText(label, left + 20, base);
  });
  return paper.text();
}

function axes(paper, plot, unit, { left, top, width, height }) {
  paper.font = "11px system-ui";
  const [along, up] = plot.axes.map((axis) => axis._splits ?? []);
  paper.textAlign = "center";
  for (const step of along) {
    if (!Number.isInteger(step)) continue;
    paper.fillStyle = color("hair");
    paper.fillRect(left + plot.valToPos(step, "x"), top, 1, height);
    paper.fillStyle = color("muted");
    paper.fillText(steps(step), left + plot.valToPos(step, "x"), top + height + 18);
  }
  paper.textAlign = "right";
  for (const value of up) {
    paper.fillStyle = color("hair");
    paper.fillRect(left, top + plot.valToPos(value, "y"), width, 1);
    paper.fillStyle = color("muted");
    paper.fillText(amount(value, unit, 6), left - 6, top + plot.valToPos(value, "y") + 4);
  }
  paper.textAlign = "left";
}

function line(paper, at, values, x, y, log, ink) {
  paper.beginPath();
  let pen = false;
  at.forEach((step, i) => {
    if (values[i] === null || !Number.isFinite(values[i]) || (log && values[i] <= 0)) return (pen = false);
    paper[pen ? "lineTo" : "moveTo"](x(step), y(values[i]));
    pen = true;
  });
  paper.strokeStyle = ink;
  paper.lineWidth = 1.6;
  paper.stroke();
}

function band(paper, { steps: at, low, high }, x, y, log, ink) {
  const good = Array.from(at.keys()).filter((i) => Number.isFinite(low[i]) && Number.isFinite(high[i]) && (!log || low[i] > 0));
  if (good.every((i) => low[i] === high[i])) return;
  paper.beginPath();
  good.forEach((i, k) => paper[k ? "lineTo" : "moveTo"](x(at[i]), y(high[i])));
  good.reverse().forEach((i) => paper.lineTo(x(at[i]), y(low[i])));
  paper.closePath();
  paper.fillStyle = ink;
  paper.fill();
}

function limit(paper, at, left, width, label) {
  paper.beginPath();
  paper.moveTo(left, at);
  paper.lineTo(left + width, at);
  paper.strokeStyle = paper.fillStyle = color("limit");
  paper.setLineDash([6, 4]);
  paper.stroke();
  paper.setLineDash([]);
  paper.textAlign = "right";
  paper.fillText(label, left + width - 4, at - 5);
  paper.textAlign = "left";
}
