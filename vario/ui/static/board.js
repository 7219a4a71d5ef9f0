// The charts of a page: made when they come near the screen, kept up to date while they are on it.

const REST = 3; // times what a round of questions took, the next one waits: a slow server has other work too

export class Board {
  constructor() {
    this.slots = new Map();
    this.ended = false;
    this.round = null; // a promise, while views ask again
    this.rested = 0; // when the next round may begin
    this.near = new IntersectionObserver((entries) => entries.forEach((entry) => this.#seen(entry)), { rootMargin: "300px" });
  }

  // `mount(element)` makes the view: {draw, refresh, destroy}, or a promise of it. `now`: it will be on the
  // screen at once, so its question need not wait for the first frame.
  add(element, mount, now = false) {
    const slot = { mount, view: null, made: null, visible: now, stale: false };
    this.slots.set(element, slot);
    if (now) slot.made = this.#mount(element, slot);
    this.near.observe(element);
    return element;
  }

  // Everything inside `box` is about to be thrown away.
  drop(box) {
    for (const [element, slot] of this.slots) {
      if (!box.contains(element)) continue;
      this.near.unobserve(element);
      this.slots.delete(element);
      this.#ended(slot);
    }
  }

  // What is on the screen asks again, all of it at once; the rest when it comes near.
  refresh() {
    for (const slot of this.slots.values()) slot.stale = true;
    return this.#caughtUp();
  }

  // When what is near the screen has been drawn, or soon: a page that nobody looks at draws nothing.
  async settled(most = 1500) {
    const soon = new Promise((done) => setTimeout(done, most));
    const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const drawn = async () => {
      await frame();
      await Promise.all([...this.slots.values()].map(({ made }) => made));
      await frame();
    };
    await Promise.race([drawn(), soon]);
  }

  draw() {
    for (const { view } of this.slots.values()) view?.draw();
  }

  close() {
    this.ended = true;
    this.near.disconnect();
    for (const slot of this.slots.values()) this.#ended(slot);
    this.slots.clear();
  }

  #seen({ target, isIntersecting }) {
    const slot = this.slots.get(target);
    if (!slot) return;
    slot.visible = isIntersecting;
    if (!isIntersecting) return;
    if (!slot.made) slot.made = this.#mount(target, slot);
    else this.#caughtUp();
  }

  async #mount(element, slot) {
    try {
      const view = await slot.mount(element);
      slot.view = view;
      if (this.ended || this.slots.get(element) !== slot) view?.destroy?.();
      else this.#caughtUp(); // there was news while it was made
    } catch (error) {
      this.#failed(error, () => (slot.made = null));
      element.dataset.failed = "";
    }
  }

  // Until every view that is looked at shows the latest news. One round at a time: a slow server must not
  // collect a queue.
  #caughtUp() {
    this.round ??= this.#rounds();
    return this.round;
  }

  async #rounds() {
    await null; // who calls in the same moment is asked for together
    const late = () => [...this.slots.values()].filter(({ stale, visible, view }) => stale && visible && view);
    try {
      for (let answered = true; answered && !this.ended && late().length; ) {
        const wait = this.rested - performance.now();
        if (wait > 0) await new Promise((done) => setTimeout(done, wait));
        const began = performance.now();
        answered = (await Promise.all(late().map((slot) => this.#fresh(slot)))).every(Boolean);
        const now = performance.now();
        this.rested = answered ? now + REST * (now - began) : 0;
      }
    } finally {
      this.round = null;
    }
  }

  // Whether the view asked and was answered.
  async #fresh(slot) {
    slot.stale = false;
    try {
      await slot.view.refresh?.();
      return true;
    } catch (error) {
      this.#failed(error, () => (slot.stale = true));
      return false;
    }
  }

  // A server that is gone says so at the top of the page; its charts stay as they were, and ask again.
  #failed(error, again) {
    again();
    if (!["AbortError", "Unreachable", "Refused"].includes(error.constructor.name) && error.name !== "AbortError") throw error;
  }

  // After the connection is back: what could not be made is made now.
  retry() {
    for (const [element, slot] of this.slots) if (slot.visible && !slot.made) slot.made = this.#mount(element, slot);
    return this.refresh();
  }

  #ended(slot) {
    slot.view?.destroy?.();
  }
}
