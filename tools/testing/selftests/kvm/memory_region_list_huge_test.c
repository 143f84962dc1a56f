// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: huge mappings across a new boundary.
 *
 * Shows never-lost where a boundary comes to lie inside of a huge page, and only one
 * side of it logs.  A huge mapping that covers both sides is made writable again for a
 * write to the side that does not log, and then writes to the other one are not seen.
 * So the guest writes to what does not log first.  Splits in two and three, either
 * side logs; merges in which logging starts or stops; each way to get a log; memory in
 * transparent huge pages and in hugetlb pages; huge pages split eagerly and lazily.
 * Then with 2 vCPUs that write both sides all the time, during the calls, too.
 *
 * Shows kept-mappings: only huge mappings that would straddle a boundary go, their
 * neighbours stay, and pages of a slot that stops to log are mapped huge again.  Under
 * other MMUs than the TDP MMU only what is mapped in the end is checked.
 *
 * Not shown: 1 GiB pages; hardware that logs writes.
 */
#include "memory_region_list_huge.h"
#include "memory_region_list_vcpus.h"

#define HUGE		512
#define NPAGES		(2 * HUGE)
#define BYTES		MRL_SIZE(NPAGES)
#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define INIT_SET	KVM_DIRTY_LOG_INITIALLY_SET
#define MAX_PIECES	3
#define ROUNDS		24

struct huge_case {
	const char *what;
	uint32_t nr;
	struct piece {
		uint64_t first, end;
		uint32_t flags;
	} piece[MAX_PIECES];
};

/* Slot i + 1 has piece i.  Before, slot 1 has all pages and does not log. */
static const struct huge_case cases[] = {
	{ "lower part logs", 2, { { 0, 256, LOG }, { 256, NPAGES, 0 } } },
	{ "upper part logs", 2, { { 0, 256, 0 }, { 256, NPAGES, LOG } } },
	{ "last page of a huge page logs", 2, { { 0, 1023, 0 }, { 1023, NPAGES, LOG } } },
	{ "middle logs", 3, { { 0, 128, 0 }, { 128, 384, LOG }, { 384, NPAGES, 0 } } },
	{ "all but the middle log", 3,
	  { { 0, 128, LOG }, { 128, 384, 0 }, { 384, NPAGES, LOG } } },
	{ "middle of both logs", 3, { { 0, 256, 0 }, { 256, 768, LOG }, { 768, NPAGES, 0 } } },
	{ "no boundary inside", 2, { { 0, 512, 0 }, { 512, NPAGES, LOG } } },
	{ "nothing logs", 2, { { 0, 256, 0 }, { 256, NPAGES, 0 } } },
};

static struct mrl_setting eager_page_split = {
	.path = "/sys/module/kvm/parameters/eager_page_split",
};

static struct mrl list;
static unsigned long bitmap[MAX_PIECES][NPAGES / 64];
static uint32_t log_kind;
static uint64_t calls;
static bool eager;

static void write_pages(struct mrl_guest *g, uint64_t first, uint64_t end)
{
	static uint64_t val[MRL_WIN_PAGES], count;
	uint64_t exits, nr;

	for (; first < end; first += nr) {
		nr = min_t(uint64_t, end - first, MRL_WIN_PAGES);
		memset(val, ++count, sizeof(val));
		exits = mrl_guest_write(g, first, GENMASK_ULL(nr - 1, 0), val);
		TEST_ASSERT(!exits, "no-hole: pages from %lu: wanted no exits, got 0x%lx", first,
			    exits);
	}
}

/* What does not log comes first. */
static void write_all(struct mrl_guest *g, const struct huge_case *c)
{
	uint32_t i;

	for (i = 0; i < c->nr; i++) {
		if (!c->piece[i].flags)
			write_pages(g, c->piece[i].first, c->piece[i].end);
	}
	for (i = 0; i < c->nr; i++) {
		if (c->piece[i].flags)
			write_pages(g, c->piece[i].first, c->piece[i].end);
	}
}

/* The log of slot @id, and the pages are tracked from here on. */
static void get_log(struct kvm_vm *vm, uint32_t id, uint64_t pages)
{
	unsigned long *log = bitmap[id - 1];

	memset(log, 0, sizeof(bitmap[0]));
	kvm_vm_get_dirty_log(vm, id, log);
	if (log_kind)
		kvm_vm_clear_dirty_log(vm, id, log, 0, pages);
}

