/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_STATE_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_STATE_H

/*
 * All that can be observed of the layout of a VM, taken without changing it, so
 * that what a failing call must not change can be compared: *all-or-nothing*.
 *
 * No ioctl reads memslots back.  Instead: an id exists if a deletion, as a test,
 * is not ENOENT; a page is taken if a creation, as a test, is EEXIST; what is
 * behind a page, and whether it can be written, is what the guest finds there;
 * dirty logs are read, which with manual protection clears nothing, and so are the
 * first entries of a dirty ring, where new ones would follow.  The memslot
 * generation is not visible either, but grace periods are counted: there is no
 * new generation without one.
 */
#include "memory_region_list_guest.h"

#define MRL_NR_IDS	16
/* Never created for good. */
#define MRL_UNUSED_ID	(MRL_NR_IDS - 1)

/* Result buffers: a page to write to, one to read, and one without access. */
#define MRL_RESULT_BASE	0x110000000000ull
#define MRL_RESULT_RW	MRL_RESULT_BASE
#define MRL_RESULT_RO	(MRL_RESULT_BASE + MRL_PAGE_SIZE)
#define MRL_RESULT_NONE	(MRL_RESULT_BASE + 2 * MRL_PAGE_SIZE)
#define MRL_POISON	0xa5

/* Of a dirty ring, entries that are compared; those that are used are fewer. */
#define MRL_RING_SIZE	65536
#define MRL_RING_CMP	(2 * MRL_WIN_PAGES)

/* error_index if no single entry is at fault; others are a bit per entry. */
#define MRL_NENT	BIT(31)
#define MRL_ENTRY(i)	BIT(i)

struct mrl_state {
	uint64_t val[MRL_WIN_PAGES];
	/* Pages that exit when read, when written, and that a slot covers. */
	uint64_t read_exits;
	uint64_t write_exits;
	uint64_t occupied;
	uint32_t ids;
	int log_errno[MRL_NR_IDS];
	uint64_t log[MRL_NR_IDS];
	struct kvm_dirty_gfn ring[MRL_RING_CMP];
};

/* A VM and the state it must stay in. */
struct mrl_world {
	struct mrl_guest g;
	uint32_t as_id;
	/* Pages to which the guest can write without changing a log. */
	uint64_t writable;
	struct mrl_state want;
	/* Pages of each slot that logs. */
	uint32_t slot_pages[MRL_NR_IDS];
	/* The ring of the vCPU, if this VM has rings instead of logs. */
	struct kvm_dirty_gfn *ring;
	uint32_t nr_failed;
};

