// The charts of a page: made when they come near the screen, kept up to date while they are on it.

const REST = 3; // times what its refresh took, a view waits for the next: a slow one leaves time for the others

export class Board {
  constructor() {
    this.slots = new Map();
    this.ended = false;
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

  // What is on the screen asks again; the rest when it comes near.
  async refresh() {
    const asked = [];
    for (const slot of this.slots.values()) {
      if (!slot.visible || !slot.view) slot.stale = true;
      else asked.push(this.#fresh(slot));
    }
    await Promise.all(asked);
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
    else if (slot.stale && slot.view) this.#fresh(slot);
  }

  async #mount(element, slot) {
    try {
      const view = await slot.mount(element);
      slot.view = view;
      if (this.ended || this.slots.get(element) !== slot) view?.destroy?.();
      else if (slot.stale && slot.visible) this.#fresh(slot); // there was news while it was made
    } catch (error) {
      this.#failed(error, () => (slot.made = null));
      element.dataset.failed = "";
    }
  }

  // One question at a time for each view: a slow server must not collect a queue.
  async #fresh(slot) {
    const wait = (slot.rested ?? 0) - performance.now();
    if (slot.busy || wait > 0) {
      slot.stale = true;
      if (!slot.busy) slot.timer ??= setTimeout(() => this.#rested(slot), wait);
      return;
    }
    slot.busy = true;
    slot.stale = false;
    const began = performance.now();
    let answered = true;
    try {
      await slot.view.refresh?.();
    } catch (error) {
      this.#failed(error, () => ([slot.stale, answered] = [true, false]));
    } finally {
      slot.busy = false;
    }
    const now = performance.now();
    slot.rested = answered ? now + REST * (now - began) : 0;
    if (slot.stale && answered) slot.timer ??= setTimeout(() => this.#rested(slot), slot.rested - now);
  }

  #rested(slot) {
    slot.timer = null;
    if (slot.stale && slot.visible && slot.view && !this.ended) this.#fresh(slot);
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
    clearTimeout(slot.timer);
    slot.view?.destroy?.();
  }
}
