// SPDX-License-Identifier: GPL-2.0-only
/*
 * No dirty page is lost when KVM_SET_USER_MEMORY_REGION_LIST changes slots.
 *
 * Shows never-lost.  vCPUs write pages, by hardware and by KVM's software writers
 * (string I/O, forced emulation, kvmclock, steal time), and have page tables there
 * in which the CPU or KVM sets accessed and dirty bits, while slots that log are
 * split, merged, renamed, shrunk, grown, re-backed, deleted, created, and logging
 * is turned off and on.  For each page of each backing the host keeps a copy of
 * what it held when it was last reported, or entered a log, and asserts that
 *   - a page that left the layout differs from the copy only if its bit was
 *     returned, and does not change after the call has returned
 *   - when all vCPUs are parked, any other page differs only if its log says so
 *   - a page whose slot stopped to log was returned if it was written before,
 *     which is not shown of page tables.  The guest journals each write under the
 *     generation that it reads after the write from a page that gets a new backing
 *     in the same call
 *   - bits that were fetched but not cleared, and initial ones, stay
 *   - no bit of a kept page and no tail is returned
 *   - the guest finds no hole, and every write that it journaled is in memory
 * Bits of pages that were not written are legal; they are counted.  When all vCPUs
 * are parked, the host clears accessed and dirty bits, so that walks set them again.
 *
 * The emulator is forced to write only if kvm.force_emulation_prefix is set; -f fails
 * without, else the first line of output says so.  The control -c none only reads
 * the logs, on any kernel; memory_region_list_compare -c old shows what today's
 * ioctls lose.
 *
 * Not shown: dirty rings, PML where the bed has none, guest_memfd, nested guests.
 */
#include <getopt.h>
#include <stdatomic.h>
#include <linux/bitmap.h>

#include "memory_region_list.h"
#include "memory_region_list_dirty.h"
#include "memory_region_list_dirty_state.h"

#define MAX_RUNS	12

enum { SPLIT = 1, SHRINK = 2, REBACK = 4, DELETE = 8, TOGGLE = 16, ALL = 31 };

static uint8_t *tag_mem;
static struct mrl list;
static uint32_t modes = ALL, seed = 1;
static bool change = true;

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	struct kvm_run *run = vcpu->run;
	uint64_t page;

	TEST_ASSERT(!r, "no-hole: KVM_RUN of vCPU %u: wanted 0, got errno %d", vcpu->id, errno);
	if (run->exit_reason == KVM_EXIT_MMIO) {
		page = (run->mmio.phys_addr - BASE_GPA) / PAGE_SIZE;
		TEST_ASSERT(page < NPAGES && may_exit[page],
			    "no-hole: vCPU %u wanted no exit, got MMIO %s at page %lu", vcpu->id,
			    run->mmio.is_write ? "write" : "read", page);
		counted.exits++;
		memset(run->mmio.data, 0, sizeof(run->mmio.data));
		return false;
	}
	if (run->exit_reason == KVM_EXIT_IO && run->io.port == MRL_IO_PORT) {
		*(uint32_t *)((void *)run + run->io.data_offset) = ++sh->in_value[vcpu->id];
		vcpu_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
		return false;
	}
	mrl_vcpu_expect_sync(vcpu);
	return true;
}

static uint32_t mutate(uint8_t *to)
{
	uint32_t first = guest_random_u32(&rng) % NPAGES, page, runs = 1;
	uint32_t end = first + 1 + guest_random_u32(&rng) % (NPAGES - first);
	uint32_t op = 1 << guest_random_u32(&rng) % 5;

	if (op == SHRINK && guest_random_bool(&rng))
		first = 0;
	for (page = 0; page < NPAGES && op & modes; page++) {
		if (op == SHRINK)
			to[page] = page >= first && page < end ? to[page] | PRESENT :
								 to[page] & ~PRESENT;
		else if (op != SPLIT && page >= first && page < end)
			to[page] ^= op == REBACK ? BACKING : op == TOGGLE ? LOG : PRESENT;
	}
	/* A guest without page tables can't run. */
	for (page = TABLES; page < TABLES + NR_TABLES; page++)
		to[page] |= PRESENT;
	for (page = 1; page < NPAGES; page++)
		runs += to[page] != to[page - 1];
	if (runs > MAX_RUNS)
		memset(to, FULL, NPAGES);
	return op & modes;
}

