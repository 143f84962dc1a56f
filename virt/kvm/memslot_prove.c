// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: memslot list proof
 *
 * Verify what a successful KVM_SET_USER_MEMORY_REGION_LIST leaves behind, and make
 * the races that it has to survive likely.  Only with CONFIG_KVM_PROVE_MEMSLOT_LIST.
 *
 * The one principle: compute everything anew, from what is not being checked.  What
 * the MMU knows is compared with the active memslots, totals with the sum of the
 * memslots, one set with the other, and the layout with the entries.  Whatever
 * differs is a bug of KVM's own, hence a WARN, and never depends on what a guest or
 * userspace does.
 *
 * kvm_prove_publication() runs within the section of mmu_lock that publishes, when
 * no mapping can have been made in the new layout: *no-stale-mapping*.
 * kvm_prove_memslot_list() runs at the end of a call, when there is no trace left of
 * the old layout, and looks at the mappings once more.  So what a page fault has
 * installed too late is found by this call, or by the next.
 *
 * Not checked: dirty bits.  The fast page fault makes an SPTE writable before it
 * marks the page, under no lock.
 *
 * Delays are in microseconds, by a parameter for each place: with
 * kvm.memslot_delay_fault=500 each page fault waits ahead of mmu_lock.  What they
 * make slow is what userspace is going to notice first, so set those of one side of a
 * race, and only a few.
 */
#include <linux/delay.h>
#include <linux/interval_tree.h>
#include <linux/kvm_host.h>
#include <linux/kvm_memslot_prove.h>
#include <linux/moduleparam.h>

#include "kvm_mm.h"
#include "memslot_list.h"
#include "memslots.h"

static unsigned int kvm_delay_us[KVM_NR_DELAYS];

#define KVM_MEMSLOT_DELAY_PARAM(name, place)					\
	module_param_named(memslot_delay_##name, kvm_delay_us[place], uint, 0644)

KVM_MEMSLOT_DELAY_PARAM(slot, KVM_DELAY_SLOT);
KVM_MEMSLOT_DELAY_PARAM(fault, KVM_DELAY_FAULT);
KVM_MEMSLOT_DELAY_PARAM(root, KVM_DELAY_ROOT);
KVM_MEMSLOT_DELAY_PARAM(first_root, KVM_DELAY_FIRST_ROOT);
KVM_MEMSLOT_DELAY_PARAM(prefault, KVM_DELAY_PREFAULT);
KVM_MEMSLOT_DELAY_PARAM(exit, KVM_DELAY_EXIT);
KVM_MEMSLOT_DELAY_PARAM(mark, KVM_DELAY_MARK);
KVM_MEMSLOT_DELAY_PARAM(zapped, KVM_DELAY_ZAPPED);
KVM_MEMSLOT_DELAY_PARAM(published, KVM_DELAY_PUBLISHED);
KVM_MEMSLOT_DELAY_PARAM(drained, KVM_DELAY_DRAINED);

void kvm_memslot_delay(enum kvm_memslot_delay place)
{
	unsigned int us = READ_ONCE(kvm_delay_us[place]);

	if (!us)
		return;

	/* Pages are marked with preemption disabled, too. */
	if (place == KVM_DELAY_MARK) {
		mdelay(us / USEC_PER_MSEC);
		udelay(us % USEC_PER_MSEC);
		return;
	}
	usleep_range(us, us + us / 8);
}

/* Same memslots in both sets, sorted and without overlap.  Return their number. */
static unsigned long kvm_prove_gfn_trees(struct kvm_memslots *a,
					 struct kvm_memslots *b, int as_id)
{
	struct rb_node *x = rb_first(&a->gfn_tree), *y = rb_first(&b->gfn_tree);
	struct kvm_memory_slot *slot;
	unsigned long nr = 0;
	gfn_t end = 0;

	for (; x && y; x = rb_next(x), y = rb_next(y), nr++) {
		slot = rb_entry(x, struct kvm_memory_slot, gfn_node[a->node_idx]);
		WARN_ON_ONCE(slot != rb_entry(y, struct kvm_memory_slot,
					      gfn_node[b->node_idx]));
		WARN_ON_ONCE(!slot->npages || slot->base_gfn < end);
		WARN_ON_ONCE(slot->as_id != as_id || slot->flags & KVM_MEMSLOT_INVALID);
		end = slot->base_gfn + slot->npages;
		cond_resched();
	}
	WARN_ON_ONCE(x || y);
	return nr;
}

/* The other indices of a set have the @nr memslots of its gfn tree, and no others. */
static void kvm_prove_indices(struct kvm_memslots *slots, unsigned long nr)
{
	/* May dangle, don't follow it. */
	long last = atomic_long_read(&slots->last_used_slot);
	unsigned long nr_ids = 0, nr_hvas = 0;
	struct interval_tree_node *node;
	struct kvm_memory_slot *slot;
	bool found = !last;
	int bkt;

	kvm_for_each_memslot(slot, bkt, slots) {
		WARN_ON_ONCE(search_memslots(slots, slot->base_gfn, false) != slot);
		found |= (long)slot == last;
		nr_ids++;
	}
	WARN_ON_ONCE(nr_ids != nr);
	WARN_ON_ONCE(!found);

	for (node = interval_tree_iter_first(&slots->hva_tree, 0, ULONG_MAX); node;
	     node = interval_tree_iter_next(node, 0, ULONG_MAX)) {
		slot = container_of(node, struct kvm_memory_slot,
				    hva_node[slots->node_idx]);
		WARN_ON_ONCE(search_memslots(slots, slot->base_gfn, false) != slot);
		WARN_ON_ONCE(node->start != slot->userspace_addr ||
			     node->last != slot->userspace_addr +
					   (slot->npages << PAGE_SHIFT) - 1);
		nr_hvas++;
		cond_resched();
	}
	WARN_ON_ONCE(nr_hvas != nr);
}

static void kvm_prove_totals(struct kvm *kvm)
{
	unsigned long nr_pages = 0;
	struct kvm_memory_slot *slot;
	int nr_logging = 0, as_id, bkt;

	for (as_id = 0; as_id < kvm_arch_nr_memslot_as_ids(kvm); as_id++) {
		kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, as_id)) {
			nr_pages += slot->npages;
			nr_logging += kvm_slot_dirty_track_enabled(slot);
		}
		cond_resched();
	}
	WARN_ON_ONCE(nr_pages != kvm->nr_memslot_pages);
	WARN_ON_ONCE(nr_logging != atomic_read(&kvm->nr_memslots_dirty_logging));
}

