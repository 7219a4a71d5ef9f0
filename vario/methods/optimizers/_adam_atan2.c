/* One step of adam_atan2.py on plain float32 entries. */
#include <math.h>
#include <stdint.h>

/* Arctangent of y / x for x >= 0, as exact as float32 can tell: of 0 and 0 it is 0, and NaN goes through.
   The polynomial is the one of degree 8 in r^2 with the smallest relative error on [0, 1], 1.5e-8. */
static inline float angle(float y, float x)
{
    const float height = fabsf(y);
    const int steep = height > x;
    const float low = steep ? x : height, high = steep ? height : x;
    const float r = low / (high == 0 ? 1 : high), z = r * r;
    float p = 0.002849889431f;
    p = p * z - 0.01606862821f;
    p = p * z + 0.04269151809f;
    p = p * z - 0.07504294446f;
    p = p * z + 0.1064093399f;
    p = p * z - 0.1420364446f;
    p = p * z + 0.1999261939f;
    p = p * z - 0.3333307335f;
    p = p * z + 0.9999999848f;
    const float turn = steep ? 1.57079633f - r * p : r * p;
    return copysignf(turn, y);
}

/* numbers: 1 - beta1, beta2, 1 - beta2, 1 / correction of m, b / root of the correction of v, 1 - lr * decay, lr * a */
void adam_atan2(int64_t n, float *restrict weight, const float *restrict grad, float *restrict first,
                float *restrict second, const float *restrict numbers, int threads)
{
    const float new1 = numbers[0], beta2 = numbers[1], new2 = numbers[2], over1 = numbers[3], over2 = numbers[4];
    const float shrink = numbers[5], rate = numbers[6];
#pragma omp parallel for simd num_threads(threads) if (parallel : n > 65536)
    for (int64_t i = 0; i < n; i++) {
        const float g = grad[i], m = first[i] + new1 * (g - first[i]), v = beta2 * second[i] + new2 * (g * g);
        first[i] = m;
        second[i] = v;
        weight[i] = weight[i] * shrink - rate * angle(m * over1, sqrtf(v) * over2);
    }
}
