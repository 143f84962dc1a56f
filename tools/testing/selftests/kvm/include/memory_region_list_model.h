/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_MODEL_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_MODEL_H

/*
 * A naive model of one address space, page by page, and its comparison with what
 * the guest, KVM's own accesses, TEST_ONLY calls and dirty logs show.
 */
#include "memory_region_list_guest.h"

#define MRL_MODEL_IDS	14
/* Beyond those of the model. */
#define MRL_MODEL_PROBE	20

/* A buffer per entry for returned bits, two words each, the second one unused. */
#define MRL_MAX_ENTRIES	16

struct mrl_model {
	struct mrl_guest g;
	uint32_t as_id;
	/* memory_size is 0 if there is no such slot. */
	mrl_entry slot[MRL_MODEL_IDS];
	/* Pages of the window that a log must contain. */
	uint64_t dirty;
	uint64_t round;
	/* Pages that logs and results contained, but need not have. */
	uint64_t over_reported;
	uint64_t result[MRL_MAX_ENTRIES][2];
};

static inline bool mrl_entry_covers(const mrl_entry *e, uint64_t page)
{
	return MRL_GPA(page) >= e->guest_phys_addr &&
	       MRL_GPA(page) - e->guest_phys_addr < e->memory_size;
}

static inline const mrl_entry *mrl_model_find(const struct mrl_model *m, uint64_t page)
{
	int i;

	for (i = 0; i < MRL_MODEL_IDS; i++) {
		if (mrl_entry_covers(&m->slot[i], page))
			return &m->slot[i];
	}
	return NULL;
}

static inline uint64_t mrl_entry_hva(const mrl_entry *e, uint64_t page)
{
	return e->userspace_addr + MRL_GPA(page) - e->guest_phys_addr;
}

static inline bool mrl_entry_logs(const mrl_entry *e)
{
	return e && (e->flags & KVM_MEM_LOG_DIRTY_PAGES);
}

/* Bit 0 is the first page of the window, not of the slot. */
static inline uint64_t mrl_entry_pages(const mrl_entry *e)
{
	uint64_t page, pages = 0;

	for (page = 0; page < MRL_WIN_PAGES; page++)
		pages |= (uint64_t)mrl_entry_covers(e, page) << page;
	return pages;
}

static inline uint64_t mrl_entry_first(const mrl_entry *e)
{
	return (e->guest_phys_addr - MRL_GPA_BASE) / MRL_PAGE_SIZE;
}

static inline bool mrl_entry_equal(const mrl_entry *a, const mrl_entry *b)
{
	return a->slot == b->slot && a->memory_size == b->memory_size &&
	       (!a->memory_size ||
		(a->flags == b->flags && a->guest_phys_addr == b->guest_phys_addr &&
		 a->userspace_addr == b->userspace_addr));
}

static inline bool mrl_model_changes(const struct mrl_model *m, const struct mrl *l)
{
	uint32_t i;

	for (i = 0; i < l->list->nent; i++) {
		if (!mrl_entry_equal(&l->list->entries[i],
				     &m->slot[l->list->entries[i].slot]))
			return true;
	}
	return false;
}

/* *never-lost*: the same page, logged before and after, stays dirty. */
static inline void mrl_model_commit(struct mrl_model *m, const struct mrl *l)
{
	const struct mrl_model old = *m;
	const mrl_entry *a, *b;
	uint32_t i;

	for (i = 0; i < l->list->nent; i++) {
		m->slot[l->list->entries[i].slot] = l->list->entries[i];
		mrl_result(&m->slot[l->list->entries[i].slot], NULL, 0);
	}
	for (i = 0; i < MRL_WIN_PAGES; i++) {
		a = mrl_model_find(&old, i);
		b = mrl_model_find(m, i);
		if (!mrl_entry_logs(a) || !mrl_entry_logs(b) ||
		    mrl_entry_hva(a, i) != mrl_entry_hva(b, i))
			m->dirty &= ~BIT_ULL(i);
	}
}

