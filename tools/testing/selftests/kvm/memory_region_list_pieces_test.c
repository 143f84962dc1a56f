// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: memslots that are pieces of one.
 *
 * With rmaps, i.e. with tdp_mmu=0 or shadow paging, the pieces of a memslot go on to
 * use its metadata, and so does what is merged from them: *kept-mappings*.  Proves, at
 * each step of a series of splits and merges, that no page is zapped; that an MMU
 * notifier finds the mapping of a page, whatever memslot it belongs to by now; that a
 * huge page is mapped as such unless a memslot ends inside of it, and is again when
 * that end is gone; that only what goes is zapped, unless it is much; that pieces can be
 * changed by the old ioctl; and that the metadata of all of them is freed.
 *
 * Does not prove anything about page tables of nested guests, and little without rmaps.
 */
#include "memory_region_list_guest.h"

#define HUGE_PAGES	512
#define REGION_PAGES	(4 * HUGE_PAGES)
#define MAX_PIECES	5

/* Ends of memslots, by page, from 0 to REGION_PAGES.  Ids change with each step. */
static const uint32_t steps[][MAX_PIECES + 1] = {
	{ 0, REGION_PAGES },
	{ 0, 519, REGION_PAGES },
	{ 0, 519, 600, REGION_PAGES },
	{ 0, 600, REGION_PAGES },
	{ 0, 600, 700, 1200, REGION_PAGES },
	{ 0, 600, 1200, REGION_PAGES },
	{ 0, REGION_PAGES },
	{ 0, 512, 1024, 1536, REGION_PAGES },
	{ 0, 512, 1536, REGION_PAGES },
	{ 0, 1, REGION_PAGES - 1, REGION_PAGES },
	{ 0, REGION_PAGES },
};

static void touch_region(struct mrl_guest *g)
{
	const uint64_t val[MRL_WIN_PAGES] = {};
	uint64_t page, exits;

	for (page = 0; page < REGION_PAGES; page += MRL_WIN_PAGES) {
		exits = mrl_guest_write(g, page, MRL_ALL_PAGES, val);
		TEST_ASSERT(!exits, "Pages from %lu: wanted no exits, got 0x%lx", page, exits);
	}
}

/*
 * Put another host page behind @page: the guest has to see it.  It reads the page first:
 * without a mapping there would be nothing that a notifier could fail to find.
 */
static void check_notifier(struct mrl_guest *g, uint64_t page)
{
	static uint64_t tag = MRL_TAG(0);
	uint64_t val[MRL_WIN_PAGES], *word = (uint64_t *)MRL_HVA(page), exits;

	exits = mrl_guest_read(g, page, 1, NULL);
	TEST_ASSERT(!exits, "Page %lu: wanted no exit, got 0x%lx", page, exits);
	TEST_ASSERT(!madvise(word, MRL_PAGE_SIZE, MADV_DONTNEED), "madvise() failed, errno %d",
		    errno);
	WRITE_ONCE(*word, ++tag);
	mrl_guest_read(g, page, 1, val);
	TEST_ASSERT(val[0] == tag,
		    "Page %lu after the host replaced it: wanted 0x%lx, got 0x%lx: a stale mapping",
		    page, tag, val[0]);
}

/* At all ends up to @end. */
static void check_notifiers(struct mrl_guest *g, const uint32_t *ends, uint32_t end)
{
	int i;

	for (i = 0; ends[i] < end; i++) {
		check_notifier(g, ends[i]);
		check_notifier(g, ends[i + 1] - 1);
	}
}

