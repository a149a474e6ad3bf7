/* The float32 functions of the numerics contract. See et_math.h for the promises, docs/numerics.md for the errors. */
#include "et_math.h"

#define ET_FRACTION_BITS 0x007FFFFFu
#define ET_HIDDEN_BIT 0x00800000u
#define ET_MINUS_INFINITY_BITS 0xFF800000u

/* ---- The exact fused multiply-add ------------------------------------------------------------------------------- */

/* Position of the highest set bit. x must not be 0. */
static int32_t highest_bit(uint64_t x)
{
    int32_t position = 0;
    for (int32_t step = 32; step > 0; step >>= 1) {
        if ((x >> step) != 0u) {
            x >>= step;
            position += step;
        }
    }
    return position;
}

/* x >> count, with every bit that is shifted out gathered in the last bit, so that later rounding still sees it. */
static uint64_t shift_right_sticky(uint64_t x, int32_t count)
{
    if (count <= 0) {
        return x;
    }
    if (count >= 64) {
        return x != 0u ? 1u : 0u;
    }
    const uint64_t lost = x & (((uint64_t)1 << count) - 1u);
    return (x >> count) | (lost != 0u ? 1u : 0u);
}

/* The significand (with its hidden bit) and exponent of a finite x: |x| = significand * 2^exponent. */
static uint32_t split_f32(uint32_t bits, int32_t *exponent)
{
    const uint32_t field = (bits & ET_INFINITY_BITS) >> 23;
    const uint32_t fraction = bits & ET_FRACTION_BITS;
    *exponent = (int32_t)(field == 0u ? 1u : field) - 150;
    return field == 0u ? fraction : (fraction | ET_HIDDEN_BIT);
}

/* sum * 2^exponent rounded to nearest even; the last bit of sum is sticky. sum must not be 0. */
static float round_to_f32(uint32_t sign, uint64_t sum, int32_t exponent)
{
    /* Keep 26 bits: 24 of the result, the half, the sticky. A subnormal keeps fewer. */
    int32_t drop = highest_bit(sum) - 25;
    if (drop + exponent < -151) {
        drop = -151 - exponent;
    }
    const uint64_t kept = drop >= 0 ? shift_right_sticky(sum, drop) : sum << -drop;
    exponent += drop;
    const uint32_t low = (uint32_t)kept & 3u;
    uint32_t fraction = (uint32_t)(kept >> 2);
    if (low == 3u || (low == 2u && (fraction & 1u) != 0u)) {
        fraction += 1u;
    }
    /* fraction * 2^(exponent + 2), fraction up to 2^24: a carry runs into the exponent field, as it should. */
    const int32_t field = exponent + 2 + 149;
    if (field >= 254) {
        return et_from_bits_f32(sign | ET_INFINITY_BITS);
    }
    const uint32_t result = ((uint32_t)field << 23) + fraction;
    return et_from_bits_f32(sign | (result > ET_INFINITY_BITS ? ET_INFINITY_BITS : result));
}

float et_fma_exact(float a, float b, float c)
{
    const uint32_t a_bits = et_bits_f32(a);
    const uint32_t b_bits = et_bits_f32(b);
    const uint32_t c_bits = et_bits_f32(c);
    const uint32_t sign = (a_bits ^ b_bits) & ET_SIGN_BIT;
    const bool product_is_zero = (a_bits & ~ET_SIGN_BIT) == 0u || (b_bits & ~ET_SIGN_BIT) == 0u;

    if (!et_is_finite_f32(a) || !et_is_finite_f32(b) || (product_is_zero && et_is_finite_f32(c))) {
        const float product = a * b; /* exact here, or NaN */
        return product + c;
    }
    if (!et_is_finite_f32(c)) {
        return c + c; /* a product that overflows alone must not meet it */
    }

    int32_t a_exponent, b_exponent, c_exponent;
    uint64_t product = (uint64_t)split_f32(a_bits, &a_exponent) * split_f32(b_bits, &b_exponent);
    uint64_t addend = split_f32(c_bits, &c_exponent);
    int32_t exponent = a_exponent + b_exponent;
    if (addend == 0u) {
        return round_to_f32(sign, product, exponent);
    }

    /* Both with the highest bit at 61: a sum has room, and a difference that cancels has lost no bit. */
    const int32_t product_shift = 61 - highest_bit(product);
    const int32_t addend_shift = 61 - highest_bit(addend);
    product <<= product_shift;
    addend <<= addend_shift;
    exponent -= product_shift;
    c_exponent -= addend_shift;
    if (exponent >= c_exponent) {
        addend = shift_right_sticky(addend, exponent - c_exponent);
    } else {
        product = shift_right_sticky(product, c_exponent - exponent);
        exponent = c_exponent;
    }

    if (sign == (c_bits & ET_SIGN_BIT)) {
        return round_to_f32(sign, product + addend, exponent);
    }
    if (product == addend) {
        return 0.0f;
    }
    return product > addend ? round_to_f32(sign, product - addend, exponent)
                            : round_to_f32(sign ^ ET_SIGN_BIT, addend - product, exponent);
}

