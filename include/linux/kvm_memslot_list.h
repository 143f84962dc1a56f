/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __LINUX_KVM_MEMSLOT_LIST_H
#define __LINUX_KVM_MEMSLOT_LIST_H

#include <linux/kvm_types.h>

struct kvm;
struct kvm_memory_slot;

/*
 * What a call did, for the tracepoint.  Times are since its start, but @locked_ns: for
 * how long mmu_lock was held to publish.  @zapped_late is the part of @zapped_pages that
 * was zapped there.
 */
struct kvm_memslot_list_stats {
	u32 as_id;
	u32 nent;
	u32 created;
	u32 deleted;
	u32 replaced;
	u64 kept_pages;
	u64 zapped_pages;
	u64 zapped_late;
	u64 dirty_kept;
	u64 dirty_returned;
	u64 publish_ns;
	u64 locked_ns;
	u64 grace_ns;
	u64 total_ns;
};

/*
 * What an architecture supplies to select HAVE_KVM_MEMSLOT_LIST.  It also
 * promises that its page fault path notes the active set of memslots before it
 * looks a slot up, and rechecks the set under mmu_lock before it installs
 * anything, mappings for gfns without a memslot included.
 *
 * All hooks run under slots_lock, but for kvm_arch_free_memslot().
 */

/*
 * Return 0 or a negative errno if this VM can't go from @old (NULL: none) to
 * @new (NULL: deleted).  They have an id, or else a range of gfns, in common.  Must
 * neither allocate nor change anything, and look at nothing but id, base, size,
 * address and flags of @new.
 */
int kvm_arch_check_memslot_change(struct kvm *kvm,
				  const struct kvm_memory_slot *old,
				  const struct kvm_memory_slot *new);

/*
 * Drop all mappings, if this architecture wants that for a VM in which at least
 * one gfn loses its old translation.  Called without mmu_lock.
 */
void kvm_arch_zap_all_for_memslots(struct kvm *kvm);

/*
 * Drop every mapping that covers a gfn in [@start, @end), which lies in @slot, in
 * invalid roots too, and, with @shadow, everything there that refers to @slot; without,
 * that is left to kvm_arch_zap_shadow_pages().  Return whether TLBs have to be flushed
 * before mmu_lock, held for writing, is released; @flush says whether they had to
 * before.  With @may_yield mmu_lock may be released meanwhile.  Add the number of pages
 * that were mapped to @zapped.
 */
bool kvm_arch_zap_memslot_range(struct kvm *kvm, struct kvm_memory_slot *slot,
				gfn_t start, gfn_t end, bool shadow, bool may_yield,
				bool flush, u64 *zapped);

/*
 * Drop every mapping that covers both @gfn - 1 and @gfn, which lie in @slot.  As
 * above, but never yields, and covers all kinds of mappings.
 */
bool kvm_arch_zap_straddling_mapping(struct kvm *kvm,
				     struct kvm_memory_slot *slot, gfn_t gfn,
				     u64 *zapped);

/*
 * Let @new go on to use the metadata of @old, a memslot that is replaced, for the pages
 * that they have in common.  For all others, which are in no memslot or are zapped, the
 * metadata has to be as if it were new.  Called under slots_arch_lock, for each such
 * @old in turn, kvm_arch_free_memslot() undoes it.  Return false if metadata of @old can't
 * be used, or not together with what is used already.
 */
bool kvm_arch_share_memslot(struct kvm *kvm, struct kvm_memory_slot *new,
			    const struct kvm_memory_slot *old);

/*
 * Ahead of that, also under slots_arch_lock: @old is one of those that are replaced, and
 * then, for each part of these, @npages of @old go, or get another address.
 */
void kvm_arch_count_metadata_users(const struct kvm_memory_slot *old);
void kvm_arch_memslot_pages_go(const struct kvm_memory_slot *old, unsigned long npages);

/*
 * The ends of a memslot that shares its metadata with others are ends in the new
 * layout (@set), or were in the old one.  Called for all of the old, then for all of
 * the new ones, in the section of mmu_lock, held for writing, that publishes.
 */
void kvm_arch_set_memslot_boundaries(struct kvm *kvm,
				     const struct kvm_memory_slot *slot, bool set);

/*
 * Return whether the MMU refers to memslots by anything but gfn, i.e. whether
 * kvm_arch_zap_shadow_pages() has to be called if the metadata of a memslot goes
 * without being shared.  Stable under slots_arch_lock.  And whether that is to be
 * called, in such an MMU, rather than zapping @npages by range: an estimate.
 */
bool kvm_arch_mmu_refers_to_memslots(struct kvm *kvm);
bool kvm_arch_prefers_zap_of_shadow_pages(struct kvm *kvm, u64 npages);

/*
 * Drop everything that refers to memslots, under mmu_lock held for writing,
 * and flush.  If @may_yield, what was there when the function was called; if
 * not, all.
 */
void kvm_arch_zap_shadow_pages(struct kvm *kvm, bool may_yield, u64 *zapped);

/*
 * After the grace period: nr_memslots_dirty_logging went from or to zero; @new
 * has mapped pages whose log starts, or ended; @old was deleted; the number of
 * pages in memslots may have changed.  kvm_arch_start_dirty_log() leaves the TLB
 * flush to its caller.
 */
void kvm_arch_dirty_logging_toggled(struct kvm *kvm);
void kvm_arch_start_dirty_log(struct kvm *kvm, const struct kvm_memory_slot *new);
void kvm_arch_stop_dirty_log(struct kvm *kvm, const struct kvm_memory_slot *new);
void kvm_arch_memslot_deleted(struct kvm *kvm, struct kvm_memory_slot *old);
void kvm_arch_memslots_committed(struct kvm *kvm);

#endif /* __LINUX_KVM_MEMSLOT_LIST_H */