/* What is in @got, bits of a slot, must be in @may, and must have all of @want. */
static inline void mrl_check_bits(struct mrl_model *m, const char *what,
				  const mrl_entry *slot, uint64_t got,
				  uint64_t want, uint64_t may)
{
	uint64_t first = mrl_entry_first(slot);

	want >>= first;
	may >>= first;
	TEST_ASSERT(!(want & ~got), "%s: dirty bits of slot %u: wanted 0x%lx, got 0x%lx",
		    what, slot->slot, want, got);
	TEST_ASSERT(!(got & ~may), "%s: bits of slot %u: wanted no others than 0x%lx, got 0x%lx",
		    what, slot->slot, may, got);
	m->over_reported += __builtin_popcountll(got & ~want);
}

static inline void mrl_model_check_logs(struct mrl_model *m, const char *what)
{
	int i;

	for (i = 0; i < MRL_MODEL_IDS; i++) {
		const mrl_entry *e = &m->slot[i];
		uint64_t pages = mrl_entry_pages(e), log = 0;

		if (!e->memory_size || !mrl_entry_logs(e))
			continue;
		kvm_vm_get_dirty_log(m->g.vm, m->as_id << 16 | i, &log);
		mrl_check_bits(m, what, e, log, m->dirty & pages, pages);
	}
}

/*
 * Bring the logs down to what they must contain.  KVM marks pages of a slot that
 * logs dirty when the guest reads them for the first time.
 */
static inline void mrl_model_trim_logs(struct mrl_model *m)
{
	int i;

	for (i = 0; i < MRL_MODEL_IDS; i++) {
		const mrl_entry *e = &m->slot[i];
		uint64_t log = 0;

		if (!e->memory_size || !mrl_entry_logs(e))
			continue;
		kvm_vm_get_dirty_log(m->g.vm, m->as_id << 16 | i, &log);
		log &= ~(m->dirty >> mrl_entry_first(e));
		kvm_vm_clear_dirty_log(m->g.vm, m->as_id << 16 | i, &log, 0,
				       e->memory_size / MRL_PAGE_SIZE);
	}
}

/* Ids and ranges, by calls that change nothing. */
static inline void mrl_model_check_probes(struct mrl_model *m, const char *what)
{
	int i;

	for (i = 1; i < MRL_MODEL_IDS; i++) {
		bool want = m->slot[i].memory_size;
		bool got = mrl_slot_exists(m->g.vm, m->as_id, i);

		TEST_ASSERT(want == got, "%s: slot %d: wanted %d, got %d", what, i, want, got);
	}
	for (i = 0; i < MRL_WIN_PAGES; i++) {
		bool want = mrl_model_find(m, i);
		bool got = mrl_page_occupied(m->g.vm, m->as_id, MRL_MODEL_PROBE, i);

		TEST_ASSERT(want == got, "%s: page %d: wanted %s, got %s", what, i,
			    want ? "a slot" : "none", got ? "a slot" : "none");
	}
}

static inline void mrl_model_check_read(struct mrl_model *m, const char *what)
{
	uint64_t val[MRL_WIN_PAGES], exits;
	int i;

	exits = mrl_guest_read(&m->g, 0, MRL_ALL_PAGES, val);
	for (i = 0; i < MRL_WIN_PAGES; i++) {
		const mrl_entry *e = mrl_model_find(m, i);
		uint64_t want = e ? *(uint64_t *)mrl_entry_hva(e, i) : MRL_HOLE;

		TEST_ASSERT(val[i] == want && !(exits & BIT_ULL(i)) == !!e,
			    "%s: guest reads page %d: wanted 0x%lx, %s exit, got 0x%lx, %s exit",
			    what, i, want, e ? "no" : "an", val[i],
			    exits & BIT_ULL(i) ? "an" : "no");
	}
}

