/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_MEMSLOTS_H__
#define __KVM_MEMSLOTS_H__

#include <linux/kvm_host.h>

/*
 * The primitives that memslot updates are made of.  All are for holders of
 * kvm->slots_lock; kvm_replace_memslot() works on the inactive set.
 */
struct kvm_memslots *kvm_get_inactive_memslots(struct kvm *kvm, int as_id);
void kvm_replace_memslot(struct kvm *kvm, struct kvm_memory_slot *old,
			 struct kvm_memory_slot *new);

void kvm_mark_memslots_updating(struct kvm *kvm, struct kvm_memslots *slots,
				int as_id);
void kvm_wait_for_idle_mmu_notifier(struct kvm *kvm);
void kvm_synchronize_memslots(struct kvm *kvm);
void kvm_finish_memslots_update(struct kvm *kvm, struct kvm_memslots *slots);

int kvm_check_memory_region(struct kvm *kvm,
			    const struct kvm_userspace_memory_region2 *mem);

int kvm_alloc_dirty_bitmap(struct kvm_memory_slot *memslot);
void kvm_destroy_dirty_bitmap(struct kvm_memory_slot *memslot);
void kvm_free_memslot(struct kvm *kvm, struct kvm_memory_slot *slot);

#ifdef CONFIG_HAVE_KVM_MEMSLOT_LIST
int kvm_vm_ioctl_set_memory_region_list(struct kvm *kvm,
					struct kvm_userspace_memory_region_list __user *user);
bool kvm_mark_leaving_page_dirty(struct kvm *kvm, int as_id, gfn_t gfn);

static inline void kvm_init_memslot_list(struct kvm *kvm)
{
	raw_spin_lock_init(&kvm->leaving_lock);
}
#else
static inline bool kvm_mark_leaving_page_dirty(struct kvm *kvm, int as_id, gfn_t gfn)
{
	return false;
}

static inline void kvm_init_memslot_list(struct kvm *kvm)
{
}
#endif

#endif /* __KVM_MEMSLOTS_H__ */
