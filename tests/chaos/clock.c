/* Shifts the wall clock of one process, as a jump of the machine's clock would be seen by it; nobody else notices.
 *
 * Loaded with LD_PRELOAD. The file that OCI_SYNC_TEST_CLOCK names holds the shift: one 64-bit number of nanoseconds, which
 * a test may change at any time. Monotonic clocks stay true. Waits until a moment of the wall clock follow a jump as the
 * kernel lets them: forward ends them at once, backward makes them last longer.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)
/* Older moments are of a monotonic clock: the call does not say which one its condition was made for. */
#define OLDEST_WALL_CLOCK (INT64_C(1000000000) * SECOND)
#define SLICE (SECOND / 20)

static volatile int64_t *shift;

__attribute__((constructor)) static void map_shift(void) {
    const char *path = getenv("OCI_SYNC_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        abort(); /* a test that believes in a shift must have one */
    void *page = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        abort();
    shift = page;
    close(file);
}

static int64_t nanoseconds(const struct timespec *at) { return at->tv_sec * SECOND + at->tv_nsec; }

static struct timespec timespec_of(int64_t at) {
    struct timespec split = {.tv_sec = at / SECOND, .tv_nsec = at % SECOND};
    return split;
}

static int64_t true_now(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    return nanoseconds(&now);
}

static int64_t now(void) { return true_now() + (shift ? *shift : 0); }

int clock_gettime(clockid_t clock, struct timespec *at) {
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        *at = timespec_of(now());
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, at);
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    int64_t moment = now();
    at->tv_sec = moment / SECOND;
    at->tv_usec = moment % SECOND / 1000;
    return 0;
}

time_t time(time_t *at) {
    time_t seconds = now() / SECOND;
    if (at)
        *at = seconds;
    return seconds;
}

int timespec_get(struct timespec *at, int base) {
    *at = timespec_of(now());
    return base;
}

/* The moment at which to look at the clock again, at most SLICE from now; 0 if `until` has passed. */
static int64_t next_look(const struct timespec *until) {
    int64_t left = nanoseconds(until) - now();
    if (left <= 0)
        return 0;
    return true_now() + (left < SLICE ? left : SLICE);
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!wait)
        wait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    if (nanoseconds(until) < OLDEST_WALL_CLOCK)
        return wait(condition, mutex, until);
    int64_t look;
    while ((look = next_look(until))) {
        struct timespec slice = timespec_of(look);
        int code = wait(condition, mutex, &slice);
        if (code != ETIMEDOUT)
            return code;
    }
    return ETIMEDOUT;
}

/* C11's conditions always wait by the wall clock; librdkafka uses these. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    static int (*wait)(cnd_t *, mtx_t *, const struct timespec *);
    if (!wait)
        wait = dlsym(RTLD_NEXT, "cnd_timedwait");
    int64_t look;
    while ((look = next_look(until))) {
        struct timespec slice = timespec_of(look);
        int code = wait(condition, mutex, &slice);
        if (code != thrd_timedout)
            return code;
    }
    return thrd_timedout;
}
