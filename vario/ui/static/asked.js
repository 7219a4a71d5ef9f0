// Where the charts of the dashboard get their curves from: the server, for the steps that are shown.

import { askBytes, early, opened, runPath } from "./api.js";

const POINTS = 480; // stretches of a curve: as many as a chart has pixels for its line; the band keeps every spike
const CLOSE = 960; // of a part of the steps: every pixel of a sharp screen
const WHOLE = 20000; // for a file
const FIRST = `/series?first=4&points=${POINTS}`; // early.js asks for it before this is here
const QUERY = 6000; // letters of lines in one question
const COLUMNS = 240; // of a heat map and of a distribution
const KEPT = 400; // answers for those who ask the same again: the curves of a page at a few zooms
const NOTHING = { steps: new Float64Array(), mean: new Float64Array(), low: new Float64Array(), high: new Float64Array() };

export class AskedSource {
  constructor(run) {
    this.run = run;
    this.live = true;
    this.waiting = new Map();
    this.kept = new Map();
    this.first = this.#early();
    this.end = new AbortController();
  }

  // `key`: {stream, name, where, column}, with a `run` where it is another; or {ask(source, range)}.
  // Curves that are wanted at once travel together.
  curve(key, range = null) {
    if (key.ask) return key.ask(this, range);
    return this.#once([key, range], () => this.#together(key, range, range ? CLOSE : POINTS));
  }

  whole(key) {
    return key.ask ? key.ask(this, null) : this.#together(key, null, WHOLE);
  }

  rows(map, range) {
    return this.#once([map, range], () => this.#rows(map, range));
  }

  async #rows({ stream, name, over }, range) {
    const { header, buffer, at } = await this.#bytes(this.run, "/heatmap", { stream, name, over, columns: COLUMNS, ...window(range) });
    const columns = header.steps.length;
    const all = new Float32Array(buffer, at, header.layers.length * columns);
    return header.layers.map((layer, i) => ({ name: layer, curve: known(header.steps, all.subarray(i * columns, (i + 1) * columns)) }));
  }

  distribution(key) {
    return this.#once(["distribution", key], () => this.#distribution(key));
  }

  async #distribution({ stream, where }) {
    const { header, buffer, at } = await this.#bytes(this.run, "/distribution", { stream, where, columns: COLUMNS });
    const columns = header.steps.length;
    if (!columns) return { steps: [], first: -1, width: 1, bins: 1, density: [], quantiles: [], shares: [] };
    const all = new Float32Array(buffer, at);
    const quantiles = header.shares.map((share, i) => all.subarray(i * columns, (i + 1) * columns));
    return { ...header, quantiles, density: all.subarray(header.shares.length * columns) };
  }

  // What was asked for before this page was there is good for its first charts, and then no more. The steps
  // that the run had by then.
  async settled() {
    const told = await this.first;
    this.first = null;
    return told ? told.header.steps : Infinity;
  }

  // There is news: nothing that was told before is as good as asking.
  fresh() {
    this.kept.clear();
  }

  close() {
    this.end.abort();
  }

  // What was answered since the last news, or what `ask` brings.
  #once(key, ask) {
    const question = JSON.stringify(key);
    if (!this.kept.has(question)) {
      const answer = ask();
      this.kept.set(question, answer);
      answer.catch(() => this.kept.get(question) === answer && this.kept.delete(question));
      if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    }
    return this.kept.get(question);
  }

  #bytes(run, path, query) {
    return askBytes(runPath(run, path), query, this.end.signal);
  }

  // What early.js asked for; null where it did not, or where that went wrong.
  #early() {
    const answer = early(runPath(this.run, FIRST));
    return answer && answer.then((found) => (found.ok ? opened(found) : null)).catch(() => null);
  }

  async #together({ run = this.run, stream, name, where, column = -1 }, range, points) {
    const line = JSON.stringify([stream, name, where, Math.max(column, 0)]);
    if (this.first && run === this.run && !range && points === POINTS) {
      const told = await this.first;
      const place = told ? placeOf(told, line) : -1;
      if (place >= 0) return part(told, place);
    }
    return this.#asked(line, run, range, points);
  }

  async #asked(line, run, range, points) {
    const group = JSON.stringify([run, range, points]);
    let waiting = this.waiting.get(group);
    if (!waiting || waiting.letters > QUERY) {
      const mine = { lines: new Set(), letters: 0 };
      mine.answer = Promise.resolve().then(() => {
        if (this.waiting.get(group) === mine) this.waiting.delete(group);
        return this.#bytes(run, "/series", { line: [...mine.lines], points, ...window(range) });
      });
      this.waiting.set(group, (waiting = mine));
    }
    if (!waiting.lines.has(line)) {
      waiting.lines.add(line);
      waiting.letters += 2 * line.length;
    }
    const told = await waiting.answer;
    return part(told, placeOf(told, line));
  }
}

function placeOf({ header }, line) {
  header.places ??= new Map(header.lines.map((one, i) => [JSON.stringify(one), i]));
  return header.places.get(line) ?? -1;
}

// The curve of one line out of an answer that holds several, one after another.
function part({ header, buffer, at }, place) {
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

// A row of a heat map without the columns in which nothing was read; rows that lack none share their steps.
function known(at, values) {
  const kept = [];
  for (let i = 0; i < values.length; i++) if (values[i] === values[i]) kept.push(i); // NaN is not itself
  if (kept.length === values.length) return { steps: at, mean: values };
  return { steps: kept.map((i) => at[i]), mean: kept.map((i) => values[i]) };
}
