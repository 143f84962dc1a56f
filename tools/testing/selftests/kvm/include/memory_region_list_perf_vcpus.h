/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_PERF_VCPUS_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_PERF_VCPUS_H

/*
 * The vCPUs of memory_region_list_perf_test: threads that complete accesses to holes, and
 * that can be stopped, as QEMU's accel blocker does it: a signal makes each leave KVM_RUN,
 * and none enters it again until the layout has been changed.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "memory_region_list_perf_guest.h"

/* What userspace sees of vCPUs. */
enum {
	PERF_HOLE_MMIO,		/* MMIO at a page that both layouts cover */
	PERF_HOLE_EMULATION,
	PERF_HOLE_EFAULT,
	PERF_OTHER_MMIO,	/* where there is no memory, or none that can be written */
	PERF_KICKED,		/* by a signal */
	PERF_NR_SEEN,
};

static const char * const perf_seen_names[PERF_NR_SEEN] = {
	"hole_mmio", "hole_emulation", "hole_efault", "other_mmio", "signals",
};

static struct {
	struct kvm_vm *vm;
	typeof(shared) *sh;
	int nr, nr_cpus;
	bool stopping, parking;
	atomic_int nr_parked;
	struct kvm_vcpu *vcpu[MRL_MAX_VCPUS];
	pthread_t thread[MRL_MAX_VCPUS];
	pthread_barrier_t parked, go;
	bool retrying[MRL_MAX_VCPUS];
	atomic_ulong seen[PERF_NR_SEEN];
	/* The blocker. */
	atomic_bool in_run[MRL_MAX_VCPUS], blocked;
	pthread_mutex_t lock;
	pthread_cond_t left, may_enter;
} perf = {
	.nr = 2,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.left = PTHREAD_COND_INITIALIZER,
	.may_enter = PTHREAD_COND_INITIALIZER,
};

static inline void perf_vcpu_enter(int i)
{
	for (;;) {
		atomic_store(&perf.in_run[i], true);
		if (!atomic_load(&perf.blocked))
			return;
		pthread_mutex_lock(&perf.lock);
		atomic_store(&perf.in_run[i], false);
		pthread_cond_signal(&perf.left);
		while (atomic_load(&perf.blocked))
			pthread_cond_wait(&perf.may_enter, &perf.lock);
		pthread_mutex_unlock(&perf.lock);
	}
}

static inline void perf_vcpu_leave(int i)
{
	atomic_store(&perf.in_run[i], false);
	if (!atomic_load(&perf.blocked))
		return;
	pthread_mutex_lock(&perf.lock);
	pthread_cond_signal(&perf.left);
	pthread_mutex_unlock(&perf.lock);
}

static inline void perf_kick(int i)
{
	WRITE_ONCE(perf.vcpu[i]->run->immediate_exit, 1);
	pthread_kill(perf.thread[i], SIGUSR1);
}

static inline bool perf_any_in_run(void)
{
	int i;

	for (i = 0; i < perf.nr; i++) {
		if (atomic_load(&perf.in_run[i]))
			return true;
	}
	return false;
}

static inline void perf_block_vcpus(void)
{
	int i;

	atomic_store(&perf.blocked, true);
	for (i = 0; i < perf.nr; i++) {
		if (atomic_load(&perf.in_run[i]))
			perf_kick(i);
	}
	pthread_mutex_lock(&perf.lock);
	while (perf_any_in_run())
		pthread_cond_wait(&perf.left, &perf.lock);
	pthread_mutex_unlock(&perf.lock);
}

static inline void perf_unblock_vcpus(void)
{
	pthread_mutex_lock(&perf.lock);
	atomic_store(&perf.blocked, false);
	pthread_cond_broadcast(&perf.may_enter);
	pthread_mutex_unlock(&perf.lock);
}

/* Complete the access as if the page had the memory that it gets, or nothing had. */
static inline void perf_complete_mmio(struct kvm_run *run)
{
	uint64_t offset = run->mmio.phys_addr - MRL_GPA_BASE;
	uint32_t page = offset / MRL_PAGE_SIZE;
	const uint64_t none = PERF_NO_TAG;
	struct perf_page *p;
	void *data;

	TEST_ASSERT(page < perf_world.nr_pages, "MMIO: wanted an address in the world, got 0x%llx",
		    run->mmio.phys_addr);
	p = &perf_world.pages[page];
	if (!perf_is_covered(p) || (run->mmio.is_write && (p->readonly[0] || p->readonly[1]))) {
		atomic_fetch_add(&perf.seen[PERF_OTHER_MMIO], 1);
		memcpy(run->mmio.data, &none, sizeof(none));
		return;
	}
	atomic_fetch_add(&perf.seen[PERF_HOLE_MMIO], 1);
	data = (void *)MRL_HVA(p->mem[1]) + offset % MRL_PAGE_SIZE;
	if (run->mmio.is_write)
		memcpy(data, run->mmio.data, run->mmio.len);
	else
		memcpy(run->mmio.data, data, run->mmio.len);
}

