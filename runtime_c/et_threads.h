/* Threads for training on a PC, with pthreads. Only builds with -DET_THREADS=1 have them; boards never do.
 *
 * The threads of a team all run the same function, step by step. A step is run by all of them, each for its share
 * (et_share.h), or by the first alone while the others wait; after each they meet. In a walk over a batch each thread runs
 * all steps, for its own parts of the batch; they wait for each other only where the order of sums asks for it.
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

/* Which of the team a thread is, whatever it runs. */
int32_t et_threads_number(void);

/* A walk: thread number n of `walkers` takes the parts n, n + walkers, ... of a batch. Some steps, numbered from 0 to
 * `turns` - 1 in the order in which they come, are for one part after the other: those that go on with sums, and those
 * of the last part that need complete sums. */
typedef struct {
    int32_t walkers;
    int32_t turns;
} et_walkers;

/* Before a walk, in all threads: they meet. At most `most` of them walk, and no more than there are parts. */
et_walkers et_threads_walk(int32_t most, int32_t parts, int32_t turns);

/* The first part of this thread; not below `parts` if it does not walk. */
ptrdiff_t et_threads_first_part(et_walkers walk, int32_t parts);

/* Waits until the part before has passed step `turn`; false if a thread has ended the walk. Then et_threads_passed. */
bool et_threads_turn(et_walkers walk, ptrdiff_t part, int32_t turn);
void et_threads_passed(et_walkers walk, ptrdiff_t part, int32_t turn);

/* Ends the walk in all threads: the others at their next turn. */
void et_threads_end_walk(void);

/* How many share the step that is run, and which of them this is. */
int32_t et_threads_count(void);
int32_t et_threads_index(void);

#endif

#endif
