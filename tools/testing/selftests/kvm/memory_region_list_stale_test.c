// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page faults that a KVM_SET_USER_MEMORY_REGION_LIST overtakes.
 *
 * A vCPU takes a page fault, finds the old memslot and sleeps while the host gets the
 * page, which is a huge one (userfaultfd, hugetlb).  A call publishes the new layout
 * meanwhile, and waits for the vCPU.  Then the page fault goes on, and must map nothing
 * of the old layout.  Shows step by step
 *   - never-lost, C9: the huge page was split, one side logs; a huge mapping of both
 *     sides would be made writable for a write to the other side.  Nothing is zapped,
 *     i.e. only the check of the memslots under mmu_lock stops this page fault
 *   - no-stale-mapping: the gfn has got other memory, or lost its slot.  The call zaps,
 *     and counts as an MMU notifier does, which is enough to stop this page fault
 *   - no-stale-mapping: the gfn stays as it is, but the other half of its huge page has
 *     got other memory
 * Either half of the huge page is the one that logs.  Nothing waits for time to pass.
 *
 * Does not prove C3, where the page fault goes on between the zap and the publication, nor
 * C2: here the page fault has sampled mmu_invalidate_seq before the call
 * came.  One that does so afterwards, with a memslot from before, cannot be made to sleep
 * in between; memory_region_list_race_test meets it on the beds with delays.  Nor anything
 * of page faults that find no memslot, which never sleep.
 */
#include "memory_region_list_huge.h"
#include "memory_region_list_lazy.h"

#define HUGE		512
#define HALF		(HUGE / 2)
#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define OTHER_TAG	MRL_TAG(0)

static struct mrl_setting eager_page_split = {
	.path = "/sys/module/kvm/parameters/eager_page_split",
};

static int uffd;

/* A guest whose only slot is a huge page that the host doesn't have yet. */
static struct mrl_guest create_guest(void)
{
	struct mrl_guest g = {};
	struct mrl l = mrl_alloc(1);

	g.vm = vm_create_with_one_vcpu(&g.vcpu, mrl_guest_code);
	g.cmd = addr_gva2hva(g.vm, (vm_vaddr_t)&mrl_guest_cmd);
	mrl_huge_map(g.vm, SZ_2M);
	mrl_set(&l, 1, 0, MRL_GPA(0), MRL_SIZE(HUGE), (void *)MRL_LAZY(0));
	mrl_apply(g.vm, &l);
	mrl_free(&l);
	return g;
}

