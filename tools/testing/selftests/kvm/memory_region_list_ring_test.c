// SPDX-License-Identifier: GPL-2.0-only
/*
 * No dirty page is lost with dirty rings when KVM_SET_USER_MEMORY_REGION_LIST
 * changes slots.
 *
 * Shows never-lost for rings.  vCPUs write pages, while slots that log are split,
 * merged, renamed, shrunk and deleted, and a thread harvests and resets the rings
 * all the time, for 1,000 splits and merges at least.  Calls come in between any two
 * of its steps, i.e. find entries that are unharvested, or harvested and not reset:
 * that is counted, and has to happen.  For each page the host keeps a copy
 * of what it held after its entry was reset.  When the vCPUs are parked and the
 * rings are empty, no page may differ from its copy.  A page whose new name was not
 * armed does: its next write makes no entry.
 *
 * An id is not used again before the rings have been empty, hence an entry can be
 * decoded without knowing in which layout it was written.  The guest finds no hole
 * but where pages have left.  KVM refuses what would give a name another meaning,
 * and nothing else.
 *
 * Not shown: PML where the bed has none, logging turned off and on.
 */
#include <asm/barrier.h>
#include <getopt.h>
#include <linux/bitmap.h>
#include <stdatomic.h>

#include "memory_region_list.h"
#include "memory_region_list_vcpus.h"

#define BASE_GPA	(4ul << 30)
#define NPAGES		512u
#define RING_ENTRIES	1024u
#define FIRST_ID	10u
#define NR_IDS		1000u
#define MAX_PIECES	24u
#define CALLS_PER_ROUND	8u
#define MIN_CALLS	1000u	/* Splits and merges. */

/* In memslot 0, which never changes and does not log. */
static struct {
	uint32_t park;
	uint64_t iterations[MRL_MAX_VCPUS];
} shared, *sh;

static struct piece {
	uint32_t id, first, end;
} pieces[MAX_PIECES];

static uint32_t nr_pieces, next_id;
static uint32_t first_of[FIRST_ID + NR_IDS];	/* page; valid until the id comes round */
static struct kvm_vm *vm;
static struct mrl list;
static struct guest_random_state rng;
static uint64_t *mem;
static atomic_bool may_exit[NPAGES], stop;
static uint64_t copy[NPAGES][2];
static unsigned long result[NPAGES / 64];

static pthread_mutex_t harvest_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kvm_dirty_gfn *ring[MRL_MAX_VCPUS];
static uint32_t ring_index[MRL_MAX_VCPUS];
static atomic_bool calling, unreset;
static atomic_ulong calls;
static struct {
	uint64_t entries, over, full, exits, harvests, renamed, left;
	uint64_t splits, merges, unharvested, unreset;
} counted;

static uint64_t *gva(uint32_t page)
{
	return (uint64_t *)(BASE_GPA + page * PAGE_SIZE);
}

static uint64_t *hva(uint32_t page)
{
	return mem + page * (PAGE_SIZE / sizeof(*mem));
}

static void guest_main(uint32_t me, uint32_t nr)
{
	uint32_t park = 0, page, x = 2463534242u + me;
	uint64_t i;

	for (i = 1;; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		page = x % NPAGES;
		mrl_guest_store(gva(page), i << 8 | me, !(i % 16));
		if (!(i % 64))
			mrl_guest_ins(gva(page) + 1);
		WRITE_ONCE(shared.iterations[me], i);
		if (READ_ONCE(shared.park) != park) {
			park = READ_ONCE(shared.park);
			GUEST_SYNC(0);
		}
	}
}

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	static atomic_uint in_value;
	struct kvm_run *run = vcpu->run;
	uint64_t page;

	TEST_ASSERT(!r, "no-hole: KVM_RUN of vCPU %u: wanted 0, got errno %d", vcpu->id, errno);
	switch (run->exit_reason) {
	case KVM_EXIT_DIRTY_RING_FULL:
		/* Until the other thread has made room. */
		counted.full++;
		return false;
	case KVM_EXIT_MMIO:
		page = (run->mmio.phys_addr - BASE_GPA) / PAGE_SIZE;
		TEST_ASSERT(page < NPAGES && may_exit[page],
			    "no-hole: vCPU %u: wanted no exit, got MMIO at page %lu", vcpu->id,
			    page);
		counted.exits++;
		return false;
	case KVM_EXIT_IO:
		if (run->io.port == MRL_IO_PORT) {
			*(uint32_t *)((void *)run + run->io.data_offset) = ++in_value;
			return false;
		}
	}
	mrl_vcpu_expect_sync(vcpu);
	return true;
}

