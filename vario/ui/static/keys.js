// The list of keys that `?` shows.

import { el } from "./build.js";

const EVERYWHERE = [["?", "this list"], ["r", "all runs"], ["t", "light or dark"], ["Esc", "leave a field, show all steps"]];

// `keys`: those of the page, key to {name, text}.
export function keyList(keys) {
  const own = Object.entries(keys).filter(([, { text }]) => text).map(([key, { name, text }]) => [name ?? key, text]);
  const row = ([key, text]) => el("div", {}, el("dt", {}, key.split(" ").map((one) => el("kbd", {}, one))), el("dd", {}, text));
  return [
    el("h2", {}, "Keys"),
    el("dl", { "data-testid": "key-list" }, [...own, ...EVERYWHERE].map(row)),
    el("p", { class: "hint after" }, "Drag over a chart to zoom; double click to see all steps."),
    el("form", { method: "dialog" }, el("button", { autofocus: true }, "close")),
  ];
}
