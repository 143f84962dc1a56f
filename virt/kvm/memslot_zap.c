// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: memslot list zapping
 *
 * Drop the mappings that a new set of memslots makes wrong: those of pages that
 * go, or that change their userspace address, READONLY or guest_memfd binding.
 *
 * The one principle: only kvm_zap_final() counts.  It runs in the section of
 * mmu_lock in which the new set is published, visits everything that has to be
 * gone, and does not rely on anything that ran before it: *no-stale-mapping*.
 * kvm_zap_replaced_memslots() makes it cheap.  It does the bulk of the work in
 * sections that yield, first while page faults go on, then once more with those on
 * the affected gfns held off by mmu_invalidate_in_progress, so that little can have
 * come back.  (Where all shadow pages go, what else page faults build up between the
 * two goes as well.)  This gate is up until the publication, unless that has
 * to wait for MMU notifiers: they are those of the whole address space, and can go on
 * for long.  (Those of the VM's memory hold off page faults themselves, and as ranges
 * are added up until there are none, that of the gate remains with theirs.)  What has
 * come back by then, by a page fault each, is zapped in the same way, a few times: only
 * where there are notifiers behind each of them, the section that publishes may have
 * much to zap.  Least of all the gate may be up across a grace period: loops that retry
 * inside of SRCU read-side sections would never let it end.
 *
 * mmu_lock is taken here by kvm_zap_then_gate(), and held by the caller of
 * kvm_zap_final().
 */
#include <linux/kvm_host.h>
#include <linux/kvm_memslot_list.h>
#include <linux/pgtable.h>

#include "kvm_mm.h"
#include "memslot_list.h"

#ifdef KVM_HAVE_MMU_RWLOCK
#define KVM_MMU_LOCK_NEEDBREAK(kvm)	rwlock_needbreak(&(kvm)->mmu_lock)
#define KVM_MMU_ASSERT_LOCKED(kvm)	lockdep_assert_held_write(&(kvm)->mmu_lock)
#else
#define KVM_MMU_LOCK_NEEDBREAK(kvm)	spin_needbreak(&(kvm)->mmu_lock)
#define KVM_MMU_ASSERT_LOCKED(kvm)	lockdep_assert_held(&(kvm)->mmu_lock)
#endif

/* The largest range that one mapping, other than of an old layout, covers. */
#define KVM_MAX_MAPPING_PAGES	(PUD_SIZE >> PAGE_SHIFT)

/*
 * Yield between runs, the walk of a single one yields only after it has made
 * progress.  Pages of what was zapped can be freed as soon as mmu_lock is dropped.
 */
static bool kvm_zap_yield(struct kvm *kvm, bool flush)
	__must_hold(&kvm->mmu_lock)
{
	if (!need_resched() && !KVM_MMU_LOCK_NEEDBREAK(kvm))
		return flush;

	if (flush)
		kvm_flush_remote_tlbs(kvm);
	KVM_MMU_UNLOCK(kvm);
	cond_resched();
	KVM_MMU_LOCK(kvm);
	return false;
}

static bool kvm_zap_runs(struct kvm_memslot_list *list, bool may_yield)
{
	struct kvm_plan_run run;
	bool flush = false;

	KVM_MMU_ASSERT_LOCKED(list->kvm);

	if (!list->nr_zapped)
		return false;

	kvm_for_each_plan_run(run, &list->plan) {
		if (may_yield)
			flush = kvm_zap_yield(list->kvm, flush);
		if (kvm_run_zapped(&run))
			flush = kvm_arch_zap_memslot_range(list->kvm,
							   kvm_run_old_slot(list, &run),
							   run.start, run.end,
							   !list->zaps_shadow, may_yield, flush,
							   &list->stats.zapped_pages);
	}
	return flush;
}

static void kvm_zap_yielding(struct kvm_memslot_list *list)
{
	KVM_MMU_ASSERT_LOCKED(list->kvm);

	if (list->zaps_shadow)
		kvm_arch_zap_shadow_pages(list->kvm, true, &list->stats.zapped_pages);
	if (kvm_zap_runs(list, true))
		kvm_flush_remote_tlbs(list->kvm);
}

/*
 * A page fault may map more than its own page.  Hold off faults on all gfns
 * around a run that could end up in one mapping with it, or, if memslots are
 * referred to by more than gfns, on all gfns: a page table that goes may be in use
 * for any of them.
 */
