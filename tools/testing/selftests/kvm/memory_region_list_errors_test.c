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
 * be dropped by accident.  Then the same for internal slots, with a dirty ring and
 * with guest_memfd.
 *
 * Does not prove: anything about malformed arguments (memory_region_list_test.c);
 * that memory is not leaked; ENOMEM elsewhere than without the TDP MMU.
 */
#include "memory_region_list_state.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define DISCARD		KVM_MEMORY_REGION_LIST_DISCARD_DIRTY
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
	{ "buffer, read-only", EFAULT, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RO, 8) } },
	{ "buffer, no access", EFAULT, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_NONE, 8) } },
	{ "buffer, last byte read-only", EFAULT, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, MRL_RESULT_RO - 7, 8) } },
	{ "buffer, near NULL", EFAULT, MRL_ENTRY(0), 0, { DEL_RESULT(MRL_LOGGED, 8, 8) } },
	{ "buffer, kernel", EFAULT, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, 0xffff888000000000ull, 8) } },
	{ "buffer, not canonical", EFAULT, MRL_ENTRY(0), 0,
	  { DEL_RESULT(MRL_LOGGED, BIT_ULL(62), 8) } },
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

static void check_case(struct mrl_world *w, const struct errors_case *c, uint32_t flags)
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
	mrl_expect_fail(w, c->what, l.list, c->want, c->index);
	mrl_free(&l);
}

/*
 * As a test, all of them fail alike, except for the access to buffers, which are
 * faulted in only if they are needed.
 */
static void check_cases(struct mrl_world *w, const struct errors_case *c, int nr)
{
	for (; nr--; c++) {
		check_case(w, c, 0);
		if (c->want != EFAULT)
			check_case(w, c, KVM_MEMORY_REGION_LIST_TEST_ONLY);
	}
}

/* Slots of KVM's own, if this processor needs any. */
static void test_internal_slots(void)
{
	struct mrl_world w = mrl_world_create();
	const struct errors_case cases[] = {
		{ "on an internal slot", EEXIST, MRL_ENTRY(1), 0,
		  { MRL_E(6, 0, 41, 1, 41), MRL_E(7, 0, 58, 1, 58) } },
		{ "around an internal slot", EEXIST, MRL_ENTRY(0), 0, { MRL_E(7, 0, 56, 8, 56) } },
		{ "grows into an internal slot", EEXIST, MRL_ENTRY(0), 0,
		  { MRL_E(MRL_LOGGED_2, LOG, 48, 11, 48) } },
	};
	int r;

	vm_ioctl(w.g.vm, KVM_SET_TSS_ADDR, (void *)(unsigned long)MRL_GPA(58));
	r = __vm_set_user_memory_region(w.g.vm, 7, 0, MRL_GPA(58), MRL_SIZE(1),
					(void *)MRL_HVA(58));
	if (r && errno == EEXIST) {
		mrl_world_freeze(&w);
		check_cases(&w, cases, ARRAY_SIZE(cases));
	} else {
		pr_info("Left out: internal slots, KVM_SET_TSS_ADDR makes none here\n");
	}
	mrl_world_free(&w);
}

/* A name in a ring never changes its meaning, nor do a page's bits get lost. */
static void test_dirty_ring(void)
{
	static const struct errors_case cases[] = {
		{ "ring: shrink", EOPNOTSUPP, MRL_ENTRY(0), DISCARD,
		  { MRL_E(MRL_LOGGED, LOG, 16, 8, 16) } },
		{ "ring: grow", EOPNOTSUPP, MRL_ENTRY(0), DISCARD,
		  { MRL_E(MRL_LOGGED_2, LOG, 48, 9, 48) } },
		{ "ring: move", EOPNOTSUPP, MRL_ENTRY(0), DISCARD,
		  { MRL_E(MRL_LOGGED_2, LOG, 40, 8, 48) } },
		{ "ring: other host memory", EOPNOTSUPP, MRL_ENTRY(1), DISCARD,
		  { DEL(MRL_PLAIN), MRL_E(MRL_LOGGED, LOG, 16, 16, 80) } },
		{ "ring: delete", EOPNOTSUPP, MRL_ENTRY(0), DISCARD, { DEL(MRL_LOGGED) } },
		{ "ring: logging off", EOPNOTSUPP, MRL_ENTRY(0), DISCARD,
		  { MRL_E(MRL_LOGGED, 0, 16, 16, 16) } },
		{ "ring: malformed is told first", EINVAL, MRL_ENTRY(0), DISCARD,
		  { BAD, DEL(MRL_LOGGED) } },
	};
	struct mrl_world w = { .g.vm = vm_create_barebones() };
	struct mrl l = mrl_alloc(2);

	if (!vm_check_cap(w.g.vm, KVM_CAP_DIRTY_LOG_RING)) {
		pr_info("Left out: dirty ring, not supported\n");
		goto out;
	}
	vm_enable_dirty_ring(w.g.vm, 65536);
	/* No vCPU: what counts is the layout.  Creating slots that log is no problem. */
	mrl_world_fill(&w);
	check_cases(&w, cases, ARRAY_SIZE(cases));

	/* Nor is it for slots to start to log, next to others that stay. */
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

	check_case(w, &c, 0);
}

