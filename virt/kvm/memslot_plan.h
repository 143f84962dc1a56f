/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_MEMSLOT_PLAN_H__
#define __KVM_MEMSLOT_PLAN_H__

#include <linux/kvm.h>
#include <linux/types.h>

/* What the planner knows of a slot.  All numbers are in pages, but @hva. */
struct kvm_plan_slot {
	u64 gfn;
	u64 npages;
	u64 hva;
	u32 flags;
	/* The caller's name for the slot, not interpreted. */
	u32 index;
};

/*
 * The old and the final state of the slots that a transaction replaces, each
 * sorted by gfn and without overlap.  Slots that stay are not part of a plan.
 */
struct kvm_plan {
	const struct kvm_plan_slot *old;
	const struct kvm_plan_slot *new;
	u32 nr_old;
	u32 nr_new;
};

/*
 * The longest range of gfns, [start, end), that is covered by one old slot or
 * none, and by one new slot or none.  At least one of the two is not NULL.
 */
struct kvm_plan_run {
	u64 start;
	u64 end;
	const struct kvm_plan_slot *old;
	const struct kvm_plan_slot *new;
};

struct kvm_plan_iter {
	const struct kvm_plan *plan;
	u32 old;
	u32 new;
	u64 gfn;
};

static inline struct kvm_plan_iter kvm_plan_begin(const struct kvm_plan *plan)
{
	return (struct kvm_plan_iter) { .plan = plan };
}

void kvm_plan_sort(struct kvm_plan_slot *slots, u32 nr);
const struct kvm_plan_slot *kvm_plan_find_overlap(const struct kvm_plan_slot *slots,
						  u32 nr);
bool kvm_plan_next(struct kvm_plan_iter *iter, struct kvm_plan_run *run);

#define kvm_for_each_plan_run(run, plan)					\
	for (struct kvm_plan_iter __iter = kvm_plan_begin(plan);		\
	     kvm_plan_next(&__iter, &(run));)

/* "Same page": the same gfn and the same userspace address. */
bool kvm_run_same_page(const struct kvm_plan_run *run);

/*
 * Mappings stay valid: same page and READONLY, and guest_memfd neither before nor
 * after.  Bindings are not compared, a list that replaces one by another, or takes
 * part of one, has been refused by kvm_check_runs().
 */
bool kvm_run_kept(const struct kvm_plan_run *run);

/* Mappings must be gone before the final layout is visible. */
static inline bool kvm_run_zapped(const struct kvm_plan_run *run)
{
	return run->old && !kvm_run_kept(run);
}

static inline bool kvm_plan_slot_logs(const struct kvm_plan_slot *slot)
{
	return slot && (slot->flags & KVM_MEM_LOG_DIRTY_PAGES);
}

/* Dirty bits stay in a log. */
static inline bool kvm_run_stays_logged(const struct kvm_plan_run *run)
{
	return kvm_plan_slot_logs(run->old) && kvm_plan_slot_logs(run->new) &&
	       kvm_run_same_page(run);
}

/* Dirty bits leave the log, i.e. are returned or discarded. */
static inline bool kvm_run_leaves_log(const struct kvm_plan_run *run)
{
	return kvm_plan_slot_logs(run->old) && !kvm_run_stays_logged(run);
}

static inline bool kvm_run_enters_log(const struct kvm_plan_run *run)
{
	return kvm_plan_slot_logs(run->new) && !kvm_run_stays_logged(run);
}

/*
 * A huge mapping may straddle the gfn between @prev and @run, because the old
 * layout has no boundary there and neither side is zapped.
 */
static inline bool kvm_run_splits(const struct kvm_plan_run *prev,
				  const struct kvm_plan_run *run)
{
	return prev->end == run->start && prev->old && prev->old == run->old &&
	       kvm_run_kept(prev) && kvm_run_kept(run);
}

#endif /* __KVM_MEMSLOT_PLAN_H__ */
