// A curve's means averaged over their neighbours, with Gaussian weights in steps on both sides, so that
// nothing lags. Only an addition to a chart: the means and their band stay, and with them every spike.

// `reach`: the standard deviation of the weights in steps; on a logarithmic axis logarithms are averaged.
export function smoothed(at, mean, reach, log) {
  if (!(reach > 0)) return Array(at.length).fill(null);
  const values = Array.from(mean, (value) => (log ? (value > 0 ? Math.log(value) : NaN) : value));
  let first = 0;
  return values.map((own, i) => {
    if (!Number.isFinite(own)) return null;
    while (at[i] - at[first] > 2.5 * reach) first++;
    let [sum, weights] = [0, 0];
    for (let k = first; k < at.length && at[k] - at[i] <= 2.5 * reach; k++) {
      if (!Number.isFinite(values[k])) continue;
      const weight = Math.exp(-0.5 * ((at[k] - at[i]) / reach) ** 2);
      [sum, weights] = [sum + weight * values[k], weights + weight];
    }
    return log ? Math.exp(sum / weights) : sum / weights;
  });
}
