// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: memslot list on x86
 *
 * What KVM_SET_USER_MEMORY_REGION_LIST needs from the MMU.
 *
 * The one principle: the TDP MMU knows nothing of memslots but gfns, the shadow
 * MMU knows the metadata of memslots, and neither knows memslots.  SPTEs of the TDP
 * MMU are dropped exactly where the layout changes and stay everywhere else
 * (*kept-mappings*).  Shadow pages are accounted in the metadata of the memslot of the
 * page table that they shadow, and their SPTEs are listed in rmaps there.  A memslot
 * that is split leaves its arrays to the pieces, and a memslot that is merged from
 * such pieces gets them back: an entry stays where it is, whatever memslot its gfn
 * belongs to, and nothing has to be zapped, moved or counted anew.  What changes are
 * the ends of memslots, across which there are no huge pages.  Entries of pages that are
 * in no piece are empty, but for the flags of ends, because a page goes only after all
 * that refers to it.  Arrays are left alone if less than half of their pages stay, in
 * whatever memslot: pieces that go on to use them don't hold on to much that nobody needs.
 *
 * Shadow pages are zapped, all of them, if
 *
 * - many pages go, or change their translation.  To find what refers to them, each page
 *   has to be looked up in rmaps and in the hash of shadow pages, at last without
 *   yielding, see KVM_MAX_LOOKUPS;
 * - pages stay, but their metadata goes, because they are to be in one memslot with pages
 *   that did not come from the same one.  Moving rmaps from array to array is 8 bytes a
 *   page under mmu_lock;
 * - a memslot is split or merged in a VM with private memory, because what is mixed is
 *   not tracked in huge pages across an end, or with external write tracking, whose users
 *   hear of a memslot that goes only when it has gone, i.e. may leave counts behind.
 *
 * Those that exist are made obsolete and zapped in sections that yield, the few that were
 * made since the last of these in the section that publishes.  So all rmaps are empty when
 * the memslots change hands, and no shadow page has to be looked up by gfn.
 *
 * All of it runs under slots_lock; functions that return whether TLBs have to be
 * flushed, and kvm_arch_zap_shadow_pages(), under mmu_lock held for writing.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_memslot_list.h>

#include "mmu.h"
#include "mmu_internal.h"
#include "page_track.h"
#include "tdp_mmu.h"
#include "x86.h"

/* Pages, or shadow pages, to look at in the section of mmu_lock that publishes. */
#define KVM_MAX_LOOKUPS		BIT(16)

int kvm_arch_check_memslot_change(struct kvm *kvm,
				  const struct kvm_memory_slot *old,
				  const struct kvm_memory_slot *new)
{
	if (new && new->base_gfn + new->npages - 1 > kvm_mmu_max_gfn())
		return -EINVAL;

	/*
	 * External users of write tracking hold counts per gfn in the memslot,
	 * and are told about nothing but whole memslots that go, after others
	 * would have taken their place.
	 */
	if (old && new && kvm_page_track_has_external_user(kvm) &&
	    (old->id != new->id || old->base_gfn != new->base_gfn ||
	     old->npages != new->npages || old->userspace_addr != new->userspace_addr))
		return -EOPNOTSUPP;

	return 0;
}

/*
 * Drop what is precisely wrong, not everything.  The exception is assigned
 * hardware, for which KVM_X86_QUIRK_SLOT_ZAP_ALL was kept.
 */
void kvm_arch_zap_all_for_memslots(struct kvm *kvm)
{
	if (kvm->arch.vm_type == KVM_X86_DEFAULT_VM &&
	    kvm_check_has_quirk(kvm, KVM_X86_QUIRK_SLOT_ZAP_ALL) &&
	    kvm_arch_has_noncoherent_dma(kvm))
		kvm_mmu_zap_all_fast(kvm);
}

/* Pages that are mapped, by rmaps.  Stable under mmu_lock held for writing. */
static u64 kvm_nr_mapped_pages(struct kvm *kvm)
{
	u64 nr = 0;
	int i;

	for (i = 0; i < KVM_NR_PAGE_SIZES; i++)
		nr += (u64)atomic64_read(&kvm->stat.pages[i]) <<
		      KVM_HPAGE_GFN_SHIFT(PG_LEVEL_4K + i);
	return nr;
}

/* If the section yielded, page faults may have mapped more than was dropped. */
static u64 kvm_nr_unmapped_pages(struct kvm *kvm, u64 before)
{
	u64 now = kvm_nr_mapped_pages(kvm);

	return before > now ? before - now : 0;
}

bool kvm_arch_zap_memslot_range(struct kvm *kvm, struct kvm_memory_slot *slot,
				gfn_t start, gfn_t end, bool shadow, bool may_yield,
				bool flush, u64 *zapped)
{
	u64 before;

	lockdep_assert_held_write(&kvm->mmu_lock);

	if (tdp_mmu_enabled)
		flush = kvm_tdp_mmu_zap_range(kvm, slot->as_id, start, end, may_yield,
					      flush, zapped);

	if (shadow && kvm_memslots_have_rmaps(kvm)) {
		before = kvm_nr_mapped_pages(kvm);
		flush = kvm_mmu_zap_shadow_range(kvm, slot, start, end, may_yield, flush);
		*zapped += kvm_nr_unmapped_pages(kvm, before);
	}

	return flush;
}

