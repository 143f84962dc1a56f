// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hand-made layouts, with what is to happen to each page written as a picture.
 *
 * pages, a letter for each page from the base of the case on:
 *	k  kept, mappings stay
 *	c  changed, zapped and covered again
 *	g  gone, zapped
 *	n  new
 *	.  in no slot
 *	|  the border between two runs
 *	/  the same, huge mappings across it must be split
 * log, a letter for each page:
 *	s  stays in a log
 *	l  leaves a log
 *	e  enters a log
 *	b  both leaves and enters
 *	-  none of these
 */
#include <stdlib.h>
#include <string.h>

#include "plan_test.h"

#define MAX_CASE_SLOTS	4

struct plan_case {
	const char *name;
	u64 base;
	struct kvm_plan_slot old[MAX_CASE_SLOTS];
	struct kvm_plan_slot new[MAX_CASE_SLOTS];
	const char *pages;
	const char *log;
};

#define LOG	KVM_MEM_LOG_DIRTY_PAGES
#define RO	KVM_MEM_READONLY
#define GMEM	KVM_MEM_GUEST_MEMFD

/* A page of two backings. */
#define A(page)	(0x7f0000000000ULL + (page) * TEST_PAGE_SIZE)
#define B(page)	(0x7e0000000000ULL + (page) * TEST_PAGE_SIZE)

/* The last gfn of guest physical addresses of 64 bits is this plus 7. */
#define TOP	((1ULL << 52) - 8)

