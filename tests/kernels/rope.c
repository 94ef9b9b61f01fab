/* A kernel as people write it: x is strided, (batch, heads, seq, head_dim), and is rotated in place; the tables
 * (batch or 1, seq, n_pairs) have their elements one after the other. The macros are the mistakes that
 * tests/kernels/test_c.py plants. */
#include <stdint.h>

#ifdef NO_STRIDES
#define AT(b, h, s) ((((b) * heads + (h)) * sizes[2] + (s)) * sizes[3])
#else
#define AT(b, h, s) ((b) * strides[0] + (h) * strides[1] + (s) * strides[2])
#endif

#ifdef FLOAT16_ARITHMETIC
typedef _Float16 number;
#else
typedef float number;
#endif

void rotate(float *x, const float *cos, const float *sin, const int64_t *sizes, const int64_t *strides,
            int64_t n_pairs, int64_t rows, float sign)
{
    int64_t batch = sizes[0], heads = sizes[1], seq = sizes[2];
#ifdef WHOLE_BLOCKS /* of four tokens, and no mask for those after the last */
    seq = (seq + 3) / 4 * 4;
#endif
    for (int64_t b = 0; b < batch; b++) {
#ifdef FIRST_ROW
        int64_t row = 0;
#else
        int64_t row = rows > 1 ? b : 0;
#endif
        for (int64_t h = 0; h < heads; h++)
            for (int64_t s = 0; s < seq; s++) {
                float *token = x + AT(b, h, s);
                int64_t at = (row * sizes[2] + s) * n_pairs;
                for (int64_t i = 0; i < n_pairs; i++) {
                    number c = cos[at + i], t = sign * sin[at + i];
                    number first = token[i], second = token[i + n_pairs];
                    token[i] = (float)(number)(first * c - second * t);
                    token[i + n_pairs] = (float)(number)(first * t + second * c);
                }
            }
    }
}
