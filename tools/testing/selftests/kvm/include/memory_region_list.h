/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_H

#include "kvm_util.h"

/*
 * A list with room for @max entries.  Built entry by entry, applied as a whole.
 * Entries start zeroed, mrl_reset() makes the list empty again.
 */
struct mrl {
	struct kvm_userspace_memory_region_list *list;
	uint32_t max;
};

typedef struct kvm_userspace_memory_region_list_entry mrl_entry;

static inline struct mrl mrl_alloc(uint32_t max)
{
	struct mrl l = { .max = max };

	l.list = calloc(1, struct_size(l.list, entries, max));
	TEST_ASSERT(l.list, "calloc() of a list of %u entries failed", max);
	return l;
}

static inline void mrl_free(struct mrl *l)
{
	free(l->list);
	l->list = NULL;
}

static inline void mrl_reset(struct mrl *l)
{
	memset(l->list, 0, struct_size(l->list, entries, l->max));
}

static inline mrl_entry *mrl_set(struct mrl *l, uint32_t slot, uint32_t flags,
				 uint64_t gpa, uint64_t size, void *hva)
{
	mrl_entry *e;

	TEST_ASSERT(l->list->nent < l->max, "List of %u entries is full", l->max);
	e = &l->list->entries[l->list->nent++];
	*e = (mrl_entry) {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};
	return e;
}

static inline mrl_entry *mrl_delete(struct mrl *l, uint32_t slot)
{
	return mrl_set(l, slot, 0, 0, 0, NULL);
}

static inline void mrl_result(mrl_entry *e, void *bitmap, uint32_t size)
{
	e->dirty_bitmap = (uintptr_t)bitmap;
	e->dirty_bitmap_size = size;
}

/* Returns 0 or -1 with errno, as ioctl() does. */
static inline int __mrl_apply(struct kvm_vm *vm, struct mrl *l)
{
	return __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION_LIST, l->list);
}

static inline void mrl_apply(struct kvm_vm *vm, struct mrl *l)
{
	int r = __mrl_apply(vm, l);

	TEST_ASSERT(!r, "KVM_SET_USER_MEMORY_REGION_LIST of %u entries: wanted 0, got %d, errno %d (%s), error_index %u",
		    l->list->nent, r, errno, strerror(errno), l->list->error_index);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_H */
