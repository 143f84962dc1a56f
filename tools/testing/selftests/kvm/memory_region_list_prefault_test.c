// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_PRE_FAULT_MEMORY while KVM_SET_USER_MEMORY_REGION_LIST changes slots.
 *
 * Shows C1 and F6, no-deadlock: prefaulting and list calls don't wait for each other, nor does
 * prefaulting wait for KVM_RUN to replace page tables that became obsolete.  One
 * thread prefaults a region over and over; another one splits, merges, renames,
 * re-backs, swaps, deletes and creates its slots, and makes all page tables obsolete
 * by kvm.nx_huge_pages now and then.  alarm() is the verdict if one of them hangs.
 *
 * Shows no-hole for prefaulting: a gfn that old and new layout cover can be
 * prefaulted at any time; ENOENT comes only for gfns without a slot, and no other
 * errno at all.  And that the guest then finds there what the layout says.
 *
 * Not shown: shadow paging, which has no prefaulting; private memory.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "memory_region_list_setting.h"
#include "memory_region_list_table.h"

#define NPAGES		1024u
#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define NR_CALLS	600
#define MIN_SECONDS	5
#define TIMEOUT		100

static const struct mrl_table layouts[] = {
	{ "one slot", { { 0, NPAGES, 0, 0, 0 } } },
	{ "two slots", { { 0, 300, 0, 0, 0 }, { 300, NPAGES, 300, 1, 0 } } },
	{ "two slots, other ids", { { 0, 300, 0, 1, LOG }, { 300, NPAGES, 300, 0, 0 } } },
	{ "hole", { { 0, 400, 0, 2, 0 }, { 500, NPAGES, 500, 3, LOG } } },
	{ "another hole", { { 0, 700, 0, 3, 0 }, { 900, NPAGES, 900, 2, 0 } } },
	{ "other memory", { { 0, 128, 0, 0, 0 }, { 128, NPAGES, NPAGES, 4, 0 } } },
	{ "swapped", { { 0, 128, 128, 0, 0 }, { 128, 256, 0, 1, 0 }, { 256, NPAGES, 256, 2, 0 } } },
	{ "swapped, moved", { { 0, 128, 128, 1, 0 }, { 128, 256, 0, 0, 0 },
			      { 512, NPAGES, 256, 2, 0 } } },
};

/*
 * What prefaulting a page has to do.  A word with the number of the call that made
 * it so: found twice, it was so in between.
 */
enum { ABSENT, PRESENT, CHANGING };
#define STATE(call, s)	((call) << 2 | (s))

static atomic_uint state[NPAGES];
static atomic_uint nr_steps, calls;
static atomic_bool done;
static atomic_uint layout_now;	/* index */
static struct mrl_setting nx_huge_pages = {
	.path = "/sys/module/kvm/parameters/nx_huge_pages",
};

static struct {
	uint64_t sweeps, absent, changing, reads;
} counted;

static void change(struct kvm_vm *vm, struct mrl *list, const struct mrl_table *to, uint32_t call)
{
	const struct mrl_table *from = &layouts[layout_now];
	struct mrl_layout before, after;
	uint32_t page;
	bool was, is;

	mrl_table_layout(from, &before);
	mrl_table_layout(to, &after);
	mrl_reset(list);
	mrl_add_change(list, &before, &after, call % 2);
	list->list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;

	for (page = 0; page < NPAGES; page++) {
		was = mrl_table_find(from, page);
		is = mrl_table_find(to, page);
		if (was != is)
			state[page] = STATE(call, CHANGING);
	}
	calls = 2 * call + 1;
	mrl_apply(vm, list);
	layout_now = to - layouts;
	calls = 2 * call + 2;
	for (page = 0; page < NPAGES; page++) {
		if (state[page] == STATE(call, CHANGING))
			state[page] = STATE(call, mrl_table_find(to, page) ? PRESENT : ABSENT);
	}
}

static bool is_over(struct timespec start, uint32_t call)
{
	return call >= NR_CALLS &&
	       timespec_to_ns(timespec_elapsed(start)) > MIN_SECONDS * NSEC_PER_SEC;
}

/* Each call comes a bit further into a prefault. */
static void *change_layouts(void *arg)
{
	struct mrl list = mrl_alloc(2 * MRL_TABLE_PIECES);
	struct kvm_vm *vm = arg;
	struct guest_random_state rng = new_guest_random_state(1);
	struct timespec start;
	uint32_t call, seen, i;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (call = 1; !is_over(start, call); call++) {
		seen = nr_steps;
		while (nr_steps == seen)
			cpu_relax();
		/* No cpu_relax(), with which an emulator lets the prefault finish first. */
		for (i = 0; i < call % 64 * 1024; i++)
			barrier();
		change(vm, &list, &layouts[guest_random_u32(&rng) % ARRAY_SIZE(layouts)], call);
		if (!(call % 16))
			TEST_ASSERT(mrl_setting_set(&nx_huge_pages, call % 32 ? "Y" : "N"),
				    "nx_huge_pages: wanted %c, got '%s'", call % 32 ? 'Y' : 'N',
				    nx_huge_pages.value);
	}
	done = true;
	mrl_free(&list);
	return NULL;
}

