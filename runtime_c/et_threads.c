/* See et_threads.h. */
#define _POSIX_C_SOURCE 200809L
#include "et_threads.h"

#if ET_THREADS

#include <pthread.h>
#include <sched.h>

#define MOST_THREADS 16
#define TILES 64 /* that a thread may be ahead of the one behind it */
/* Looks at the others, for a millisecond or so, before a thread lets another process run: it gets its core back much
 * later where the machine has more to do. */
#define PATIENCE 50000
#if defined(__x86_64__) || defined(__i386__)
#define LOOK_AGAIN() __builtin_ia32_pause()
#else
#define LOOK_AGAIN() __asm__ volatile("" ::: "memory")
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* Under the lock. */
static int32_t wanted = 1;
static int32_t started = 0; /* beside the caller */
static pthread_t threads[MOST_THREADS];
static uint32_t runs = 0;
static bool ends = false;
static et_threads_function *run_function;
static const void *run_argument;

/* Of the meeting point; `team` changes only while no function runs. */
static int32_t team = 1;
static int32_t arrived = 0;
static uint32_t meetings = 0;
static int32_t worst[2] = {ET_OK, ET_OK}; /* of this meeting and of the one before */

/* A line for each, so that they do not slow each other down. */
static struct {
    uint64_t tiles; /* that the thread has done since the team was made */
    char rest[56];
} done[MOST_THREADS];
static float sums[MOST_THREADS][TILES][ET_CHAINED_SUMS]; /* that a thread has left for the one behind it */

/* In a walk: how far each thread has come, part * turns + turn + 1. */
static struct {
    uint64_t turns;
    char rest[56];
} passed[MOST_THREADS];
static bool walk_ends = false;

static __thread int32_t own_index = 0;
static __thread bool together = false;

void et_threads_together(void)
{
    together = true;
}

bool et_threads_alone(void)
{
    together = false;
    return own_index == 0;
}

int32_t et_threads_count(void)
{
    return together ? team : 1;
}

int32_t et_threads_index(void)
{
    return together ? own_index : 0;
}

int32_t et_threads_number(void)
{
    return own_index;
}

et_walkers et_threads_walk(int32_t most, int32_t parts, int32_t turns)
{
    const int32_t fewer = most < parts ? most : parts;
    const et_walkers walk = {team < fewer ? team : fewer, turns};
    together = false;
    passed[own_index].turns = 0;
    if (own_index == 0)
        __atomic_store_n(&walk_ends, false, __ATOMIC_RELAXED);
    const et_status met = et_threads_join(ET_OK);
    (void)met;
    return walk;
}

ptrdiff_t et_threads_first_part(et_walkers walk, int32_t parts)
{
    return own_index < walk.walkers ? own_index : parts;
}

bool et_threads_turn(et_walkers walk, ptrdiff_t part, int32_t turn)
{
    if (part == 0 || walk.walkers == 1)
        return true;
    const uint64_t before = (uint64_t)((part - 1) * walk.turns + turn + 1);
    const uint64_t *const other = &passed[(part - 1) % walk.walkers].turns;
    for (int32_t looks = 0; __atomic_load_n(other, __ATOMIC_ACQUIRE) < before;) {
        if (__atomic_load_n(&walk_ends, __ATOMIC_RELAXED))
            return false;
        LOOK_AGAIN();
        if (++looks >= PATIENCE) {
            (void)sched_yield();
            looks = 0;
        }
    }
    return true;
}

void et_threads_passed(et_walkers walk, ptrdiff_t part, int32_t turn)
{
    __atomic_store_n(&passed[own_index].turns, (uint64_t)(part * walk.turns + turn + 1), __ATOMIC_RELEASE);
}

void et_threads_end_walk(void)
{
    __atomic_store_n(&walk_ends, true, __ATOMIC_RELAXED);
}

