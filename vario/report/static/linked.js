// What the views of a page share: the step under the pointer, and the range of steps that is shown.

export class Linked extends EventTarget {
  // `all` is [first, last] of the run: every view shows the same steps, so that they can be compared.
  constructor(all) {
    super();
    this.all = [all[0], Math.max(all[1], all[0] + 1)];
    this.range = null; // what was zoomed to; null for all steps
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

  on(name, listener) {
    this.addEventListener(name, (event) => listener(event.detail));
  }
}
