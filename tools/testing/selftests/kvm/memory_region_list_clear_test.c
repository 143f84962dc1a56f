// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG across KVM_SET_USER_MEMORY_REGION_LIST.
 *
 * Shows never-lost step by step, with plain logs, manual protection, and initial bits,
 * at boundaries that are no multiples of 64 pages: which bits a log has after a split,
 * a rename and a merge, with the guest at rest; that a part of a log is cleared, and no
 * more, after the slot has got other bounds; that a page whose bit was fetched or
 * cleared, before or after the call, is tracked again; that a bitmap may be cleared after
 * a call that left base and size of its slot alone; and that a log which begins has the
 * next write to pages that are mapped.  Bits that nobody asked for would be legal, there
 * are none.
 *
 * Not shown: vCPUs that write during the call (memory_region_list_dirty_test.c).
 */
#include <linux/bitmap.h>

#include "memory_region_list_guest.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define INIT_SET	KVM_DIRTY_LOG_INITIALLY_SET
#define NPAGES		320
#define MAX_SLOTS	4

static const uint32_t kinds[] = { 0, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
	KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | INIT_SET };

/* By page of the region: the bits that logs have to have. */
static unsigned long want[NPAGES / 64 + 1];
static struct mrl_guest g;
static struct mrl_layout layout;
static struct mrl list;
static uint32_t kind;

static const struct mrl_slot *slot(uint32_t i)
{
	return &layout.slots[i];
}

static uint32_t first_page(const struct mrl_slot *s)
{
	return (s->gpa - MRL_GPA_BASE) / MRL_PAGE_SIZE;
}

static uint32_t nr_pages(const struct mrl_slot *s)
{
	return s->size / MRL_PAGE_SIZE;
}

/* Slots from each of @cuts to the next one; ids from @id on.  The last cut is NPAGES. */
static void set_slots(uint32_t id, const uint32_t *cuts, uint32_t flags)
{
	struct mrl_layout next = {};
	uint32_t first;

	for (first = 0; first < NPAGES; first = *cuts++)
		mrl_layout_add(&next, id++, flags, MRL_GPA(first), MRL_SIZE(*cuts - first),
			       (void *)MRL_HVA(first));
	mrl_reset(&list);
	mrl_add_change(&list, &layout, &next, true);
	list.list->flags = flags & LOG ? 0 : KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	mrl_apply(g.vm, &list);
	layout = next;
}

static void set_layout(uint32_t id, const uint32_t *cuts)
{
	set_slots(id, cuts, LOG);
}

/* One page of the guest in @step, from @first on. */
static void write_pages(uint32_t first, uint32_t end, uint32_t step)
{
	const uint64_t val[MRL_WIN_PAGES] = {};
	uint64_t exits;

	for (; first < end; first += step) {
		exits = mrl_guest_write(&g, first, 1, val);
		TEST_ASSERT(!exits, "no-hole: page %u: wanted no exit, got 0x%lx", first, exits);
		__set_bit(first, want);
	}
}

/* What was fetched is in @got; with a plain log it is no longer in the log. */
static void check_log(uint32_t i, unsigned long *got, const char *when)
{
	const struct mrl_slot *s = slot(i);
	uint32_t first = first_page(s), page;

	memset(got, 0, sizeof(want));
	kvm_vm_get_dirty_log(g.vm, s->id, got);
	for (page = 0; page < nr_pages(s); page++) {
		TEST_ASSERT(test_bit(page, got) == test_bit(first + page, want),
			    "never-lost: log %u, %s: slot %u from page %u, page %u: wanted bit %d, got %d",
			    kind, when, s->id, first, first + page, test_bit(first + page, want),
			    test_bit(page, got));
		if (!kind)
			__clear_bit(first + page, want);
	}
}

static void check_logs(const char *when)
{
	unsigned long got[ARRAY_SIZE(want)];
	uint32_t i;

	for (i = 0; i < layout.nr; i++)
		check_log(i, got, when);
}

