// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST under nested guests, whose page tables KVM shadows.
 *
 * L1 runs an L2 with nested NPT.  L2's memory and the nested page tables are in slots
 * of their own, which are split, merged, renamed, moved to other host addresses, given
 * other contents and deleted while L2 runs.  Proves
 *
 * *no-hole*: L2 and L1 read and write all pages, by hardware and, if the host allows to
 * force that, by the emulator; no exit to userspace, no nested page fault in L1.  That
 * is while the nested page tables, or L2's memory, are where they always were.
 *
 * *no-stale-mapping*: once a call has returned that gave a page of L2, or the nested
 * page tables, other memory, L2 sees its contents, and what was replaced is no longer
 * written.  If the nested page tables have no slot, L1 gets nested page faults.
 *
 * *never-lost*: logs and returned bitmaps have all pages that L2 or L1 wrote, and the
 * nested page tables whose accessed and dirty bits KVM set, including those that L2's
 * walks alone changed.  Not checked in the windows in which logging is switched all
 * the time; those are for the other two.
 *
 * *kept-mappings*: a call that splits or merges a slot zaps nothing, but the huge mappings
 * across a new end in L2's memory.
 *
 * Hazards: page tables that go while KVM allocates a root for them; the first nested
 * entry of a VM, which allocates rmaps, beside list calls.  Many VMs, one such race each.
 *
 * Prints, and doesn't check, how many pages today's ioctls zap for a split or merge, and
 * how many faults follow, there and for a list call.
 *
 * Does not prove: that the race for the root of page tables that go was met, it is a
 * matter of luck; anything of nested EPT or of nested guests without NPT;
 * that a write was in the log at any particular time.
 */
#include <getopt.h>
#include <sched.h>

#include "memory_region_list.h"
#include "memory_region_list_nested_slots.h"

#define WINDOW_CALLS	12	/* between two stops */
#define SAMPLES		4

/* A VM has its tables from then on, so that L2 gets on. */
#define FIRST_CALLS	64

/* What is done to the slots between two stops of the vCPUs. */
enum { SPLIT, LOGGED, SWITCH, REBACK, HOLE, NR_KINDS };

static const char *const kinds[NR_KINDS] = {
	"split and merge", "logging, tables move", "logging on and off",
	"other contents", "tables deleted",
};

static bool noise_stops;
static struct {
	uint64_t calls[NR_KINDS], rounds[NR_KINDS], during, walked;
	uint64_t nested_faults;
} counted;

static void wait_for(const uint64_t *counters, const char *what)
{
	uint64_t before[NR_MAX];
	time_t end = time(NULL) + 60;
	int i;

	memcpy(before, counters, sizeof(before));
	for (i = 0; i < mrl_vcpus.nr; i++) {
		while (READ_ONCE(counters[i]) == before[i]) {
			TEST_ASSERT(time(NULL) < end, "vCPU %d: wanted %s within 60 s, got none",
				    i, what);
			sched_yield();
		}
	}
}

static struct shape next_shape(int kind, uint32_t n)
{
	struct shape next = now;

	next.table_cuts = below(3);
	next.mem_cuts = below(4);
	if (kind == LOGGED && !below(4))
		next.tables = !now.tables;
	if (kind == SWITCH) {
		next.table_flags = below(2) * KVM_MEM_LOG_DIRTY_PAGES;
		next.mem_flags = below(2) * KVM_MEM_LOG_DIRTY_PAGES;
	}
	if (kind == REBACK && n % 3 != 1)
		next.tables = (now.tables + 1 + below(NR_TABLES - 1)) % NR_TABLES;
	if (kind == REBACK && n % 3 != 2)
		next.tag = (now.tag + 1 + below(NR_TAG_BACKINGS - 1)) % NR_TAG_BACKINGS;
	if (kind == HOLE)
		next.no_tables = !now.no_tables;
	return next;
}

/* Calls while the vCPUs run.  They are parked before and after. */
static void run_window(int kind)
{
	struct shape start = {}, next;
	uint64_t before;
	uint32_t i;

	start.mem_flags = kind == LOGGED ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	start.table_flags = start.mem_flags;
	transaction(start);
	sh->no_tables = kind == HOLE;
	forget();
	mrl_vcpus_go();
	before = mrl_vcpus_sum(sh->rounds);
	for (i = 0; i < WINDOW_CALLS; i++) {
		uint64_t during = mrl_vcpus_sum(sh->rounds);

		next = next_shape(kind, i);
		transaction(next);
		counted.during += mrl_vcpus_sum(sh->rounds) - during;
		if (now.no_tables && !below(4))
			wait_for(sh->nested_faults, "nested page faults");
		if (!now.no_tables && !below(4))
			wait_for(sh->rounds, "rounds of L2");
		if (kind == LOGGED && !below(4))
			harvest();
	}
	counted.calls[kind] += WINDOW_CALLS;
	counted.rounds[kind] += mrl_vcpus_sum(sh->rounds) - before;
	mrl_vcpus_park();
	if (kind == LOGGED)
		check_log();
	follow_tag(now.tag, false);
}

