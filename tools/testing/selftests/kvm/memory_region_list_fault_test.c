// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: one failure after the other.
 *
 * Proves *all-or-nothing* for each kind of transaction, by letting its first allocation,
 * copy or fault on user memory fail, then the second one, and so on, until nothing is left
 * that could fail.  After each call that fails, errno and error_index are as documented,
 * layout, contents, dirty logs, result buffers, counters, bindings of guest_memfd and the
 * charge of the memory cgroup are what they were, and the same call succeeds.  A call
 * that succeeds in spite of the failure did all that it should have done, and had a right
 * to: another way, or the failure was of something that the allocator can do without.
 *
 * Proves that this is all of it: the places in KVM that were made to fail are those of a
 * table, function by function, i.e. one that is new fails the test.
 *
 * The charge is compared around each call that fails; what it has of metadata also around
 * all failures of a kind, there and back, and of all kinds together.
 *
 * Does not prove: anything about two failures in one call, e.g. of kmalloc() and of what it
 * falls back to, or of xa_store_range(), which tries again, i.e. kvm_gmem_bind() never fails
 * here; about what calls keep that stays reachable and of which all of them do not make more
 * than SLACK_PAGES (kmemleak finds after the test what is not reachable); about page tables
 * of L2 that are split when a slot starts to log.
 *
 * Needs a kernel with fault injection, that of lane "fault".
 */
#include "memory_region_list_fault_check.h"
#include "memory_region_list_fault_kinds.h"
#include "memory_region_list_huge.h"

#define MANY		600
#define MANY_GPA	MRL_GPA(1024)
/* 3 GiB, i.e. what is known of its 2 MiB pages does not fit in a page. */
#define LARGE_PAGES	(3u << 18)

/* A VM, its slots, and entries that are equal to slots and come with each list. */
struct fault_world {
	struct mrl_world w;
	mrl_entry now[MRL_NR_IDS];
	uint32_t nr_same;
	/* With KVM_MEM_GUEST_MEMFD: bound as long as its slot exists. */
	mrl_entry bound;
	struct outcomes sum;
};

/* -k: of the kinds, this one alone. */
static const char *only;

static mrl_entry same_entry(uint32_t i)
{
	return (mrl_entry) {
		.slot = MRL_NR_IDS + i,
		.guest_phys_addr = MANY_GPA + MRL_SIZE(i),
		.memory_size = MRL_PAGE_SIZE,
		.userspace_addr = MRL_HVA(0),
	};
}

static struct mrl make_list(struct fault_world *f, const struct change *c)
{
	uint32_t nr = change_size(c), i;
	struct mrl l = mrl_alloc(nr + f->nr_same);

	l.list->nent = l.max;
	l.list->flags = c->flags;
	l.list->as_id = f->w.as_id;
	memcpy(l.list->entries, c->e, nr * sizeof(c->e[0]));
	for (i = 0; i < f->nr_same; i++)
		l.list->entries[nr + i] = same_entry(i);
	return l;
}

/* Know the layout after @c, and what the guest may write without changing a log. */
static void follow(struct fault_world *f, const struct change *c)
{
	uint64_t logged = 0;
	uint32_t i, pages;

	for (i = 0; i < change_size(c); i++)
		f->now[c->e[i].slot] = c->e[i];
	for (i = 1; i < MRL_NR_IDS; i++) {
		pages = f->now[i].memory_size / MRL_PAGE_SIZE;
		f->w.slot_pages[i] = pages && (f->now[i].flags & LOG) ? pages : 0;
		if (f->w.slot_pages[i])
			logged |= GENMASK_ULL(pages - 1, 0) <<
				  (f->now[i].guest_phys_addr - MRL_GPA_BASE) / MRL_PAGE_SIZE;
	}
	f->w.writable = ~logged | MRL_DIRTY_PAGES;
}

/* Map all there is, and make the same pages dirty as ever: from here on the state stays. */
static void settle(struct fault_world *f)
{
	struct mrl_guest *g = &f->w.g;
	uint64_t val[MRL_WIN_PAGES], clear;
	uint32_t i;

	mrl_guest_read(g, 0, MRL_ALL_PAGES, val);
	for (i = 1; i < MRL_NR_IDS; i++) {
		if (!f->w.slot_pages[i])
			continue;
		clear = GENMASK_ULL(f->w.slot_pages[i] - 1, 0);
		/* The guest does not get at the other address space: all is dirty there. */
		if (f->w.as_id)
			clear &= ~(MRL_DIRTY_PAGES >>
				   (f->now[i].guest_phys_addr - MRL_GPA_BASE) / MRL_PAGE_SIZE);
		kvm_vm_clear_dirty_log(g->vm, f->w.as_id << 16 | i, &clear, 0, f->w.slot_pages[i]);
	}
	mrl_guest_write(g, 0, MRL_DIRTY_PAGES, val);
}

