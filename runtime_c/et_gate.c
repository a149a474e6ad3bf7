#include "et_gate.h"

#include "et_repeat.h"
#include "et_share.h"

/* What passes is not touched: on a core that computes one number at a time, that is as good as to store the results of
 * another kernel so in the first place. */
void et_gate_close(et_gate gate, size_t first, size_t count, float *dx)
{
    const float *y = gate.y + first;
    dx += first;
    const float *const end = y + count;
#define CLOSE(m, j)                     \
    if (!et_gate_passes(gate, y[j])) \
        dx[j] = 0.0f;
#if !ET_SMALL_CODE
    for (const float *const whole = y + (count & ~(size_t)7); y != whole; y += 8, dx += 8) {
        ET_COLUMNS_8(CLOSE, 0)
    }
#endif
    for (; y != end; y++, dx++) {
        ET_COLUMNS_1(CLOSE, 0)
    }
#undef CLOSE
}

#if ET_FORM_GATE
void et_gate_close_images(et_gate gate, ptrdiff_t images, size_t elements, float *dx)
{
    const et_share own = et_share_of(images);
    et_gate_close(gate, (size_t)own.first * elements, (size_t)(own.end - own.first) * elements, dx);
}
#endif
