// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST takes the page that CR3 points to.
 *
 * A vCPU starts anew all the time, with its top level page table in a slot of its own
 * that is created, renamed and deleted.  With shadow paging KVM looks the page up
 * before it allocates a root for it, and again when it does.  Proves that
 *  - a run that starts after the slot was deleted shuts down, i.e. the guest's first
 *    fetch finds no page table: *no-stale-mapping*
 *  - a run that starts after the slot was created, or while it is renamed, reaches
 *    the guest's code: *no-hole*
 *  - a root is never allocated for a page whose slot went between the two lookups, which
 *    would be a NULL dereference in the host, or end up in the metadata of another slot
 *
 * Does not prove: the last one, unless KVM_PROVE_MEMSLOT_LIST delays the allocation, by
 * kvm.memslot_delay_root; the window is a few instructions.  Nor anything of nested page
 * tables.
 */
#include <pthread.h>
#include <sched.h>

#include "memory_region_list.h"
#include "processor.h"

#define ROOT_GPA	0x40000000ul
#define ROOT_SLOT	10		/* and the next */
#define NR_ROUNDS	50

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct mrl list;
static void *root;
static bool done;

/* Runs that started and finished, and how the last one did. */
static uint64_t started, finished;
static uint32_t reason;
static uint64_t nr_reached, nr_shutdowns;

/* Not at the OUT, which KVM_RUN would take for the one to be completed. */
static void guest_code(void)
{
	asm volatile("nop\n\toutb %al, $0x10");
}

static void *run_vcpu(void *arg)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vcpu_sregs_get(vcpu, &sregs);
	vcpu_regs_get(vcpu, &regs);
	sregs.cr3 = ROOT_GPA;
	/* Any exception shuts down, even if the page is back by the next one. */
	sregs.idt.limit = 0;

	while (!READ_ONCE(done)) {
		vcpu_sregs_set(vcpu, &sregs);
		vcpu_regs_set(vcpu, &regs);
		__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
		vcpu_run(vcpu);
		WRITE_ONCE(reason, vcpu->run->exit_reason);
		TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO ||
			    vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN,
			    "Wanted exit IO or SHUTDOWN, got %u (%s)", vcpu->run->exit_reason,
			    exit_reason_str(vcpu->run->exit_reason));
		nr_reached += vcpu->run->exit_reason == KVM_EXIT_IO;
		nr_shutdowns += vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN;
		__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* All runs that start from here on end for the same reason. */
static void want_reason(uint32_t want, uint32_t round, const char *when)
{
	uint64_t first = __atomic_load_n(&started, __ATOMIC_SEQ_CST) + 1;
	uint32_t got;

	while (__atomic_load_n(&finished, __ATOMIC_SEQ_CST) < first)
		sched_yield();
	got = READ_ONCE(reason);
	TEST_ASSERT(got == want, "Round %u, root %s: wanted exit %u (%s), got %u (%s)", round,
		    when, want, exit_reason_str(want), got, exit_reason_str(got));
}

static void apply_slot(uint32_t id, uint32_t old)
{
	mrl_reset(&list);
	if (old)
		mrl_delete(&list, old);
	if (id)
		mrl_set(&list, id, 0, ROOT_GPA, getpagesize(), root);
	mrl_apply(vm, &list);
}

/* Without waiting for the vCPU, which is anywhere. */
static void race(uint32_t round)
{
	uint32_t i;

	for (i = 0; i < 1 + round % 4; i++) {
		apply_slot(0, ROOT_SLOT);
		apply_slot(ROOT_SLOT, 0);
	}
}

static void test_round(uint32_t round)
{
	want_reason(KVM_EXIT_IO, round, "there");
	apply_slot(ROOT_SLOT + 1, ROOT_SLOT);
	want_reason(KVM_EXIT_IO, round, "renamed");
	apply_slot(ROOT_SLOT, ROOT_SLOT + 1);
	race(round);
	want_reason(KVM_EXIT_IO, round, "created again");
	apply_slot(0, ROOT_SLOT);
	want_reason(KVM_EXIT_SHUTDOWN, round, "deleted");
	apply_slot(ROOT_SLOT, 0);
}

int main(void)
{
	pthread_t thread;
	uint32_t i;

	mrl_require();
	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	list = mrl_alloc(2);

	root = aligned_alloc(getpagesize(), getpagesize());
	TEST_ASSERT(root, "aligned_alloc(): wanted a page, got NULL");
	memcpy(root, addr_gpa2hva(vm, vm->pgd), getpagesize());
	apply_slot(ROOT_SLOT, 0);

	pthread_create(&thread, NULL, run_vcpu, NULL);
	for (i = 0; i < NR_ROUNDS; i++)
		test_round(i);
	WRITE_ONCE(done, true);
	pthread_join(thread, NULL);

	pr_info("%u rounds: %lu runs reached the guest's code, %lu shut down\n", NR_ROUNDS,
		nr_reached, nr_shutdowns);
	TEST_ASSERT(nr_reached >= 3 * NR_ROUNDS && nr_shutdowns >= NR_ROUNDS,
		    "Wanted %u and %u runs or more, got %lu and %lu", 3 * NR_ROUNDS,
		    NR_ROUNDS, nr_reached, nr_shutdowns);

	mrl_free(&list);
	kvm_vm_free(vm);
	free(root);
	return 0;
}
