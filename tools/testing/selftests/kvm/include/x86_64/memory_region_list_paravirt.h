/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_PARAVIRT_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_PARAVIRT_H

/*
 * The guest of memory_region_list_paravirt_test, which see.  It reads, checks and
 * answers what KVM writes to structures in AREA, whose slots are replaced, and counts
 * the updates that it sees.
 */
#include <asm/kvm_para.h>
#include <asm/pvclock.h>
#include <asm/pvclock-abi.h>

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"
#include "memory_region_list_vcpus.h"

#define AREA_GPA	(4ul << 30)
#define NPAGES		16u
#define NR_MAX		2u

/* The structures, by page, of vCPU @v; the runstate area is across two pages. */
#define CLOCK(v)	(AREA_GPA + (0 + (v)) * PAGE_SIZE + 0x100)
#define STEAL(v)	(AREA_GPA + (2 + (v)) * PAGE_SIZE + 0x200)
#define APF(v)		(AREA_GPA + (4 + (v)) * PAGE_SIZE + 0x300)
#define EOI(v)		(AREA_GPA + (6 + (v)) * PAGE_SIZE + 0x400)
#define XEN_SHARED	(AREA_GPA + 8 * PAGE_SIZE)
#define XEN_VCPU(v)	(AREA_GPA + (9 + (v)) * PAGE_SIZE + 0x500)
#define XEN_TIME(v)	(AREA_GPA + (11 + (v)) * PAGE_SIZE + 0x600)
#define XEN_RUN(v)	(AREA_GPA + (14 + (v)) * PAGE_SIZE - 24)

#define XEN_LEGACY_VCPUS	32	/* whose vcpu_info is at the start of shared info */

#define APF_VECTOR	0x40
#define APF_BUSY	1u
#define APF_WAKE_ALL	(~0u)

/* How far, in ns, time may seem to go back; a torn clock is off by more. */
#define CLOCK_SLACK	1000000ul

struct xen_vcpu_info {
	uint8_t upcall_pending, upcall_mask;
	uint64_t pending_sel;
	uint64_t cr2, pad;
	struct pvclock_vcpu_time_info time;
};

struct xen_runstate {
	uint32_t state;
	uint64_t entry_time;
	uint64_t time[4];
};

#define XEN_RUNSTATE_UPDATE	BIT_ULL(63)

/* Updates that a vCPU saw, by structure. */
enum {
	SEEN_CLOCK, SEEN_STEAL, SEEN_APF, SEEN_EOI,
	SEEN_VCPU_TIME, SEEN_TIME, SEEN_RUNSTATE, SEEN_EVENT,
	NR_SEEN
};

/* In memslot 0, which never changes.  Guest and host both use it. */
static struct {
	uint32_t park;
	bool xen;
	uint64_t seen[NR_MAX][NR_SEEN];
	uint64_t back[NR_MAX];			/* the farthest that time went back */
	uint64_t repeated[NR_MAX];		/* interrupts */
} shared;

static inline void saw(uint32_t me, int what)
{
	WRITE_ONCE(shared.seen[me][what], shared.seen[me][what] + 1);
}

/* KVM updates clocks when asked to, steal time and the runstate at each KVM_RUN. */
static inline void ask_for_update(void)
{
	asm volatile("outl %%eax, %%dx" : : "a"(0), "d"(MRL_IO_PORT));
}

struct clock {
	uint32_t version;
	uint64_t last;
};

static inline void check_clock(struct clock *c, uint64_t gpa, uint32_t me, int what)
{
	struct pvclock_vcpu_time_info *p = (void *)gpa;
	uint32_t version;
	uint64_t ns;

	do {
		version = READ_ONCE(p->version);
		barrier();
		ns = __pvclock_read_cycles(p, rdtsc());
		barrier();
	} while (version & 1 || version != READ_ONCE(p->version));
	if (!version)
		return;
	__GUEST_ASSERT((int32_t)(version - c->version) >= 0,
		       "clock %d of vCPU %u: wanted version %u or above, got %u", what, me,
		       c->version, version);
	if (version != c->version)
		saw(me, what);
	__GUEST_ASSERT(ns + CLOCK_SLACK > c->last,
		       "clock %d of vCPU %u, version %u: wanted %lu ns or more, got %lu", what, me,
		       version, c->last, ns);
	if (ns < c->last && c->last - ns > shared.back[me])
		WRITE_ONCE(shared.back[me], c->last - ns);
	c->version = version;
	c->last = max(ns, c->last);
}

struct steal {
	uint32_t version;
	uint64_t steal;
};

static inline void check_steal(struct steal *s, uint32_t me)
{
	struct kvm_steal_time *st = (void *)STEAL(me);
	uint32_t version;
	uint64_t steal;

	do {
		version = READ_ONCE(st->version);
		barrier();
		steal = READ_ONCE(st->steal);
		barrier();
	} while (version & 1 || version != READ_ONCE(st->version));
	__GUEST_ASSERT((int32_t)(version - s->version) >= 0 && steal >= s->steal,
		       "steal time of vCPU %u: wanted version %u, %lu ns or more, got %u, %lu", me,
		       s->version, s->steal, version, steal);
	if (version != s->version)
		saw(me, SEEN_STEAL);
	s->version = version;
	s->steal = steal;
}

/* With the bit that KVM set there, KVM ends the interrupt. */
static inline void guest_eoi(uint32_t me)
{
	bool elided;

	asm volatile("btrl $0, %1" : "=@ccc"(elided), "+m"(*(uint32_t *)EOI(me)) : : "memory");
	if (elided)
		saw(me, SEEN_EOI);
	else
		x2apic_write_reg(APIC_EOI, 0);
}

