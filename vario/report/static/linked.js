// What the views of a page share: the step under the pointer, and the range of steps that is shown.

export class Linked extends EventTarget {
  constructor() {
    super();
    this.range = null; // [first, last], or null for all steps
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
