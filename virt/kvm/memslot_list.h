/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_MEMSLOT_LIST_H__
#define __KVM_MEMSLOT_LIST_H__

#include <linux/kvm_host.h>
#include <linux/kvm_memory_region_list.h>
#include <linux/kvm_memslot_list.h>

#include "memslot_plan.h"

/* What one entry of the list does. */
struct kvm_memslot_change {
	/* The slot before and after.  @new is NULL until it is allocated. */
	struct kvm_memory_slot *old;
	struct kvm_memory_slot *new;

	/* Bytes to write to the dirty_bitmap of the entry, 0 without one. */
	u32 result_bytes;

	/* The entry is equal to @old, i.e. @old is not replaced. */
	bool noop;
	/* Not all pages of @old find its metadata in a new slot. */
	bool old_metadata_goes;
	/* @new goes on with metadata of old slots, or would need that of several. */
	bool new_shares;
	bool new_cant_share;
	/* The dirty bitmap of @old lives on in, that of @new comes from, another slot. */
	bool old_bitmap_is_shared;
	bool new_bitmap_is_shared;

	/* Pages that are mapped enter a log with @new, or leave one. */
	bool starts_log;
	bool stops_log;
	/* Pages that are mapped get another name in the dirty ring. */
	bool rearms_log;
};

/* A call of KVM_SET_USER_MEMORY_REGION_LIST. */
struct kvm_memslot_list {
	struct kvm *kvm;
	struct kvm_userspace_memory_region_list __user *user;
	struct kvm_userspace_memory_region_list head;
	struct kvm_userspace_memory_region_list_entry *entries;
	struct kvm_memslot_change *changes;

	/* By gfn, kvm_plan_slot.index is the index of the entry. */
	struct kvm_plan plan;
	struct kvm_plan_slot *plan_old;
	struct kvm_plan_slot *plan_new;
	/* Ids that the list changes. */
	unsigned long *ids;

	/* The entry that made the call fail; head.nent: none in particular. */
	u32 error_index;
	/* Entries that are not no-ops. */
	u32 nr_changes;

	/* Net effect on the VM, known before anything is changed. */
	long nr_pages;
	int nr_logging;
	u64 nr_zapped;
	u64 nr_kept;
	bool leaves_log;
	/* Any of the old slots logs. */
	bool old_logs;
	/* Huge mappings may straddle new boundaries. */
	bool splits;

	/* Pages that enter a log do so as dirty ones. */
	bool init_set;

	/* Set under slots_arch_lock: zap all that refers to memslots, not only by range. */
	bool zaps_shadow;
	/* Pages that stay don't find their metadata in a new slot. */
	bool orphans;
	/* Any of the changes does. */
	bool moves_ends;
	/* The final layout is active, the old slots are unreachable. */
	bool published;
	/* Page faults on what is zapped are held off, until the publication at most. */
	bool gated;

	u64 start_ns;
	struct kvm_memslot_list_stats stats;
};

/* The final state of an entry, as far as it is known without allocating. */
static inline void
kvm_entry_to_memslot(struct kvm_memslot_list *list,
		     const struct kvm_userspace_memory_region_list_entry *e,
		     struct kvm_memory_slot *slot)
{
	*slot = (struct kvm_memory_slot) {
		.as_id = list->head.as_id,
		.id = e->slot,
		.base_gfn = e->guest_phys_addr >> PAGE_SHIFT,
		.npages = e->memory_size >> PAGE_SHIFT,
		.userspace_addr = e->userspace_addr,
		.flags = e->flags,
	};
}

static inline struct kvm_memory_slot *
kvm_run_old_slot(struct kvm_memslot_list *list, const struct kvm_plan_run *run)
{
	return run->old ? list->changes[run->old->index].old : NULL;
}

static inline struct kvm_memory_slot *
kvm_run_new_slot(struct kvm_memslot_list *list, const struct kvm_plan_run *run)
{
	return run->new ? list->changes[run->new->index].new : NULL;
}

/* memslot_check.c */
int kvm_check_memslot_list_head(struct kvm_memslot_list *list);
int kvm_check_memslot_list(struct kvm_memslot_list *list);

/* memslot_publish.c */
int kvm_replace_memslots(struct kvm_memslot_list *list);
void kvm_free_replaced_memslots(struct kvm_memslot_list *list);

/* memslot_share.c */
void kvm_share_arch_memslots(struct kvm_memslot_list *list);
void kvm_share_dirty_bitmaps(struct kvm_memslot_list *list);
void kvm_move_memslot_boundaries(struct kvm_memslot_list *list);

/* memslot_zap.c */
void kvm_zap_replaced_memslots(struct kvm_memslot_list *list);
void kvm_zap_replaced_again(struct kvm_memslot_list *list);
void kvm_ungate_runs(struct kvm_memslot_list *list);
void kvm_zap_final(struct kvm_memslot_list *list);

/* memslot_dirty.c */
u32 kvm_dirty_result_bytes(const struct kvm_memory_slot *slot);
int kvm_fault_in_dirty_results(struct kvm_memslot_list *list);
int kvm_prepare_dirty_bitmaps(struct kvm_memslot_list *list);
void kvm_open_leaving_memslots(struct kvm_memslot_list *list,
			       struct kvm_memslots *old);
void kvm_close_leaving_memslots(struct kvm_memslot_list *list);
void kvm_transfer_dirty_bits(struct kvm_memslot_list *list);
u32 kvm_copy_dirty_results(struct kvm_memslot_list *list);

/* memslot_prove.c */
#ifdef CONFIG_KVM_PROVE_MEMSLOT_LIST
void kvm_prove_publication(struct kvm_memslot_list *list);
void kvm_prove_memslot_list(struct kvm_memslot_list *list);
#else
static inline void kvm_prove_publication(struct kvm_memslot_list *list)
{
}

static inline void kvm_prove_memslot_list(struct kvm_memslot_list *list)
{
}
#endif

#endif /* __KVM_MEMSLOT_LIST_H__ */
