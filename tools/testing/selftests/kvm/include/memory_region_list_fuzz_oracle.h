/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_ORACLE_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_ORACLE_H

#include "memory_region_list_fuzz_program.h"

/*
 * The oracle of memory_region_list_fuzz_test, which see: memslots as a table by id, and
 * what a list leads to, from the document and not from the kernel's code.
 */
#define FUZZ_LOG	KVM_MEM_LOG_DIRTY_PAGES
#define FUZZ_RO		KVM_MEM_READONLY
#define FUZZ_MAX_SPACES	2u

/* npages 0: there is none. */
struct fuzz_slot {
	uint64_t gfn, npages, hva;
	uint32_t flags;
};

static struct fuzz_config config;
static struct fuzz_slot *slots[FUZZ_MAX_SPACES];
static uint32_t nr_spaces, max_entries, nr_known;	/* nr_known: no id above exists */

/* Of what a call has to lead to.  @index: the entries that may be named, if there is an error. */
static struct fuzz_verdict {
	int err;
	bool no_index;		/* the header can't be written to */
	bool any;		/* error_index is nent */
	uint8_t *index;
} verdict;

static bool slot_logs(const struct fuzz_slot *s)
{
	return s->npages && (s->flags & FUZZ_LOG);
}

static struct fuzz_slot slot_of(const mrl_entry *e)
{
	return (struct fuzz_slot) {
		.gfn = e->guest_phys_addr / PAGE_SIZE,
		.npages = e->memory_size / PAGE_SIZE,
		.hva = e->userspace_addr,
		.flags = e->memory_size ? e->flags : 0,
	};
}

static bool slot_equal(const struct fuzz_slot *a, const struct fuzz_slot *b)
{
	return a->npages == b->npages && (!a->npages || (a->gfn == b->gfn && a->hva == b->hva &&
							 a->flags == b->flags));
}

static uint64_t slot_hva(const struct fuzz_slot *s, uint64_t gfn)
{
	return s->hva + (gfn - s->gfn) * PAGE_SIZE;
}

static uint32_t result_bytes(const struct fuzz_slot *s)
{
	return DIV_ROUND_UP(s->npages, 64) * 8;
}

static bool in_user_space(uint64_t addr, uint64_t size)
{
	return !(addr >> 63) && !(size >> 63) && !((addr + size) >> 63);
}

static bool is_writable(uint64_t addr, uint64_t size)
{
	return addr >= FUZZ_RESULT && addr + size <= FUZZ_NOWHERE;
}

/* Fields that are wrong whatever the layout is. */
static bool is_malformed(const mrl_entry *e)
{
	uint64_t ends = e->guest_phys_addr | e->memory_size | e->userspace_addr;

	if (e->reserved || e->slot >= FUZZ_MAX_IDS)
		return true;
	if (!e->memory_size)
		return false;
	return ends % PAGE_SIZE || e->flags & ~(FUZZ_LOG | FUZZ_RO) ||
	       e->guest_phys_addr + e->memory_size < e->guest_phys_addr ||
	       e->memory_size / PAGE_SIZE > INT32_MAX ||
	       !in_user_space(e->userspace_addr, e->memory_size);
}

static int judge_result(const mrl_entry *e, const struct fuzz_slot *old)
{
	if (!e->dirty_bitmap)
		return e->dirty_bitmap_size ? -EINVAL : 0;
	if (!slot_logs(old) || e->dirty_bitmap_size < result_bytes(old))
		return -EINVAL;
	return in_user_space(e->dirty_bitmap, e->dirty_bitmap_size) ? 0 : -EFAULT;
}

static int judge_entry(const mrl_entry *e, uint32_t as_id)
{
	const struct fuzz_slot new = slot_of(e), *old;
	int err;

	if (is_malformed(e))
		return -EINVAL;
	old = &slots[as_id][e->slot];
	if (!new.npages && !old->npages)
		return -ENOENT;
	err = judge_result(e, old);
	if (err || slot_equal(old, &new))
		return err;
	/* A name in the ring keeps its meaning. */
	if (config.ring && new.npages && slot_logs(old) &&
	    (new.gfn != old->gfn || new.hva != old->hva))
		return -EOPNOTSUPP;
	/* Beyond what any CPU has.  A deletion has no address. */
	return new.npages && (e->guest_phys_addr + e->memory_size) >> 52 ? -EINVAL : 0;
}

