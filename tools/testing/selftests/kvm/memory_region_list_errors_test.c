// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: errors that depend on the layout.
 *
 * Proves, by one table, that each list that is well formed but does not fit the
 * standard layout (memory_region_list_state.h) fails with the documented errno and
 * names the entry at fault, that the final layout and nothing else decides about
 * overlaps, the rules for dirty_bitmap, the order of checks, and that after each
 * failure layout, contents, dirty logs, result buffers and the kernel's counters
 * are what they were: *all-or-nothing*, and of *never-lost* that dirty bits can't
 * be dropped by accident.  Then the same in address space 1, for internal slots, with
 * a dirty ring and its entries, and with guest_memfd and its contents.
 *
 * Does not prove: anything about malformed arguments (memory_region_list_test.c);
 * ENOMEM (memory_region_list_enomem_test.c).
 */
#include "memory_region_list_state.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define DISCARD		KVM_MEMORY_REGION_LIST_DISCARD_DIRTY
#define TEST_ONLY	KVM_MEMORY_REGION_LIST_TEST_ONLY
#define MAX_ENTRIES	4

struct errors_case {
	const char *what;
	int want;
	uint32_t index;
	uint32_t flags;
	mrl_entry e[MAX_ENTRIES];
};

/* In a delete, these must not be read. */
#define GARBAGE(page)					\
	.flags = UINT32_MAX,				\
	.guest_phys_addr = MRL_GPA(page) | 0x123,	\
	.userspace_addr = 0x8000000000000001ull,	\
	.guest_memfd_offset = 0x321,			\
	.guest_memfd = UINT32_MAX

#define DEL(id)			{ .slot = (id), GARBAGE(0) }
#define RESULT(addr, size)	.dirty_bitmap = (addr), .dirty_bitmap_size = (size)
#define DEL_RESULT(id, a, s)	{ .slot = (id), GARBAGE(0), RESULT(a, s) }
#define BAD			{ .slot = 7, .reserved = 1 }

static const mrl_entry unused_entry = { .slot = UINT32_MAX };

static const struct errors_case layout_cases[] = {
	{ "delete of a missing slot", ENOENT, MRL_ENTRY(0), 0, { DEL(MRL_FREE_ID) } },
	{ "deletes, the second is of a missing slot", ENOENT, MRL_ENTRY(1), DISCARD,
	  { DEL(MRL_LOGGED), DEL(MRL_FREE_ID), DEL(MRL_PLAIN) } },
	{ "id twice, create", EINVAL, MRL_ENTRY(1), 0,
	  { MRL_E(6, 0, 40, 1, 40), MRL_E(6, 0, 42, 1, 42) } },
	{ "id twice, equal entries", EINVAL, MRL_ENTRY(1), 0,
	  { MRL_E(6, 0, 40, 1, 40), MRL_E(6, 0, 40, 1, 40) } },
	{ "id twice, no-ops", EINVAL, MRL_ENTRY(1), 0,
	  { MRL_E(MRL_PLAIN, 0, 0, 16, 0), MRL_E(MRL_PLAIN, 0, 0, 16, 0) } },
	{ "id twice, delete", EINVAL, MRL_ENTRY(2), 0,
	  { DEL(MRL_PLAIN), DEL(MRL_READONLY), DEL(MRL_PLAIN) } },
	{ "id twice, delete and create", EINVAL, MRL_ENTRY(1), 0,
	  { DEL(MRL_PLAIN), MRL_E(MRL_PLAIN, 0, 40, 1, 40) } },
	{ "entries overlap", EEXIST, MRL_ENTRY(0) | MRL_ENTRY(1), 0,
	  { MRL_E(6, 0, 40, 2, 40), MRL_E(7, 0, 41, 2, 41) } },
	{ "entries overlap, not neighbours in the list", EEXIST, MRL_ENTRY(0) | MRL_ENTRY(2), 0,
	  { MRL_E(6, 0, 42, 2, 42), MRL_E(7, 0, 40, 2, 40), MRL_E(8, 0, 43, 1, 43) } },
	{ "one entry inside of another", EEXIST, MRL_ENTRY(0) | MRL_ENTRY(1), 0,
	  { MRL_E(6, 0, 40, 8, 40), MRL_E(7, 0, 43, 1, 43) } },
	{ "entries for the same range", EEXIST, MRL_ENTRY(0) | MRL_ENTRY(1), 0,
	  { MRL_E(6, 0, 40, 8, 40), MRL_E(7, 0, 40, 8, 40) } },
	{ "overlaps the end of a slot that stays", EEXIST, MRL_ENTRY(0), 0,
	  { MRL_E(6, 0, 39, 2, 39) } },
	{ "overlaps the start of a slot that stays", EEXIST, MRL_ENTRY(0), 0,
	  { MRL_E(6, 0, 47, 2, 47) } },
	{ "around a slot that stays", EEXIST, MRL_ENTRY(1), 0,
	  { MRL_E(6, 0, 40, 1, 40), MRL_E(7, 0, 41, 23, 41) } },
	{ "inside of a slot that stays", EEXIST, MRL_ENTRY(0), 0,
	  { MRL_E(6, 0, 5, 1, 5) } },
	{ "grows into a slot that stays", EEXIST, MRL_ENTRY(0), 0,
	  { MRL_E(MRL_PLAIN, 0, 0, 17, 0) } },
	{ "grows into the no-op entry of a slot", EEXIST, MRL_ENTRY(0) | MRL_ENTRY(1), 0,
	  { MRL_E(MRL_PLAIN, 0, 0, 17, 0), MRL_E(MRL_LOGGED, LOG, 16, 16, 16) } },
	{ "moves onto a slot that stays", EEXIST, MRL_ENTRY(1), 0,
	  { DEL(MRL_READONLY), MRL_E(MRL_PLAIN, 0, 15, 16, 15) } },
	{ "what is given up is not enough", EEXIST, MRL_ENTRY(0) | MRL_ENTRY(1), DISCARD,
	  { MRL_E(MRL_PLAIN, 0, 0, 22, 0), MRL_E(MRL_LOGGED, LOG, 20, 12, 20) } },
};

