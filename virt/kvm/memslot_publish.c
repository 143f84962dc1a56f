// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: memslot list publication
 *
 * Build the new memslots, make them the active set in one step, and clean up.
 *
 * The one principle: the only statement that vCPUs can observe is the
 * rcu_assign_pointer() in kvm_publish_memslots().  What comes before it works on
 * objects that nobody can reach, or drops mappings that can be faulted in again;
 * what comes after it cannot fail.  It waits for MMU notifiers, which have to find the
 * same memslots when they end as when they began: *notifier-balance*.  What was replaced
 * is freed when nobody can find it any more: no *use-after-free*.
 *
 * Runs under slots_lock.  kvm_replace_memslots() takes slots_arch_lock, because
 * arch metadata may otherwise grow behind its back, and drops it ahead of the
 * grace period.  For the order of locks see memslot_list.c.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_memslot_list.h>
#include <linux/kvm_memslot_prove.h>
#include <linux/slab.h>

#include "kvm_mm.h"
#include "memslot_list.h"
#include "memslots.h"

/* How often what changes is zapped ahead of the publication, at most. */
#define KVM_MAX_ZAPS	4

static int kvm_alloc_new_memslots(struct kvm_memslot_list *list)
{
	u32 i;

	for (i = 0; i < list->plan.nr_new; i++) {
		u32 index = list->plan.new[i].index;
		struct kvm_memory_slot *new;

		new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
		if (!new) {
			list->error_index = index;
			return -ENOMEM;
		}

		kvm_entry_to_memslot(list, &list->entries[index], new);
		list->changes[index].new = new;
		cond_resched();
	}
	return 0;
}

static int kvm_create_arch_memslots(struct kvm_memslot_list *list)
{
	int r = 0;
	u32 i;

	for (i = 0; !r && i < list->plan.nr_new; i++) {
		struct kvm_memslot_change *change;

		change = &list->changes[list->plan.new[i].index];
		if (!change->new_shares)
			r = kvm_arch_prepare_memory_region(list->kvm, NULL, change->new,
							   KVM_MR_CREATE);
		if (r)
			list->error_index = list->plan.new[i].index;
		cond_resched();
	}
	return r;
}

static int kvm_bind_new_memslots(struct kvm_memslot_list *list)
{
	u32 i;
	int r;

	for (i = 0; i < list->plan.nr_new; i++) {
		u32 index = list->plan.new[i].index;
		const struct kvm_userspace_memory_region_list_entry *e = &list->entries[index];

		if (!(e->flags & KVM_MEM_GUEST_MEMFD))
			continue;

		r = kvm_gmem_bind(list->kvm, list->changes[index].new,
				  e->guest_memfd, e->guest_memfd_offset);
		if (r) {
			list->error_index = index;
			return r;
		}
	}
	return 0;
}

/* Free @new unless it has been published, or @old after it was replaced. */
static void kvm_free_memslot_object(struct kvm *kvm, struct kvm_memory_slot *slot,
				    bool bitmap_shared)
{
	if (bitmap_shared)
		slot->dirty_bitmap = NULL;
	kvm_destroy_dirty_bitmap(slot);
	kvm_arch_free_memslot(kvm, slot);
	kfree(slot);
}

/* All of it, and in any state that kvm_prepare_memslots() may leave behind. */
static void kvm_abort_new_memslots(struct kvm_memslot_list *list)
{
	u32 i;

	for (i = 0; i < list->plan.nr_new; i++) {
		struct kvm_memslot_change *change;

		change = &list->changes[list->plan.new[i].index];
		if (!change->new)
			continue;

		if (change->new->flags & KVM_MEM_GUEST_MEMFD)
			kvm_gmem_unbind(change->new);
		kvm_free_memslot_object(list->kvm, change->new,
					change->new_bitmap_is_shared);
		change->new = NULL;
		cond_resched();
	}
}

static int kvm_prepare_memslots(struct kvm_memslot_list *list)
{
	int r;

	r = kvm_alloc_new_memslots(list);
	if (r)
		return r;

	/* All, if that is less work, or if metadata goes in which there is something. */
	list->zaps_shadow = kvm_arch_prefers_zap_of_shadow_pages(list->kvm, list->nr_zapped);
	kvm_share_arch_memslots(list);
	if (list->orphans)
		list->zaps_shadow |= kvm_arch_mmu_refers_to_memslots(list->kvm);
	kvm_share_dirty_bitmaps(list);

	r = kvm_create_arch_memslots(list);
	if (r)
		return r;

	r = kvm_prepare_dirty_bitmaps(list);
	if (r)
		return r;

	return kvm_bind_new_memslots(list);
}