static void check_bits(const unsigned long *log, uint64_t pages, const char *what,
		       const char *when)
{
	uint64_t page, lost = 0, first = 0;

	for (page = 0; page < pages; page++) {
		if (!test_bit(page, log) && !lost++)
			first = page;
	}
	TEST_ASSERT(!lost,
		    "never-lost: %s, %s, eager split %d, log %u: wanted %lu bits, got %lu, page %lu of the slot is the first without",
		    what, when, eager, log_kind, pages, pages - lost, first);
}

static void check_logs(struct kvm_vm *vm, const struct huge_case *c, const char *when)
{
	const struct piece *p = c->piece;
	uint32_t i;

	for (i = 0; i < c->nr; i++, p++) {
		if (!p->flags)
			continue;
		get_log(vm, i + 1, p->end - p->first);
		check_bits(bitmap[i], p->end - p->first, c->what, when);
	}
}

static const struct piece *piece_of(const struct huge_case *c, uint64_t page)
{
	const struct piece *p = c->piece;

	while (page >= p->end)
		p++;
	return p;
}

static bool straddles(const struct huge_case *c, uint64_t page)
{
	return piece_of(c, page) != piece_of(c, page + HUGE - 1);
}

/* Ahead of and right after the split; no other memory is mapped meanwhile. */
static void check_kept(const struct huge_case *c, struct mrl_mapped before, struct mrl_mapped got)
{
	struct mrl_mapped want = before;
	uint64_t page, straddlers = 0;

	if (!mrl_zaps_are_exact())
		return;
	for (page = 0; page < NPAGES; page += HUGE) {
		if (straddles(c, page)) {
			straddlers++;
			want.huge--;
		} else if (piece_of(c, page)->flags && eager && !(log_kind & INIT_SET)) {
			want.huge--;
			want.small += HUGE;
		}
	}
	/* Those that straddle a boundary may be dropped, or be split. */
	TEST_ASSERT(got.huge == want.huge && got.small >= want.small &&
		    got.small <= want.small + straddlers * HUGE,
		    "kept-mappings: %s: wanted %ld huge, %ld to %ld small, got %ld, %ld", c->what,
		    want.huge, want.small, want.small + straddlers * HUGE, got.huge, got.small);
}

/* When all pages have been written to, and tracked page by page where they log. */
static void check_mapped(struct kvm_vm *vm, const struct huge_case *c)
{
	struct mrl_mapped got = mrl_mapped_get(vm);
	int64_t want = 0;
	uint64_t page;

	for (page = 0; page < NPAGES; page += HUGE)
		want += !straddles(c, page) && !piece_of(c, page)->flags;
	TEST_ASSERT(got.huge == want, "%s: wanted %ld huge mappings, got %ld", c->what, want,
		    got.huge);
}

static void set_piece(uint32_t id, struct piece p)
{
	mrl_set(&list, id, p.flags, MRL_GPA(p.first), MRL_SIZE(p.end - p.first),
		(void *)MRL_HVA(p.first));
}

static void apply(struct kvm_vm *vm)
{
	mrl_apply(vm, &list);
	mrl_reset(&list);
	calls++;
}

/* Returns what there was before. */
static struct mrl_mapped split(struct mrl_guest *g, const struct huge_case *c)
{
	struct mrl_mapped before = mrl_mapped_get(g->vm);
	uint32_t i;

	TEST_ASSERT(before.huge == NPAGES / HUGE, "%s: before: wanted %d huge mappings, got %ld",
		    c->what, NPAGES / HUGE, before.huge);
	for (i = 0; i < c->nr; i++)
		set_piece(i + 1, c->piece[i]);
	/* What comes last has no boundary inside of a huge page. */
	mrl_set(&list, MAX_PIECES + 1, 0, MRL_GPA(NPAGES), MRL_SIZE(1), (void *)MRL_HVA(0));
	apply(g->vm);
	mrl_delete(&list, MAX_PIECES + 1);
	apply(g->vm);
	return before;
}

/* One slot, which logs or not.  The logs that go, if any, are in bitmap[]. */
static void merge(struct mrl_guest *g, const struct huge_case *c, uint32_t flags)
{
	uint32_t i;

	memset(bitmap, 0, sizeof(bitmap));
	set_piece(1, (struct piece) { 0, NPAGES, flags });
	for (i = 1; i < c->nr; i++)
		mrl_delete(&list, i + 1);
	for (i = 0; i < c->nr; i++) {
		if (c->piece[i].flags)
			mrl_result(&list.list->entries[i], bitmap[i], sizeof(bitmap[i]));
	}
	apply(g->vm);
}