static const struct errors_case dirty_cases[] = {
	{ "bits dropped, delete", EINVAL, MRL_ENTRY(0), 0, { DEL(MRL_LOGGED) } },
	{ "bits dropped, shrink", EINVAL, MRL_ENTRY(0), 0, { MRL_E(MRL_LOGGED, LOG, 16, 15, 16) } },
	{ "bits dropped, from below", EINVAL, MRL_ENTRY(0), 0,
	  { MRL_E(MRL_LOGGED, LOG, 17, 15, 17) } },
	{ "bits dropped, logging off", EINVAL, MRL_ENTRY(0), 0,
	  { MRL_E(MRL_LOGGED, 0, 16, 16, 16) } },
	{ "bits dropped, other host memory", EINVAL, MRL_ENTRY(0), 0,
	  { MRL_E(MRL_LOGGED, LOG, 16, 16, 80) } },
	{ "bits dropped, move with its memory", EINVAL, MRL_ENTRY(0), 0,
	  { MRL_E(MRL_LOGGED_2, LOG, 40, 8, 48) } },
	{ "bits dropped, to a slot that does not log", EINVAL, MRL_ENTRY(1), 0,
	  { MRL_E(6, 0, 48, 8, 48), DEL(MRL_LOGGED_2) } },
	{ "bits dropped, one page of a split", EINVAL, MRL_ENTRY(1), 0,
	  { MRL_E(6, LOG, 25, 7, 25), MRL_E(MRL_LOGGED, LOG, 16, 8, 16) } },
	{ "bits dropped, without any dirty page", EINVAL, MRL_ENTRY(0), 0,
	  { MRL_E(MRL_LOGGED_2, LOG, 48, 2, 48) } },
	{ "bits dropped, of one of two", EINVAL, MRL_ENTRY(1), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW, 8), DEL(MRL_LOGGED_2) } },
	{ "result of a slot that does not log", EINVAL, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_PLAIN, MRL_RESULT_RW, 64) } },
	{ "result of a slot that starts to log", EINVAL, MRL_ENTRY(0), 0,
	  { { MRL_PLAIN, LOG, MRL_GPA(0), MRL_SIZE(16), MRL_HVA(0),
	      RESULT(MRL_RESULT_RW, 64) } } },
	{ "result of a slot that does not exist", EINVAL, MRL_ENTRY(0), 0,
	  { { 6, LOG, MRL_GPA(40), MRL_SIZE(1), MRL_HVA(40), RESULT(MRL_RESULT_RW, 64) } } },
	{ "result of a no-op that does not log", EINVAL, MRL_ENTRY(0), 0,
	  { { MRL_PLAIN, 0, MRL_GPA(0), MRL_SIZE(16), MRL_HVA(0),
	      RESULT(MRL_RESULT_RW, 64) } } },
	{ "size 0", EINVAL, MRL_ENTRY(0), 0, { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW, 0) } },
	{ "size of the pages, not rounded", EINVAL, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW, 2) } },
	{ "size one below", EINVAL, MRL_ENTRY(0), 0, { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW, 7) } },
	{ "size one below, nothing would be lost", EINVAL, MRL_ENTRY(0), DISCARD,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW, 7) } },
	{ "size of a no-op too small", EINVAL, MRL_ENTRY(0), 0,
	  { { MRL_LOGGED, LOG, MRL_GPA(16), MRL_SIZE(16), MRL_HVA(16),
	      RESULT(MRL_RESULT_RW, 7) } } },
	{ "size without a buffer, logged", EINVAL, MRL_ENTRY(0), DISCARD,
	  { DEL_RESULT(MRL_LOGGED, 0, 8) } },
	{ "size without a buffer, not logged", EINVAL, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_PLAIN, 0, 8) } },
	{ "size without a buffer, create", EINVAL, MRL_ENTRY(0), 0,
	  { { 6, 0, MRL_GPA(40), MRL_SIZE(1), MRL_HVA(40), RESULT(0, 1) } } },
	{ "buffers are the same", EINVAL, MRL_ENTRY(0) | MRL_ENTRY(1), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW, 8),
	    DEL_RESULT(MRL_LOGGED_2, MRL_RESULT_RW, 8) } },
	{ "buffers overlap", EINVAL, MRL_ENTRY(0) | MRL_ENTRY(2), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW + 7, 8), DEL(MRL_PLAIN),
	    DEL_RESULT(MRL_LOGGED_2, MRL_RESULT_RW, 8) } },
	{ "buffer, kernel", EFAULT, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, 0xffff888000000000ull, 8) } },
	{ "buffer, not canonical", EFAULT, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, BIT_ULL(62), 8) } },
};

