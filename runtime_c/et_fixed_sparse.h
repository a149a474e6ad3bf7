/* Weight gradient of an image of which most of the output's gradient is 0, as behind max pooling. Not for callers.
 *
 * For four output channels at a time it lists what is not 0, and takes of the image only what those pixels have seen: a
 * block of sums in registers for each channel. Exact, so in any order. Small cores only.
 */
#ifndef ET_FIXED_SPARSE_H
#define ET_FIXED_SPARSE_H

#include "et_each.h" /* ET_SCALAR_CORE */

typedef struct {
    const void *image;   /* with its padding: int8, or uint32 with two channels in the halves of a word */
    bool pairs;          /* which of them */
    ptrdiff_t row;       /* elements of a row of the image */
    ptrdiff_t step;      /* elements from what an output sees first to the next output's */
    ptrdiff_t next;      /* elements from the end of a row of outputs to what the next row sees first */
    int32_t kernel_h;
    ptrdiff_t run;       /* elements that the taps of one row see */
    int32_t out_h;
    int32_t out_w;
    ptrdiff_t outputs;   /* channels */
} et_fixed_seen;

/* Pixels that a list holds, and bytes of the four lists. */
enum { ET_FIXED_LISTED = 96, ET_FIXED_LISTS_BYTES = 4 * 4 * ET_FIXED_LISTED };

/* Whether about `most` of `all` elements at most are not 0; false where the form below would not do. */
bool et_fixed_is_sparse(ptrdiff_t outputs, ptrdiff_t count, const int8_t *g, int32_t most, int32_t all);

/* Adds to dw int32 [kernel_h][run][outputs], or of pairs [kernel_h][2 * run][outputs]: then ET_FIXED_LISTED products are
 * within int16. g int8 [out_h][out_w][outputs], aligned to 4, outputs a multiple of 4.
 * lists: ET_FIXED_LISTS_BYTES, aligned to 4. */
void et_fixed_sparse_grad_weight(const et_fixed_seen *seen, const int8_t *g, void *lists, int32_t *dw);

#endif