static void check_results(const struct huge_case *c)
{
	uint32_t i;

	for (i = 0; i < c->nr; i++) {
		if (c->piece[i].flags)
			check_bits(bitmap[i], c->piece[i].end - c->piece[i].first, c->what,
				   "returned by the merge");
	}
}

static bool any_logs(const struct huge_case *c)
{
	return c->piece[0].flags || c->piece[1].flags || c->piece[2].flags;
}

/* All that was written since the logs were read is in the logs that end. */
static void stop_logging(struct mrl_guest *g, const struct huge_case *c)
{
	struct mrl_mapped got;

	write_all(g, c);
	merge(g, c, 0);
	check_results(c);
	write_pages(g, 0, NPAGES);
	got = mrl_mapped_get(g->vm);
	TEST_ASSERT(got.huge == NPAGES / HUGE,
		    "%s: merged, nothing logs: wanted %d huge mappings, got %ld",
		    c->what, NPAGES / HUGE, got.huge);
}

/* Logging starts for those that did not, and goes on for the others. */
static void start_logging(struct mrl_guest *g, const struct huge_case *c)
{
	static const struct huge_case whole = { "merged, all logs", 1, { { 0, NPAGES, LOG } } };

	merge(g, c, LOG);
	write_pages(g, 0, NPAGES);
	check_logs(g->vm, &whole, "after the merge");
	write_pages(g, 0, NPAGES);
	check_logs(g->vm, &whole, "after the log was read");
	check_mapped(g->vm, &whole);

	set_piece(1, (struct piece) { 0, NPAGES, 0 });
	mrl_result(&list.list->entries[0], bitmap[0], sizeof(bitmap[0]));
	apply(g->vm);
	write_pages(g, 0, NPAGES);
}

static void split_and_write(struct mrl_guest *g, const struct huge_case *c)
{
	struct mrl_mapped before = split(g, c), after = mrl_mapped_get(g->vm);

	write_all(g, c);
	check_logs(g->vm, c, "after the split");
	write_all(g, c);
	check_logs(g->vm, c, "after the log was read");
	check_mapped(g->vm, c);
	/* Last: a straddler that was not zapped has to show in the logs. */
	check_kept(c, before, after);
}

static void run_case(struct mrl_guest *g, const struct huge_case *c)
{
	split_and_write(g, c);
	if (any_logs(c))
		stop_logging(g, c);
	else
		/* Small mappings would stay: start without. */
		start_logging(g, c);

	split_and_write(g, c);
	start_logging(g, c);

	/* What was not touched meanwhile is mapped huge again. */
	split(g, c);
	merge(g, c, 0);
	write_pages(g, 0, NPAGES);
	TEST_ASSERT(mrl_mapped_get(g->vm).huge == NPAGES / HUGE,
		    "%s: split and merged: wanted %d huge mappings, got %ld", c->what,
		    NPAGES / HUGE, mrl_mapped_get(g->vm).huge);
}

static void enable_log(struct kvm_vm *vm)
{
	if (log_kind)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, log_kind);
}

static void test_one_vcpu(void)
{
	struct mrl_guest g = {};
	uint32_t i;

	g.vm = vm_create_with_one_vcpu(&g.vcpu, mrl_guest_code);
	g.cmd = addr_gva2hva(g.vm, (vm_vaddr_t)&mrl_guest_cmd);
	enable_log(g.vm);
	mrl_huge_map(g.vm, BYTES);
	set_piece(1, (struct piece) { 0, NPAGES, 0 });
	apply(g.vm);
	write_pages(&g, 0, NPAGES);
	for (i = 0; i < ARRAY_SIZE(cases); i++)
		run_case(&g, &cases[i]);
	kvm_vm_free(g.vm);
}

/* In memslot 0. */
static struct {
	uint32_t park;
	uint64_t passes[2];
} shared, *sh;

/* Each vCPU writes to its half of one huge page. */
static void guest_main(uint32_t me, uint32_t nr)
{
	uint32_t park = 0, page;
	uint64_t pass;

	for (pass = 1;; pass++) {
		for (page = me * HUGE / 2; page < (me + 1) * HUGE / 2; page++)
			WRITE_ONCE(*(uint64_t *)MRL_GPA(page), pass);
		WRITE_ONCE(shared.passes[me], pass);
		if (READ_ONCE(shared.park) != park) {
			park = READ_ONCE(shared.park);
			GUEST_SYNC(0);
		}
	}
}

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	struct ucall uc;

	TEST_ASSERT(!r, "no-hole: KVM_RUN of vCPU %u: wanted 0, got errno %d", vcpu->id, errno);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC,
		    "no-hole: vCPU %u: wanted a sync, got exit reason %u (%s)", vcpu->id,
		    vcpu->run->exit_reason, exit_reason_str(vcpu->run->exit_reason));
	return true;
}

