// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: memslot list checks
 *
 * Decide whether a list of memslot changes is well formed and possible, and
 * describe it to the planner.
 *
 * The one principle: a check looks at the final layout only.  Nothing here
 * changes anything but the struct kvm_memslot_list, whose lifetime is one ioctl,
 * so that any failure is *all-or-nothing* for free.  Each entry is checked by
 * itself first, then entries against each other and against the slots that stay.
 *
 * Runs under slots_lock, takes no other lock.
 */
#include <linux/bitmap.h>
#include <linux/kvm_host.h>
#include <linux/kvm_memslot_list.h>

#include "kvm_mm.h"
#include "memslot_list.h"
#include "memslots.h"

#define KVM_MEMORY_REGION_LIST_VALID_FLAGS \
	(KVM_MEMORY_REGION_LIST_TEST_ONLY | KVM_MEMORY_REGION_LIST_DISCARD_DIRTY)

int kvm_check_memslot_list_head(struct kvm_memslot_list *list)
{
	const struct kvm_userspace_memory_region_list *head = &list->head;

	if (head->flags & ~KVM_MEMORY_REGION_LIST_VALID_FLAGS)
		return -EINVAL;
	if (head->reserved[0] || head->reserved[1])
		return -EINVAL;
	if (head->as_id >= kvm_arch_nr_memslot_as_ids(list->kvm))
		return -EINVAL;
	if (head->nent > KVM_USER_MEM_SLOTS)
		return -E2BIG;
	return 0;
}

static int kvm_check_entry_fields(struct kvm_memslot_list *list,
				  const struct kvm_userspace_memory_region_list_entry *e)
{
	const struct kvm_userspace_memory_region2 mem = {
		.slot = list->head.as_id << 16 | e->slot,
		.flags = e->flags,
		.guest_phys_addr = e->guest_phys_addr,
		.memory_size = e->memory_size,
		.userspace_addr = e->userspace_addr,
		.guest_memfd_offset = e->guest_memfd_offset,
		.guest_memfd = e->guest_memfd,
	};

	if (e->reserved || e->slot >= KVM_USER_MEM_SLOTS)
		return -EINVAL;

	return e->memory_size ? kvm_check_memory_region(list->kvm, &mem) : 0;
}

static int kvm_check_result_buffer(struct kvm_memslot_change *change,
				   const struct kvm_userspace_memory_region_list_entry *e)
{
	void __user *bitmap = (void __user *)(unsigned long)e->dirty_bitmap;

	if (!e->dirty_bitmap)
		return e->dirty_bitmap_size ? -EINVAL : 0;

	if (!change->old || !kvm_slot_dirty_track_enabled(change->old))
		return -EINVAL;

	change->result_bytes = kvm_dirty_result_bytes(change->old);
	if (e->dirty_bitmap_size < change->result_bytes)
		return -EINVAL;

	if ((unsigned long)bitmap != e->dirty_bitmap ||
	    !access_ok(bitmap, e->dirty_bitmap_size))
		return -EFAULT;
	return 0;
}

static bool kvm_entry_is_noop(const struct kvm_userspace_memory_region_list_entry *e,
			      const struct kvm_memory_slot *old,
			      const struct kvm_memory_slot *new)
{
	if (!old || old->base_gfn != new->base_gfn || old->npages != new->npages ||
	    old->userspace_addr != new->userspace_addr || old->flags != new->flags)
		return false;

	return !(new->flags & KVM_MEM_GUEST_MEMFD) ||
	       kvm_gmem_is_bound_to(old, e->guest_memfd, e->guest_memfd_offset);
}

/*
 * guest_memfd bindings are not split, moved or handed over, such a slot comes
 * or goes as a whole.
 */
static int kvm_check_gmem_entry(struct kvm_memslot_list *list,
				const struct kvm_userspace_memory_region_list_entry *e,
				const struct kvm_memory_slot *old,
				const struct kvm_memory_slot *new)
{
	int r = 0;

	if (new && (new->flags & KVM_MEM_GUEST_MEMFD))
		r = kvm_gmem_check_bind(list->kvm, e->guest_memfd,
					e->guest_memfd_offset, new->npages);

	if (!r && old && new && ((old->flags | new->flags) & KVM_MEM_GUEST_MEMFD))
		r = -EOPNOTSUPP;
	return r;
}