/* A vCPU that sleeps in HLT has to wake up to be parked. */
static inline void perf_handle_signal(struct kvm_vcpu *vcpu)
{
	struct kvm_mp_state state = { KVM_MP_STATE_RUNNABLE };

	WRITE_ONCE(vcpu->run->immediate_exit, 0);
	atomic_fetch_add(&perf.seen[PERF_KICKED], 1);
	if (perf.sh->halt && READ_ONCE(perf.parking))
		vcpu_mp_state_set(vcpu, &state);
}

/* Returns true if the vCPU came to a GUEST_SYNC(). */
static inline bool perf_handle_exit(struct kvm_vcpu *vcpu, int r)
{
	bool retry = perf.retrying[vcpu->id];
	struct kvm_run *run = vcpu->run;

	perf.retrying[vcpu->id] = false;
	if (r && errno == EINTR) {
		perf_handle_signal(vcpu);
	} else if (r) {
		TEST_ASSERT(errno == EFAULT, "KVM_RUN: wanted 0 or EFAULT, got errno %d", errno);
		atomic_fetch_add(&perf.seen[PERF_HOLE_EFAULT], 1);
	} else if (run->exit_reason == KVM_EXIT_MMIO) {
		perf_complete_mmio(run);
	} else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
		   run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
		/* The instruction runs again until the slot is back: one hole. */
		atomic_fetch_add(&perf.seen[PERF_HOLE_EMULATION], !retry);
		perf.retrying[vcpu->id] = true;
	} else {
		mrl_vcpu_expect_sync(vcpu);
		return true;
	}
	return false;
}

/* The first CPU is that of the thread that changes the layout. */
static inline void perf_pin(int i)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(i < 0 || perf.nr_cpus == 1 ? 0 : 1 + i % (perf.nr_cpus - 1), &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity(): got errno %d",
		    errno);
}

static inline void *perf_vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	int r, err;

	perf_pin(vcpu->id);
	/* They never idle: whoever ends a grace period must not wait for a time slice. */
	setpriority(PRIO_PROCESS, 0, 19);
	for (;;) {
		perf_vcpu_enter(vcpu->id);
		r = __vcpu_run(vcpu);
		err = errno;
		perf_vcpu_leave(vcpu->id);
		errno = err;
		if (!perf_handle_exit(vcpu, r))
			continue;
		atomic_fetch_add(&perf.nr_parked, 1);
		pthread_barrier_wait(&perf.parked);
		pthread_barrier_wait(&perf.go);
		if (perf.stopping)
			return NULL;
	}
}

/* One that has not come to its HLT yet sleeps through the signal: more of them. */
static inline void perf_wake_halted(void)
{
	int i;

	while (atomic_load(&perf.nr_parked) < perf.nr) {
		for (i = 0; i < perf.nr; i++) {
			if (atomic_load(&perf.in_run[i]))
				perf_kick(i);
		}
		usleep(1000);
	}
}

/* All have completed their accesses when this returns. */
static inline void perf_park(void)
{
	if (!perf.nr)
		return;
	atomic_store(&perf.nr_parked, 0);
	WRITE_ONCE(perf.parking, true);
	WRITE_ONCE(perf.sh->park, perf.sh->park + 1);
	if (perf.sh->halt)
		perf_wake_halted();
	pthread_barrier_wait(&perf.parked);
	WRITE_ONCE(perf.parking, false);
}

static inline void perf_go(void)
{
	if (perf.nr)
		pthread_barrier_wait(&perf.go);
}

static inline void perf_nothing(int signal)
{
}

static inline void perf_vcpus_create(uint64_t world_pages)
{
	/* Memslot 0 has the page tables, too. */
	perf.vm = __vm_create(VM_SHAPE_DEFAULT, perf.nr ?: 1, world_pages);
	vm_enable_cap(perf.vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
}

/* Returns with the vCPUs parked. */
static inline void perf_vcpus_start(void)
{
	struct sigaction act = { .sa_handler = perf_nothing };
	int i, r;

	sigaction(SIGUSR1, &act, NULL);
	pthread_barrier_init(&perf.parked, NULL, perf.nr + 1);
	pthread_barrier_init(&perf.go, NULL, perf.nr + 1);
	for (i = 0; i < perf.nr; i++) {
		vcpu_args_set(perf.vcpu[i], 2, i, perf.nr);
		mrl_vcpu_enable_interrupts(perf.vcpu[i]);
		r = pthread_create(&perf.thread[i], NULL, perf_vcpu_thread, perf.vcpu[i]);
		TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
	}
	perf_park();
}

static inline void perf_vcpus_stop(void)
{
	int i;

	perf.stopping = true;
	perf_go();
	for (i = 0; i < perf.nr; i++)
		pthread_join(perf.thread[i], NULL);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_PERF_VCPUS_H */