/* Until each vCPU has written to all of its pages at least once from here on. */
static void wait_for_pass(void)
{
	uint64_t seen[2] = { READ_ONCE(sh->passes[0]), READ_ONCE(sh->passes[1]) };
	int i;

	for (i = 0; i < 2; i++) {
		while (READ_ONCE(sh->passes[i]) < seen[i] + 2)
			sched_yield();
	}
}

static void check_round(struct kvm_vm *vm, const struct huge_case *c, const uint64_t *copy)
{
	const struct piece *p;
	uint64_t page, now;
	uint32_t i;

	for (i = 0; i < c->nr; i++) {
		if (c->piece[i].flags)
			get_log(vm, i + 1, c->piece[i].end - c->piece[i].first);
	}
	for (page = 0; page < HUGE; page++) {
		p = piece_of(c, page);
		now = *(uint64_t *)MRL_HVA(page);
		TEST_ASSERT(now != copy[page],
			    "2 vCPUs, page %lu: wanted writes since 0x%lx, got none", page,
			    copy[page]);
		TEST_ASSERT(!p->flags || test_bit(page - p->first, bitmap[p - c->piece]),
			    "never-lost: 2 vCPUs, %s, eager split %d, log %u: page %lu: 0x%lx is 0x%lx, wanted its bit, got none",
			    c->what, eager, log_kind, page, copy[page], now);
	}
}

/* Split while the vCPUs write.  What they write after the call has returned is logged. */
static void round_of_two(struct mrl_guest *g, const struct huge_case *c)
{
	static uint64_t copy[HUGE];
	uint64_t page;
	uint32_t i;

	mrl_vcpus_go();
	wait_for_pass();
	TEST_ASSERT(mrl_mapped_get(g->vm).huge, "2 vCPUs: wanted a huge mapping, got none");
	for (i = 0; i < c->nr; i++)
		set_piece(i + 1, c->piece[i]);
	apply(g->vm);
	/* With all bits set, pages are tracked from the first clear on. */
	for (i = 0; i < c->nr && log_kind & INIT_SET; i++) {
		if (c->piece[i].flags)
			get_log(g->vm, i + 1, c->piece[i].end - c->piece[i].first);
	}
	for (page = 0; page < HUGE; page++)
		copy[page] = READ_ONCE(*(uint64_t *)MRL_HVA(page));
	wait_for_pass();
	mrl_vcpus_park();
	check_round(g->vm, c, copy);
	merge(g, c, 0);
}

static void test_two_vcpus(void)
{
	struct mrl_guest g = { .vm = mrl_vcpus_create(guest_main) };
	int i;

	enable_log(g.vm);
	sh = addr_gva2hva(g.vm, (vm_vaddr_t)&shared);
	mrl_huge_map(g.vm, BYTES);
	set_piece(1, (struct piece) { 0, NPAGES, 0 });
	apply(g.vm);
	mrl_vcpus_start(&sh->park, handle_exit);
	for (i = 0; i < ROUNDS; i++)
		round_of_two(&g, &cases[i % 6]);
	mrl_vcpus_stop();
	kvm_vm_free(g.vm);
}

static void test_memory(bool hugetlb)
{
	static const uint32_t kinds[] = { 0, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | INIT_SET };
	bool got = mrl_huge_alloc(BYTES, hugetlb);
	int i;

	TEST_REQUIRE(got);
	/* The log is the same in kind whatever is behind it. */
	for (i = 0; i < (hugetlb ? 2 : 2 * ARRAY_SIZE(kinds)); i++) {
		log_kind = kinds[i / 2];
		eager = i % 2;
		TEST_ASSERT(mrl_setting_set(&eager_page_split, eager ? "Y" : "N"),
			    "eager_page_split: wanted %c, got '%s'", eager ? 'Y' : 'N',
			    eager_page_split.value);
		calls = 0;
		test_one_vcpu();
		test_two_vcpus();
		pr_info("%s, log %u, eager split %d: %lu calls\n", hugetlb ? "hugetlb" : "THP",
			log_kind, eager, calls);
	}
	mrl_huge_free(BYTES);
}

int main(int argc, char *argv[])
{
	mrl_require();

	list = mrl_alloc(MAX_PIECES + 1);
	test_memory(false);
	test_memory(true);
	return 0;
}