/* Addresses of userspace, but without the access that only a real call asks for. */
static const struct errors_case access_cases[] = {
	{ "buffer, read-only", EFAULT, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RO, 8) } },
	{ "buffer, no access", EFAULT, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_NONE, 8) } },
	{ "buffer, last byte read-only", EFAULT, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RO - 7, 8) } },
	{ "buffer, near NULL", EFAULT, MRL_ENTRY(0), 0, { DEL_RESULT(MRL_LOGGED, 8, 8) } },
	{ "buffer, the second one", EFAULT, MRL_ENTRY(1), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW, 8), DEL_RESULT(MRL_LOGGED_2, MRL_RESULT_RO, 8),
	    DEL(MRL_PLAIN) } },
	{ "buffer of a no-op", EFAULT, MRL_ENTRY(0), 0,
	  { { MRL_LOGGED, LOG, MRL_GPA(16), MRL_SIZE(16), MRL_HVA(16),
	      RESULT(MRL_RESULT_RO, 8) } } },
};

/* Wherever two things are wrong, the order of the checks decides. */
static const struct errors_case order_cases[] = {
	{ "EINVAL ahead of ENOENT", EINVAL, MRL_ENTRY(0), 0, { BAD, DEL(MRL_FREE_ID) } },
	{ "ENOENT ahead of EINVAL", ENOENT, MRL_ENTRY(0), 0, { DEL(MRL_FREE_ID), BAD } },
	{ "ENOENT ahead of ENOENT", ENOENT, MRL_ENTRY(1), 0,
	  { DEL(MRL_PLAIN), DEL(7), DEL(MRL_FREE_ID) } },
	{ "too small ahead of EINVAL", EINVAL, MRL_ENTRY(1), 0,
	  { MRL_E(6, 0, 40, 1, 40), DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW, 7), BAD } },
	{ "entry ahead of id twice", EINVAL, MRL_ENTRY(2), 0,
	  { MRL_E(6, 0, 40, 1, 40), MRL_E(6, 0, 41, 1, 41), BAD } },
	{ "entry ahead of overlap", ENOENT, MRL_ENTRY(2), 0,
	  { MRL_E(6, 0, 40, 2, 40), MRL_E(7, 0, 41, 2, 41), DEL(8) } },
	{ "entry ahead of dropped bits", ENOENT, MRL_ENTRY(1), 0, { DEL(MRL_LOGGED), DEL(8) } },
	{ "unsupported flag ahead of overlap", EINVAL, MRL_ENTRY(1), 0,
	  { MRL_E(6, 0, 16, 2, 16), MRL_E(7, BIT(30), 44, 2, 44) } },
};

