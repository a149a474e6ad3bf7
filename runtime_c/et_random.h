/* Random numbers that are a function of where they are used (N5): value = hash(seed, step, stream, index).
 *
 * No state to keep, to store or to synchronise: any order of evaluation, any core and any interruption gives the same
 * numbers. Three multiplications a number where the key is made once per kernel call.
 *
 *   seed    chosen by the user, once for a run
 *   step    training step
 *   stream  which use: one number for each node that draws
 *   index   element within the tensor, in the row-major order of its documented layout
 */
#ifndef ET_RANDOM_H
#define ET_RANDOM_H

#include "et_base.h"

/* What seed, step and stream come to: made once, used for every index. */
typedef struct {
    uint32_t before; /* added to the index */
    uint32_t within; /* added half way: keys that meet in one word still give unrelated sequences */
} et_random_key_t;

/* A bijection of 32 bits in which every input bit flips every output bit with probability near one half. */
static inline uint32_t et_random_mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x21F0AAADu;
    x ^= x >> 15;
    x *= 0xD35A2D97u;
    x ^= x >> 15;
    return x;
}

static inline et_random_key_t et_random_key(uint32_t seed, uint32_t step, uint32_t stream)
{
    et_random_key_t key;
    const uint32_t a = et_random_mix(seed + 0x9E3779B9u);
    const uint32_t b = et_random_mix((a ^ step) + 0x7F4A7C15u);
    key.before = et_random_mix((b ^ stream) + 0x85EBCA6Bu);
    /* The other way round, so that two triples which meet in the first word part in the second. */
    const uint32_t c = et_random_mix(stream + 0xC2B2AE35u);
    const uint32_t d = et_random_mix((c ^ step) + 0x27D4EB2Fu);
    key.within = et_random_mix((d ^ seed) + 0x165667B1u);
    return key;
}

/* 32 random bits. */
static inline uint32_t et_random_at(et_random_key_t key, uint32_t index)
{
    uint32_t x = index + key.before;
    x ^= x >> 16;
    x *= 0x21F0AAADu;
    x ^= x >> 15;
    x += key.within;
    x *= 0xD35A2D97u;
    x ^= x >> 15;
    x *= 0x9E3779B1u;
    x ^= x >> 16;
    return x;
}

/* 32 more bits from 32 random ones: each half of them is independent of each half of those. */
static inline uint32_t et_random_more(uint32_t random)
{
    const uint32_t x = random * 0x9E3779B1u;
    return x ^ x >> 16;
}

/* Uniform in [0, 1): the upper 24 bits, each value a multiple of 2^-24 and exact. */
static inline float et_random_unit_at_f32(et_random_key_t key, uint32_t index)
{
    return (float)(int32_t)(et_random_at(key, index) >> 8) * 0x1p-24f;
}

/* The same in one call, for single numbers. */
uint32_t et_random_u32(uint32_t seed, uint32_t step, uint32_t stream, uint32_t index);
float et_random_unit_f32(uint32_t seed, uint32_t step, uint32_t stream, uint32_t index);

#endif
