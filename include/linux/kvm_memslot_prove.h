/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __LINUX_KVM_MEMSLOT_PROVE_H
#define __LINUX_KVM_MEMSLOT_PROVE_H

#include <linux/kvm_types.h>

struct kvm;

/*
 * Places where CONFIG_KVM_PROVE_MEMSLOT_LIST can hold somebody up, so that a race
 * whose window is a few instructions is lost in each run and not once a month.  All
 * may sleep, but KVM_DELAY_MARK.  See memslot_prove.c for the module parameters.
 */
enum kvm_memslot_delay {
	/* Page fault: its memslot is known, nothing else. */
	KVM_DELAY_SLOT,
	/* Page fault: about to take mmu_lock. */
	KVM_DELAY_FAULT,
	/* Shadow roots: their gfns are visible, about to take mmu_lock. */
	KVM_DELAY_ROOT,
	/* First shadow root: about to take slots_arch_lock. */
	KVM_DELAY_FIRST_ROOT,
	/* Prefault: the root is loaded, the fault has not begun. */
	KVM_DELAY_PREFAULT,
	/* VM-Exit: outside of guest mode, hardware logs are not flushed. */
	KVM_DELAY_EXIT,
	/* Dirty page: written and looked up, in either layout, not marked. */
	KVM_DELAY_MARK,
	/* List: zapped what changes, not published. */
	KVM_DELAY_ZAPPED,
	/* List: published, the grace period has not begun. */
	KVM_DELAY_PUBLISHED,
	/* List: the grace period is over, the old memslots are untouched. */
	KVM_DELAY_DRAINED,

	KVM_NR_DELAYS,
};

#ifdef CONFIG_KVM_PROVE_MEMSLOT_LIST
void kvm_memslot_delay(enum kvm_memslot_delay place);

/*
 * What the architecture checks, under slots_lock, and mmu_lock held for writing:
 * nothing in [@start, @end), a part of @old, is mapped, or refers to @old;
 * all that is mapped, and all that refers to memslots, agrees with the active ones.
 */
void kvm_arch_prove_unmapped(struct kvm *kvm, const struct kvm_memory_slot *old,
			     gfn_t start, gfn_t end);
void kvm_arch_prove_mmu(struct kvm *kvm);
#else
static inline void kvm_memslot_delay(enum kvm_memslot_delay place)
{
}
#endif

#endif /* __LINUX_KVM_MEMSLOT_PROVE_H */
