// The layers of one stream: a heat map of layers over steps to find the layer, and beside it what is
// known of the chosen one: how large its gradient entries are, and its own curves.

import { lineChart } from "/shared/chart.js";
import { heatMap } from "/shared/heatmap.js";
import { densityStrip } from "/shared/strip.js";
import { button, clear, el } from "./build.js";
import { plain } from "./words.js";

// Series, title, scale: "log" for magnitudes, "share" from 0 to 1, "signed" from -1 to 1.
const QUANTITIES = [
  ["gradient/norm", "Gradient norm", "log"],
  ["update/ratio", "Update over weight", "log"],
  ["activation/dead_channels", "Dead channels", "share", "activation/channels"],
  ["gradient/zero_share", "Gradient exactly 0", "share"],
  ["activation/zero_share", "Outputs that are 0", "share"],
  ["activation/saturation_share", "Saturated outputs", "share"],
  ["activation/std", "Spread of outputs", "log"],
  ["weight/norm", "Weight norm", "log"],
  ["gradient/cosine", "Cosine of successive gradients", "signed"],
];
const STRIP = "gradient/log_histogram";
const TALL = 560; // pixels of all rows together
const MOST_CHARTS = 6;

export class LayersView {
  // `stream`: as the server tells it; `onChoice({layer, map})` when something else is looked at.
  constructor(stream, { board, source, linked }, onChoice) {
    Object.assign(this, { stream, board, source, linked, onChoice, layer: null, map: null, views: [], drawn: 0 });
    this.pills = el("div", { class: "pills", role: "group", "aria-label": "What the colours show" });
    this.search = el("input", { type: "search", class: "filter", placeholder: "filter layers", "aria-label": "Filter layers by words in their names", oninput: () => this.view?.filter(this.search.value) });
    this.heat = el("div", { class: "inner" });
    const tools = el("span", { class: "tools" }, button("csv", { title: "Save the numbers of this map", onclick: () => this.view?.saveTable() }), button("svg", { title: "Save this map as a picture", onclick: () => this.view?.savePicture() }));
    this.caption = el("figcaption", {}, el("span", { class: "name" }), tools, this.search);
    const figure = el("figure", { class: "map", "data-testid": "heat-map" }, this.caption, this.heat);
    this.detail = el("div", { class: "detail", "data-testid": "layer" });
    this.root = el("div", { class: "layers" }, this.pills, el("div", { class: "explorer" }, figure, this.detail));
    this.learn(stream);
    board.add(figure, () => this.mount());
  }

  // Whether a stream has anything to show layer by layer.
  static knows({ series }) {
    return series.some(({ name, wheres }) => wheres.some(Boolean) && QUANTITIES.some(([one]) => one === name));
  }

  // Which quantities the stream has, and which of them each place; a run in flight learns more of them.
  learn(stream) {
    const series = new Map(stream.series.map((one) => [one.name, one]));
    this.quantities = QUANTITIES.filter(([name]) => series.get(name)?.wheres.some(Boolean));
    this.#offer();
    this.strips = new Set(series.get(STRIP)?.wheres ?? []);
    this.series = stream.series.filter(({ width, wheres }) => width <= 1 && wheres.some(Boolean));
  }

  async mount() {
    await this.turn(this.map ?? this.quantities[0][0], this.layer);
    return { draw: () => this.draw(), refresh: () => this.refresh(), destroy: () => this.destroy() };
  }

  // Another quantity; the layer stays where it has that too.
  async turn(name, layer = this.layer) {
    const [series, title, scale, over] = this.quantities.find(([one]) => one === name) ?? this.quantities[0];
    this.map = series;
    this.#offer();
    this.caption.firstChild.textContent = title;
    this.view?.destroy();
    const map = { title, scale, stream: this.stream.name, name: series, over, tall: TALL };
    this.view = await heatMap(this.heat, map, this.source, this.linked, (chosen) => this.choose({ layer: chosen }));
    this.view.filter(this.search.value);
    await this.look(layer ?? this.worst());
  }