static void add_piece(struct mrl_layout *next, uint32_t first, uint32_t end, uint8_t a)
{
	static uint32_t start;

	/* Ids that move on with each piece: slots trade theirs. */
	if (a & PRESENT)
		mrl_layout_add(next, FIRST_ID + start++ % NR_IDS,
			       a & LOG ? KVM_MEM_LOG_DIRTY_PAGES : 0, BASE_GPA + first * PAGE_SIZE,
			       (end - first) * PAGE_SIZE, mem[a & BACKING] + first * PAGE_SIZE);
}

static void make_layout(struct mrl_layout *next, const uint8_t *to)
{
	uint32_t nr_cuts = guest_random_u32(&rng) % 6, first = 0, page;

	*next = (struct mrl_layout) {};
	for (page = 1; page <= NPAGES; page++) {
		if (page < NPAGES && to[page] == to[first] &&
		    (next->nr >= NR_IDS - MAX_RUNS || guest_random_u32(&rng) % NPAGES >= nr_cuts))
			continue;
		add_piece(next, first, page, to[first]);
		first = page;
	}
	mrl_layout_add(next, TAG_ID, 0, BASE_GPA + TAG * PAGE_SIZE, PAGE_SIZE,
		       tag_mem + tag % NR_TAGS * PAGE_SIZE);
}

/* A result bitmap for each slot that logged, if anything leaves it or by chance. */
static void add_results(const uint8_t *to)
{
	const struct mrl_slot *s;
	uint32_t i, page, nr;
	mrl_entry *e;
	bool leaves;

	memset(result, 0, sizeof(result));
	for (i = 0; i < list.list->nent; i++) {
		e = &list.list->entries[i];
		s = mrl_layout_find(&layout, e->slot);
		if (!s || !(s->flags & KVM_MEM_LOG_DIRTY_PAGES))
			continue;
		page = (s->gpa - BASE_GPA) / PAGE_SIZE;
		for (nr = s->size / PAGE_SIZE, leaves = false; nr; page++, nr--)
			leaves |= !kept(attr[page], to[page]);
		nr = DIV_ROUND_UP(s->size / PAGE_SIZE, 64) * 8;
		if (!leaves && guest_random_bool(&rng))
			continue;
		memset(result[s->id - FIRST_ID], 0xff, nr);
		mrl_result(e, result[s->id - FIRST_ID], nr);
	}
}

static void transaction(void)
{
	struct mrl_layout next;
	uint8_t to[NPAGES];
	uint32_t ops, page;

	memcpy(to, attr, NPAGES);
	ops = mutate(to);
	if (guest_random_bool(&rng))
		ops |= mutate(to);
	if (ops & TOGGLE) {
		tag++;
		*(uint64_t *)(tag_mem + tag % NR_TAGS * PAGE_SIZE) = tag;
	}
	make_layout(&next, to);
	for (page = 0; page < NPAGES; page++) {
		if (!(to[page] & PRESENT))
			may_exit[page] = true;
	}
	check_gone("before a call");
	mrl_reset(&list);
	mrl_add_change(&list, &layout, &next, guest_random_bool(&rng));
	add_results(to);
	mrl_apply(vm, &list);
	follow(to);
	layout = next;
}