bool kvm_arch_zap_straddling_mapping(struct kvm *kvm,
				     struct kvm_memory_slot *slot, gfn_t gfn,
				     u64 *zapped)
{
	bool flush = false;
	u64 before;

	lockdep_assert_held_write(&kvm->mmu_lock);

	/* No mapping is larger than 1 GiB, i.e. nothing straddles its multiples. */
	if (!(gfn & (KVM_PAGES_PER_HPAGE(PG_LEVEL_1G) - 1)))
		return false;

	if (tdp_mmu_enabled)
		flush = kvm_tdp_mmu_zap_straddler(kvm, slot->as_id, gfn, zapped);

	if (kvm_memslots_have_rmaps(kvm)) {
		before = kvm_nr_mapped_pages(kvm);
		flush |= kvm_mmu_zap_rmap_straddlers(kvm, slot, gfn);
		*zapped += kvm_nr_unmapped_pages(kvm, before);
	}

	return flush;
}

static bool kvm_memslot_fits_arrays(struct kvm *kvm, const struct kvm_memory_slot *new,
				    const struct kvm_memory_slot *old)
{
	const struct kvm_memslot_arrays *arrays = old->arch.arrays;

	if (new->base_gfn == old->base_gfn && new->npages == old->npages)
		return true;

	/* Without rmaps there is nothing in it that is worth to be kept. */
	if (!kvm_memslots_have_rmaps(kvm) || kvm_arch_has_private_mem(kvm) ||
	    kvm_external_write_tracking_enabled(kvm))
		return false;

	/* Don't let pieces hold on to arrays most of whose pages are gone. */
	return new->base_gfn >= arrays->base_gfn &&
	       new->base_gfn + new->npages <= arrays->base_gfn + arrays->npages &&
	       arrays->pages_staying >= arrays->npages / 2;
}

void kvm_arch_count_metadata_users(const struct kvm_memory_slot *old)
{
	struct kvm_memslot_arrays *arrays = old->arch.arrays;

	arrays->pages_staying = atomic_long_read(&arrays->pages_in_use);
}

void kvm_arch_memslot_pages_go(const struct kvm_memory_slot *old, unsigned long npages)
{
	old->arch.arrays->pages_staying -= npages;
}

bool kvm_arch_share_memslot(struct kvm *kvm, struct kvm_memory_slot *new,
			    const struct kvm_memory_slot *old)
{
	struct kvm_memslot_arrays *arrays = old->arch.arrays;
	int level;

	lockdep_assert_held(&kvm->slots_arch_lock);

	if (new->arch.arrays)
		return new->arch.arrays == arrays;

	if (!kvm_memslot_fits_arrays(kvm, new, old))
		return false;

	refcount_inc(&arrays->users);
	atomic_long_add(new->npages, &arrays->pages_in_use);
	new->arch.arrays = arrays;
	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
		new->arch.lpage_info[level - 2] = arrays->lpage_info[level - 2] +
			gfn_to_index(new->base_gfn, arrays->base_gfn, level);

	/* The active slot has what the VM needs, i.e. this allocates nothing. */
	return !(kvm_memslots_have_rmaps(kvm) && memslot_rmap_alloc(new)) &&
	       !kvm_page_track_create_memslot(kvm, new);
}

void kvm_arch_set_memslot_boundaries(struct kvm *kvm,
				     const struct kvm_memory_slot *slot, bool set)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	kvm_mmu_slot_set_boundaries(slot, set);
}

bool kvm_arch_mmu_refers_to_memslots(struct kvm *kvm)
{
	lockdep_assert_held(&kvm->slots_arch_lock);

	return kvm_memslots_have_rmaps(kvm);
}

/* Shadow pages are looked up in a hash, the lists of which are long if there are many. */
bool kvm_arch_prefers_zap_of_shadow_pages(struct kvm *kvm, u64 npages)
{
	u64 lookups = 1;

	lockdep_assert_held(&kvm->slots_arch_lock);

	/*
	 * Both change under mmu_lock, which is not held.  Any value will do, it
	 * decides how long the call takes, not what it does.
	 */
	lookups += data_race(kvm->arch.indirect_shadow_pages ?
			     kvm->arch.n_used_mmu_pages : 0) / KVM_NUM_MMU_PAGES;

	return kvm_memslots_have_rmaps(kvm) && npages * lookups > KVM_MAX_LOOKUPS;
}

void kvm_arch_zap_shadow_pages(struct kvm *kvm, bool may_yield, u64 *zapped)
{
	u64 before = kvm_nr_mapped_pages(kvm);

	if (may_yield)
		kvm_mmu_zap_shadow_pages_fast(kvm);
	else
		kvm_mmu_zap_shadow_pages(kvm);

	*zapped += kvm_nr_unmapped_pages(kvm, before);
}

void kvm_arch_dirty_logging_toggled(struct kvm *kvm)
{
	if (!kvm_x86_ops.cpu_dirty_log_size)
		return;

	/*
	 * Store nr_memslots_dirty_logging before reading online_vcpus.  Pairs
	 * with atomic_inc() in kvm_vm_ioctl_create_vcpu(): a vCPU that is not
	 * seen here must see the new number when it is first run.
	 */
	smp_mb();

	/*
	 * Waits until each vCPU has left the guest, i.e. it will look at
	 * nr_memslots_dirty_logging before it writes to a page that is armed
	 * from here on.
	 */
	kvm_make_all_cpus_request(kvm, KVM_REQ_UPDATE_CPU_DIRTY_LOGGING);
}

void kvm_arch_start_dirty_log(struct kvm *kvm, const struct kvm_memory_slot *new)
{
	kvm_mmu_slot_start_dirty_log(kvm, new);
}

void kvm_arch_stop_dirty_log(struct kvm *kvm, const struct kvm_memory_slot *new)
{
	kvm_mmu_zap_collapsible_sptes(kvm, new);
}

void kvm_arch_memslot_deleted(struct kvm *kvm, struct kvm_memory_slot *old)
{
	kvm_page_track_delete_slot(kvm, old);
}

void kvm_arch_memslots_committed(struct kvm *kvm)
{
	kvm_mmu_update_nr_mmu_pages(kvm);
}
