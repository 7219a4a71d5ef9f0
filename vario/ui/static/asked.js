// Where the charts of the dashboard get their curves from: the server, for the steps that are shown.

import { askBytes, runPath } from "./api.js";

const POINTS = 800; // stretches of a curve over all steps; more than a chart has pixels for its line
const CLOSE = 2400; // of a part of the steps: there every reading shall be seen
const WHOLE = 20000; // for a file
const QUERY = 6000; // letters of places in one question
const COLUMNS = 240; // of a heat map and of a distribution
const NOTHING = { steps: new Float64Array(), mean: new Float64Array(), low: new Float64Array(), high: new Float64Array() };

export class AskedSource {
  constructor(run) {
    this.run = run;
    this.live = true;
    this.waiting = new Map();
    this.end = new AbortController();
  }

  // `key`: {stream, name, where, column}, with a `run` where it is another; or {ask(source, range)}.
  // Curves of the same series that are wanted at once travel together.
  curve(key, range = null) {
    if (key.ask) return key.ask(this, range);
    return this.#together(key, range, range ? CLOSE : POINTS);
  }

  whole(key) {
    return key.ask ? key.ask(this, null) : this.#together(key, null, WHOLE);
  }

  async rows({ stream, name, over }, range) {
    const { header, buffer, at } = await this.#bytes(this.run, "/heatmap", { stream, name, over, columns: COLUMNS, ...window(range) });
    const columns = header.steps.length;
    const all = new Float32Array(buffer, at, header.layers.length * columns);
    return header.layers.map((layer, i) => ({ name: layer, curve: known(header.steps, all.subarray(i * columns, (i + 1) * columns)) }));
  }

  async distribution({ stream, where }) {
    const { header, buffer, at } = await this.#bytes(this.run, "/distribution", { stream, where, columns: COLUMNS });
    const columns = header.steps.length;
    if (!columns) return { steps: [], first: -1, width: 1, bins: 1, density: [], quantiles: [], shares: [] };
    const all = new Float32Array(buffer, at);
    const quantiles = header.shares.map((share, i) => all.subarray(i * columns, (i + 1) * columns));
    return { ...header, quantiles, density: all.subarray(header.shares.length * columns) };
  }

  close() {
    this.end.abort();
  }

  #bytes(run, path, query) {
    return askBytes(runPath(run, path), query, this.end.signal);
  }

  #together({ run = this.run, stream, name, where, column = -1 }, range, points) {
    const group = JSON.stringify([run, stream, name, column, range, points]);
    let waiting = this.waiting.get(group);
    if (!waiting || waiting.letters > QUERY) {
      waiting = { places: new Map(), letters: 0 };
      waiting.answer = Promise.resolve().then(() => {
        if (this.waiting.get(group) === waiting) this.waiting.delete(group);
        const query = { stream, name, where: [...waiting.places.keys()], column: column >= 0 ? column : null, points, ...window(range) };
        return this.#bytes(run, "/series", query);
      });
      this.waiting.set(group, waiting);
    }
    if (!waiting.places.has(where)) {
      waiting.places.set(where, waiting.places.size);
      waiting.letters += 3 * where.length + 7;
    }
    return waiting.answer.then((answer) => part(answer, where));
  }
}

// The curve of one place out of an answer that holds several, one after another.
function part({ header, buffer, at }, where) {
  const place = header.wheres.indexOf(where);
  if (place < 0) return NOTHING;
  const before = header.counts.slice(0, place).reduce((sum, count) => sum + count, 0);
  const count = header.counts[place];
  const column = (i) => new Float64Array(buffer, at + 8 * (4 * before + i * count), count);
  return { steps: column(0), mean: column(1), low: column(2), high: column(3) };
}

function window(range) {
  if (!range) return {};
  const margin = 0.02 * (range[1] - range[0]);
  return { from: Math.floor(range[0] - margin), to: Math.ceil(range[1] + margin) };
}

// A row of a heat map without the columns in which nothing was read.
function known(at, values) {
  const kept = [];
  for (let i = 0; i < values.length; i++) if (!Number.isNaN(values[i])) kept.push(i);
  return { steps: kept.map((i) => at[i]), mean: kept.map((i) => values[i]) };
}