static const struct plan_case cases[] = {
	{ .name = "nothing", .pages = "....", .log = "...." },
	{ .name = "create",
	  .new = { { 1, 2, A(1), LOG } },
	  .pages = ".nn.", .log = ".ee." },
	{ .name = "delete",
	  .old = { { 1, 2, A(1), LOG } },
	  .pages = ".gg.", .log = ".ll." },
	{ .name = "delete without log",
	  .old = { { 0, 2, A(0), 0 } },
	  .pages = "gg", .log = "--" },
	{ .name = "same",
	  .old = { { 0, 4, A(0), LOG } },
	  .new = { { 0, 4, A(0), LOG } },
	  .pages = "kkkk", .log = "ssss" },
	{ .name = "ids do not matter",
	  .old = { { 0, 2, A(0), LOG, 0 }, { 2, 2, A(2), LOG, 1 } },
	  .new = { { 0, 2, A(0), LOG, 1 }, { 2, 2, A(2), LOG, 0 } },
	  .pages = "kk|kk", .log = "ssss" },
	{ .name = "split",
	  .old = { { 0, 8, A(0), LOG } },
	  .new = { { 0, 5, A(0), LOG }, { 5, 3, A(5), LOG } },
	  .pages = "kkkkk/kkk", .log = "ssssssss" },
	{ .name = "split in three",
	  .old = { { 0, 6, A(0), 0 } },
	  .new = { { 0, 2, A(0), 0 }, { 2, 2, A(2), 0 }, { 4, 2, A(4), 0 } },
	  .pages = "kk/kk/kk", .log = "------" },
	{ .name = "split, one half changes its backing",
	  .old = { { 0, 4, A(0), LOG } },
	  .new = { { 0, 2, A(0), LOG }, { 2, 2, B(2), LOG } },
	  .pages = "kk|cc", .log = "ssbb" },
	{ .name = "split, one half stops to log",
	  .old = { { 0, 4, A(0), LOG } },
	  .new = { { 0, 2, A(0), LOG }, { 2, 2, A(2), 0 } },
	  .pages = "kk/kk", .log = "ssll" },
	{ .name = "merge",
	  .old = { { 0, 3, A(0), LOG }, { 3, 3, A(3), LOG } },
	  .new = { { 0, 6, A(0), LOG } },
	  .pages = "kkk|kkk", .log = "ssssss" },
	{ .name = "merge across a gap",
	  .old = { { 0, 2, A(0), LOG }, { 3, 2, A(3), 0 } },
	  .new = { { 0, 5, A(0), LOG } },
	  .pages = "kk|n|kk", .log = "sseee" },
	{ .name = "merge of unlike backings",
	  .old = { { 0, 2, A(0), LOG }, { 2, 2, B(2), LOG } },
	  .new = { { 0, 4, A(0), LOG } },
	  .pages = "kk|cc", .log = "ssbb" },
	{ .name = "border moves",
	  .old = { { 0, 4, A(0), LOG }, { 4, 4, A(4), LOG } },
	  .new = { { 0, 2, A(0), LOG }, { 2, 6, A(2), LOG } },
	  .pages = "kk/kk|kkkk", .log = "ssssssss" },
	{ .name = "grow into what another slot gives up",
	  .old = { { 0, 2, A(0), 0 }, { 2, 4, B(2), LOG } },
	  .new = { { 0, 4, A(0), 0 }, { 4, 2, B(4), LOG } },
	  .pages = "kk|cc|kk", .log = "--llss" },
	{ .name = "grow at both ends",
	  .old = { { 2, 2, A(2), LOG } },
	  .new = { { 0, 6, A(0), LOG } },
	  .pages = "nn|kk|nn", .log = "eessee" },
	{ .name = "grow downwards at the old address",
	  .old = { { 2, 2, A(0), 0 } },
	  .new = { { 0, 4, A(0), 0 } },
	  .pages = "nn|cc", .log = "----" },
	{ .name = "shrink at both ends",
	  .old = { { 0, 6, A(0), LOG } },
	  .new = { { 2, 2, A(2), LOG } },
	  .pages = "gg|kk|gg", .log = "llssll" },
	{ .name = "hole punch",
	  .old = { { 0, 6, A(0), LOG } },
	  .new = { { 0, 2, A(0), LOG }, { 3, 3, A(3), LOG } },
	  .pages = "kk|g|kkk", .log = "sslsss" },
	{ .name = "hole is filled",
	  .old = { { 0, 2, A(0), LOG }, { 3, 3, A(3), LOG } },
	  .new = { { 0, 6, A(0), LOG } },
	  .pages = "kk|n|kkk", .log = "ssesss" },
	{ .name = "overlay in the middle",
	  .old = { { 0, 6, A(0), LOG } },
	  .new = { { 0, 2, A(0), LOG }, { 2, 1, B(0), RO }, { 3, 3, A(3), LOG } },
	  .pages = "kk|c|kkk", .log = "sslsss" },
	{ .name = "move to a place apart",
	  .old = { { 0, 2, A(0), LOG } },
	  .new = { { 4, 2, A(0), LOG } },
	  .pages = "gg..nn", .log = "ll..ee" },
	{ .name = "move to an adjacent place",
	  .old = { { 0, 2, A(0), LOG } },
	  .new = { { 2, 2, A(0), LOG } },
	  .pages = "gg|nn", .log = "llee" },
	{ .name = "move by less than the size",
	  .old = { { 0, 4, A(0), LOG } },
	  .new = { { 1, 4, A(0), LOG } },
	  .pages = "g|ccc|n", .log = "lbbbe" },
	{ .name = "swap of ranges",
	  .old = { { 0, 2, A(0), LOG }, { 2, 2, B(0), 0 } },
	  .new = { { 0, 2, B(0), 0 }, { 2, 2, A(0), LOG } },
	  .pages = "cc|cc", .log = "llee" },
	{ .name = "swap of ranges of unlike sizes",
	  .old = { { 0, 3, A(0), 0 }, { 3, 1, B(0), 0 } },
	  .new = { { 0, 1, B(0), 0 }, { 1, 3, A(0), 0 } },
	  .pages = "c|cc|c", .log = "----" },
	{ .name = "new backing",
	  .old = { { 0, 4, A(0), LOG } },
	  .new = { { 0, 4, B(0), LOG } },
	  .pages = "cccc", .log = "bbbb" },
	{ .name = "new backing in three slots",
	  .old = { { 0, 3, A(0), 0 } },
	  .new = { { 0, 1, B(0), 0 }, { 1, 1, B(1), 0 }, { 2, 1, B(2), 0 } },
	  .pages = "c|c|c", .log = "---" },
	{ .name = "same address by other means",
	  .old = { { 0, 4, A(0), 0 } },
	  .new = { { 2, 4, A(2), 0 } },
	  .pages = "gg|kk|nn", .log = "------" },
	{ .name = "read-only",
	  .old = { { 0, 2, A(0), 0 } },
	  .new = { { 0, 2, A(0), RO } },
	  .pages = "cc", .log = "--" },
	{ .name = "read-only and back, logged",
	  .old = { { 0, 2, A(0), LOG | RO }, { 2, 2, A(2), LOG } },
	  .new = { { 0, 2, A(0), LOG }, { 2, 2, A(2), LOG | RO } },
	  .pages = "cc|cc", .log = "ssss" },
	{ .name = "read-only part",
	  .old = { { 0, 6, A(0), LOG } },
	  .new = { { 0, 2, A(0), LOG }, { 2, 2, A(2), LOG | RO }, { 4, 2, A(4), LOG } },
	  .pages = "kk|cc|kk", .log = "ssssss" },
	{ .name = "read-only in both",
	  .old = { { 0, 4, A(0), RO } },
	  .new = { { 0, 2, A(0), RO }, { 2, 2, A(2), RO } },
	  .pages = "kk/kk", .log = "----" },
	{ .name = "log on",
	  .old = { { 0, 2, A(0), 0 } },
	  .new = { { 0, 2, A(0), LOG } },
	  .pages = "kk", .log = "ee" },
	{ .name = "log off",
	  .old = { { 0, 2, A(0), LOG } },
	  .new = { { 0, 2, A(0), 0 } },
	  .pages = "kk", .log = "ll" },
	{ .name = "log off, read-only",
	  .old = { { 0, 2, A(0), LOG } },
	  .new = { { 0, 2, A(0), RO } },
	  .pages = "cc", .log = "ll" },
	{ .name = "log passes from one slot to its neighbour",
	  .old = { { 0, 2, A(0), LOG }, { 2, 2, A(2), 0 } },
	  .new = { { 0, 2, A(0), 0 }, { 2, 2, A(2), LOG } },
	  .pages = "kk|kk", .log = "llee" },
	{ .name = "guest_memfd comes",
	  .old = { { 0, 2, A(0), 0 } },
	  .new = { { 0, 2, A(0), GMEM } },
	  .pages = "cc", .log = "--" },
	{ .name = "guest_memfd goes",
	  .old = { { 0, 2, A(0), GMEM } },
	  .new = { { 0, 2, A(0), 0 } },
	  .pages = "cc", .log = "--" },
	{ .name = "first page",
	  .old = { { 0, 1, A(0), LOG } },
	  .new = { { 0, 1, A(0), 0 }, { 1, 1, A(1), 0 } },
	  .pages = "k|n", .log = "l-" },
	{ .name = "up to the last gfn",
	  .base = TOP,
	  .old = { { TOP, 8, A(0), LOG } },
	  .new = { { TOP, 4, A(0), LOG }, { TOP + 4, 3, A(4), LOG } },
	  .pages = "kkkk/kkk|g", .log = "sssssssl" },
	{ .name = "create at the last gfn",
	  .base = TOP,
	  .old = { { TOP, 2, A(0), LOG } },
	  .new = { { TOP + 7, 1, A(0), LOG } },
	  .pages = "gg.....n", .log = "ll.....e" },
	{ .name = "two slots in one",
	  .old = { { 1, 1, A(1), LOG }, { 4, 1, B(4), 0 } },
	  .new = { { 0, 6, A(0), LOG } },
	  .pages = "n|k|nn|c|n", .log = "eseeee" },
	{ .name = "neighbours that do not overlap",
	  .old = { { 0, 2, A(0), 0 } },
	  .new = { { 2, 2, A(2), 0 } },
	  .pages = "gg|nn", .log = "----" },
};

