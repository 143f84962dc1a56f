// SPDX-License-Identifier: GPL-2.0-only
/*
 * A naive oracle: look at every block of pages by itself, and at every slot for each.
 *
 * Written from the document of KVM_SET_USER_MEMORY_REGION_LIST, not from the
 * planner, whose predicates it must not call.
 */
#include <stdlib.h>
#include <string.h>

#include "plan_test.h"

struct page {
	const struct kvm_plan_slot *old;
	const struct kvm_plan_slot *new;
	bool same;
	bool zapped;
	bool kept;
	bool stays;
	bool leaves;
	bool enters;
};

static bool covers(const struct kvm_plan_slot *slot, u64 gfn)
{
	return gfn >= slot->gfn && gfn - slot->gfn < slot->npages;
}

static const struct kvm_plan_slot *find_slot(const struct kvm_plan_slot *slots,
					     u32 nr, u64 gfn)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		if (covers(&slots[i], gfn))
			return &slots[i];
	}
	return NULL;
}

static u64 address(const struct kvm_plan_slot *slot, u64 gfn)
{
	return slot->hva + (gfn - slot->gfn) * TEST_PAGE_SIZE;
}

static bool has(const struct kvm_plan_slot *slot, u32 flag)
{
	return slot && (slot->flags & flag);
}

static void judge_page(struct page *page, u64 gfn)
{
	const struct kvm_plan_slot *old = page->old, *new = page->new;
	bool logged = has(old, KVM_MEM_LOG_DIRTY_PAGES);
	bool logs = has(new, KVM_MEM_LOG_DIRTY_PAGES);

	/* "The same gfn and the same userspace address." */
	if (old && new)
		page->same = address(old, gfn) == address(new, gfn);

	/* "Whose address, READONLY or guest_memfd binding changes or which goes." */
	if (old && !new)
		page->zapped = true;
	if (old && new)
		page->zapped = !page->same ||
			       has(old, KVM_MEM_READONLY) != has(new, KVM_MEM_READONLY) ||
			       has(old, KVM_MEM_GUEST_MEMFD) != has(new, KVM_MEM_GUEST_MEMFD);
	if (old && !page->zapped)
		page->kept = true;

	/* "The same page is covered after P, under any id, by a logging slot." */
	if (logged && page->same && logs)
		page->stays = true;
	/* "Otherwise." */
	if (logged && !page->stays)
		page->leaves = true;
	if (logs && !page->stays)
		page->enters = true;
}

/* A huge mapping can't reach beyond its old slot, and goes if any page does. */
static bool may_straddle(const struct page *a, const struct page *b)
{
	return a->kept && b->kept && a->old == b->old && a->new != b->new;
}

static struct page *judge_pages(const struct layouts *l)
{
	struct page *pages = calloc(l->world.nr, sizeof(*pages));
	u32 i;

	for (i = 0; i < l->world.nr; i++) {
		u64 gfn = world_gfn(&l->world, i);

		pages[i].old = find_slot(l->old, l->nr_old, gfn);
		pages[i].new = find_slot(l->new, l->nr_new, gfn);
		judge_page(&pages[i], gfn);
	}
	return pages;
}

static const struct page *page_at(const struct layouts *l, const struct page *pages,
				  u64 gfn)
{
	u64 offset = gfn - l->world.base;

	if (world_gfn(&l->world, offset >> l->world.shift) != gfn)
		fail("a run begins or ends at gfn 0x%llx", gfn);
	return &pages[offset >> l->world.shift];
}

static bool same_slot(const struct kvm_plan_slot *a, const struct kvm_plan_slot *b)
{
	if (!a || !b)
		return a == b;
	return a->gfn == b->gfn && a->npages == b->npages && a->hva == b->hva &&
	       a->flags == b->flags && a->index == b->index;
}

static void check_same(const char *what, u64 gfn, bool got, bool wanted)
{
	if (got != wanted)
		fail("%s at gfn 0x%llx: got %d, wanted %d", what, gfn, got, wanted);
}

static void check_run(const struct layouts *l, const struct page *pages,
		      const struct kvm_plan_run *run)
{
	bool same = kvm_run_same_page(run), kept = kvm_run_kept(run);
	bool zapped = kvm_run_zapped(run), stays = kvm_run_stays_logged(run);
	bool leaves = kvm_run_leaves_log(run), enters = kvm_run_enters_log(run);
	u64 gfn;

	for (gfn = run->start; gfn < run->end; gfn += 1ULL << l->world.shift) {
		const struct page *page = page_at(l, pages, gfn);

		if (!same_slot(run->old, page->old) || !same_slot(run->new, page->new))
			fail("wrong slots at gfn 0x%llx, run [0x%llx, 0x%llx)", gfn,
			     run->start, run->end);
		check_same("same page", gfn, same, page->same);
		check_same("kept", gfn, kept, page->kept);
		check_same("zapped", gfn, zapped, page->zapped);
		check_same("stays logged", gfn, stays, page->stays);
		check_same("leaves log", gfn, leaves, page->leaves);
		check_same("enters log", gfn, enters, page->enters);
	}
}

static void check_gap(const struct layouts *l, const struct page *pages,
		      u64 start, u64 end)
{
	for (; start < end; start += 1ULL << l->world.shift) {
		const struct page *page = page_at(l, pages, start);

		if (page->old || page->new)
			fail("gfn 0x%llx is in a slot, but in no run", start);
	}
}

