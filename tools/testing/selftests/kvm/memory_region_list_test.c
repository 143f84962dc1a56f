// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: the shape of the argument.
 *
 * Proves that what is unknown or out of range is refused: flags and reserved fields
 * are walked bit by bit, so are slot and as_id above their range, and addresses and
 * sizes below a page; above it, ranges are tried at the limits.  That checks come in
 * the order header, array, entries; that error_index says where; and that the
 * capability is the same all life long of a VM.  Each call that fails is followed by
 * a comparison of all observable state (memory_region_list_state.h):
 * *all-or-nothing*.
 *
 * Does not prove: what errors follow from the existing layout
 * (memory_region_list_errors_test.c), what a successful call does
 * (memory_region_list_layout_test.c), who calls (memory_region_list_caller_test.c).
 */
#include <stddef.h>

#include "memory_region_list_state.h"

#define LIST_OFFSET(field)	offsetof(struct kvm_userspace_memory_region_list, field)
#define ENTRY_OFFSET(field)	offsetof(mrl_entry, field)

/* The same for all callers, i.e. without padding and pointers. */
kvm_static_assert(sizeof(struct kvm_userspace_memory_region_list) == 32);
kvm_static_assert(LIST_OFFSET(nent) == 0);
kvm_static_assert(LIST_OFFSET(flags) == 4);
kvm_static_assert(LIST_OFFSET(as_id) == 8);
kvm_static_assert(LIST_OFFSET(error_index) == 12);
kvm_static_assert(LIST_OFFSET(reserved) == 16);
kvm_static_assert(LIST_OFFSET(entries) == 32);
kvm_static_assert(sizeof(mrl_entry) == 64);
kvm_static_assert(ENTRY_OFFSET(slot) == 0);
kvm_static_assert(ENTRY_OFFSET(flags) == 4);
kvm_static_assert(ENTRY_OFFSET(guest_phys_addr) == 8);
kvm_static_assert(ENTRY_OFFSET(memory_size) == 16);
kvm_static_assert(ENTRY_OFFSET(userspace_addr) == 24);
kvm_static_assert(ENTRY_OFFSET(guest_memfd_offset) == 32);
kvm_static_assert(ENTRY_OFFSET(guest_memfd) == 40);
kvm_static_assert(ENTRY_OFFSET(dirty_bitmap_size) == 44);
kvm_static_assert(ENTRY_OFFSET(dirty_bitmap) == 48);
kvm_static_assert(ENTRY_OFFSET(reserved) == 56);
kvm_static_assert(KVM_MEMORY_REGION_LIST_TEST_ONLY == 1);
kvm_static_assert(KVM_MEMORY_REGION_LIST_DISCARD_DIRTY == 2);
kvm_static_assert(KVM_SET_USER_MEMORY_REGION_LIST == 0xc020aedf);

#define LIST_FLAGS	(KVM_MEMORY_REGION_LIST_TEST_ONLY | \
			 KVM_MEMORY_REGION_LIST_DISCARD_DIRTY)

/* A list of one entry that would create a slot in the free part of the window. */
static struct mrl good_list(struct mrl_world *w)
{
	struct mrl l = mrl_alloc(4);

	l.list->as_id = w->as_id;
	mrl_set(&l, MRL_FREE_ID, 0, MRL_GPA(40), MRL_SIZE(4), (void *)MRL_HVA(40));
	return l;
}

static void expect_success(struct mrl_world *w, struct mrl *l, const char *what)
{
	l->list->error_index = 0xbad;
	mrl_apply(w->g.vm, l);
	TEST_ASSERT(l->list->error_index == l->list->nent,
		    "%s: error_index after success: wanted nent %u, got %u", what,
		    l->list->nent, l->list->error_index);
}

static void test_capability(struct mrl_world *w)
{
	int cap = vm_check_cap(w->g.vm, KVM_CAP_USER_MEMORY_REGION_LIST);
	int slots = vm_check_cap(w->g.vm, KVM_CAP_NR_MEMSLOTS);

	TEST_ASSERT(cap >= 512, "Capability: wanted at least 512, got %d", cap);
#ifdef __x86_64__
	TEST_ASSERT(cap == slots, "Capability: wanted KVM_CAP_NR_MEMSLOTS %d, got %d",
		    slots, cap);
#else
	pr_info("Capability %d, KVM_CAP_NR_MEMSLOTS %d\n", cap, slots);
#endif
}

