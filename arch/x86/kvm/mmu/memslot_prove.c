// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: memslot list proof on x86
 *
 * Check that the MMU agrees with the active memslots.
 *
 * The one principle: go from the page tables to the metadata, and count.  Each leaf
 * SPTE of the shadow MMU must be in the rmap of the memslot that is active for its
 * gfn, and each shadow page that is accounted must count in that memslot.  If in
 * addition the sum of the metadata of all memslots is the number of what was visited,
 * there is nothing in the metadata that isn't in the page tables.  And what goes leaves
 * nothing behind in metadata that others may go on to use.
 *
 * Memslots that are pieces of one have metadata in common if they lie within a huge
 * page.  It is counted once.
 *
 * Runs under slots_lock, and mmu_lock held for writing.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_memslot_prove.h>
#include <linux/mm.h>

#include "mmu.h"
#include "mmu_internal.h"
#include "page_track.h"
#include "spte.h"
#include "tdp_iter.h"
#include "tdp_mmu.h"

/* Sums are left out if there is more, mmu_lock would be held too long. */
#define KVM_PROVE_MAX_PAGES	BIT(20)
#define KVM_PROVE_MAX_MEMSLOTS	BIT(10)

struct kvm_prove_sums {
	u64 leafs;
	u64 tracked;
	u64 disallowed;
};

/*
 * An SPTE goes before the PTE of the host changes, i.e. while there is an SPTE, and
 * a PTE that can be looked up without sleeping, they map the same page.
 */
static void kvm_prove_pfn(const struct kvm_memory_slot *slot, gfn_t gfn, u64 spte)
{
	struct page *page;

	if (slot->flags & KVM_MEM_GUEST_MEMFD ||
	    !get_user_page_fast_only(__gfn_to_hva_memslot(slot, gfn), 0, &page))
		return;

	WARN_ON_ONCE(page_to_pfn(page) != spte_to_pfn(spte));
	put_page(page);
}

static struct kvm_memory_slot *kvm_prove_leaf(struct kvm *kvm, int as_id, gfn_t gfn,
					      int level, u64 spte)
{
	struct kvm_memory_slot *slot;

	/* Not by last_used_slot, which is among what is checked. */
	slot = search_memslots(__kvm_memslots(kvm, as_id), gfn, false);
	if (WARN_ON_ONCE(!slot))
		return NULL;

	WARN_ON_ONCE(gfn + KVM_PAGES_PER_HPAGE(level) > slot->base_gfn + slot->npages);
	WARN_ON_ONCE(slot->flags & KVM_MEM_READONLY && is_writable_pte(spte));
	kvm_prove_pfn(slot, gfn, spte);
	return slot;
}

/* What pages that come here later have to find, if the metadata goes on to be used. */
static void kvm_prove_unreferred(struct kvm *kvm, const struct kvm_memory_slot *old,
				 gfn_t start, gfn_t end)
{
	gfn_t gfn;
	int level;

	if (!old->arch.rmap[0] || end - start > KVM_PROVE_MAX_PAGES)
		return;

	for (level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		for (gfn = start; gfn < end;
		     gfn = gfn_round_for_level(gfn, level) + KVM_PAGES_PER_HPAGE(level))
			WARN_ON_ONCE(pte_list_count(kvm_prove_rmap(gfn, level, old)));
	}

	/* Others count here, too, and may have left something behind. */
	if (!old->arch.gfn_write_track || kvm_external_write_tracking_enabled(kvm))
		return;

	for (gfn = start; gfn < end; gfn++)
		WARN_ON_ONCE(old->arch.gfn_write_track[gfn - old->base_gfn]);
}

#ifdef CONFIG_X86_64
static void kvm_prove_unmapped(struct kvm *kvm, int as_id, gfn_t start, gfn_t end)
{
	struct kvm_mmu_page *root;
	struct tdp_iter iter;

	if (!tdp_mmu_enabled)
		return;

	rcu_read_lock();
	list_for_each_entry(root, &kvm->arch.tdp_mmu_roots, link) {
		if (kvm_mmu_page_as_id(root) != as_id)
			continue;
		for_each_tdp_pte(iter, root, start, end)
			WARN_ON_ONCE(is_shadow_present_pte(iter.old_spte) &&
				     is_last_spte(iter.old_spte, iter.level));
	}
	rcu_read_unlock();
}

