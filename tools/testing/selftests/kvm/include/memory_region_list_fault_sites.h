/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_SITES_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_SITES_H

/*
 * All places at which a call of KVM_SET_USER_MEMORY_REGION_LIST allocates, or copies, and
 * what it means if that fails.  The one list of them: a place that is not in it, or that is
 * never reached, fails memory_region_list_fault_test.
 */
#include "memory_region_list_fault.h"

/* Where there is such a place. */
enum { ALWAYS, RMAPS, WRITE_TRACK, GMEM, SPLITS };
/* The entry that it is the fault of: none, with error_index as it was or nent, or one. */
enum { UNTOUCHED, ALL, NEW, BOUND, WITH_RESULT };

static const struct site {
	const char *function;
	/* Places in it, as they are compiled. */
	uint32_t places;
	int needs;
	/* What the failure of an allocation there means; 0: nothing but more work. */
	int err;
	int index;
	/* The function into which it is inlined all the same. */
	const char *traced;
} sites[] = {
	/* The header, read and, in kvm_vm_ioctl_set_memory_region_list(), too, written. */
	{ "kvm_vm_ioctl_set_memory_region_list", 1, ALWAYS, EFAULT, UNTOUCHED },
	{ "__put_user_4", 1, ALWAYS, EFAULT, UNTOUCHED },
	/* The entries, what is known of them, two arrays for the planner, a bitmap, and a copy. */
	{ "kvm_copy_memslot_list", 6, ALWAYS, ENOMEM, ALL },
	{ "kvm_fault_in_dirty_results", 1, ALWAYS, EFAULT, WITH_RESULT },
	{ "kvm_alloc_new_memslots", 1, ALWAYS, ENOMEM, NEW, "kvm_prepare_memslots" },
	{ "memslot_rmap_alloc", 1, RMAPS, ENOMEM, NEW },
	/* Together with kvm_alloc_memslot_arrays(). */
	{ "kvm_alloc_memslot_metadata", 2, ALWAYS, ENOMEM, NEW },
	{ "kvm_page_track_write_tracking_alloc", 1, WRITE_TRACK, ENOMEM, NEW,
	  "kvm_page_track_create_memslot" },
	{ "kvm_alloc_dirty_bitmap", 1, ALWAYS, ENOMEM, NEW },
	{ "kvm_gmem_bind", 1, GMEM, ENOMEM, BOUND },
	/* After the publication. */
	{ "tdp_mmu_alloc_sp_for_split", 2, SPLITS, 0, ALL, "tdp_mmu_split_huge_pages_root" },
	{ "kvm_copy_dirty_results", 1, ALWAYS, 0, WITH_RESULT },
};

/* Distinct places that were made to fail, in the order of the table. */
static struct {
	uint32_t nr;
	uint32_t offset[16];
} seen[ARRAY_SIZE(sites)];

static bool have_gmem(void)
{
	return kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM);
}

static const struct site *find_site(const struct fault_place *place, const char *what)
{
	uint32_t i, j;

	for (i = 0; i < ARRAY_SIZE(sites); i++) {
		if (strcmp(sites[i].traced ?: sites[i].function, place->function))
			continue;
		for (j = 0; j < seen[i].nr && seen[i].offset[j] != place->offset; j++)
			;
		TEST_ASSERT(j < ARRAY_SIZE(seen[i].offset), "%s: too many places", what);
		seen[i].offset[j] = place->offset;
		seen[i].nr = max(seen[i].nr, j + 1);
		return &sites[i];
	}
	TEST_FAIL("%s: not in the table of what can fail", what);
	return NULL;
}

/* Bits as mrl_check_error_index() wants them. */
static uint32_t wanted_index(const struct kvm_userspace_memory_region_list *list,
			     const struct site *site, const struct fault_place *place)
{
	uint32_t i, bits = 0;

	if (site->index == ALL || !strcmp(place->what, "copy"))
		return MRL_NENT;
	for (i = 0; i < list->nent && i < 31; i++) {
		const mrl_entry *e = &list->entries[i];

		if (site->index == NEW ? e->memory_size :
		    site->index == BOUND ? e->flags & KVM_MEM_GUEST_MEMFD : e->dirty_bitmap)
			bits |= MRL_ENTRY(i);
	}
	return bits;
}

static bool site_is_here(const struct site *site)
{
	switch (site->needs) {
	case RMAPS:
		return !mrl_zaps_are_exact();
	case WRITE_TRACK:
		return !kvm_is_tdp_enabled();
	case GMEM:
		return have_gmem();
	case SPLITS:
		return mrl_zaps_are_exact();
	default:
		return true;
	}
}

static void check_sites(void)
{
	uint32_t i, j, want, places = 0, bad = 0;

	for (i = 0; i < ARRAY_SIZE(sites); i++) {
		want = site_is_here(&sites[i]) ? sites[i].places : 0;
		places += seen[i].nr;
		if (seen[i].nr == want)
			continue;
		bad++;
		pr_info("%s: wanted %u places, got %u:", sites[i].function, want, seen[i].nr);
		for (j = 0; j < seen[i].nr; j++)
			pr_info(" +0x%x", seen[i].offset[j]);
		pr_info("\n");
	}
	TEST_ASSERT(!bad, "Places that can fail: wanted those of the table, got others in %u functions",
		    bad);
	pr_info("%u places were made to fail, which are all\n", places);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_SITES_H */