static void expect_cap(struct kvm_vm *vm, int want, const char *when)
{
	int got = vm_check_cap(vm, KVM_CAP_USER_MEMORY_REGION_LIST);

	TEST_ASSERT(got == want, "Capability %s: wanted %d, got %d", when, want, got);
}

/* A caller may ask once, whenever it likes. */
static void test_capability_is_constant(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	int want = vm_check_cap(vm, KVM_CAP_USER_MEMORY_REGION_LIST);
	struct mrl l = mrl_alloc(1);

	if (vm_check_cap(vm, KVM_CAP_DIRTY_LOG_RING)) {
		vm_enable_dirty_ring(vm, MRL_RING_SIZE);
		expect_cap(vm, want, "with a dirty ring");
	}
	__vm_vcpu_add(vm, 0);
	expect_cap(vm, want, "with a vCPU");

	mrl_set(&l, 1, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(0), MRL_SIZE(4), (void *)MRL_HVA(0));
	mrl_apply(vm, &l);
	expect_cap(vm, want, "with a slot of a list");
	vm_set_user_memory_region(vm, 2, 0, MRL_GPA(8), MRL_SIZE(4), (void *)MRL_HVA(8));
	expect_cap(vm, want, "with another slot");
	vm_set_user_memory_region(vm, 1, 0, 0, 0, NULL);
	vm_set_user_memory_region(vm, 2, 0, 0, 0, NULL);
	expect_cap(vm, want, "without slots again");
	mrl_free(&l);
	kvm_vm_free(vm);
}

static void test_header_flags(struct mrl_world *w)
{
	struct mrl l = good_list(w);
	int i, nent;

	for (nent = 0; nent < 2; nent++) {
		l.list->nent = nent;
		for (i = 0; i < 32; i++) {
			l.list->flags = BIT(i);
			if (l.list->flags & ~LIST_FLAGS) {
				mrl_expect_fail(w, "header flag", l.list, EINVAL, MRL_NENT);
			} else {
				/* Discarding nothing is legal, and done only as a test. */
				l.list->flags |= KVM_MEMORY_REGION_LIST_TEST_ONLY;
				expect_success(w, &l, "known header flag");
			}
		}
	}
	l.list->flags = LIST_FLAGS | BIT(2);
	mrl_expect_fail(w, "header flags, known and unknown", l.list, EINVAL, MRL_NENT);
	mrl_free(&l);
}

static void test_header_reserved(struct mrl_world *w)
{
	struct mrl l = good_list(w);
	int i, field;

	for (field = 0; field < 2; field++) {
		for (i = 0; i < 64; i++) {
			l.list->reserved[field] = BIT_ULL(i);
			mrl_expect_fail(w, "header reserved", l.list, EINVAL, MRL_NENT);
		}
		l.list->reserved[field] = 0;
	}
	mrl_free(&l);
}

/* The 2022 RFC wrote out of bounds for an address space id out of range. */
static void test_header_as_id(struct mrl_world *w)
{
	uint32_t nr = vm_check_cap(w->g.vm, KVM_CAP_MULTI_ADDRESS_SPACE) ?: 1;
	struct mrl l = good_list(w);
	int i;

	for (i = 0; i < 32; i++) {
		l.list->as_id = BIT(i);
		if (l.list->as_id >= nr)
			mrl_expect_fail(w, "as_id", l.list, EINVAL, MRL_NENT);
	}
	l.list->as_id = nr;
	mrl_expect_fail(w, "as_id, first out of range", l.list, EINVAL, MRL_NENT);
	l.list->as_id = UINT32_MAX;
	mrl_expect_fail(w, "as_id, last", l.list, EINVAL, MRL_NENT);

	/* An address space in the high half of the id, as in the old ioctls. */
	l.list->as_id = 0;
	l.list->entries[0].slot = 1 << 16 | MRL_FREE_ID;
	mrl_expect_fail(w, "as_id in slot", l.list, EINVAL, MRL_ENTRY(0));
	mrl_free(&l);
}

