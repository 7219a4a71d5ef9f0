// Figures of the page: a chart of the server's making as a figure that draws itself when it is near.

import { lineChart } from "/shared/chart.js";
import { el } from "./build.js";
import { plain } from "./words.js";

// `told`: {title, lines: [{stream, name, where, column, label}], limits: [[value, label]], span}.
// `now`: it will be on the screen at once; `turn`: a promise of when it may be drawn.
export function chartFigure(told, { board, source, linked, tall, now, turn }) {
  const spec = {
    title: plain(told.title, 200),
    note: told.note ?? "",
    lines: told.lines.map((line) => ({ label: plain(line.label, 80) || plain(line.name), curve: line.curve ?? line, ink: line.ink, dash: line.dash, group: line.group })),
    limits: (told.limits ?? []).map(([value, label]) => ({ value, label: plain(label) })),
    span: told.span ?? null,
    unit: told.unit,
    height: tall,
    always: told.always,
  };
  const figure = el("figure", { class: "chart", "data-testid": "chart" }, el("figcaption", {}, spec.title), el("div", { class: "plot" }));
  if (tall) figure.querySelector(".plot").style.minHeight = `${tall}px`;
  return board.add(figure, async () => {
    const chart = await lineChart(figure, spec, source, linked, turn);
    if (isStill(told, chart.curves)) figure.hidden = true;
    return chart;
  }, now);
}

// A setting that never changed, or a share of examples that stayed 0: a table says as much.
function isStill({ section, lines }, curves) {
  const still = (value) => curves.every(({ low, high }) => low.length && low.every((one) => one === (value ?? low[0])) && high.every((one) => one === (value ?? low[0])));
  if (lines.every(({ name }) => name?.startsWith("hyper/"))) return still();
  return section === "examples" && still(0);
}

// Facts of the models `streams` as names and values, each once; said with the model where there are several.
export function factsOf(rows, streams, said = streams.size > 1) {
  const found = new Map();
  for (const [stream, name, value] of rows) if (!stream || streams.has(stream)) found.set(said && stream ? `${stream}: ${name}` : name, value);
  return [...found];
}

// A table of names and values.
export function pairs(rows, caption = "") {
  const body = rows.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, el("bdi", {}, plain(name, 120))), el("td", {}, el("bdi", {}, said(value)))));
  return el("table", { class: "pairs" }, caption && el("caption", {}, caption), el("tbody", {}, body));
}

export function said(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  if (Array.isArray(value)) return value.map(said).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([key, inner]) => `${plain(key, 60)} ${said(inner)}`).join(", ");
  return plain(value, 600);
}

// A command in a box, with a button that copies it.
export function commandBox(command, note = "") {
  const code = el("code", {}, plain(command, 2000));
  const copy = el("button", { type: "button", class: "copy", "aria-label": `Copy the command ${plain(command, 200)}`, "data-testid": "copy" }, "copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      copy.textContent = "copied";
      document.getElementById("said").textContent = "The command was copied.";
    } catch {
      // Where the clipboard is refused, select the text, so that one key copies it.
      getSelection().selectAllChildren(code);
      copy.textContent = "selected";
    }
    setTimeout(() => (copy.textContent = "copy"), 1500);
  });
  return el("div", { class: "command" }, code, note && el("span", { class: "coming" }, note), copy);
}

// What is shown where there is nothing to show: what it is, why, and the way out.
export function empty(title, text, command = "") {
  return el("div", { class: "blank" }, el("h2", {}, title), el("p", {}, text), command && commandBox(command));
}
