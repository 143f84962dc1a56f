// SPDX-License-Identifier: GPL-2.0-only
/*
 * Manual dirty log protection changes while a memslot starts to log.
 *
 * A thread turns KVM_DIRTY_LOG_INITIALLY_SET on and off.  Again and again a memslot
 * whose pages are mapped starts to log, the guest writes the pages, and all of them have
 * to be in the log: either because all are at the start, or because the first write to
 * each is noticed.
 *
 * Proves that an update of a memslot sees one setting.  Not which one.
 */
#include <linux/sizes.h>
#include <pthread.h>
#include <sched.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define TEST_GPA	((uint64_t)SZ_1G)
#define TEST_SLOT	10
#define NR_PAGES	64
#define NR_LOOPS	3000

static struct kvm_vm *vm;
static bool stop;
static uint64_t toggles;

static void guest_main(void)
{
	uint64_t i, n;

	for (n = 0; ; n++) {
		for (i = 0; i < NR_PAGES; i++)
			WRITE_ONCE(*(uint64_t *)(TEST_GPA + i * PAGE_SIZE), n);
		GUEST_SYNC(n);
	}
}

static void *toggle_main(void *unused)
{
	uint64_t on = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;

	while (!READ_ONCE(stop)) {
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, on);
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
		WRITE_ONCE(toggles, toggles + 1);
	}
	return NULL;
}

static void write_pages(struct kvm_vcpu *vcpu)
{
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);
}

/* The other thread may not run by itself for all of the loops. */
static void wait_for_toggles(uint32_t nr)
{
	uint64_t end = READ_ONCE(toggles) + nr;

	while (READ_ONCE(toggles) < end)
		sched_yield();
}

static void test_loop(struct kvm_vcpu *vcpu, int loop)
{
	uint64_t log = 0;

	/* Not always at the same point of its loop. */
	wait_for_toggles(1 + loop % 7);
	vm_mem_region_set_flags(vm, TEST_SLOT, 0);
	write_pages(vcpu);
	vm_mem_region_set_flags(vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	write_pages(vcpu);
	kvm_vm_get_dirty_log(vm, TEST_SLOT, &log);
	TEST_ASSERT(log == ~0ull, "Loop %d, dirty pages: wanted 0x%llx, got 0x%lx", loop, ~0ull,
		    log);
}

int main(int argc, char *argv[])
{
	struct kvm_vcpu *vcpu;
	pthread_t toggle;
	int i, r;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
		     KVM_DIRTY_LOG_INITIALLY_SET);

	/* On one CPU the other thread runs while this one waits for a grace period. */
	kvm_pin_this_task_to_pcpu(0);

	vm = vm_create_with_one_vcpu(&vcpu, guest_main);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, NR_PAGES, 0);
	virt_map(vm, TEST_GPA, TEST_GPA, NR_PAGES);

	r = pthread_create(&toggle, NULL, toggle_main, NULL);
	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
	for (i = 0; i < NR_LOOPS; i++)
		test_loop(vcpu, i);
	WRITE_ONCE(stop, true);
	pthread_join(toggle, NULL);
	kvm_vm_free(vm);
	return 0;
}