static void expect_nent_errno(struct mrl_world *w,
			      struct kvm_userspace_memory_region_list *list,
			      uint32_t nent, int want)
{
	int r;

	list->nent = nent;
	r = __vm_ioctl(w->g.vm, KVM_SET_USER_MEMORY_REGION_LIST, list);
	mrl_check_errno("nent without an array", r, errno, want);
	TEST_ASSERT(list->error_index == nent, "error_index: wanted %u, got %u",
		    nent, list->error_index);
}

/* Nothing but the header may be read, or the array would be EFAULT. */
static void test_header_nent(struct mrl_world *w)
{
	struct kvm_userspace_memory_region_list *list =
		(void *)(MRL_RESULT_RO - sizeof(*list));
	uint32_t cap = vm_check_cap(w->g.vm, KVM_CAP_USER_MEMORY_REGION_LIST);
	struct mrl_counts before = mrl_counts_get(w->g.vm);
	struct mrl l = { .list = list };

	mprotect((void *)MRL_RESULT_RO, MRL_PAGE_SIZE, PROT_NONE);

	memset(list, 0, sizeof(*list));
	expect_success(w, &l, "nent 0");
	list->flags = LIST_FLAGS;
	expect_success(w, &l, "nent 0, all flags");
	before = mrl_counts_since(w->g.vm, before);
	TEST_ASSERT(!before.grace_periods && !before.failed,
		    "nent 0: wanted no grace period, no failure, got %lu, %lu",
		    before.grace_periods, before.failed);

	list->flags = 0;
	expect_nent_errno(w, list, cap + 1, E2BIG);
	expect_nent_errno(w, list, cap, EFAULT);

	memset(list, MRL_POISON, sizeof(*list));
	mprotect((void *)MRL_RESULT_RO, MRL_PAGE_SIZE, PROT_READ);
	mrl_world_check(w, "nent");

	l = good_list(w);
	l.list->nent = UINT32_MAX;
	mrl_expect_fail(w, "nent, last", l.list, E2BIG, MRL_NENT);
	l.list->nent = BIT(31) | 1;
	mrl_expect_fail(w, "nent, high bit", l.list, E2BIG, MRL_NENT);
	mrl_free(&l);
}

/* Neither counted nor answered: there is nowhere to write error_index to. */
static void expect_header_fault(struct mrl_world *w, const char *what, uint64_t addr)
{
	struct mrl_counts before = mrl_counts_get(w->g.vm);
	int r = __vm_ioctl(w->g.vm, KVM_SET_USER_MEMORY_REGION_LIST,
			   (struct kvm_userspace_memory_region_list *)addr);
	int err = errno;
	struct mrl_counts got = mrl_counts_since(w->g.vm, before);

	mrl_check_errno(what, r, err, EFAULT);
	TEST_ASSERT(!got.calls && !got.failed && !got.grace_periods && !got.entries,
		    "%s: wanted nothing counted, got %lu calls, %lu failed, %lu grace periods, %lu entries",
		    what, got.calls, got.failed, got.grace_periods, got.entries);
	mrl_world_check(w, what);
}

static void test_header_access(struct mrl_world *w)
{
	struct mrl l = good_list(w);
	void *ro = (void *)MRL_RESULT_RO;

	/* A legal call, but for its page being read-only. */
	mprotect(ro, MRL_PAGE_SIZE, PROT_READ | PROT_WRITE);
	memcpy(ro, l.list, mrl_size(1));
	mprotect(ro, MRL_PAGE_SIZE, PROT_READ);
	expect_header_fault(w, "header, read-only", MRL_RESULT_RO);
	mprotect(ro, MRL_PAGE_SIZE, PROT_READ | PROT_WRITE);
	memset(ro, MRL_POISON, mrl_size(1));
	mprotect(ro, MRL_PAGE_SIZE, PROT_READ);

	expect_header_fault(w, "header, no access", MRL_RESULT_NONE);
	expect_header_fault(w, "header, end without access", MRL_RESULT_NONE - 16);
	expect_header_fault(w, "header, NULL", 0);
	expect_header_fault(w, "header, kernel", 0xffff888000000000ull);
	expect_header_fault(w, "header, not canonical", BIT_ULL(62));
	mrl_free(&l);
}

