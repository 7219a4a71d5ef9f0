// The frame of the dashboard: which page is shown, its theme, its keys, and the state of the connection.

import { link } from "./api.js";
import { clear, el } from "./build.js";
import { keyList } from "./keys.js";
import { address, parsed } from "./route.js";
import { comparePage } from "./compare.js";
import { planPage } from "./plan.js";
import { runPage } from "./run.js";
import { runsPage } from "./runs.js";
import { trialPage } from "./trial.js";

const PAGES = { runs: runsPage, run: runPage, compare: comparePage, trial: trialPage, plan: planPage };
const view = document.getElementById("view");
let shown = null; // the page of now: {key, page}

// What a page may ask of the frame.
const frame = {
  view,
  go: (...to) => (location.hash = address(...to)),
  // Keeps what is looked at in the address without a step in the history.
  keep(query) {
    const { page, parts, query: before } = parsed(location.hash);
    const next = address(page, parts, { ...Object.fromEntries(before), ...query });
    history.replaceState(null, "", next);
  },
  crumbs(items, title) {
    clear(document.getElementById("crumbs"), items.map(([text, to]) => el("li", {}, to ? el("a", { href: to }, text) : el("bdi", { "aria-current": "page" }, text))));
    document.title = title ? `${title} · vario` : "vario";
  },
  say: (text) => (document.getElementById("said").textContent = text),
};

function turn() {
  const route = parsed(location.hash);
  const key = JSON.stringify([route.page, route.parts]);
  if (shown?.key === key) return shown.page.changed?.(route);
  shown?.page.leave();
  view.setAttribute("aria-busy", "true");
  clear(view);
  scrollTo(0, 0);
  shown = { key, page: (PAGES[route.page] ?? runsPage)(frame, route) };
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";

function themed() {
  document.getElementById("theme").textContent = isDark() ? "light" : "dark";
  shown?.page.draw?.();
}

function turnTheme() {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("vario-theme", next);
  themed();
}

const STATES = {
  well: "",
  lost: "Disconnected: the server does not answer. Trying again every second.",
  refused: "The dashboard was started anew. Open the address that `vario open` printed.",
};

function connection() {
  document.documentElement.dataset.link = link.state;
  const box = document.getElementById("link");
  box.textContent = STATES[link.state];
}

const keys = document.getElementById("keys");
function help() {
  clear(keys, keyList(shown?.page.keys ?? {}));
  keys.showModal();
}

const KEYS = {
  "?": help,
  t: turnTheme,
  r: () => frame.go("runs"),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  const typing = event.target.matches("input, select, textarea");
  if (typing && event.key !== "Escape") return;
  if (typing) event.target.blur();
  const act = shown?.page.keys?.[event.key]?.act ?? KEYS[event.key];
  if (!act) return;
  if (act(event) !== false) event.preventDefault();
});

keys.addEventListener("click", (event) => event.target === keys && keys.close());
document.getElementById("help").addEventListener("click", help);
document.getElementById("theme").addEventListener("click", turnTheme);
dark.addEventListener("change", themed);
link.addEventListener("state", connection);
link.addEventListener("back", () => shown?.page.back?.());
addEventListener("hashchange", turn);

const kept = localStorage.getItem("vario-theme");
if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
themed();
connection();
turn();