static void end_round(void)
{
	uint32_t page, i;

	for (page = 0; page < NPAGES; page++) {
		check_stopped(page);
		check_journal(page);
		may_exit[page] = !(attr[page] & PRESENT);
		state[0][page].moved = false;
		state[1][page].moved = false;
	}
	check_gone("at the end of a round");
	for (i = 0; i < layout.nr; i++)
		harvest(&layout.slots[i], true);
	clear_accessed();
	memset(stopped, 0, sizeof(stopped));
	memset(sh->tagged, 0, sizeof(sh->tagged));
	first_tag = tag;
}

static void map_alias(void)
{
	uint64_t *pde, bits = PTE_PRESENT_MASK | PTE_WRITABLE_MASK, gva;
	uint32_t i, b;
	int level;

	for (i = 0; i < ALIASES; i++) {
		for (b = 0; b < 2; b++)
			hva(b, TABLES + i / TABLE_PTES)[i % TABLE_PTES] =
				(BASE_GPA + i * PAGE_SIZE) | bits;
	}
	for (i = 0; i < NR_TABLES; i++) {
		level = PG_LEVEL_2M;
		gva = ALIAS_GVA + i * (2ul << 20);
		virt_map(vm, gva, BASE_GPA, 1);
		pde = __vm_get_page_table_entry(vm, gva, &level);
		*pde = (BASE_GPA + (TABLES + i) * PAGE_SIZE) | bits;
	}
}

static void setup(void)
{
	struct mrl_layout empty = {};
	uint8_t full[NPAGES];
	int i;

	vm = mrl_vcpus_create(guest_main);
	if (log_kind)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, log_kind);
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	for (i = 0; i < 2; i++)
		memset(mem[i], 0, NPAGES * PAGE_SIZE);
	map_alias();
	memset(state, 0, sizeof(state));
	memset(attr, 0, NPAGES);
	memset(may_exit, 0, sizeof(may_exit));
	memset(full, FULL, NPAGES);
	make_layout(&layout, full);
	mrl_change_old(vm, &empty, &layout, NULL);
	memset(result, 0, sizeof(result));
	follow(full);
	virt_map(vm, BASE_GPA, BASE_GPA, NPAGES + 1);
	for (i = 0; i < mrl_vcpus.nr; i++) {
		vcpu_set_msr(mrl_vcpus.vcpu[i], MSR_KVM_SYSTEM_TIME_NEW,
			     (BASE_GPA + (CLOCK + i) * PAGE_SIZE) | KVM_MSR_ENABLED);
		vcpu_set_msr(mrl_vcpus.vcpu[i], MSR_KVM_STEAL_TIME,
			     (BASE_GPA + (STEAL + i) * PAGE_SIZE) | KVM_MSR_ENABLED);
	}
	mrl_vcpus_start(&sh->park, handle_exit);
	end_round();
}

/* Of each kind something that had to be found was found. */
static bool has_worked(uint64_t transactions)
{
	if (!counted.walks || !counted.tables || counted.reported == counted.over)
		return false;
	return !change || (transactions && (modes != ALL ||
		(counted.returned > counted.returned_over && counted.stops)));
}

/* A slow host gets up to ten times as long. */
static bool is_over(uint64_t seconds, uint64_t ns, bool worked)
{
	return ns > seconds * NSEC_PER_SEC && (worked || ns > 10 * seconds * NSEC_PER_SEC);
}

static void print_result(uint64_t rounds, uint64_t transactions)
{
	uint64_t emulated = mrl_check_emulated(vm);

	printf("mrl-dirty log=%u modes=0x%x vcpus=%d seed=%u fep=%d rounds=%lu transactions=%lu",
	       log_kind, modes, mrl_vcpus.nr, seed, is_forced_emulation_enabled, rounds,
	       transactions);
	printf(" reported=%lu over=%lu returned=%lu returned_over=%lu stopped=%lu exits=%lu",
	       counted.reported, counted.over, counted.returned, counted.returned_over,
	       counted.stops, counted.exits);
	printf(" walks=%lu tables=%lu emulated=%lu forced=%lu\n", counted.walks, counted.tables,
	       emulated, mrl_forced);
}

