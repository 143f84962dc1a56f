// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST in a VM with guest_memfd.
 *
 * Shows what is legal: one call creates guest_memfd slots, deletes others, leaves others
 * untouched or names them without a change, and meanwhile splits, merges and re-backs
 * ordinary slots beside them.  The guest's private pages keep their contents wherever
 * their slot stays, are gone where it went, and are in the file still when another slot
 * gets them in a later call, at another gfn.
 *
 * Shows *all-or-nothing* where nothing but the binding can fail: two new slots want a page
 * of the file both.  The first one's binding is undone, i.e. the same call without the
 * overlap succeeds.
 *
 * C14: holes are punched in the file, all the time, where a slot comes and goes: its pages
 * have what was written or zero, and those of its neighbour stay.  A hole behind that is
 * seen by the guest, in both: their bindings are those of the slots.
 *
 * C14, *no-stale-mapping*: a vCPU reads private pages all the time, while their slot goes
 * and comes back with another part of the file.  What it reads is in the file where the
 * slot was meanwhile, or there is none.
 *
 * Not shown: what else is refused (memory_region_list_errors_test.c); that a page fault
 * finds the old slot still bound: if it were not, it would end like one without a slot.
 */
#include "memory_region_list_guest.h"
#include "memory_region_list_lazy.h"

#define LOG	KVM_MEM_LOG_DIRTY_PAGES
#define PAGES	4		/* Of each guest_memfd slot. */
#define PLAIN	40		/* The first page of the ordinary ones. */
#define A	0
#define B	8
#define C	16
#define NR_PUNCHED	200
#define NR_REPLACED	400ul
#define PART_TAG(part)	((part) << 8 | 0xb0)

static struct mrl_guest g;
static struct mrl list;
static int fd;

static void set_gmem(uint32_t id, uint64_t page, uint64_t file_page)
{
	mrl_entry *e = mrl_set(&list, id, KVM_MEM_GUEST_MEMFD, MRL_GPA(page), MRL_SIZE(PAGES),
			       (void *)MRL_HVA(page));

	e->guest_memfd = fd;
	e->guest_memfd_offset = MRL_SIZE(file_page);
}

static void set_plain(uint32_t id, uint32_t flags, uint64_t first, uint64_t end, uint64_t hva)
{
	mrl_set(&list, id, flags, MRL_GPA(first), MRL_SIZE(end - first), (void *)MRL_HVA(hva));
}

static void apply(const char *what)
{
	struct mrl_counts counts = mrl_counts_get(g.vm);

	mrl_apply(g.vm, &list);
	counts = mrl_counts_since(g.vm, counts);
	TEST_ASSERT(counts.grace_periods == 1, "%s: wanted 1 grace period, got %lu", what,
		    counts.grace_periods);
	mrl_reset(&list);
}

static uint64_t mask(uint64_t page)
{
	return GENMASK_ULL(page + PAGES - 1, page);
}

static void write_private(uint64_t page, uint64_t tag)
{
	uint64_t val[MRL_WIN_PAGES], exits, i;

	for (i = 0; i < MRL_WIN_PAGES; i++)
		val[i] = tag + i - page;
	exits = mrl_guest_write(&g, 0, mask(page), val);
	TEST_ASSERT(!exits, "Write to private pages from %lu: wanted no exits, got 0x%lx", page,
		    exits);
	/* The host's pages are what they were: it did go to guest_memfd. */
	for (i = page; i < page + PAGES; i++)
		TEST_ASSERT(*(uint64_t *)MRL_HVA(i) == MRL_TAG(i),
			    "Private page %lu: wanted the host's 0x%llx, got 0x%lx", i, MRL_TAG(i),
			    *(uint64_t *)MRL_HVA(i));
}

static void expect(uint64_t first, uint64_t nr, uint64_t tag, const char *what)
{
	uint64_t val[MRL_WIN_PAGES], exits, i;

	exits = mrl_guest_read(&g, 0, GENMASK_ULL(first + nr - 1, first), val);
	TEST_ASSERT(!exits, "%s: pages from %lu: wanted no exits, got 0x%lx", what, first, exits);
	for (i = 0; i < nr; i++)
		TEST_ASSERT(val[first + i] == tag + i, "%s: page %lu: wanted 0x%lx, got 0x%lx",
			    what, first + i, tag + i, val[first + i]);
}