static struct mrl case_list(struct mrl_world *w, const struct errors_case *c, uint32_t flags)
{
	struct mrl l = mrl_alloc(MAX_ENTRIES);
	int i;

	/* DEL() and BAD have no size, an entry that is not there has no id. */
	for (i = 0; i < MAX_ENTRIES; i++) {
		if (memcmp(&c->e[i], &(mrl_entry) {}, sizeof(c->e[i])))
			l.list->entries[l.list->nent++] = c->e[i];
	}
	for (; i > l.list->nent; i--)
		l.list->entries[i - 1] = unused_entry;

	l.list->as_id = w->as_id;
	l.list->flags = c->flags | flags;
	return l;
}

static void check_case(struct mrl_world *w, const struct errors_case *c, uint32_t flags)
{
	struct mrl l = case_list(w, c, flags);

	mrl_expect_fail(w, c->what, l.list, c->want, c->index);
	mrl_free(&l);
}

/* As a test, all of them fail alike. */
static void check_cases(struct mrl_world *w, const struct errors_case *c, int nr)
{
	for (; nr--; c++) {
		check_case(w, c, 0);
		check_case(w, c, TEST_ONLY);
	}
}

/* As a test, these succeed, and neither write to a buffer nor change anything. */
static void check_legal_cases(struct mrl_world *w, const struct errors_case *c, int nr)
{
	struct mrl_counts counts;
	struct mrl l;
	int r;

	for (; nr--; c++) {
		l = case_list(w, c, TEST_ONLY);
		counts = mrl_counts_get(w->g.vm);
		r = __mrl_apply(w->g.vm, &l);
		TEST_ASSERT(!r && l.list->error_index == l.list->nent,
			    "%s, as a test: wanted 0, error_index %u, got %d, errno %d, error_index %u",
			    c->what, l.list->nent, r, errno, l.list->error_index);
		counts = mrl_counts_since(w->g.vm, counts);
		TEST_ASSERT(!counts.grace_periods && !counts.zapped,
			    "%s, as a test: wanted no work, got %lu grace periods, %lu zapped",
			    c->what, counts.grace_periods, counts.zapped);
		mrl_check_poison(c->what);
		mrl_world_check(w, c->what);
		mrl_free(&l);
	}
}

static void check_tables(struct mrl_world *w)
{
	int i;

	check_cases(w, layout_cases, ARRAY_SIZE(layout_cases));
	check_cases(w, dirty_cases, ARRAY_SIZE(dirty_cases));
	check_cases(w, order_cases, ARRAY_SIZE(order_cases));
	for (i = 0; i < ARRAY_SIZE(access_cases); i++)
		check_case(w, &access_cases[i], 0);
	check_legal_cases(w, access_cases, ARRAY_SIZE(access_cases));
	pr_info("Address space %u: %u calls failed and changed nothing\n", w->as_id, w->nr_failed);
}

static void test_tables(void)
{
	struct mrl_world w = mrl_world_create();

	check_tables(&w);
	mrl_world_free(&w);
}

/*
 * The guest finds what address space 0 has, which no call may touch either.  What is
 * in address space 1 is told by probes and logs.
 */