/* The memslot is what its entry says, by the fields of one and of the other. */
static void kvm_prove_entry(struct kvm_memslot_list *list,
			    const struct kvm_userspace_memory_region_list_entry *e)
{
	struct kvm *kvm = list->kvm;
	struct kvm_memory_slot *slot;
	bool logs;

	slot = id_to_memslot(__kvm_memslots(kvm, list->head.as_id), e->slot);
	if (!e->memory_size) {
		WARN_ON_ONCE(slot);
		return;
	}
	if (WARN_ON_ONCE(!slot))
		return;

	WARN_ON_ONCE((u64)slot->base_gfn << PAGE_SHIFT != e->guest_phys_addr ||
		     (u64)slot->npages << PAGE_SHIFT != e->memory_size ||
		     slot->userspace_addr != e->userspace_addr || slot->flags != e->flags);

	/* A slot that logged before the dirty ring was enabled still has its bitmap. */
	logs = kvm_slot_dirty_track_enabled(slot);
	WARN_ON_ONCE(slot->dirty_bitmap ? !logs : logs && kvm_use_dirty_bitmap(kvm));
}

void kvm_prove_publication(struct kvm_memslot_list *list)
{
	struct kvm_plan_run run;

	kvm_for_each_plan_run(run, &list->plan) {
		if (kvm_run_zapped(&run))
			kvm_arch_prove_unmapped(list->kvm, kvm_run_old_slot(list, &run),
						run.start, run.end);
	}
	kvm_arch_prove_mmu(list->kvm);
}

void kvm_prove_memslot_list(struct kvm_memslot_list *list)
{
	struct kvm *kvm = list->kvm;
	int as_id = list->head.as_id;
	struct kvm_memslots *active = __kvm_memslots(kvm, as_id);
	struct kvm_memslots *inactive = kvm_get_inactive_memslots(kvm, as_id);
	unsigned long nr;
	u32 i;

	lockdep_assert_held(&kvm->slots_lock);

	WARN_ON_ONCE(active == inactive || active->node_idx == inactive->node_idx);
	WARN_ON_ONCE(active->generation & KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS);
	WARN_ON_ONCE(READ_ONCE(kvm->leaving[as_id]));

	nr = kvm_prove_gfn_trees(active, inactive, as_id);
	kvm_prove_indices(active, nr);
	kvm_prove_indices(inactive, nr);
	kvm_prove_totals(kvm);
	for (i = 0; i < list->head.nent; i++) {
		kvm_prove_entry(list, &list->entries[i]);
		cond_resched();
	}

	KVM_MMU_LOCK(kvm);
	kvm_arch_prove_mmu(kvm);
	KVM_MMU_UNLOCK(kvm);
}
