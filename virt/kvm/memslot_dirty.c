// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: memslot list and dirty pages
 *
 * Keep the promise *never-lost*: each dirty bit of a replaced memslot ends up in
 * the log of the slot that now covers the page, or in the dirty_bitmap of the
 * entry that names the old slot.
 *
 * The one principle: bits are moved once, after the grace period, when the old
 * bitmap is quiet.  Until then whoever found the page in the old layout marks the
 * old bitmap, whoever found it in the new one marks the new bitmap, and the OR of
 * both is complete.
 *
 * That leaves those who use one lookup to write and another one to mark: PML
 * buffers hold guest physical addresses, and several software writers look the
 * gfn up afresh after the write.  For a page that goes, moves or stops to be
 * logged, the second lookup may find the new layout, where there is nothing to
 * mark.  Hence, while the memslot generation has UPDATE_IN_PROGRESS set, marks by
 * gfn go to the old set, too.  kvm->leaving points to it from ahead of the
 * publication until the end of the grace period, and is only read under
 * leaving_lock, because a late marker is in no SRCU read-side section that the
 * grace period waits for, i.e. the old set could vanish under it.
 *
 * With a dirty ring there is nothing to move.  Entries have the name of the page,
 * slot id and offset, in the layout in which it was marked.  No id that logs gets
 * another base or address, so that old names do not change their meaning, and a
 * page that gets another name is write-protected, or has its D bit cleared, before
 * the call returns: the next write makes an entry with the new name.
 *
 * The result is staged in the second half of the old bitmap, which is scratch
 * space, and copied out after slots_lock was dropped.
 */
#include <linux/bitops.h>
#include <linux/kvm_host.h>
#include <linux/kvm_memslot_prove.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>

#include "memslot_list.h"
#include "memslots.h"

/* As KVM_GET_DIRTY_LOG, i.e. the same for 32-bit callers. */
u32 kvm_dirty_result_bytes(const struct kvm_memory_slot *slot)
{
	return ALIGN(slot->npages, 64) / 8;
}

static void __user *kvm_dirty_result(struct kvm_memslot_list *list, u32 i)
{
	return u64_to_user_ptr(list->entries[i].dirty_bitmap);
}

int kvm_fault_in_dirty_results(struct kvm_memslot_list *list)
{
	u32 i;

	for (i = 0; i < list->head.nent; i++) {
		u32 bytes = list->changes[i].result_bytes;

		if (bytes && fault_in_safe_writeable(kvm_dirty_result(list, i), bytes)) {
			list->error_index = i;
			return -EFAULT;
		}
		cond_resched();
	}
	return 0;
}

/* Dirty bitmaps are little endian arrays of bits on all architectures. */
static unsigned long kvm_dirty_word(unsigned long word)
{
#ifdef __BIG_ENDIAN
	return BITS_PER_LONG == 64 ? swab64(word) : swab32(word);
#else
	return word;
#endif
}

/* Get @n bits, at most BITS_PER_LONG, from @bit on. */
static unsigned long kvm_get_dirty_bits(const unsigned long *bitmap,
					unsigned long bit, unsigned long n)
{
	const unsigned long *p = bitmap + BIT_WORD(bit);
	unsigned int shift = bit % BITS_PER_LONG;
	unsigned long word;

	word = kvm_dirty_word(READ_ONCE(p[0])) >> shift;
	if (shift + n > BITS_PER_LONG)
		word |= kvm_dirty_word(READ_ONCE(p[1])) << (BITS_PER_LONG - shift);

	return word & (~0UL >> (BITS_PER_LONG - n));
}

/*
 * OR @n bits of @src into @dst, or ones without @src.  Atomic, vCPUs may mark pages
 * in @dst meanwhile.  Return the number of ones.
 */
static u64 kvm_or_dirty_bits(unsigned long *dst, unsigned long dst_bit,
			     const unsigned long *src, unsigned long src_bit,
			     unsigned long n)
{
	unsigned long chunk, word;
	u64 count = 0;

	for (; n; n -= chunk, dst_bit += chunk, src_bit += chunk) {
		chunk = min(n, BITS_PER_LONG - dst_bit % BITS_PER_LONG);
		word = src ? kvm_get_dirty_bits(src, src_bit, chunk) :
			     ~0UL >> (BITS_PER_LONG - chunk);
		if (word) {
			count += hweight_long(word);
			word = kvm_dirty_word(word << dst_bit % BITS_PER_LONG);
			atomic_long_or(word, (atomic_long_t *)dst + BIT_WORD(dst_bit));
		}
		cond_resched();
	}
	return count;
}

int kvm_prepare_dirty_bitmaps(struct kvm_memslot_list *list)
{
	struct kvm_plan_run run;
	u32 i;

	if (!kvm_use_dirty_bitmap(list->kvm))
		return 0;

	for (i = 0; i < list->plan.nr_new; i++) {
		u32 index = list->plan.new[i].index;
		struct kvm_memory_slot *new = list->changes[index].new;

		if (!kvm_slot_dirty_track_enabled(new) || new->dirty_bitmap)
			continue;
		if (kvm_alloc_dirty_bitmap(new)) {
			list->error_index = index;
			return -ENOMEM;
		}
		cond_resched();
	}

	if (!list->init_set)
		return 0;

	/* Before the publication, i.e. nothing that is set later gets lost. */
	kvm_for_each_plan_run(run, &list->plan) {
		struct kvm_memory_slot *new = kvm_run_new_slot(list, &run);

		if (kvm_run_enters_log(&run))
			kvm_or_dirty_bits(new->dirty_bitmap, run.start - new->base_gfn,
					  NULL, 0, run.end - run.start);
	}
	return 0;
}