static void kvm_gate_runs(struct kvm_memslot_list *list)
{
	struct kvm_plan_run run;
	gfn_t start, end;

	KVM_MMU_ASSERT_LOCKED(list->kvm);

	kvm_mmu_invalidate_begin(list->kvm);
	list->gated = true;

	/* As an end, INVALID_GPA, i.e. -1ull, would say that there is no range. */
	if (kvm_arch_mmu_refers_to_memslots(list->kvm)) {
		kvm_mmu_invalidate_range_add(list->kvm, 0, gpa_to_gfn(-1ull));
		return;
	}

	kvm_for_each_plan_run(run, &list->plan) {
		if (!kvm_run_zapped(&run))
			continue;

		start = round_down(run.start, KVM_MAX_MAPPING_PAGES);
		end = round_up(run.end, KVM_MAX_MAPPING_PAGES);
		start = max(start, run.old->gfn);
		end = min(end, run.old->gfn + run.old->npages);
		kvm_mmu_invalidate_range_add(list->kvm, start, end);
	}
}

/* Page faults that were held off are retried, and find what is active by then. */
void kvm_ungate_runs(struct kvm_memslot_list *list)
{
	KVM_MMU_ASSERT_LOCKED(list->kvm);

	if (list->gated)
		kvm_mmu_invalidate_end(list->kvm);
	list->gated = false;
}

static void kvm_zap_then_gate(struct kvm_memslot_list *list)
{
	struct kvm *kvm = list->kvm;

	lockdep_assert_held(&kvm->slots_arch_lock);

	KVM_MMU_LOCK(kvm);
	kvm_zap_yielding(list);
	KVM_MMU_UNLOCK(kvm);

	KVM_MMU_LOCK(kvm);
	kvm_gate_runs(list);
	kvm_zap_yielding(list);
	KVM_MMU_UNLOCK(kvm);
}

void kvm_zap_replaced_memslots(struct kvm_memslot_list *list)
{
	struct kvm *kvm = list->kvm;

	if (!list->nr_zapped && !list->zaps_shadow)
		return;

	/*
	 * Not after the publication.  A root that was made invalid may hold
	 * mappings of pages that then no memslot covers, i.e. that an MMU
	 * notifier would not find.
	 */
	if (list->nr_zapped)
		kvm_arch_zap_all_for_memslots(kvm);

	kvm_zap_then_gate(list);

	/* As in kvm_zap_final(). */
	if (list->nr_zapped)
		kvm_arch_guest_memory_reclaimed(kvm);
}

/* What came back while the gate was down. */
void kvm_zap_replaced_again(struct kvm_memslot_list *list)
{
	u64 before = list->stats.zapped_pages;

	kvm_zap_then_gate(list);
	if (list->nr_zapped && list->stats.zapped_pages != before)
		kvm_arch_guest_memory_reclaimed(list->kvm);
}

/*
 * A huge mapping across a new boundary is found by neither of the slots that
 * meet there: one of them could stop to log while the other starts.
 */
static bool kvm_zap_straddlers(struct kvm_memslot_list *list)
{
	struct kvm_plan_run run, prev = {};
	bool flush = false;

	if (!list->splits)
		return false;

	kvm_for_each_plan_run(run, &list->plan) {
		if (kvm_run_splits(&prev, &run))
			flush |= kvm_arch_zap_straddling_mapping(list->kvm,
								 kvm_run_old_slot(list, &run),
								 run.start,
								 &list->stats.zapped_pages);
		prev = run;
	}
	return flush;
}

/* In the section of mmu_lock that publishes, i.e. without yielding. */
void kvm_zap_final(struct kvm_memslot_list *list)
{
	u64 before = list->stats.zapped_pages;
	bool flush, reclaimed;

	KVM_MMU_ASSERT_LOCKED(list->kvm);

	flush = kvm_zap_runs(list, false);
	if (list->zaps_shadow)
		kvm_arch_zap_shadow_pages(list->kvm, false, &list->stats.zapped_pages);
	reclaimed = list->nr_zapped && list->stats.zapped_pages != before;
	flush |= kvm_zap_straddlers(list);
	list->stats.zapped_late = list->stats.zapped_pages - before;

	/*
	 * Before the publication, so that all accesses through the old layout
	 * are over when the first one through the new layout starts.
	 */
	if (flush)
		kvm_flush_remote_tlbs(list->kvm);

	/*
	 * Not after the publication either, an MMU notifier would no longer find
	 * the pages that go, and their new owner may have written them by then.
	 * Slow, but needed only if something came back in spite of the gate.
	 */
	if (reclaimed)
		kvm_arch_guest_memory_reclaimed(list->kvm);
}