/* Waits until a thread has done more than `tiles`. */
static void await_tile(int32_t index, uint64_t tiles)
{
    for (int32_t looks = 0; __atomic_load_n(&done[index].tiles, __ATOMIC_ACQUIRE) <= tiles;) {
        LOOK_AGAIN();
        if (++looks >= PATIENCE) {
            (void)sched_yield();
            looks = 0;
        }
    }
}

const float *et_threads_given(void)
{
    const int32_t index = et_threads_index();
    if (index == 0)
        return NULL;
    const uint64_t tile = done[index].tiles;
    await_tile(index - 1, tile);
    return sums[index - 1][tile % TILES];
}

float *et_threads_next(void)
{
    const int32_t index = et_threads_index();
    if (index == et_threads_count() - 1)
        return NULL;
    const uint64_t tile = done[index].tiles;
    if (tile >= TILES)
        await_tile(index + 1, tile - TILES);
    return sums[index][tile % TILES];
}

void et_threads_tile_done(void)
{
    const int32_t index = et_threads_index();
    if (et_threads_count() > 1)
        __atomic_store_n(&done[index].tiles, done[index].tiles + 1u, __ATOMIC_RELEASE);
}

et_status et_threads_join(et_status status)
{
    const uint32_t meeting = __atomic_load_n(&meetings, __ATOMIC_RELAXED);
    int32_t *const slot = &worst[meeting & 1u];
    int32_t seen = __atomic_load_n(slot, __ATOMIC_RELAXED);
    while ((int32_t)status > seen
           && !__atomic_compare_exchange_n(slot, &seen, (int32_t)status, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == team) {
        /* All have read the slot of the meeting before, for they have come to this one. */
        __atomic_store_n(&worst[(meeting + 1u) & 1u], ET_OK, __ATOMIC_RELAXED);
        __atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&meetings, meeting + 1u, __ATOMIC_RELEASE);
    } else {
        for (int32_t looks = 0; __atomic_load_n(&meetings, __ATOMIC_ACQUIRE) == meeting;) {
            LOOK_AGAIN();
            if (++looks >= PATIENCE) {
                (void)sched_yield();
                looks = 0;
            }
        }
    }
    return (et_status)__atomic_load_n(slot, __ATOMIC_RELAXED);
}

static et_status take_part(et_threads_function *function, const void *argument)
{
    const et_status status = function(argument);
    /* The argument is the caller's: nobody reads it once the caller goes on. */
    (void)et_threads_alone();
    const et_status all = et_threads_join(ET_OK);
    return all == ET_OK ? status : all;
}

static void *worker(void *index)
{
    own_index = (int32_t)(intptr_t)index;
    uint32_t seen = 0;
    for (;;) {
        (void)pthread_mutex_lock(&lock);
        while (runs == seen && !ends)
            (void)pthread_cond_wait(&changed, &lock);
        seen = runs;
        et_threads_function *const function = run_function;
        const void *const argument = run_argument;
        const bool last = ends;
        (void)pthread_mutex_unlock(&lock);
        if (last)
            return NULL;
        (void)take_part(function, argument);
    }
}

void et_threads_set(int32_t count)
{
    (void)pthread_mutex_lock(&lock);
    ends = true;
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&lock);
    while (started > 0)
        (void)pthread_join(threads[--started], NULL);
    (void)pthread_mutex_lock(&lock);
    ends = false;
    runs = 0;
    wanted = count < 1 ? 1 : count > MOST_THREADS ? MOST_THREADS : count;
    (void)pthread_mutex_unlock(&lock);
    team = 1;
    for (int32_t i = 0; i < MOST_THREADS; i++)
        done[i].tiles = 0;
}

et_status et_threads_run(et_threads_function *function, const void *argument)
{
    (void)pthread_mutex_lock(&lock);
    while (started < wanted - 1) {
        if (pthread_create(&threads[started], NULL, worker, (void *)(intptr_t)(started + 1)) != 0)
            wanted = started + 1;
        else
            started++;
    }
    if (team != started + 1) /* no worker runs before the first team is whole */
        team = started + 1;
    run_function = function;
    run_argument = argument;
    runs++;
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&lock);
    return take_part(function, argument);
}

#endif