static void run_command(uint32_t command)
{
	WRITE_ONCE(sh->command, command);
	while (!handle_exit(mrl_vcpus.vcpu[0], __vcpu_run(mrl_vcpus.vcpu[0])))
		;
	WRITE_ONCE(sh->command, 0);
}

/* What L2's walks alone write, across a change of the layout.  The vCPUs are parked. */
static void test_walks(void)
{
	struct shape next = {
		.table_flags = KVM_MEM_LOG_DIRTY_PAGES, .mem_flags = KVM_MEM_LOG_DIRTY_PAGES,
	};
	uint32_t i, changed;

	for (i = 0; i < 4; i++) {
		next.table_cuts = i;
		transaction(next);
		run_command(CLEAR_WALK_BITS);
		harvest();
		forget();
		run_command(TOUCH_L2);
		next.table_cuts = 3 - i;
		transaction(next);
		changed = check_log();
		TEST_ASSERT(changed >= 4,
			    "walks, accessed bits clear: wanted 4 pages or more to change, got %u",
			    changed);
		counted.walked += changed;
	}
}

static uint64_t vm_stat(const char *name)
{
	uint64_t value = 0;

	mrl_read_vm_stat(vm, name, &value);
	return value;
}

static uint64_t mapped_pages(void)
{
	return vm_stat("pages_4k") + 512 * vm_stat("pages_2m") + 512 * 512 * vm_stat("pages_1g");
}

static uint64_t faults_of(uint32_t command)
{
	uint64_t before = 0, after = 0;

	mrl_read_vcpu_stat(mrl_vcpus.vcpu[0], "pf_taken", &before);
	run_command(command);
	mrl_read_vcpu_stat(mrl_vcpus.vcpu[0], "pf_taken", &after);
	return after - before;
}

struct cost {
	uint64_t zapped, l1, l2;
};

/* Of the list call that made the layout what it is now, with @cuts where there was none. */
static void check_zapped(bool of_tables, uint32_t cuts, uint64_t zapped)
{
	const char *what = of_tables ? "nested page tables" : "L2's memory";

	/* One huge mapping of L1, one of L2. */
	uint32_t limit = of_tables ? 0 : cuts * 2 * 512;

	TEST_ASSERT(zapped <= limit && !(zapped % 512),
		    "kept-mappings: %s, %u cuts: wanted at most %u pages zapped, all huge, got %lu",
		    what, cuts, limit, zapped);
}

/* The vCPUs are parked.  @cuts of either region, the other one stays whole. */
static void measure_one(bool old_ioctls, bool of_tables, uint32_t cuts, struct cost *c)
{
	struct shape next = {};
	struct mrl_layout to;
	uint64_t mapped, zapped;

	*(of_tables ? &next.table_cuts : &next.mem_cuts) = cuts;
	make_layout(&to, &next);
	faults_of(TOUCH_L1);
	faults_of(TOUCH_L2);
	mapped = mapped_pages();
	zapped = vm_stat("memory_region_list_zapped");
	if (old_ioctls) {
		mrl_change_old(vm, &layout, &to, NULL);
	} else {
		apply(&to);
		check_zapped(of_tables, cuts, vm_stat("memory_region_list_zapped") - zapped);
	}
	layout = to;
	now = next;
	c->zapped += mapped - min(mapped, mapped_pages());
	c->l2 += faults_of(TOUCH_L2);
	c->l1 += faults_of(TOUCH_L1);
}

static void measure(bool of_tables)
{
	struct cost cost[2] = {};
	uint32_t i, old;

	for (old = 0; old < 2; old++) {
		for (i = 0; i < 2 * SAMPLES; i++)
			measure_one(old, of_tables, !(i % 2), &cost[old]);
		printf("split or merge of %s, %s: %lu pages zapped, faults: %lu of L2, %lu of L1\n",
		       of_tables ? "nested page tables" : "L2's memory",
		       old ? "today" : "list call", cost[old].zapped / (2 * SAMPLES),
		       cost[old].l2 / (2 * SAMPLES), cost[old].l1 / (2 * SAMPLES));
	}
}

/*
 * Keep MMU notifiers busy.  Calls wait for them, with slots_arch_lock held, and page
 * faults wait for mmu_lock.
 */