/*
 * Ahead of the publication.  The set can't have been seen with UPDATE_IN_PROGRESS
 * yet, and those who see it go through leaving_lock.
 */
void kvm_open_leaving_memslots(struct kvm_memslot_list *list,
			       struct kvm_memslots *old)
{
	struct kvm *kvm = list->kvm;

	raw_spin_lock(&kvm->leaving_lock);
	WRITE_ONCE(kvm->leaving[list->head.as_id], old);
	raw_spin_unlock(&kvm->leaving_lock);
}

/* After the grace period.  Waits for those who still look at the old set. */
void kvm_close_leaving_memslots(struct kvm_memslot_list *list)
{
	struct kvm *kvm = list->kvm;

	raw_spin_lock(&kvm->leaving_lock);
	WRITE_ONCE(kvm->leaving[list->head.as_id], NULL);
	raw_spin_unlock(&kvm->leaving_lock);
}

/*
 * Mark a page dirty in the set that is about to go.  The caller has seen a
 * generation with KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS.  Return true if the page must
 * not be marked in the active set, too: there is room for one entry in a ring.
 */
bool kvm_mark_leaving_page_dirty(struct kvm *kvm, int as_id, gfn_t gfn)
{
	struct kvm_memory_slot *slot = NULL;
	bool marked;

	/*
	 * Read kvm->leaving after the generation.  Pairs with
	 * rcu_assign_pointer() in kvm_publish_memslots(): whoever got the new
	 * set must not miss the old one.
	 */
	smp_rmb();

	/* Updates that have no use for it, don't make vCPUs wait for each other. */
	if (!READ_ONCE(kvm->leaving[as_id]))
		return false;

	raw_spin_lock(&kvm->leaving_lock);
	/* Not by last_used_slot, which belongs to readers of the set. */
	if (kvm->leaving[as_id])
		slot = search_memslots(kvm->leaving[as_id], gfn, false);
	kvm_memslot_delay(KVM_DELAY_MARK);
	marked = slot && kvm_slot_dirty_track_enabled(slot);
	if (marked)
		mark_page_dirty_in_slot(kvm, slot, gfn);
	raw_spin_unlock(&kvm->leaving_lock);

	return marked && kvm->dirty_ring_size;
}

static u64 kvm_transfer_run(unsigned long *dst, gfn_t dst_base,
			    const struct kvm_memory_slot *old,
			    const struct kvm_plan_run *run)
{
	return kvm_or_dirty_bits(dst, run->start - dst_base, old->dirty_bitmap,
				 run->start - old->base_gfn, run->end - run->start);
}

/* After the grace period: nobody sets bits in bitmaps of old slots any more. */
void kvm_transfer_dirty_bits(struct kvm_memslot_list *list)
{
	struct kvm_memslot_change *change;
	struct kvm_memory_slot *old, *new;
	struct kvm_plan_run run;
	u32 i;

	lockdep_assert_held(&list->kvm->slots_lock);

	if (!list->old_logs)
		return;

	for (i = 0; i < list->plan.nr_old; i++) {
		change = &list->changes[list->plan.old[i].index];
		if (change->result_bytes && !change->old_bitmap_is_shared &&
		    change->old->dirty_bitmap)
			memset(kvm_second_dirty_bitmap(change->old), 0,
			       kvm_dirty_bitmap_bytes(change->old));
		cond_resched();
	}

	kvm_for_each_plan_run(run, &list->plan) {
		old = kvm_run_old_slot(list, &run);
		new = kvm_run_new_slot(list, &run);

		if (!old || !old->dirty_bitmap)
			continue;

		change = &list->changes[run.old->index];
		if (kvm_run_stays_logged(&run) && !change->old_bitmap_is_shared &&
		    new->dirty_bitmap)
			list->stats.dirty_kept +=
				kvm_transfer_run(new->dirty_bitmap, new->base_gfn, old, &run);
		else if (kvm_run_leaves_log(&run) && change->result_bytes)
			list->stats.dirty_returned +=
				kvm_transfer_run(kvm_second_dirty_bitmap(old),
						 old->base_gfn, old, &run);
	}
}

/* Return the first entry whose buffer has become inaccessible. */
u32 kvm_copy_dirty_results(struct kvm_memslot_list *list)
{
	u32 i, bytes, tail, bad = list->head.nent;

	for (i = 0; i < list->head.nent; i++) {
		struct kvm_memslot_change *change = &list->changes[i];
		void __user *to = kvm_dirty_result(list, i);

		bytes = change->result_bytes;
		if (!bytes)
			continue;

		/*
		 * Nothing left the log, the slot itself may be gone by now.  Or
		 * there is a ring, which has all that was written: nobody but
		 * vCPUs writes.
		 */
		if (change->noop || change->old_bitmap_is_shared ||
		    !change->old->dirty_bitmap) {
			if (clear_user(to, bytes))
				bad = min(bad, i);
			continue;
		}

		/* On 32-bit hosts the bitmap may be a word shorter. */
		tail = bytes - kvm_dirty_bitmap_bytes(change->old);
		if (copy_to_user(to, kvm_second_dirty_bitmap(change->old), bytes - tail) ||
		    clear_user(to + bytes - tail, tail))
			bad = min(bad, i);
		cond_resched();
	}
	return bad;
}