static void check_boundary(const struct layouts *l, const struct page *pages,
			   const struct kvm_plan_run *prev,
			   const struct kvm_plan_run *run)
{
	const struct page *page = page_at(l, pages, run->start);

	if (prev->end != run->start) {
		check_same("split next to a gap", run->start,
			   kvm_run_splits(prev, run), false);
		return;
	}
	if (prev->old == run->old && prev->new == run->new)
		fail("runs that meet at gfn 0x%llx are one", run->start);
	check_same("split", run->start, kvm_run_splits(prev, run),
		   may_straddle(page - 1, page));
}

static void check_runs(const struct layouts *l, const struct kvm_plan *plan)
{
	struct kvm_plan_iter iter;
	u64 pos = l->world.base, world_end = world_gfn(&l->world, l->world.nr);
	u32 nr = 0, max_nr = 2 * (l->nr_old + l->nr_new);
	struct page *pages = judge_pages(l);
	struct kvm_plan_run run, prev = {};

	for (iter = kvm_plan_begin(plan); kvm_plan_next(&iter, &run); ) {
		/* Each run but the last ends at one end of a slot or two. */
		if (++nr >= max_nr)
			fail("%u runs or more of %u slots", nr, l->nr_old + l->nr_new);
		if (run.start >= run.end || run.start < pos || run.end > world_end)
			fail("run [0x%llx, 0x%llx), expected in [0x%llx, 0x%llx)",
			     run.start, run.end, pos, world_end);

		check_gap(l, pages, pos, run.start);
		check_run(l, pages, &run);
		if (nr == 1)
			check_same("split at the first run", run.start,
				   kvm_run_splits(&prev, &run), false);
		else
			check_boundary(l, pages, &prev, &run);
		prev = run;
		pos = run.end;
	}
	check_gap(l, pages, pos, world_end);

	if (kvm_plan_next(&iter, &run))
		fail("the iteration goes on after its end");
	free(pages);
}

static void check_sorted(const struct kvm_plan_slot *sorted,
			 const struct kvm_plan_slot *slots, u32 nr)
{
	u32 i, j, found;

	for (i = 1; i < nr; i++) {
		if (sorted[i].gfn < sorted[i - 1].gfn)
			fail("not sorted at slot %u", i);
	}
	for (i = 0; i < nr; i++) {
		for (j = 0, found = 0; j < nr; j++)
			found += same_slot(&sorted[j], &slots[i]);
		if (found != 1)
			fail("slot of index %u occurs %u times after sorting",
			     slots[i].index, found);
	}
}

static struct kvm_plan_slot *sort_slots(const struct kvm_plan_slot *slots, u32 nr,
					u64 *state)
{
	struct kvm_plan_slot *sorted = copy_slots(slots, nr);

	shuffle_slots(sorted, nr, state);
	kvm_plan_sort(sorted, nr);
	check_sorted(sorted, slots, nr);
	return sorted;
}

/* The way back: the same runs, and what entered a log leaves it. */
static void check_reverse(const struct kvm_plan *plan)
{
	struct kvm_plan back = {
		.old = plan->new, .nr_old = plan->nr_new,
		.new = plan->old, .nr_new = plan->nr_old,
	};
	struct kvm_plan_iter back_iter = kvm_plan_begin(&back);
	struct kvm_plan_run run, rev;

	kvm_for_each_plan_run(run, plan) {
		if (!kvm_plan_next(&back_iter, &rev) ||
		    rev.start != run.start || rev.end != run.end ||
		    rev.old != run.new || rev.new != run.old)
			fail("reverse: other runs at gfn 0x%llx", run.start);
		check_same("reverse: kept", run.start, kvm_run_kept(&rev), kvm_run_kept(&run));
		check_same("reverse: stays", run.start, kvm_run_stays_logged(&rev),
			   kvm_run_stays_logged(&run));
		check_same("reverse: leaves", run.start, kvm_run_leaves_log(&rev),
			   kvm_run_enters_log(&run));
	}
	if (kvm_plan_next(&back_iter, &rev))
		fail("reverse: more runs at gfn 0x%llx", rev.start);
}

void check_plan(struct layouts *l, u64 *state)
{
	struct kvm_plan_slot *old = sort_slots(l->old, l->nr_old, state);
	struct kvm_plan_slot *new = sort_slots(l->new, l->nr_new, state);
	struct kvm_plan plan = {
		.old = old, .nr_old = l->nr_old,
		.new = new, .nr_new = l->nr_new,
	};

	if (kvm_plan_find_overlap(old, l->nr_old) || kvm_plan_find_overlap(new, l->nr_new))
		fail("overlap found where there is none");
	check_runs(l, &plan);
	check_reverse(&plan);
	free(old);
	free(new);
}

static bool overlap(const struct kvm_plan_slot *a, const struct kvm_plan_slot *b)
{
	return covers(a, b->gfn) || covers(b, a->gfn);
}

static bool overlaps_any(const struct kvm_plan_slot *slots, u32 nr,
			 const struct kvm_plan_slot *slot)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		if (!same_slot(&slots[i], slot) && overlap(&slots[i], slot))
			return true;
	}
	return false;
}

void check_overlap(const struct kvm_plan_slot *slots, u32 nr)
{
	const struct kvm_plan_slot *found, *wanted = NULL;
	struct kvm_plan_slot *sorted = copy_slots(slots, nr);
	u32 i;

	for (i = 0; i < nr; i++) {
		if (overlaps_any(slots, nr, &slots[i]))
			wanted = &slots[i];
	}

	kvm_plan_sort(sorted, nr);
	check_sorted(sorted, slots, nr);
	found = kvm_plan_find_overlap(sorted, nr);
	if (!found != !wanted)
		fail("overlap: got %d, wanted %d", !!found, !!wanted);
	if (found && !overlaps_any(slots, nr, found))
		fail("slot of index %u overlaps none", found->index);
	free(sorted);
}
