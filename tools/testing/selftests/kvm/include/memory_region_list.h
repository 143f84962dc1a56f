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

/* What userspace has to ask is a VM, not /dev/kvm. */
static inline void mrl_require(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	int max_entries = vm_check_cap(vm, KVM_CAP_USER_MEMORY_REGION_LIST);

	kvm_vm_free(vm);
	TEST_REQUIRE(max_entries > 0);
}

static inline size_t mrl_size(uint32_t max)
{
	return sizeof(struct kvm_userspace_memory_region_list) + max * sizeof(mrl_entry);
}

static inline struct mrl mrl_alloc(uint32_t max)
{
	struct mrl l = { .max = max };

	l.list = calloc(1, mrl_size(max));
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
	memset(l->list, 0, mrl_size(l->max));
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

	TEST_ASSERT(!r, "List of %u entries: wanted 0, got %d, errno %d (%s), error_index %u",
		    l->list->nent, r, errno, strerror(errno), l->list->error_index);
}

/* A slot and a layout, for tests that go from one layout to another. */
struct mrl_slot {
	uint32_t id;
	uint32_t flags;
	uint64_t gpa;
	uint64_t size;
	void *hva;
};

#define MRL_LAYOUT_MAX 32

struct mrl_layout {
	uint32_t nr;
	struct mrl_slot slots[MRL_LAYOUT_MAX];
};

static inline void mrl_layout_add(struct mrl_layout *t, uint32_t id, uint32_t flags,
				  uint64_t gpa, uint64_t size, void *hva)
{
	TEST_ASSERT(t->nr < MRL_LAYOUT_MAX, "Layout of %u slots is full", t->nr);
	t->slots[t->nr++] = (struct mrl_slot) {
		.id = id, .flags = flags, .gpa = gpa, .size = size, .hva = hva,
	};
}

static inline const struct mrl_slot *mrl_layout_find(const struct mrl_layout *t, uint32_t id)
{
	uint32_t i;

	for (i = 0; i < t->nr; i++) {
		if (t->slots[i].id == id)
			return &t->slots[i];
	}
	return NULL;
}

static inline bool mrl_slot_equal(const struct mrl_slot *a, const struct mrl_slot *b)
{
	return a && b && a->id == b->id && a->flags == b->flags && a->gpa == b->gpa &&
	       a->size == b->size && a->hva == b->hva;
}

/* Append what turns @from into @to.  Equal slots become entries if @noop. */
static inline void mrl_add_change(struct mrl *l, const struct mrl_layout *from,
				  const struct mrl_layout *to, bool noop)
{
	const struct mrl_slot *s;
	uint32_t i;

	for (i = 0; i < from->nr; i++) {
		if (!mrl_layout_find(to, from->slots[i].id))
			mrl_delete(l, from->slots[i].id);
	}
	for (i = 0; i < to->nr; i++) {
		s = &to->slots[i];
		if (noop || !mrl_slot_equal(s, mrl_layout_find(from, s->id)))
			mrl_set(l, s->id, s->flags, s->gpa, s->size, s->hva);
	}
}

/* The same change as a userspace has to do it today.  Calls @before_delete, if any. */
static inline void mrl_change_old(struct kvm_vm *vm, const struct mrl_layout *from,
				  const struct mrl_layout *to,
				  void (*before_delete)(const struct mrl_slot *s))
{
	const struct mrl_slot *s;
	uint32_t i;

	for (i = 0; i < from->nr; i++) {
		s = &from->slots[i];
		if (mrl_slot_equal(s, mrl_layout_find(to, s->id)))
			continue;
		if (before_delete)
			before_delete(s);
		vm_set_user_memory_region(vm, s->id, 0, s->gpa, 0, NULL);
	}
	for (i = 0; i < to->nr; i++) {
		s = &to->slots[i];
		if (!mrl_slot_equal(s, mrl_layout_find(from, s->id)))
			vm_set_user_memory_region(vm, s->id, s->flags, s->gpa, s->size, s->hva);
	}
}

/* Read one u64 from the binary stats behind @fd.  False if there is no such stat. */
static inline bool mrl_read_stat(int fd, const char *name, uint64_t *data)
{
	struct kvm_stats_desc *descs, *desc;
	struct kvm_stats_header header;
	bool found = false;
	int i;

	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);
	for (i = 0; i < header.num_desc && !found; i++) {
		desc = get_stats_descriptor(descs, i, &header);
		found = !strcmp(desc->name, name);
		if (found)
			read_stat_data(fd, &header, desc, data, 1);
	}
	free(descs);
	return found;
}

static inline bool mrl_read_vm_stat(struct kvm_vm *vm, const char *name, uint64_t *data)
{
	int fd = vm_get_stats_fd(vm);
	bool found = mrl_read_stat(fd, name, data);

	close(fd);
	return found;
}

static inline bool mrl_read_vcpu_stat(struct kvm_vcpu *vcpu, const char *name,
				      uint64_t *data)
{
	int fd = vcpu_get_stats_fd(vcpu);
	bool found = mrl_read_stat(fd, name, data);

	close(fd);
	return found;
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_H */