/* ---- Root and rounding without float instructions --------------------------------------------------------------- */

float et_sqrt_portable_f32(float x)
{
    const uint32_t bits = et_bits_f32(x);
    if ((bits & ~ET_SIGN_BIT) == 0u || bits == ET_INFINITY_BITS) {
        return x;
    }
    if (bits > ET_INFINITY_BITS) { /* NaN or negative */
        const float difference = x - x;
        return difference / difference;
    }
    int32_t exponent;
    uint32_t remainder = split_f32(bits, &exponent);
    while (remainder < ET_HIDDEN_BIT) {
        remainder <<= 1;
        exponent -= 1;
    }
    /* x = remainder / 2^23 * 2^exponent with an even exponent, remainder in [2^23, 2^25) */
    exponent += 23;
    if ((exponent & 1) != 0) {
        remainder <<= 1;
        exponent -= 1;
    }
    /* Bit by bit, 24 bits of root and one for rounding. The root of a float32 is never exactly half way. */
    uint32_t root = 0u;
    uint32_t twice_root = 0u;
    remainder <<= 1;
    for (uint32_t bit = 0x01000000u; bit != 0u; bit >>= 1) {
        const uint32_t trial = twice_root + bit;
        if (trial <= remainder) {
            twice_root = trial + bit;
            remainder -= trial;
            root += bit;
        }
        remainder <<= 1;
    }
    root = (root + 1u) >> 1;
    /* root in [2^23, 2^24]: its top bit adds the last one to the exponent field. */
    const uint32_t field = (uint32_t)((exponent + 252) / 2);
    return et_from_bits_f32((field << 23) + root);
}

float et_rint_portable_f32(float x)
{
    const uint32_t bits = et_bits_f32(x);
    const uint32_t field = (bits & ET_INFINITY_BITS) >> 23;
    if (field >= 150u) {
        return x;
    }
    if (field < 126u) { /* less than a half */
        return et_from_bits_f32(bits & ET_SIGN_BIT);
    }
    if (field == 126u) { /* the tie 0.5 goes to 0 */
        const uint32_t one = (bits & ET_FRACTION_BITS) == 0u ? 0u : 0x3F800000u;
        return et_from_bits_f32((bits & ET_SIGN_BIT) | one);
    }
    /* Add a half, less one in the last place when the integer is even: carries run into the exponent as they should. */
    const uint32_t unit = (uint32_t)1 << (150u - field);
    const uint32_t odd = (bits & unit) != 0u || unit == 0x00800000u ? 1u : 0u;
    return et_from_bits_f32((bits + (unit >> 1) - 1u + odd) & ~(unit - 1u));
}

/* ---- Elementary functions --------------------------------------------------------------------------------------- */

/* One step of a Horner scheme, rounded twice whatever ET_FMA is: the bits of a function are the same everywhere. */
static inline float next_term(float sum, float x, float coefficient)
{
    const float product = sum * x;
    return product + coefficient;
}

static float power_of_two(int32_t exponent) /* -126 .. 127 */
{
    return et_from_bits_f32((uint32_t)(exponent + 127) << 23);
}

/* ln 2 in two parts. Products of the first with integers below 2^15 are exact. */
static const float ln2_high = 0.693359375f;
static const float ln2_low = -2.12194440e-4f;

/* Defines y and the integer n: e^x = y * 2^n, |x| <= 104. A macro, as a function would be another one on small cores. */
#define ET_EXP_AND_POWER(x)                                                                                      \
    /* x = n ln 2 + r. The large constant leaves the integer nearest to x / ln 2 in the last bits of the sum. */ \
    const float shift = 12582912.0f;                                                                             \
    const float shifted = next_term(x, 0x1.715476p+0f, shift);                                                   \
    const int32_t n = (int32_t)(et_bits_f32(shifted) - et_bits_f32(shift));                                      \
    const float whole = shifted - shift;                                                                         \
    const float high = whole * ln2_high;                                                                         \
    const float low = whole * ln2_low;                                                                           \
    const float partly = x - high;                                                                               \
    const float r = partly - low;                                                                                \
    /* e^r = 1 + r + r^2 q(r) */                                                                                 \
    float q = 0x1.6a4d60p-10f;                                                                                   \
    q = next_term(q, r, 0x1.12398ep-7f);                                                                         \
    q = next_term(q, r, 0x1.5558b0p-5f);                                                                         \
    q = next_term(q, r, 0x1.555492p-3f);                                                                         \
    q = next_term(q, r, 0x1.fffffcp-2f);                                                                         \
    const float square = r * r;                                                                                  \
    const float tail = next_term(square, q, r);                                                                  \
    const float y = tail + 1.0f;

