// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: what the kernel counts.
 *
 * Proves, from the kernel's own counters, *one-grace-period* for 1, 64 and as many
 * entries as a call can have, and *kept-mappings*: a split and a merge zap no page
 * of what stays and flush no TLB, and the guest takes no fault on it afterwards, of
 * whatever kind, with small pages wherever the boundary is, with huge pages if it is
 * on a boundary of theirs, and in slots that log.  What did change is zapped, and no
 * more.  All of that with KVM_X86_QUIRK_SLOT_ZAP_ALL on and off alike, which today's
 * ioctls obey.
 *
 * Does not prove how long anything takes; that the counter of grace periods is right
 * (memory_region_list_trace_test.c).  *kept-mappings* is not part of the ABI.  With
 * rmaps, some lists zap everything; a part that has one is left out there.
 */
#include "memory_region_list_guest.h"

#define HUGE_PAGES	512
#define REGION_PAGES	(4 * HUGE_PAGES)

static void expect_counts(struct kvm_vm *vm, struct mrl_counts before,
			  uint64_t grace_periods, uint64_t entries, const char *what)
{
	struct mrl_counts got = mrl_counts_since(vm, before);

	TEST_ASSERT(got.grace_periods == grace_periods && got.entries == entries,
		    "%s: wanted %lu grace periods, %lu entries, got %lu, %lu", what,
		    grace_periods, entries, got.grace_periods, got.entries);
}

/* As a control: the counter counts, and this is what one slot takes today. */
static void test_old_ioctls(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct mrl_counts before = mrl_counts_get(vm);
	void *hva = (void *)MRL_HVA(0);

	vm_set_user_memory_region(vm, 1, 0, MRL_GPA(0), MRL_SIZE(4), hva);
	expect_counts(vm, before, 1, 0, "old ioctl, create");
	vm_set_user_memory_region(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(0), MRL_SIZE(4), hva);
	expect_counts(vm, before, 2, 0, "old ioctl, flags");
	vm_set_user_memory_region(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(8), MRL_SIZE(4), hva);
	expect_counts(vm, before, 4, 0, "old ioctl, move");
	vm_set_user_memory_region(vm, 1, 0, 0, 0, 0);
	expect_counts(vm, before, 6, 0, "old ioctl, delete");
	kvm_vm_free(vm);
}

/* @pages 0 deletes.  Slot i is at the i-th pair of pages, so that it can grow. */
static void fill(struct mrl *l, uint32_t nr, uint64_t pages, uint64_t hva_page)
{
	uint32_t i;

	mrl_reset(l);
	for (i = 0; i < nr; i++)
		mrl_set(l, i, 0, MRL_GPA(2 * i), MRL_SIZE(pages), (void *)MRL_HVA(hva_page));
}

static void test_grace_periods(uint32_t nr)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct mrl_counts before = mrl_counts_get(vm);
	struct mrl l = mrl_alloc(nr);

	fill(&l, nr, 1, 0);
	mrl_apply(vm, &l);
	expect_counts(vm, before, 1, nr, "create");
	mrl_apply(vm, &l);
	expect_counts(vm, before, 1, 2 * nr, "no-op");
	fill(&l, nr, 2, 1);
	mrl_apply(vm, &l);
	expect_counts(vm, before, 2, 3 * nr, "grow and re-back");
	l.list->entries[nr - 1].userspace_addr += MRL_PAGE_SIZE;
	mrl_apply(vm, &l);
	expect_counts(vm, before, 3, 4 * nr, "no-ops and a change");
	fill(&l, nr, 0, 0);
	mrl_apply(vm, &l);
	expect_counts(vm, before, 4, 5 * nr, "delete");

	pr_info("%u entries: one grace period a call\n", nr);
	mrl_free(&l);
	kvm_vm_free(vm);
}

/* Let the guest write to each page of [first, end). */
static void touch(struct mrl_guest *g, uint64_t first, uint64_t end)
{
	const uint64_t val[MRL_WIN_PAGES] = {};
	uint64_t exits, nr;

	for (; first < end; first += nr) {
		nr = min_t(uint64_t, end - first, MRL_WIN_PAGES);
		exits = mrl_guest_write(g, first, GENMASK_ULL(nr - 1, 0), val);
		TEST_ASSERT(!exits, "Pages from %lu: wanted no exits, got 0x%lx", first, exits);
	}
}