  #offer() {
    const pill = ([one, text]) => button(text, { "aria-pressed": String(one === this.map), onclick: () => this.choose({ map: one }) });
    clear(this.pills, this.quantities.map(pill));
  }

  // Where the eye should go first: the layer whose last value is farthest from the middle of all.
  worst() {
    const last = this.view.all.map(({ name, curve }) => [name, curve.mean.at(-1)]).filter(([, value]) => Number.isFinite(value));
    if (!last.length) return this.view.all[0]?.name ?? null;
    const middle = last.map(([, value]) => value).sort((a, b) => a - b)[last.length >> 1];
    const far = (value) => (value > 0 && middle > 0 ? Math.abs(Math.log(value / middle)) : Math.abs(value - middle));
    return last.reduce((most, one) => (far(one[1]) > far(most[1]) ? one : most))[0];
  }

  async choose({ layer, map }) {
    if (map && map !== this.map) await this.turn(map);
    if (layer) await this.look(layer);
    this.onChoice({ layer: this.layer, map: this.map });
  }

  // What is known of one layer: its distribution, and its curves with those of the module it belongs to.
  async look(layer) {
    const mine = ++this.drawn;
    this.layer = layer;
    this.view?.select(layer);
    this.views.forEach((view) => view.destroy());
    this.views = [];
    if (layer === null) return clear(this.detail, el("p", { class: "nothing" }, "No layer was read yet."));
    const head = el("h3", { class: "layer-name" }, el("bdi", {}, plain(layer, 600)));
    const grid = el("div", { class: "small-charts" });
    clear(this.detail, head, grid);
    const shown = this.curvesOf(layer).slice(0, MOST_CHARTS);
    const charts = shown.map(({ title, where, name }) => {
      const figure = el("figure", { class: "chart" }, el("figcaption"), el("div", { class: "plot small" }));
      grid.append(figure);
      const spec = { title, note: where === layer ? "" : plain(where, 40), lines: [{ label: title.toLowerCase(), curve: { stream: this.stream.name, name, where, column: -1 } }], limits: [], span: null, height: 120 };
      return lineChart(figure, spec, this.source, this.linked);
    });
    const strip = this.strips.has(layer) ? this.#strip(layer, head) : null;
    const made = await Promise.all([...(strip ? [strip] : []), ...charts]);
    if (mine !== this.drawn) return made.forEach((view) => view.destroy());
    this.views = made;
    // A share that never left 0 says nothing.
    for (const { figure, curves } of made) if (figure && curves.every(({ mean }) => mean.every((value) => value === 0))) figure.remove();
  }

  #strip(layer, after) {
    const inner = el("div", { class: "inner" });
    const save = el("span", { class: "tools" }, button("svg", { title: "Save this distribution as a picture", onclick: () => this.views.find((view) => view.savePicture)?.savePicture() }));
    const caption = el("figcaption", {}, el("span", { class: "name" }, "Size of the gradient's entries", el("small", {}, "line: median; dashed: 5, 25, 75, 95 %")), save);
    after.after(el("figure", { class: "strip", "data-testid": "strip" }, caption, inner));
    return densityStrip(inner, { stream: this.stream.name, where: layer }, layer, this.source, this.linked);
  }

  curvesOf(layer) {
    const places = [layer, layer.replace(/\.[^.]*$/, "")];
    const titles = new Map(QUANTITIES.map(([name, title]) => [name, title]));
    const found = [];
    for (const where of new Set(places)) {
      for (const { name, wheres } of this.series) {
        if (!wheres.includes(where) || name === "activation/channels") continue;
        const title = titles.get(name) ?? name.replace("/", ": ").replaceAll("_", " ");
        found.push({ name, where, title, known: titles.has(name) ? [...titles.keys()].indexOf(name) : 100 });
      }
    }
    return found.sort((a, b) => (a.name === this.map ? -1 : a.known) - (b.name === this.map ? -1 : b.known));
  }

  // The next or the one before in the order of the model.
  step(move) {
    const rows = this.view?.rows ?? [];
    if (!rows.length) return;
    const at = rows.findIndex(({ name }) => name === this.layer);
    this.choose({ layer: rows[Math.min(Math.max(at + move, 0), rows.length - 1)].name });
  }

  async refresh() {
    await Promise.all([this.view?.refresh(), ...this.views.map((view) => view.refresh())]);
  }

  draw() {
    this.view?.draw();
    this.views.forEach((view) => view.draw());
  }

  destroy() {
    this.view?.destroy();
    this.views.forEach((view) => view.destroy());
  }
}