static void kvm_prove_tdp_mmu(struct kvm *kvm)
{
	struct kvm_mmu_page *root;
	struct tdp_iter iter;

	if (!tdp_mmu_enabled)
		return;

	rcu_read_lock();
	list_for_each_entry(root, &kvm->arch.tdp_mmu_roots, link) {
		for_each_tdp_pte(iter, root, 0, kvm_mmu_max_gfn() + 1) {
			if (is_shadow_present_pte(iter.old_spte) &&
			    is_last_spte(iter.old_spte, iter.level))
				kvm_prove_leaf(kvm, kvm_mmu_page_as_id(root),
					       iter.gfn, iter.level, iter.old_spte);
		}
	}
	rcu_read_unlock();
}
#else
static void kvm_prove_unmapped(struct kvm *kvm, int as_id, gfn_t start, gfn_t end)
{
}

static void kvm_prove_tdp_mmu(struct kvm *kvm)
{
}
#endif

void kvm_arch_prove_unmapped(struct kvm *kvm, const struct kvm_memory_slot *old,
			     gfn_t start, gfn_t end)
{
	kvm_prove_unmapped(kvm, old->as_id, start, end);
	kvm_prove_unreferred(kvm, old, start, end);
}

static u64 kvm_prove_leafs(struct kvm *kvm, struct kvm_mmu_page *sp)
{
	int level = sp->role.level, i;
	struct kvm_rmap_head *head;
	struct kvm_memory_slot *slot;
	u64 nr = 0;
	gfn_t gfn;

	for (i = 0; i < SPTE_ENT_PER_PAGE; i++) {
		if (!is_shadow_present_pte(sp->spt[i]) || !is_last_spte(sp->spt[i], level))
			continue;

		gfn = kvm_prove_sp_gfn(sp, i);
		slot = kvm_prove_leaf(kvm, kvm_mmu_page_as_id(sp),
				      gfn_round_for_level(gfn, level), level, sp->spt[i]);
		nr++;
		if (!slot || WARN_ON_ONCE(!slot->arch.rmap[level - PG_LEVEL_4K]))
			continue;

		head = kvm_prove_rmap(gfn, level, slot);
		WARN_ON_ONCE(!kvm_prove_rmap_has(head, &sp->spt[i]));
	}
	return nr;
}

/* Only tables above the last level are tracked, all prevent huge pages. */
static void kvm_prove_accounted(struct kvm *kvm, struct kvm_mmu_page *sp)
{
	struct kvm_memory_slot *slot;
	int level;

	slot = search_memslots(__kvm_memslots(kvm, kvm_mmu_page_as_id(sp)), sp->gfn, false);
	if (WARN_ON_ONCE(!slot))
		return;

	if (sp->role.level > PG_LEVEL_4K && !WARN_ON_ONCE(!slot->arch.gfn_write_track) &&
	    !kvm_external_write_tracking_enabled(kvm))
		WARN_ON_ONCE(slot->arch.gfn_write_track[sp->gfn - slot->base_gfn] !=
			     kvm_prove_nr_tracked(kvm, sp));

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
		WARN_ON_ONCE(!kvm_prove_lpage_info(sp->gfn, slot, level)->disallow_lpage);
}

static struct kvm_prove_sums kvm_prove_shadow_pages(struct kvm *kvm)
{
	struct kvm_prove_sums sums = {};
	struct kvm_mmu_page *sp;
	u64 accounted = 0;

	list_for_each_entry(sp, &kvm->arch.active_mmu_pages, link) {
		sums.leafs += kvm_prove_leafs(kvm, sp);
		if (sp->role.invalid || !kvm_prove_sp_is_accounted(sp))
			continue;

		kvm_prove_accounted(kvm, sp);
		sums.tracked += sp->role.level > PG_LEVEL_4K;
		accounted++;
	}
	WARN_ON_ONCE(accounted != kvm->arch.indirect_shadow_pages);

	/* One region of each size. */
	sums.disallowed = accounted * (KVM_MAX_HUGEPAGE_LEVEL - PG_LEVEL_4K);
	return sums;
}

/* What @slot as such, i.e. none of its pages, counts for a huge page. */
static int kvm_prove_lpage_base(const struct kvm_memory_slot *slot, int level)
{
	return !!((slot->base_gfn ^ (slot->userspace_addr >> PAGE_SHIFT)) &
		  (KVM_PAGES_PER_HPAGE(level) - 1));
}