static void apply(struct fault_world *f, const struct change *c)
{
	struct mrl l = make_list(f, c);

	fault_mem_put(l.list);
	TEST_ASSERT(!__vm_ioctl(f->w.g.vm, KVM_SET_USER_MEMORY_REGION_LIST, FAULT_LIST),
		    "Without a failure: wanted 0, got errno %d", errno);
	follow(f, c);
	settle(f);
	mrl_free(&l);
}

/* A range of a file can be bound once. */
static void check_bound(struct fault_world *f, const char *what)
{
	mrl_entry e = f->bound;
	int want, got;

	if (!(e.flags & KVM_MEM_GUEST_MEMFD))
		return;
	want = mrl_slot_exists(f->w.g.vm, f->w.as_id, e.slot) ? EOPNOTSUPP : 0;
	e.slot = MRL_UNUSED_ID;
	e.guest_phys_addr = MANY_GPA;
	got = mrl_probe(f->w.g.vm, f->w.as_id, e);
	TEST_ASSERT(got == want, "%s: bind again, as a test: wanted errno %d, got %d", what, want,
		    got);
}

/* One direction of a kind, between two states. */
struct sweep {
	const char *name;
	const struct change *go, *back;
	struct mrl_state before, after;
	uint64_t results[512];
};

/* Make the call with its @nth failure, and see that it did nothing or everything. */
static struct fault_call try(struct fault_world *f, struct sweep *s, int nth)
{
	struct mrl l = make_list(f, s->go);
	int64_t charge = nth ? fault_charge() : 0;
	struct fault_call call;
	char what[128];

	call = check_call(f->w.g.vm, &l, f->now, nth, s->results, s->name, what, &f->sum);
	f->w.want = call.r ? s->before : s->after;
	mrl_world_check(&f->w, what);
	check_bound(f, what);
	if (call.r)
		check_charge(charge, what);
	mrl_free(&l);
	return call;
}

static void undo(struct fault_world *f, struct sweep *s)
{
	follow(f, s->go);
	apply(f, s->back);
	f->w.want = s->before;
	mrl_world_check(&f->w, s->name);
}

/* What the call does if nothing fails. */
static void learn(struct fault_world *f, struct sweep *s)
{
	struct mrl l = make_list(f, s->go);

	mrl_state_get(&f->w, &s->before);
	fault_mem_put(l.list);
	TEST_ASSERT(!__vm_ioctl(f->w.g.vm, KVM_SET_USER_MEMORY_REGION_LIST, FAULT_LIST),
		    "%s: wanted 0, got errno %d", s->name, errno);
	memcpy(s->results, (void *)FAULT_RESULT, sizeof(s->results));
	mrl_state_get(&f->w, &s->after);
	mrl_free(&l);
	undo(f, s);
}

/* Ends with the layout changed. */
static void sweep(struct fault_world *f, const char *name, const struct change *go,
		  const struct change *back)
{
	struct sweep *s = calloc(1, sizeof(*s));
	struct fault_call call;
	int nth = 0;

	*s = (struct sweep) { .name = name, .go = go, .back = back };
	learn(f, s);
	do {
		call = try(f, s, ++nth);
		if (call.r)
			TEST_ASSERT(!try(f, s, 0).r, "%s: fails again", name);
		if (call.hit)
			undo(f, s);
	} while (call.hit);
	follow(f, go);
	settle(f);
	fault_check_messages();
	pr_info("  %s: %d failures\n", name, nth - 1);
	free(s);
}

static void there_and_back(struct fault_world *f, const struct kind *k)
{
	char name[64];

	snprintf(name, sizeof(name), "%s, back", k->name);
	sweep(f, k->name, &k->go, &k->back);
	sweep(f, name, &k->back, &k->go);
}

static void sweep_kind(struct fault_world *f, const struct kind *k)
{
	int64_t kept = fault_kept();
	char name[64];

	there_and_back(f, k);
	snprintf(name, sizeof(name), "%s, there and back", k->name);
	check_kept(kept, name);
}

static void sweep_kinds(struct fault_world *f, const struct kind *k, uint32_t nr, const char *what)
{
	int64_t kept;
	uint32_t i;

	for (i = 0; only && i < nr - 1 && strcmp(only, k[i].name); i++)
		;
	/* Unmeasured, so that what KVM and the test keep for good is there. */
	if (!only || !strcmp(only, k[i].name))
		there_and_back(f, &k[i]);
	kept = fault_kept();
	for (i = 0; i < nr; i++) {
		if (!only || !strcmp(only, k[i].name))
			sweep_kind(f, &k[i]);
	}
	check_kept(kept, what);
	outcomes_print(&f->sum, what);
}