static bool is_noop(const mrl_entry *e, uint32_t as_id)
{
	const struct fuzz_slot new = slot_of(e);

	return slot_equal(&slots[as_id][e->slot], &new);
}

/* A range and the entry that it is of, or -1. */
struct fuzz_range {
	uint64_t first, end;
	int64_t entry;
};

static int compare_ranges(const void *a, const void *b)
{
	const struct fuzz_range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* Note the entries of ranges that overlap another one. */
static bool judge_overlap(struct fuzz_range *r, uint32_t nr)
{
	bool found = false;
	uint32_t i, j;

	qsort(r, nr, sizeof(*r), compare_ranges);
	for (i = 0; i < nr; i++) {
		for (j = i + 1; j < nr && r[j].first < r[i].end; j++) {
			found = true;
			if (r[i].entry >= 0)
				verdict.index[r[i].entry] = true;
			if (r[j].entry >= 0)
				verdict.index[r[j].entry] = true;
		}
	}
	return found;
}

/* Of each id the entry that names it, plus one. */
static uint32_t *named_by;
static struct fuzz_range *ranges;

static void oracle_init(void)
{
	uint32_t i;

	for (i = 0; i < FUZZ_MAX_SPACES; i++)
		slots[i] = fuzz_alloc(FUZZ_MAX_IDS, sizeof(**slots));
	verdict.index = fuzz_alloc(FUZZ_MAX_IDS, sizeof(*verdict.index));
	named_by = fuzz_alloc(FUZZ_MAX_IDS, sizeof(*named_by));
	ranges = fuzz_alloc(2 * FUZZ_MAX_IDS, sizeof(*ranges));
}

static void forget_names(const struct fuzz_step *s)
{
	uint32_t i;

	for (i = 0; i < s->nr_entries; i++)
		named_by[s->entries[i].slot] = 0;
}

static bool judge_ids(const struct fuzz_step *s)
{
	uint32_t i;

	for (i = 0; i < s->nr_entries; i++) {
		if (named_by[s->entries[i].slot]) {
			verdict.index[i] = true;
			return true;
		}
		named_by[s->entries[i].slot] = i + 1;
	}
	return false;
}

static bool judge_results(const struct fuzz_step *s)
{
	const mrl_entry *e;
	uint32_t i, nr = 0;

	for (i = 0; i < s->nr_entries; i++) {
		e = &s->entries[i];
		if (!e->dirty_bitmap)
			continue;
		ranges[nr++] = (struct fuzz_range) {
			e->dirty_bitmap,
			e->dirty_bitmap + result_bytes(&slots[s->head.as_id][e->slot]), i,
		};
	}
	return judge_overlap(ranges, nr);
}

/* The final layout: entries, and slots that no entry names, as ids. */
static uint32_t final_layout(const struct fuzz_step *s)
{
	const struct fuzz_slot *slot;
	struct fuzz_slot new;
	uint32_t i, nr = 0;

	for (i = 0; i < s->nr_entries; i++) {
		new = slot_of(&s->entries[i]);
		if (new.npages)
			ranges[nr++] = (struct fuzz_range) { new.gfn, new.gfn + new.npages,
							     s->entries[i].slot };
	}
	for (i = 0; i < nr_known; i++) {
		slot = &slots[s->head.as_id][i];
		if (slot->npages && !named_by[i])
			ranges[nr++] = (struct fuzz_range) { slot->gfn,
							     slot->gfn + slot->npages, i };
	}
	return nr;
}

static bool judge_layout(const struct fuzz_step *s)
{
	uint32_t nr = final_layout(s), i;

	for (i = 0; i < nr; i++) {
		ranges[i].entry = (int64_t)named_by[ranges[i].entry] - 1;
		/* What stays as it is stays, named or not. */
		if (ranges[i].entry >= 0 && is_noop(&s->entries[ranges[i].entry], s->head.as_id))
			ranges[i].entry = -1;
	}
	return judge_overlap(ranges, nr);
}

/* Does a page of @old leave the log?  The final layout is in ranges, by gfn, with ids. */
static bool leaves_log(const struct fuzz_step *s, const struct fuzz_slot *old, uint32_t nr)
{
	uint64_t gfn = old->gfn;
	struct fuzz_slot new;
	uint32_t low = 0, high = nr, i, id;

	while (low < high) {
		i = (low + high) / 2;
		if (ranges[i].end <= gfn)
			low = i + 1;
		else
			high = i;
	}
	for (i = low; i < nr && gfn < old->gfn + old->npages; i++) {
		id = ranges[i].entry;
		new = named_by[id] ? slot_of(&s->entries[named_by[id] - 1]) :
				     slots[s->head.as_id][id];
		if (new.gfn > gfn || !slot_logs(&new) || slot_hva(&new, gfn) != slot_hva(old, gfn))
			return true;
		gfn = new.gfn + new.npages;
	}
	return gfn < old->gfn + old->npages;
}

/* Bits must not be dropped by accident. */
static bool judge_leaving(const struct fuzz_step *s)
{
	const struct fuzz_slot *old;
	uint32_t nr, i;
	bool found = false;

	if (s->head.flags & KVM_MEMORY_REGION_LIST_DISCARD_DIRTY)
		return false;
	nr = final_layout(s);
	qsort(ranges, nr, sizeof(*ranges), compare_ranges);
	for (i = 0; i < s->nr_entries; i++) {
		old = &slots[s->head.as_id][s->entries[i].slot];
		if (!slot_logs(old) || s->entries[i].dirty_bitmap || !leaves_log(s, old, nr))
			continue;
		verdict.index[i] = true;
		found = true;
	}
	return found;
}

/* Also if it is only a test, which does not look at the memory of results. */
static bool judge_access(const struct fuzz_step *s)
{
	const mrl_entry *e;
	uint32_t i;

	for (i = 0; i < s->nr_entries; i++) {
		e = &s->entries[i];
		if (!e->dirty_bitmap || s->head.flags & KVM_MEMORY_REGION_LIST_TEST_ONLY)
			continue;
		if (is_writable(e->dirty_bitmap, result_bytes(&slots[s->head.as_id][e->slot])))
			continue;
		verdict.index[i] = true;
		return true;
	}
	return false;
}

static int judge_head(const struct fuzz_step *s)
{
	if (s->at != FUZZ_AT_MEMORY) {
		verdict.no_index = true;
		return -EFAULT;
	}
	verdict.any = true;
	if (s->head.flags & ~(KVM_MEMORY_REGION_LIST_TEST_ONLY |
			      KVM_MEMORY_REGION_LIST_DISCARD_DIRTY) ||
	    s->head.reserved[0] || s->head.reserved[1] || s->head.as_id >= nr_spaces)
		return -EINVAL;
	if (s->head.nent > max_entries)
		return -E2BIG;
	/* The page behind the list has no access. */
	return s->head.nent > s->nr_entries ? -EFAULT : 0;
}

/* In the order in which the kernel checks entries against each other, which is not ABI. */
static void judge_list(const struct fuzz_step *s)
{
	uint32_t i;

	verdict.no_index = false;
	verdict.any = false;
	memset(verdict.index, 0, s->nr_entries);
	verdict.err = judge_head(s);
	if (verdict.err || !s->nr_entries)
		return;
	verdict.any = false;
	for (i = 0; i < s->nr_entries && !verdict.err; i++) {
		verdict.err = judge_entry(&s->entries[i], s->head.as_id);
		verdict.index[i] = !!verdict.err;
	}
	if (verdict.err)
		return;
	if (judge_ids(s) || judge_results(s))
		verdict.err = -EINVAL;
	else if (judge_layout(s))
		verdict.err = -EEXIST;
	else if (judge_leaving(s))
		verdict.err = -EINVAL;
	else if (judge_access(s))
		verdict.err = -EFAULT;
	else
		verdict.any = true;
	forget_names(s);
}

/* What KVM_SET_USER_MEMORY_REGION comes to. */
static int judge_slot(const struct fuzz_step *s)
{
	const mrl_entry *e = &s->entries[0];
	struct fuzz_slot *old, new = slot_of(e);
	uint32_t i;

	if (e->slot >= FUZZ_MAX_IDS || s->head.as_id >= nr_spaces || is_malformed(e))
		return -EINVAL;
	old = &slots[s->head.as_id][e->slot];
	if (!new.npages)
		return old->npages ? 0 : -EINVAL;
	if (old->npages && (new.hva != old->hva || new.npages != old->npages ||
			    (new.flags ^ old->flags) & FUZZ_RO))
		return -EINVAL;
	for (i = 0; i < nr_known; i++) {
		old = &slots[s->head.as_id][i];
		if (i != e->slot && old->npages && new.gfn < old->gfn + old->npages &&
		    old->gfn < new.gfn + new.npages)
			return -EEXIST;
	}
	return 0;
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_ORACLE_H */
