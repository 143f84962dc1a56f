// SPDX-License-Identifier: GPL-2.0
/*
 * Prefault guest memory while memslots are being deleted.
 *
 * Shows that KVM_PRE_FAULT_MEMORY neither depends on KVM_RUN to replace page
 * tables that the deletion of a memslot has made obsolete, nor waits for the
 * deletion of the memslot that it maps, which waits for it.  If KVM gets either
 * wrong, it repeats the fault until a signal arrives: alarm() is the verdict.
 */
#include <linux/sizes.h>
#include <pthread.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define TEST_GPA	SZ_1G
#define TEST_SIZE	(SZ_2M + PAGE_SIZE)
#define TEST_SLOT	10
#define NR_DELETES	200
#define TIMEOUT		30

struct race {
	struct kvm_vm *vm;
	uint32_t nr_prefaults;
	bool done;
};

static void guest_code(void)
{
}

static int pre_fault(struct kvm_vcpu *vcpu, uint64_t size)
{
	struct kvm_pre_fault_memory range = {
		.gpa = TEST_GPA,
		.size = size,
	};

	return __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range) ? errno : 0;
}

/* The page tables that the vCPU has loaded are obsolete in all rounds but one. */
static void test_obsolete_root(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i, r;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 1, 0);

	alarm(TIMEOUT);
	for (i = 0; i < 3; i++) {
		r = pre_fault(vcpu, PAGE_SIZE);
		TEST_ASSERT(!r, "Round %d: wanted success, got errno %d", i, r);

		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS,
					    TEST_GPA + SZ_2M, TEST_SLOT + 1, 1, 0);
		vm_mem_region_delete(vm, TEST_SLOT + 1);
	}
	alarm(0);

	kvm_vm_free(vm);
}

/* Delete and create the slot, each time a bit further into a prefault. */
static void *delete_slot(void *arg)
{
	struct race *race = arg;
	struct userspace_mem_region *region = memslot2region(race->vm, TEST_SLOT);
	uint64_t size = region->region.memory_size;
	uint32_t i, j, seen;

	for (i = 0; i < NR_DELETES; i++) {
		seen = READ_ONCE(race->nr_prefaults);
		while (READ_ONCE(race->nr_prefaults) == seen)
			cpu_relax();
		/* No cpu_relax(), with which an emulator lets the prefault finish first. */
		for (j = 0; j < i * 1024; j++)
			barrier();

		region->region.memory_size = 0;
		vm_ioctl(race->vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
		region->region.memory_size = size;
		vm_ioctl(race->vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
	}

	WRITE_ONCE(race->done, true);
	return NULL;
}

static void test_deleted_slot(void)
{
	struct race race = {};
	struct kvm_vcpu *vcpu;
	uint32_t met = 0;
	pthread_t thread;
	int r;

	race.vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_userspace_mem_region_add(race.vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT,
				    TEST_SIZE / PAGE_SIZE, 0);

	alarm(TIMEOUT);
	pthread_create(&thread, NULL, delete_slot, &race);

	while (!READ_ONCE(race.done)) {
		WRITE_ONCE(race.nr_prefaults, race.nr_prefaults + 1);
		r = pre_fault(vcpu, TEST_SIZE);
		TEST_ASSERT(!r || r == EAGAIN || r == ENOENT,
			    "Wanted success, EAGAIN or ENOENT, got errno %d", r);
		met += !!r;
	}

	pthread_join(thread, NULL);
	alarm(0);
	TEST_ASSERT(met, "Wanted prefaults that met a deletion, got 0 of %u",
		    race.nr_prefaults);
	kvm_vm_free(race.vm);
}

int main(int argc, char *argv[])
{
	bool only_root = argc > 1 && !strcmp(argv[1], "root");
	bool only_slot = argc > 1 && !strcmp(argv[1], "slot");

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY));

	if (!only_slot)
		test_obsolete_root();
	if (!only_root)
		test_deleted_slot();
	return 0;
}
