// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST takes slots away from vCPUs whose writes are still
 * in the hardware's own log.
 *
 * Shows never-lost where the CPU logs writes on its own, i.e. with PML: vCPUs write
 * pages that are mapped and armed, so nothing makes them exit, and a slot is deleted,
 * moved away, or stops to log just then.  The entries have to reach the bitmap that
 * the call returns.  Each page has one writer that counts up a version, in memory
 * that does not log, and writes it.  The versions that have arrived in the pages are
 * read last thing before the call, those in pages that leave the layout after it.
 * Each page must be in the bitmap, or in a log read before, unless its version is one
 * that was reported, or from before the slot (again) logged.  Slots get other names
 * as well; what was written under an old one must be reported under the new one.
 * Now and then all logs end in one call and begin in the next, i.e. vCPUs switch
 * hardware logging off and on while they run (C11).  When vCPUs are parked, the logs
 * must have all the rest.
 *
 * All writes are to the first word of a page: Bochs logs addresses, not pages.
 *
 * Not shown: that entries were pending, without which this is a test of other kinds of
 * logging.  Kernels that do without one of the steps that wait for them make it fail: the
 * kick if a log ends, and, as what goes is zapped, i.e. vCPUs exit, if a slot is deleted or
 * moved, the SRCU read-side section that begins ahead of the flush of the buffer.
 * Software writers and holes: see the dirty and the race test.
 */
#include <getopt.h>
#include <stdatomic.h>
#include <linux/bitmap.h>

#include "memory_region_list.h"
#include "memory_region_list_vcpus.h"

#define BASE_GPA	(4ul << 30)
#define PARKED_GPA	(5ul << 30)	/* the guest does not know it */
#define NR_SLOTS	4u
#define SLOT_PAGES	64u
#define NPAGES		(NR_SLOTS * SLOT_PAGES)
#define FIRST_ID	10u
#define ROUND		16u		/* calls between two times that vCPUs are parked */
#define LOG		KVM_MEM_LOG_DIRTY_PAGES

/* In memslot 0, which never changes and does not log.  Guest and host both use it. */
static struct {
	uint32_t park, hot;
	uint64_t version[NPAGES];
	uint64_t writes[MRL_MAX_VCPUS];
} shared, *sh;

/* The slot that is at its place now; the last one is the one that is parked. */
static struct slot {
	uint32_t id, unit;
} slots[NR_SLOTS + 1];

static struct kvm_vm *vm;
static bool moves_only;
static struct mrl list;
static struct guest_random_state rng;
static uint64_t *mem;
static uint64_t seen[NPAGES];		/* what need not be reported any more */
static atomic_bool may_exit[NR_SLOTS];
static unsigned long result[NR_SLOTS + 1][SLOT_PAGES / 64];

/* In what writes are reported. */
enum { IN_LOG, DELETION, MOVE, END, END_OF_ALL, NR_REPORTS };
static const char *const report_names[] = {
	"log", "deletion", "move", "end of logging", "end of all logs",
};

static struct {
	uint64_t deleted, moved, stopped, restarted, renamed, reported, over, harvested;
	uint64_t wrote[NR_REPORTS];
	atomic_ulong exits;
} counted;

static uint64_t *unit_page(uint32_t unit, uint32_t i)
{
	return mem + (unit * SLOT_PAGES + i) * (PAGE_SIZE / sizeof(*mem));
}

static uint64_t content(uint32_t s, uint32_t i)
{
	return READ_ONCE(*unit_page(slots[s].unit, i));
}

static void guest_main(uint32_t me, uint32_t nr)
{
	uint32_t park = 0, slot, page, x = 2463534242u + me;
	uint64_t version;

	for (;;) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		slot = x % 8 ? READ_ONCE(shared.hot) : (x >> 8) % NR_SLOTS;
		page = slot * SLOT_PAGES + (x >> 16) % (SLOT_PAGES / nr) * nr + me;
		version = shared.version[page] + 1;
		WRITE_ONCE(*(uint64_t *)(BASE_GPA + page * PAGE_SIZE), version);
		WRITE_ONCE(shared.version[page], version);
		WRITE_ONCE(shared.writes[me], shared.writes[me] + 1);
		if (READ_ONCE(shared.park) != park) {
			park = READ_ONCE(shared.park);
			GUEST_SYNC(0);
		}
	}
}

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	struct kvm_run *run = vcpu->run;
	uint64_t page;

	TEST_ASSERT(!r, "no-hole: KVM_RUN of vCPU %u: wanted 0, got errno %d", vcpu->id, errno);
	if (run->exit_reason == KVM_EXIT_MMIO) {
		page = (run->mmio.phys_addr - BASE_GPA) / PAGE_SIZE;
		TEST_ASSERT(page < NPAGES && may_exit[page / SLOT_PAGES] && run->mmio.is_write,
			    "no-hole: vCPU %u: wanted no exit, got MMIO %s at page %lu", vcpu->id,
			    run->mmio.is_write ? "write" : "read", page);
		counted.exits++;
		return false;
	}
	mrl_vcpu_expect_sync(vcpu);
	return true;
}

