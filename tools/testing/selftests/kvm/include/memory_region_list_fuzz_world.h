/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_WORLD_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_WORLD_H

#include <sys/time.h>

#include "memory_region_list_fuzz_log.h"
#include "memory_region_list_guest.h"
#include "memory_region_list_updater.h"

/* A VM of memory_region_list_fuzz_test, which see, and the steps that are made with it. */
#define FUZZ_POISON	0xa5
#define FUZZ_RING_ENTRIES	4096u

static struct mrl_updater updater;
static struct kvm_dirty_gfn *ring[FUZZ_MAX_VCPUS];
static uint32_t ring_index[FUZZ_MAX_VCPUS];
/* What an id that logged in this round means in a ring. */
static struct fuzz_slot *ring_name;
/* The end of the pages that hold the argument; no access behind it. */
static uint8_t *argument_end;
/* How each page's bit was to be returned by the call. */
static uint8_t *result_of;
static uint32_t *next_map;

static void world_init(void)
{
	ring_name = fuzz_alloc(FUZZ_MAX_IDS, sizeof(*ring_name));
	bitmap = fuzz_alloc(FUZZ_MAX_PAGES / 64, sizeof(*bitmap));
	result_of = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(*result_of));
	next_map = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(*next_map));
}

/* What the call must not write to is told from what it writes. */
static void poison_results(const struct fuzz_step *s)
{
	const mrl_entry *e;
	uint32_t i;

	for (i = 0; i < s->nr_entries; i++) {
		e = &s->entries[i];
		if (e->dirty_bitmap && is_writable(e->dirty_bitmap, e->dirty_bitmap_size))
			memset((void *)e->dirty_bitmap, FUZZ_POISON, e->dirty_bitmap_size);
	}
}

/* A result may be in what is not used of another buffer. */
static bool is_alone(const struct fuzz_step *s, const mrl_entry *e)
{
	const mrl_entry *other;

	for (other = s->entries; other < s->entries + s->nr_entries; other++) {
		if (other != e && other->dirty_bitmap < e->dirty_bitmap + e->dirty_bitmap_size &&
		    e->dirty_bitmap < other->dirty_bitmap + other->dirty_bitmap_size)
			return false;
	}
	return true;
}

/* Behind @from bytes of the buffer.  With many entries it takes too long to tell. */
static void check_poison(const struct fuzz_step *s, const mrl_entry *e, uint32_t from)
{
	const uint8_t *p = (void *)e->dirty_bitmap;
	uint32_t i;

	if (!is_writable(e->dirty_bitmap, e->dirty_bitmap_size) || s->nr_entries > 64 ||
	    (from && !is_alone(s, e)))
		return;
	for (i = from; i < e->dirty_bitmap_size; i++)
		TEST_ASSERT(p[i] == FUZZ_POISON,
			    "result of slot %u, byte %u: wanted 0x%x, got 0x%x", e->slot, i,
			    FUZZ_POISON, p[i]);
}

static void check_no_results(const struct fuzz_step *s)
{
	uint32_t i;

	for (i = 0; i < s->nr_entries; i++) {
		if (s->entries[i].dirty_bitmap)
			check_poison(s, &s->entries[i], 0);
	}
}

/* Bits of slots that logged, by page; what is behind them stays. */
static void take_results(const struct fuzz_step *s)
{
	const struct fuzz_slot *old;
	const mrl_entry *e;
	uint32_t i, j;
	bool bit;

	for (i = 0; i < s->nr_entries; i++) {
		e = &s->entries[i];
		if (!e->dirty_bitmap)
			continue;
		old = &slots[s->head.as_id][e->slot];
		check_poison(s, e, result_bytes(old));
		for (j = 0; j < result_bytes(old) * 8; j++) {
			bit = test_bit(j, (unsigned long *)e->dirty_bitmap);
			TEST_ASSERT(j < old->npages || !bit,
				    "result of slot %u, tail bit %u: wanted 0, got 1", e->slot, j);
			if (!s->head.as_id && j < old->npages && in_window(old))
				result_of[page_of(old->gfn) + j] = bit ? BIT_SET : BIT_CLEAR;
		}
	}
}

/* The next layout by page, for the pages of the slots that are named. */
static void make_next_map(const struct fuzz_step *s)
{
	const struct fuzz_slot *old;
	struct fuzz_slot new;
	uint32_t i, j;

	memcpy(next_map, map, config.nr_pages * sizeof(*map));
	for (i = 0; i < s->nr_entries; i++) {
		old = &slots[s->head.as_id][s->entries[i].slot];
		for (j = 0; in_window(old) && j < old->npages; j++)
			next_map[page_of(old->gfn) + j] = 0;
	}
	for (i = 0; i < s->nr_entries; i++) {
		new = slot_of(&s->entries[i]);
		for (j = 0; in_window(&new) && j < new.npages; j++)
			next_map[page_of(new.gfn) + j] = map_of(&new, new.gfn + j);
	}
}

