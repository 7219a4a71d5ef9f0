// The layers of a run: heat maps to find the layer, and beneath them what is known of the chosen one.

import { lineChart } from "./chart.js";
import { make } from "./dom.js";
import { heatMap } from "./heatmap.js";
import { densityStrip } from "./strip.js";

// `streams`: [{stream, maps: [{name, title, scale, rows}], strips: {where: packed}}].
export async function layerSection(box, streams, source, linked) {
  const parts = streams.map((stream) => new Layers(stream, streams.length > 1, source, linked));
  box.replaceChildren(...parts.map((part) => part.root));
  for (const part of parts) await part.fill();
  return { draw: () => parts.forEach((part) => part.draw()) };
}

class Layers {
  constructor({ stream, maps, strips, empty }, several, source, linked) {
    Object.assign(this, { maps, strips, empty, source, linked, views: [] });
    this.root = document.createElement("div");
    this.root.className = "layers";
    if (several) this.root.append(make("h3", "", stream));
    const places = new Set([...maps.flatMap(({ rows }) => rows.map(([name]) => name)), ...Object.keys(strips)]);
    places.delete("");
    this.places = [...places];
  }

  async fill() {
    const grid = make("div", "maps");
    this.root.append(grid);
    for (const map of this.maps) {
      const figure = make("figure", "map");
      figure.dataset.testid = "heat-map";
      const inner = make("div", "inner");
      figure.append(make("figcaption", "", map.title), inner);
      grid.append(figure);
      this.views.push(await heatMap(inner, map, this.source, this.linked, (name) => this.show(name)));
    }
    if (this.empty.length) this.root.append(make("p", "hint after", `Below 0.5 % in every layer at all times: ${this.empty.join(", ")}.`));
    this.select = make("select");
    this.select.setAttribute("aria-label", "Layer to look at");
    const whole = new Option("whole model", "");
    const options = this.places.map((name) => new Option(name, name));
    this.select.append(...(this.strips[""] ? [whole] : []), ...options);
    this.select.addEventListener("change", () => this.show(this.select.value));
    const chooser = make("label", "chooser", "Look at ");
    chooser.append(this.select);
    this.detail = make("div", "detail");
    this.detail.dataset.testid = "layer";
    this.root.append(chooser, this.detail);
    if (this.select.options.length) await this.show(this.select.value);
  }

  async show(name) {
    this.select.value = name;
    this.views.forEach((view) => view.select(name));
    this.charts?.forEach((chart) => chart.destroy());
    this.detail.replaceChildren();
    this.charts = [];
    const strip = this.strips[name];
    if (strip) {
      const figure = make("figure", "strip");
      const inner = make("div", "inner");
      const caption = make("figcaption");
      const title = make("span", "name", "How large the gradient entries are: ");
      title.append(make("bdi", "", name || "whole model"));
      caption.append(title, make("small", "", "lines: median, dashed 5, 25, 75 and 95 %"));
      figure.append(caption, inner);
      this.detail.append(figure);
      this.charts.push(await densityStrip(inner, strip, name || "the whole model", this.source, this.linked));
    }
    const grid = make("div", "grid");
    this.detail.append(grid);
    for (const map of this.maps) {
      const row = map.rows.find(([where]) => where === name);
      if (!row) continue;
      const figure = make("figure", "chart");
      figure.append(make("figcaption"), make("div", "plot"));
      grid.append(figure);
      const spec = { title: map.title, lines: [{ label: name, curve: row[1] }], limits: [], span: null };
      this.charts.push(await lineChart(figure, spec, this.source, this.linked));
    }
  }

  draw() {
    this.views.forEach((view) => view.draw());
    this.charts?.forEach((chart) => chart.draw());
  }
}