/* Let the guest map everything anew. */
static void check_huge_mappings(struct mrl_guest *g, const uint32_t *ends)
{
	void *mem = (void *)MRL_HVA_BASE;
	bool ends_inside[REGION_PAGES / HUGE_PAGES] = {};
	uint64_t wanted = REGION_PAGES / HUGE_PAGES, got;
	int i;

	for (i = 0; ends[i] < REGION_PAGES; i++)
		ends_inside[ends[i] / HUGE_PAGES] |= ends[i] % HUGE_PAGES;
	for (i = 0; i < REGION_PAGES / HUGE_PAGES; i++)
		wanted -= ends_inside[i];

	mprotect(mem, MRL_SIZE(REGION_PAGES), PROT_READ);
	mprotect(mem, MRL_SIZE(REGION_PAGES), PROT_READ | PROT_WRITE);
	got = vm_get_stat(g->vm, "pages_2m");
	touch_region(g);
	got = vm_get_stat(g->vm, "pages_2m") - got;
	TEST_ASSERT(got == wanted,
		    "Huge mappings with the first end at page %u: wanted %lu, got %lu",
		    ends[1], wanted, got);
}

static void set_pages(struct mrl *l, uint32_t id, uint64_t first, uint64_t end, uint64_t hva_page)
{
	mrl_set(l, id, 0, MRL_GPA(first), MRL_SIZE(end - first), (void *)MRL_HVA(hva_page));
}

static uint64_t zapped_by(struct mrl_guest *g, struct mrl *l)
{
	struct mrl_counts before = mrl_counts_get(g->vm);

	mrl_apply(g->vm, l);
	return mrl_counts_since(g->vm, before).zapped;
}

/* Replace slots @first_id... of @from by those of @to, with ids of their own. */
static uint64_t change(struct mrl_guest *g, const uint32_t *from, const uint32_t *to,
		       uint32_t *first_id, uint32_t flags)
{
	struct mrl l = mrl_alloc(2 * MAX_PIECES);
	uint32_t id = *first_id;
	uint64_t zapped;

	for (; from && *from < REGION_PAGES; from++)
		mrl_delete(&l, id++);
	*first_id = id;
	for (; *to < REGION_PAGES; to++)
		mrl_set(&l, id++, flags, MRL_GPA(to[0]), MRL_SIZE(to[1] - to[0]),
			(void *)MRL_HVA(to[0]));
	zapped = zapped_by(g, &l);
	mrl_free(&l);
	return zapped;
}

static void test_steps(bool huge, uint32_t flags)
{
	struct mrl_guest g;
	uint32_t id = 1;
	uint64_t zapped;
	int i;

	mrl_mem_realloc(REGION_PAGES, huge);
	g = mrl_guest_create(REGION_PAGES);
	change(&g, NULL, steps[0], &id, flags);
	touch_region(&g);
	for (i = 1; i < ARRAY_SIZE(steps); i++) {
		zapped = change(&g, steps[i - 1], steps[i], &id, flags);
		/* Mappings of huge pages across an end have to go. */
		TEST_ASSERT(huge || !zapped, "Step %d: wanted 0 pages zapped, got %lu", i, zapped);
		if (huge)
			check_huge_mappings(&g, steps[i]);
		else
			check_notifiers(&g, steps[i], REGION_PAGES);
	}
	kvm_vm_free(g.vm);
	pr_info("%s pages, flags %u: %d steps\n", huge ? "Huge" : "Small", flags, i - 1);
}

/*
 * A list that moves ends also gives other ids to memslots that stay as they are, and end
 * within huge pages as before.  They are created as such, or are pieces.
 */
static void test_renamed(bool pieces)
{
	const uint32_t three[] = { 0, 600, 1200, REGION_PAGES };
	const uint32_t four[] = { 0, 600, 1200, 1536, REGION_PAGES };
	struct mrl_guest g;
	uint32_t id = 1;

	mrl_mem_realloc(REGION_PAGES, true);
	g = mrl_guest_create(REGION_PAGES);
	if (pieces)
		change(&g, NULL, steps[0], &id, 0);
	change(&g, pieces ? steps[0] : NULL, three, &id, 0);
	change(&g, three, four, &id, 0);
	check_huge_mappings(&g, four);
	kvm_vm_free(g.vm);
	pr_info("%s were renamed beside a split\n", pieces ? "Pieces" : "Memslots");
}