static int kvm_check_entry(struct kvm_memslot_list *list, u32 i)
{
	const struct kvm_userspace_memory_region_list_entry *e = &list->entries[i];
	struct kvm_memslots *slots = __kvm_memslots(list->kvm, list->head.as_id);
	struct kvm_memslot_change *change = &list->changes[i];
	struct kvm_memory_slot wanted, *new = NULL;
	int r;

	r = kvm_check_entry_fields(list, e);
	if (r)
		return r;

	change->old = id_to_memslot(slots, e->slot);
	if (!e->memory_size && !change->old)
		return -ENOENT;

	r = kvm_check_result_buffer(change, e);
	if (r)
		return r;

	if (e->memory_size) {
		new = &wanted;
		kvm_entry_to_memslot(list, e, new);
		change->noop = kvm_entry_is_noop(e, change->old, new);
		if (change->noop)
			return 0;
	}

	/* In a dirty ring, id and offset name a page, for ever. */
	if (list->kvm->dirty_ring_size && new && change->old &&
	    kvm_slot_dirty_track_enabled(change->old) &&
	    (new->base_gfn != change->old->base_gfn ||
	     new->userspace_addr != change->old->userspace_addr))
		return -EOPNOTSUPP;

	r = kvm_check_gmem_entry(list, e, change->old, new);
	if (r)
		return r;

	return kvm_arch_check_memslot_change(list->kvm, change->old, new);
}

static int kvm_check_entries(struct kvm_memslot_list *list)
{
	u32 i;
	int r;

	for (i = 0; i < list->head.nent; i++) {
		r = kvm_check_entry(list, i);
		if (r) {
			list->error_index = i;
			return r;
		}
		list->nr_changes += !list->changes[i].noop;
		cond_resched();
	}
	return 0;
}

static int kvm_check_ids(struct kvm_memslot_list *list)
{
	u32 i;

	for (i = 0; i < list->head.nent; i++) {
		if (__test_and_set_bit(list->entries[i].slot, list->ids)) {
			list->error_index = i;
			return -EINVAL;
		}
	}

	/* From here on, slots of no-op entries are slots that stay. */
	for (i = 0; i < list->head.nent; i++) {
		if (list->changes[i].noop)
			__clear_bit(list->entries[i].slot, list->ids);
	}
	return 0;
}

static void kvm_plan_add(struct kvm_plan_slot *slots, u32 *nr,
			 const struct kvm_memory_slot *slot, u32 index)
{
	slots[(*nr)++] = (struct kvm_plan_slot) {
		.gfn = slot->base_gfn,
		.npages = slot->npages,
		.hva = slot->userspace_addr,
		.flags = slot->flags,
		.index = index,
	};
}

static void kvm_build_plan(struct kvm_memslot_list *list)
{
	struct kvm_plan *plan = &list->plan;
	struct kvm_memory_slot new;
	u32 i;

	for (i = 0; i < list->head.nent; i++) {
		const struct kvm_userspace_memory_region_list_entry *e = &list->entries[i];
		struct kvm_memslot_change *change = &list->changes[i];

		if (change->noop)
			continue;
		if (change->old) {
			kvm_plan_add(list->plan_old, &plan->nr_old, change->old, i);
			list->nr_pages -= change->old->npages;
			list->nr_logging -= kvm_slot_dirty_track_enabled(change->old);
			list->old_logs |= kvm_slot_dirty_track_enabled(change->old);
		}
		if (e->memory_size) {
			kvm_entry_to_memslot(list, e, &new);
			kvm_plan_add(list->plan_new, &plan->nr_new, &new, i);
			list->nr_pages += new.npages;
			list->nr_logging += kvm_slot_dirty_track_enabled(&new);
		}
	}
	kvm_plan_sort(list->plan_old, plan->nr_old);
	kvm_plan_sort(list->plan_new, plan->nr_new);
	plan->old = list->plan_old;
	plan->new = list->plan_new;
}

/* Slots that no entry changes, internal ones included, stay where they are. */
static bool kvm_overlaps_staying_slot(struct kvm_memslot_list *list,
				      const struct kvm_plan_slot *new)
{
	struct kvm_memslots *slots = __kvm_memslots(list->kvm, list->head.as_id);
	struct kvm_memslot_iter iter;

	kvm_for_each_memslot_in_gfn_range(&iter, slots, new->gfn, new->gfn + new->npages) {
		if (!test_bit(iter.slot->id, list->ids))
			return true;
	}
	return false;
}

