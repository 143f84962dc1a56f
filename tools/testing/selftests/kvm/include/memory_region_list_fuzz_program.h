/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_PROGRAM_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_PROGRAM_H

#include <sys/mman.h>

#include "memory_region_list.h"
#include "memory_region_list_fuzz_guest.h"

/*
 * Programs of memory_region_list_fuzz_test, which see.  A program is a list of steps, each
 * with all that it needs, addresses included.  It is recorded in memory that the process
 * which runs it shares with its parent, so that the parent can run parts of it again.
 */
#define FUZZ_MAX_STEPS		8192u
#define FUZZ_PROGRAM_BYTES	(96ul << 20)
#define FUZZ_MAX_IDS		32764u

/* Host memory, and what a result bitmap may be at: memory, and memory without access. */
#define FUZZ_HVA		0x100000000000ull
#define FUZZ_BACKINGS		2u
#define FUZZ_BYSTANDER		0x120000000000ull
#define FUZZ_RESULT		0x110000000000ull
#define FUZZ_RESULT_BYTES	(4ul << 20)
#define FUZZ_NOWHERE		(FUZZ_RESULT + FUZZ_RESULT_BYTES)

enum {
	FUZZ_STEP_LIST,		/* the list; arg[0]: KVM_CLEAR_DIRTY_LOG beside it */
	FUZZ_STEP_SLOT,		/* entry 0, by KVM_SET_USER_MEMORY_REGION or -REGION2 */
	FUZZ_STEP_GET,		/* KVM_GET_DIRTY_LOG of slot arg[0] */
	FUZZ_STEP_CLEAR,	/* what was fetched; words arg[1] to arg[2] of it */
	FUZZ_STEP_PARK,		/* stop all vCPUs, compare all; arg[0]: clear logs */
	FUZZ_STEP_PREFAULT,	/* arg[1] pages from arg[0] on, by vCPU arg[2] */
};

/* Where the argument of a list is. */
enum { FUZZ_AT_MEMORY, FUZZ_AT_NULL, FUZZ_AT_NOWHERE, FUZZ_AT_KERNEL, FUZZ_AT_READONLY };

struct fuzz_step {
	uint32_t kind, nr_entries, at;
	uint64_t arg[3];
	/* head.nent is what the kernel is told. */
	struct kvm_userspace_memory_region_list head;
	mrl_entry entries[];
};

struct fuzz_counts {
	uint64_t valid, invalid, other, stores, reported, over, returned, returned_over;
	uint64_t exits, journaled, worlds, killed, old_ioctls, prefaults;
	uint64_t advised, signals, updates, overlapped, untold, exits_judged, counted, cleared;
	uint64_t left_out;
};

struct fuzz_program {
	uint32_t nr_steps, nr_done;	/* done: by the world that runs */
	uint64_t used;
	struct fuzz_counts counts;
	uint64_t offset[FUZZ_MAX_STEPS];
	uint8_t data[];
};

/* What the seed decides before the first step. */
struct fuzz_config {
	uint32_t seed, nr_pages, nr_ids, vcpus, log_kind, quota;
	/* linear: a page of the guest is at one page of each backing only. */
	bool linear, large, huge, ring, shared_memory, updater, noise, restless;
};

static struct fuzz_program *fuzz_program_alloc(void)
{
	struct fuzz_program *p = mmap(NULL, sizeof(*p) + FUZZ_PROGRAM_BYTES, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	TEST_ASSERT(p != MAP_FAILED, "mmap() of a program: wanted memory, got errno %d", errno);
	return p;
}

/* State of the host's is not in the program's image, which each VM has a copy of. */
static void *fuzz_alloc(size_t nr, size_t size)
{
	void *mem = calloc(nr, size);

	TEST_ASSERT(mem, "calloc() of %lu times 0x%lx bytes failed", nr, size);
	return mem;
}

static size_t fuzz_step_size(uint32_t nr_entries)
{
	return sizeof(struct fuzz_step) + nr_entries * sizeof(mrl_entry);
}

static struct fuzz_step *fuzz_step_at(struct fuzz_program *p, uint32_t i)
{
	return (void *)(p->data + p->offset[i]);
}

static bool fuzz_program_full(const struct fuzz_program *p)
{
	return p->nr_steps + 2 > FUZZ_MAX_STEPS ||
	       p->used + 2 * fuzz_step_size(FUZZ_MAX_IDS) > FUZZ_PROGRAM_BYTES;
}

/* The next step, to be filled in.  There is room for any number of entries. */
static struct fuzz_step *fuzz_step_begin(struct fuzz_program *p, uint32_t kind)
{
	struct fuzz_step *s = (void *)(p->data + p->used);

	memset(s, 0, sizeof(*s));
	s->kind = kind;
	return s;
}

static void fuzz_step_end(struct fuzz_program *p, struct fuzz_step *s)
{
	p->offset[p->nr_steps++] = p->used;
	p->used += fuzz_step_size(s->nr_entries);
}

static mrl_entry *fuzz_step_add(struct fuzz_step *s, uint32_t slot)
{
	mrl_entry *e = &s->entries[s->nr_entries++];

	*e = (mrl_entry) { .slot = slot };
	s->head.nent = s->nr_entries;
	return e;
}

static void fuzz_print_entry(const mrl_entry *e)
{
	printf("      slot %u flags 0x%x gpa 0x%llx size 0x%llx hva 0x%llx", e->slot, e->flags,
	       e->guest_phys_addr, e->memory_size, e->userspace_addr);
	printf(" bitmap 0x%llx, %u bytes, reserved 0x%llx\n", e->dirty_bitmap,
	       e->dirty_bitmap_size, e->reserved);
}

static void fuzz_print_step(const struct fuzz_step *s, uint32_t number)
{
	static const char *const names[] = {
		"KVM_SET_USER_MEMORY_REGION_LIST", "KVM_SET_USER_MEMORY_REGION",
		"KVM_GET_DIRTY_LOG", "KVM_CLEAR_DIRTY_LOG", "park", "KVM_PRE_FAULT_MEMORY",
	};
	uint32_t i;

	printf("  %u: %s", number, names[s->kind]);
	if (s->kind == FUZZ_STEP_LIST)
		printf(" nent %u flags 0x%x as_id %u reserved 0x%llx 0x%llx argument %u\n",
		       s->head.nent, s->head.flags, s->head.as_id, s->head.reserved[0],
		       s->head.reserved[1], s->at);
	else
		printf(" %lu %lu %lu\n", s->arg[0], s->arg[1], s->arg[2]);
	for (i = 0; i < s->nr_entries && i < 32; i++)
		fuzz_print_entry(&s->entries[i]);
	if (i < s->nr_entries)
		printf("      ... and %u more entries\n", s->nr_entries - i);
}

/* Random numbers whose low bits are as good as the others. */
static uint64_t fuzz_random_state;

static uint64_t fuzz_mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Mixed, or the next seed would give the same numbers, shifted by one. */
static void fuzz_seed(uint32_t seed)
{
	fuzz_random_state = fuzz_mix(seed + 1ull);
}

/* Below @n. */
static uint32_t fuzz_pick(uint32_t n)
{
	fuzz_random_state += 0x9e3779b97f4a7c15ull;
	return (uint32_t)(fuzz_mix(fuzz_random_state) >> 32) % n;
}

/* Once in @n times. */
static bool fuzz_once_in(uint32_t n)
{
	return !fuzz_pick(n);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_PROGRAM_H */