float et_exp_f32(float x)
{
    const uint32_t bits = et_bits_f32(x);
    const uint32_t magnitude = bits & ~ET_SIGN_BIT;
    if (magnitude > 0x42D00000u) { /* |x| > 104, or NaN */
        if (magnitude > ET_INFINITY_BITS) {
            return x + x;
        }
        return (bits & ET_SIGN_BIT) != 0u ? 0.0f : et_from_bits_f32(ET_INFINITY_BITS);
    }
    ET_EXP_AND_POWER(x)
    if (n >= -124 && n <= 126) {
        return et_from_bits_f32(et_bits_f32(y) + ((uint32_t)n << 23));
    }
    /* Near overflow and into the subnormals: two powers of two, so that only the last product rounds. */
    const int32_t first = (n + 256) / 2 - 128;
    const float scaled = y * power_of_two(first);
    return scaled * power_of_two(n - first);
}

/* Defines y, the logarithm of 2^exponent times the positive normal number of these bits; changes the exponent. */
#define ET_LOG_OF_NORMAL(bits, exponent)                                                \
    /* x = 2^n (1 + f), 1 + f between sqrt(1/2) and sqrt(2) */                          \
    const uint32_t offset = bits - 0x3F3504F3u;                                         \
    exponent += (int32_t)((offset + 0x40000000u) >> 23) - 128;                          \
    const float f = et_from_bits_f32((offset & ET_FRACTION_BITS) + 0x3F3504F3u) - 1.0f; \
    const float n = (float)exponent;                                                    \
    /* log(1 + f) = f - f^2 / 2 + f^3 p(f) */                                           \
    float p = -0x1.38c9dep-4f;                                                          \
    p = next_term(p, f, 0x1.055ec6p-3f);                                                \
    p = next_term(p, f, -0x1.0d8242p-3f);                                               \
    p = next_term(p, f, 0x1.22d92ep-3f);                                                \
    p = next_term(p, f, -0x1.54728ap-3f);                                               \
    p = next_term(p, f, 0x1.99a01cp-3f);                                                \
    p = next_term(p, f, -0x1.000226p-2f);                                               \
    p = next_term(p, f, 0x1.555554p-2f);                                                \
    const float square = f * f;                                                         \
    const float cube = square * f;                                                      \
    const float half = square * 0.5f;                                                   \
    const float low = n * ln2_low;                                                      \
    const float high = n * ln2_high;                                                    \
    float y = next_term(cube, p, low);                                                  \
    y = y - half;                                                                       \
    y = f + y;                                                                          \
    y = y + high;

float et_log_f32(float x)
{
    uint32_t bits = et_bits_f32(x);
    int32_t exponent = 0;
    if (bits < ET_HIDDEN_BIT || bits >= ET_INFINITY_BITS) {
        if ((bits & ~ET_SIGN_BIT) == 0u) {
            return et_from_bits_f32(ET_MINUS_INFINITY_BITS);
        }
        if (bits == ET_INFINITY_BITS) {
            return x;
        }
        if (bits > ET_INFINITY_BITS) { /* NaN or negative */
            const float difference = x - x;
            return difference / difference;
        }
        bits = et_bits_f32(x * 8388608.0f);
        exponent = -23;
    }
    ET_LOG_OF_NORMAL(bits, exponent)
    return y;
}

#if ET_HAS_ARRAYS
/* Whether all are at least `least` and below `end`, as bits. */
static bool all_within(size_t count, const float *x, uint32_t sign_shift, uint32_t least, uint32_t end)
{
    uint32_t outside = 0u;
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = et_bits_f32(x[i]) << sign_shift;
        outside |= bits < least || bits >= end ? 1u : 0u;
    }
    return outside == 0u;
}

/* |x| < 85: the power is -123 to 123. */
static inline float exp_of_ordinary(float x)
{
    ET_EXP_AND_POWER(x)
    return et_from_bits_f32(et_bits_f32(y) + ((uint32_t)n << 23));
}

static inline float log_of_ordinary(uint32_t bits)
{
    int32_t exponent = 0;
    ET_LOG_OF_NORMAL(bits, exponent)
    return y;
}

void et_exp_all_f32(size_t count, const float *x, float *values)
{
    if (!all_within(count, x, 1, 0u, 2u * 0x42AA0000u)) { /* |x| < 85 */
        for (size_t i = 0; i < count; i++)
            values[i] = et_exp_f32(x[i]);
        return;
    }
    ET_INDEPENDENT
    for (size_t i = 0; i < count; i++) {
        values[i] = exp_of_ordinary(x[i]);
    }
}