/* From mrl_world_fill() on. */
static void world_begin(struct fault_world *f)
{
	const struct change all = {
		.e = { mrl_world_slots[0], mrl_world_slots[1], mrl_world_slots[2],
		       mrl_world_slots[3] },
	};

	follow(f, &all);
	settle(f);
}

/* All of it is freed: neither a slot nor a binding pins the VM. */
static void world_end(struct fault_world *f)
{
	char name[64];

	snprintf(name, sizeof(name), "/sys/kernel/debug/kvm/%d-%d", getpid(), f->w.g.vm->fd);
	TEST_ASSERT(!access(name, F_OK), "%s: wanted it, got errno %d", name, errno);
	mrl_world_free(&f->w);
	TEST_ASSERT(access(name, F_OK), "The VM is gone: wanted no %s, got one", name);
}

static void test_kinds(void)
{
	struct fault_world f = { .w = mrl_world_create() };

	world_begin(&f);
	sweep_kinds(&f, kinds, ARRAY_SIZE(kinds), "Address space 0");
	world_end(&f);
}

static void test_address_space_1(void)
{
	struct fault_world f = { .w = { .g = mrl_guest_create(MRL_WIN_PAGES), .as_id = 1 } };
	struct mrl l = mrl_alloc(1);

	TEST_ASSERT(vm_check_cap(f.w.g.vm, KVM_CAP_MULTI_ADDRESS_SPACE) == 2,
		    "Address spaces: wanted 2, got %d",
		    vm_check_cap(f.w.g.vm, KVM_CAP_MULTI_ADDRESS_SPACE));
	vm_enable_cap(f.w.g.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	mrl_set(&l, MRL_PLAIN, 0, MRL_GPA(0), MRL_SIZE(MRL_WIN_PAGES), (void *)MRL_HVA(128));
	mrl_apply(f.w.g.vm, &l);
	mrl_world_fill(&f.w);
	world_begin(&f);
	/* What depends on the address space is in these. */
	sweep_kinds(&f, kinds, 2, "Address space 1");
	mrl_free(&l);
	world_end(&f);
}

/* Arrays for many entries, which come from vmalloc() if kmalloc() has none. */
static void test_many(void)
{
	struct fault_world f = { .w = mrl_world_create() };
	struct mrl l = mrl_alloc(MANY);
	uint32_t i;

	for (i = 0; i < MANY; i++)
		l.list->entries[i] = same_entry(i);
	l.list->nent = MANY;
	mrl_apply(f.w.g.vm, &l);
	mrl_free(&l);
	f.nr_same = MANY;
	world_begin(&f);
	sweep_kinds(&f, kinds, 1, "Many entries");
	world_end(&f);
}

/* Arrays for many pages, which do not come from kmalloc() at all. */
static void test_large(void)
{
	struct kind kind = {
		"create and delete, large",
		{ 0, { MRL_E(6, 0, 1u << 20, LARGE_PAGES, 0) } },
		{ 0, { DEL(6) } },
	};
	struct fault_world f = { .w = mrl_world_create() };
	void *mem;

	/* Nobody touches it. */
	mem = mmap(NULL, MRL_SIZE(LARGE_PAGES), PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() of a large slot: got errno %d", errno);
	kind.go.e[0].userspace_addr = (uintptr_t)mem;
	world_begin(&f);
	sweep_kinds(&f, &kind, 1, "A large slot");
	world_end(&f);
	munmap(mem, MRL_SIZE(LARGE_PAGES));
}

/* Large enough for the tree of bindings to need nodes. */
static void test_guest_memfd(void)
{
	struct kind kind = {
		"create and delete, bound",
		{ 0, { MRL_E(6, KVM_MEM_GUEST_MEMFD, 40, 4, 40), MRL_E(7, 0, 44, 4, 44),
		       MRL_E(8, KVM_MEM_GUEST_MEMFD, 56, 4, 56) } },
		{ 0, { DEL(6), DEL(7), DEL(8) } },
	};
	struct vm_shape shape = VM_SHAPE_DEFAULT;
	struct fault_world f = {};
	int fd;

	shape.type = KVM_X86_SW_PROTECTED_VM;
	f.w.g = mrl_guest_init(__vm_create(shape, 1, 0), MRL_WIN_PAGES);
	vm_enable_cap(f.w.g.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	fd = vm_create_guest_memfd(f.w.g.vm, MRL_SIZE(4096), 0);
	kind.go.e[0].guest_memfd = fd;
	kind.go.e[0].guest_memfd_offset = MRL_SIZE(62);
	f.bound = kind.go.e[0];
	kind.go.e[2].guest_memfd = fd;
	kind.go.e[2].guest_memfd_offset = MRL_SIZE(4090);
	mrl_world_fill(&f.w);
	world_begin(&f);
	sweep_kinds(&f, &kind, 1, "guest_memfd");
	close(fd);
	world_end(&f);
}

static const mrl_entry huge_plain = MRL_E(6, 0, 0, 512, 0), huge_logs = MRL_E(6, LOG, 0, 512, 0);

/* Start to log with a huge mapping, which KVM splits if it has the memory. */
static struct fault_call huge_try(struct mrl_guest *g, int nth, struct outcomes *sum)
{
	const uint64_t val[MRL_WIN_PAGES] = {};
	struct mrl l = mrl_alloc(1);
	unsigned long log[8] = {};
	struct fault_call call;
	char what[128];

	l.list->nent = 1;
	l.list->entries[0] = huge_plain;
	mrl_apply(g->vm, &l);
	mrl_guest_write(g, 0, 1, val);
	TEST_ASSERT(mrl_mapped_get(g->vm).huge, "Huge mappings: wanted one, got none");

	l.list->entries[0] = huge_logs;
	call = check_call(g->vm, &l, NULL, nth, NULL, "log of a huge page", what, sum);
	if (call.r) {
		TEST_ASSERT(mrl_mapped_get(g->vm).huge, "%s: huge mappings: wanted one, got none",
			    what);
		mrl_apply(g->vm, &l);
	}

	mrl_guest_write(g, 0, BIT_ULL(3) | BIT_ULL(5), val);
	kvm_vm_get_dirty_log(g->vm, 6, log);
	TEST_ASSERT((log[0] & 0x28) == 0x28, "%s: log: wanted 0x28, got 0x%lx", what, log[0]);

	mrl_reset(&l);
	l.list->flags = DISCARD;
	mrl_delete(&l, 6);
	mrl_apply(g->vm, &l);
	mrl_free(&l);
	return call;
}

static void test_huge(void)
{
	struct outcomes sum = {};
	struct mrl_guest g = {};
	int64_t charge;
	int nth = 0;

	g.vm = vm_create_with_one_vcpu(&g.vcpu, mrl_guest_code);
	g.cmd = addr_gva2hva(g.vm, (vm_vaddr_t)&mrl_guest_cmd);
	mrl_huge_map(g.vm, SZ_2M);
	TEST_ASSERT(mrl_huge_alloc(SZ_2M, false), "Huge pages: wanted one, got none");
	/* Without a failure: the guest's own mappings come to stay. */
	huge_try(&g, 0, &sum);
	charge = fault_charge();
	while (huge_try(&g, ++nth, &sum).hit)
		;
	fault_check_messages();
	check_charge(charge, "Log of a huge page, all failures");
	outcomes_print(&sum, "Log of a huge page");
	kvm_vm_free(g.vm);
	mrl_huge_free(SZ_2M);
}

/* A name of a kind, with a dash for each space. */
static void parse_options(int argc, char *argv[])
{
	int opt, i;

	while ((opt = getopt(argc, argv, "k:")) == 'k') {
		only = optarg;
		for (; *optarg; optarg++)
			*optarg = *optarg == '-' ? ' ' : *optarg;
	}
	TEST_ASSERT(opt == -1 && optind == argc, "Usage: %s [-k KIND]", argv[0]);
	for (i = 0; only && i < ARRAY_SIZE(kinds) && strcmp(only, kinds[i].name); i++)
		;
	TEST_ASSERT(i < ARRAY_SIZE(kinds), "-k: wanted a kind, got '%s'", only);
}

static void test_all(void)
{
	test_kinds();
	if (!only) {
		test_address_space_1();
		test_many();
	}
	/* Its rmaps would be 6 MiB, cleared and searched in each of hundreds of calls. */
	if (!mrl_zaps_are_exact())
		pr_info("Left out: a large slot\n");
	else if (!only)
		test_large();
	if (have_gmem())
		test_guest_memfd();
	else
		pr_info("Left out: guest_memfd, KVM_X86_SW_PROTECTED_VM is not supported\n");
	mrl_mem_free(MRL_MEM_PAGES);
	if (only)
		pr_info("Left out: all but '%s', and whether the table has all places\n", only);
	else if (mrl_zaps_are_exact())
		test_huge();
	else
		pr_info("Left out: huge pages, they are not split\n");
}

int main(int argc, char *argv[])
{
	parse_options(argc, argv);
	TEST_REQUIRE(!access(FAIL_NTH, W_OK));
	mrl_require();

	kvm_pin_this_task_to_pcpu(0);
	mrl_mem_alloc(MRL_MEM_PAGES);
	fault_mem_alloc();
	fault_mem_map();
	fault_setup();
	fault_charge_start();
	fault_trace_start();

	test_all();

	fault_trace_stop();
	fault_charge_stop();
	if (!only)
		check_sites();
	return 0;
}
