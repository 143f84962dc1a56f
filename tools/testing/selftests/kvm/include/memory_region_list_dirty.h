/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_DIRTY_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_DIRTY_H

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "memory_region_list_vcpus.h"

/* The guest's half of memory_region_list_dirty_test, which see. */
#define BASE_GPA	(4ul << 30)
#define NPAGES		1024u
#define CLOCK		(NPAGES - 64)	/* from here on only KVM itself writes */
#define STEAL		(CLOCK + MRL_MAX_VCPUS)
#define TABLES		(STEAL + MRL_MAX_VCPUS)	/* ... or walks, page tables of the alias */
#define NR_TABLES	8u
#define TAG		NPAGES		/* the page behind the range */
#define NR_TAGS		8u

/* The first pages once more, each page table maps but few. */
#define ALIAS_GVA	(64ul << 30)
#define TABLE_PTES	8u
#define ALIASES		(NR_TABLES * TABLE_PTES)

/* What a layout says of a page. */
enum { BACKING = 1, LOG = 2, PRESENT = 4, FULL = LOG | PRESENT };

static bool logs(uint8_t a)
{
	return (a & FULL) == FULL;
}

/* The same page, in a log before and after. */
static bool kept(uint8_t from, uint8_t to)
{
	return logs(from) && logs(to) && !((from ^ to) & BACKING);
}

static bool is_table(uint32_t page)
{
	return page >= TABLES && page < TABLES + NR_TABLES;
}

/* In memslot 0, which never changes.  Guest and host both use it. */
static struct {
	uint32_t park;
	uint64_t value[NPAGES];			/* journal: last value written */
	uint64_t tagged[NPAGES][NR_TAGS];	/* ... under each generation, this round */
	uint32_t in_value[MRL_MAX_VCPUS];
} shared;

static uint64_t *gva(uint32_t page)
{
	return (uint64_t *)(BASE_GPA + page * PAGE_SIZE);
}

/* Here the CPU or KVM has to walk, and sets the bits that are not set. */
static uint64_t *walked_alias(uint32_t page)
{
	uint64_t *p = (void *)(ALIAS_GVA + page / TABLE_PTES * (2ul << 20) +
			       page % TABLE_PTES * PAGE_SIZE);

	asm volatile("invlpg %0" : : "m"(*p) : "memory");
	return p;
}

static void guest_main(uint32_t me, uint32_t nr)
{
	uint32_t park = 0, page, x = 2463534242u + me;
	uint64_t i, value, generation, *p;

	for (i = 0;; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		page = x % (CLOCK / nr) * nr + me;
		p = gva(page);
		/* By hardware, by the emulator, and by a cmpxchg of its. */
		if (i % 8 < 3 && x >> 31) {
			page = x % (ALIASES / nr) * nr + me;
			p = walked_alias(page);
		}
		value = shared.value[page] + 1;
		if (i % 4 == 1)
			mrl_guest_cmpxchg(p, value);
		else
			mrl_guest_store(p, value, !(i % 8));
		/* The write must not pass the read of the generation. */
		asm volatile("mfence" : : : "memory");
		generation = READ_ONCE(*gva(TAG));
		WRITE_ONCE(shared.tagged[page][generation % NR_TAGS], value);
		WRITE_ONCE(shared.value[page], value);
		if (!(i % 64))
			mrl_guest_ins(p + 1);
		if (READ_ONCE(shared.park) != park) {
			park = READ_ONCE(shared.park);
			GUEST_SYNC(0);
		}
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_DIRTY_H */
