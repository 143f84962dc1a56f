// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: a whole layout in one call.
 *
 * Proves that one call can name every id that a VM has: create all slots, rename
 * all, give all of them other memory, delete all but the one that the guest runs
 * in, each time with all slots in an order of their own (*order-free*), and one
 * grace period (*one-grace-period*); that the guest finds what the final layout says,
 * at every fourth group of 64 pages; and that probes find its id at each page after
 * a rename, and at every seventh page after other calls.  A list with one
 * mistake at its end fails and changes nothing (*all-or-nothing*), however much was
 * there to undo.
 *
 * Does not prove how long vCPUs are held up by a call of this size.
 */
#include "memory_region_list_guest.h"

static uint32_t nr_slots;

/* Which host page is behind a page of the window. */
static uint64_t host_page(uint64_t page, int round)
{
	return (page * 7 + round * 13) % MRL_MEM_PAGES;
}

/* Which id has a page of the window.  Id 0 is for the memory the guest runs in. */
static uint32_t page_id(uint64_t page, bool reverse)
{
	return reverse ? nr_slots - 1 - page : 1 + page;
}

/* As many entries as there are ids, @pages 0 deletes. */
static void fill(struct kvm_vm *vm, struct mrl *l, uint64_t pages, int round, bool reverse)
{
	struct userspace_mem_region *own = memslot2region(vm, 0);
	uint64_t i, page;

	mrl_reset(l);
	for (i = 0; i < nr_slots - 1; i++) {
		/* A prime: visits each page once, unless it divides the number. */
		page = i * 10007 % (nr_slots - 1);
		mrl_set(l, page_id(page, reverse), 0, MRL_GPA(page), MRL_SIZE(pages),
			(void *)MRL_HVA(host_page(page, round)));
		/* Somewhere in the middle, the one that must not change. */
		if (i == nr_slots / 2)
			mrl_set(l, 0, own->region.flags, own->region.guest_phys_addr,
				own->region.memory_size, (void *)own->region.userspace_addr);
	}
}

/* Every @stride-th group of 64 pages.  @round -1: there is no memory. */
static void check(struct mrl_guest *g, int round, uint32_t stride, const char *what)
{
	uint64_t val[MRL_WIN_PAGES], first, exits, want;
	int i;

	for (first = 0; first + MRL_WIN_PAGES < nr_slots; first += stride * MRL_WIN_PAGES) {
		exits = mrl_guest_read(g, first, MRL_ALL_PAGES, val);
		want = round < 0 ? MRL_ALL_PAGES : 0;
		TEST_ASSERT(exits == want, "%s: pages from %lu: wanted exits 0x%lx, got 0x%lx",
			    what, first, want, exits);
		for (i = 0; i < MRL_WIN_PAGES; i++) {
			want = round < 0 ? MRL_HOLE : MRL_TAG(host_page(first + i, round));
			TEST_ASSERT(val[i] == want, "%s: page %lu: wanted 0x%lx, got 0x%lx",
				    what, first + i, want, val[i]);
		}
	}
}

/*
 * That all slots are equal but for their ids the guest can't see.  A creation of what
 * is there, as a test, succeeds by the id that has the page, and is an overlap by any
 * other.
 */
static void check_ids(struct mrl_guest *g, bool reverse, uint32_t stride, const char *what)
{
	uint64_t page;
	int i;

	for (page = 0; page < nr_slots - 1; page += stride) {
		for (i = 0; i < 2; i++) {
			uint32_t id = page_id(page, i), own = page_id(page, reverse);
			int want = id == own ? 0 : EEXIST;
			int got = mrl_probe(g->vm, 0, (mrl_entry) {
				.slot = id,
				.guest_phys_addr = MRL_GPA(page),
				.memory_size = MRL_SIZE(1),
				.userspace_addr = MRL_HVA(0),
			});

			TEST_ASSERT(got == want,
				    "%s: page %lu, as slot %u: wanted errno %d, it is slot %u, got %d",
				    what, page, id, want, own, got);
		}
	}
}

