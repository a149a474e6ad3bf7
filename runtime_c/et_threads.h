/* Threads for training on a PC, with pthreads. Only builds with -DET_THREADS=1 have them; boards never do.
 *
 * The threads of a team all run the same function, step by step. A step is run by all of them, each for its share
 * (et_share.h), or by the first alone while the others wait; after each they meet.
 */
#ifndef ET_THREADS_H
#define ET_THREADS_H

#include "et_base.h"

#if !defined(ET_THREADS)
#define ET_THREADS 0
#endif

#if ET_THREADS

typedef et_status et_threads_function(const void *argument);

/* Ends the threads that there are; from the next run on there are `count`, at least 1, the caller's included. */
void et_threads_set(int32_t count);

/* Runs a function in all threads of the team at once; gives what the first of them gives. Only one team runs at a time:
 * models of one library are not run from several threads of their caller. Where no thread can be made there are fewer. */
ET_CHECKED et_status et_threads_run(et_threads_function *function, const void *argument);

/* Before a step: for all threads; or gives true in the one that is to run it. */
void et_threads_together(void);
bool et_threads_alone(void);

/* After a step: waits for all, and gives all of them the same status, the largest. */
ET_CHECKED et_status et_threads_join(et_status status);

/* Sums that go from thread to thread, each of which adds its samples to them, so that they have one order: all threads of
 * a shared step go through the same tiles of at most ET_CHAINED_SUMS sums. For its next tile a thread gets what the one
 * before it has come to (NULL in the first: from 0) and where to leave it for the one behind (NULL in the last, which
 * has the whole sums); it may use both until it says that it is done with the tile. */
#define ET_CHAINED_SUMS 256
const float *et_threads_given(void);
float *et_threads_next(void);
void et_threads_tile_done(void);

/* How many share the step that is run, and which of them this is. */
int32_t et_threads_count(void);
int32_t et_threads_index(void);

#endif

#endif
