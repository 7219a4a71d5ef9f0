// Where charts get their curves from: here the numbers inside the page. The dashboard has another source
// with the same methods, which asks its server; all of them may answer with a promise.

function bytes(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

function floats(text) {
  return new Float32Array(bytes(text).buffer);
}

export class InlinedSource {
  constructor(data) {
    this.data = data;
    this.grids = new Map();
    this.kept = new Map();
  }

  // A curve: {steps, low, mean, high}, the last step, smallest, mean and largest value of each bucket.
  curve(index) {
    if (!this.kept.has(index)) {
      const { grid, mean, low, high } = this.data.curves[index];
      const middle = floats(mean);
      this.kept.set(index, {
        steps: this.grid(grid),
        mean: middle,
        low: low ? floats(low) : middle,
        high: high ? floats(high) : middle,
      });
    }
    return this.kept.get(index);
  }

  // The rows of a heat map, each with its curve.
  rows(map) {
    return map.rows.map(([name, index]) => ({ name, curve: this.curve(index) }));
  }

  // A distribution over time: densities 0..255 by column, quantiles in decades.
  distribution(packed) {
    return {
      ...packed,
      steps: new Int32Array(bytes(packed.steps).buffer),
      density: bytes(packed.density),
      quantiles: packed.quantiles.map(floats),
    };
  }

  grid(index) {
    if (!this.grids.has(index)) this.grids.set(index, new Int32Array(bytes(this.data.grids[index]).buffer));
    return this.grids.get(index);
  }
}