static void test_array_access(struct mrl_world *w)
{
	struct kvm_userspace_memory_region_list *list;
	struct mrl l = good_list(w);
	/* What of the array is accessible: nothing, half an entry, one of two. */
	static const uint32_t bytes[] = { 0, 32, 64, 96 };
	uint8_t *end;
	int i;

	end = mmap(NULL, 2 * MRL_PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + MRL_PAGE_SIZE;
	mprotect(end, MRL_PAGE_SIZE, PROT_NONE);

	for (i = 0; i < ARRAY_SIZE(bytes); i++) {
		list = (void *)(end - sizeof(*list) - bytes[i]);
		l.list->nent = 2;
		memcpy(list, l.list, sizeof(*list) + bytes[i]);
		mrl_expect_fail(w, "array, no access", list, EFAULT, MRL_NENT);

		/* The array is copied before anything in it is checked. */
		memset(list->entries, 0xff, bytes[i]);
		mrl_expect_fail(w, "array, no access, and malformed", list, EFAULT,
				MRL_NENT);

		/* The header is checked before the array is copied. */
		list->reserved[1] = 1;
		mrl_expect_fail(w, "reserved before array", list, EINVAL, MRL_NENT);
		list->reserved[1] = 0;
		list->nent = UINT32_MAX;
		mrl_expect_fail(w, "nent before array", list, E2BIG, MRL_NENT);
	}
	munmap(end - MRL_PAGE_SIZE, 2 * MRL_PAGE_SIZE);
	mrl_free(&l);
}

static void test_entry_flags(struct mrl_world *w)
{
	uint32_t known = KVM_MEM_LOG_DIRTY_PAGES;
	struct mrl l = good_list(w);
	int i;

	if (kvm_has_cap(KVM_CAP_READONLY_MEM))
		known |= KVM_MEM_READONLY;

	/* KVM_MEM_GUEST_MEMFD is for other types of VMs. */
	for (i = 0; i < 32; i++) {
		l.list->flags = 0;
		l.list->entries[0].flags = BIT(i);
		if (!(BIT(i) & known)) {
			mrl_expect_fail(w, "entry flag", l.list, EINVAL, MRL_ENTRY(0));
			continue;
		}
		l.list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY;
		expect_success(w, &l, "known entry flag");
	}
	mrl_free(&l);
}

static void test_entry_bits(struct mrl_world *w)
{
	struct mrl l = good_list(w);
	mrl_entry *e = &l.list->entries[0], good = *e;
	int i;

	for (i = 0; i < 64; i++) {
		e->reserved = BIT_ULL(i);
		mrl_expect_fail(w, "entry reserved", l.list, EINVAL, MRL_ENTRY(0));
		*e = (mrl_entry) { .slot = MRL_PLAIN, .reserved = BIT_ULL(i) };
		mrl_expect_fail(w, "reserved of a delete", l.list, EINVAL, MRL_ENTRY(0));
		*e = good;
	}

	/* Below a page no bit of an address or a size is legal. */
	for (i = 0; i < 12; i++) {
		e->guest_phys_addr |= BIT_ULL(i);
		mrl_expect_fail(w, "guest_phys_addr, unaligned", l.list, EINVAL, MRL_ENTRY(0));
		*e = good;
		e->memory_size |= BIT_ULL(i);
		mrl_expect_fail(w, "memory_size, unaligned", l.list, EINVAL, MRL_ENTRY(0));
		e->memory_size = BIT_ULL(i);
		mrl_expect_fail(w, "memory_size, part of a page", l.list, EINVAL, MRL_ENTRY(0));
		*e = good;
		e->userspace_addr |= BIT_ULL(i);
		mrl_expect_fail(w, "userspace_addr, unaligned", l.list, EINVAL, MRL_ENTRY(0));
		*e = good;
	}
	mrl_free(&l);
}

/* The 2022 RFC kept slots_lock when an id was out of range. */
static void test_entry_ids(struct mrl_world *w)
{
	uint32_t nr = vm_check_cap(w->g.vm, KVM_CAP_NR_MEMSLOTS);
	const uint32_t bad[] = { nr, nr + 1, nr + 2, 0x7fff, 0x8000, 0xffff, UINT32_MAX };
	struct mrl l = good_list(w);
	mrl_entry *e = &l.list->entries[0];
	int i;

	for (i = 0; i < 32; i++) {
		e->slot = BIT(i) | 5;
		if (e->slot >= nr)
			mrl_expect_fail(w, "slot bit", l.list, EINVAL, MRL_ENTRY(0));
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		e->slot = bad[i];
		mrl_expect_fail(w, "slot out of range", l.list, EINVAL, MRL_ENTRY(0));
		mrl_reset(&l);
		mrl_delete(&l, bad[i]);
		mrl_expect_fail(w, "slot out of range, delete", l.list, EINVAL, MRL_ENTRY(0));
		mrl_free(&l);
		l = good_list(w);
		e = &l.list->entries[0];
	}
	e->slot = nr - 1;
	l.list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY;
	expect_success(w, &l, "last slot");
	mrl_free(&l);
}

static void test_entry_ranges(struct mrl_world *w)
{
	static const struct {
		const char *what;
		uint64_t gpa, size, hva;
	} t[] = {
		{ "gpa wraps", -MRL_SIZE(1), MRL_SIZE(2), MRL_HVA(0) },
		{ "gpa ends at 2^64", -MRL_SIZE(1), MRL_SIZE(1), MRL_HVA(0) },
		{ "gpa beyond any MMU", BIT_ULL(60), MRL_SIZE(1), MRL_HVA(0) },
		{ "end beyond any MMU", BIT_ULL(52) - MRL_SIZE(1), MRL_SIZE(2), MRL_HVA(0) },
		{ "hva wraps", MRL_GPA(40), MRL_SIZE(2), -MRL_SIZE(1) },
		{ "hva in the kernel", MRL_GPA(40), MRL_SIZE(1), 0xffff888000000000ull },
		{ "hva not canonical", MRL_GPA(40), MRL_SIZE(1), BIT_ULL(62) },
		{ "hva ends in the kernel", MRL_GPA(40), BIT_ULL(42), BIT_ULL(56) - MRL_SIZE(1) },
		{ "more pages than fit a slot", BIT_ULL(32), MRL_SIZE(BIT_ULL(31)), MRL_HVA(0) },
		{ "2^32 + 1 pages", BIT_ULL(32), MRL_SIZE(BIT_ULL(32) + 1), MRL_HVA(0) },
		{ "all of memory", 0, -MRL_SIZE(1), 0 },
	};
	struct mrl l = good_list(w);
	mrl_entry *e = &l.list->entries[0];
	int i;

	for (i = 0; i < ARRAY_SIZE(t); i++) {
		e->guest_phys_addr = t[i].gpa;
		e->memory_size = t[i].size;
		e->userspace_addr = t[i].hva;
		mrl_expect_fail(w, t[i].what, l.list, EINVAL, MRL_ENTRY(0));
	}
	mrl_free(&l);
}

int main(int argc, char *argv[])
{
	struct mrl_world w;

	mrl_require();

	mrl_mem_alloc(MRL_MEM_PAGES);
	mrl_result_alloc();
	w = mrl_world_create();

	test_capability(&w);
	test_capability_is_constant();
	test_header_flags(&w);
	test_header_reserved(&w);
	test_header_as_id(&w);
	test_header_nent(&w);
	test_header_access(&w);
	test_array_access(&w);
	test_entry_flags(&w);
	test_entry_bits(&w);
	test_entry_ids(&w);
	test_entry_ranges(&w);
	pr_info("%u calls failed and changed nothing\n", w.nr_failed);

	mrl_world_free(&w);
	return 0;
}