/*
 * Bring the inactive set from the old to the final layout.  First all of the
 * old, then all of the new, a range may have changed hands.
 */
static void kvm_update_inactive_memslots(struct kvm_memslot_list *list)
{
	u32 i;

	for (i = 0; i < list->plan.nr_old; i++) {
		kvm_replace_memslot(list->kvm,
				    list->changes[list->plan.old[i].index].old, NULL);
		cond_resched();
	}
	for (i = 0; i < list->plan.nr_new; i++) {
		kvm_replace_memslot(list->kvm, NULL,
				    list->changes[list->plan.new[i].index].new);
		cond_resched();
	}
}

/*
 * Page faults are let through meanwhile, the notifiers may be on other memory.  Others
 * that begin spin on mn_invalidate_lock: don't wait for mmu_lock with it held while
 * there are any, they hold mmu_lock for long.  New ones are waited for, too.
 */
static void kvm_wait_for_notifiers(struct kvm_memslot_list *list)
	__must_hold(&list->kvm->mn_invalidate_lock)
{
	struct kvm *kvm = list->kvm;

	lockdep_assert_held(&kvm->mn_invalidate_lock);

	if (list->gated && kvm->mn_active_invalidate_count) {
		spin_unlock(&kvm->mn_invalidate_lock);
		KVM_MMU_LOCK(kvm);
		kvm_ungate_runs(list);
		KVM_MMU_UNLOCK(kvm);
		spin_lock(&kvm->mn_invalidate_lock);
	}
	kvm_wait_for_idle_mmu_notifier(kvm);
}

/*
 * The point of no return.  mn_invalidate_lock is taken outside of mmu_lock:
 * waiting for notifiers inside would mean to drop mmu_lock, and to zap again.
 */
static void kvm_publish_memslots(struct kvm_memslot_list *list)
{
	struct kvm *kvm = list->kvm;
	int as_id = list->head.as_id;
	struct kvm_memslots *old = __kvm_memslots(kvm, as_id);
	struct kvm_memslots *new = kvm_get_inactive_memslots(kvm, as_id);
	u64 locked_ns, now_ns;
	u32 i;

	lockdep_assert_held(&kvm->slots_arch_lock);

	kvm_mark_memslots_updating(kvm, new, as_id);

	/*
	 * While this waits for notifiers page faults are let through, and all
	 * can come back.  Zap it where that may yield, so that little is left for
	 * the section below, but not for ever: there may always be a notifier.
	 */
	spin_lock(&kvm->mn_invalidate_lock);
	for (i = 1; i < KVM_MAX_ZAPS && list->gated &&
		    kvm->mn_active_invalidate_count; i++) {
		kvm_wait_for_notifiers(list);
		spin_unlock(&kvm->mn_invalidate_lock);
		kvm_zap_replaced_again(list);
		spin_lock(&kvm->mn_invalidate_lock);
	}
	kvm_wait_for_notifiers(list);
	KVM_MMU_LOCK(kvm);
	locked_ns = ktime_get_ns();

	kvm_zap_final(list);
	kvm_move_memslot_boundaries(list);
	if (list->leaves_log)
		kvm_open_leaving_memslots(list, old);

	/*
	 * Pairs with the checks under mmu_lock of the set in which a page
	 * fault, or the allocation of a root, looked its memslots up.
	 */
	rcu_assign_pointer(kvm->memslots[as_id], new);
	kvm_prove_publication(list);

	kvm_ungate_runs(list);
	now_ns = ktime_get_ns();
	KVM_MMU_UNLOCK(kvm);
	spin_unlock(&kvm->mn_invalidate_lock);

	list->published = true;
	list->stats.publish_ns = now_ns - list->start_ns;
	list->stats.locked_ns = now_ns - locked_ns;
}