/* One slot, by the id that it has now, gets other memory. */
static void change_one(struct mrl_guest *g, uint64_t page, bool reverse)
{
	const uint64_t first = page / MRL_WIN_PAGES * MRL_WIN_PAGES;
	const uint64_t other = (host_page(page, 0) + 1) % MRL_MEM_PAGES;
	uint64_t val[MRL_WIN_PAGES], exits, want;
	struct mrl l = mrl_alloc(1);
	int i;

	mrl_set(&l, page_id(page, reverse), 0, MRL_GPA(page), MRL_SIZE(1), (void *)MRL_HVA(other));
	mrl_apply(g->vm, &l);
	mrl_free(&l);

	exits = mrl_guest_read(g, first, MRL_ALL_PAGES, val);
	TEST_ASSERT(!exits, "One by its new id: wanted no exits, got 0x%lx", exits);
	for (i = 0; i < MRL_WIN_PAGES; i++) {
		want = MRL_TAG(first + i == page ? other : host_page(first + i, 0));
		TEST_ASSERT(val[i] == want, "One by its new id: page %lu: wanted 0x%lx, got 0x%lx",
			    first + i, want, val[i]);
	}
}

static void apply(struct mrl_guest *g, struct mrl *l, const char *what)
{
	struct mrl_counts counts = mrl_counts_get(g->vm);

	l->list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY;
	mrl_apply(g->vm, l);
	l->list->flags = 0;
	mrl_apply(g->vm, l);

	counts = mrl_counts_since(g->vm, counts);
	TEST_ASSERT(counts.grace_periods == 1, "%s: wanted 1 grace period, got %lu", what,
		    counts.grace_periods);
	pr_info("%s: %u entries, %lu pages zapped\n", what, l->list->nent, counts.zapped);
}

/* The last entry is wrong: it covers a page of another one. */
static void expect_fail(struct mrl_guest *g, struct mrl *l)
{
	struct mrl_counts counts = mrl_counts_get(g->vm);
	uint32_t last = l->list->nent - 1;
	mrl_entry *e = &l->list->entries[last], good = *e;
	int r;

	e->guest_phys_addr = l->list->entries[last / 3].guest_phys_addr;
	r = __mrl_apply(g->vm, l);
	TEST_ASSERT(r && errno == EEXIST, "Overlap: wanted errno %d, got %d, errno %d",
		    EEXIST, r, errno);
	TEST_ASSERT(l->list->error_index == last || l->list->error_index == last / 3,
		    "Overlap: error_index: wanted %u or %u, got %u", last, last / 3,
		    l->list->error_index);

	*e = (mrl_entry) { .slot = nr_slots };
	r = __mrl_apply(g->vm, l);
	TEST_ASSERT(r && errno == EINVAL && l->list->error_index == last,
		    "Bad id: wanted errno %d at %u, got %d, errno %d at %u", EINVAL, last, r,
		    errno, l->list->error_index);
	*e = good;

	counts = mrl_counts_since(g->vm, counts);
	TEST_ASSERT(counts.failed == 2 && !counts.grace_periods && !counts.zapped,
		    "Wanted 2 failed calls, no work, got %lu, %lu grace periods, %lu zapped",
		    counts.failed, counts.grace_periods, counts.zapped);
}

int main(int argc, char *argv[])
{
	struct mrl_guest g;
	struct mrl l;

	mrl_require();

	/* As many as a VM has; a guest that maps them all is created next. */
	g.vm = vm_create_barebones();
	nr_slots = vm_check_cap(g.vm, KVM_CAP_USER_MEMORY_REGION_LIST);
	kvm_vm_free(g.vm);
	mrl_mem_alloc(MRL_MEM_PAGES);
	g = mrl_guest_create(nr_slots);
	l = mrl_alloc(nr_slots);

	fill(g.vm, &l, 1, 0, false);
	apply(&g, &l, "create");
	check(&g, 0, 4, "create");
	check_ids(&g, false, 7, "create");

	fill(g.vm, &l, 1, 1, true);
	expect_fail(&g, &l);
	check(&g, 0, 8, "failed");
	check_ids(&g, false, 7, "failed");

	fill(g.vm, &l, 1, 0, true);
	apply(&g, &l, "rename");
	check(&g, 0, 4, "rename");
	check_ids(&g, true, 1, "rename");
	change_one(&g, 1000, true);

	fill(g.vm, &l, 1, 2, false);
	apply(&g, &l, "rename, other memory");
	check(&g, 2, 4, "rename, other memory");
	check_ids(&g, false, 7, "rename, other memory");

	fill(g.vm, &l, 0, 0, false);
	apply(&g, &l, "delete");
	check(&g, -1, 64, "delete");

	mrl_free(&l);
	kvm_vm_free(g.vm);
	return 0;
}