/* By probes: an access to private pages without a slot ends KVM_RUN. */
static void expect_gone(uint64_t page, uint32_t id, const char *what)
{
	TEST_ASSERT(!mrl_slot_exists(g.vm, 0, id), "%s: wanted no slot %u, got one", what, id);
	TEST_ASSERT(!mrl_page_occupied(g.vm, 0, 100, page),
		    "%s: wanted no slot at page %lu, got one", what, page);
}

static void test_one_call(void)
{
	set_gmem(1, A, 0);
	set_gmem(2, B, 4);
	set_plain(5, 0, PLAIN, PLAIN + 16, PLAIN);
	apply("create");
	write_private(A, 0xa0);
	write_private(B, 0xb0);
	expect(PLAIN, 16, MRL_TAG(PLAIN), "create");

	/* 1 is untouched, 2 goes, 3 comes, and the ordinary slot is split. */
	mrl_delete(&list, 2);
	set_gmem(3, C, 8);
	set_plain(5, LOG, PLAIN, PLAIN + 5, PLAIN);
	set_plain(6, 0, PLAIN + 5, PLAIN + 16, PLAIN + 5);
	apply("create, delete, untouched, split");
	expect(A, PAGES, 0xa0, "untouched");
	expect(PLAIN, 16, MRL_TAG(PLAIN), "split");
	expect_gone(B, 2, "delete");
	write_private(C, 0xc0);

	/* 1 is named, without a change; what 2 left in the file comes back elsewhere. */
	set_gmem(1, A, 0);
	mrl_delete(&list, 3);
	set_gmem(4, B, 4);
	mrl_delete(&list, 6);
	set_plain(5, LOG, PLAIN, PLAIN + 16, PLAIN);
	apply("no-op, delete, create again, merge");
	expect(A, PAGES, 0xa0, "no-op");
	expect(B, PAGES, 0xb0, "created again");
	expect(PLAIN, 16, MRL_TAG(PLAIN), "merge");
	expect_gone(C, 3, "delete");

	/* What 3 had is back under the same id, and an ordinary slot comes along. */
	set_plain(7, 0, PLAIN + 16, PLAIN + 20, PLAIN + 16);
	mrl_delete(&list, 4);
	set_gmem(3, C, 8);
	apply("delete, create, ordinary slot created");
	expect(C, PAGES, 0xc0, "created again");
	expect(A, PAGES, 0xa0, "untouched");
	expect(PLAIN + 16, 4, MRL_TAG(PLAIN + 16), "ordinary slot created");

	/* The file range that 4 gave up, at the gfns that 3 gave up. */
	mrl_delete(&list, 3);
	apply("delete");
	set_gmem(2, C, 4);
	apply("create elsewhere");
	expect(C, PAGES, 0xb0, "created elsewhere");
	expect(A, PAGES, 0xa0, "untouched");

	mrl_delete(&list, 1);
	mrl_delete(&list, 2);
	mrl_delete(&list, 5);
	list.list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	apply("delete all");
	expect_gone(A, 1, "delete all");
	expect_gone(C, 2, "delete all");
}

static void test_bound_twice(void)
{
	uint32_t id;
	int r;

	set_plain(5, 0, PLAIN, PLAIN + 4, PLAIN);
	set_gmem(1, A, 0);
	set_gmem(2, B, PAGES - 1);
	r = __mrl_apply(g.vm, &list);
	TEST_ASSERT(r == -1 && errno == EINVAL,
		    "Bound twice: wanted -1, errno %d, got %d, errno %d", EINVAL, r, errno);
	TEST_ASSERT(list.list->error_index == 1 || list.list->error_index == 2,
		    "Bound twice: error_index: wanted 1 or 2, got %u", list.list->error_index);
	for (id = 1; id <= 5; id++)
		TEST_ASSERT(!mrl_slot_exists(g.vm, 0, id),
			    "all-or-nothing: Bound twice: wanted no slot %u, got one", id);

	list.list->entries[2].guest_memfd_offset = MRL_SIZE(PAGES);
	apply("Bound once");
	mrl_delete(&list, 1);
	mrl_delete(&list, 2);
	mrl_delete(&list, 5);
	apply("Unbound");
}

