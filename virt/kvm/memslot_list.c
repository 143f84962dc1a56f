// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: memslot list
 *
 * KVM_SET_USER_MEMORY_REGION_LIST: replace any number of memslots of one address
 * space in one step.
 *
 * The one principle: everything that can fail comes before the publication, and
 * what follows cannot fail.  That is *all-or-nothing*.
 *
 * Lifecycle of a call:
 *
 * 1. copy: the argument is copied once, a racing writer can't make two checks
 *    see two values.
 * 2. check (memslot_check.c): only the final layout counts, hence *order-free*.
 *    The planner (memslot_plan.c) compares old and final layout by gfn.
 * 3. prepare: allocate the new memslots and build the inactive set from them.
 *    This is the last point of failure.
 * 4. zap what changes its translation or goes, and publish the new set within
 *    the section of mmu_lock in which the last such mapping went.  Because the
 *    page fault path rechecks the active set under mmu_lock, no mapping of the
 *    old layout can appear afterwards: *no-stale-mapping*.  Because there is one
 *    assignment, and no invalid slot on the way, every lookup resolves in the
 *    old or in the new layout: *no-hole*.  Mappings of pages that stay are not
 *    touched: *kept-mappings*.
 * 5. drain: one grace period, the only one (*one-grace-period*), waits for those
 *    who looked something up in the old layout.  It never waits for a vCPU to
 *    leave KVM_RUN: *no-pause*.
 * 6. commit: mirror the change into the now inactive set, carry dirty bits over
 *    and return those that leave (memslot_dirty.c): *never-lost*.
 *
 * Locks, outermost first::
 *
 *	slots_lock			from the checks to the commit, i.e. neither while
 *					the argument nor while results are copied
 *	  slots_arch_lock		from prepare to the publication
 *	    mn_invalidate_lock		publication
 *	      mmu_lock (write)		zapping, publication
 *	        leaving_lock		raw, a leaf
 *
 * Nothing but slots_lock is held across the grace period: vCPUs take slots_arch_lock
 * and mmu_lock inside of SRCU read-side sections, and prefaulting waits there until page
 * faults are no longer held off.  That is *no-deadlock*.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_memslot_list.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <trace/events/kvm.h>

#include "kvm_mm.h"
#include "memslot_list.h"
#include "memslots.h"

static int kvm_copy_memslot_list(struct kvm_memslot_list *list)
{
	u32 nent = list->head.nent;

	if (!nent)
		return 0;

	list->entries = kvmalloc_array(nent, sizeof(*list->entries), GFP_KERNEL_ACCOUNT);
	list->changes = kvcalloc(nent, sizeof(*list->changes), GFP_KERNEL_ACCOUNT);
	list->plan_old = kvmalloc_array(nent, sizeof(*list->plan_old), GFP_KERNEL_ACCOUNT);
	list->plan_new = kvmalloc_array(nent, sizeof(*list->plan_new), GFP_KERNEL_ACCOUNT);
	list->ids = bitmap_zalloc(KVM_MEM_SLOTS_NUM, GFP_KERNEL_ACCOUNT);
	if (!list->entries || !list->changes || !list->plan_old ||
	    !list->plan_new || !list->ids)
		return -ENOMEM;

	if (copy_from_user(list->entries, list->user->entries,
			   array_size(nent, sizeof(*list->entries))))
		return -EFAULT;
	return 0;
}

static void kvm_free_memslot_list(struct kvm_memslot_list *list)
{
	bitmap_free(list->ids);
	kvfree(list->plan_new);
	kvfree(list->plan_old);
	kvfree(list->changes);
	kvfree(list->entries);
}

static int kvm_apply_memslot_list(struct kvm_memslot_list *list)
{
	int r;

	if (!list->head.nent)
		return 0;

	r = kvm_check_memslot_list(list);
	if (r || (list->head.flags & KVM_MEMORY_REGION_LIST_TEST_ONLY))
		return r;

	r = kvm_fault_in_dirty_results(list);
	if (r || !list->nr_changes)
		return r;

	return kvm_replace_memslots(list);
}

static void kvm_account_memslot_list(struct kvm_memslot_list *list, int r)
{
	struct kvm_vm_stat_generic *stat = &list->kvm->stat.generic;

	lockdep_assert_held(&list->kvm->slots_lock);

	stat->memory_region_list_calls++;
	if (r)
		stat->memory_region_list_failed++;
	else
		stat->memory_region_list_entries += list->head.nent;
	stat->memory_region_list_zapped += list->stats.zapped_pages;
}

int kvm_vm_ioctl_set_memory_region_list(struct kvm *kvm,
					struct kvm_userspace_memory_region_list __user *user)
{
	struct kvm_memslot_list list = {
		.kvm = kvm,
		.user = user,
		.start_ns = ktime_get_ns(),
	};
	int r;

	BUILD_BUG_ON(sizeof(list.head) != 32);
	BUILD_BUG_ON(sizeof(*list.entries) != 64);

	if (copy_from_user(&list.head, user, sizeof(list.head)))
		return -EFAULT;
	list.error_index = list.head.nent;
	list.stats.as_id = list.head.as_id;
	list.stats.nent = list.head.nent;
	if (put_user(list.error_index, &user->error_index))
		return -EFAULT;

	r = kvm_check_memslot_list_head(&list);
	if (!r)
		r = kvm_copy_memslot_list(&list);

	mutex_lock(&kvm->slots_lock);
	if (!r)
		r = kvm_apply_memslot_list(&list);
	kvm_account_memslot_list(&list, r);
	mutex_unlock(&kvm->slots_lock);

	if (!r && !(list.head.flags & KVM_MEMORY_REGION_LIST_TEST_ONLY))
		list.error_index = kvm_copy_dirty_results(&list);

	/* Too late to fail if the header has become inaccessible. */
	if (list.error_index != list.head.nent)
		put_user(list.error_index, &user->error_index);

	list.stats.total_ns = ktime_get_ns() - list.start_ns;
	trace_kvm_memory_region_list(&list.stats, r);
	if (list.published)
		kvm_free_replaced_memslots(&list);
	kvm_free_memslot_list(&list);
	return r;
}
