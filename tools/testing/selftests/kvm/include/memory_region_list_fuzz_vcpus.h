/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_VCPUS_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_VCPUS_H

#include <signal.h>

#include "memory_region_list_fuzz_pages.h"

/*
 * vCPU threads of memory_region_list_fuzz_test, which see.  A vCPU that has used its turn
 * sleeps until the host gives it another one, or parks all.  In a restless world none sleeps.
 */
#define FUZZ_BYSTANDER_ID	41	/* not the one of the updater */

/* off: as long as they are parked, or are to be. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool off;
	struct kvm_pre_fault_memory wanted[FUZZ_MAX_VCPUS];
} idle = {
	.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .off = true,
};

static struct kvm_vm *vm;
static atomic_ulong nr_exits, nr_write_exits, nr_prefaults;

static void give_turn(void)
{
	pthread_mutex_lock(&idle.lock);
	WRITE_ONCE(sh->turn, sh->turn + 1);
	pthread_cond_broadcast(&idle.wake);
	pthread_mutex_unlock(&idle.lock);
}

static void set_idle_off(bool off)
{
	pthread_mutex_lock(&idle.lock);
	idle.off = off;
	pthread_cond_broadcast(&idle.wake);
	pthread_mutex_unlock(&idle.lock);
}

static void park_vcpus(void)
{
	set_idle_off(true);
	mrl_vcpus_park();
}

static void unpark_vcpus(void)
{
	set_idle_off(false);
	mrl_vcpus_go();
}

/* The guest is not running.  From then on the journal is its own again. */
static void note_prefault(struct kvm_vcpu *vcpu, uint32_t page, uint32_t gen)
{
	uint32_t nr = sh->nr[vcpu->id];

	if (nr >= FUZZ_JOURNAL) {
		sh->untold[vcpu->id]++;
		return;
	}
	sh->journal[vcpu->id][nr] = (struct fuzz_access) {
		.kind = FUZZ_PREFAULT, .exits = FUZZ_EXIT_READ, .page = page, .gen = gen,
		.end = READ_ONCE(sh->gen),
	};
	sh->nr[vcpu->id] = nr + 1;
}

/*
 * *no-hole*: none of the pages may be missing that were there all the time.  An ioctl that
 * got some of them returns 0.  EAGAIN is for a slot that an old ioctl is deleting.
 */
static void prefault_range(struct kvm_vcpu *vcpu, struct kvm_pre_fault_memory range)
{
	uint32_t page, gen;
	uint64_t before;
	int r;

	while (range.size) {
		before = range.size;
		gen = READ_ONCE(sh->gen);
		r = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
		nr_prefaults += (before - range.size) / PAGE_SIZE;
		if (!r || errno == EINTR)
			continue;
		if (errno == EOPNOTSUPP)
			return;
		/* What is left begins with the page that failed. */
		page = (range.gpa - FUZZ_GPA) / PAGE_SIZE;
		TEST_ASSERT((errno == ENOENT || errno == EAGAIN) && page < config.nr_pages &&
			    may_exit[page] & FUZZ_EXIT_READ,
			    "no-hole: prefault of page %u: wanted 0, got errno %d", page, errno);
		note_prefault(vcpu, page, gen);
		range.gpa += PAGE_SIZE;
		range.size -= PAGE_SIZE;
	}
}

static void sleep_until_turn(struct kvm_vcpu *vcpu)
{
	struct kvm_pre_fault_memory range;

	pthread_mutex_lock(&idle.lock);
	while (!idle.off && !config.restless && sh->turn == sh->seen_turn[vcpu->id])
		pthread_cond_wait(&idle.wake, &idle.lock);
	range = idle.wanted[vcpu->id];
	idle.wanted[vcpu->id].size = 0;
	pthread_mutex_unlock(&idle.lock);
	if (range.size)
		prefault_range(vcpu, range);
}

/* Code in a hole, which KVM can't emulate: return to the caller for the guest. */
static void skip_call(struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs;
	uint64_t page;

	vcpu_regs_get(vcpu, &regs);
	page = (regs.rip - FUZZ_GPA) / PAGE_SIZE;
	TEST_ASSERT(page < config.nr_pages && may_exit[page] & FUZZ_EXIT_READ,
		    "no-hole: vCPU %u: wanted no exit, got a failed emulation at 0x%llx, suberror %u",
		    vcpu->id, regs.rip, vcpu->run->internal.suberror);
	nr_exits++;
	sh->exited[vcpu->id] |= FUZZ_EXIT_READ;
	regs.rip = *(uint64_t *)addr_gva2hva(vm, regs.rsp);
	regs.rsp += 8;
	regs.rax = FUZZ_HOLE;
	vcpu_regs_set(vcpu, &regs);
}

static void handle_mmio(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint64_t page = (run->mmio.phys_addr - FUZZ_GPA) / PAGE_SIZE;
	const uint64_t hole = FUZZ_HOLE;

	TEST_ASSERT(page < config.nr_pages &&
		    may_exit[page] & (run->mmio.is_write ? FUZZ_EXIT_WRITE : FUZZ_EXIT_READ),
		    "no-hole: vCPU %u: wanted no exit, got MMIO %s at page %lu", vcpu->id,
		    run->mmio.is_write ? "write" : "read", page);
	nr_exits++;
	sh->exited[vcpu->id] |= run->mmio.is_write ? FUZZ_EXIT_WRITE : FUZZ_EXIT_READ;
	nr_write_exits += run->mmio.is_write;
	if (!run->mmio.is_write)
		memcpy(run->mmio.data, &hole, sizeof(hole));
}

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	struct kvm_run *run = vcpu->run;

	if (r && errno == EFAULT && READ_ONCE(sh->visits[vcpu->id]))
		return false;
	TEST_ASSERT(!r, "no-hole: KVM_RUN of vCPU %u: wanted 0, got errno %d", vcpu->id, errno);
	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		return false;
	case KVM_EXIT_DIRTY_RING_FULL:
		/* Until the next round, when it has been harvested. */
		return true;
	case KVM_EXIT_INTERNAL_ERROR:
		skip_call(vcpu);
		return false;
	case KVM_EXIT_IO:
		if (run->io.port == FUZZ_IDLE_PORT) {
			sleep_until_turn(vcpu);
			return false;
		}
	}
	mrl_vcpu_expect_sync(vcpu);
	return true;
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_VCPUS_H */
