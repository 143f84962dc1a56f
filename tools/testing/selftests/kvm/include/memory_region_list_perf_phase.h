/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_PERF_PHASE_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_PERF_PHASE_H

/*
 * What the guests of memory_region_list_perf_test touch, from when to when they add up
 * their gaps, and whether they found what they wrote.
 */
#include "memory_region_list_perf_vcpus.h"

#define PERF_CALIBRATION	(10 * PERF_TOUCHED)

static uint64_t perf_tsc_khz;

static inline bool perf_is_touched(uint32_t page, const char *touch)
{
	const struct perf_page *p = &perf_world.pages[page];

	if (!strcmp(touch, "other"))
		return page >= perf_world.cells * perf_cell_pages(&perf_world);
	if (!strcmp(touch, "changed"))
		return !perf_is_kept(p) &&
		       (p->mem[0] != PERF_NO_MEM || p->mem[1] != PERF_NO_MEM);
	return perf_is_kept(p);
}

/* If there are many, then some of them, evenly spread. */
static inline void perf_choose_pages(const char *touch)
{
	uint32_t i, all = 0, at = 0, nr, chosen = 0;
	const struct perf_page *p;

	for (i = 0; i < perf_world.nr_pages; i++)
		all += perf_is_touched(i, touch);
	if (!all)
		ksft_exit_skip("-k %s: there are no such pages\n", touch);
	nr = min(all, PERF_TOUCHED);
	for (i = 0; i < perf_world.nr_pages; i++) {
		if (!perf_is_touched(i, touch))
			continue;
		if ((uint64_t)at++ * nr / all != chosen)
			continue;
		p = &perf_world.pages[i];
		perf.sh->pages[chosen++] = i | (perf_is_kept(p) ? PERF_VERIFY : 0) |
					   (p->readonly[0] || p->readonly[1] ? PERF_READ : 0);
	}
	perf.sh->nr_pages = nr;
	perf.sh->cell_pages = perf_cell_pages(&perf_world);
}

static inline bool perf_guest_runs(void)
{
	return perf.nr && !perf.sh->halt;
}

/* To look at it disturbs, but not the CPUs of the vCPUs. */
static inline void perf_wait_for(const uint64_t *value, uint64_t end, uint32_t every_us)
{
	while (READ_ONCE(*value) < end)
		usleep(every_us);
}

/* All vCPUs are under way, and add up from here. */
static inline void perf_begin_phase(void)
{
	int i;

	if (!perf_guest_runs()) {
		usleep(2000);
		return;
	}
	for (i = 0; i < perf.nr; i++)
		WRITE_ONCE(perf.sh->end[i], UINT64_MAX);
	WRITE_ONCE(perf.sh->phase, perf.sh->phase + 1);
	for (i = 0; i < perf.nr; i++)
		perf_wait_for(&perf.sh->vcpu[i].phase, perf.sh->phase, 50);
}

static inline void perf_end_phase(void)
{
	uint64_t end[MRL_MAX_VCPUS];
	int i;

	if (!perf_guest_runs())
		return;
	for (i = 0; i < perf.nr; i++) {
		end[i] = READ_ONCE(perf.sh->vcpu[i].iterations) + perf.sh->nr_pages;
		WRITE_ONCE(perf.sh->end[i], end[i]);
	}
	for (i = 0; i < perf.nr; i++)
		perf_wait_for(&perf.sh->vcpu[i].iterations, end[i] + 2, 50);
}

static inline uint64_t perf_cycles_to_ns(uint64_t cycles)
{
	return perf_tsc_khz ? cycles * 1000000 / perf_tsc_khz : 0;
}

/* Twice as long as all but one in a thousand gaps of a guest that nobody disturbs. */
static inline uint64_t perf_find_threshold(void)
{
	uint64_t sum[PERF_BUCKETS] = {}, all = 0, short_ones = 0;
	int i, v;

	for (i = 0; i < PERF_BUCKETS; i++) {
		for (v = 0; v < perf.nr; v++)
			sum[i] += perf.sh->vcpu[v].bucket[i];
		all += sum[i];
	}
	for (i = 0; i < PERF_BUCKETS - 1; i++) {
		short_ones += sum[i];
		if (all - short_ones <= all / 1000)
			break;
	}
	return 2ull << i;
}

static inline void perf_calibrate(void)
{
	int i;

	if (!perf_guest_runs())
		return;
	perf_go();
	/* All pages have been mapped, and written by all. */
	for (i = 0; i < perf.nr; i++)
		perf_wait_for(&perf.sh->vcpu[i].iterations, 2 * perf.sh->nr_pages, 2000);
	perf_begin_phase();
	WRITE_ONCE(perf.sh->calibrate, 1);
	for (i = 0; i < perf.nr; i++)
		perf_wait_for(&perf.sh->vcpu[i].iterations,
			 READ_ONCE(perf.sh->vcpu[i].iterations) + PERF_CALIBRATION, 2000);
	WRITE_ONCE(perf.sh->calibrate, 0);
	perf_park();
	perf.sh->threshold = perf_find_threshold();
}

/* The vCPUs are parked.  Each has written each page that is kept once a pass. */
static inline void perf_check_data(void)
{
	uint32_t v, i, nr = perf.sh->nr_pages, page;
	uint64_t iterations, at, want, got;

	for (v = 0; v < perf.nr && !perf.sh->halt; v++) {
		iterations = perf.sh->vcpu[v].iterations;
		for (i = 0; i < nr; i++) {
			page = perf.sh->pages[i];
			if (!(page & PERF_VERIFY))
				continue;
			at = (i + nr - v * (nr / perf.nr)) % nr;
			want = iterations / nr + (iterations % nr > at);
			page = perf_world.pages[page & PERF_PAGE].mem[0];
			got = *((uint64_t *)MRL_HVA(page) + PERF_WORD(v));
			TEST_ASSERT(got == want, "Page %u by vCPU %u: wanted 0x%lx, got 0x%lx",
				    perf.sh->pages[i] & PERF_PAGE, v, want, got);
		}
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_PERF_PHASE_H */
