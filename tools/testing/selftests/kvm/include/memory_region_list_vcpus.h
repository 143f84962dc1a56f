/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_VCPUS_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_VCPUS_H

#include <pthread.h>
#include <sys/resource.h>

#include "kvm_util.h"
#include "processor.h"
#include "memory_region_list.h"

/*
 * vCPU threads that can be parked.  The guest polls a word that the host counts
 * up, and does GUEST_SYNC() when it changes, so that a parked vCPU has completed
 * all its accesses.  No signals, and nothing waits for time to pass.
 */
#define MRL_MAX_VCPUS	16
#define MRL_IO_PORT	0x510	/* Nothing is there: all accesses exit to userspace. */

struct mrl_vcpus {
	int nr;
	bool stopping;
	uint32_t *park;		/* The host's view of the guest's word. */
	struct kvm_vcpu *vcpu[MRL_MAX_VCPUS];
	pthread_t thread[MRL_MAX_VCPUS];
	pthread_barrier_t parked, go;
	/* Handles an exit.  Returns true if the vCPU came to a GUEST_SYNC(). */
	bool (*handle_exit)(struct kvm_vcpu *vcpu, int r);
};

static struct mrl_vcpus mrl_vcpus = { .nr = 2 };

static inline void *mrl_vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	int r;

	/* They never idle: whoever ends a grace period must not wait for a time slice. */
	setpriority(PRIO_PROCESS, 0, 19);
	for (;;) {
		r = __vcpu_run(vcpu);
		/* Another thread reports a failure. */
		if (r && errno == EINTR)
			continue;
		if (!mrl_vcpus.handle_exit(vcpu, r))
			continue;
		pthread_barrier_wait(&mrl_vcpus.parked);
		pthread_barrier_wait(&mrl_vcpus.go);
		if (mrl_vcpus.stopping)
			return NULL;
	}
}

static inline void mrl_vcpus_park(void)
{
	WRITE_ONCE(*mrl_vcpus.park, *mrl_vcpus.park + 1);
	pthread_barrier_wait(&mrl_vcpus.parked);
}

static inline void mrl_vcpus_go(void)
{
	pthread_barrier_wait(&mrl_vcpus.go);
}

/* The sum of what each vCPU counts. */
static inline uint64_t mrl_vcpus_sum(const uint64_t *counters)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < mrl_vcpus.nr; i++)
		sum += READ_ONCE(counters[i]);
	return sum;
}