static void test_address_space_1(void)
{
	struct mrl_world w = { .g = mrl_guest_create(MRL_WIN_PAGES), .as_id = 1 };
	struct mrl l = mrl_alloc(1);

	if (vm_check_cap(w.g.vm, KVM_CAP_MULTI_ADDRESS_SPACE) < 2) {
		pr_info("Left out: address space 1, not supported\n");
		goto out;
	}
	vm_enable_cap(w.g.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	mrl_set(&l, MRL_PLAIN, 0, MRL_GPA(0), MRL_SIZE(MRL_WIN_PAGES), (void *)MRL_HVA(128));
	mrl_apply(w.g.vm, &l);
	mrl_world_fill(&w);
	check_tables(&w);
out:
	mrl_free(&l);
	mrl_world_free(&w);
}

/* Slots of KVM's own: VMX has them unless guests may be in real mode, SVM only with AVIC. */
static void test_internal_slots(void)
{
	struct mrl_world w = mrl_world_create();
	const struct errors_case cases[] = {
		{ "internal slot: on it", EEXIST, MRL_ENTRY(1), 0,
		  { MRL_E(6, 0, 41, 1, 41), MRL_E(7, 0, 58, 1, 58) } },
		{ "internal slot: around it", EEXIST, MRL_ENTRY(0), 0, { MRL_E(7, 0, 56, 8, 56) } },
		{ "internal slot: grow", EEXIST, MRL_ENTRY(0), 0, { MRL_E(4, LOG, 48, 11, 48) } },
	};
	bool wanted = host_cpu_is_intel && !get_kvm_intel_param_bool("unrestricted_guest");
	int r;

	vm_ioctl(w.g.vm, KVM_SET_TSS_ADDR, (void *)(unsigned long)MRL_GPA(58));
	r = __vm_set_user_memory_region(w.g.vm, 7, 0, MRL_GPA(58), MRL_SIZE(1),
					(void *)MRL_HVA(58));
	if (r && errno == EEXIST) {
		mrl_world_freeze(&w);
		check_cases(&w, cases, ARRAY_SIZE(cases));
	} else {
		TEST_ASSERT(!r && !wanted, "On the TSS: wanted %s, got %d, errno %d",
			    wanted ? "EEXIST" : "0", r, errno);
		pr_info("Left out: internal slots, KVM_SET_TSS_ADDR makes none here\n");
	}
	mrl_world_free(&w);
}

/*
 * A name in a ring never changes its meaning: a logging id keeps its base and memory, or
 * goes.  Bits are not dropped by accident, either.
 */
static const struct errors_case ring_cases[] = {
	{ "ring: move", EOPNOTSUPP, MRL_ENTRY(0), DISCARD, { MRL_E(4, LOG, 40, 8, 48) } },
	{ "ring: move and logging off", EOPNOTSUPP, MRL_ENTRY(0), DISCARD,
	  { MRL_E(MRL_LOGGED_2, 0, 40, 8, 48) } },
	{ "ring: shrink from below", EOPNOTSUPP, MRL_ENTRY(0), DISCARD,
	  { MRL_E(MRL_LOGGED, LOG, 17, 15, 17) } },
	{ "ring: grow downwards", EOPNOTSUPP, MRL_ENTRY(0), DISCARD,
	  { MRL_E(MRL_LOGGED_2, LOG, 47, 9, 47) } },
	{ "ring: other host memory", EOPNOTSUPP, MRL_ENTRY(1), DISCARD,
	  { DEL(MRL_PLAIN), MRL_E(MRL_LOGGED, LOG, 16, 16, 80) } },
	{ "ring: ids trade places", EOPNOTSUPP, MRL_ENTRY(0), DISCARD,
	  { MRL_E(MRL_LOGGED, LOG, 48, 8, 48), MRL_E(MRL_LOGGED_2, LOG, 16, 16, 16) } },
	{ "ring: malformed ahead of it", EINVAL, MRL_ENTRY(0), DISCARD,
	  { BAD, MRL_E(MRL_LOGGED_2, LOG, 40, 8, 48) } },
	{ "ring: ahead of malformed", EOPNOTSUPP, MRL_ENTRY(0), DISCARD,
	  { MRL_E(MRL_LOGGED_2, LOG, 40, 8, 48), BAD } },
	{ "ring: bits dropped, delete", EINVAL, MRL_ENTRY(0), 0, { DEL(MRL_LOGGED) } },
	{ "ring: bits dropped", EINVAL, MRL_ENTRY(0), 0, { MRL_E(MRL_LOGGED, LOG, 16, 8, 16) } },
	{ "ring: size one below", EINVAL, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW, 7) } },
};