/* A hole in the middle, and the memory that was there again. */
static void test_hole(void)
{
	const uint32_t whole[] = { 0, REGION_PAGES };
	struct mrl_guest g;
	uint32_t id = 1;
	uint64_t zapped;
	struct mrl l;
	int i;

	mrl_mem_realloc(REGION_PAGES, false);
	g = mrl_guest_create(REGION_PAGES);
	l = mrl_alloc(2);
	change(&g, NULL, whole, &id, 0);
	for (i = 0; i < 3; i++) {
		touch_region(&g);
		mrl_reset(&l);
		set_pages(&l, 1, 0, 600, 0);
		set_pages(&l, 2, 616, REGION_PAGES, 616);
		zapped = zapped_by(&g, &l);
		TEST_ASSERT(zapped == 16, "A hole: wanted 16 pages zapped, got %lu", zapped);

		mrl_reset(&l);
		set_pages(&l, 1, 0, REGION_PAGES, 0);
		mrl_delete(&l, 2);
		zapped = zapped_by(&g, &l);
		TEST_ASSERT(!zapped, "No hole: wanted 0 pages zapped, got %lu", zapped);
		check_notifiers(&g, (uint32_t[]) { 0, 600, 616, REGION_PAGES }, REGION_PAGES);
	}
	mrl_free(&l);
	kvm_vm_free(g.vm);
	pr_info("A hole, %d times\n", i);
}

/* With rmaps, everything is zapped if there is no better way. */
static void expect_zapped(struct mrl_guest *g, struct mrl *l, uint64_t exact, const char *what)
{
	uint64_t wanted = mrl_zaps_are_exact() ? exact : REGION_PAGES, zapped = zapped_by(g, l);

	TEST_ASSERT(zapped == wanted || (!mrl_zaps_are_exact() && zapped > wanted),
		    "%s: wanted %lu pages zapped, got %lu", what, wanted, zapped);
}

/* More than half goes: the rest gets metadata of its own. */
static void test_most_goes(void)
{
	const uint32_t *whole = steps[0];
	struct mrl_guest g;
	uint32_t id = 1;
	struct mrl l;

	mrl_mem_realloc(REGION_PAGES, false);
	g = mrl_guest_create(REGION_PAGES);
	l = mrl_alloc(1);
	change(&g, NULL, whole, &id, 0);
	touch_region(&g);
	set_pages(&l, id, 0, 700, 0);
	expect_zapped(&g, &l, REGION_PAGES - 700, "Most of a slot goes");
	check_notifiers(&g, (uint32_t[]) { 0, 700, REGION_PAGES }, 700);
	mrl_free(&l);
	kvm_vm_free(g.vm);
	pr_info("Most of a slot went\n");
}

/*
 * A slot is split while another one, which has @pages and nothing to do with it, goes.  If
 * that is @large, KVM does not look for it page by page.  Else nothing is zapped: a memslot
 * lets go of its metadata only if much of what is in that goes.
 */