/* @err: what prefaulting of a page returned; @before: its state ahead of that. */
static void check_step(uint32_t page, uint32_t before, int err)
{
	uint32_t after = state[page], s = after % 4;

	TEST_ASSERT(!err || err == ENOENT,
		    "Prefault of page %u: wanted 0 or ENOENT, got errno %d (%s)", page, err,
		    strerror(err));
	if (before != after || s == CHANGING) {
		counted.changing++;
		return;
	}
	TEST_ASSERT(err == (s == PRESENT ? 0 : ENOENT),
		    "no-hole: prefault of page %u, which has %s slot since call %u: wanted errno %d, got %d",
		    page, s == PRESENT ? "a" : "no", after / 4, s == PRESENT ? 0 : ENOENT, err);
	counted.absent += s == ABSENT;
}

/* Prefault all there is, from @page on.  A call may stop ahead of a hole. */
static void sweep(struct kvm_vcpu *vcpu, uint32_t page)
{
	static uint32_t before[NPAGES];
	struct kvm_pre_fault_memory range;
	uint32_t i, next;
	int err;

	for (; page < NPAGES; page = next) {
		for (i = page; i < NPAGES; i++)
			before[i] = state[i];
		range = (struct kvm_pre_fault_memory) {
			.gpa = MRL_GPA(page),
			.size = MRL_SIZE(NPAGES - page),
		};
		nr_steps++;
		err = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range) ? errno : 0;
		next = (range.gpa - MRL_GPA_BASE) / MRL_PAGE_SIZE;
		TEST_ASSERT(err ? next == page : next > page,
			    "Prefault from page %u: errno %d, wanted %sprogress, got to page %u",
			    page, err, err ? "no " : "", next);
		for (i = page; i < next; i++)
			check_step(i, before[i], 0);
		if (err) {
			check_step(page, before[page], err);
			next = page + 1;
		}
	}
	counted.sweeps++;
}

/* The guest finds what the layout says, if that did not change meanwhile. */
static void check_read(struct mrl_guest *g, uint32_t first)
{
	uint64_t val[MRL_WIN_PAGES], want[MRL_WIN_PAGES], absent = 0, exits;
	uint32_t before = calls, i;
	const struct mrl_table *l = &layouts[layout_now];
	const struct mrl_piece *p;

	for (i = 0; i < MRL_WIN_PAGES; i++) {
		p = mrl_table_find(l, first + i);
		want[i] = p ? MRL_TAG(p->hva + first + i - p->first) : MRL_HOLE;
		absent |= p ? 0 : BIT_ULL(i);
	}
	exits = mrl_guest_read(g, first, MRL_ALL_PAGES, val);
	if (before % 2 || before != calls)
		return;
	TEST_ASSERT(exits == absent, "Pages from %u: wanted exits 0x%lx, got 0x%lx", first, absent,
		    exits);
	for (i = 0; i < MRL_WIN_PAGES; i++)
		TEST_ASSERT(val[i] == want[i],
			    "no-stale-mapping: '%s', page %u: wanted 0x%lx, got 0x%lx",
			    l->what, first + i, want[i], val[i]);
	counted.reads++;
}

int main(int argc, char *argv[])
{
	struct guest_random_state rng = new_guest_random_state(2);
	struct mrl_layout none = {}, first;
	pthread_t thread;
	struct mrl_guest g;
	uint32_t page;
	int r;

	mrl_require();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY));

	mrl_mem_alloc(2 * NPAGES);
	g = mrl_guest_create(NPAGES);
	mrl_table_layout(&layouts[0], &first);
	mrl_change_old(g.vm, &none, &first, NULL);
	for (page = 0; page < NPAGES; page++)
		state[page] = STATE(0, PRESENT);

	alarm(TIMEOUT);
	r = pthread_create(&thread, NULL, change_layouts, g.vm);
	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
	while (!done) {
		sweep(g.vcpu, counted.sweeps % 4 ? guest_random_u32(&rng) % NPAGES : 0);
		check_read(&g, guest_random_u32(&rng) % (NPAGES - MRL_WIN_PAGES));
	}
	pthread_join(thread, NULL);
	alarm(0);

	printf("mrl-prefault calls=%u sweeps=%lu absent=%lu changing=%lu reads=%lu\n", calls / 2,
	       counted.sweeps, counted.absent, counted.changing, counted.reads);
	TEST_ASSERT(counted.absent && counted.changing && counted.reads,
		    "Wanted prefaults of absent pages, of changing ones, and reads, got %lu, %lu, %lu",
		    counted.absent, counted.changing, counted.reads);
	kvm_vm_free(g.vm);
	return 0;
}
