/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_GUEST_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_GUEST_H

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "memory_region_list_vcpus.h"

/*
 * The guest's half of memory_region_list_fuzz_test, which see.
 *
 * Each vCPU has pages of its own.  A store to a page goes to a word that belongs to its
 * gfn alone, whichever page of the host is behind it, and stores the number of the store.
 * So what is in memory tells which stores got where, even if two gfns share a page.
 */
#define FUZZ_GPA	(4ul << 30)
#define FUZZ_MAX_PAGES	32768u
/* A slot that no list names, see the noise. */
#define FUZZ_BYSTANDER_GPA	(8ul << 30)
#define FUZZ_BYSTANDER_PAGES	64u
#define FUZZ_MAX_VCPUS	4u
#define FUZZ_JOURNAL	6144u
#define FUZZ_IDLE_PORT	0x520

/* In each page of the host: words of gfns, code that returns its number, its number. */
#define FUZZ_CODE	3072u
#define FUZZ_TAG	4088u
#define FUZZ_WORDS	256u
/* What an access that exits reads. */
#define FUZZ_HOLE	0xdeadu

enum { FUZZ_STORE, FUZZ_LOAD, FUZZ_FETCH, FUZZ_PREFAULT };
enum { FUZZ_EXIT_READ = 1, FUZZ_EXIT_WRITE = 2 };

/* gen, end: before it and after it.  exits: FUZZ_EXIT_*, how it exited or failed. */
struct fuzz_access {
	uint8_t kind, exits;
	uint16_t page;
	uint32_t gen, end, value;
};

/* In memslot 0, which never changes.  Guest and host both use it. */
static struct fuzz_shared {
	uint32_t park, turn, gen;	/* gen: odd while a call changes the layout */
	uint32_t nr_pages, quota, seed;
	uint32_t word_shift;		/* not 0 in a large world */
	uint32_t seen_turn[FUZZ_MAX_VCPUS];
	uint32_t nr[FUZZ_MAX_VCPUS];
	uint64_t stores[FUZZ_MAX_VCPUS], untold[FUZZ_MAX_VCPUS], left_out[FUZZ_MAX_VCPUS];
	uint8_t exited[FUZZ_MAX_VCPUS];	/* FUZZ_EXIT_*, of the access that is on its way */
	bool restless;			/* one turn follows the other */
	bool visits[FUZZ_MAX_VCPUS];	/* the bystander */
	struct fuzz_access journal[FUZZ_MAX_VCPUS][FUZZ_JOURNAL];
	uint32_t done[FUZZ_MAX_PAGES];	/* the last store to each page */
	uint8_t exits[FUZZ_MAX_PAGES];	/* of the layout after the last call: FUZZ_EXIT_* */
} fuzz_shared;

static uint8_t *fuzz_gva(uint32_t page)
{
	return (uint8_t *)(FUZZ_GPA + (uint64_t)page * PAGE_SIZE);
}

/*
 * Half of the journal is for accesses that overlap a change, which are fewer.  Changes of a
 * large world last: every second one is left out, then three of four, and so on.  There is
 * to be room for the end of the change, when the new layout comes.
 */
static bool fuzz_leaves_out(uint32_t me, uint32_t nr)
{
	uint32_t half = FUZZ_JOURNAL / 2;

	if (!fuzz_shared.word_shift || nr < half || nr >= FUZZ_JOURNAL ||
	    (fuzz_shared.left_out[me] + nr) % BIT(8 * (nr - half) / half) == 0)
		return false;
	fuzz_shared.left_out[me]++;
	return true;
}

/* The caller has read @gen before the access.  The access must not pass the second read. */
static void fuzz_note(uint32_t me, uint32_t kind, uint32_t page, uint32_t gen, uint32_t value)
{
	uint32_t end, exits, nr = fuzz_shared.nr[me];
	bool overlaps;

	asm volatile("mfence" : : : "memory");
	end = READ_ONCE(fuzz_shared.gen);
	exits = READ_ONCE(fuzz_shared.exited[me]);
	WRITE_ONCE(fuzz_shared.exited[me], 0);
	overlaps = gen % 2 || gen != end;
	if (overlaps && fuzz_leaves_out(me, nr))
		return;
	if (nr >= (overlaps ? FUZZ_JOURNAL : FUZZ_JOURNAL / 2)) {
		fuzz_shared.untold[me]++;
		return;
	}
	fuzz_shared.journal[me][nr] = (struct fuzz_access) {
		.kind = kind, .exits = exits, .page = page, .gen = gen, .end = end,
		.value = value,
	};
	fuzz_shared.nr[me] = nr + 1;
}