/* Faults on what stays, fixed or not. */
static void touch_kept(struct mrl_guest *g, uint64_t first, uint64_t end, const char *what)
{
	uint64_t fixed = mrl_vcpu_stat(g->vcpu, "pf_fixed");
	uint64_t taken = mrl_vcpu_stat(g->vcpu, "pf_taken");

	touch(g, first, end);
	fixed = mrl_vcpu_stat(g->vcpu, "pf_fixed") - fixed;
	taken = mrl_vcpu_stat(g->vcpu, "pf_taken") - taken;
	TEST_ASSERT(!fixed && !taken,
		    "%s: pages %lu to %lu are kept: wanted 0 faults, got %lu taken, %lu fixed",
		    what, first, end - 1, taken, fixed);
}

/* What a list does to mappings: those of [first, end) go, @flush: TLBs are flushed. */
struct effect {
	uint64_t first, end;
	bool flush;
};

static void apply_and_touch(struct mrl_guest *g, struct mrl *l, struct effect want,
			    const char *what)
{
	struct mrl_counts counts = mrl_counts_get(g->vm);
	uint64_t flushes = vm_get_stat(g->vm, "remote_tlb_flush_requests");
	uint64_t zapped = want.end - want.first, fixed;

	mrl_apply(g->vm, l);
	flushes = vm_get_stat(g->vm, "remote_tlb_flush_requests") - flushes;
	counts = mrl_counts_since(g->vm, counts);
	TEST_ASSERT(counts.grace_periods == 1, "%s: wanted 1 grace period, got %lu",
		    what, counts.grace_periods);
	TEST_ASSERT(counts.zapped == zapped, "%s: wanted %lu pages zapped, got %lu",
		    what, zapped, counts.zapped);
	TEST_ASSERT(!flushes == !want.flush, "%s: TLB flushes: wanted %s, got %lu", what,
		    want.flush ? "some" : "0", flushes);

	touch_kept(g, 0, want.first, what);
	touch_kept(g, want.end, REGION_PAGES, what);
	fixed = mrl_vcpu_stat(g->vcpu, "pf_fixed");
	touch(g, want.first, want.end);
	fixed = mrl_vcpu_stat(g->vcpu, "pf_fixed") - fixed;
	TEST_ASSERT(zapped ? fixed && fixed <= zapped : !fixed,
		    "%s: wanted %s%lu faults, got %lu", what, zapped ? "1 to " : "", zapped,
		    fixed);
	pr_info("  %s: %lu pages zapped, %lu faults, %lu TLB flushes\n", what, counts.zapped,
		fixed, flushes);
}

static void set_pages(struct mrl *l, uint32_t slot, uint32_t flags, uint64_t first,
		      uint64_t end)
{
	mrl_set(l, slot, flags, MRL_GPA(first), MRL_SIZE(end - first), (void *)MRL_HVA(first));
}

/* Only a huge mapping that would cross the boundary may go. */
static void split_and_merge(struct mrl_guest *g, uint32_t flags, uint64_t boundary, bool huge)
{
	const struct effect none = {};
	struct effect split = {};
	struct mrl l = mrl_alloc(2);
	char what[64];

	if (huge && boundary % HUGE_PAGES) {
		split.first = boundary / HUGE_PAGES * HUGE_PAGES;
		split.end = split.first + HUGE_PAGES;
		split.flush = true;
	}
	set_pages(&l, 1, flags, 0, boundary);
	set_pages(&l, 2, flags, boundary, REGION_PAGES);
	snprintf(what, sizeof(what), "split at page %lu", boundary);
	apply_and_touch(g, &l, split, what);

	mrl_reset(&l);
	mrl_delete(&l, 1);
	set_pages(&l, 2, flags, 0, REGION_PAGES);
	snprintf(what, sizeof(what), "merge at page %lu", boundary);
	apply_and_touch(g, &l, none, what);

	mrl_reset(&l);
	mrl_delete(&l, 2);
	set_pages(&l, 1, flags, 0, REGION_PAGES);
	apply_and_touch(g, &l, none, "rename");
	mrl_free(&l);
}

static const struct effect some = { 700, 716, true };

/* In the middle of what stays. */
static void other_memory(struct mrl_guest *g, struct mrl *l)
{
	set_pages(l, 1, 0, 0, 700);
	mrl_set(l, 2, 0, MRL_GPA(700), MRL_SIZE(16), (void *)MRL_HVA(0));
	set_pages(l, 3, 0, 716, REGION_PAGES);
	apply_and_touch(g, l, some, "16 pages get other memory");
	mrl_reset(l);
}

static void change_some(struct mrl_guest *g)
{
	struct mrl l = mrl_alloc(3);

	other_memory(g, &l);
	set_pages(&l, 1, 0, 0, REGION_PAGES);
	mrl_delete(&l, 2);
	mrl_delete(&l, 3);
	apply_and_touch(g, &l, some, "16 pages get their memory back, all in one slot");
	mrl_free(&l);
}