static bool changed(uint32_t page)
{
	return READ_ONCE(hva(page)[0]) != copy[page][0] || READ_ONCE(hva(page)[1]) != copy[page][1];
}

static void take_copy(uint32_t page)
{
	copy[page][0] = READ_ONCE(hva(page)[0]);
	copy[page][1] = READ_ONCE(hva(page)[1]);
}

static uint32_t collect(uint32_t v, uint32_t *pages)
{
	struct kvm_dirty_gfn *gfn;
	uint32_t nr = 0, page;

	for (;; ring_index[v]++) {
		gfn = &ring[v][ring_index[v] % RING_ENTRIES];
		/* Read slot and offset only if KVM has published the entry. */
		if (smp_load_acquire(&gfn->flags) != KVM_DIRTY_GFN_F_DIRTY)
			return nr;
		TEST_ASSERT(gfn->slot >= FIRST_ID && gfn->slot < FIRST_ID + NR_IDS,
			    "Entry of vCPU %u: wanted an id from %u to %u, got %u", v, FIRST_ID,
			    FIRST_ID + NR_IDS - 1, gfn->slot);
		page = first_of[gfn->slot] + gfn->offset;
		TEST_ASSERT(page < NPAGES,
			    "Entry of vCPU %u, slot %u: wanted a page below %u, got %u", v,
			    gfn->slot, NPAGES, page);
		pages[nr++] = page;
		/* Hand the entry back only after it has been read. */
		smp_store_release(&gfn->flags, KVM_DIRTY_GFN_F_RESET);
	}
}

/* Have a call made, if one is to come. */
static void wait_for_call(void)
{
	unsigned long seen = calls;

	unreset = true;
	while (calling && calls == seen)
		sched_yield();
	unreset = false;
}

/*
 * Harvest, reset, and only then read the pages, as the API documentation says.  Wait
 * for a call in between if @wait.
 */
static void harvest(bool wait)
{
	static uint32_t pages[MRL_MAX_VCPUS * RING_ENTRIES];
	uint32_t i, nr = 0, reset;

	for (i = 0; i < mrl_vcpus.nr; i++)
		nr += collect(i, pages + nr);
	if (wait && nr)
		wait_for_call();
	reset = kvm_vm_reset_dirty_ring(vm);
	TEST_ASSERT(reset == nr, "Entries reset: wanted %u, got %u", nr, reset);
	for (i = 0; i < nr; i++) {
		counted.over += !changed(pages[i]);
		take_copy(pages[i]);
	}
	counted.entries += nr;
	counted.harvests++;
}

static void *harvester(void *arg)
{
	while (!stop) {
		pthread_mutex_lock(&harvest_lock);
		harvest(!(counted.harvests % 4));
		pthread_mutex_unlock(&harvest_lock);
		sched_yield();
	}
	return NULL;
}

static mrl_entry *set(uint32_t id, uint32_t first, uint32_t end)
{
	return mrl_set(&list, id, KVM_MEM_LOG_DIRTY_PAGES, BASE_GPA + first * PAGE_SIZE,
		       (end - first) * PAGE_SIZE, hva(first));
}

static uint32_t fresh_id(uint32_t first)
{
	uint32_t id = FIRST_ID + next_id++ % NR_IDS;

	first_of[id] = first;
	return id;
}

static void add_piece(uint32_t i, uint32_t id, uint32_t first, uint32_t end)
{
	memmove(&pieces[i + 1], &pieces[i], (nr_pieces++ - i) * sizeof(*pieces));
	pieces[i] = (struct piece) { id, first, end };
}

static void remove_piece(uint32_t i)
{
	memmove(&pieces[i], &pieces[i + 1], (--nr_pieces - i) * sizeof(*pieces));
}

static void split(uint32_t i)
{
	struct piece *p = &pieces[i];
	uint32_t end = p->end, cut;

	if (nr_pieces == MAX_PIECES || end - p->first < 2)
		return;
	cut = p->first + 1 + guest_random_u32(&rng) % (end - p->first - 1);
	counted.renamed += end - cut;
	counted.splits++;
	p->end = cut;
	set(p->id, p->first, cut);
	add_piece(i + 1, fresh_id(cut), cut, end);
	set(pieces[i + 1].id, cut, end);
}

