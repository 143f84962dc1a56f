// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: MMU notifiers, and the address space of SMM.
 *
 * Shows C16, notifier-balance: an MMU notifier that begins before a call finds the same
 * memslots when it ends.  Else KVM counts an invalidation that never ends, with which no
 * page fault does, or one that never began.  One thread makes notifiers come all the time,
 * by madvise(), mprotect() and mremap() of what is behind the slots of SMM, and of nothing
 * else.  Another one re-backs, swaps, splits, merges, deletes and creates these slots,
 * and splits and merges those of the other address space.  A vCPU goes in and out of
 * SMM and reads and writes a page each time.  alarm() is the verdict if it hangs.
 *
 * Shows no-hole and no-stale-mapping for SMM: what old and new layout cover never
 * exits, and reads, writes and exits are those of the layout if that did not change.
 *
 * Not shown: vCPUs that stay in SMM for long.
 */
#include <linux/sizes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory_region_list_smm.h"
#include "memory_region_list_table.h"

#define SMM_PAGES	(2 * MRL_WIN_PAGES)	/* Of the host, behind the slots of SMM. */
#define NORMAL_PAGE	SMM_PAGES		/* The first one of the others. */
#define ALWAYS_PAGES	16			/* Have a slot in all layouts. */
#define NR_CALLS	400
#define TIMEOUT		150

static const struct mrl_table layouts[] = {
	{ "one slot", { { 0, 64, 0, 0 } } },
	{ "other memory", { { 0, 64, 64, 0 } } },
	{ "two slots", { { 0, 32, 0, 1 }, { 32, 64, 32, 0 } } },
	{ "swapped", { { 0, 32, 32, 0 }, { 32, 64, 0, 1 } } },
	{ "hole", { { 0, 16, 0, 0 }, { 48, 64, 48, 1 } } },
	{ "hole, other memory", { { 0, 16, 80, 2 } } },
};

static atomic_uint layout_now;	/* index */
static atomic_uint version;	/* Odd while a call is on its way. */
static atomic_uint nr_smis, nr_notifiers;
static atomic_bool done;
static int memfd;

static struct {
	uint64_t calls, exact, holes;
} counted;

static void change_smm(struct kvm_vm *vm, struct mrl *list, const struct mrl_table *to)
{
	struct mrl_layout before = {}, after;

	if (counted.calls)
		mrl_table_layout(&layouts[layout_now], &before);
	mrl_table_layout(to, &after);
	mrl_reset(list);
	list->list->as_id = 1;
	mrl_add_change(list, &before, &after, counted.calls % 2);
	version++;
	mrl_apply(vm, list);
	layout_now = to - layouts;
	version++;
	counted.calls++;
}

static void change_normal(struct kvm_vm *vm, struct mrl *list, bool split)
{
	mrl_reset(list);
	mrl_set(list, MRL_TABLE_FIRST_ID, 0, MRL_GPA(0), MRL_SIZE(split ? 20 : MRL_WIN_PAGES),
		(void *)MRL_HVA(NORMAL_PAGE));
	if (split)
		mrl_set(list, MRL_TABLE_FIRST_ID + 1, 0, MRL_GPA(20), MRL_SIZE(MRL_WIN_PAGES - 20),
			(void *)MRL_HVA(NORMAL_PAGE + 20));
	else if (counted.calls > 1)
		mrl_delete(list, MRL_TABLE_FIRST_ID + 1);
	mrl_apply(vm, list);
}

static void wait_for(atomic_uint *count)
{
	uint32_t seen = *count;

	while (*count == seen)
		cpu_relax();
}

static void *change_layouts(void *arg)
{
	struct guest_random_state rng = new_guest_random_state(1);
	struct mrl list = mrl_alloc(2 * MRL_TABLE_PIECES);
	struct kvm_vm *vm = arg;

	while (counted.calls < NR_CALLS) {
		/* Not one after the other only: a call is to come into a notifier. */
		wait_for(counted.calls % 2 ? &nr_smis : &nr_notifiers);
		change_smm(vm, &list, &layouts[guest_random_u32(&rng) % ARRAY_SIZE(layouts)]);
		if (!(counted.calls % 4))
			change_normal(vm, &list, counted.calls % 8);
	}
	done = true;
	mrl_free(&list);
	return NULL;
}

