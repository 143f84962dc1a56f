// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: the address space of SMM.
 *
 * Proves that a call changes the address space in its header and no other: an SMI
 * handler reads and writes a page through address space 1 while the guest outside
 * of SMM sees the slots of address space 0 at the same address.  Create, split,
 * re-back, read-only, delete, each in one call and one grace period.  And that a VM
 * that died, of an SMI without SMRAM, gets EIO and no answer in error_index.
 *
 * Does not prove: anything about vCPUs that are in SMM during the call.
 */
#include "memory_region_list_smm.h"

/* @host: the host page that SMM is to see, or -1; @ro: it must not write there. */
static void check(struct mrl_guest *g, uint8_t *handler, uint64_t page, int host, bool ro)
{
	uint64_t val[MRL_WIN_PAGES], exits, normal = MRL_TAG(128 + page);
	uint32_t want = host < 0 ? MRL_HOLE : (uint32_t)MRL_TAG(host), got, wrote;
	int smm_exits, want_exits = host < 0 ? 2 : ro;
	uint32_t *copy = host < 0 ? NULL : (uint32_t *)(MRL_HVA(host) + WRITE_OFFSET);

	if (copy)
		*copy = 0xbad;
	got = mrl_smm_access(g, handler, page, &smm_exits);
	TEST_ASSERT(got == want && smm_exits == want_exits,
		    "SMM, page %lu: wanted 0x%x, %d exits, got 0x%x, %d exits", page, want,
		    want_exits, got, smm_exits);
	wrote = copy ? *copy : MRL_HOLE;
	want = ro ? 0xbad : want;
	TEST_ASSERT(wrote == want, "SMM wrote to page %lu: wanted 0x%x, got 0x%x", page, want,
		    wrote);

	exits = mrl_guest_read(g, 0, BIT_ULL(page), val);
	TEST_ASSERT(!exits && val[page] == normal,
		    "Outside of SMM, page %lu: wanted 0x%lx, no exit, got 0x%lx, 0x%lx", page,
		    normal, val[page], exits);
}

static void apply(struct mrl_guest *g, struct mrl *l, const char *what)
{
	struct mrl_counts counts = mrl_counts_get(g->vm);

	l->list->as_id = 1;
	mrl_apply(g->vm, l);
	counts = mrl_counts_since(g->vm, counts);
	TEST_ASSERT(counts.grace_periods == 1, "%s: wanted 1 grace period, got %lu", what,
		    counts.grace_periods);
	mrl_reset(l);
}

static void test_smm(struct mrl_guest *g, uint8_t *handler)
{
	struct mrl l = mrl_alloc(3);

	/* Outside of SMM.  The same ids are used in both address spaces. */
	mrl_set(&l, 2, 0, MRL_GPA(0), MRL_SIZE(4), (void *)MRL_HVA(128));
	mrl_apply(g->vm, &l);
	mrl_reset(&l);
	check(g, handler, 0, -1, false);

	mrl_set(&l, 2, 0, MRL_GPA(0), MRL_SIZE(4), (void *)MRL_HVA(0));
	apply(g, &l, "create");
	check(g, handler, 0, 0, false);
	check(g, handler, 3, 3, false);

	mrl_set(&l, 2, 0, MRL_GPA(0), MRL_SIZE(2), (void *)MRL_HVA(0));
	mrl_set(&l, 3, KVM_MEM_READONLY, MRL_GPA(2), MRL_SIZE(2), (void *)MRL_HVA(2));
	apply(g, &l, "split and read-only");
	check(g, handler, 0, 0, false);
	check(g, handler, 3, 3, true);

	mrl_set(&l, 3, 0, MRL_GPA(0), MRL_SIZE(2), (void *)MRL_HVA(64));
	mrl_set(&l, 2, 0, MRL_GPA(2), MRL_SIZE(2), (void *)MRL_HVA(32));
	apply(g, &l, "swap and re-back");
	check(g, handler, 0, 64, false);
	check(g, handler, 3, 33, false);

	mrl_delete(&l, 3);
	apply(g, &l, "delete");
	check(g, handler, 0, -1, false);
	check(g, handler, 3, 33, false);

	/* And the other way round. */
	mrl_set(&l, 2, 0, MRL_GPA(0), MRL_SIZE(3), (void *)MRL_HVA(128));
	mrl_set(&l, 3, 0, MRL_GPA(3), MRL_SIZE(1), (void *)MRL_HVA(131));
	mrl_apply(g->vm, &l);
	check(g, handler, 0, -1, false);
	check(g, handler, 3, 33, false);
	mrl_free(&l);
}

static void expect_eio(struct kvm_vm *vm, struct kvm_userspace_memory_region_list *list,
		       const char *what)
{
	int r = __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION_LIST, list);

	TEST_ASSERT(r == -1 && errno == EIO, "%s in a dead VM: wanted errno %d, got %d, errno %d",
		    what, EIO, r, errno);
	if (list)
		TEST_ASSERT(list->error_index == 0xbad,
			    "%s in a dead VM: error_index: wanted 0xbad untouched, got 0x%x", what,
			    list->error_index);
}

/* KVM kills a VM whose state it can't save when an SMI comes. */
static void test_dead_vm(void)
{
	struct mrl_guest g = mrl_guest_create(MRL_WIN_PAGES);
	struct mrl l = mrl_alloc(1);
	int r;

	mrl_guest_read(&g, 0, 0, NULL);
	mrl_smm_inject(g.vcpu);
	r = __vcpu_run(g.vcpu);
	TEST_ASSERT(r == -1 && errno == EIO,
		    "SMI without SMRAM: wanted a dead VM and errno %d, got %d, errno %d", EIO, r,
		    errno);

	l.list->error_index = 0xbad;
	expect_eio(g.vm, l.list, "nent 0");
	mrl_set(&l, 2, 0, MRL_GPA(0), MRL_SIZE(4), (void *)MRL_HVA(0));
	expect_eio(g.vm, l.list, "A legal list");
	l.list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY;
	expect_eio(g.vm, l.list, "A test");
	l.list->flags = BIT(31);
	expect_eio(g.vm, l.list, "An unknown flag");
	expect_eio(g.vm, NULL, "No list");
	pr_info("A dead VM gets EIO\n");

	/* kvm_vm_free() deletes slots, which fails, too. */
	kvm_vm_release(g.vm);
	mrl_free(&l);
}

int main(int argc, char *argv[])
{
	struct mrl_guest g;

	mrl_require();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_SMM));
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_MULTI_ADDRESS_SPACE) > 1);

	mrl_mem_alloc(MRL_MEM_PAGES);
	g = mrl_guest_create(MRL_WIN_PAGES);
	/* The guest is in its loop before the first SMI. */
	mrl_guest_read(&g, 0, 0, NULL);
	test_smm(&g, mrl_smm_setup(&g));
	pr_info("SMM sees its own layout, and nobody else does\n");

	kvm_vm_free(g.vm);
	test_dead_vm();
	return 0;
}