/* With rmaps, slots that were made separately can't be merged without zapping. */
static void change_twice(struct mrl_guest *g)
{
	struct mrl l = mrl_alloc(3);

	other_memory(g, &l);
	set_pages(&l, 2, KVM_MEM_LOG_DIRTY_PAGES, 700, 716);
	apply_and_touch(g, &l, some, "16 pages get their memory back, and log");

	/* Small pages stay small, i.e. their mappings stay, too. */
	mrl_reset(&l);
	set_pages(&l, 1, 0, 0, REGION_PAGES);
	mrl_delete(&l, 2);
	mrl_delete(&l, 3);
	l.list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	apply_and_touch(g, &l, (struct effect) {}, "merge, some pages stop logging");
	mrl_free(&l);
}

/* A guest that has touched all pages of its one slot. */
static struct mrl_guest create_touched(uint32_t flags, bool quirk)
{
	struct mrl_guest g = mrl_guest_create(REGION_PAGES);
	struct mrl l = mrl_alloc(1);

	if (!quirk)
		vm_enable_cap(g.vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL);
	set_pages(&l, 1, flags, 0, REGION_PAGES);
	mrl_apply(g.vm, &l);
	touch(&g, 0, REGION_PAGES);
	mrl_free(&l);
	return g;
}

/* As a control: the quirk does what it says, to mappings of other slots. */
static void test_old_delete(bool quirk)
{
	struct mrl_guest g;
	uint64_t fixed;

	mrl_mem_realloc(REGION_PAGES, false);
	g = create_touched(0, quirk);
	vm_set_user_memory_region(g.vm, 2, 0, MRL_GPA(REGION_PAGES), MRL_SIZE(1),
				  (void *)MRL_HVA(0));
	vm_set_user_memory_region(g.vm, 2, 0, MRL_GPA(REGION_PAGES), 0, NULL);
	fixed = mrl_vcpu_stat(g.vcpu, "pf_fixed");
	touch(&g, 0, REGION_PAGES);
	fixed = mrl_vcpu_stat(g.vcpu, "pf_fixed") - fixed;
	TEST_ASSERT(!fixed == !quirk, "old ioctl, delete, quirk %d: wanted %s faults, got %lu",
		    quirk, quirk ? "some" : "0", fixed);
	kvm_vm_free(g.vm);
}

static void test_kept_mappings(bool huge, uint32_t flags, bool quirk)
{
	/* Slots that log are mapped page by page, so is what the guest maps so. */
	bool huge_maps = huge && !flags && kvm_is_tdp_enabled();
	struct mrl_guest g;

	if (!mrl_mem_realloc(REGION_PAGES, huge)) {
		pr_info("Left out: huge pages, the host has none\n");
		return;
	}
	pr_info("Memory in %s pages, %s, quirk %s:\n", huge ? "huge" : "small",
		flags ? "slots log" : "slots don't log", quirk ? "on" : "off");
	g = create_touched(flags, quirk);

	split_and_merge(&g, flags, HUGE_PAGES, huge_maps);
	split_and_merge(&g, flags, 3 * HUGE_PAGES, huge_maps);
	split_and_merge(&g, flags, HUGE_PAGES + 7, huge_maps);
	if (!huge && !flags)
		change_some(&g);
	if (!huge && !flags && mrl_zaps_are_exact())
		change_twice(&g);

	kvm_vm_free(g.vm);
}

static uint32_t max_entries(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	int max = vm_check_cap(vm, KVM_CAP_USER_MEMORY_REGION_LIST);

	kvm_vm_free(vm);
	return max;
}

int main(int argc, char *argv[])
{
	int i;

	mrl_require();

	mrl_mem_alloc(MRL_MEM_PAGES);
	test_old_ioctls();
	test_grace_periods(1);
	test_grace_periods(64);
	test_grace_periods(max_entries());
	mrl_mem_free(MRL_MEM_PAGES);

	if (!mrl_zaps_are_exact())
		pr_info("Left out: a merge of what was separate, there are rmaps\n");
	TEST_ASSERT(kvm_check_cap(KVM_CAP_DISABLE_QUIRKS2) & KVM_X86_QUIRK_SLOT_ZAP_ALL,
		    "KVM_CAP_DISABLE_QUIRKS2: wanted KVM_X86_QUIRK_SLOT_ZAP_ALL in it, got 0x%x",
		    kvm_check_cap(KVM_CAP_DISABLE_QUIRKS2));
	for (i = 0; i < 8; i++) {
		if (i < 2)
			test_old_delete(i);
		test_kept_mappings(i & 1, i & 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0, i & 4);
	}
	return 0;
}