static char page_letter(const struct kvm_plan_run *run)
{
	if (!run->old)
		return 'n';
	if (!run->new)
		return kvm_run_zapped(run) ? 'g' : '?';
	if (kvm_run_kept(run))
		return kvm_run_zapped(run) ? '?' : 'k';
	return kvm_run_zapped(run) ? 'c' : '?';
}

static char log_letter(const struct kvm_plan_run *run)
{
	bool leaves = kvm_run_leaves_log(run), enters = kvm_run_enters_log(run);

	if (kvm_run_stays_logged(run))
		return leaves || enters ? '?' : 's';
	if (leaves)
		return enters ? 'b' : 'l';
	return enters ? 'e' : '-';
}

/* The picture of a plan from @base on, until the last run. */
static void draw(const struct kvm_plan *plan, u64 base, char *pages, char *log)
{
	struct kvm_plan_run run, prev = {};

	kvm_for_each_plan_run(run, plan) {
		for (; base < run.start; base++) {
			*pages++ = '.';
			*log++ = '.';
		}
		if ((prev.old || prev.new) && prev.end == run.start)
			*pages++ = kvm_run_splits(&prev, &run) ? '/' : '|';
		for (; base < run.end; base++) {
			*pages++ = page_letter(&run);
			*log++ = log_letter(&run);
		}
		prev = run;
	}
	*pages = '\0';
	*log = '\0';
}