static bool punch_stops;
static uint32_t nr_holes;

static void punch(uint64_t first, uint64_t nr)
{
	int r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MRL_SIZE(first),
			  MRL_SIZE(nr));

	TEST_ASSERT(!r, "fallocate(): wanted 0, got errno %d", errno);
}

static void *punch_thread(void *arg)
{
	while (!READ_ONCE(punch_stops)) {
		punch(4, PAGES);
		WRITE_ONCE(nr_holes, nr_holes + 1);
	}
	return NULL;
}

static void expect_zero(uint64_t page)
{
	uint64_t val[MRL_WIN_PAGES], exits, i;

	exits = mrl_guest_read(&g, 0, mask(page), val);
	TEST_ASSERT(!exits, "hole: pages from %lu: wanted no exits, got 0x%lx", page, exits);
	for (i = page; i < page + PAGES; i++)
		TEST_ASSERT(!val[i], "hole: page %lu: wanted 0, got 0x%lx", i, val[i]);
}

static void expect_written_or_zero(uint64_t page, uint64_t tag)
{
	uint64_t val[MRL_WIN_PAGES], exits, i;

	exits = mrl_guest_read(&g, 0, mask(page), val);
	TEST_ASSERT(!exits, "punched: pages from %lu: wanted no exits, got 0x%lx", page, exits);
	for (i = 0; i < PAGES; i++)
		TEST_ASSERT(!val[page + i] || val[page + i] == tag + i,
			    "punched: page %lu: wanted 0 or 0x%lx, got 0x%lx", page + i, tag + i,
			    val[page + i]);
}

static void test_punch(void)
{
	pthread_t thread;
	uint32_t i;

	set_gmem(1, A, 0);
	apply("the neighbour");
	write_private(A, 0xa0);
	thread = mrl_thread(punch_thread, NULL);
	for (i = 0; i < NR_PUNCHED; i++) {
		set_gmem(2, B, 4);
		apply("create beside holes");
		write_private(B, 0xb0);
		expect_written_or_zero(B, 0xb0);
		mrl_delete(&list, 2);
		apply("delete beside holes");
	}
	WRITE_ONCE(punch_stops, true);
	pthread_join(thread, NULL);
	expect(A, PAGES, 0xa0, "neighbour of holes");
	expect_gone(B, 2, "delete beside holes");
	set_gmem(2, B, 4);
	apply("create behind holes");
	write_private(B, 0xb0);
	expect(B, PAGES, 0xb0, "create behind holes");
	punch(0, 4 + PAGES);
	expect_zero(A);
	expect_zero(B);
	mrl_delete(&list, 2);
	apply("delete behind holes");
	TEST_ASSERT(nr_holes > 1, "holes: wanted some, got %u", nr_holes);
	mrl_delete(&list, 1);
	apply("delete the neighbour");
}

/* Calls that have begun, and that have returned: the n-th creates if n is even, or deletes. */
static uint64_t nr_begun, nr_done, nr_reads, nr_decided, nr_misses;

/* The parts of the file, as bits, that B got by the n-th call, for an n from @done to @begun. */
static uint32_t parts_of_calls(uint64_t done, uint64_t begun)
{
	uint32_t parts = 0;
	uint64_t n;

	for (n = done; n <= begun; n++) {
		if (!(n % 2))
			parts |= BIT(n / 2 % 2);
	}
	return parts;
}

/* The part, as a bit, of which this is the content of page @i; 0: of none. */
static uint32_t part_of(uint64_t val, uint64_t i)
{
	return val == PART_TAG(0) + i ? BIT(0) : val == PART_TAG(1) + i ? BIT(1) : 0;
}

