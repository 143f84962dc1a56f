// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: memslot planner
 *
 * Compare the old and the final state of the memslots that one call of
 * KVM_SET_USER_MEMORY_REGION_LIST replaces.
 *
 * The one principle: the result depends on gfn space alone.  Not on slot ids,
 * not on the order of the entries, and not on which operations the caller had in
 * mind; "split", "merge" and "move" do not exist here.  Two sorted arrays are
 * swept once, and each run of gfns that lies in one old and one new slot is
 * classified by comparing the two.
 *
 * Nothing here allocates, locks, sleeps or fails, so that the code can be built
 * and tested in userspace (tools/testing/kvm_memslot_plan).
 */
#include <linux/limits.h>
#include <linux/minmax.h>
#include <linux/sort.h>

#include "memslot_plan.h"

static u64 kvm_plan_slot_end(const struct kvm_plan_slot *slot)
{
	return slot->gfn + slot->npages;
}

static int kvm_plan_cmp(const void *a, const void *b)
{
	const struct kvm_plan_slot *x = a, *y = b;

	if (x->gfn != y->gfn)
		return x->gfn < y->gfn ? -1 : 1;

	/* Only an invalid layout gets here; be reproducible all the same. */
	return x->index < y->index ? -1 : x->index > y->index;
}

/* A list that is in order costs sort() as much as any other. */
void kvm_plan_sort(struct kvm_plan_slot *slots, u32 nr)
{
	u32 i;

	for (i = 1; i < nr; i++) {
		if (kvm_plan_cmp(&slots[i - 1], &slots[i]) > 0) {
			sort(slots, nr, sizeof(*slots), kvm_plan_cmp, NULL);
			return;
		}
	}
}

/* Returns a slot of a sorted array that overlaps its neighbour, or NULL. */
const struct kvm_plan_slot *kvm_plan_find_overlap(const struct kvm_plan_slot *slots,
						  u32 nr)
{
	u32 i;

	for (i = 1; i < nr; i++) {
		if (slots[i].gfn < kvm_plan_slot_end(&slots[i - 1]))
			return &slots[i];
	}
	return NULL;
}

/*
 * Skip the slots that end at or before the current gfn, and return the first
 * that does not.
 */
static const struct kvm_plan_slot *kvm_plan_skip(const struct kvm_plan_slot *slots,
						 u32 nr, u32 *pos, u64 gfn)
{
	while (*pos < nr && kvm_plan_slot_end(&slots[*pos]) <= gfn)
		++*pos;

	return *pos < nr ? &slots[*pos] : NULL;
}

bool kvm_plan_next(struct kvm_plan_iter *iter, struct kvm_plan_run *run)
{
	const struct kvm_plan *plan = iter->plan;
	const struct kvm_plan_slot *old, *new;

	old = kvm_plan_skip(plan->old, plan->nr_old, &iter->old, iter->gfn);
	new = kvm_plan_skip(plan->new, plan->nr_new, &iter->new, iter->gfn);
	if (!old && !new)
		return false;

	run->start = max(iter->gfn, min(old ? old->gfn : U64_MAX,
					new ? new->gfn : U64_MAX));
	run->old = old && old->gfn <= run->start ? old : NULL;
	run->new = new && new->gfn <= run->start ? new : NULL;

	run->end = U64_MAX;
	if (old)
		run->end = run->old ? kvm_plan_slot_end(old) : old->gfn;
	if (new)
		run->end = min(run->end, run->new ? kvm_plan_slot_end(new) : new->gfn);

	iter->gfn = run->end;
	return true;
}

static u64 kvm_plan_gfn_to_hva(const struct kvm_plan_slot *slot, u64 gfn)
{
	return slot->hva + ((gfn - slot->gfn) << PAGE_SHIFT);
}

bool kvm_run_same_page(const struct kvm_plan_run *run)
{
	return run->old && run->new &&
	       kvm_plan_gfn_to_hva(run->old, run->start) ==
	       kvm_plan_gfn_to_hva(run->new, run->start);
}

bool kvm_run_kept(const struct kvm_plan_run *run)
{
	return kvm_run_same_page(run) &&
	       !((run->old->flags ^ run->new->flags) &
		 (KVM_MEM_READONLY | KVM_MEM_GUEST_MEMFD));
}
