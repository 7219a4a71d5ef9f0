// Asks about the run in the address while the modules of the page are still on their way.
(() => {
  const found = /^#\/run\/([^/?]+)/.exec(location.hash);
  if (!found) return;
  try {
    const path = `/api/run/${encodeURIComponent(decodeURIComponent(found[1]))}`;
    const answer = fetch(path, { cache: "no-store" });
    answer.catch(() => {}); // whoever takes the answer says what went wrong
    window.early = { path, answer };
  } catch {
    // Not an address: the page says so.
  }
})();
