// The gradient noise scale over time with its interval: mean noise over mean signal of a window of
// readings, divided last, since a ratio of noisy numbers is biased. How `vario findings` decides about the
// batch is said with the finding; here only the course is drawn.

const WINDOW = 200; // readings
const LEAST = 30; // readings in a window that say anything
const BLOCKS = 15; // neighbouring readings depend on each other, so the interval is over blocks of them
const T_95 = 2.145; // Student's t for 14 degrees of freedom
const PLACES = 60; // windows that are drawn
const OPEN = 100; // how many times the value an interval without an upper end is drawn

export const SIGNAL = "gradient_noise/signal";
export const NOISE = "gradient_noise/noise";

export function noiseChart(stream, several) {
  const line = (name) => ({ stream, name, where: "", column: -1 });
  const scale = { ask: async (source) => noiseScale(await source.whole(line(SIGNAL)), await source.whole(line(NOISE))) };
  const batch = { ask: async (source, range) => examples(await source.curve(line("batch/size"), range), await source.curve(line("loss/backwards"), range)) };
  return {
    title: `Noise scale against the batch${several ? `, ${stream}` : ""}`,
    note: "95 % band, from 30 readings on",
    lines: [{ label: "noise scale, in examples", curve: scale }, { label: "examples per step", curve: batch, dash: true }],
    limits: [],
    span: null,
  };
}

// {steps, mean, low, high} of the ratio; where the signal cannot be told from zero the interval is open above.
export function noiseScale(signal, noise) {
  const pairs = [];
  for (let i = 0, k = 0; i < signal.steps.length; i++) {
    while (k < noise.steps.length && noise.steps[k] < signal.steps[i]) k++;
    if (noise.steps[k] === signal.steps[i] && Number.isFinite(signal.mean[i]) && Number.isFinite(noise.mean[k])) pairs.push([signal.steps[i], signal.mean[i], noise.mean[k]]);
  }
  const found = { steps: [], mean: [], low: [], high: [] };
  const every = Math.max(1, Math.floor((pairs.length - LEAST) / PLACES));
  for (let end = LEAST; end <= pairs.length; end += every) {
    const told = fieller(pairs.slice(Math.max(0, end - WINDOW), end));
    if (!told) continue;
    found.steps.push(pairs[end - 1][0]);
    found.mean.push(told.value);
    found.low.push(told.low);
    found.high.push(told.high);
  }
  return found;
}

// Fieller's interval for a ratio of two means, over blocks; null where the ratio has no sign.
function fieller(pairs) {
  const blocks = Array.from({ length: BLOCKS }, (_, i) => pairs.slice(Math.floor((i * pairs.length) / BLOCKS), Math.floor(((i + 1) * pairs.length) / BLOCKS))).filter(({ length }) => length);
  const means = blocks.map((block) => [average(block.map(([, s]) => s)), average(block.map(([, , n]) => n))]);
  const [s, n] = [average(means.map(([a]) => a)), average(means.map(([, b]) => b))];
  if (!(s > 0)) return null;
  const spread = (a, ma, b, mb) => means.reduce((sum, one) => sum + (one[a] - ma) * (one[b] - mb), 0) / (means.length - 1) / means.length;
  const [ss, nn, sn] = [spread(0, s, 0, s), spread(1, n, 1, n), spread(0, s, 1, n)];
  const t = T_95 ** 2;
  const a = s * s - t * ss;
  const b = s * n - t * sn;
  const root = Math.sqrt(Math.max(b * b - a * (n * n - t * nn), 0));
  const value = n / s;
  if (a > 0) return { value, low: Math.max((b - root) / a, value / OPEN), high: (b + root) / a };
  // The signal may be zero: only the lower end is known.
  const ends = [(b - root) / a, (b + root) / a].filter((end) => end > 0 && end <= value);
  return { value, low: Math.max(...ends, value / OPEN), high: value * OPEN };
}

function average(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function examples(size, backwards) {
  const passes = Array.from(backwards.mean).sort((a, b) => a - b)[backwards.mean.length >> 1] ?? 1;
  const scaled = (values) => Array.from(values, (value) => value * Math.max(passes, 1));
  return { steps: size.steps, mean: scaled(size.mean), low: scaled(size.low), high: scaled(size.high) };
}