/* Until vCPUs have made @nr more writes. */
static void wait_for_writes(uint64_t nr)
{
	uint64_t end = mrl_vcpus_sum(sh->writes) + nr;

	while (mrl_vcpus_sum(sh->writes) < end)
		asm volatile("pause");
}

static mrl_entry *set(uint32_t s, uint32_t flags)
{
	return mrl_set(&list, slots[s].id, flags,
		       s == NR_SLOTS ? PARKED_GPA : BASE_GPA + s * SLOT_PAGES * PAGE_SIZE,
		       SLOT_PAGES * PAGE_SIZE, unit_page(slots[s].unit, 0));
}

static void want_result(mrl_entry *e, uint32_t i)
{
	memset(result[i], 0xff, sizeof(result[i]));
	mrl_result(e, result[i], sizeof(result[i]));
}

static bool report(uint32_t s, uint32_t i, uint64_t version, const unsigned long *bitmap,
		   uint32_t what)
{
	uint32_t page = s * SLOT_PAGES + i;
	bool wrote = version > seen[page];

	TEST_ASSERT(!wrote || test_bit(i, bitmap),
		    "never-lost: %s: slot %u, page %u: wanted a bit, got 0; wrote %lu after %lu; call %lu",
		    report_names[what], s, i, version, seen[page],
		    counted.deleted + counted.moved + counted.stopped + counted.renamed);
	counted.wrote[what] += wrote;
	counted.reported += test_bit(i, bitmap);
	counted.over += test_bit(i, bitmap) && version <= seen[page];
	return test_bit(i, bitmap);
}

/*
 * What a vCPU writes from now on has to be reported.  A version that is in memory was
 * written before, be it in that which was there until now; that may be an old one.
 */
static void start_to_track(uint32_t s, uint32_t i, uint64_t left)
{
	uint32_t page = s * SLOT_PAGES + i;

	seen[page] = max(seen[page], max(content(s, i), left));
}

/* The slot's log.  Only if vCPUs are parked, it has all. */
static void harvest(uint32_t s, bool parked)
{
	unsigned long bitmap[SLOT_PAGES / 64] = {};
	uint32_t i;

	kvm_vm_get_dirty_log(vm, slots[s].id, bitmap);
	for (i = 0; i < SLOT_PAGES; i++) {
		if (parked)
			report(s, i, content(s, i), bitmap, IN_LOG);
		if (test_bit(i, bitmap))
			start_to_track(s, i, 0);
	}
	counted.harvested++;
}

static void log_anew(uint32_t s)
{
	uint32_t i;

	mrl_reset(&list);
	set(s, LOG);
	mrl_apply(vm, &list);
	for (i = 0; i < SLOT_PAGES; i++)
		start_to_track(s, i, 0);
}

/* The slot and its pages go.  Then it comes back, with the same memory. */
static void delete(uint32_t s)
{
	uint32_t i;

	may_exit[s] = true;
	mrl_reset(&list);
	want_result(mrl_delete(&list, slots[s].id), 0);
	mrl_apply(vm, &list);
	for (i = 0; i < SLOT_PAGES; i++)
		report(s, i, content(s, i), result[0], DELETION);
	log_anew(s);
	counted.deleted++;
}

/* The slot changes places with the one that is parked: no hole. */
static void move(uint32_t s)
{
	struct slot old = slots[s];
	uint64_t version;
	uint32_t i;

	slots[s] = slots[NR_SLOTS];
	slots[NR_SLOTS] = old;
	mrl_reset(&list);
	want_result(set(NR_SLOTS, LOG), 0);
	want_result(set(s, LOG), 1);
	mrl_apply(vm, &list);
	for (i = 0; i < SLOT_PAGES; i++) {
		version = content(NR_SLOTS, i);
		report(s, i, version, result[0], MOVE);
		start_to_track(s, i, version);
	}
	counted.moved++;
}

/* Mappings stay, i.e. no vCPU has a reason to exit. */
static void stop_log(uint32_t s)
{
	uint64_t before[SLOT_PAGES];
	uint32_t i;

	mrl_reset(&list);
	want_result(set(s, 0), 0);
	for (i = 0; i < SLOT_PAGES; i++)
		before[i] = content(s, i);
	mrl_apply(vm, &list);
	for (i = 0; i < SLOT_PAGES; i++)
		report(s, i, before[i], result[0], END);
	log_anew(s);
	counted.stopped++;
}

/*
 * All logs end, the parked one too, and begin again.  What is written once the call that
 * begins them has returned has to be in them, see start_to_track().
 */
