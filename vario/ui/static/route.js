// Addresses inside the page: #/run/ID?x=100:200&layer=fc1.weight. Everything that is looked at can be
// kept as a link and comes back with it.

export function parsed(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [page = "", ...parts] = path.split("/").map(unescaped);
  return { page: page || "runs", parts, query: new URLSearchParams(query) };
}

export function address(page, parts = [], query = {}) {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== null && value !== undefined && value !== "") words.set(key, value);
  const path = [page, ...parts.map(encodeURIComponent)].join("/");
  return `#/${path}${words.size ? `?${words}` : ""}`;
}

// `x=100:200` as a range of steps; null where it is none.
export function rangeOf(text) {
  const found = /^(-?[\d.]+):(-?[\d.]+)$/.exec(text ?? "");
  if (!found) return null;
  const [from, to] = [Number(found[1]), Number(found[2])];
  return Number.isFinite(from) && Number.isFinite(to) && to > from ? [from, to] : null;
}

export function rangeText(range) {
  return range ? range.map((step) => String(Math.round(step * 10) / 10)).join(":") : null;
}

function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