static void *change_protection(void *arg)
{
	int prot = PROT_READ, i;

	while (!READ_ONCE(noise_stops)) {
		mprotect(noise, NOISE_SIZE, prot);
		prot ^= PROT_WRITE;
		for (i = 0; i < 4; i++)
			sched_yield();
	}
	return NULL;
}

static pthread_t start_noise(void)
{
	pthread_t thread;
	int r;

	r = pthread_create(&thread, NULL, change_protection, NULL);
	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
	return thread;
}

/* With @holes, the VM loses its tables again and again. */
static uint64_t first_entry(bool holes)
{
	struct shape next = {};
	uint64_t calls = 0;

	create_nested_vm(1, l1_main);
	sh->no_tables = holes;
	mrl_vcpus_go();
	do {
		next.table_cuts = below(3);
		next.mem_cuts = below(4);
		next.no_tables = holes && !now.no_tables && calls < FIRST_CALLS;
		transaction(next);
		calls++;
	} while (!mrl_vcpus_sum(sh->rounds));
	mrl_vcpus_park();
	destroy_vm();
	return calls;
}

/*
 * Each VM's first entry of an L2 allocates rmaps under slots_arch_lock, ahead of a root
 * for the nested page tables, while a call that replaces their slot holds that lock.
 */
static uint64_t first_entries(uint32_t nr)
{
	uint64_t calls = 0;
	uint32_t i;

	for (i = 0; i < nr; i++)
		calls += first_entry(i % 3);
	return calls;
}

/* A VM whose L2 starts a round, or does what it is told, when it is entered. */
static void create_vm_with_l2(int nr)
{
	create_nested_vm(nr, l1_main);
	mrl_vcpus_go();
	wait_for(sh->rounds, "rounds of L2");
	mrl_vcpus_park();
}

static void measure_both(void)
{
	create_vm_with_l2(1);
	measure(true);
	measure(false);
	destroy_vm();
}

static void run(int nr, uint64_t seconds)
{
	struct timespec start;
	uint32_t n = 0;

	create_vm_with_l2(nr);
	test_walks();
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		run_window(n++ % NR_KINDS);
	} while (n < NR_KINDS ||
		 timespec_to_ns(timespec_elapsed(start)) < seconds * NSEC_PER_SEC);
	counted.nested_faults += sh->nested_faults[0] + sh->nested_faults[1];
	mrl_check_emulated(vm);
	destroy_vm();
}

static void print_result(uint64_t vms, uint64_t first_calls, uint32_t seed)
{
	uint32_t i;

	for (i = 0; i < NR_KINDS; i++)
		printf("%s: %lu calls, %lu rounds of L2\n", kinds[i], counted.calls[i],
		       counted.rounds[i]);
	printf("during calls: %lu rounds of L2; without tables: %lu nested page faults\n",
	       counted.during, counted.nested_faults);
	printf("logs: %lu pages reported, %lu had changed; page tables: %lu, by walks alone %lu\n",
	       logged.reported, logged.changed, logged.tables, counted.walked);
	printf("first entry of L2: %lu VMs, %lu calls meanwhile; seed %u\n", vms, first_calls,
	       seed);
}

static void check_work(void)
{
	uint32_t i;

	for (i = 0; i < NR_KINDS; i++)
		TEST_ASSERT(counted.rounds[i], "%s: wanted rounds of L2, got 0", kinds[i]);
	TEST_ASSERT(counted.during, "no-pause: wanted rounds of L2 during calls, got 0");
	TEST_ASSERT(counted.nested_faults, "without tables: wanted nested page faults, got 0");
	TEST_ASSERT(logged.changed, "logs: wanted pages that changed, got 0");
}

int main(int argc, char *argv[])
{
	uint32_t seed = 1, vms = 16;
	uint64_t seconds = 6, calls;
	bool forced = false;
	pthread_t thread;
	int opt;

	while ((opt = getopt(argc, argv, "t:n:s:f")) != -1) {
		if (opt == 't')
			seconds = atoi_positive("Seconds", optarg);
		else if (opt == 'n')
			vms = atoi_positive("VMs", optarg);
		else if (opt == 's')
			seed = atoi_non_negative("Seed", optarg);
		else if (opt == 'f')
			forced = true;
		else
			TEST_FAIL("options: -t seconds -n VMs -s seed -f");
	}
	mrl_require();
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_NPT));
	mrl_check_forced_emulation(forced);

	rng = new_guest_random_state(seed);
	alloc_memory();
	measure_both();
	thread = start_noise();
	calls = first_entries(vms);
	run(1, seconds);
	run(2, seconds);
	WRITE_ONCE(noise_stops, true);
	pthread_join(thread, NULL);
	print_result(vms, calls, seed);
	check_work();
	return 0;
}