static void merge(uint32_t i)
{
	struct piece *p = &pieces[i];

	if (i + 1 == nr_pieces || p->end != p[1].first)
		return;
	counted.renamed += p[1].end - p[1].first;
	counted.merges++;
	p->end = p[1].end;
	set(p->id, p->first, p->end);
	mrl_delete(&list, p[1].id);
	remove_piece(i + 1);
}

static void rename_piece(uint32_t i)
{
	struct piece *p = &pieces[i];

	counted.renamed += p->end - p->first;
	mrl_delete(&list, p->id);
	p->id = fresh_id(p->first);
	set(p->id, p->first, p->end);
}

/* From some page on to the end, or all of it. */
static void shrink(uint32_t i)
{
	struct piece *p = &pieces[i];
	uint32_t end = p->end, cut = p->first + guest_random_u32(&rng) % (end - p->first), page;
	mrl_entry *e;

	for (page = cut; page < end; page++)
		may_exit[page] = true;
	counted.left += end - cut;
	e = cut > p->first ? set(p->id, p->first, cut) : mrl_delete(&list, p->id);
	memset(result, 0xff, sizeof(result));
	mrl_result(e, result, DIV_ROUND_UP(end - p->first, 64) * 8);
	p->end = cut;
	if (cut == p->first)
		remove_piece(i);
}

/* What reached no ring, i.e. nothing if only vCPUs write. */
static void take_result(uint32_t first, uint32_t end)
{
	uint32_t page;

	for (page = first; page < end; page++) {
		if (!test_bit(page - first, result))
			continue;
		pthread_mutex_lock(&harvest_lock);
		take_copy(page);
		pthread_mutex_unlock(&harvest_lock);
	}
}

/* There are entries that nobody has read. */
static bool is_unharvested(void)
{
	struct kvm_dirty_gfn *gfn;
	uint32_t i;

	for (i = 0; i < mrl_vcpus.nr; i++) {
		gfn = &ring[i][READ_ONCE(ring_index[i]) % RING_ENTRIES];
		if (READ_ONCE(gfn->flags) == KVM_DIRTY_GFN_F_DIRTY)
			return true;
	}
	return false;
}

static void transaction(void)
{
	uint32_t i, op = guest_random_u32(&rng) % 16;
	struct piece before;

	if (!nr_pieces)
		return;
	i = guest_random_u32(&rng) % nr_pieces;
	before = pieces[i];
	mrl_reset(&list);
	if (op < 6)
		split(i);
	else if (op < 12)
		merge(i);
	else if (op < 15)
		rename_piece(i);
	else
		shrink(i);
	if (!list.list->nent)
		return;
	counted.unharvested += is_unharvested();
	counted.unreset += unreset;
	mrl_apply(vm, &list);
	calls++;
	if (op == 15)
		take_result(before.first, before.end);
}

/* One slot for all pages, with a new name. */
static void restore(void)
{
	uint32_t i, page;

	mrl_reset(&list);
	for (i = 0; i < nr_pieces; i++)
		mrl_delete(&list, pieces[i].id);
	nr_pieces = 0;
	add_piece(0, fresh_id(0), 0, NPAGES);
	set(pieces[0].id, 0, NPAGES);
	mrl_apply(vm, &list);
	for (page = 0; page < NPAGES; page++)
		may_exit[page] = false;
}

static void check_lost(void)
{
	uint32_t page;

	pthread_mutex_lock(&harvest_lock);
	harvest(false);
	for (page = 0; page < NPAGES; page++)
		TEST_ASSERT(!changed(page),
			    "never-lost: page %u: wanted an entry, got none; 0x%lx is 0x%lx after %lu calls",
			    page, copy[page][0], hva(page)[0], calls);
	pthread_mutex_unlock(&harvest_lock);
}