/* That is all that is refused for the sake of a ring. */
static const struct errors_case ring_legal[] = {
	{ "ring: shrink", 0, MRL_NENT, DISCARD, { MRL_E(MRL_LOGGED, LOG, 16, 8, 16) } },
	{ "ring: grow", 0, MRL_NENT, 0, { MRL_E(MRL_LOGGED_2, LOG, 48, 9, 48) } },
	{ "ring: delete", 0, MRL_NENT, 0, { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RW, 8) } },
	{ "ring: logging off", 0, MRL_NENT, DISCARD, { MRL_E(MRL_LOGGED, 0, 16, 16, 16) } },
	{ "ring: split", 0, MRL_NENT, 0,
	  { MRL_E(MRL_LOGGED, LOG, 16, 8, 16), MRL_E(6, LOG, 24, 8, 24) } },
	{ "ring: rename", 0, MRL_NENT, 0, { DEL(MRL_LOGGED), MRL_E(6, LOG, 16, 16, 16) } },
};

static void test_dirty_ring(void)
{
	struct mrl_world w = { .g.vm = vm_create(1) };
	struct mrl l = mrl_alloc(2);

	if (!vm_check_cap(w.g.vm, KVM_CAP_DIRTY_LOG_RING)) {
		pr_info("Left out: dirty ring, not supported\n");
		goto out;
	}
	/* Ahead of the vCPU. */
	vm_enable_dirty_ring(w.g.vm, MRL_RING_SIZE);
	w.g = mrl_guest_init(w.g.vm, MRL_WIN_PAGES);
	mrl_world_fill(&w);
	check_cases(&w, ring_cases, ARRAY_SIZE(ring_cases));
	check_legal_cases(&w, ring_legal, ARRAY_SIZE(ring_legal));
	pr_info("Dirty ring: %u calls failed and changed nothing\n", w.nr_failed);
	/* Slots may also start to log, next to others that stay. */
	mrl_set(&l, MRL_PLAIN, LOG, MRL_GPA(0), MRL_SIZE(8), (void *)MRL_HVA(0));
	mrl_set(&l, MRL_LOGGED, LOG, MRL_GPA(16), MRL_SIZE(16), (void *)MRL_HVA(16));
	mrl_apply(w.g.vm, &l);
out:
	mrl_free(&l);
	mrl_world_free(&w);
}

static mrl_entry gmem_entry(uint32_t id, uint64_t page, uint32_t fd, uint64_t offset)
{
	mrl_entry e = MRL_E(id, KVM_MEM_GUEST_MEMFD, page, 4, page);

	e.guest_memfd = fd;
	e.guest_memfd_offset = offset;
	return e;
}

static void check_gmem(struct mrl_world *w, const char *what, int want, uint32_t index,
		       mrl_entry a, mrl_entry b)
{
	struct errors_case c = { what, want, index, 0, { a, b } };

	check_cases(w, &c, 1);
}

/* By entry, from what is malformed to what can't be done. */
static void check_gmem_cases(struct mrl_world *w, mrl_entry good)
{
	const mrl_entry none = {}, del = DEL(6);
	uint32_t fd = good.guest_memfd;
	mrl_entry e;

	check_gmem(w, "gmem: bad fd", EBADF, MRL_ENTRY(0), gmem_entry(7, 44, -1, 0), none);
	check_gmem(w, "gmem: not gmem", EINVAL, MRL_ENTRY(0),
		   gmem_entry(7, 44, w->g.vm->fd, 0), none);
	check_gmem(w, "gmem: offset unaligned", EINVAL, MRL_ENTRY(0),
		   gmem_entry(7, 44, fd, 1), none);
	check_gmem(w, "gmem: offset wraps", EINVAL, MRL_ENTRY(0),
		   gmem_entry(7, 44, fd, -MRL_SIZE(1)), none);
	check_gmem(w, "gmem: beyond the end", EINVAL, MRL_ENTRY(0),
		   gmem_entry(7, 44, fd, MRL_SIZE(13)), none);
	e = gmem_entry(7, 44, fd, MRL_SIZE(8));
	e.flags |= LOG;
	check_gmem(w, "gmem: logging", EINVAL, MRL_ENTRY(0), e, none);
	check_gmem(w, "gmem: bound file range", EOPNOTSUPP, MRL_ENTRY(0),
		   gmem_entry(7, 44, fd, MRL_SIZE(2)), none);
	check_gmem(w, "gmem: file range given up", EOPNOTSUPP, MRL_ENTRY(1), del,
		   gmem_entry(7, 44, fd, 0));
	check_gmem(w, "gmem: gfn range given up", EOPNOTSUPP, MRL_ENTRY(1), del,
		   gmem_entry(7, 40, fd, MRL_SIZE(8)));
	check_gmem(w, "gmem: rebind", EOPNOTSUPP, MRL_ENTRY(0),
		   gmem_entry(6, 40, fd, MRL_SIZE(8)), none);
	check_gmem(w, "gmem: move", EOPNOTSUPP, MRL_ENTRY(0), gmem_entry(6, 56, fd, 0), none);
	e = good;
	e.memory_size -= MRL_PAGE_SIZE;
	check_gmem(w, "gmem: shrink", EOPNOTSUPP, MRL_ENTRY(0), e, none);
	e = good;
	e.flags = 0;
	check_gmem(w, "gmem: binding off", EOPNOTSUPP, MRL_ENTRY(0), e, none);
	check_gmem(w, "gmem: binding on", EOPNOTSUPP, MRL_ENTRY(0),
		   gmem_entry(MRL_PLAIN, 0, fd, MRL_SIZE(8)), none);
	check_gmem(w, "gmem: rebind, bad fd", EBADF, MRL_ENTRY(0), gmem_entry(6, 40, -1, 0), none);
}

