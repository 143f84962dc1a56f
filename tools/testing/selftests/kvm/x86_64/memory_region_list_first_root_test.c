// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST while a VM allocates its first shadow root.
 *
 * The first L2 of a VM makes KVM allocate rmaps and arrays for write tracking, for the
 * memslots that are active, and tracks writes from then on.  Other vCPUs, in L1, take
 * page faults all the time, as their pages are logged: with memslots that a call has
 * replaced, and that never get these arrays.  Many VMs, one such race each.  Shows
 *
 * F4: such a page fault finds that nothing is tracked, and doesn't look into arrays that
 * are not there.
 *
 * *no-hole*: neither L1 nor L2 sees one, and all pages have what was written last.
 *
 * Not shown: walks of rmaps of such memslots, by notifiers that age pages and by
 * guest_memfd, which can't be held where they have found one.  The race is rarely met
 * unless KVM_PROVE_MEMSLOT_LIST delays page faults: kvm.memslot_delay_slot=2000.
 */
#include <getopt.h>

#include "memory_region_list.h"
#include "memory_region_list_nested_slots.h"

#define NR_CALLS_BEFORE	3

/* The last one runs L2, the others write. */
#define NR_VCPUS	4
#define NESTED		(NR_VCPUS - 1)
/* Few: they are mapped, and all that page faults are about is that they can't be written. */
#define PAGES_EACH	4

/* The guest's: L2 may be entered. */
static uint32_t enter_l2;

static void park_if_told(uint32_t *park)
{
	if (READ_ONCE(shared.park) == *park)
		return;
	*park = READ_ONCE(shared.park);
	GUEST_SYNC(0);
}

static void write_pages(uint32_t me, uint32_t nr)
{
	uint32_t park = 0, page, i;

	for (i = 0;; i++) {
		park_if_told(&park);
		page = i % PAGES_EACH * nr + me;
		use_page(l1_mem(page), page, "L1", false);
		WRITE_ONCE(shared.rounds[me], shared.rounds[me] + 1);
	}
}

static void run_l2(uint32_t me)
{
	struct svm_test_data *svm = shared.svm[me];
	struct l2_regs regs = { .rdi = me };
	uint32_t park = 0;

	l1_setup(svm, me);
	for (;;) {
		park_if_told(&park);
		if (READ_ONCE(enter_l2))
			l1_run_l2(svm, &regs, me);
	}
}

static void guest_main(uint32_t me, uint32_t nr)
{
	if (me == NESTED)
		run_l2(me);
	else
		write_pages(me, nr);
}

/* The vCPUs are parked.  Of all that they wrote. */
static void check_memory(void)
{
	uint64_t got;
	uint32_t page;

	for (page = 0; page < NPAGES; page++) {
		got = *(uint64_t *)page_hva(page);
		TEST_ASSERT(!is_data(page) || got == sh->value[page],
			    "no-hole: page %u: wanted 0x%lx, got 0x%lx", page, sh->value[page],
			    got);
	}
}

/* Calls, and rounds of L1, from when L2 may be entered until it has made a round. */
static uint64_t nr_calls, nr_rounds;

static void first_root(void)
{
	struct shape next = { .mem_flags = KVM_MEM_LOG_DIRTY_PAGES };
	uint32_t calls, *enter;
	uint64_t rounds = 0;

	create_nested_vm(NR_VCPUS, guest_main);
	enter = addr_gva2hva(vm, (vm_vaddr_t)&enter_l2);
	mrl_vcpus_go();
	for (calls = 0; !READ_ONCE(sh->rounds[NESTED]); calls++) {
		if (calls == NR_CALLS_BEFORE) {
			rounds = mrl_vcpus_sum(sh->rounds);
			WRITE_ONCE(*enter, 1);
		}
		next.mem_cuts = below(4);
		transaction(next);
		/* Write-protects pages. */
		harvest();
	}
	nr_calls += calls - NR_CALLS_BEFORE;
	nr_rounds += mrl_vcpus_sum(sh->rounds) - READ_ONCE(sh->rounds[NESTED]) - rounds;
	mrl_vcpus_park();
	check_memory();
	destroy_vm();
}

int main(int argc, char *argv[])
{
	uint32_t i, vms = 24, seed = 1;
	int opt;

	while ((opt = getopt(argc, argv, "n:s:")) != -1) {
		if (opt == 'n')
			vms = atoi_positive("VMs", optarg);
		else if (opt == 's')
			seed = atoi_non_negative("Seed", optarg);
		else
			TEST_FAIL("options: -n VMs -s seed");
	}
	mrl_require();
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_NPT));

	rng = new_guest_random_state(seed);
	alloc_memory();
	for (i = 0; i < vms; i++)
		first_root();
	printf("first entry of L2: %u VMs, meanwhile %lu calls, %lu rounds of L1; seed %u\n", vms,
	       nr_calls, nr_rounds, seed);
	TEST_ASSERT(nr_rounds, "first entry of L2: wanted rounds of L1 meanwhile, got 0");
	return 0;
}
