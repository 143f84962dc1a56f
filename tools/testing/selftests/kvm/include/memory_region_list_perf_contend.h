/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_PERF_CONTEND_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_PERF_CONTEND_H

/*
 * Ways to bring the world of memory_region_list_perf_test from one layout to the other.
 *
 * What a call takes is prepared once: what is timed is system calls, and what else a way
 * needs around them.
 */
#include "memory_region_list_perf_vcpus.h"

/* The calls that make one change. */
struct perf_calls {
	struct mrl list;
	/* Deletions have a log to be read before. */
	struct kvm_userspace_memory_region2 *regions;
	struct kvm_dirty_log *logs;
	uint32_t nr;
	int from;
};

struct perf_contender {
	const char *name;
	/* Whether this kernel has what it takes; without: all do. */
	bool (*available)(void);
	/* What turns side @c->from of the world into the other one. */
	void (*prepare)(struct perf_calls *c);
	void (*run)(struct perf_calls *c);
};

/* Where logs are read to.  Nobody looks at what they say. */
static void *perf_log_buffer;
/* How long the last list took, from each side. */
static uint64_t perf_list_ns[2];

static inline void perf_add_region(struct perf_calls *c, const struct mrl_slot *s, uint64_t size,
				   bool read_log)
{
	if (read_log) {
		c->logs[c->nr].slot = s->id;
		c->logs[c->nr].dirty_bitmap = perf_log_buffer;
	}
	c->regions[c->nr++] = (struct kvm_userspace_memory_region2) {
		.slot = s->id,
		.flags = s->flags,
		.guest_phys_addr = s->gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)s->hva,
	};
}

/* KVM takes it as it is: not a deletion and a creation. */
static inline bool perf_only_log_differs(const struct mrl_slot *a, const struct mrl_slot *b)
{
	struct mrl_slot c = *a;

	c.flags ^= KVM_MEM_LOG_DIRTY_PAGES;
	return mrl_slot_equal(&c, b);
}

/* As QEMU does it: all deletions come first. */
static inline void perf_prepare_ioctls(struct perf_calls *c)
{
	const struct mrl_slot *old = perf_world.slots[c->from];
	const struct mrl_slot *new = perf_world.slots[!c->from];
	uint32_t i, nr = perf_world.nr_ids;

	c->regions = calloc(2 * nr, sizeof(*c->regions));
	c->logs = calloc(2 * nr, sizeof(*c->logs));
	TEST_ASSERT(c->regions && c->logs, "calloc() failed");
	for (i = 0; i < nr; i++) {
		if (old[i].size && perf_is_changed(&old[i], &new[i]) &&
		    !perf_only_log_differs(&old[i], &new[i]))
			perf_add_region(c, &old[i], 0, old[i].flags & KVM_MEM_LOG_DIRTY_PAGES);
	}
	for (i = 0; i < nr; i++) {
		if (new[i].size && perf_is_changed(&old[i], &new[i]))
			perf_add_region(c, &new[i], new[i].size, false);
	}
}

static inline void perf_run_ioctls(struct perf_calls *c)
{
	uint32_t i;

	for (i = 0; i < c->nr; i++) {
		if (c->logs[i].dirty_bitmap)
			vm_ioctl(perf.vm, KVM_GET_DIRTY_LOG, &c->logs[i]);
		vm_ioctl(perf.vm, KVM_SET_USER_MEMORY_REGION2, &c->regions[i]);
	}
}

static inline void perf_run_stopped(struct perf_calls *c)
{
	perf_block_vcpus();
	perf_run_ioctls(c);
	perf_unblock_vcpus();
}

/* A log that is read ahead of a deletion today is asked for here, too. */
static inline void perf_prepare_list(struct perf_calls *c)
{
	const struct mrl_slot *old = perf_world.slots[c->from];
	const struct mrl_slot *new = perf_world.slots[!c->from];
	uint64_t size = 0;
	mrl_entry *e;
	uint32_t i;

	c->list = mrl_alloc(perf_world.nr_entries);
	c->list.list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	for (i = 0; i < perf_world.nr_ids; i++) {
		if (!perf_is_changed(&old[i], &new[i]))
			continue;
		e = mrl_set(&c->list, PERF_FIRST_ID + i, new[i].flags, new[i].gpa, new[i].size,
			    new[i].hva);
		if (!(old[i].flags & KVM_MEM_LOG_DIRTY_PAGES) ||
		    perf_only_log_differs(&old[i], &new[i]))
			continue;
		mrl_result(e, perf_log_buffer + size, align_up(old[i].size / PAGE_SIZE, 64) / 8);
		size += e->dirty_bitmap_size;
	}
}

static inline void perf_run_list(struct perf_calls *c)
{
	mrl_apply(perf.vm, &c->list);
}

static inline void perf_prepare_none(struct perf_calls *c)
{
}

/* What the bed itself does to the guest while a thread computes. */
static inline void perf_compute(const struct perf_calls *c, struct timespec start)
{
	while (timespec_to_ns(timespec_elapsed(start)) < perf_list_ns[c->from])
		;
}

static inline void perf_run_none(struct perf_calls *c)
{
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	perf_compute(c, start);
}

static const struct perf_contender perf_contenders[] = {
	{ "ioctls", NULL, perf_prepare_ioctls, perf_run_ioctls },
	{ "stopped", NULL, perf_prepare_ioctls, perf_run_stopped },
	{ "none", NULL, perf_prepare_none, perf_run_none },
	{ "list", NULL, perf_prepare_list, perf_run_list },
};

static inline const struct perf_contender *perf_contender_find(const char *name)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(perf_contenders); i++) {
		if (!strcmp(perf_contenders[i].name, name))
			return &perf_contenders[i];
	}
	TEST_FAIL("-c: wanted a contender, got '%s'", name);
	return NULL;
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_PERF_CONTEND_H */