/* An access to private memory without a slot ends KVM_RUN, and starts again. */
static void read_private(void)
{
	struct kvm_run *run = g.vcpu->run;
	struct ucall uc;

	while (__vcpu_run(g.vcpu)) {
		TEST_ASSERT(errno == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT,
			    "replaced: wanted errno %d and exit %u, got %d and %u (%s)", EFAULT,
			    KVM_EXIT_MEMORY_FAULT, errno, run->exit_reason,
			    exit_reason_str(run->exit_reason));
		nr_misses++;
		sched_yield();
	}
	TEST_ASSERT(get_ucall(g.vcpu, &uc) == UCALL_SYNC, "replaced: wanted UCALL_SYNC, got %lu",
		    uc.cmd);
}

static void *read_thread(void *arg)
{
	uint64_t done, begun, i;
	uint32_t parts;

	do {
		done = __atomic_load_n(&nr_done, __ATOMIC_ACQUIRE);
		read_private();
		begun = __atomic_load_n(&nr_begun, __ATOMIC_ACQUIRE);
		parts = parts_of_calls(done, begun);
		for (i = 0; i < PAGES; i++)
			TEST_ASSERT(part_of(g.cmd->val[B + i], i) & parts,
				    "no-stale-mapping: page %lu, calls %lu to %lu: wanted parts 0x%x, got 0x%lx",
				    i, done, begun, parts, g.cmd->val[B + i]);
		nr_decided += parts != (BIT(0) | BIT(1));
		WRITE_ONCE(nr_reads, nr_reads + 1);
	} while (done < NR_REPLACED);
	return NULL;
}

static void write_parts(void)
{
	uint64_t part;

	for (part = 0; part < 2; part++) {
		set_gmem(2, B, (1 + part) * PAGES);
		apply("a part of the file");
		write_private(B, PART_TAG(part));
		mrl_delete(&list, 2);
		apply("no part of the file");
	}
}

static void test_replace(void)
{
	pthread_t thread;
	uint64_t n, reads;

	write_parts();
	set_gmem(2, B, PAGES);
	apply("part of the file");
	g.cmd->write = 0;
	g.cmd->pages = mask(B);
	thread = mrl_thread(read_thread, NULL);
	for (n = 1; n <= NR_REPLACED; n++) {
		if (n % 2)
			mrl_delete(&list, 2);
		else
			set_gmem(2, B, (1 + n / 2 % 2) * PAGES);
		__atomic_store_n(&nr_begun, n, __ATOMIC_RELEASE);
		apply("replace under a vCPU");
		__atomic_store_n(&nr_done, n, __ATOMIC_RELEASE);
		reads = READ_ONCE(nr_reads);
		if (!(n % 4) && n < NR_REPLACED)
			mrl_wait_until(READ_ONCE(nr_reads) > reads, "replaced", "a read");
	}
	pthread_join(thread, NULL);
	pr_info("Private pages: %lu reads while the slot is replaced, %lu of one part; %lu without a slot\n",
		nr_reads, nr_decided, nr_misses);
	TEST_ASSERT(nr_decided && nr_misses,
		    "replaced: wanted reads of one part, and accesses without a slot, got %lu, %lu",
		    nr_decided, nr_misses);
	mrl_delete(&list, 2);
	apply("delete what was replaced");
}

int main(int argc, char *argv[])
{
	struct vm_shape shape = VM_SHAPE_DEFAULT;

	mrl_require();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	mrl_mem_alloc(MRL_MEM_PAGES);
	list = mrl_alloc(8);
	shape.type = KVM_X86_SW_PROTECTED_VM;
	g = mrl_guest_init(__vm_create(shape, 1, 0), MRL_WIN_PAGES);
	fd = vm_create_guest_memfd(g.vm, MRL_SIZE(16), 0);
	/* Ahead of any access, private pages have to be so. */
	vm_mem_set_private(g.vm, MRL_GPA(A), MRL_SIZE(PAGES));
	vm_mem_set_private(g.vm, MRL_GPA(B), MRL_SIZE(PAGES));
	vm_mem_set_private(g.vm, MRL_GPA(C), MRL_SIZE(PAGES));
	test_bound_twice();
	test_replace();
	test_punch();
	test_one_call();
	close(fd);
	mrl_free(&list);
	kvm_vm_free(g.vm);
	pr_info("guest_memfd slots come, go and stay in one call\n");
	return 0;
}
