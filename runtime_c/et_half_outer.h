/* Plain SGD of a dense layer on one sample, on weights that are stored in binary16.
 *
 *   w[i][j] -= rate * x[i] * dy[j]            rate = learning_rate * unscale
 * with both factors rounded stochastically to integers, so that a step is a multiple of a quantum 2^U:
 *   p[i] = rate * x[i]                        float32
 *   P, Y    the least exponents with |p[i]| < 2^P and |dy[j]| < 2^Y for all i, j
 *   Q       that of the last place of the largest of the weights 0, 61, 122, ...; at least -24
 *   A = min(floor((P + Y - Q) / 2) - 1, 10),  B = min(P + Y - Q - A, 10),  U = P + Y - A - B
 *   n[i] = (rate * 2^(A - P)) * x[i]          rounded with random number i of (seed, step, stream)
 *   m[j] = dy[j] * 2^(B - Y)                  rounded with random number inputs + j
 *   v = w - n[i] * 2^U * m[j]
 *   w[i][j] = v rounded to the nearest, if that is below 2^(U + 11); else, which is rare, madd(-n * 2^U, m, w) rounded
 *             stochastically, with random number inputs + outputs + i * outputs + j (et_stored.h)
 * Rounding a factor t: the sign of t times floor(|t| + u), in float32, u = upper 24 bits of the random number / 2^24.
 * Weights with n[i] = 0 or m[j] = 0 stay as they are.
 *
 *   x    uint16 [inputs]                      binary16
 *   dy   uint16 [outputs]                     binary16, times 1 / unscale, a power of two
 *   w    uint16 [inputs][outputs]             binary16, updated in place
 * A factor that is not finite in binary16 (|p[i]| of 2^16 and more, dy[j] infinite or NaN) leaves its row or column as it
 * was, and the status is ET_NONFINITE_GRADIENT (N8). 0 is finite whatever the rate is. No scratch.
 */
#ifndef ET_HALF_OUTER_H
#define ET_HALF_OUTER_H

#include "et_stored.h"

ET_CHECKED et_status et_half_outer_sgd(size_t inputs, size_t outputs, float unscale, float learning_rate,
                                       uint32_t seed, uint32_t step, uint32_t stream, const uint16_t *x,
                                       const uint16_t *dy, uint16_t *w);

#endif
