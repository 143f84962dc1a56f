// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: which changes are refused for the sake of a dirty ring.
 *
 * Shows, by all combinations of what an entry can change of a slot - logging, base, size,
 * memory, READONLY - that EOPNOTSUPP comes exactly where a logging id would change base
 * or memory, and that all others succeed: as a test and for real, in both address
 * spaces.  As a control, without a dirty ring all of them succeed.  Then what needs two
 * entries: ids that trade places are refused, a slot may always go and come back with
 * another id.  Last, a slot that logged before there was a ring: it is changed like others,
 * and a kernel that verifies itself (PROVE=1) has nothing to complain of.
 *
 * Not shown: what rings have to hold (memory_region_list_ring_test.c); that a call which
 * fails changes nothing (memory_region_list_errors_test.c).
 */
#include "memory_region_list_guest.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define RO		KVM_MEM_READONLY
#define TEST_ONLY	KVM_MEMORY_REGION_LIST_TEST_ONLY
#define DISCARD		KVM_MEMORY_REGION_LIST_DISCARD_DIRTY
#define RING_SIZE	(1024 * sizeof(struct kvm_dirty_gfn))
#define ID		5
#define OTHER_ID	6
#define FIRST		64	/* Page, of the guest and of the host. */
#define PAGES		32
#define STEP		8

static struct {
	uint64_t refused, legal;
} counted;

static struct mrl list;

/* @base, @size, @hva: the difference in pages. */
struct change {
	uint32_t was, flags;
	int base, size, hva;
};

static void set(uint32_t id, uint32_t flags, int first, int pages, int hva)
{
	mrl_set(&list, id, flags, MRL_GPA(first), MRL_SIZE(pages), (void *)MRL_HVA(hva));
}

static int apply(struct kvm_vm *vm, uint32_t as_id, uint32_t flags)
{
	list.list->as_id = as_id;
	list.list->flags = DISCARD | flags;
	return __mrl_apply(vm, &list) ? errno : 0;
}

static void delete(struct kvm_vm *vm, uint32_t as_id, uint32_t id)
{
	int got;

	mrl_reset(&list);
	mrl_delete(&list, id);
	got = apply(vm, as_id, 0);
	TEST_ASSERT(!got || got == ENOENT, "Delete: wanted 0 or ENOENT, got errno %d", got);
}

/* As it was, by way of no slot at all. */
static void restore(struct kvm_vm *vm, uint32_t as_id, uint32_t flags)
{
	delete(vm, as_id, ID);
	delete(vm, as_id, OTHER_ID);
	mrl_reset(&list);
	set(ID, flags, FIRST, PAGES, FIRST);
	TEST_ASSERT(!apply(vm, as_id, 0), "Create: wanted 0, got errno %d", errno);
	mrl_reset(&list);
}

static void check_change(struct kvm_vm *vm, uint32_t as_id, bool ring, struct change c)
{
	int want = ring && c.was & LOG && (c.base || c.hva) ? EOPNOTSUPP : 0, got[2];

	restore(vm, as_id, c.was);
	set(ID, c.flags, FIRST + c.base, PAGES + c.size, FIRST + c.hva);
	got[0] = apply(vm, as_id, TEST_ONLY);
	got[1] = apply(vm, as_id, 0);
	TEST_ASSERT(got[0] == want && got[1] == want,
		    "ring %d, address space %u: flags %u to %u, base %+d, size %+d, memory %+d: wanted errno %d, got %d as a test, %d for real",
		    ring, as_id, c.was, c.flags, c.base, c.size, c.hva, want, got[0], got[1]);
	if (want)
		counted.refused++;
	else
		counted.legal++;
}

static void check_changes(struct kvm_vm *vm, uint32_t as_id, bool ring)
{
	static const uint32_t flags[] = { 0, LOG, RO, LOG | RO };
	struct change c;
	int was, i;

	for (was = 0; was < ARRAY_SIZE(flags); was++) {
		for (i = 0; i < ARRAY_SIZE(flags) * 27; i++) {
			c.was = flags[was];
			c.flags = flags[i / 27];
			c.base = (i % 3 - 1) * STEP;
			c.size = (i / 3 % 3 - 1) * STEP;
			c.hva = (i / 9 % 3 - 1) * STEP;
			check_change(vm, as_id, ring, c);
		}
	}
}

/* Two entries: the second id gets what the first one had. */
static void check_two(struct kvm_vm *vm, uint32_t as_id, bool ring, uint32_t was)
{
	int want = ring && was & LOG ? EOPNOTSUPP : 0, got;

	restore(vm, as_id, was);
	set(OTHER_ID, 0, FIRST + PAGES, PAGES, FIRST + PAGES);
	got = apply(vm, as_id, 0);
	TEST_ASSERT(!got, "Second slot: wanted 0, got errno %d", got);

	mrl_reset(&list);
	set(OTHER_ID, was, FIRST, PAGES, FIRST);
	set(ID, 0, FIRST + PAGES, PAGES, FIRST + PAGES);
	got = apply(vm, as_id, 0);
	TEST_ASSERT(got == want, "ring %d, flags %u, ids trade places: wanted errno %d, got %d",
		    ring, was, want, got);

	restore(vm, as_id, was);
	mrl_delete(&list, ID);
	set(OTHER_ID, was, FIRST, PAGES, FIRST);
	got = apply(vm, as_id, 0);
	TEST_ASSERT(!got, "ring %d, flags %u, rename: wanted 0, got errno %d", ring, was, got);

	mrl_reset(&list);
	set(ID, was, FIRST, PAGES, FIRST);
	mrl_delete(&list, OTHER_ID);
	got = apply(vm, as_id, 0);
	TEST_ASSERT(!got, "ring %d, flags %u, rename back: wanted 0, got errno %d", ring, was, got);
}

static void test(bool ring)
{
	struct kvm_vm *vm = vm_create_barebones();
	int as_id, nr = max(vm_check_cap(vm, KVM_CAP_MULTI_ADDRESS_SPACE), 1);

	if (ring)
		vm_enable_dirty_ring(vm, RING_SIZE);
	counted.refused = 0;
	counted.legal = 0;
	for (as_id = 0; as_id < nr; as_id++) {
		check_changes(vm, as_id, ring);
		check_two(vm, as_id, ring, LOG);
		check_two(vm, as_id, ring, 0);
	}
	pr_info("%s: %lu changes refused, %lu legal, in %d address spaces\n",
		ring ? "Dirty ring" : "No dirty ring", counted.refused, counted.legal, nr);
	kvm_vm_free(vm);
}

static void test_ring_after_log(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	int got;

	restore(vm, 0, LOG);
	vm_enable_dirty_ring(vm, RING_SIZE);
	set(ID, LOG, FIRST, PAGES, FIRST);
	set(OTHER_ID, 0, FIRST + PAGES, PAGES, FIRST + PAGES);
	got = apply(vm, 0, 0);
	TEST_ASSERT(!got, "Ring after log, unchanged: wanted 0, got errno %d", got);

	mrl_reset(&list);
	mrl_delete(&list, ID);
	set(OTHER_ID, LOG, FIRST, PAGES, FIRST);
	got = apply(vm, 0, 0);
	TEST_ASSERT(!got, "Ring after log, rename: wanted 0, got errno %d", got);
	mrl_reset(&list);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	mrl_require();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_DIRTY_LOG_RING) >= (int)RING_SIZE);

	mrl_mem_alloc(MRL_MEM_PAGES);
	list = mrl_alloc(2);
	test(false);
	test(true);
	test_ring_after_log();
	return 0;
}
