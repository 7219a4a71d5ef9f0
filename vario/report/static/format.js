// Numbers, colours and names as a page shows them.

export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "not a number";
  if (!Number.isFinite(value)) return value > 0 ? "infinite" : "minus infinite";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(size >= 1e3 ? 4 : digits)));
  return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
}

// The same in its unit: bytes as kB, MB, GB.
export function amount(value, unit, digits = 3) {
  if (unit !== "bytes" || !Number.isFinite(value) || Math.abs(value) < 1e3) return number(value, digits);
  const power = Math.min(Math.floor(Math.log10(Math.abs(value)) / 3), 5);
  return `${number(value / 1e3 ** power, digits)} ${"kMGTP"[power - 1]}B`;
}

export function steps(value) {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
}

// Long names keep both ends: the end names the layer, the beginning its block.
export function shortened(name, most) {
  if (name.length <= most) return name;
  const half = Math.floor((most - 1) / 2);
  return `${name.slice(0, half)}…${name.slice(name.length - half)}`;
}

// A custom property of the page's style as a colour that a canvas understands, in the theme of now. Asking
// makes the browser compute styles anew, so all are asked for at once and kept for as long as the theme stays.
const INKS = ["ink", "muted", "hair", "card", "limit", "span", "error", "strip-line", ...[1, 2, 3, 4, 5, 6, 7, 8].map((i) => `line-${i}`)];
const dark = matchMedia("(prefers-color-scheme: dark)");
const themes = new Map();
export function color(name) {
  const theme = String(document.documentElement.dataset.theme ?? dark.matches);
  if (!themes.has(theme)) themes.set(theme, inks());
  return themes.get(theme).get(name);
}

function inks() {
  const probe = document.createElement("div");
  probe.hidden = true;
  const spans = INKS.map((name) => {
    const span = document.createElement("span");
    span.style.color = `var(--${name})`;
    return span;
  });
  probe.append(...spans);
  document.body.append(probe);
  const found = new Map(INKS.map((name, i) => [name, getComputedStyle(spans[i]).color]));
  probe.remove();
  return found;
}

export function faded(rgb, alpha) {
  const [r, g, b] = rgb.match(/[\d.]+/g);
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}

// Viridis in twelve stops: dark to bright, even in brightness, readable with any colour vision.
const VIRIDIS = [
  [68, 1, 84], [72, 33, 115], [67, 62, 133], [56, 88, 140], [45, 112, 142], [37, 133, 142],
  [30, 155, 138], [42, 176, 127], [82, 197, 105], [134, 213, 73], [194, 223, 35], [253, 231, 37],
];
export function viridis(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const part = at - low;
  return VIRIDIS[low].map((from, i) => Math.round(from + part * (VIRIDIS[low + 1][i] - from)));
}