/*
 * "Page ready".  The token is where KVM wrote it; 0 is what the guest left there, i.e. it
 * went elsewhere.  Under QEMU one interrupt of thousands comes twice, also without any
 * change of slots, and finds that the token was taken.
 */
static void guest_apf_ready(struct ex_regs *regs)
{
	struct kvm_vcpu_pv_apf_data *apf;
	uint32_t me, token;

	/* An exit would clear the bit of PV EOI. */
	asm volatile("rdtscp" : "=c"(me) : : "eax", "edx");
	apf = (void *)APF(me);
	token = READ_ONCE(apf->token);
	if (token == APF_BUSY) {
		WRITE_ONCE(shared.repeated[me], shared.repeated[me] + 1);
		guest_eoi(me);
		return;
	}
	__GUEST_ASSERT(token == APF_WAKE_ALL, "token of vCPU %u: wanted 0x%x, got 0x%x", me,
		       APF_WAKE_ALL, token);
	WRITE_ONCE(apf->token, APF_BUSY);
	saw(me, SEEN_APF);
	guest_eoi(me);
}

/*
 * Enabling asynchronous page faults makes KVM send a token to wake all tasks.  It has to
 * wait until the previous token, here APF_BUSY, was taken, i.e. KVM last looked at the
 * page some calls ago.
 */
static inline void use_apf(uint32_t me, uint64_t turn)
{
	struct kvm_vcpu_pv_apf_data *apf = (void *)APF(me);

	if (turn % 64 == 0) {
		wrmsr(MSR_KVM_ASYNC_PF_EN, APF(me) | KVM_ASYNC_PF_ENABLED |
					   KVM_ASYNC_PF_DELIVERY_AS_INT);
	} else if (turn % 64 == 32) {
		WRITE_ONCE(apf->token, 0);
		wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
	}
	/* Only here, selftests use the red zone.  QEMU looks for interrupts at jumps. */
	asm volatile("sti; jmp 1f; 1: cli" : : : "memory");
}

struct runstate {
	uint64_t entry_time, sum;
};

static inline void check_runstate(struct runstate *r, uint32_t me)
{
	struct xen_runstate *p = (void *)XEN_RUN(me);
	uint64_t entry, sum;
	uint32_t state;

	do {
		entry = READ_ONCE(p->entry_time);
		barrier();
		state = READ_ONCE(p->state);
		sum = p->time[0] + p->time[1] + p->time[2] + p->time[3];
		barrier();
	} while (entry & XEN_RUNSTATE_UPDATE || entry != READ_ONCE(p->entry_time));
	__GUEST_ASSERT(!state, "runstate of vCPU %u: wanted 0, running, got %u", me, state);
	__GUEST_ASSERT(entry >= r->entry_time && sum >= r->sum,
		       "runstate of vCPU %u: wanted %lu, sum %lu or more, got %lu, %lu", me,
		       r->entry_time, r->sum, entry, sum);
	if (entry != r->entry_time)
		saw(me, SEEN_RUNSTATE);
	r->entry_time = entry;
	r->sum = sum;
}

/* Port 1 + vCPU.  The host sends the next event when this one was seen. */
static inline void check_event(uint32_t me)
{
	struct xen_vcpu_info *v = (void *)XEN_VCPU(me);
	uint64_t *pending = (uint64_t *)(XEN_SHARED + XEN_LEGACY_VCPUS * sizeof(*v));
	uint64_t sel = 0;
	bool set;

	if (!READ_ONCE(v->upcall_pending))
		return;
	WRITE_ONCE(v->upcall_pending, 0);
	asm volatile("xchg %0, %1" : "+r"(sel), "+m"(v->pending_sel) : : "memory");
	__GUEST_ASSERT(sel == 1, "selector of vCPU %u: wanted 1, got 0x%lx", me, sel);
	asm volatile("lock btrq %2, %1" : "=@ccc"(set), "+m"(*pending) : "r"(1ul + me) : "memory");
	__GUEST_ASSERT(set, "event of vCPU %u: wanted port %u pending, got 0x%lx", me, 1 + me,
		       READ_ONCE(*pending));
	saw(me, SEEN_EVENT);
}

static inline void guest_setup(uint32_t me)
{
	wrmsr(MSR_TSC_AUX, me);
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, CLOCK(me) | KVM_MSR_ENABLED);
	if (shared.xen)
		return;
	wrmsr(MSR_KVM_STEAL_TIME, STEAL(me) | KVM_MSR_ENABLED);
	x2apic_enable();
	wrmsr(MSR_KVM_PV_EOI_EN, EOI(me) | KVM_MSR_ENABLED);
	wrmsr(MSR_KVM_ASYNC_PF_INT, APF_VECTOR);
	((struct kvm_vcpu_pv_apf_data *)APF(me))->token = APF_BUSY;
}

static void guest_main(uint32_t me, uint32_t nr)
{
	const uint64_t vcpu_clock = XEN_VCPU(me) + offsetof(struct xen_vcpu_info, time);
	struct clock clock = {}, vcpu_time = {}, time = {};
	struct runstate runstate = {};
	struct steal steal = {};
	uint32_t park = 0;
	uint64_t i;

	guest_setup(me);
	for (i = 0;; i++) {
		check_clock(&clock, CLOCK(me), me, SEEN_CLOCK);
		if (shared.xen) {
			check_clock(&vcpu_time, vcpu_clock, me, SEEN_VCPU_TIME);
			check_clock(&time, XEN_TIME(me), me, SEEN_TIME);
			check_runstate(&runstate, me);
			check_event(me);
		} else {
			check_steal(&steal, me);
			use_apf(me, i);
		}
		if (!(i % 16))
			ask_for_update();
		if (READ_ONCE(shared.park) != park) {
			park = READ_ONCE(shared.park);
			GUEST_SYNC(0);
		}
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_PARAVIRT_H */