/* @wanted may go on with pages that are in no slot. */
static void check_picture(const char *what, const char *got, const char *wanted)
{
	size_t n = strlen(got);

	if (strncmp(got, wanted, n) || strspn(wanted + n, ".") != strlen(wanted + n))
		fail("%s: got %s, wanted %s", what, got, wanted);
}

static u32 count_slots(const struct kvm_plan_slot *slots)
{
	u32 nr = 0;

	while (nr < MAX_CASE_SLOTS && slots[nr].npages)
		nr++;
	return nr;
}

static void test_case(const struct plan_case *c)
{
	struct layouts l = {
		.world = { .base = c->base, .nr = strlen(c->log) },
		.nr_old = count_slots(c->old),
		.nr_new = count_slots(c->new),
	};
	char pages[32], log[32];
	struct kvm_plan plan;
	u64 state = 1;

	test_name = c->name;
	test_layouts = &l;
	l.old = copy_slots(c->old, l.nr_old);
	l.new = copy_slots(c->new, l.nr_new);

	plan = (struct kvm_plan) { l.old, l.new, l.nr_old, l.nr_new };
	draw(&plan, c->base, pages, log);
	check_picture("pages", pages, c->pages);
	check_picture("log", log, c->log);
	check_plan(&l, &state);

	free_layouts(&l);
	test_layouts = NULL;
}

/* The size of a layout is no problem: one slot into many, and back. */
static void test_many_slots(void)
{
	const u32 nr = 32764;
	struct kvm_plan_slot one = { .gfn = 0, .npages = 2 * nr, .hva = A(0) };
	struct kvm_plan_slot *many = calloc(nr, sizeof(*many));
	struct kvm_plan plan = { .old = &one, .nr_old = 1, .new = many, .nr_new = nr };
	struct kvm_plan_run run, prev = {};
	u32 i, runs = 0, splits = 0;
	u64 state = 1;

	test_name = "many slots";
	for (i = 0; i < nr; i++)
		many[i] = (struct kvm_plan_slot) { 2 * i, 2, A(2 * i), 0, i };
	shuffle_slots(many, nr, &state);
	kvm_plan_sort(many, nr);

	kvm_for_each_plan_run(run, &plan) {
		if (run.new->index != runs || !kvm_run_kept(&run))
			fail("wrong run at gfn 0x%llx", run.start);
		splits += kvm_run_splits(&prev, &run);
		prev = run;
		runs++;
	}
	if (runs != nr || splits != nr - 1 || kvm_plan_find_overlap(many, nr))
		fail("%u runs, %u splits, wanted %u and one less", runs, splits, nr);

	many[nr / 2].npages++;
	if (kvm_plan_find_overlap(many, nr) != &many[nr / 2 + 1])
		fail("no overlap found");
	free(many);
}

static void test_overlap(const char *name, struct kvm_plan_slot a, struct kvm_plan_slot b,
			 bool wanted)
{
	struct kvm_plan_slot slots[2] = { a, b };

	test_name = name;
	kvm_plan_sort(slots, 2);
	if (!kvm_plan_find_overlap(slots, 2) != !wanted)
		fail("overlap: got %d, wanted %d", !wanted, wanted);
	check_overlap(slots, 2);
}

#define SLOT(...)	((struct kvm_plan_slot) { __VA_ARGS__ })

static u32 test_overlaps(void)
{
	if (kvm_plan_find_overlap(NULL, 0))
		fail("overlap of nothing");
	test_overlap("adjacent", SLOT(0, 2), SLOT(2, 2, .index = 1), false);
	test_overlap("same place", SLOT(4, 2), SLOT(4, 2, .index = 1), true);
	test_overlap("same start", SLOT(4, 1), SLOT(4, 2, .index = 1), true);
	test_overlap("one page", SLOT(2, 2, .index = 1), SLOT(0, 3), true);
	test_overlap("inside", SLOT(0, 9), SLOT(4, 1, .index = 1), true);
	test_overlap("far apart", SLOT(0, 1), SLOT(1ULL << 51, 1, .index = 1), false);
	test_overlap("adjacent at the top", SLOT(TOP, 4), SLOT(TOP + 4, 4, .index = 1), false);
	test_overlap("one page at the top", SLOT(TOP, 8), SLOT(TOP + 7, 1, .index = 1), true);
	return 9;
}

u32 test_cases(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		test_case(&cases[i]);
	test_many_slots();
	return ARRAY_SIZE(cases) + 1 + test_overlaps();
}
