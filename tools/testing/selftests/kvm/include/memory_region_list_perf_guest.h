/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_PERF_GUEST_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_PERF_GUEST_H

/*
 * The guest's half of memory_region_list_perf_test: it touches a page, reads its TSC and
 * adds up for how long it could not do so.
 *
 * A phase is a change and, behind it, one pass over all the pages: what the change costs
 * later belongs to it.  The host counts the phase up, and says in which iteration it is
 * over.  All of this is in memslot 0, which never changes.
 */
#include "memory_region_list_vcpus.h"
#include "memory_region_list_perf_world.h"

#define PERF_TOUCHED	1024u
#define PERF_BUCKETS	40

/* Bits beside the number of a page. */
#define PERF_VERIFY	((uint32_t)BIT(31))	/* kept: what was written is found again */
#define PERF_READ	((uint32_t)BIT(30))	/* it is read-only at times */
#define PERF_PAGE	(PERF_READ - 1)

/* Words of a page: its tag, then one for each vCPU. */
#define PERF_WORD(me)	(8 + (me))
/* What the guest reads where there is no memory. */
#define PERF_NO_TAG	0x6e6f6e65ull

struct perf_vcpu {
	/* Of this phase, in cycles of the TSC. */
	uint64_t phase, lost, longest, gaps;
	/* Since the start. */
	uint64_t iterations, last;
	/* By the logarithm of the gap. */
	uint64_t bucket[PERF_BUCKETS];
} __aligned(64);

static struct {
	uint32_t park, touch, halt, yield, calibrate;
	uint32_t nr_pages, cell_pages;
	uint64_t phase, threshold;
	uint64_t end[MRL_MAX_VCPUS];
	uint32_t pages[PERF_TOUCHED];
	struct perf_vcpu vcpu[MRL_MAX_VCPUS];
} shared;

static inline uint64_t *perf_guest_page(uint32_t page)
{
	return (uint64_t *)MRL_GPA(page & PERF_PAGE);
}

/* Each vCPU begins elsewhere.  In its n-th pass it finds what it wrote in the one before. */
static inline void perf_guest_access(uint32_t me, uint32_t nr, uint64_t iteration)
{
	uint64_t at = iteration + me * (shared.nr_pages / nr), got;
	uint32_t page = shared.pages[at % shared.nr_pages];
	uint64_t *p = perf_guest_page(page);

	if (!(page & PERF_VERIFY)) {
		got = READ_ONCE(*p);
		__GUEST_ASSERT(got == MRL_TAG((page & PERF_PAGE) / shared.cell_pages) ||
			       got == PERF_NO_TAG,
			       "vCPU %u, page %u: wanted its tag, got 0x%lx", me, page & PERF_PAGE,
			       got);
		if (!(page & PERF_READ))
			WRITE_ONCE(p[PERF_WORD(me)], iteration);
		return;
	}
	got = READ_ONCE(p[PERF_WORD(me)]);
	__GUEST_ASSERT(got == iteration / shared.nr_pages,
		       "vCPU %u, page %u: wanted what it wrote, 0x%lx, got 0x%lx", me,
		       page & PERF_PAGE, iteration / shared.nr_pages, got);
	WRITE_ONCE(p[PERF_WORD(me)], got + 1);
}

static inline void perf_guest_account(struct perf_vcpu *v, uint32_t me)
{
	uint64_t now = rdtsc(), gap = now - v->last, phase = READ_ONCE(shared.phase);

	v->last = now;
	if (v->phase != phase) {
		v->lost = 0;
		v->longest = 0;
		v->gaps = 0;
		WRITE_ONCE(v->phase, phase);
		return;
	}
	if (v->iterations > READ_ONCE(shared.end[me]))
		return;
	if (READ_ONCE(shared.calibrate))
		v->bucket[min(fls64(gap), PERF_BUCKETS - 1)]++;
	v->longest = max(v->longest, gap);
	if (gap > shared.threshold) {
		v->lost += gap;
		v->gaps++;
	}
}

/* One vCPU, the others are parked: map all the pages. */
static inline void perf_guest_touch_all(uint32_t me)
{
	uint32_t i;

	while (READ_ONCE(shared.touch)) {
		for (i = 0; i < shared.nr_pages; i++)
			READ_ONCE(*perf_guest_page(shared.pages[i]));
		WRITE_ONCE(shared.touch, 0);
		GUEST_SYNC(0);
	}
}

static void perf_guest_main(uint32_t me, uint32_t nr)
{
	struct perf_vcpu *v = &shared.vcpu[me];
	uint32_t park = 0;

	v->last = rdtsc();
	for (;;) {
		/* Userspace wakes it up. */
		if (READ_ONCE(shared.halt))
			asm volatile("sti; hlt; cli");
		else
			perf_guest_access(me, nr, v->iterations);
		WRITE_ONCE(v->iterations, v->iterations + 1);
		perf_guest_account(v, me);
		if (shared.yield)
			cpu_relax();
		if (READ_ONCE(shared.park) == park)
			continue;
		park = READ_ONCE(shared.park);
		GUEST_SYNC(0);
		perf_guest_touch_all(me);
		v->last = rdtsc();
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_PERF_GUEST_H */