static inline void mrl_result_alloc(void)
{
	void *mem = (void *)MRL_RESULT_BASE;

	mem = mmap(mem, 3 * MRL_PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	TEST_ASSERT(mem == (void *)MRL_RESULT_BASE, "mmap(): wanted %p, got %p",
		    (void *)MRL_RESULT_BASE, mem);
	memset(mem, MRL_POISON, 3 * MRL_PAGE_SIZE);
	mprotect((void *)MRL_RESULT_RO, MRL_PAGE_SIZE, PROT_READ);
	mprotect((void *)MRL_RESULT_NONE, MRL_PAGE_SIZE, PROT_NONE);
}

static inline void mrl_get_logs(struct mrl_world *w, struct mrl_state *s)
{
	int i;

	for (i = 1; i < MRL_NR_IDS; i++) {
		struct kvm_dirty_log log = {
			.slot = w->as_id << 16 | i,
			.dirty_bitmap = &s->log[i],
		};

		if (__vm_ioctl(w->g.vm, KVM_GET_DIRTY_LOG, &log))
			s->log_errno[i] = errno;
	}
}

static inline void mrl_state_get(struct mrl_world *w, struct mrl_state *s)
{
	struct mrl_guest *g = &w->g;
	int i;

	memset(s, 0, sizeof(*s));
	mrl_get_logs(w, s);
	for (i = 1; i < MRL_NR_IDS; i++)
		s->ids |= mrl_slot_exists(g->vm, w->as_id, i) << i;
	for (i = 0; i < MRL_WIN_PAGES; i++)
		s->occupied |= (uint64_t)mrl_page_occupied(g->vm, w->as_id,
							   MRL_UNUSED_ID, i) << i;
	s->read_exits = mrl_guest_read(g, 0, MRL_ALL_PAGES, s->val);
	s->write_exits = mrl_guest_write(g, 0, w->writable, s->val);
	if (w->ring)
		memcpy(s->ring, w->ring, sizeof(s->ring));
}

static inline void mrl_state_eq(const char *what, const char *field, int i,
				uint64_t want, uint64_t got)
{
	TEST_ASSERT(want == got, "%s: %s[%d] changed: wanted 0x%lx, got 0x%lx", what,
		    field, i, want, got);
}

/* Assert that the state is still what it was at the last mrl_world_freeze(). */
static inline void mrl_world_check(struct mrl_world *w, const char *what)
{
	const struct mrl_state *want = &w->want;
	struct mrl_state got;
	int i;

	mrl_state_get(w, &got);
	mrl_state_eq(what, "ids", 0, want->ids, got.ids);
	mrl_state_eq(what, "occupied", 0, want->occupied, got.occupied);
	mrl_state_eq(what, "read_exits", 0, want->read_exits, got.read_exits);
	mrl_state_eq(what, "write_exits", 0, want->write_exits, got.write_exits);
	for (i = 0; i < MRL_WIN_PAGES; i++)
		mrl_state_eq(what, "val", i, want->val[i], got.val[i]);
	for (i = 0; i < MRL_NR_IDS; i++) {
		mrl_state_eq(what, "log_errno", i, want->log_errno[i], got.log_errno[i]);
		mrl_state_eq(what, "log", i, want->log[i], got.log[i]);
	}
	for (i = 0; i < MRL_RING_CMP; i++) {
		mrl_state_eq(what, "ring flags", i, want->ring[i].flags, got.ring[i].flags);
		mrl_state_eq(what, "ring slot", i, want->ring[i].slot, got.ring[i].slot);
		mrl_state_eq(what, "ring offset", i, want->ring[i].offset, got.ring[i].offset);
	}
}

/*
 * The same after calls that succeeded, and in sum changed nothing.  They may have
 * dropped mappings, and KVM marks a page of a log dirty when a read maps it.
 */
static inline void mrl_world_restored(struct mrl_world *w, const char *what)
{
	struct mrl_state got = {};
	uint64_t more;
	int i;

	mrl_guest_read(&w->g, 0, MRL_ALL_PAGES, got.val);
	mrl_get_logs(w, &got);
	for (i = 0; i < MRL_NR_IDS; i++) {
		TEST_ASSERT(!(w->want.log[i] & ~got.log[i]),
			    "%s: log of slot %d: wanted 0x%lx, got 0x%lx", what, i,
			    w->want.log[i], got.log[i]);
		more = got.log[i] & ~w->want.log[i];
		if (more)
			kvm_vm_clear_dirty_log(w->g.vm, w->as_id << 16 | i, &more, 0,
					       w->slot_pages[i]);
	}
	mrl_world_check(w, what);
}

static inline void mrl_world_freeze(struct mrl_world *w)
{
	mrl_state_get(w, &w->want);
}

static inline void mrl_check_counts(struct mrl_counts got, bool counted,
				    const char *what)
{
	TEST_ASSERT(got.calls == counted && got.failed == counted,
		    "%s: wanted %u more calls that failed, got %lu calls, %lu failed",
		    what, counted, got.calls, got.failed);
	TEST_ASSERT(!got.grace_periods && !got.entries && !got.zapped,
		    "%s: wanted no work, got %lu grace periods, %lu entries, %lu pages zapped",
		    what, got.grace_periods, got.entries, got.zapped);
}

static inline void mrl_check_poison(const char *what)
{
	const uint8_t *p = (const uint8_t *)MRL_RESULT_BASE;
	uint32_t i;

	for (i = 0; i < 2 * MRL_PAGE_SIZE; i++)
		TEST_ASSERT(p[i] == MRL_POISON,
			    "%s: result byte %u: wanted 0x%x, got 0x%x", what, i,
			    MRL_POISON, p[i]);
}

static inline void mrl_check_errno(const char *what, int r, int err, int want)
{
	TEST_ASSERT(r == -1 && err == want, "%s: wanted errno %d (%s), got %d, errno %d (%s)",
		    what, want, strerror(want), r, r ? err : 0, strerror(r ? err : 0));
}

static inline void mrl_check_error_index(const char *what, uint32_t nent,
					 uint32_t got, uint32_t want)
{
	uint32_t bit = got == nent ? MRL_NENT : got < 31 ? MRL_ENTRY(got) : 0;

	TEST_ASSERT(want & bit,
		    "%s: error_index: wanted one of 0x%x (%u is nent, else a bit per entry), got %u",
		    what, want, nent, got);
}

static inline void mrl_check_header(const char *what,
				    const struct kvm_userspace_memory_region_list *want,
				    const struct kvm_userspace_memory_region_list *got)
{
	TEST_ASSERT(got->nent == want->nent && got->flags == want->flags &&
		    got->as_id == want->as_id && got->reserved[0] == want->reserved[0] &&
		    got->reserved[1] == want->reserved[1],
		    "%s: header but error_index: wanted %u, 0x%x, %u, 0x%llx, 0x%llx, got %u, 0x%x, %u, 0x%llx, 0x%llx",
		    what, want->nent, want->flags, want->as_id, want->reserved[0],
		    want->reserved[1], got->nent, got->flags, got->as_id, got->reserved[0],
		    got->reserved[1]);
}

/*
 * Make a call that has to fail with @want and error_index one of @index, and that
 * has to leave everything as it was.  The calls of mrl_world_check() that follow
 * succeed, i.e. no lock is left behind.
 */
static inline void mrl_expect_fail(struct mrl_world *w, const char *what,
				   struct kvm_userspace_memory_region_list *list,
				   int want, uint32_t index)
{
	struct mrl_counts before = mrl_counts_get(w->g.vm);
	struct kvm_userspace_memory_region_list head = *list;
	int r, err;

	list->error_index = 0xbad;
	r = __vm_ioctl(w->g.vm, KVM_SET_USER_MEMORY_REGION_LIST, list);
	err = errno;

	mrl_check_counts(mrl_counts_since(w->g.vm, before), true, what);
	mrl_check_errno(what, r, err, want);
	mrl_check_error_index(what, head.nent, list->error_index, index);
	mrl_check_header(what, &head, list);
	mrl_check_poison(what);
	mrl_world_check(w, what);
	w->nr_failed++;
}

/* The standard layout.  Pages of the window; host memory has the same numbers. */
#define MRL_PLAIN	1	/* 0-15 */
#define MRL_LOGGED	2	/* 16-31, logs; 16, 17, 20 and 31 are dirty */
#define MRL_READONLY	3	/* 32-39, read-only; 40-47 is free */
#define MRL_LOGGED_2	4	/* 48-55, logs; 48 is dirty */
#define MRL_FREE_ID	6

#define MRL_DIRTY_PAGES	(BIT_ULL(16) | BIT_ULL(17) | BIT_ULL(20) | BIT_ULL(31) | BIT_ULL(48))

#define MRL_E(id, fl, gpa_page, pages, hva_page)				\
	{									\
		.slot = (id),							\
		.flags = (fl),							\
		.guest_phys_addr = MRL_GPA(gpa_page),				\
		.memory_size = MRL_SIZE(pages),					\
		.userspace_addr = MRL_HVA(hva_page),				\
	}

/* KVM marks pages dirty when the guest reads them for the first time. */
static inline void mrl_world_dirty_log(struct mrl_world *w)
{
	uint64_t val[MRL_WIN_PAGES], log = GENMASK_ULL(15, 0);

	mrl_guest_read(&w->g, 0, MRL_ALL_PAGES, val);
	kvm_vm_clear_dirty_log(w->g.vm, MRL_LOGGED, &log, 0, 16);
	kvm_vm_clear_dirty_log(w->g.vm, MRL_LOGGED_2, &log, 0, 8);
	mrl_guest_write(&w->g, 0, MRL_DIRTY_PAGES, val);
}

/* The guest does not get at this address space.  All pages are dirty from the start. */
static inline void mrl_world_dirty_init_set(struct mrl_world *w)
{
	uint64_t clean = GENMASK_ULL(15, 0) & ~(MRL_DIRTY_PAGES >> 16);
	uint64_t clean_2 = GENMASK_ULL(7, 0) & ~(MRL_DIRTY_PAGES >> 48);

	kvm_vm_clear_dirty_log(w->g.vm, w->as_id << 16 | MRL_LOGGED, &clean, 0, 16);
	kvm_vm_clear_dirty_log(w->g.vm, w->as_id << 16 | MRL_LOGGED_2, &clean_2, 0, 8);
}

static inline void mrl_world_dirty_ring(struct mrl_world *w)
{
	uint64_t val[MRL_WIN_PAGES];
	uint32_t i, reset, used;

	w->ring = vcpu_map_dirty_ring(w->g.vcpu);
	mrl_guest_read(&w->g, 0, MRL_ALL_PAGES, val);
	for (i = 0; w->ring[i].flags & KVM_DIRTY_GFN_F_DIRTY; i++)
		w->ring[i].flags |= KVM_DIRTY_GFN_F_RESET;
	reset = kvm_vm_reset_dirty_ring(w->g.vm);
	TEST_ASSERT(reset == i, "Reset of the ring: wanted %u entries, got %u", i, reset);

	mrl_guest_write(&w->g, 0, MRL_DIRTY_PAGES, val);
	for (used = 0; w->ring[i + used].flags & KVM_DIRTY_GFN_F_DIRTY; used++)
		;
	TEST_ASSERT(used == __builtin_popcountll(MRL_DIRTY_PAGES) && i + used < MRL_RING_CMP,
		    "Ring: wanted %d entries below entry %u, got %u at entry %u",
		    __builtin_popcountll(MRL_DIRTY_PAGES), MRL_RING_CMP, used, i);
}

static const mrl_entry mrl_world_slots[] = {
	MRL_E(MRL_PLAIN, 0, 0, 16, 0),
	MRL_E(MRL_LOGGED, KVM_MEM_LOG_DIRTY_PAGES, 16, 16, 16),
	MRL_E(MRL_READONLY, KVM_MEM_READONLY, 32, 8, 32),
	MRL_E(MRL_LOGGED_2, KVM_MEM_LOG_DIRTY_PAGES, 48, 8, 48),
};

static inline void mrl_world_fill(struct mrl_world *w)
{
	struct mrl l = mrl_alloc(ARRAY_SIZE(mrl_world_slots));

	l.list->nent = l.max;
	l.list->as_id = w->as_id;
	memcpy(l.list->entries, mrl_world_slots, sizeof(mrl_world_slots));
	mrl_apply(w->g.vm, &l);
	mrl_free(&l);

	/* No page of a log may get dirty that is not dirty from the start. */
	w->writable = ~(GENMASK_ULL(31, 16) | GENMASK_ULL(55, 48)) | MRL_DIRTY_PAGES;
	w->slot_pages[MRL_LOGGED] = 16;
	w->slot_pages[MRL_LOGGED_2] = 8;
	if (w->g.vm->dirty_ring_size)
		mrl_world_dirty_ring(w);
	else if (w->as_id)
		mrl_world_dirty_init_set(w);
	else
		mrl_world_dirty_log(w);
	mrl_world_freeze(w);

	/* Or else a lost bit would not be missed. */
	if (!w->ring)
		TEST_ASSERT(w->want.log[MRL_LOGGED] == 0x8013 && w->want.log[MRL_LOGGED_2] == 1,
			    "Logs: wanted 0x8013 and 0x1, got 0x%lx and 0x%lx",
			    w->want.log[MRL_LOGGED], w->want.log[MRL_LOGGED_2]);
}

/* A VM in the standard layout, whose dirty logs are not cleared when read. */
static inline struct mrl_world mrl_world_create(void)
{
	struct mrl_world w = { .g = mrl_guest_create(MRL_WIN_PAGES) };

	vm_enable_cap(w.g.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	mrl_world_fill(&w);
	return w;
}

static inline void mrl_world_free(struct mrl_world *w)
{
	kvm_vm_free(w->g.vm);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_STATE_H */
