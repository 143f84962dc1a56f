/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef __LINUX_KVM_MEMORY_REGION_LIST_H
#define __LINUX_KVM_MEMORY_REGION_LIST_H

#include <linux/types.h>

/**
 * DOC: errors of KVM_SET_USER_MEMORY_REGION_LIST
 *
 * A call that fails changes nothing: not the layout, the memslot generation,
 * a dirty log or the accounting of memory.  Checks come in the order header,
 * array, each entry by ascending index, then entries against each other and the
 * layout.
 *
 * * EINVAL: Malformed.  An unknown flag or one that this VM does not support, a
 *   non-zero reserved field, a misaligned or wrapping address or size, more
 *   pages than KVM allows a slot, a slot or address space id out of range, an id
 *   that stands twice, a dirty_bitmap for a slot that did not log or that is too
 *   small, a dirty_bitmap_size without dirty_bitmap, overlapping dirty_bitmap
 *   buffers, or dirty bits that would be dropped without
 *   KVM_MEMORY_REGION_LIST_DISCARD_DIRTY.
 * * E2BIG: nent is above the value of KVM_CAP_USER_MEMORY_REGION_LIST.
 * * ENOENT: An entry deletes a slot that does not exist.
 * * EEXIST: The final layout overlaps itself or a slot that stays, slots that KVM
 *   uses internally included.
 * * EFAULT: The argument or a dirty_bitmap buffer is not accessible.
 * * ENOMEM: An allocation failed.
 * * EOPNOTSUPP: Well formed, but not possible for this VM and layout.  Never a
 *   matter of timing, i.e. falling back to KVM_SET_USER_MEMORY_REGION2 is right.
 * * EIO: The VM is dead, or belongs to another process.
 *
 * Errors of guest_memfd (EBADF, ...) and of the architecture are passed through.
 */

/**
 * struct kvm_userspace_memory_region_list_entry - final state of one memslot
 * @slot: Slot id, 0 to KVM_CAP_NR_MEMSLOTS - 1.  The address space is in the
 *	header.  An id may stand once in a list.
 * @flags: KVM_MEM_*, as in struct kvm_userspace_memory_region2.
 * @guest_phys_addr: Bytes, page aligned.
 * @memory_size: Bytes, page aligned.  0 deletes the slot; all other fields but
 *	@slot, @dirty_bitmap, @dirty_bitmap_size and @reserved are ignored then.
 * @userspace_addr: Bytes, page aligned.
 * @guest_memfd_offset: Bytes, page aligned.  Ignored without
 *	KVM_MEM_GUEST_MEMFD.
 * @guest_memfd: File descriptor.  Ignored without KVM_MEM_GUEST_MEMFD.
 * @dirty_bitmap_size: Bytes at @dirty_bitmap, at least the old slot's number of
 *	pages rounded up to a multiple of 64, divided by 8.  0 without @dirty_bitmap.
 * @dirty_bitmap: User pointer, or 0.  Receives, on success only, the dirty bits
 *	of the pages of the old slot @slot that leave its log, laid out as
 *	KVM_GET_DIRTY_LOG does for the old slot.  Bits of other pages read 0.
 * @reserved: Must be zero.
 *
 * A slot that did not exist is created, one that did becomes exactly what the
 * entry says.  An entry that is equal to the existing slot is legal.
 */
struct kvm_userspace_memory_region_list_entry {
	__u32 slot;
	__u32 flags;
	__u64 guest_phys_addr;
	__u64 memory_size;
	__u64 userspace_addr;
	__u64 guest_memfd_offset;
	__u32 guest_memfd;
	__u32 dirty_bitmap_size;
	__u64 dirty_bitmap;
	__u64 reserved;
};

/**
 * struct kvm_userspace_memory_region_list - KVM_SET_USER_MEMORY_REGION_LIST
 * @nent: Number of entries, 0 to the value of KVM_CAP_USER_MEMORY_REGION_LIST.
 *	With 0 only the header is checked.
 * @flags: KVM_MEMORY_REGION_LIST_*.
 * @as_id: Address space of all entries.
 * @error_index: Out, ignored on input.  The entry that made the call fail, or
 *	@nent if no single entry did.  After success @nent, or the first entry
 *	whose @dirty_bitmap became inaccessible during the call.
 * @reserved: Must be zero.
 * @entries: The list is a set, its order has no meaning.
 *
 * Slots that no entry names are untouched.
 */
struct kvm_userspace_memory_region_list {
	__u32 nent;
	__u32 flags;
	__u32 as_id;
	__u32 error_index;
	__u64 reserved[2];
	struct kvm_userspace_memory_region_list_entry entries[];
};

/* Make every check that neither allocates nor changes anything, then return. */
#define KVM_MEMORY_REGION_LIST_TEST_ONLY	(1U << 0)
/* Drop dirty bits that leave a log and for which there is no dirty_bitmap. */
#define KVM_MEMORY_REGION_LIST_DISCARD_DIRTY	(1U << 1)

#endif /* __LINUX_KVM_MEMORY_REGION_LIST_H */
