// What the views of a page share: the step under the pointer, the range of steps that is shown, and how
// strongly lines are smoothed.

export class Linked extends EventTarget {
  // `all` is [first, last] of the run: every view shows the same steps, so that they can be compared.
  constructor(all) {
    super();
    this.all = [all[0], Math.max(all[1], all[0] + 1)];
    this.range = null; // what was zoomed to; null for all steps
    this.smooth = 0; // the share of the shown steps that one smoothed value looks at
  }

  get shown() {
    return this.range ?? this.all;
  }

  // `step` null: the pointer left; `from` is the view that it is over.
  point(step, from) {
    this.dispatchEvent(new CustomEvent("point", { detail: { step, from } }));
  }

  zoom(range) {
    this.range = range;
    this.dispatchEvent(new CustomEvent("zoom", { detail: { range } }));
  }

  soften(share) {
    this.smooth = share;
    this.dispatchEvent(new CustomEvent("soften", { detail: { share } }));
  }

  // A run in flight has more steps than a moment ago.
  reach(last) {
    this.all = [this.all[0], Math.max(last, this.all[1])];
  }

  // Whether the run has gone on since step `until` by so much that one of `pixels` across would change.
  grown(until, pixels) {
    const [first, last] = this.shown;
    return Math.min(this.all[1], last) - Math.min(until, last) >= (last - first) / Math.max(pixels, 1);
  }

  // `signal` of an AbortController ends it: a view that is gone must not be kept alive by its listeners.
  on(name, listener, signal = undefined) {
    this.addEventListener(name, (event) => listener(event.detail), { signal });
  }
}

const SOON = 60; // milliseconds within which an answer is as good as at once

// Draws what `ask` brings; with what is here already only where that does not come at once, or never.
export async function answered(ask, draw) {
  const late = setTimeout(draw, SOON);
  try {
    await ask();
  } catch (error) {
    draw();
    throw error;
  } finally {
    clearTimeout(late);
  }
}