static void test_beside(uint64_t pages, bool large)
{
	const uint32_t *whole = steps[0], *two = steps[1];
	struct mrl_guest g;
	uint32_t id = 1;
	uint64_t zapped;
	struct mrl l;
	void *mem;

	mem = mmap(NULL, MRL_SIZE(pages), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed, errno %d", errno);
	mrl_mem_realloc(REGION_PAGES, false);
	g = mrl_guest_create(REGION_PAGES);
	l = mrl_alloc(3);
	change(&g, NULL, whole, &id, 0);
	vm_set_user_memory_region(g.vm, 100, 0, MRL_GPA(REGION_PAGES), MRL_SIZE(pages), mem);
	touch_region(&g);

	mrl_delete(&l, 100);
	set_pages(&l, 1, 0, two[1], 0);
	set_pages(&l, 2, two[1], REGION_PAGES, two[1]);
	if (large) {
		expect_zapped(&g, &l, 0, "Much that is not mapped goes");
	} else {
		zapped = zapped_by(&g, &l);
		TEST_ASSERT(!zapped,
			    "Split while %lu pages of another slot go: wanted 0 pages zapped, got %lu",
			    pages, zapped);
	}
	check_notifiers(&g, two, REGION_PAGES);

	mrl_free(&l);
	kvm_vm_free(g.vm);
	munmap(mem, MRL_SIZE(pages));
	pr_info("Another slot, of %lu pages, was deleted\n", pages);
}

/*
 * A slot grows over a piece of another memslot.  The rest of that, which the list does
 * not name, must not be mapped across its end for it.
 */
static void test_unnamed_rest(void)
{
	const uint64_t other = REGION_PAGES;
	uint64_t val[MRL_WIN_PAGES];
	struct mrl_guest g;
	struct mrl l;

	mrl_mem_realloc(2 * REGION_PAGES, true);
	g = mrl_guest_create(REGION_PAGES);
	l = mrl_alloc(3);
	set_pages(&l, 1, 0, REGION_PAGES, 0);
	mrl_apply(g.vm, &l);

	mrl_reset(&l);
	set_pages(&l, 1, 0, 1536, 0);
	set_pages(&l, 2, 1536, REGION_PAGES, other + 1536);
	mrl_apply(g.vm, &l);

	mrl_reset(&l);
	set_pages(&l, 2, 1536, 1792, other + 1536);
	set_pages(&l, 3, 1792, REGION_PAGES, other + 1792);
	mrl_apply(g.vm, &l);

	mrl_reset(&l);
	set_pages(&l, 1, 0, 1792, 0);
	mrl_delete(&l, 2);
	mrl_apply(g.vm, &l);

	mrl_guest_read(&g, 1850, 1, val);
	TEST_ASSERT(val[0] == MRL_TAG(other + 1850), "Page 1850: wanted 0x%llx, got 0x%lx",
		    MRL_TAG(other + 1850), val[0]);
	mrl_guest_read(&g, 1600, 1, val);
	TEST_ASSERT(val[0] == MRL_TAG(1600),
		    "Page 1600, next to a huge page: wanted 0x%llx, got 0x%lx: a stale mapping",
		    MRL_TAG(1600), val[0]);
	mrl_free(&l);
	kvm_vm_free(g.vm);
	pr_info("The rest of a memslot was not named\n");
}

/* The front of a slot goes.  What was next to it, and isn't named, ends where it did. */
static void test_unnamed_neighbour(void)
{
	uint64_t exits;
	struct mrl_guest g;
	struct mrl l;

	mrl_mem_realloc(REGION_PAGES, true);
	g = mrl_guest_create(REGION_PAGES);
	l = mrl_alloc(2);
	set_pages(&l, 1, 0, REGION_PAGES, 0);
	mrl_apply(g.vm, &l);

	mrl_reset(&l);
	set_pages(&l, 1, 0, 519, 0);
	set_pages(&l, 2, 519, REGION_PAGES, 519);
	mrl_apply(g.vm, &l);

	mrl_reset(&l);
	set_pages(&l, 2, 1100, REGION_PAGES, 1100);
	mrl_apply(g.vm, &l);

	exits = mrl_guest_read(&g, 515, 1, NULL);
	TEST_ASSERT(!exits, "Page 515: wanted no exit, got 0x%lx", exits);
	exits = mrl_guest_read(&g, 530, 1, NULL);
	TEST_ASSERT(exits,
		    "Page 530, which is in no slot: wanted an exit, got none: a stale mapping");
	mrl_free(&l);
	kvm_vm_free(g.vm);
	pr_info("The neighbour of a memslot was not named\n");
}

static void set_old(struct mrl_guest *g, uint32_t id, uint32_t flags, uint32_t first,
		    uint32_t end)
{
	vm_set_user_memory_region(g->vm, id, flags, MRL_GPA(first), MRL_SIZE(end - first),
				  (void *)MRL_HVA(first));
}

/* A piece gets metadata of its own, or moves what it has into another object. */
static void test_old_ioctl(void)
{
	/* The first of two has most of the metadata: that is what a merge goes on with. */
	const uint32_t whole[] = { 0, REGION_PAGES }, two[] = { 0, 1200, REGION_PAGES };
	struct mrl_guest g;
	uint32_t id = 1;
	uint64_t zapped;

	mrl_mem_realloc(REGION_PAGES, false);
	g = mrl_guest_create(REGION_PAGES);
	change(&g, NULL, whole, &id, 0);
	touch_region(&g);

	/* Flags only: the piece remains a piece. */
	change(&g, whole, two, &id, 0);
	set_old(&g, id, KVM_MEM_LOG_DIRTY_PAGES, 0, two[1]);
	set_old(&g, id, 0, 0, two[1]);
	touch_region(&g);
	zapped = change(&g, two, whole, &id, 0);
	TEST_ASSERT(!zapped, "Merge after a change of flags: wanted 0 pages zapped, got %lu",
		    zapped);
	check_notifiers(&g, two, REGION_PAGES);

	/* Created anew: it is no piece any more, in spite of where it is. */
	change(&g, whole, two, &id, 0);
	set_old(&g, id + 1, 0, 0, 0);
	set_old(&g, id + 1, 0, two[1], REGION_PAGES);
	touch_region(&g);
	change(&g, two, whole, &id, 0);
	check_notifiers(&g, two, REGION_PAGES);

	touch_region(&g);
	zapped = change(&g, whole, two, &id, 0);
	TEST_ASSERT(!zapped, "Split of the new whole: wanted 0 pages zapped, got %lu", zapped);
	check_notifiers(&g, two, REGION_PAGES);
	kvm_vm_free(g.vm);
	pr_info("Pieces were changed by the old ioctl\n");
}

static long vmalloc_kbytes(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	char line[256];
	long kbytes = -1;

	TEST_ASSERT(f, "Can't open /proc/meminfo, errno %d", errno);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "VmallocUsed: %ld kB", &kbytes);
	fclose(f);
	TEST_ASSERT(kbytes >= 0, "Wanted VmallocUsed in /proc/meminfo, got none");
	return kbytes;
}

