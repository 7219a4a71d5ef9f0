/* The gradient plus a quantile for each entry, named by half a random word: the words of gradient_noise.py. */
#include <stdint.h>

static inline uint32_t scrambled(uint32_t word, uint32_t key)
{
    word = (word ^ word >> 16) * 0x7feb352du;
    word = ((word ^ word >> 15) + key) * 0x846ca68bu;
    return word ^ word >> 16;
}

void gradient_noise(int64_t n, uint32_t start, uint32_t key, const float *restrict quantiles,
                    const float *restrict grad, float *restrict noisy, int threads)
{
#pragma omp parallel for num_threads(threads) if (n > 65536)
    for (int64_t k = 0; k < n / 2; k++) {
        const uint32_t word = scrambled(start + (uint32_t)k, key);
        noisy[2 * k] = grad[2 * k] + quantiles[word & 0xffff];
        noisy[2 * k + 1] = grad[2 * k + 1] + quantiles[word >> 16];
    }
    if (n % 2)
        noisy[n - 1] = grad[n - 1] + quantiles[scrambled(start + (uint32_t)(n / 2), key) & 0xffff];
}