/* Wait until nobody uses the old set, and make the sets equal again. */
static void kvm_drain_old_memslots(struct kvm_memslot_list *list)
{
	struct kvm *kvm = list->kvm;

	kvm_memslot_delay(KVM_DELAY_PUBLISHED);

	/*
	 * Writes that hardware logged on its own become visible when the vCPU
	 * exits.  Make each vCPU exit once; it looks at its log in an SRCU
	 * read-side section that starts before it is seen outside of the guest,
	 * i.e. the grace period below waits for it.
	 */
	if (list->leaves_log)
		kvm_make_all_cpus_request(kvm, KVM_REQ_OUTSIDE_GUEST_MODE);

	kvm_synchronize_memslots(kvm);
	list->stats.grace_ns = ktime_get_ns() - list->start_ns;
	kvm_memslot_delay(KVM_DELAY_DRAINED);

	/* Before the old set is taken apart. */
	if (list->leaves_log)
		kvm_close_leaving_memslots(list);

	kvm_finish_memslots_update(kvm, __kvm_memslots(kvm, list->head.as_id));
	kvm_update_inactive_memslots(list);
}

static void kvm_commit_dirty_logging(struct kvm_memslot_list *list)
{
	struct kvm *kvm = list->kvm;
	int old_nr = atomic_read(&kvm->nr_memslots_dirty_logging);
	bool flush = false;
	u32 i;

	/*
	 * One store for the net change: with a transient zero vCPUs would turn
	 * hardware logging off under slots that go on to log.  Ahead of arming
	 * pages for hardware logging, so that no write to an armed page is missed.
	 */
	if (list->nr_logging) {
		atomic_set(&kvm->nr_memslots_dirty_logging, old_nr + list->nr_logging);
		if (!old_nr != !(old_nr + list->nr_logging))
			kvm_arch_dirty_logging_toggled(kvm);
	}

	for (i = 0; i < list->plan.nr_new; i++) {
		const struct kvm_memslot_change *change;

		change = &list->changes[list->plan.new[i].index];
		if (change->new->flags & KVM_MEM_READONLY)
			continue;

		/* With all bits set, userspace starts to track page by page. */
		if ((change->starts_log && !list->init_set) || change->rearms_log) {
			kvm_arch_start_dirty_log(kvm, change->new);
			flush = true;
		}
		if (change->stops_log)
			kvm_arch_stop_dirty_log(kvm, change->new);
		cond_resched();
	}
	if (flush)
		kvm_flush_remote_tlbs(kvm);
}

static void kvm_count_changes(struct kvm_memslot_list *list)
{
	struct kvm_memslot_list_stats *stats = &list->stats;
	u32 i;

	for (i = 0; i < list->head.nent; i++) {
		const struct kvm_memslot_change *change = &list->changes[i];

		if (change->noop)
			continue;
		stats->created += !change->old;
		stats->deleted += !change->new;
		stats->replaced += change->old && change->new;
	}
	stats->kept_pages = list->nr_kept;
}

static void kvm_commit_memslots(struct kvm_memslot_list *list)
{
	struct kvm *kvm = list->kvm;
	u32 i;

	kvm->nr_memslot_pages += list->nr_pages;

	kvm_transfer_dirty_bits(list);
	kvm_commit_dirty_logging(list);

	for (i = 0; i < list->plan.nr_old; i++) {
		struct kvm_memslot_change *change;

		change = &list->changes[list->plan.old[i].index];
		if (!change->new)
			kvm_arch_memslot_deleted(kvm, change->old);
		if (change->old->flags & KVM_MEM_GUEST_MEMFD)
			kvm_gmem_unbind(change->old);
	}
	kvm_arch_memslots_committed(kvm);
	kvm_count_changes(list);
}

int kvm_replace_memslots(struct kvm_memslot_list *list)
{
	struct kvm *kvm = list->kvm;
	int r;

	lockdep_assert_held(&kvm->slots_lock);

	mutex_lock(&kvm->slots_arch_lock);
	r = kvm_prepare_memslots(list);
	if (!r) {
		kvm_update_inactive_memslots(list);
		kvm_zap_replaced_memslots(list);
		kvm_memslot_delay(KVM_DELAY_ZAPPED);
		kvm_publish_memslots(list);
	}
	mutex_unlock(&kvm->slots_arch_lock);

	if (r) {
		kvm_abort_new_memslots(list);
		return r;
	}

	kvm_drain_old_memslots(list);
	kvm_commit_memslots(list);
	kvm_prove_memslot_list(list);
	return 0;
}

/* After the results were copied; slots_lock is not needed for what nobody sees. */
void kvm_free_replaced_memslots(struct kvm_memslot_list *list)
{
	u32 i;

	for (i = 0; i < list->plan.nr_old; i++) {
		struct kvm_memslot_change *change;

		change = &list->changes[list->plan.old[i].index];
		kvm_free_memslot_object(list->kvm, change->old,
					change->old_bitmap_is_shared);
		cond_resched();
	}
}
