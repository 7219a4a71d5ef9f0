// Makes a report alive: every figure that names a chart gets it when it comes near the screen.

import { lineChart } from "./chart.js";
import { layerSection } from "./layers.js";
import { Linked } from "./linked.js";
import { InlinedSource } from "./source.js";

const data = JSON.parse(document.getElementById("vario-data").textContent);
const source = new InlinedSource(data);
const linked = new Linked(data.steps);
const drawn = [];

const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      mount(target).then((view) => drawn.push(view));
    }
  },
  { rootMargin: "400px" },
);

function mount(target) {
  if (target.id === "layer-maps") return layerSection(target, data.layers, source, linked);
  return lineChart(target, data.charts[target.dataset.chart], source, linked);
}

document.documentElement.classList.add("alive");
document.querySelectorAll("figure[data-chart], #layer-maps").forEach((target) => near.observe(target));

document.addEventListener("click", async ({ target }) => {
  if (!target.matches("button.copy")) return;
  try {
    await navigator.clipboard.writeText(target.dataset.copy);
    target.textContent = "copied";
  } catch {
    // A page from a disk may be refused the clipboard: select the text, so that one key copies it.
    getSelection().selectAllChildren(target.parentElement.querySelector("code"));
    target.textContent = "selected";
  }
  setTimeout(() => (target.textContent = "copy"), 1500);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") linked.zoom(null);
});

const hint = document.createElement("button");
hint.type = "button";
hint.id = "all-steps";
hint.textContent = "show all steps";
hint.hidden = true;
hint.addEventListener("click", () => linked.zoom(null));
document.body.append(hint);
linked.on("zoom", ({ range }) => (hint.hidden = range === null));

function redraw() {
  drawn.forEach((view) => view.draw());
}

const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const label = () => (theme.textContent = isDark() ? "light" : "dark");
theme.hidden = false;
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  label();
  redraw();
});
dark.addEventListener("change", () => (label(), redraw()));
label();