/* Pages 42 and 43 are private, i.e. the guest writes to guest_memfd and not to the host's. */
static void gmem_world_fill(struct mrl_world *w, mrl_entry gmem)
{
	const uint64_t private = BIT_ULL(42) | BIT_ULL(43);
	uint64_t val[MRL_WIN_PAGES] = { [42] = 0x67420000, [43] = 0x67430000 }, got;
	struct mrl l = mrl_alloc(1);
	int i;

	l.list->nent = 1;
	l.list->entries[0] = gmem;
	mrl_apply(w->g.vm, &l);
	mrl_free(&l);

	/* Ahead of any access: KVM takes what was MMIO, and then private, for a shared page. */
	vm_mem_set_private(w->g.vm, MRL_GPA(42), MRL_SIZE(2));
	mrl_world_fill(w);
	mrl_guest_write(&w->g, 0, private, val);
	mrl_world_freeze(w);
	for (i = 40; i < 44; i++) {
		got = *(uint64_t *)MRL_HVA(i);
		TEST_ASSERT(got == MRL_TAG(i), "Host page %d: wanted 0x%llx, got 0x%lx", i,
			    MRL_TAG(i), got);
		if (private & BIT_ULL(i))
			TEST_ASSERT(w->want.val[i] == val[i],
				    "Private page %d: wanted 0x%lx, got 0x%lx", i, val[i],
				    w->want.val[i]);
	}
}

static void test_guest_memfd(void)
{
	struct vm_shape shape = VM_SHAPE_DEFAULT;
	struct mrl l = mrl_alloc(1);
	struct mrl_world w = {};
	int fd;

	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM))) {
		pr_info("Left out: guest_memfd, KVM_X86_SW_PROTECTED_VM is not supported\n");
		goto out;
	}
	shape.type = KVM_X86_SW_PROTECTED_VM;
	w.g = mrl_guest_init(__vm_create(shape, 1, 0), MRL_WIN_PAGES);
	vm_enable_cap(w.g.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	fd = vm_create_guest_memfd(w.g.vm, MRL_SIZE(16), 0);
	gmem_world_fill(&w, gmem_entry(6, 40, fd, 0));
	check_gmem_cases(&w, gmem_entry(6, 40, fd, 0));
	pr_info("guest_memfd: %u calls failed and changed nothing\n", w.nr_failed);

	/* A no-op and a delete are legal. */
	l.list->nent = 1;
	l.list->entries[0] = gmem_entry(6, 40, fd, 0);
	mrl_apply(w.g.vm, &l);
	mrl_world_check(&w, "gmem: no-op");
	l.list->entries[0] = (mrl_entry)DEL(6);
	mrl_apply(w.g.vm, &l);
	mrl_world_free(&w);
	close(fd);
out:
	mrl_free(&l);
}

int main(int argc, char *argv[])
{
	mrl_require();

	mrl_mem_alloc(MRL_MEM_PAGES);
	mrl_result_alloc();
	test_tables();
	test_address_space_1();
	test_internal_slots();
	test_dirty_ring();
	test_guest_memfd();
	return 0;
}
