// Numbers, times and texts of a run as a person reads them.

import { number, steps } from "/shared/format.js";

const IN_PERCENT = /\b(share|accuracy|probability|confidence|percentage|update ratio)\b/i;

// A text from outside without control and direction marks, and not endless.
export function plain(text, longest = 300) {
  const safe = String(text ?? "").replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, " ");
  if (safe.length <= longest) return safe;
  const half = Math.floor((longest - 3) / 2);
  return `${safe.slice(0, half)} … ${safe.slice(-half)}`;
}

// A value in the unit that its name asks for: percent for shares, else three digits.
export function amount(name, value) {
  if (value === null || value === undefined) return "–";
  return IN_PERCENT.test(name) ? `${number(100 * value)} %` : value >= 1e5 && value < 1e12 && Number.isInteger(value) ? steps(value) : number(value);
}

// `40 % (38 % to 43 %)`; exact values stand alone, an interval that is open above says so.
export function interval({ name, value, low, high }) {
  const told = amount(name, value);
  if (value === null || (low === null && high === null)) return told;
  if (high === null) return `${told} (at least ${amount(name, low)})`;
  const [from, to] = [amount(name, low), amount(name, high)];
  return from === told && to === told ? told : `${told} (${from} to ${to})`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${number(1000 * seconds)} ms`;
  if (seconds < 90) return seconds < 10 ? `${number(seconds, 2)} s` : `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}

export function ago(seconds, now = Date.now() / 1000) {
  if (!seconds) return "–";
  const past = now - seconds;
  if (past < 45) return "just now";
  if (past < 90 * 60) return `${Math.max(1, Math.round(past / 60))} min ago`;
  if (past < 36 * 3600) return `${Math.round(past / 3600)} h ago`;
  return new Date(seconds * 1000).toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
}

// The command without the interpreter and the folders of the script.
export function shortCommand(command, id) {
  const parts = plain(command, 2000).split(/\s+/).filter(Boolean);
  while (parts.length && (/^python[\d.]*$/.test(parts[0].split("/").at(-1)) || ["--", "-u"].includes(parts[0]))) parts.shift();
  if (!parts.length) return id;
  return [parts[0].split("/").at(-1), ...parts.slice(1)].join(" ");
}

// An id without its moment: the word by which people remember a run.
export function shortId(id) {
  return /^\d{8}-\d{6}-(.+)$/.exec(id)?.[1] ?? id;
}

export function plural(count, one, many = `${one}s`) {
  return `${steps(count)} ${count === 1 ? one : many}`;
}

// What a status is called, and the tone that its mark has.
export function standing(status) {
  const word = String(status ?? "").replace(/\(.*$/, "");
  return { word, tone: { running: "live", finished: "well", failed: "error", killed: "error", corrupt: "error", gone: "unknown" }[word] ?? "unknown" };
}