static void restart_logs(void)
{
	uint64_t before[NPAGES];
	uint32_t s, i;

	mrl_reset(&list);
	for (s = 0; s <= NR_SLOTS; s++)
		want_result(set(s, 0), s);
	for (i = 0; i < NPAGES; i++)
		before[i] = content(i / SLOT_PAGES, i % SLOT_PAGES);
	mrl_apply(vm, &list);
	for (i = 0; i < NPAGES; i++)
		report(i / SLOT_PAGES, i % SLOT_PAGES, before[i], result[i / SLOT_PAGES],
		       END_OF_ALL);

	/* vCPUs run without a log for a while. */
	wait_for_writes(SLOT_PAGES);
	mrl_reset(&list);
	for (s = 0; s <= NR_SLOTS; s++)
		set(s, LOG);
	mrl_apply(vm, &list);
	for (i = 0; i < NPAGES; i++)
		start_to_track(i / SLOT_PAGES, i % SLOT_PAGES, 0);
	counted.restarted++;
}

/* Pages stay in a log, and so do bits. */
static void rename_slot(uint32_t s)
{
	mrl_reset(&list);
	mrl_delete(&list, slots[s].id);
	slots[s].id ^= 64;
	set(s, LOG);
	mrl_apply(vm, &list);
	counted.renamed++;
}

static void transaction(void)
{
	uint32_t s = guest_random_u32(&rng) % NR_SLOTS;
	uint32_t op = guest_random_u32(&rng) % (moves_only ? 10 : 16);

	WRITE_ONCE(sh->hot, s);
	/* Have the pages mapped, and then armed by the harvest. */
	wait_for_writes(SLOT_PAGES);
	if (guest_random_u32(&rng) % 4)
		harvest(s, false);
	wait_for_writes(1 + guest_random_u32(&rng) % SLOT_PAGES);
	if (op < 6)
		delete(s);
	else if (op < 10)
		move(s);
	else if (op < 13)
		stop_log(s);
	else if (op < 14)
		restart_logs();
	else
		rename_slot(s);
}

static void end_round(void)
{
	uint32_t s;

	for (s = 0; s < NR_SLOTS; s++) {
		harvest(s, true);
		may_exit[s] = false;
	}
}

static void setup(void)
{
	uint32_t s;

	vm = mrl_vcpus_create(guest_main);
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	mem = (uint64_t *)mrl_vcpus_mem_alloc((NR_SLOTS + 1) * SLOT_PAGES * PAGE_SIZE);
	list = mrl_alloc(NR_SLOTS + 1);
	for (s = 0; s <= NR_SLOTS; s++) {
		slots[s] = (struct slot) { .id = FIRST_ID + s, .unit = s };
		set(s, LOG);
	}
	mrl_apply(vm, &list);
	virt_map(vm, BASE_GPA, BASE_GPA, NPAGES);
	mrl_vcpus_start(&sh->park, handle_exit);
}

static void run(uint64_t calls)
{
	uint32_t i;

	while (counted.deleted + counted.moved < calls) {
		mrl_vcpus_go();
		for (i = 0; i < ROUND; i++)
			transaction();
		mrl_vcpus_park();
		end_round();
	}
}

int main(int argc, char *argv[])
{
	uint64_t calls = 1000;
	uint32_t seed = 1, i;
	int opt;

	while ((opt = getopt(argc, argv, "n:v:s:m")) != -1) {
		if (opt == 'n')
			calls = atoi_positive("Deletions and moves", optarg);
		else if (opt == 'v')
			mrl_vcpus.nr = atoi_positive("Number of vCPUs", optarg);
		else if (opt == 's')
			seed = atoi_non_negative("Seed", optarg);
		else if (opt == 'm')
			moves_only = true;
		else
			TEST_FAIL("options: -n deletions, moves (1000) -v vCPUs -s seed -m only");
	}
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));
	rng = new_guest_random_state(seed);
	setup();
	run(calls);
	for (i = 0; i < mrl_vcpus.nr; i++)
		TEST_ASSERT(sh->writes[i], "vCPU %u: wanted some writes, got 0", i);
	for (i = 0; i < (moves_only ? END : NR_REPORTS); i++)
		TEST_ASSERT(counted.wrote[i], "%s: wanted pages written, got 0", report_names[i]);
	TEST_ASSERT(counted.renamed || moves_only, "renames: wanted some, got 0");
	printf("mrl-pml vcpus=%d seed=%u deleted=%lu moved=%lu stopped=%lu", mrl_vcpus.nr, seed,
	       counted.deleted, counted.moved, counted.stopped);
	printf(" restarted=%lu renamed=%lu harvested=%lu writes=%lu", counted.restarted,
	       counted.renamed, counted.harvested, mrl_vcpus_sum(sh->writes));
	printf(" wrote=%lu+%lu+%lu+%lu+%lu", counted.wrote[IN_LOG], counted.wrote[DELETION],
	       counted.wrote[MOVE], counted.wrote[END], counted.wrote[END_OF_ALL]);
	printf(" reported=%lu over=%lu exits=%lu lost=0\n", counted.reported, counted.over,
	       counted.exits);
	mrl_vcpus_stop();
	kvm_vm_free(vm);
	return 0;
}