/* All other reasons for an exit have been dealt with. */
static inline void mrl_vcpu_expect_sync(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct ucall uc;
	int r = get_ucall(vcpu, &uc);

	if (r == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(r == UCALL_SYNC, "vCPU %u: wanted no exit, got reason %u (%s), suberror %u",
		    vcpu->id, run->exit_reason, exit_reason_str(run->exit_reason),
		    run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run->internal.suberror : 0);
}

/* *no-hole*: KVM_RUN does not fail, and no access exits to userspace. */
static inline void mrl_vcpu_expect_no_hole(struct kvm_vcpu *vcpu, int r)
{
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT(!r, "no-hole: KVM_RUN of vCPU %u: wanted 0, got errno %d", vcpu->id, errno);
	TEST_ASSERT(run->exit_reason != KVM_EXIT_MMIO,
		    "no-hole: vCPU %u: wanted no exit, got MMIO %s at 0x%llx", vcpu->id,
		    run->mmio.is_write ? "write" : "read", run->mmio.phys_addr);
}

/*
 * Nothing interrupts these guests.  But Bochs lets the host's interrupts make a vCPU exit
 * only if the guest takes some, and a vCPU that computes could not be kicked at all.
 */
static inline void mrl_vcpu_enable_interrupts(struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	regs.rflags |= BIT(9);	/* IF */
	vcpu_regs_set(vcpu, &regs);
}

/* Returns with the vCPUs parked. */
static inline void mrl_vcpus_start(uint32_t *park, bool (*handle_exit)(struct kvm_vcpu *, int))
{
	int i, r;

	mrl_vcpus.stopping = false;
	mrl_vcpus.park = park;
	mrl_vcpus.handle_exit = handle_exit;
	pthread_barrier_init(&mrl_vcpus.parked, NULL, mrl_vcpus.nr + 1);
	pthread_barrier_init(&mrl_vcpus.go, NULL, mrl_vcpus.nr + 1);
	for (i = 0; i < mrl_vcpus.nr; i++) {
		vcpu_args_set(mrl_vcpus.vcpu[i], 2, i, mrl_vcpus.nr);
		mrl_vcpu_enable_interrupts(mrl_vcpus.vcpu[i]);
		r = pthread_create(&mrl_vcpus.thread[i], NULL, mrl_vcpu_thread, mrl_vcpus.vcpu[i]);
		TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
	}
	mrl_vcpus_park();
}

/* Ends the parked vCPUs' threads. */
static inline void mrl_vcpus_stop(void)
{
	int i;

	mrl_vcpus.stopping = true;
	mrl_vcpus_go();
	for (i = 0; i < mrl_vcpus.nr; i++)
		pthread_join(mrl_vcpus.thread[i], NULL);
}

static inline struct kvm_vm *mrl_vcpus_create(void *guest_code)
{
	struct kvm_vm *vm;

	TEST_ASSERT(mrl_vcpus.nr <= MRL_MAX_VCPUS, "vCPUs: wanted <= %d, got %d",
		    MRL_MAX_VCPUS, mrl_vcpus.nr);
	vm = vm_create_with_vcpus(mrl_vcpus.nr, guest_code, mrl_vcpus.vcpu);
	/* Without this, KVM injects a #UD too, and the instruction can't run again. */
	vm_enable_cap(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
	return vm;
}

/* Anonymous memory, aligned and sized for huge pages. */
static inline uint8_t *mrl_vcpus_mem_alloc(size_t size)
{
	size_t huge = 2ul << 20;
	uint8_t *mem = mmap(NULL, size + huge, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(mem != MAP_FAILED, "mmap() of 0x%lx bytes failed", size + huge);
	mem = (void *)align_up((uintptr_t)mem, huge);
	madvise(mem, size, MADV_HUGEPAGE);
	memset(mem, 0, size);
	return mem;
}

/* Guest: string I/O, which KVM emulates.  One u32 to or from userspace. */
static inline void mrl_guest_outs(void *p)
{
	unsigned long n = 1;

	asm volatile("rep outsl" : "+S"(p), "+c"(n) : "d"(MRL_IO_PORT) : "memory");
}

static inline void mrl_guest_ins(void *p)
{
	unsigned long n = 1;

	asm volatile("rep insl" : "+D"(p), "+c"(n) : "d"(MRL_IO_PORT) : "memory");
}

/* Guest: how often it forced emulation.  vCPUs race for it, i.e. it may be too low. */
static uint64_t mrl_forced;

/* Guest: load and store, through the emulator where the host allows to force that. */
static inline uint64_t mrl_guest_load(uint64_t *p, bool emulate)
{
	uint64_t value;

	if (!emulate || !is_forced_emulation_enabled)
		return READ_ONCE(*p);
	mrl_forced++;
	asm volatile(KVM_FEP "mov %1, %0" : "=r"(value) : "m"(*p) : "memory");
	return value;
}

static inline void mrl_guest_store(uint64_t *p, uint64_t value, bool emulate)
{
	if (!emulate || !is_forced_emulation_enabled) {
		WRITE_ONCE(*p, value);
		return;
	}
	mrl_forced++;
	asm volatile(KVM_FEP "mov %1, %0" : "=m"(*p) : "r"(value) : "memory");
}

/* As mrl_guest_store(), but KVM looks the page up again to mark it dirty. */
static inline void mrl_guest_cmpxchg(uint64_t *p, uint64_t value)
{
	uint64_t old = READ_ONCE(*p);

	if (!is_forced_emulation_enabled) {
		WRITE_ONCE(*p, value);
		return;
	}
	mrl_forced++;
	asm volatile(KVM_FEP "lock cmpxchg %[value], %[p]"
		     : [p]"+m"(*p), "+a"(old) : [value]"r"(value) : "memory", "cc");
}

/* The first line of a test's output says what it can't show here. */
static inline void mrl_check_forced_emulation(bool required)
{
	if (is_forced_emulation_enabled)
		printf("KVM's emulator is forced, by kvm.force_emulation_prefix\n");
	else
		printf("Left out: forced emulation, kvm.force_emulation_prefix is 0\n");
	TEST_ASSERT(is_forced_emulation_enabled || !required,
		    "-f: wanted kvm.force_emulation_prefix above 0, got 0");
}

/* The guest is parked.  Returns how many instructions KVM emulated. */
static inline uint64_t mrl_check_emulated(struct kvm_vm *vm)
{
	uint64_t sum = 0, n = 0;
	int i;

	for (i = 0; i < mrl_vcpus.nr; i++) {
		TEST_ASSERT(mrl_read_vcpu_stat(mrl_vcpus.vcpu[i], "insn_emulation", &n),
			    "vCPU stat insn_emulation: wanted one, got none");
		sum += n;
	}
	sync_global_from_guest(vm, mrl_forced);
	TEST_ASSERT(sum >= mrl_forced, "emulated instructions: wanted at least %lu, got %lu",
		    mrl_forced, sum);
	return sum;
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_VCPUS_H */