/* Write to @pages and find the value in the right page of the host. */
static inline void mrl_model_check_write(struct mrl_model *m, const char *what,
					 uint64_t pages)
{
	uint64_t val[MRL_WIN_PAGES], exits, got;
	const mrl_entry *e;
	bool memory;
	int i;

	m->round++;
	for (i = 0; i < MRL_WIN_PAGES; i++) {
		e = mrl_model_find(m, i);
		val[i] = m->round << 16 |
			 (e ? (mrl_entry_hva(e, i) - MRL_HVA_BASE) / MRL_PAGE_SIZE : 0);
	}

	exits = mrl_guest_write(&m->g, 0, pages, val);
	for (i = 0; i < MRL_WIN_PAGES; i++) {
		if (!(pages & BIT_ULL(i)))
			continue;

		e = mrl_model_find(m, i);
		got = e ? *(uint64_t *)mrl_entry_hva(e, i) : MRL_HOLE;
		memory = e && !(e->flags & KVM_MEM_READONLY);
		TEST_ASSERT(!(exits & BIT_ULL(i)) == memory,
			    "%s: guest writes page %d: wanted %s exit, got %s exit", what, i,
			    memory ? "no" : "an", exits & BIT_ULL(i) ? "an" : "no");
		TEST_ASSERT((got == val[i]) == memory,
			    "%s: guest writes page %d: wanted %s 0x%lx, got 0x%lx", what, i,
			    memory ? "" : "other than", val[i], got);
		if (memory && mrl_entry_logs(e))
			m->dirty |= BIT_ULL(i);
	}
}

/* The same for an access by KVM, i.e. not through the MMU. */
static inline void mrl_model_check_kernel(struct mrl_model *m, const char *what,
					  uint64_t page)
{
	const mrl_entry *e = mrl_model_find(m, page);
	uint64_t hva = e ? mrl_entry_hva(e, page) : MRL_HVA_BASE;
	uint32_t before = mrl_kernel_count(hva), got, want;

	mrl_kernel_touch(&m->g, page);
	got = mrl_kernel_count(hva) - before;
	want = e && !(e->flags & KVM_MEM_READONLY) ? 2 : 0;
	TEST_ASSERT(got == want, "%s: KVM writes page %lu: wanted %u more, got %u",
		    what, page, want, got);
	if (want && mrl_entry_logs(e))
		m->dirty |= BIT_ULL(page);
}

/* Address space 0 is the only one that the guest sees outside of SMM. */
static inline void mrl_model_check(struct mrl_model *m, const char *what)
{
	int i;

	mrl_model_check_logs(m, what);
	mrl_model_check_probes(m, what);
	if (m->as_id)
		return;

	/* Leave some pages of each log clean. */
	mrl_model_check_read(m, what);
	mrl_model_trim_logs(m);
	mrl_model_check_write(m, what, 0x9249249249249249ull << m->round % 5);
	for (i = 0; i < MRL_WIN_PAGES; i++) {
		if (i % 5 == m->round % 5)
			mrl_model_check_kernel(m, what, i);
	}
	mrl_model_check_read(m, what);
	mrl_model_check_logs(m, what);
}

/* Ask for the bits of each slot that logs. */
static inline void mrl_model_want_results(struct mrl_model *m, struct mrl *l)
{
	mrl_entry *e;
	uint32_t i;

	TEST_ASSERT(l->list->nent <= MRL_MAX_ENTRIES, "Wanted at most %d entries, got %u",
		    MRL_MAX_ENTRIES, l->list->nent);
	memset(m->result, 0xa5, sizeof(m->result));
	for (i = 0; i < l->list->nent; i++) {
		e = &l->list->entries[i];
		if (m->slot[e->slot].memory_size && mrl_entry_logs(&m->slot[e->slot]))
			mrl_result(e, m->result[i], sizeof(m->result[i]));
	}
}

/*
 * The bits of pages that left the log, and nothing but the words needed for the
 * slots, all of which are smaller than 64 pages.
 */
static inline void mrl_model_check_results(struct mrl_model *m, const struct mrl_model *old,
					   const struct mrl *l, const char *what)
{
	const mrl_entry *e, *b;
	uint32_t i, page;

	for (i = 0; i < l->list->nent; i++) {
		uint64_t left = 0;

		TEST_ASSERT(m->result[i][1] == 0xa5a5a5a5a5a5a5a5ull,
			    "%s: behind result %u: wanted no write, got 0x%lx", what, i,
			    m->result[i][1]);
		if (!l->list->entries[i].dirty_bitmap)
			continue;

		e = &old->slot[l->list->entries[i].slot];
		for (page = 0; page < MRL_WIN_PAGES; page++) {
			b = mrl_model_find(m, page);
			if (mrl_entry_covers(e, page) &&
			    (!mrl_entry_logs(b) ||
			     mrl_entry_hva(e, page) != mrl_entry_hva(b, page)))
				left |= BIT_ULL(page);
		}
		mrl_check_bits(m, what, e, m->result[i][0], old->dirty & left, left);
	}
}

