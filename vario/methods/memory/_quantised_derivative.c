/* What pack and multiply of _quantised_derivative.py do, bit for bit, for float32: of a stretch of columns one
   row after the other, so that its bits stay in the cache. */
#include <stdint.h>

#define ROWS 8
#define STRETCH 1024
#define INLINE static inline __attribute__((always_inline))

INLINE void pack(const int bits, int64_t n, int count, const float *x, const float *border, uint8_t *planes)
{
    int32_t held[4][STRETCH] = {{0}};
    for (int j = 0; j < ROWS; j++)
        for (int i = 0; i < count; i++) {
            const float entry = x[j * n + i];
            int32_t step = 0;
            for (int k = 0; k < (1 << bits) - 1; k++) step += entry > border[k];
            for (int k = 0; k < bits; k++) held[k][i] |= ((step >> k) & 1) << j;
        }
    for (int k = 0; k < bits; k++)
        for (int i = 0; i < count; i++) planes[k * n + i] = (uint8_t)held[k][i];
}

/* the level whose number has these bits; both sides are read first, so that no branch is left */
INLINE float of2(const float *level, int b0) { return b0 ? level[1] : level[0]; }
INLINE float of4(const float *level, int b1, int b0)
{
    const float low = of2(level, b0), high = of2(level + 2, b0);
    return b1 ? high : low;
}
INLINE float of8(const float *level, int b2, int b1, int b0)
{
    const float low = of4(level, b1, b0), high = of4(level + 4, b1, b0);
    return b2 ? high : low;
}
INLINE float of16(const float *level, int b3, int b2, int b1, int b0)
{
    const float low = of8(level, b2, b1, b0), high = of8(level + 8, b2, b1, b0);
    return b3 ? high : low;
}

INLINE void multiply(const int bits, int64_t n, int count, const float *grad, const float *levels,
                     const uint8_t *planes, float *out)
{
    int32_t held[4][STRETCH];
    float level[16]; /* of its own: the compiler then knows that writing to out leaves it as it is */
    for (int k = 0; k < 1 << bits; k++) level[k] = levels[k];
    for (int k = 0; k < bits; k++)
        for (int i = 0; i < count; i++) held[k][i] = planes[k * n + i];
    for (int j = 0; j < ROWS; j++) {
        const float *restrict from = grad + j * n;
        float *restrict to = out + j * n;
        for (int i = 0; i < count; i++) {
            const int b0 = held[0][i] & 1 << j, b1 = held[1][i] & 1 << j;
            const int b2 = held[2][i] & 1 << j, b3 = held[3][i] & 1 << j;
            to[i] = from[i] * (bits == 1   ? of2(level, b0)
                               : bits == 2 ? of4(level, b1, b0)
                               : bits == 3 ? of8(level, b2, b1, b0)
                                           : of16(level, b3, b2, b1, b0));
        }
    }
}

/* so that the number of bits is a constant to the compiler */
#define FOR_EACH_STRETCH(work, ...)                                                                   \
    _Pragma("omp parallel for num_threads(threads) if (n > 65536)")                                   \
    for (int64_t start = 0; start < n; start += STRETCH) {                                            \
        const int count = n - start < STRETCH ? (int)(n - start) : STRETCH;                           \
        if (bits == 1) work(1, n, count, __VA_ARGS__);                                                \
        else if (bits == 2) work(2, n, count, __VA_ARGS__);                                           \
        else if (bits == 3) work(3, n, count, __VA_ARGS__);                                           \
        else work(4, n, count, __VA_ARGS__);                                                          \
    }

void pack_steps(int64_t n, const float *x, const float *borders, uint8_t *planes, int bits, int threads)
{
    FOR_EACH_STRETCH(pack, x + start, borders, planes + start)
}

void times_levels(int64_t n, const float *grad, const float *levels, const uint8_t *planes, float *out, int bits,
                  int threads)
{
    FOR_EACH_STRETCH(multiply, grad + start, levels, planes + start, out + start)
}
