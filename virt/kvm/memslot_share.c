// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: memslot list sharing
 *
 * Let new memslots go on to use the metadata of old ones.
 *
 * The one principle: what is accounted in the metadata of a memslot is accounted by
 * gfn, and stays where it is if the gfn gets another memslot.  A new slot uses the
 * arch metadata of the old slots that its pages come from, at the same address, if
 * the architecture is able to share it: the old slots must have the same, and it must
 * cover the new slot.  Then nothing has to be zapped because metadata goes
 * (*kept-mappings*).  Pages that come from nowhere find empty entries, as what was
 * zapped has left none behind.  So that little memslots don't hold on to much metadata,
 * the architecture may refuse: it is told what goes, before it is asked.
 *
 * Only where a piece ended that went without a successor, huge pages may remain
 * disallowed, as long as the metadata lives.
 *
 * A slot that keeps base, size and address takes over the dirty bitmap, too, if both
 * log.  All of it goes by range and not by id, i.e. renaming a slot is as cheap as
 * changing its flags.
 *
 * Runs under slots_arch_lock, because arch metadata may grow behind the back of
 * anybody else; kvm_move_memslot_boundaries() under mmu_lock.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_memslot_list.h>

#include "memslot_list.h"

/* All of an old slot and all of a new one. */
static bool kvm_run_is_whole(const struct kvm_plan_run *run)
{
	return run->old && run->new && run->old->gfn == run->new->gfn &&
	       run->old->npages == run->new->npages;
}

/* Nothing in the metadata depends on more than gfn and address. */
static bool kvm_run_may_share(const struct kvm_plan_run *run)
{
	return kvm_run_same_page(run) &&
	       !((run->old->flags | run->new->flags) & KVM_MEM_GUEST_MEMFD);
}

/* A slot that shares does not have to share with all old slots that it covers. */
static bool kvm_run_shares(struct kvm_memslot_list *list,
			   const struct kvm_plan_run *run)
{
	return kvm_run_may_share(run) && list->changes[run->new->index].new_shares;
}

static void kvm_share_arch_memslot(struct kvm_memslot_list *list,
				   const struct kvm_plan_run *run)
{
	struct kvm_memslot_change *change = &list->changes[run->new->index];

	if (change->new_cant_share)
		return;

	change->new_shares = kvm_arch_share_memslot(list->kvm, change->new,
						    kvm_run_old_slot(list, run));
	if (!change->new_shares) {
		/* Nor together with what it has got from others. */
		kvm_arch_free_memslot(list->kvm, change->new);
		change->new_cant_share = true;
	} else if (!kvm_run_is_whole(run)) {
		list->moves_ends = true;
	}
}

/* Before any is shared: several old slots may have metadata in common. */
static void kvm_count_staying_pages(struct kvm_memslot_list *list)
{
	struct kvm_plan_run run;
	u32 i;

	for (i = 0; i < list->plan.nr_old; i++)
		kvm_arch_count_metadata_users(list->changes[list->plan.old[i].index].old);

	kvm_for_each_plan_run(run, &list->plan) {
		if (run.old && !kvm_run_may_share(&run))
			kvm_arch_memslot_pages_go(kvm_run_old_slot(list, &run),
						  run.end - run.start);
	}
}

void kvm_share_arch_memslots(struct kvm_memslot_list *list)
{
	struct kvm_plan_run run;

	lockdep_assert_held(&list->kvm->slots_arch_lock);

	kvm_count_staying_pages(list);

	/*
	 * If everything that is accounted is zapped anyway, to share with pieces
	 * would only let a small slot hold on to the metadata of a large one.
	 */
	kvm_for_each_plan_run(run, &list->plan) {
		if (kvm_run_may_share(&run) &&
		    (!list->zaps_shadow || kvm_run_is_whole(&run)))
			kvm_share_arch_memslot(list, &run);
	}

	kvm_for_each_plan_run(run, &list->plan) {
		if (!run.old || kvm_run_shares(list, &run))
			continue;

		list->changes[run.old->index].old_metadata_goes = true;
		if (kvm_run_kept(&run))
			list->orphans = true;
	}
}

void kvm_share_dirty_bitmaps(struct kvm_memslot_list *list)
{
	struct kvm_plan_run run;

	if (!list->old_logs)
		return;

	kvm_for_each_plan_run(run, &list->plan) {
		if (!kvm_run_is_whole(&run) || !kvm_run_may_share(&run) ||
		    !kvm_run_stays_logged(&run))
			continue;

		list->changes[run.old->index].old_bitmap_is_shared = true;
		list->changes[run.new->index].new_bitmap_is_shared = true;
		kvm_run_new_slot(list, &run)->dirty_bitmap =
			kvm_run_old_slot(list, &run)->dirty_bitmap;
	}
}

/*
 * Slots that share metadata share the entries of a huge page in which one ends and
 * another one begins.  First all of the old, then all of the new, an end of one may
 * be an end of another.  In the section of mmu_lock that publishes: page faults go by
 * the ends that belong to the active set.
 */
void kvm_move_memslot_boundaries(struct kvm_memslot_list *list)
{
	struct kvm_plan_run run;

	if (!list->moves_ends)
		return;

	kvm_for_each_plan_run(run, &list->plan) {
		/*
		 * If not all of it is passed on, an end may be that of a slot, too,
		 * that the list does not name.
		 */
		if (kvm_run_shares(list, &run) && !kvm_run_is_whole(&run) &&
		    !list->changes[run.old->index].old_metadata_goes)
			kvm_arch_set_memslot_boundaries(list->kvm,
							kvm_run_old_slot(list, &run), false);
	}
	kvm_for_each_plan_run(run, &list->plan) {
		if (kvm_run_shares(list, &run) && !kvm_run_is_whole(&run))
			kvm_arch_set_memslot_boundaries(list->kvm,
							kvm_run_new_slot(list, &run), true);
	}
}