/* Names don't change their meaning. */
static void check_refused(void)
{
	uint32_t id = pieces[0].id, i;

	for (i = 0; i < 3; i++) {
		mrl_reset(&list);
		set(id, 0, NPAGES);
		if (i == 0)
			list.list->entries[0].guest_phys_addr += PAGE_SIZE;
		else if (i == 1)
			list.list->entries[0].userspace_addr += PAGE_SIZE;
		else
			list.list->entries[0].guest_phys_addr += NPAGES * PAGE_SIZE;
		list.list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
		TEST_ASSERT(__mrl_apply(vm, &list) == -1 && errno == EOPNOTSUPP,
			    "Change %u of a name's meaning: wanted EOPNOTSUPP, got errno %d", i,
			    errno);
	}
}

static void setup(void)
{
	int i;

	vm = vm_create(mrl_vcpus.nr);
	TEST_REQUIRE(vm_check_cap(vm, KVM_CAP_USER_MEMORY_REGION_LIST));
	vm_enable_dirty_ring(vm, RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
	vm_enable_cap(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
	for (i = 0; i < mrl_vcpus.nr; i++) {
		mrl_vcpus.vcpu[i] = vm_vcpu_add(vm, i, guest_main);
		ring[i] = vcpu_map_dirty_ring(mrl_vcpus.vcpu[i]);
	}
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	mem = (uint64_t *)mrl_vcpus_mem_alloc(NPAGES * PAGE_SIZE);
	list = mrl_alloc(2 * MAX_PIECES);
	restore();
	check_refused();
	virt_map(vm, BASE_GPA, BASE_GPA, NPAGES);
}

static void run(uint64_t seconds, uint64_t max_calls)
{
	struct timespec start;
	uint32_t i;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (counted.splits + counted.merges < (max_calls ? 0 : MIN_CALLS) ||
	       timespec_to_ns(timespec_elapsed(start)) < seconds * NSEC_PER_SEC) {
		if (max_calls && calls >= max_calls)
			break;
		mrl_vcpus_go();
		calling = true;
		for (i = 0; i < CALLS_PER_ROUND; i++)
			transaction();
		calling = false;
		mrl_vcpus_park();
		check_lost();
		restore();
	}
}

int main(int argc, char *argv[])
{
	uint64_t seconds = 5, max_calls = 0;
	pthread_t thread;
	uint32_t seed = 1;
	int opt, i;

	while ((opt = getopt(argc, argv, "t:n:v:s:")) != -1) {
		if (opt == 't')
			seconds = atoi_positive("Seconds", optarg);
		else if (opt == 'n')
			max_calls = atoi_positive("Calls", optarg);
		else if (opt == 'v')
			mrl_vcpus.nr = atoi_positive("Number of vCPUs", optarg);
		else if (opt == 's')
			seed = atoi_non_negative("Seed", optarg);
		else
			TEST_FAIL("options: -t seconds -n calls -v vCPUs -s seed");
	}
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_DIRTY_LOG_RING) >=
		     RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
	rng = new_guest_random_state(seed);
	setup();
	mrl_vcpus_start(&sh->park, handle_exit);
	check_lost();
	i = pthread_create(&thread, NULL, harvester, NULL);
	TEST_ASSERT(!i, "pthread_create(): wanted 0, got %d", i);
	run(seconds, max_calls);
	stop = true;
	pthread_join(thread, NULL);
	for (i = 0; i < mrl_vcpus.nr; i++)
		TEST_ASSERT(sh->iterations[i], "vCPU %d: wanted some iterations, got 0", i);
	TEST_ASSERT(counted.renamed && counted.left && counted.entries > counted.over,
		    "Wanted pages renamed, left and reported, got %lu, %lu, %lu", counted.renamed,
		    counted.left, counted.entries - counted.over);
	TEST_ASSERT(max_calls || (counted.unharvested && counted.unreset),
		    "Wanted calls with entries unharvested, and unreset, got %lu, %lu",
		    counted.unharvested, counted.unreset);
	printf("mrl-ring vcpus=%d seed=%u calls=%lu renamed=%lu left=%lu entries=%lu over=%lu",
	       mrl_vcpus.nr, seed, calls, counted.renamed, counted.left, counted.entries,
	       counted.over);
	printf(" splits=%lu merges=%lu unharvested=%lu unreset=%lu", counted.splits, counted.merges,
	       counted.unharvested, counted.unreset);
	printf(" harvests=%lu full=%lu exits=%lu fep=%d\n", counted.harvests, counted.full,
	       counted.exits, is_forced_emulation_enabled);
	mrl_vcpus_stop();
	kvm_vm_free(vm);
	return 0;
}