/* Through KVM's emulator, which looks the page up again to mark it dirty. */
static void fuzz_exchange(uint64_t *word, uint64_t value)
{
	asm volatile(KVM_FEP "xchg %0, %1" : "+r"(value), "+m"(*word) : : "memory");
}

static void fuzz_store(uint32_t me, uint32_t page, bool emulate)
{
	uint32_t value = fuzz_shared.done[page] + 1, gen = READ_ONCE(fuzz_shared.gen);
	uint64_t *word = (uint64_t *)fuzz_gva(page) + (page >> fuzz_shared.word_shift) % FUZZ_WORDS;

	if (emulate && is_forced_emulation_enabled && value % 2)
		fuzz_exchange(word, value);
	else
		mrl_guest_store(word, value, emulate);
	WRITE_ONCE(fuzz_shared.done[page], value);
	fuzz_shared.stores[me]++;
	fuzz_note(me, FUZZ_STORE, page, gen, value);
}

static void fuzz_load(uint32_t me, uint32_t page, bool emulate)
{
	uint32_t gen = READ_ONCE(fuzz_shared.gen);

	fuzz_note(me, FUZZ_LOAD, page, gen,
		  mrl_guest_load((uint64_t *)(fuzz_gva(page) + FUZZ_TAG), emulate));
}

static void fuzz_fetch(uint32_t me, uint32_t page)
{
	uint32_t gen = READ_ONCE(fuzz_shared.gen), value;

	/* Behind the red zone. */
	asm volatile("lea -128(%%rsp), %%rsp\n\tcall *%[code]\n\tlea 128(%%rsp), %%rsp"
		     : "=a"(value) : [code]"r"(fuzz_gva(page) + FUZZ_CODE) : "memory", "cc");
	fuzz_note(me, FUZZ_FETCH, page, gen, value);
}

static void fuzz_visit(uint32_t me, uint32_t page)
{
	uint64_t *word = (uint64_t *)(FUZZ_BYSTANDER_GPA + page * PAGE_SIZE);

	WRITE_ONCE(fuzz_shared.visits[me], true);
	WRITE_ONCE(*word, READ_ONCE(*word) + 1);
	WRITE_ONCE(fuzz_shared.visits[me], false);
}

static void fuzz_access(uint32_t me, uint32_t nr, uint32_t random)
{
	uint32_t all = fuzz_shared.nr_pages / nr, page = random >> 12, exits;
	bool emulate = !((random >> 3) % 64), store = random % 8 < 5;

	/* Most are to a few pages for a while, or hardly one would be used twice between calls. */
	if (random & 0x700)
		page = page % 4 + fuzz_shared.turn / 32 * 5;
	page = page % all * nr + me;

	/* Exits take time.  Some are enough. */
	exits = fuzz_shared.exits[page] & (store ? FUZZ_EXIT_WRITE : FUZZ_EXIT_READ);
	if (exits && (random >> 20) % 32)
		return;
	if (store)
		fuzz_store(me, page, emulate);
	else if (random % 8 < 7)
		fuzz_load(me, page, emulate);
	else
		fuzz_fetch(me, page);
	if (!(random >> 25))
		fuzz_visit(me, random % FUZZ_BYSTANDER_PAGES);
}

/*
 * A turn is for as many accesses as the world's quota says, and until no call changes the
 * layout.  Then the host may have the CPU.
 */
static void fuzz_guest_main(uint32_t me, uint32_t nr)
{
	uint32_t park = 0, turn = 0, n = 0, x = fuzz_shared.seed + me;

	for (;;) {
		if (n || READ_ONCE(fuzz_shared.gen) % 2) {
			x ^= x << 13;
			x ^= x >> 17;
			x ^= x << 5;
			fuzz_access(me, nr, x);
			n -= !!n;
		} else {
			fuzz_shared.seen_turn[me] = turn;
			asm volatile("outb %%al, %%dx" : : "a"(0), "d"(FUZZ_IDLE_PORT) : "memory");
			n = fuzz_shared.restless ? fuzz_shared.quota : 0;
		}
		if (READ_ONCE(fuzz_shared.turn) != turn) {
			turn = READ_ONCE(fuzz_shared.turn);
			n = fuzz_shared.quota;
		}
		if (READ_ONCE(fuzz_shared.park) != park) {
			park = READ_ONCE(fuzz_shared.park);
			GUEST_SYNC(0);
		}
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_GUEST_H */