static void test_guest_memfd(void)
{
	const mrl_entry none = {}, del = DEL(6);
	struct mrl_world w = {};
	mrl_entry e, good;
	struct mrl l;
	int fd;

	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM))) {
		pr_info("Left out: guest_memfd, KVM_X86_SW_PROTECTED_VM is not supported\n");
		return;
	}
	w.g.vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	fd = vm_create_guest_memfd(w.g.vm, MRL_SIZE(16), 0);
	good = gmem_entry(6, 40, fd, 0);

	l = mrl_alloc(1);
	l.list->nent = 1;
	l.list->entries[0] = good;
	mrl_apply(w.g.vm, &l);
	mrl_world_freeze(&w);

	/* By entry, from what is malformed to what can't be done. */
	check_gmem(&w, "gmem: bad fd", EBADF, MRL_ENTRY(0), gmem_entry(7, 44, -1, 0), none);
	check_gmem(&w, "gmem: not gmem", EINVAL, MRL_ENTRY(0),
		   gmem_entry(7, 44, w.g.vm->fd, 0), none);
	check_gmem(&w, "gmem: offset unaligned", EINVAL, MRL_ENTRY(0),
		   gmem_entry(7, 44, fd, 1), none);
	check_gmem(&w, "gmem: offset wraps", EINVAL, MRL_ENTRY(0),
		   gmem_entry(7, 44, fd, -MRL_SIZE(1)), none);
	check_gmem(&w, "gmem: beyond the end", EINVAL, MRL_ENTRY(0),
		   gmem_entry(7, 44, fd, MRL_SIZE(13)), none);
	e = gmem_entry(7, 44, fd, MRL_SIZE(8));
	e.flags |= LOG;
	check_gmem(&w, "gmem: logging", EINVAL, MRL_ENTRY(0), e, none);
	check_gmem(&w, "gmem: bound file range", EOPNOTSUPP, MRL_ENTRY(0),
		   gmem_entry(7, 44, fd, MRL_SIZE(2)), none);
	check_gmem(&w, "gmem: file range given up", EOPNOTSUPP, MRL_ENTRY(1), del,
		   gmem_entry(7, 44, fd, 0));
	check_gmem(&w, "gmem: gfn range given up", EOPNOTSUPP, MRL_ENTRY(1), del,
		   gmem_entry(7, 40, fd, MRL_SIZE(8)));
	check_gmem(&w, "gmem: rebind", EOPNOTSUPP, MRL_ENTRY(0),
		   gmem_entry(6, 40, fd, MRL_SIZE(8)), none);
	check_gmem(&w, "gmem: move", EOPNOTSUPP, MRL_ENTRY(0), gmem_entry(6, 50, fd, 0), none);
	e = good;
	e.memory_size -= MRL_PAGE_SIZE;
	check_gmem(&w, "gmem: shrink", EOPNOTSUPP, MRL_ENTRY(0), e, none);
	e = good;
	e.flags = 0;
	check_gmem(&w, "gmem: binding off", EOPNOTSUPP, MRL_ENTRY(0), e, none);

	mrl_apply(w.g.vm, &l);
	l.list->entries[0] = del;
	mrl_apply(w.g.vm, &l);
	mrl_free(&l);
	mrl_world_free(&w);
	close(fd);
}

/*
 * Without the TDP MMU, the reverse map of a slot as large as slots get takes 16 GiB.
 * Where memory is smaller than that, KVM is told so without trying for long.
 */
static void test_enomem(void)
{
	struct mrl_world w = mrl_world_create();
	struct mrl l = mrl_alloc(3);
	uint64_t pages = sysconf(_SC_PHYS_PAGES);
	int r;

	/* The large one is prepared last, KVM goes by address: there is much to undo. */
	mrl_set(&l, MRL_FREE_ID, LOG, MRL_GPA(40), MRL_SIZE(4), (void *)MRL_HVA(40));
	mrl_set(&l, 7, 0, BIT_ULL(40), MRL_SIZE(BIT_ULL(31) - 1), (void *)MRL_HVA(0));
	mrl_set(&l, MRL_PLAIN, LOG, MRL_GPA(0), MRL_SIZE(8), (void *)MRL_HVA(64));

	if (pages >= BIT_ULL(22) || (kvm_is_tdp_enabled() && get_kvm_param_bool("tdp_mmu"))) {
		pr_info("Left out: ENOMEM, no allocation here is sure to fail\n");
	} else {
		l.list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY;
		r = __mrl_apply(w.g.vm, &l);
		l.list->flags = 0;
		if (r)
			pr_info("Left out: ENOMEM, guest memory can't be large enough\n");
		else
			mrl_expect_fail(&w, "ENOMEM", l.list, ENOMEM, MRL_ENTRY(1));
	}
	mrl_free(&l);
	mrl_world_free(&w);
}

int main(int argc, char *argv[])
{
	struct mrl_world w;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));

	mrl_mem_alloc(MRL_MEM_PAGES);
	mrl_result_alloc();
	w = mrl_world_create();
	check_cases(&w, layout_cases, ARRAY_SIZE(layout_cases));
	check_cases(&w, dirty_cases, ARRAY_SIZE(dirty_cases));
	check_cases(&w, order_cases, ARRAY_SIZE(order_cases));
	pr_info("%u calls failed and changed nothing\n", w.nr_failed);
	mrl_world_free(&w);

	test_internal_slots();
	test_dirty_ring();
	test_guest_memfd();
	test_enomem();
	return 0;
}
