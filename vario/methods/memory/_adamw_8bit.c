/* One AdamW step of entries whose moments lie in the codes of _block_codes.py: operation for operation what
   _adamw in adamw_8bit.py does, but a block at a time, so that nothing of it leaves the cache.

   NaN must spread as in torch. The bits of numbers that are not negative are in the order of the numbers, NaN
   above all, so the largest is taken among the bits. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define HALF 128
#define BLOCK (2 * HALF)
#define TINY 1.17549435e-38f

union number { float value; int32_t bits; };

static inline int32_t size_of(float x) { union number n; n.value = x; return n.bits & 0x7fffffff; }
static inline float number_of(int32_t bits) { union number n; n.bits = bits; return n.value; }
static inline int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }
static inline float at_least(float x, float least) { return x < least ? least : x; }

static void move_block(float *restrict weight, const float *restrict grad, int32_t *restrict words,
                       float *restrict scale1, float *restrict scale2, const float *restrict numbers)
{
    const float beta1 = numbers[0], beta2 = numbers[1], rate = numbers[2], correction = numbers[3];
    const float eps = numbers[4], shrink = numbers[5], beta2_root = numbers[6];
    const float new1 = 1 - beta1, new2 = 1 - beta2;
    const float over1 = *scale1 * beta1 * (float)(1.0 / (127 * 127));
    const float over2 = *scale2 * beta2_root * (float)(1.0 / (255 * 255));
    float first[2][HALF], second[2][HALF];
    int32_t most1 = 0, most2 = 0;
    for (int i = 0; i < HALF; i++) {
        const int32_t word = words[i];
        const float high[2] = {(float)((int32_t)((uint32_t)word << 16) >> 24), (float)(word >> 24)};
        const float low[2] = {(float)(word & 255), (float)((word >> 16) & 255)};
        for (int h = 0; h < 2; h++) {
            const float g = grad[h * HALF + i], root = low[h] * low[h] * over2;
            first[h][i] = high[h] * fabsf(high[h]) * over1 + new1 * g;
            second[h][i] = root * root + new2 * (g * g);
            most1 = larger(most1, size_of(first[h][i]));
            most2 = larger(most2, size_of(second[h][i]));
        }
    }
    *scale1 = number_of(most1);
    *scale2 = sqrtf(number_of(most2));
    const float per1 = 1 / at_least(*scale1, TINY) * (127 * 127), per2 = 1 / at_least(*scale2, TINY) * (255 * 255);
    for (int i = 0; i < HALF; i++) {
        uint32_t code[2];
        for (int h = 0; h < 2; h++) {
            const float m = first[h][i], root = sqrtf(second[h][i]), size = sqrtf(fabsf(m) * per1);
            weight[h * HALF + i] = weight[h * HALF + i] * shrink - rate * m / (root * correction + eps);
            const int32_t high = (int32_t)rintf(m < 0 ? -size : size);
            const int32_t low = (int32_t)at_least(rintf(sqrtf(root * per2)), 1);
            code[h] = (uint32_t)((high & 255) << 8 | (low & 255));
        }
        words[i] = (int32_t)(code[1] << 16 | code[0]);
    }
}

void adamw_8bit(int64_t entries, float *weight, const float *grad, int32_t *words, float *scale1, float *scale2,
                const float *numbers, int threads)
{
    const int64_t whole = entries / BLOCK, rest = entries % BLOCK;
#pragma omp parallel for num_threads(threads) if (whole > 256)
    for (int64_t k = 0; k < whole; k++)
        move_block(weight + k * BLOCK, grad + k * BLOCK, words + k * HALF, scale1 + k, scale2 + k, numbers);
    if (rest) { /* the last block, filled up with zeros */
        float w[BLOCK] = {0}, g[BLOCK] = {0};
        memcpy(w, weight + whole * BLOCK, rest * sizeof(float));
        memcpy(g, grad + whole * BLOCK, rest * sizeof(float));
        move_block(w, g, words + whole * HALF, scale1 + whole, scale2 + whole, numbers);
        memcpy(weight + whole * BLOCK, w, rest * sizeof(float));
    }
}