/*
 * *kept-mappings*: what is zapped is what goes or changes, all of which was mapped,
 * and the guest reads the rest without a fault.
 */
static inline void mrl_model_check_kept(struct mrl_model *m, const struct mrl_model *old,
					uint64_t zapped, const char *what)
{
	uint64_t kept = 0, gone = 0, taken;
	const mrl_entry *a, *b;
	int i;

	if (m->as_id || !mrl_zaps_are_exact())
		return;

	for (i = 0; i < MRL_WIN_PAGES; i++) {
		a = mrl_model_find(old, i);
		b = mrl_model_find(m, i);
		if (a && b && mrl_entry_hva(a, i) == mrl_entry_hva(b, i) &&
		    !((a->flags ^ b->flags) & KVM_MEM_READONLY))
			kept |= BIT_ULL(i);
		else if (a)
			gone |= BIT_ULL(i);
	}
	TEST_ASSERT(zapped == __builtin_popcountll(gone),
		    "%s: pages zapped: wanted %d, those of 0x%lx, got %lu", what,
		    __builtin_popcountll(gone), gone, zapped);

	taken = mrl_vcpu_stat(m->g.vcpu, "pf_taken");
	mrl_guest_read(&m->g, 0, kept, NULL);
	taken = mrl_vcpu_stat(m->g.vcpu, "pf_taken") - taken;
	TEST_ASSERT(!taken, "%s: faults on kept pages 0x%lx: wanted 0, got %lu", what, kept,
		    taken);
}

/* Make a call that has to succeed, and check what it did. */
static inline void mrl_model_apply(struct mrl_model *m, struct mrl *l, const char *what)
{
	struct mrl_counts counts = mrl_counts_get(m->g.vm);
	const struct mrl_model old = *m;
	bool change = mrl_model_changes(m, l);
	int r;

	l->list->as_id = m->as_id;
	mrl_model_want_results(m, l);
	/* With a buffer for all that leaves there is nothing to discard. */
	l->list->flags = random() % 2 ? KVM_MEMORY_REGION_LIST_DISCARD_DIRTY : 0;
	r = __mrl_apply(m->g.vm, l);
	TEST_ASSERT(!r, "%s, header flags %u: wanted 0, got errno %d (%s), error_index %u", what,
		    l->list->flags, errno, strerror(errno), l->list->error_index);
	l->list->flags = 0;

	/* *one-grace-period* */
	counts = mrl_counts_since(m->g.vm, counts);
	TEST_ASSERT(counts.grace_periods == change,
		    "%s: wanted %d grace periods, got %lu", what, change,
		    counts.grace_periods);
	TEST_ASSERT(counts.calls == 1 && counts.entries == l->list->nent && !counts.failed,
		    "%s: wanted 1 call, %u entries, 0 failed, got %lu, %lu, %lu", what,
		    l->list->nent, counts.calls, counts.entries, counts.failed);

	mrl_model_commit(m, l);
	mrl_model_check_results(m, &old, l, what);
	mrl_model_check_kept(m, &old, counts.zapped, what);
	mrl_model_check(m, what);
}

static inline struct mrl_model mrl_model_create(void)
{
	struct mrl_model m = { .g = mrl_guest_create(MRL_WIN_PAGES) };
	int i;

	for (i = 0; i < MRL_MODEL_IDS; i++)
		m.slot[i].slot = i;
	vm_enable_cap(m.g.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	/* From here on, the guest has no faults on memory of its own. */
	mrl_guest_read(&m.g, 0, 0, NULL);
	return m;
}

static inline void mrl_model_free(struct mrl_model *m)
{
	kvm_vm_free(m->g.vm);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_MODEL_H */