static bool kvm_prove_ends_inside(const struct kvm_memory_slot *slot, gfn_t gfn, int level)
{
	gfn_t start = gfn_round_for_level(gfn, level);

	return start < slot->base_gfn ||
	       start + KVM_PAGES_PER_HPAGE(level) > slot->base_gfn + slot->npages;
}

/* Whether a memslot ahead of that of @node has its metadata for the huge page, too. */
static bool kvm_prove_counted(struct kvm_memslots *slots, struct rb_node *node, gfn_t gfn,
			      int level, const struct kvm_lpage_info *info)
{
	gfn_t start = gfn_round_for_level(gfn, level);
	struct kvm_memory_slot *slot;

	while ((node = rb_prev(node))) {
		slot = rb_entry(node, struct kvm_memory_slot, gfn_node[slots->node_idx]);
		if (slot->base_gfn + slot->npages <= start)
			return false;
		if (kvm_prove_lpage_info(slot->base_gfn + slot->npages - 1, slot, level) == info)
			return true;
	}
	return false;
}

static void kvm_sum_huge_pages(struct kvm_memslots *slots, struct rb_node *node, int level,
			       struct kvm_prove_sums *sums)
{
	struct kvm_memory_slot *slot = rb_entry(node, struct kvm_memory_slot,
						gfn_node[slots->node_idx]);
	gfn_t end = slot->base_gfn + slot->npages, gfn = slot->base_gfn;
	struct kvm_lpage_info *info;

	for (; gfn < end; gfn = gfn_round_for_level(gfn, level) + KVM_PAGES_PER_HPAGE(level)) {
		info = kvm_prove_lpage_info(gfn, slot, level);
		WARN_ON_ONCE(kvm_prove_ends_inside(slot, gfn, level) &&
			     !kvm_prove_lpage_has_end(info));
		if (kvm_prove_counted(slots, node, gfn, level, info))
			continue;

		sums->disallowed += kvm_prove_lpage_count(info) -
				    kvm_prove_lpage_base(slot, level);
		if (slot->arch.rmap[level - PG_LEVEL_4K])
			sums->leafs += pte_list_count(kvm_prove_rmap(gfn, level, slot));
	}
}

static void kvm_sum_pages(const struct kvm_memory_slot *slot, struct kvm_prove_sums *sums)
{
	gfn_t gfn = slot->base_gfn;

	for (; gfn < slot->base_gfn + slot->npages; gfn++) {
		if (slot->arch.rmap[0])
			sums->leafs += pte_list_count(kvm_prove_rmap(gfn, PG_LEVEL_4K, slot));
		if (slot->arch.gfn_write_track)
			sums->tracked += slot->arch.gfn_write_track[gfn - slot->base_gfn];
	}
}

/* Return false if that would take too long. */
static bool kvm_sum_metadata(struct kvm_memslots *slots, struct kvm_prove_sums *sums)
{
	struct kvm_memory_slot *slot;
	struct rb_node *node;
	int level, nr = 0;

	for (node = rb_first(&slots->gfn_tree); node; node = rb_next(node)) {
		slot = rb_entry(node, struct kvm_memory_slot, gfn_node[slots->node_idx]);
		if (slot->npages > KVM_PROVE_MAX_PAGES || ++nr > KVM_PROVE_MAX_MEMSLOTS)
			return false;

		kvm_sum_pages(slot, sums);
		for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
			kvm_sum_huge_pages(slots, node, level, sums);
	}
	return true;
}

void kvm_arch_prove_mmu(struct kvm *kvm)
{
	struct kvm_prove_sums want, got = {};
	int as_id;

	lockdep_assert_held(&kvm->slots_lock);
	lockdep_assert_held_write(&kvm->mmu_lock);

	kvm_prove_tdp_mmu(kvm);
	want = kvm_prove_shadow_pages(kvm);

	for (as_id = 0; as_id < kvm_arch_nr_memslot_as_ids(kvm); as_id++) {
		if (!kvm_sum_metadata(__kvm_memslots(kvm, as_id), &got))
			return;
	}

	WARN_ON_ONCE(got.leafs != want.leafs);

	/* Others count in these, too, or have. */
	if (kvm_external_write_tracking_enabled(kvm))
		return;

	WARN_ON_ONCE(got.tracked != want.tracked);
	WARN_ON_ONCE(got.disallowed != want.disallowed);
}
