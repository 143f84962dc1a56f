/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_LOG_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_LOG_H

#include "memory_region_list_fuzz_vcpus.h"

/*
 * Dirty bitmaps of memory_region_list_fuzz_test, which see: fetched, cleared, and cleared
 * while a list is on its way that names the slot.
 */
static unsigned long *bitmap;

static uint32_t page_of(uint64_t gfn)
{
	return gfn - FUZZ_GPA / PAGE_SIZE;
}

static bool in_window(const struct fuzz_slot *s)
{
	return s->npages && s->gfn >= FUZZ_GPA / PAGE_SIZE &&
	       page_of(s->gfn) + s->npages <= config.nr_pages;
}

static void follow_log(const struct fuzz_slot *s, bool parked)
{
	uint32_t i;

	for (i = 0; i < s->npages; i++)
		follow_bit(page_of(s->gfn) + i, test_bit(i, bitmap), parked);
	/* Without manual protection, what is reported is cleared. */
	for (i = 0; !config.log_kind && i < s->npages; i++) {
		if (test_bit(i, bitmap))
			follow_cleared(page_of(s->gfn) + i);
	}
}

/* Pages @first to @end of the slot, as far as they were fetched. */
static void follow_clear(const struct fuzz_slot *s, uint32_t first, uint32_t end)
{
	uint32_t i;

	for (i = first; i < end; i++) {
		if (test_bit(i, bitmap))
			follow_cleared(page_of(s->gfn) + i);
	}
}

static void clear_log(uint32_t id, uint32_t first, uint32_t end)
{
	kvm_vm_clear_dirty_log(vm, id, (uint8_t *)bitmap + first / 8, first, end - first);
	follow_clear(&slots[0][id], first, end);
}

static bool get_log(uint32_t id, bool parked)
{
	const struct fuzz_slot *s = &slots[0][id];
	struct kvm_dirty_log log = { .slot = id };
	int want = config.ring ? ENXIO : slot_logs(s) ? 0 : ENOENT, r;

	log.dirty_bitmap = bitmap;
	r = __vm_ioctl(vm, KVM_GET_DIRTY_LOG, &log);
	TEST_ASSERT(r == (want ? -1 : 0) && (!r || errno == want),
		    "KVM_GET_DIRTY_LOG of slot %u: wanted errno %d, got %d", id, want,
		    r ? errno : 0);
	if (want || !in_window(s))
		return false;
	follow_log(s, parked);
	return true;
}

/* KVM_CLEAR_DIRTY_LOG of all that was fetched of a slot, in a thread of its own. */
static struct {
	pthread_t thread;
	uint32_t id;	/* 0: none */
	struct fuzz_slot old;
	uint32_t *words;	/* what is in memory when the ioctl has returned */
	int r, err;
} beside;

static void *clear_thread(void *arg)
{
	struct kvm_clear_dirty_log log = {
		.slot = beside.id, .num_pages = beside.old.npages, .dirty_bitmap = bitmap,
	};

	uint32_t i, page = page_of(beside.old.gfn);

	beside.r = __vm_ioctl(vm, KVM_CLEAR_DIRTY_LOG, &log);
	beside.err = errno;
	for (i = 0; i < beside.old.npages; i++)
		beside.words[i] = word_of(page + i, map_of(&beside.old, beside.old.gfn + i));
	return NULL;
}

static void begin_clear_beside(const struct fuzz_step *s)
{
	uint32_t i, id;
	int r;

	beside.id = 0;
	for (i = 0; config.log_kind && s->arg[0] && i < s->nr_entries && !beside.id; i++) {
		id = s->entries[i].slot;
		if (slot_logs(&slots[0][id]) && in_window(&slots[0][id]) && get_log(id, false))
			beside.id = id;
	}
	if (!beside.id)
		return;
	beside.old = slots[0][beside.id];
	if (!beside.words)
		beside.words = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(*beside.words));
	r = pthread_create(&beside.thread, NULL, clear_thread, NULL);
	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
}

/*
 * The list has returned, and the map is still the old one.  Ahead of the list the ioctl
 * cleared the slot that was; behind it one that has the id now, or none, or it is refused as
 * the slot got smaller.  Either way what it cleared is what was in memory then, or is
 * written and marked again.
 */
static void end_clear_beside(void)
{
	struct fuzz_pair *p;
	uint32_t i, page;

	if (!beside.id)
		return;
	pthread_join(beside.thread, NULL);
	TEST_ASSERT(!beside.r || beside.err == ENOENT || beside.err == EINVAL,
		    "KVM_CLEAR_DIRTY_LOG of slot %u: wanted 0, ENOENT or EINVAL, got errno %d",
		    beside.id, beside.err);
	program->counts.cleared += !beside.r;
	if (beside.r)
		beside.id = 0;
	for (i = 0; beside.id && i < beside.old.npages; i++) {
		page = page_of(beside.old.gfn) + i;
		p = pair_of(page, map[page]);
		if (!test_bit(i, bitmap))
			continue;
		p->flags &= ~PAIR_DIRTY;
		p->copy = beside.words[i];
	}
}

/* The same for the slot that has the id now, if it is another one. */
static void follow_clear_beside(void)
{
	const struct fuzz_slot *new = &slots[0][beside.id];
	uint32_t i, page;

	if (!beside.id || !slot_logs(new) || !in_window(new))
		return;
	if (new->gfn != beside.old.gfn || new->hva != beside.old.hva) {
		follow_clear(new, 0, min(new->npages, beside.old.npages));
		return;
	}
	for (i = 0; i < min(new->npages, beside.old.npages); i++) {
		page = page_of(new->gfn) + i;
		if (test_bit(i, bitmap))
			pair_of(page, map[page])->flags &= ~PAIR_DIRTY;
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_LOG_H */
