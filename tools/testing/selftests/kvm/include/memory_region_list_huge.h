/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_HUGE_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_HUGE_H

#include <linux/mman.h>
#include <linux/sizes.h>

#include "memory_region_list_guest.h"
#include "memory_region_list_setting.h"

static struct mrl_setting mrl_nr_hugepages = {
	.path = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
};

/*
 * Map @size bytes at MRL_HVA_BASE, in transparent huge pages or by hugetlb.
 * False if the host does not have them.
 */
static inline bool mrl_huge_alloc(uint64_t size, bool hugetlb)
{
	int flags = hugetlb ? MAP_HUGETLB | MAP_HUGE_2MB : 0;
	void *mem, *want = (void *)MRL_HVA_BASE;
	char nr[32];

	snprintf(nr, sizeof(nr), "%lu", size / SZ_2M);
	if (hugetlb && !mrl_setting_set(&mrl_nr_hugepages, nr))
		return false;
	mem = mmap(want, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0);
	TEST_ASSERT(mem == want, "mmap() of 0x%lx bytes: wanted %p, got %p, errno %d", size, want,
		    mem, errno);
	madvise(mem, size, MADV_HUGEPAGE);
	memset(mem, 0, size);
	return hugetlb || mrl_thp_bytes() >= size;
}

static inline void mrl_huge_free(uint64_t size)
{
	TEST_ASSERT(!munmap((void *)MRL_HVA_BASE, size), "munmap(): wanted 0, got errno %d", errno);
}

/* Map in huge pages in the guest, too: with shadow paging KVM uses no larger ones. */
static inline void mrl_huge_map(struct kvm_vm *vm, uint64_t size)
{
	virt_map_level(vm, MRL_GPA_BASE, MRL_GPA_BASE, size, PG_LEVEL_2M);
}

/* Mappings that there are. */
struct mrl_mapped {
	int64_t huge, small;
};

static inline struct mrl_mapped mrl_mapped_get(struct kvm_vm *vm)
{
	return (struct mrl_mapped) {
		.huge = vm_get_stat(vm, "pages_2m"),
		.small = vm_get_stat(vm, "pages_4k"),
	};
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_HUGE_H */