void et_log_all_f32(size_t count, const float *x, float *values)
{
    if (!all_within(count, x, 0, ET_HIDDEN_BIT, ET_INFINITY_BITS)) {
        for (size_t i = 0; i < count; i++)
            values[i] = et_log_f32(x[i]);
        return;
    }
    ET_INDEPENDENT
    for (size_t i = 0; i < count; i++)
        values[i] = log_of_ordinary(et_bits_f32(x[i]));
}
#endif

float et_tanh_f32(float x)
{
    const uint32_t sign = et_bits_f32(x) & ET_SIGN_BIT;
    const uint32_t magnitude = et_bits_f32(x) & ~ET_SIGN_BIT;
    if (magnitude < 0x3F200000u) { /* |x| < 0.625: x + x z p(z), z = x^2 */
        const float z = x * x;
        float p = -0x1.750ce4p-8f;
        p = next_term(p, z, 0x1.51f8cep-6f);
        p = next_term(p, z, -0x1.b835a4p-5f);
        p = next_term(p, z, 0x1.1106f6p-3f);
        p = next_term(p, z, -0x1.555532p-2f);
        const float cube = z * x;
        const float tail = cube * p;
        return magnitude == 0u ? x : x + tail;
    }
    if (magnitude >= 0x41140000u) { /* 9.25 */
        return magnitude > ET_INFINITY_BITS ? x + x : et_from_bits_f32(sign | 0x3F800000u);
    }
    const float size = et_from_bits_f32(magnitude);
    const float power = et_exp_f32(size + size);
    const float rest = 2.0f / (power + 1.0f);
    return et_from_bits_f32(sign | et_bits_f32(1.0f - rest));
}

float et_sigmoid_f32(float x)
{
    const float power = et_exp_f32(et_from_bits_f32(et_bits_f32(x) | ET_SIGN_BIT)); /* e^-|x|, at most 1 */
    const float sum = power + 1.0f;
    if ((et_bits_f32(x) & ET_SIGN_BIT) == 0u) {
        return 1.0f / sum;
    }
    /* What the sum rounded away would cost a whole ulp here; it is exact, and put back to first order. */
    const float kept = sum - 1.0f;
    const float lost = power - kept;
    const float quotient = power / sum;
    const float correction = quotient * lost;
    return quotient - correction;
}

float et_erf_f32(float x)
{
    const uint32_t sign = et_bits_f32(x) & ET_SIGN_BIT;
    const uint32_t magnitude = et_bits_f32(x) & ~ET_SIGN_BIT;
    if (magnitude < 0x3F700000u) { /* |x| < 0.9375: x + x p(z), z = x^2 */
        const float z = x * x;
        float p = 0x1.4f8e58p-14f;
        p = next_term(p, z, -0x1.a6126ep-11f);
        p = next_term(p, z, 0x1.544aa8p-8f);
        p = next_term(p, z, -0x1.b80120p-6f);
        p = next_term(p, z, 0x1.ce2d64p-4f);
        p = next_term(p, z, -0x1.812740p-2f);
        p = next_term(p, z, 0x1.06eba8p-3f);
        const float tail = x * p;
        return magnitude == 0u ? x : x + tail;
    }
    if (magnitude >= 0x407C0000u) { /* 3.9375 */
        return magnitude > ET_INFINITY_BITS ? x + x : et_from_bits_f32(sign | 0x3F800000u);
    }
    /* 1 - e^p(|x|): p is the logarithm of the complement. */
    const float size = et_from_bits_f32(magnitude);
    float p = 0x1.967b12p-13f;
    p = next_term(p, size, -0x1.8c2cacp-9f);
    p = next_term(p, size, 0x1.6ad2d8p-6f);
    p = next_term(p, size, -0x1.a902f2p-4f);
    p = next_term(p, size, -0x1.4655d6p-1f);
    p = next_term(p, size, -0x1.20a7f4p+0f);
    p = next_term(p, size, -0x1.d339a0p-13f);
    return et_from_bits_f32(sign | et_bits_f32(1.0f - et_exp_f32(p)));
}

et_status et_check_finite_f32(size_t count, const float *x, et_status if_not)
{
    /* Adding one to the exponent field carries into bit 31 exactly when the field was all ones. */
    uint32_t carry = 0u;
    for (size_t i = 0; i < count; ++i) {
        carry |= (et_bits_f32(x[i]) & ~ET_SIGN_BIT) + ET_HIDDEN_BIT;
    }
    return (carry & ET_SIGN_BIT) != 0u ? if_not : ET_OK;
}