static void lazy_create(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { MRL_LAZY_BASE, SZ_2M },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	void *want = (void *)MRL_LAZY_BASE, *mem;
	int r;

	mem = mmap(want, SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
		   MAP_FIXED_NOREPLACE | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
	TEST_ASSERT(mem == want, "mmap(): wanted %p, got %p, errno %d", want, mem, errno);
	uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	__TEST_REQUIRE(uffd >= 0, "userfaultfd() is not available");
	r = ioctl(uffd, UFFDIO_API, &api);
	TEST_ASSERT(!r, "UFFDIO_API: wanted 0, got %d, errno %d", r, errno);
	r = ioctl(uffd, UFFDIO_REGISTER, &reg);
	TEST_ASSERT(!r, "UFFDIO_REGISTER: wanted 0, got %d, errno %d", r, errno);
}

static void lazy_free(void)
{
	munmap((void *)MRL_LAZY_BASE, SZ_2M);
	close(uffd);
}

/* Filled with something that no layout of the test wants to be seen as its own. */
static void lazy_resolve(void)
{
	void *src = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_copy copy = {
		.dst = MRL_LAZY_BASE,
		.src = (uintptr_t)src,
		.len = SZ_2M,
	};
	int r;

	TEST_ASSERT(src != MAP_FAILED, "mmap(): wanted memory, got errno %d", errno);
	memset(src, 0x5a, SZ_2M);
	r = ioctl(uffd, UFFDIO_COPY, &copy);
	TEST_ASSERT(!r, "UFFDIO_COPY: wanted 0, got %d, errno %d", r, errno);
	munmap(src, SZ_2M);
}

/* What the vCPU does that sleeps: an access to @page.  Whether it exited, and its value. */
struct access {
	struct mrl_guest *g;
	uint64_t page, exits, value;
	bool write;
};

static void *access_thread(void *arg)
{
	uint64_t val[MRL_WIN_PAGES] = { 1 };
	struct access *a = arg;

	if (a->write)
		a->exits = mrl_guest_write(a->g, a->page, 1, val);
	else
		a->exits = mrl_guest_read(a->g, a->page, 1, val);
	a->value = val[0];
	return NULL;
}

/* Let @l come into effect while the access sleeps. */
static void overtake(struct access *a, struct mrl l, const char *what)
{
	struct mrl_call call = { .vm = a->g->vm, .l = l };
	pthread_t thread = mrl_thread(access_thread, a);

	mrl_lazy_wait(uffd, 0);
	mrl_call_start(&call);
	mrl_call_wait_asleep(&call, what);
	lazy_resolve();
	mrl_call_finish(&call, what);
	pthread_join(thread, NULL);
	TEST_ASSERT(!call.r, "%s: wanted 0, got %d, errno %d", what, call.r, call.err);
}

static void check_log(struct mrl_guest *g, uint32_t id, uint64_t first)
{
	unsigned long bits[HALF / 64] = {};
	uint64_t val[MRL_WIN_PAGES] = {}, page, exits = 0;

	for (page = first; page < first + HALF; page += MRL_WIN_PAGES)
		exits |= mrl_guest_write(g, page, MRL_ALL_PAGES, val);
	TEST_ASSERT(!exits, "no-hole: pages from %lu: wanted no exits, got 0x%lx", first, exits);
	kvm_vm_get_dirty_log(g->vm, id, bits);
	for (page = 0; page < HALF; page++)
		TEST_ASSERT(test_bit(page, bits),
			    "never-lost: page %lu of the half from %lu: wanted a bit, got none",
			    page, first);
}

/* The half that logs begins at page @logs, the access is to the other one. */
static void test_split(uint64_t logs, bool eager)
{
	struct mrl_guest g = create_guest();
	struct access a = { .g = &g, .page = HALF - logs, .write = true };
	uint64_t val[MRL_WIN_PAGES] = {}, exits;
	struct mrl l = mrl_alloc(2);

	TEST_ASSERT(mrl_setting_set(&eager_page_split, eager ? "Y" : "N"),
		    "eager_page_split: wanted %c, got '%s'", eager ? 'Y' : 'N',
		    eager_page_split.value);
	lazy_create();
	mrl_set(&l, 1, logs ? 0 : LOG, MRL_GPA(0), MRL_SIZE(HALF), (void *)MRL_LAZY(0));
	mrl_set(&l, 2, logs ? LOG : 0, MRL_GPA(HALF), MRL_SIZE(HALF), (void *)MRL_LAZY(HALF));
	overtake(&a, l, "split");
	TEST_ASSERT(!a.exits, "no-hole: page %lu: wanted no exit, got 0x%lx", a.page, a.exits);

	exits = mrl_guest_write(&g, a.page, 3, val);
	TEST_ASSERT(!exits, "no-hole: page %lu: wanted no exit, got 0x%lx", a.page, exits);
	check_log(&g, logs ? 2 : 1, logs);
	TEST_ASSERT(!mrl_mapped_get(g.vm).huge, "split: wanted no huge mapping, got %ld",
		    mrl_mapped_get(g.vm).huge);
	kvm_vm_free(g.vm);
	lazy_free();
	mrl_free(&l);
}

/* @other: it gets other memory, else it loses its slot. */
static void test_gone(bool other, bool write)
{
	struct mrl_guest g = create_guest();
	struct access a = { .g = &g, .write = write };
	uint64_t val[MRL_WIN_PAGES], exits, want = other ? OTHER_TAG : MRL_HOLE;
	struct mrl l = mrl_alloc(1);

	*(uint64_t *)MRL_HVA(0) = OTHER_TAG;
	lazy_create();
	if (other)
		mrl_set(&l, 1, 0, MRL_GPA(0), MRL_SIZE(HALF), (void *)MRL_HVA(0));
	else
		mrl_delete(&l, 1);
	overtake(&a, l, other ? "other memory" : "delete");
	/* It starts again, in the new layout. */
	TEST_ASSERT(!a.exits == other, "%s: overtaken access: wanted %s, got exits 0x%lx",
		    other ? "other memory" : "delete", other ? "no exit" : "an exit", a.exits);
	if (write && other)
		want = 1;

	exits = mrl_guest_read(&g, 0, 1, val);
	TEST_ASSERT(!exits == other && val[0] == want,
		    "no-stale-mapping: %s, %s: wanted 0x%lx, got 0x%lx, exits 0x%lx",
		    other ? "other memory" : "delete", write ? "write" : "read", want, val[0],
		    exits);
	kvm_vm_free(g.vm);
	lazy_free();
	mrl_free(&l);
}

/* The access is to the half that stays. */
static void test_neighbour(bool write)
{
	struct mrl_guest g = create_guest();
	struct access a = { .g = &g, .page = HALF, .write = write };
	uint64_t val[MRL_WIN_PAGES], page, exits;
	struct mrl l = mrl_alloc(2);

	for (page = 0; page < HALF; page++)
		*(uint64_t *)MRL_HVA(page) = MRL_TAG(page);
	lazy_create();
	mrl_set(&l, 1, 0, MRL_GPA(0), MRL_SIZE(HALF), (void *)MRL_HVA(0));
	mrl_set(&l, 2, 0, MRL_GPA(HALF), MRL_SIZE(HALF), (void *)MRL_LAZY(HALF));
	overtake(&a, l, "neighbour");
	TEST_ASSERT(!a.exits, "no-hole: page %lu: wanted no exit, got 0x%lx", a.page, a.exits);

	for (page = 0; page < HALF; page++) {
		exits = mrl_guest_read(&g, page, 1, val);
		TEST_ASSERT(!exits && val[0] == MRL_TAG(page),
			    "no-stale-mapping: page %lu, neighbour: wanted 0x%llx, got 0x%lx, exits 0x%lx",
			    page, MRL_TAG(page), val[0], exits);
	}
	kvm_vm_free(g.vm);
	lazy_free();
	mrl_free(&l);
}

int main(int argc, char *argv[])
{
	int i;

	mrl_require();
	/* The page that a guest has, and one to fill the next one with. */
	TEST_REQUIRE(mrl_setting_set(&mrl_nr_hugepages, "2"));
	mrl_mem_alloc(MRL_MEM_PAGES);

	for (i = 0; i < 4; i++)
		test_split(i & 1 ? HALF : 0, i & 2);
	for (i = 0; i < 4; i++)
		test_gone(i & 1, i & 2);
	test_neighbour(false);
	test_neighbour(true);
	pr_info("Overtaken page faults map nothing of the old layout\n");
	return 0;
}