/* The same pages at the same place, by a mapping that comes from elsewhere. */
static void remap(void)
{
	void *to = (void *)MRL_HVA(0), *mem, *r;

	mem = mmap(NULL, MRL_SIZE(SMM_PAGES), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap(): wanted memory, got errno %d", errno);
	r = mremap(mem, MRL_SIZE(SMM_PAGES), MRL_SIZE(SMM_PAGES), MREMAP_MAYMOVE | MREMAP_FIXED,
		   to);
	TEST_ASSERT(r == to, "mremap(): wanted %p, got %p, errno %d", to, r, errno);
}

/* The memory is that of a file, i.e. keeps its contents. */
static void *make_notifiers(void *arg)
{
	struct guest_random_state rng = new_guest_random_state(2);
	uint32_t i, first, nr;
	int r = 0;

	for (i = 0; !done; i++) {
		first = guest_random_u32(&rng) % SMM_PAGES;
		nr = 1 + guest_random_u32(&rng) % (SMM_PAGES - first);
		if (i % 16 == 15)
			remap();
		else if (i % 4 == 3)
			r = mprotect((void *)MRL_HVA(first), MRL_SIZE(nr),
				     PROT_READ | PROT_WRITE | (i % 8 == 3 ? PROT_EXEC : 0));
		else
			r = madvise((void *)MRL_HVA(first), MRL_SIZE(nr), MADV_DONTNEED);
		TEST_ASSERT(!r, "Notifier %u of pages %u to %u: wanted 0, got errno %d", i, first,
			    first + nr - 1, errno);
		nr_notifiers++;
	}
	return NULL;
}

static void access_from_smm(struct mrl_guest *g, uint8_t *handler, uint32_t page)
{
	uint32_t before = version, want, got, wrote;
	const struct mrl_table *l = &layouts[layout_now];
	const struct mrl_piece *p = mrl_table_find(l, page);
	uint32_t *copy = NULL;
	int exits;

	if (p) {
		copy = (uint32_t *)(MRL_HVA(p->hva + page - p->first) + WRITE_OFFSET);
		WRITE_ONCE(*copy, 0xbad);
	}
	nr_smis++;
	got = mrl_smm_access(g, handler, page, &exits);
	TEST_ASSERT(!exits || page >= ALWAYS_PAGES,
		    "no-hole: SMM, page %u has a slot in all layouts: wanted no exits, got %d",
		    page, exits);
	wrote = copy ? READ_ONCE(*copy) : MRL_HOLE;
	if (before % 2 || before != version)
		return;
	want = p ? MRL_TAG(p->hva + page - p->first) : MRL_HOLE;
	TEST_ASSERT(got == want && exits == (p ? 0 : 2) && wrote == want,
		    "no-stale-mapping: SMM, '%s', page %u: wanted 0x%x, %d exits, 0x%x written, got 0x%x, %d, 0x%x",
		    l->what, page, want, p ? 0 : 2, want, got, exits, wrote);
	counted.exact++;
	counted.holes += !p;
}

static void access_from_outside(struct mrl_guest *g, uint32_t page)
{
	uint64_t val[MRL_WIN_PAGES], want = MRL_TAG(NORMAL_PAGE + page), exits;

	exits = mrl_guest_read(g, 0, BIT_ULL(page), val);
	TEST_ASSERT(!exits && val[page] == want,
		    "no-hole: outside of SMM, page %u: wanted 0x%lx, no exit, got 0x%lx, 0x%lx",
		    page, want, val[page], exits);
}

static void setup_memory(void)
{
	void *mem = (void *)MRL_HVA_BASE;
	uint32_t page;

	memfd = kvm_memfd_alloc(MRL_SIZE(SMM_PAGES + MRL_WIN_PAGES), false);
	mem = mmap(mem, MRL_SIZE(SMM_PAGES + MRL_WIN_PAGES), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED_NOREPLACE, memfd, 0);
	TEST_ASSERT(mem == (void *)MRL_HVA_BASE, "mmap(): wanted %p, got %p",
		    (void *)MRL_HVA_BASE, mem);
	for (page = 0; page < SMM_PAGES + MRL_WIN_PAGES; page++)
		*(uint64_t *)MRL_HVA(page) = MRL_TAG(page);
}

static void start(pthread_t *thread, void *(*run)(void *), struct kvm_vm *vm)
{
	int r = pthread_create(thread, NULL, run, vm);

	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
}

int main(int argc, char *argv[])
{
	struct guest_random_state rng = new_guest_random_state(3);
	struct mrl list = mrl_alloc(MRL_TABLE_PIECES);
	pthread_t changer, notifier;
	struct mrl_guest g;
	uint8_t *handler;

	mrl_require();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_SMM));
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_MULTI_ADDRESS_SPACE) > 1);

	setup_memory();
	g = mrl_guest_create(MRL_WIN_PAGES);
	mrl_guest_read(&g, 0, 0, NULL);
	handler = mrl_smm_setup(&g);
	change_normal(g.vm, &list, false);
	change_smm(g.vm, &list, &layouts[0]);

	alarm(TIMEOUT);
	start(&notifier, make_notifiers, NULL);
	start(&changer, change_layouts, g.vm);
	while (!done) {
		access_from_smm(&g, handler, guest_random_u32(&rng) % MRL_WIN_PAGES);
		access_from_outside(&g, guest_random_u32(&rng) % MRL_WIN_PAGES);
	}
	pthread_join(changer, NULL);
	pthread_join(notifier, NULL);
	alarm(0);

	printf("mrl-notifier calls=%lu smis=%u notifiers=%u exact=%lu holes=%lu\n", counted.calls,
	       nr_smis, nr_notifiers, counted.exact, counted.holes);
	TEST_ASSERT(counted.exact > counted.holes && counted.holes,
		    "Wanted SMIs that no call interfered with, also in holes, got %lu, %lu",
		    counted.exact, counted.holes);
	mrl_free(&list);
	kvm_vm_free(g.vm);
	return 0;
}
