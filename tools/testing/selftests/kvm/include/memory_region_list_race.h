/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_RACE_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_RACE_H

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include <asm/pvclock-abi.h>
#include "memory_region_list_vcpus.h"

/* The guest's half of memory_region_list_race_test, which see. */
#define BASE_GPA	(4ul << 30)
#define ALIAS_GVA	(64ul << 30)
#define RO_VALUE	0x0123456789abcdeful

/* Pages of the range, the areas as in the test's first comment. */
enum {
	DATA = 0, TAG = 512, RO = 768, RO_WRITTEN = 800, CODE = 832, FIX = 896,
	PAIR = TAG - 2 * MRL_MAX_VCPUS,
	PAGE_TABLE = FIX, STRADDLE = FIX + 2, STACK = FIX + 8,
	CLOCK = STACK + MRL_MAX_VCPUS, STEAL = CLOCK + MRL_MAX_VCPUS, NPAGES = 1024,
};

enum { SPLIT = 1, REBACK = 2, READONLY = 4, EXEC = 8, EMUL = 16, ALL = 31 };
enum { OUT_DATA, OUT_TAG, OUT_CLOCK };

/*
 * Page boundaries that one access crosses: an instruction that hardware fetches,
 * two that KVM fetches, whose immediate and whose prefix lie on both sides, and
 * data, of each vCPU its own.
 */
enum {
	CROSS_CODE, CROSS_FORCED, CROSS_PREFIX, CROSS_DATA,
	NR_CROSS = CROSS_DATA + MRL_MAX_VCPUS,
};

#define FORCED_CODE	64	/* offset in pages of CODE */

/* In memslot 0, which never changes.  Guest and host both use it. */
static struct {
	uint32_t park, modes;
	bool strict;
	uint64_t before, after;		/* generation of TAG and CODE, around a call */
	uint64_t seen;			/* the newest that hardware has seen */
	uint64_t value[PAIR];		/* last value written to each page of DATA */
	uint64_t pair[MRL_MAX_VCPUS];	/* ... and across two pages */
	uint64_t crossed[NR_CROSS];	/* accesses across each boundary */
	uint64_t iterations[MRL_MAX_VCPUS];
	uint64_t page_faults, undefined;
	uint32_t in_value[MRL_MAX_VCPUS];
	/* What the next OUT of a vCPU is, and what the host is to find. */
	uint32_t out_kind[MRL_MAX_VCPUS];
	uint64_t out_wanted[MRL_MAX_VCPUS];
} shared;

static uint64_t *gva(uint32_t page)
{
	return (uint64_t *)(BASE_GPA + page * PAGE_SIZE);
}

/* The page behind a boundary. */
static uint32_t cross_page(uint32_t cross)
{
	return cross < CROSS_DATA ? STRADDLE + 1 + cross : PAIR + 2 * (cross - CROSS_DATA) + 1;
}

/* Offset in the range of the code that lies across a boundary. */
static uint32_t cross_code(uint32_t cross)
{
	return cross_page(cross) * PAGE_SIZE - (cross == CROSS_FORCED ? 8 : 3);
}

