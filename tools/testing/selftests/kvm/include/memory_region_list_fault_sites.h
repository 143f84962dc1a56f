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

/*
 * What there is if an allocation fails: nothing, vmalloc(), the fault of the next byte, or
 * another try, i.e. one failure alone is none of the call.
 */
enum { NONE, VMALLOC, NEXT_BYTE, AGAIN };

static const struct site {
	const char *function;
	/* Places in it, as they are compiled, that can be made to fail. */
	uint32_t places;
	/* Calls in the source that are no such places; in files that harness/sites.py reads. */
	uint32_t out_of_reach;
	int needs;
	/* What the failure of an allocation there means; 0: nothing but more work. */
	int err;
	int index;
	int fallback;
	/* The function into which it is inlined all the same. */
	const char *traced;
	/* More places, that only a large slot gets to.  It is not tried with rmaps. */
	uint32_t large;
} sites[] = {
	/*
	 * The header, read.  Of both put_user(), which have no frame, the first one is the
	 * next line.  The second one finds the page that the first one has faulted in.
	 */
	{ "kvm_vm_ioctl_set_memory_region_list", 1, 2, ALWAYS, EFAULT, UNTOUCHED, NEXT_BYTE },
	{ "__put_user_4", 1, 0, ALWAYS, EFAULT, UNTOUCHED },
	/* The entries, what is known of them, two arrays for the planner, a bitmap, and a copy. */
	{ "kvm_copy_memslot_list", 6, 0, ALWAYS, ENOMEM, ALL, VMALLOC },
	{ "kvm_fault_in_dirty_results", 1, 0, ALWAYS, EFAULT, WITH_RESULT },
	{ "kvm_alloc_new_memslots", 1, 0, ALWAYS, ENOMEM, NEW, NONE, "kvm_prepare_memslots" },
	{ "memslot_rmap_alloc", 1, 0, RMAPS, ENOMEM, NEW, VMALLOC },
	/* Together with kvm_alloc_memslot_arrays(). */
	{ "kvm_alloc_memslot_metadata", 2, 0, ALWAYS, ENOMEM, NEW, VMALLOC, .large = 1 },
	{ "kvm_page_track_write_tracking_alloc", 1, 0, WRITE_TRACK, ENOMEM, NEW, VMALLOC,
	  "kvm_page_track_create_memslot" },
	{ "kvm_alloc_dirty_bitmap", 1, 0, ALWAYS, ENOMEM, NEW, VMALLOC },
	/* Nodes of the tree, twice: with its lock, and if that fails without. */
	{ "kvm_gmem_bind", 1, 0, GMEM, ENOMEM, BOUND, AGAIN },
	/* After the publication. */
	{ "tdp_mmu_alloc_sp_for_split", 2, 0, SPLITS, 0, ALL, NONE,
	  "tdp_mmu_split_huge_pages_root" },
	/* clear_user() does not fail on purpose, and finds its pages faulted in. */
	{ "kvm_copy_dirty_results", 1, 2, ALWAYS, 0, WITH_RESULT },
};

/* Distinct places that were made to fail, in the order of the table. */
static struct {
	uint32_t nr;
	uint32_t offset[16];
	/* So did the call. */
	bool failed[16];
} seen[ARRAY_SIZE(sites)];

static bool have_gmem(void)
{
	return kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM);
}

/* 0: a failure there is nothing but more work. */
static int site_err(const struct site *site, const struct fault_place *place)
{
	return site->err && !strcmp(place->what, "copy") ? EFAULT : site->err;
}

static bool site_has_to_fail(const struct site *site, const struct fault_place *place)
{
	if (place->who == ALLOCATOR || !site->err)
		return false;
	return place->who != FIRST_WAY || site->fallback == NONE;
}

/* What the allocator can do without is no failure of the place. */
static const struct site *find_site(const struct fault_call *call, const char *what)
{
	const struct fault_place *place = &call->place;
	uint32_t i, j;

	for (i = 0; i < ARRAY_SIZE(sites); i++) {
		if (strcmp(sites[i].traced ?: sites[i].function, place->function))
			continue;
		if (place->who == ALLOCATOR)
			return &sites[i];
		for (j = 0; j < seen[i].nr && seen[i].offset[j] != place->offset; j++)
			;
		TEST_ASSERT(j < ARRAY_SIZE(seen[i].offset), "%s: too many places", what);
		seen[i].offset[j] = place->offset;
		seen[i].failed[j] |= !!call->r;
		seen[i].nr = max(seen[i].nr, j + 1);
		return &sites[i];
	}
	TEST_FAIL("%s: not in the table of what can fail", what);
	return NULL;
}

/* The entry is equal to its slot.  @now has slots by their id, NULL: none is. */
static bool is_noop(const mrl_entry *now, const mrl_entry *e)
{
	if (!now || e->slot >= MRL_NR_IDS)
		return now;
	now += e->slot;
	return now->guest_phys_addr == e->guest_phys_addr && now->flags == e->flags &&
	       now->memory_size == e->memory_size && now->userspace_addr == e->userspace_addr;
}

/* Bits as mrl_check_error_index() wants them. */
static uint32_t wanted_index(const struct kvm_userspace_memory_region_list *list,
			     const mrl_entry *now, const struct site *site,
			     const struct fault_place *place)
{
	uint32_t i, bits = 0;
	bool wanted;

	if (site->index == ALL || !strcmp(place->what, "copy"))
		return MRL_NENT;
	for (i = 0; i < list->nent && i < 31; i++) {
		const mrl_entry *e = &list->entries[i];

		wanted = site->index == WITH_RESULT ? e->dirty_bitmap :
			 e->memory_size && !is_noop(now, e);
		if (site->index == BOUND)
			wanted &= !!(e->flags & KVM_MEM_GUEST_MEMFD);
		bits |= wanted ? MRL_ENTRY(i) : 0;
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

/* With one failure at a time, a place that tries again does not make the call fail. */
static bool site_is_as_wanted(uint32_t i, uint32_t want)
{
	uint32_t j;

	for (j = 0; j < seen[i].nr; j++) {
		if (seen[i].failed[j] != (sites[i].err && sites[i].fallback != AGAIN))
			return false;
	}
	return seen[i].nr == want;
}

static void check_sites(void)
{
	uint32_t i, j, want, places = 0, failed = 0, bad = 0;

	for (i = 0; i < ARRAY_SIZE(sites); i++) {
		want = site_is_here(&sites[i]) ? sites[i].places : 0;
		want += mrl_zaps_are_exact() ? sites[i].large : 0;
		places += seen[i].nr;
		for (j = 0; j < seen[i].nr; j++)
			failed += seen[i].failed[j];
		if (site_is_as_wanted(i, want))
			continue;
		bad++;
		pr_info("%s: wanted %u places with errno %d, got %u:", sites[i].function, want,
			sites[i].fallback == AGAIN ? 0 : sites[i].err, seen[i].nr);
		for (j = 0; j < seen[i].nr; j++)
			pr_info(" +0x%x (%s)", seen[i].offset[j],
				seen[i].failed[j] ? "failed" : "did not");
		pr_info("\n");
	}
	TEST_ASSERT(!bad, "Places that can fail: wanted the table's, got others in %u functions",
		    bad);
	pr_info("%u places were made to fail, which are all, and with %u of them the call\n",
		places, failed);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_SITES_H */