/* Each round would leave the metadata of 1 GiB behind, which is 2 MiB with rmaps. */
static void test_leak(void)
{
	const uint64_t pages = 1 << 18;
	struct kvm_vm *vm = vm_create_barebones();
	struct mrl l = mrl_alloc(3);
	long before = 0, grown;
	int i;

	for (i = 0; i < 50; i++) {
		if (i == 10)
			before = vmalloc_kbytes();
		mrl_reset(&l);
		mrl_set(&l, 1, 0, MRL_GPA(0), MRL_SIZE(pages), (void *)MRL_HVA(0));
		mrl_apply(vm, &l);
		mrl_reset(&l);
		mrl_set(&l, 1, 0, MRL_GPA(0), MRL_SIZE(3), (void *)MRL_HVA(0));
		mrl_set(&l, 2, 0, MRL_GPA(3), MRL_SIZE(pages - 3), (void *)MRL_HVA(3));
		mrl_apply(vm, &l);

		mrl_reset(&l);
		mrl_delete(&l, 1);
		mrl_set(&l, 2, 0, MRL_GPA(0), MRL_SIZE(pages), (void *)MRL_HVA(0));
		mrl_apply(vm, &l);
		mrl_reset(&l);
		mrl_delete(&l, 2);
		mrl_apply(vm, &l);
	}
	grown = vmalloc_kbytes() - before;
	TEST_ASSERT(grown < 16 << 10,
		    "VmallocUsed after 40 rounds: wanted less than 16 MiB more, got %ld kB", grown);
	pr_info("%d rounds of create, split, merge, delete: VmallocUsed grew by %ld kB\n", i - 10,
		grown);
	mrl_free(&l);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	mrl_require();

	test_steps(false, 0);
	test_steps(false, KVM_MEM_LOG_DIRTY_PAGES);
	if (!kvm_is_tdp_enabled()) {
		pr_info("Left out: huge pages, the guest maps small ones\n");
	} else if (!mrl_mem_realloc(2 * REGION_PAGES, true)) {
		pr_info("Left out: huge pages, the host has none\n");
	} else {
		test_steps(true, 0);
		test_renamed(false);
		test_renamed(true);
		test_unnamed_rest();
		test_unnamed_neighbour();
	}
	test_hole();
	test_most_goes();
	test_beside(70000, true);
	test_beside(REGION_PAGES * 3 / 4, false);
	test_old_ioctl();
	test_leak();
	return 0;
}