/* Before the call: accesses may find either layout. */
static void open_change(void)
{
	uint32_t i, exits;

	for (i = 0; i < config.nr_pages; i++) {
		exits = exits_of(next_map[i]);
		if (exits & ~may_exit[i])
			may_exit[i] |= exits;
		if (next_map[i] != map[i] && is_rw(next_map[i]))
			check_gone(i, next_map[i], "before it comes back");
	}
	WRITE_ONCE(sh->gen, sh->gen + 1);
}

/* After it: a change that failed is none. */
static void close_change(void)
{
	uint32_t i;

	for (i = 0; i < config.nr_pages; i++) {
		if (next_map[i] != map[i] || result_of[i])
			follow_page(i, map[i], next_map[i], result_of[i]);
	}
	memcpy(history[nr_gens++], map, config.nr_pages * sizeof(*map));
	memset(result_of, NO_RESULT, config.nr_pages);
	/* Not earlier, or stores that the notes do not have would count as old. */
	WRITE_ONCE(sh->gen, sh->gen + 1);
}

/* What it was before it was shrunk may still be in a ring. */
static void note_name(struct fuzz_slot *name, const struct fuzz_slot *slot)
{
	uint64_t npages = name->gfn == slot->gfn && name->hva == slot->hva ? name->npages : 0;

	*name = *slot;
	name->npages = max(npages, slot->npages);
}

static void commit_slots(const struct fuzz_step *s)
{
	const mrl_entry *e;
	struct fuzz_slot *slot;
	uint32_t i;

	for (i = 0; i < s->nr_entries; i++) {
		e = &s->entries[i];
		slot = &slots[s->head.as_id][e->slot];
		*slot = slot_of(e);
		nr_known = max(nr_known, e->slot + 1);
		if (config.ring && !s->head.as_id && slot_logs(slot))
			note_name(&ring_name[e->slot], slot);
	}
}

/* In a ring an id must not get another meaning before all rings have been read. */
static bool breaks_ring_names(const struct fuzz_step *s)
{
	struct fuzz_slot new;
	const struct fuzz_slot *name;
	uint32_t i;

	for (i = 0; config.ring && !s->head.as_id && i < s->nr_entries; i++) {
		if (s->entries[i].slot >= FUZZ_MAX_IDS)
			continue;
		new = slot_of(&s->entries[i]);
		name = &ring_name[s->entries[i].slot];
		if (slot_logs(&new) && name->npages && !slot_logs(&slots[0][s->entries[i].slot]) &&
		    (new.gfn != name->gfn || new.hva != name->hva))
			return true;
	}
	return false;
}

/* All can be read, and error_index can't be written. */
static void protect_argument(void *list, int prot)
{
	uintptr_t first = align_down((uintptr_t)list, PAGE_SIZE);

	TEST_ASSERT(!mprotect((void *)first, (uintptr_t)argument_end - first, prot),
		    "mprotect(): wanted 0, got errno %d", errno);
}

/* The argument, placed so that there is nothing to access behind its last entry. */
static struct kvm_userspace_memory_region_list *place_argument(const struct fuzz_step *s)
{
	size_t size = s->nr_entries * sizeof(mrl_entry);
	struct kvm_userspace_memory_region_list *list;

	list = (void *)(argument_end - size - sizeof(*list));
	*list = s->head;
	list->error_index = 0xbad;
	memcpy(list->entries, s->entries, size);
	if (s->at == FUZZ_AT_NULL)
		return NULL;
	if (s->at == FUZZ_AT_NOWHERE)
		return (void *)argument_end;
	if (s->at == FUZZ_AT_READONLY)
		protect_argument(list, PROT_READ);
	if (s->at == FUZZ_AT_KERNEL)
		return (void *)(-1ul << 47);
	return list;
}

static void check_outcome(const struct fuzz_step *s, int r, int err,
			  const struct kvm_userspace_memory_region_list *list)
{
	uint32_t index;

	TEST_ASSERT(r == (verdict.err ? -1 : 0) && (!r || err == -verdict.err),
		    "list of %u entries: wanted errno %d (%s), got %d (%s), error_index %u",
		    s->head.nent, -verdict.err, strerror(-verdict.err), r ? err : 0,
		    strerror(r ? err : 0), verdict.no_index ? 0 : list->error_index);
	if (verdict.no_index)
		return;
	index = list->error_index;
	TEST_ASSERT(verdict.any ? index == s->head.nent :
				  index < s->nr_entries && verdict.index[index],
		    "list of %u entries, errno %d: wanted error_index %s, got %u", s->head.nent,
		    -verdict.err, verdict.any ? "nent" : "of an entry that is wrong", index);
	TEST_ASSERT(list->nent == s->head.nent && list->flags == s->head.flags &&
		    list->as_id == s->head.as_id && list->reserved[0] == s->head.reserved[0] &&
		    list->reserved[1] == s->head.reserved[1],
		    "list of %u entries: wanted no other field of the header changed",
		    s->head.nent);
}