static int kvm_check_overlap(struct kvm_memslot_list *list)
{
	const struct kvm_plan *plan = &list->plan;
	const struct kvm_plan_slot *slot;
	u32 i;

	slot = kvm_plan_find_overlap(plan->new, plan->nr_new);
	for (i = 0; !slot && i < plan->nr_new; i++) {
		if (kvm_overlaps_staying_slot(list, &plan->new[i]))
			slot = &plan->new[i];
		cond_resched();
	}
	if (!slot)
		return 0;

	list->error_index = slot->index;
	return -EEXIST;
}

/* What kvm_check_entry() does for the two states of one id, for two ids. */
static int kvm_check_successor(struct kvm_memslot_list *list,
			       const struct kvm_plan_run *run)
{
	struct kvm_memory_slot new;

	/* A binding is looked up by gfn as long as the old slot exists. */
	if (run->old->flags & run->new->flags & KVM_MEM_GUEST_MEMFD)
		return -EOPNOTSUPP;

	kvm_entry_to_memslot(list, &list->entries[run->new->index], &new);
	return kvm_arch_check_memslot_change(list->kvm, kvm_run_old_slot(list, run), &new);
}

/*
 * Note what happens to each replaced slot, and refuse to lose dirty bits:
 * *never-lost*.
 */
static int kvm_check_runs(struct kvm_memslot_list *list)
{
	bool discard = list->head.flags & KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	struct kvm_memslot_change *change;
	struct kvm_plan_run run, prev = {};
	int r;

	kvm_for_each_plan_run(run, &list->plan) {
		list->splits |= kvm_run_splits(&prev, &run);
		prev = run;

		if (run.old && run.new && run.old->index != run.new->index) {
			r = kvm_check_successor(list, &run);
			if (r) {
				list->error_index = run.new->index;
				return r;
			}
		}

		if (kvm_run_zapped(&run))
			list->nr_zapped += run.end - run.start;

		if (kvm_run_leaves_log(&run)) {
			change = &list->changes[run.old->index];
			list->leaves_log = true;
			if (!discard && !change->result_bytes) {
				list->error_index = run.old->index;
				return -EINVAL;
			}
		}

		if (!kvm_run_kept(&run))
			continue;

		list->nr_kept += run.end - run.start;

		/*
		 * A page with a new name in the dirty ring starts anew: what is
		 * in the ring has the old name, which is no longer reset.
		 */
		change = &list->changes[run.new->index];
		change->starts_log |= kvm_run_enters_log(&run);
		change->rearms_log |= list->kvm->dirty_ring_size &&
				      kvm_run_stays_logged(&run) &&
				      run.old->index != run.new->index;
		change->stops_log |= kvm_run_leaves_log(&run);
	}
	return 0;
}

/* Results are written after the point of no return, so they must not collide. */
static int kvm_check_result_overlap(struct kvm_memslot_list *list)
{
	/* Until the plan is built, this is scratch space. */
	struct kvm_plan_slot *buffers = list->plan_old;
	const struct kvm_plan_slot *hit;
	u32 i, nr = 0;

	for (i = 0; i < list->head.nent; i++) {
		if (!list->changes[i].result_bytes)
			continue;
		/* Bytes, not pages; the planner doesn't mind. */
		buffers[nr++] = (struct kvm_plan_slot) {
			.gfn = list->entries[i].dirty_bitmap,
			.npages = list->changes[i].result_bytes,
			.index = i,
		};
	}
	kvm_plan_sort(buffers, nr);
	hit = kvm_plan_find_overlap(buffers, nr);
	if (!hit)
		return 0;

	list->error_index = hit->index;
	return -EINVAL;
}

int kvm_check_memslot_list(struct kvm_memslot_list *list)
{
	int r;

	lockdep_assert_held(&list->kvm->slots_lock);

	list->init_set = kvm_use_dirty_bitmap(list->kvm) &&
			 kvm_dirty_log_manual_protect_and_init_set(list->kvm);

	r = kvm_check_entries(list);
	if (r)
		return r;

	r = kvm_check_ids(list);
	if (r)
		return r;

	r = kvm_check_result_overlap(list);
	if (r)
		return r;

	kvm_build_plan(list);

	/* As for a single region, all pages must fit in an unsigned long. */
	if (list->nr_pages > 0 &&
	    list->kvm->nr_memslot_pages + list->nr_pages < list->kvm->nr_memslot_pages)
		return -EINVAL;

	r = kvm_check_overlap(list);
	if (r)
		return r;

	return kvm_check_runs(list);
}
