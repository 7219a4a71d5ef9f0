// Questions to the server, and what became of the connection to it.

const PROBE = "/static/icon.svg";
const PAUSE = 1000; // milliseconds between two attempts to reach a server that is gone

// The server answered, and says what is wrong.
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Nobody answers.
export class Unreachable extends Error {}

// The state of the connection: "well", "lost" (nobody answers) or "refused" (the token is no longer right).
class Link extends EventTarget {
  constructor() {
    super();
    this.state = "well";
    this.timer = null;
  }

  set(state) {
    if (state !== "well" && this.timer === null) this.timer = setTimeout(() => this.probe(), PAUSE);
    if (state === this.state) return;
    const before = this.state;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state } }));
    if (state === "well" && before !== "well") this.dispatchEvent(new CustomEvent("back"));
  }

  async probe() {
    this.timer = null;
    try {
      const answer = await fetch(PROBE, { cache: "no-store" });
      this.set(answer.status === 403 ? "refused" : "well");
    } catch {
      this.set("lost");
    }
  }
}

export const link = new Link();

// What early.js asked already, once.
export function early(address) {
  const asked = window.early?.get(address) ?? null;
  window.early?.delete(address);
  return asked;
}

async function ask(path, query, signal) {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== undefined) words.append(key, one);
  }
  const address = `${path}${words.size ? `?${words}` : ""}`;
  let answer;
  try {
    answer = await (early(address) ?? fetch(address, { signal, cache: "no-store" }));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    link.set("lost");
    throw new Unreachable("The server of this page does not answer.");
  }
  if (answer.ok) {
    link.set("well");
    return answer;
  }
  if (answer.status === 403) link.set("refused");
  let told = `The server answered ${answer.status}.`;
  try {
    told = (await answer.json()).error ?? told;
  } catch {
    // Not JSON: the status is all that is known.
  }
  throw new Refused(answer.status, told);
}

export async function askJson(path, query = {}, signal = undefined) {
  return (await ask(path, query, signal)).json();
}

// The header of a binary answer and where its numbers begin.
export async function askBytes(path, query = {}, signal = undefined) {
  return opened(await ask(path, query, signal));
}

// The same of an answer that is there already.
export async function opened(answer) {
  const buffer = await answer.arrayBuffer();
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  return { header, buffer, at: (4 + size + 7) & ~7 };
}

export function runPath(id, rest = "") {
  return `/api/run/${encodeURIComponent(id)}${rest}`;
}