/* @bits are those of the slot, [first, first + nr) is a range of its pages. */
static void clear(uint32_t i, unsigned long *bits, uint32_t first, uint32_t nr)
{
	uint32_t page;

	kvm_vm_clear_dirty_log(g.vm, slot(i)->id, bits + first / 64, first, nr);
	for (page = first; page < first + nr; page++) {
		if (test_bit(page, bits))
			__clear_bit(first_page(slot(i)) + page, want);
	}
}

/* Each slot's second 64 pages, or what there is of them. */
static void clear_second(const char *when)
{
	unsigned long got[ARRAY_SIZE(want)];
	uint32_t i;

	if (!kind)
		return;
	for (i = 0; i < layout.nr; i++) {
		if (nr_pages(slot(i)) <= 64)
			continue;
		check_log(i, got, when);
		clear(i, got, 64, min(nr_pages(slot(i)) - 64, 64u));
	}
	check_logs("a part was cleared");
}

static void change_and_write(uint32_t id, const uint32_t *cuts, const char *when)
{
	set_layout(id, cuts);
	check_logs(when);
	clear_second(when);
	/* Pages whose bits were cleared, those whose were not, and others. */
	write_pages(0, NPAGES, 3);
	check_logs("after the writes that follow the call");
	write_pages(1, NPAGES, 5);
	set_layout(id, cuts);
	check_logs("after a call that changed nothing");
}

/* Slot 0 stays as it is while its bitmap is with userspace. */
static void fetch_and_change(void)
{
	static const uint32_t before[] = { 130, NPAGES }, after[] = { 130, 200, NPAGES };
	unsigned long fetched[ARRAY_SIZE(want)];

	set_layout(1, before);
	write_pages(0, 60, 2);
	check_log(0, fetched, "before a call that leaves the slot alone");
	write_pages(1, 130, 4);
	set_layout(1, after);
	if (kind)
		clear(0, fetched, 0, 130);
	check_log(0, fetched, "what was fetched before the call was cleared after it");
	write_pages(0, 130, 2);
	check_logs("and the pages were written again");
}

/* All logs are new. */
static void want_new(void)
{
	uint32_t page;

	memset(want, 0, sizeof(want));
	for (page = 0; page < NPAGES && kind & INIT_SET; page++)
		__set_bit(page, want);
}

/* A log begins while the guest has all pages mapped for writing. */
static void stop_and_start(uint32_t id, const uint32_t *cuts)
{
	set_slots(id, cuts, 0);
	write_pages(0, NPAGES, 1);
	set_layout(id, cuts);
	want_new();
	check_logs("a log that began");
	write_pages(0, NPAGES, 3);
	check_logs("a log that began, after writes");
}

static void run(void)
{
	static const uint32_t whole[] = { NPAGES }, two[] = { 100, NPAGES },
		three[] = { 37, 229, NPAGES }, four[] = { 1, 65, 191, NPAGES };

	g = mrl_guest_create(NPAGES);
	if (kind)
		vm_enable_cap(g.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, kind);
	layout = (struct mrl_layout) {};
	set_layout(1, whole);
	want_new();
	check_logs("created");
	clear_second("created");
	write_pages(0, NPAGES, 7);

	change_and_write(1, two, "split in two");
	change_and_write(2, three, "split in three, other ids");
	change_and_write(1, four, "split in four, other ids");
	change_and_write(3, two, "merged into two");
	change_and_write(1, whole, "merged into one");
	change_and_write(7, whole, "renamed");
	fetch_and_change();
	change_and_write(1, whole, "merged again");
	stop_and_start(1, whole);
	stop_and_start(1, two);
	kvm_vm_free(g.vm);
}

int main(int argc, char *argv[])
{
	int i;

	mrl_require();
	mrl_mem_alloc(NPAGES);
	list = mrl_alloc(2 * MAX_SLOTS);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		kind = kinds[i];
		run();
		pr_info("Log %u: all bits are where they belong\n", kind);
	}
	return 0;
}