static void run(uint32_t kind, uint64_t seconds, uint64_t max_rounds)
{
	uint64_t rounds, transactions = 0;
	struct timespec start;
	uint32_t calls;

	log_kind = kind;
	memset(&counted, 0, sizeof(counted));
	setup();
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (rounds = 0; !max_rounds || rounds < max_rounds; rounds++) {
		if (is_over(seconds, timespec_to_ns(timespec_elapsed(start)),
			    max_rounds || has_worked(transactions)))
			break;
		mrl_vcpus_go();
		for (calls = 1 + guest_random_u32(&rng) % 4; calls; calls--) {
			if (guest_random_bool(&rng))
				harvest(&layout.slots[guest_random_u32(&rng) % layout.nr], false);
			if (change)
				transaction();
			transactions += change;
		}
		mrl_vcpus_park();
		end_round();
	}
	print_result(rounds, transactions);
	TEST_ASSERT(max_rounds || has_worked(transactions),
		    "wanted walks, tables, reported > over%s, got %lu, %lu, %lu > %lu, %lu > %lu, %lu",
		    change ? ", returned > returned_over, stopped" : "", counted.walks,
		    counted.tables, counted.reported, counted.over, counted.returned,
		    counted.returned_over, counted.stops);
	TEST_ASSERT(change == !!transactions, "wanted %s transactions, got %lu",
		    change ? "some" : "0", transactions);
	mrl_vcpus_stop();
	kvm_vm_free(vm);
}

static uint32_t parse_mode(const char *name)
{
	static const char *const names[] = { "split", "shrink", "reback", "delete", "toggle" };
	int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(name, names[i]))
			return 1 << i;
	}
	TEST_ASSERT(!strcmp(name, "all"),
		    "-m: wanted split, shrink, reback, delete, toggle or all, got %s", name);
	return ALL;
}

int main(int argc, char *argv[])
{
	static const uint32_t kinds[] = { 0, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET };
	uint64_t seconds = 3, rounds = 0;
	bool forced = false;
	int opt, kind = -1;
	uint32_t i;

	while ((opt = getopt(argc, argv, "t:n:v:m:s:l:c:f")) != -1) {
		if (opt == 't')
			seconds = atoi_positive("Seconds per kind of log", optarg);
		else if (opt == 'n')
			rounds = atoi_positive("Rounds per kind of log", optarg);
		else if (opt == 'v')
			mrl_vcpus.nr = atoi_positive("Number of vCPUs", optarg);
		else if (opt == 'm')
			modes = parse_mode(optarg);
		else if (opt == 's')
			seed = atoi_non_negative("Seed", optarg);
		else if (opt == 'l')
			kind = atoi_non_negative("0 plain, 1 manual, 2 initially set", optarg);
		else if (opt == 'c' && !strcmp(optarg, "none"))
			change = false;
		else if (opt == 'f')
			forced = true;
		else
			TEST_FAIL("options: -t -n rounds -v vCPUs -m mode -s seed -l log -c -f");
	}
	TEST_ASSERT(kind < (int)ARRAY_SIZE(kinds), "-l: wanted 0 to 2, got %d", kind);
	mrl_check_forced_emulation(forced);
	if (change)
		TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));
	rng = new_guest_random_state(seed);
	mem[0] = mrl_vcpus_mem_alloc(NPAGES * PAGE_SIZE);
	mem[1] = mrl_vcpus_mem_alloc(NPAGES * PAGE_SIZE);
	tag_mem = mrl_vcpus_mem_alloc(NR_TAGS * PAGE_SIZE);
	list = mrl_alloc(2 * MRL_LAYOUT_MAX);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (kind < 0 || kind == i)
			run(kinds[i], seconds, rounds);
	}
	return 0;
}
