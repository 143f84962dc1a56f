/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_PERF_OTHER_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_PERF_OTHER_H

/*
 * How late a thread is that has to share a CPU with the one that changes the layout: it
 * sleeps for a while, and looks how much longer that took.
 */
#include <sys/prctl.h>

#include "memory_region_list_perf_phase.h"

#define PERF_OTHER_SLEEP_NS	200000

static struct {
	pthread_t thread;
	bool runs, stop;
	/* Since it was last reset, in ns. */
	uint64_t latest;
	uint64_t wakeups;
} perf_other;

static inline void *perf_other_thread(void *unused)
{
	const struct timespec sleep = { .tv_nsec = PERF_OTHER_SLEEP_NS };
	struct timespec before;
	uint64_t late;

	perf_pin(-1);
	prctl(PR_SET_TIMERSLACK, 1);
	while (!READ_ONCE(perf_other.stop)) {
		clock_gettime(CLOCK_MONOTONIC, &before);
		nanosleep(&sleep, NULL);
		late = timespec_to_ns(timespec_elapsed(before)) - PERF_OTHER_SLEEP_NS;
		if (late > READ_ONCE(perf_other.latest))
			WRITE_ONCE(perf_other.latest, late);
		WRITE_ONCE(perf_other.wakeups, perf_other.wakeups + 1);
	}
	return NULL;
}

static inline void perf_other_start(void)
{
	int r = pthread_create(&perf_other.thread, NULL, perf_other_thread, NULL);

	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
	perf_other.runs = true;
}

static inline void perf_other_stop(void)
{
	if (!perf_other.runs)
		return;
	WRITE_ONCE(perf_other.stop, true);
	pthread_join(perf_other.thread, NULL);
}

/* It is asleep, and no wakeup from before counts. */
static inline void perf_other_begin(void)
{
	if (!perf_other.runs)
		return;
	perf_wait_for(&perf_other.wakeups, READ_ONCE(perf_other.wakeups) + 1, 50);
	WRITE_ONCE(perf_other.latest, 0);
}

/* The sleep during which the change ended counts. */
static inline uint64_t perf_other_end(void)
{
	if (!perf_other.runs)
		return 0;
	perf_wait_for(&perf_other.wakeups, READ_ONCE(perf_other.wakeups) + 1, 50);
	return READ_ONCE(perf_other.latest);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_PERF_OTHER_H */
