// News of a run, or of the list of runs: what changed, so that the page can ask for what it shows.

import { link } from "./api.js";

const PAUSE = 1000; // milliseconds before a broken stream is opened again

export class Live {
  // `onChange(data)` for news of `run`, `onRuns()` when the list changed, `onBack()` after a break.
  constructor(run, { onChange = () => {}, onRuns = () => {}, onBack = () => {} }) {
    Object.assign(this, { run, onChange, onRuns, onBack, stream: null, timer: null, ended: false, broken: false });
    this.seen = () => (document.hidden ? this.pause() : this.open());
    document.addEventListener("visibilitychange", this.seen);
    this.open();
  }

  // Browsers open few connections to one server: pages that nobody looks at must not hold one.
  pause() {
    this.stream?.close();
    this.stream = null;
    this.broken = true;
  }

  open() {
    clearTimeout(this.timer);
    if (this.ended || this.stream || document.hidden) return;
    const query = this.run ? `?run=${encodeURIComponent(this.run)}` : "";
    const stream = new EventSource(`/api/events${query}`);
    this.stream = stream;
    stream.addEventListener("open", () => {
      link.set("well");
      if (this.broken) this.onBack();
      this.broken = false;
    });
    stream.addEventListener("change", (event) => this.onChange(JSON.parse(event.data)));
    stream.addEventListener("runs", () => this.onRuns());
    stream.addEventListener("error", () => {
      stream.close();
      if (this.stream !== stream) return;
      this.stream = null;
      this.broken = true;
      link.probe();
      this.timer = setTimeout(() => this.open(), PAUSE);
    });
  }

  close() {
    this.ended = true;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
    this.stream?.close();
  }
}