static uint32_t next_random(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

static void guest_data(uint32_t me, uint32_t nr, uint32_t random, bool emulate)
{
	uint32_t page = (random >> 8) % (PAIR / nr) * nr + me;
	uint64_t got, wanted = shared.value[page], *p = gva(page);

	/*
	 * Not with holes.  If the page table is in one, x86_emulate_instruction()
	 * takes its address for that of the data where the offsets are equal, and
	 * the load returns a PTE.
	 */
	if (shared.strict && shared.modes & EMUL && random & 1) {
		p = (uint64_t *)(ALIAS_GVA + page * PAGE_SIZE);
		if (random & 2)
			asm volatile("invlpg %0" : : "m"(*p) : "memory");
	}
	got = mrl_guest_load(p, emulate);
	__GUEST_ASSERT(got == wanted, "DATA page %u by vCPU %u: wanted 0x%lx, got 0x%lx",
		       page, me, wanted, got);
	shared.value[page] = ++wanted;
	mrl_guest_store(p, wanted, emulate);
	if (!emulate)
		return;
	shared.out_kind[me] = OUT_DATA;
	shared.out_wanted[me] = wanted;
	mrl_guest_outs(p);
	mrl_guest_ins(p + 1);
	got = READ_ONCE(p[1]);
	__GUEST_ASSERT(got == READ_ONCE(shared.in_value[me]),
		       "INS to DATA page %u by vCPU %u: wanted 0x%x, got 0x%lx",
		       page, me, shared.in_value[me], got);
}

/* Accesses to two pages at a time.  Which part comes first is left open, the result isn't. */
static void guest_pair(uint32_t me, uint32_t random, bool emulate)
{
	void *boundary = gva(cross_page(CROSS_DATA + me));
	uint64_t *p = boundary - 4, got, wanted = shared.pair[me];

	got = mrl_guest_load(p, emulate);
	__GUEST_ASSERT(got == wanted, "DATA across page %u by vCPU %u: wanted 0x%lx, got 0x%lx",
		       cross_page(CROSS_DATA + me), me, wanted, got);
	wanted = random * 0x100000001ul;
	mrl_guest_store(p, wanted, emulate);
	if (emulate) {
		shared.out_kind[me] = OUT_DATA;
		shared.out_wanted[me] = wanted >> 16;
		mrl_guest_outs(boundary - 2);
		mrl_guest_ins(boundary - 2);
		wanted &= ~(0xfffffffful << 16);
		wanted |= (uint64_t)READ_ONCE(shared.in_value[me]) << 16;
	}
	shared.pair[me] = wanted;
	shared.crossed[CROSS_DATA + me]++;
}

static void check_tag(const char *what, uint32_t me, uint32_t page, uint64_t floor, uint64_t got)
{
	uint64_t before = READ_ONCE(shared.before);

	__GUEST_ASSERT(!shared.strict || (floor <= got && got <= before),
		       "no-stale-mapping: %s of page %u by vCPU %u: wanted generation %lu to %lu, got %lu",
		       what, page, me, floor, before, got);
}

static uint64_t hardware_floor(void)
{
	return max(READ_ONCE(shared.after), READ_ONCE(shared.seen));
}

static void guest_tag(uint32_t me, uint32_t random, bool emulate)
{
	uint32_t page = TAG + random % (RO - TAG);
	uint64_t got, floor = hardware_floor();

	got = READ_ONCE(*gva(page));
	check_tag("load", me, page, floor, got);
	if (got > READ_ONCE(shared.seen))
		WRITE_ONCE(shared.seen, got);
	mrl_guest_store(gva(page) + 1 + me, random, emulate);
	if (!emulate)
		return;
	floor = READ_ONCE(shared.after);
	check_tag("emulated load", me, page, floor, mrl_guest_load(gva(page), true));
	shared.out_kind[me] = OUT_TAG;
	shared.out_wanted[me] = READ_ONCE(shared.after);
	mrl_guest_outs(gva(page));
	mrl_guest_ins(gva(page) + 1 + me);
}

static void guest_ro(uint32_t me, uint32_t random, bool emulate)
{
	uint32_t page = RO + random % (RO_WRITTEN - RO);
	uint64_t got = mrl_guest_load(gva(page), emulate);

	__GUEST_ASSERT(got == RO_VALUE, "RO page %u by vCPU %u: wanted 0x%lx, got 0x%lx",
		       page, me, RO_VALUE, got);
	page = RO_WRITTEN + random % (CODE - RO_WRITTEN);
	mrl_guest_store(gva(page), random, emulate);
	if (emulate)
		mrl_guest_ins(gva(page) + 1);
}

static uint64_t call_on_stack(void *code, uint32_t me)
{
	uint64_t ret, top = (uint64_t)gva(STACK + me) + PAGE_SIZE;

	asm volatile("mov %%rsp, %%rbx\n\tmov %[top], %%rsp\n\tcall *%[code]\n\tmov %%rbx, %%rsp"
		     : "=a"(ret) : [top]"r"(top), [code]"r"(code) : "rbx", "memory", "cc");
	return ret;
}

static void call_across(uint32_t cross, uint32_t me)
{
	uint64_t got = call_on_stack((void *)gva(0) + cross_code(cross), me);

	__GUEST_ASSERT(got == cross, "code across page %u by vCPU %u: wanted 0x%x, got 0x%lx",
		       cross_page(cross), me, cross, got);
	shared.crossed[cross]++;
}

static void guest_exec(uint32_t me, uint32_t random, bool emulate)
{
	uint32_t page = CODE + random % (FIX - CODE);
	uint64_t got, floor = hardware_floor();

	got = call_on_stack(gva(page), me);
	check_tag("call", me, page, floor, got);
	call_across(CROSS_CODE, me);
	if (!emulate || !is_forced_emulation_enabled)
		return;
	mrl_forced += 3;
	floor = READ_ONCE(shared.after);
	got = call_on_stack((void *)gva(page) + FORCED_CODE, me);
	check_tag("emulated fetch", me, page, floor, got);
	call_across(CROSS_FORCED, me);
	call_across(CROSS_PREFIX, me);
}

static void guest_clock(uint32_t me)
{
	struct pvclock_vcpu_time_info *clock = (void *)gva(CLOCK + me);

	WRITE_ONCE(clock->flags, 0);
	shared.out_kind[me] = OUT_CLOCK;
	mrl_guest_outs(&shared.out_kind[me]);
	__GUEST_ASSERT(!shared.strict || READ_ONCE(clock->flags) & PVCLOCK_GUEST_STOPPED,
		       "kvmclock of vCPU %u: wanted flag 0x%x, got 0x%x", me,
		       PVCLOCK_GUEST_STOPPED, clock->flags);
}

static void guest_page_fault(struct ex_regs *regs)
{
	uint64_t cr2;

	asm volatile("mov %%cr2, %0" : "=r"(cr2));
	__GUEST_ASSERT(!shared.strict, "no-hole: wanted no page fault, got one at 0x%lx, RIP 0x%lx",
		       cr2, regs->rip);
	shared.page_faults++;
}

/* KVM found no code to emulate. */
static void guest_undefined(struct ex_regs *regs)
{
	__GUEST_ASSERT(!shared.strict, "no-hole: wanted no #UD, got one at RIP 0x%lx", regs->rip);
	shared.undefined++;
}

static void guest_main(uint32_t me, uint32_t nr)
{
	uint32_t park = 0, i, x = 2463534242u + me;
	bool emulate;

	for (;;) {
		emulate = shared.modes & EMUL && !(shared.iterations[me] % 32);
		for (i = 0; i < 8; i++)
			guest_data(me, nr, next_random(&x), emulate && !i);
		guest_pair(me, next_random(&x), emulate);
		if (shared.modes & REBACK)
			guest_tag(me, next_random(&x), emulate);
		if (shared.modes & READONLY)
			guest_ro(me, next_random(&x), emulate);
		if (shared.modes & EXEC)
			guest_exec(me, next_random(&x), emulate);
		if (emulate)
			guest_clock(me);
		shared.iterations[me]++;
		if (READ_ONCE(shared.park) != park) {
			park = READ_ONCE(shared.park);
			GUEST_SYNC(0);
		}
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_RACE_H */