static bool changes_layout(const struct fuzz_step *s)
{
	uint32_t i;

	for (i = 0; i < s->nr_entries; i++) {
		if (!is_noop(&s->entries[i], s->head.as_id))
			return true;
	}
	return false;
}

/* *one-grace-period*, unless another thread has its own at any time.  @work: not just a test. */
static void check_call_counts(const struct fuzz_step *s, struct mrl_counts before, bool work)
{
	struct mrl_counts got = mrl_counts_since(vm, before);
	uint64_t entries = verdict.err ? 0 : s->head.nent;
	bool counted = !verdict.no_index, grace = work && changes_layout(s);

	TEST_ASSERT(got.calls == counted && got.failed == (counted && verdict.err) &&
		    got.entries == entries,
		    "list of %u entries: wanted %u calls, %u failed, %lu entries, got %lu, %lu, %lu",
		    s->head.nent, counted, counted && verdict.err, entries, got.calls, got.failed,
		    got.entries);
	TEST_ASSERT(config.updater || (got.grace_periods == grace && (grace || !got.zapped)),
		    "one-grace-period: list of %u entries: wanted %u, got %lu, %lu pages zapped",
		    s->head.nent, grace, got.grace_periods, got.zapped);
	program->counts.counted++;
}

static void do_list(const struct fuzz_step *s)
{
	bool count = !((program->counts.valid + program->counts.invalid) % 4);
	struct mrl_counts before = {};
	struct kvm_userspace_memory_region_list *list;
	bool changes, success;
	int r, err;

	if (breaks_ring_names(s))
		return;
	judge_list(s);
	success = !verdict.err && s->nr_entries;
	changes = success && !(s->head.flags & KVM_MEMORY_REGION_LIST_TEST_ONLY);
	list = place_argument(s);
	poison_results(s);
	if (count)
		before = mrl_counts_get(vm);
	if (changes || !(program->counts.invalid % 8))
		give_turn();
	if (changes && !s->head.as_id) {
		begin_clear_beside(s);
		make_next_map(s);
		open_change();
	}
	r = __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION_LIST, list);
	err = errno;
	if (changes && !s->head.as_id)
		end_clear_beside();
	if (s->at == FUZZ_AT_READONLY)
		protect_argument(list, PROT_READ | PROT_WRITE);
	check_outcome(s, r, err, list);
	if (count)
		check_call_counts(s, before, changes);
	program->counts.valid += !r;
	program->counts.invalid += !!r;
	if (!changes) {
		check_no_results(s);
		return;
	}
	take_results(s);
	commit_slots(s);
	if (s->head.as_id)
		return;
	close_change();
	follow_clear_beside();
}

/* Today's ioctl: there may be a hole in between, and it drops bits. */
static void do_slot(const struct fuzz_step *s)
{
	const mrl_entry *e = &s->entries[0];
	int want = -judge_slot(s), r;
	struct fuzz_slot new = slot_of(e), *old;

	old = e->slot < FUZZ_MAX_IDS ? &slots[s->head.as_id % FUZZ_MAX_SPACES][e->slot] : &new;
	/* It moves bits in a way of its own. */
	if (breaks_ring_names(s) || (!want && new.npages && old->npages && old->gfn != new.gfn))
		return;
	give_turn();
	if (!want && !s->head.as_id) {
		make_next_map(s);
		open_change();
	}
	if (s->arg[0])
		r = __vm_set_user_memory_region2(vm, s->head.as_id << 16 | e->slot, e->flags,
						 e->guest_phys_addr, e->memory_size,
						 (void *)e->userspace_addr, 0, 0);
	else
		r = __vm_set_user_memory_region(vm, s->head.as_id << 16 | e->slot, e->flags,
						e->guest_phys_addr, e->memory_size,
						(void *)e->userspace_addr);
	TEST_ASSERT(r == (want ? -1 : 0) && (!r || errno == want),
		    "KVM_SET_USER_MEMORY_REGION of slot %u: wanted errno %d, got %d", e->slot, want,
		    r ? errno : 0);
	program->counts.old_ioctls++;
	if (want)
		return;
	commit_slots(s);
	if (!s->head.as_id)
		close_change();
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_WORLD_H */
