// SPDX-License-Identifier: GPL-2.0-only
/*
 * No dirty page is lost when KVM_SET_USER_MEMORY_REGION_LIST changes slots.
 *
 * Shows never-lost.  vCPUs write pages, by hardware and by KVM's software writers
 * (string I/O, forced emulation, kvmclock, steal time), while slots that log are
 * split, merged, renamed, shrunk, grown, re-backed, deleted, created, and logging
 * is turned off and on.  For each page of each backing the host keeps a copy of
 * what it held when it was last reported, or entered a log, and asserts that
 *   - a page that left the layout differs from the copy only if its bit was
 *     returned, and does not change after the call has returned
 *   - when all vCPUs are parked, any other page differs only if its log says so
 *   - a page whose slot stopped to log was returned if it was written before.
 *     The guest journals each write under the generation that it reads after
 *     the write from a page that gets a new backing in the same call
 *   - bits that were fetched but not cleared, and initial ones, stay
 *   - no bit of a kept page and no tail is returned
 *   - the guest finds no hole, and every write that it journaled is in memory
 * Bits of pages that were not written are legal; they are counted.  The control
 * -c none only reads the logs, on any kernel; memory_region_list_compare -c old
 * shows what today's ioctls lose.
 *
 * Not shown: dirty rings, PML where the bed has none, guest_memfd, nested guests.
 */
#include <getopt.h>
#include <stdatomic.h>
#include <linux/bitmap.h>

#include "memory_region_list.h"
#include "memory_region_list_dirty.h"

#define NR_IDS		24u
#define FIRST_ID	10
#define TAG_ID		9
#define MAX_RUNS	12

enum { SPLIT = 1, SHRINK = 2, REBACK = 4, DELETE = 8, TOGGLE = 16, ALL = 31 };

static typeof(shared) *sh;
static struct kvm_vm *vm;
static uint8_t *mem[2], *tag_mem;
static struct mrl list;
static struct mrl_layout layout;
static struct guest_random_state rng;
static uint32_t modes = ALL, seed = 1, log_kind;
static bool change = true;
static uint8_t attr[NPAGES];
static atomic_bool may_exit[NPAGES];
static uint64_t tag, first_tag;			/* generation now, and when the round began */

static struct page_state {
	uint64_t copy[8];	/* start of the page when it was last reported */
	bool dirty;		/* fetched but not cleared, or set initially */
	bool gone, moved;	/* is of no slot; left a layout in this round */
} state[2][NPAGES];

/* If the first that a round does to a page is that its slot stops to log. */
static struct {
	uint64_t tag, base;
	bool returned;
} stopped[NPAGES];

static unsigned long bitmap[NPAGES / 64], result[NR_IDS][NPAGES / 64];
static struct {
	uint64_t reported, over, returned, returned_over, exits, stops;
} counted;

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	struct kvm_run *run = vcpu->run;
	struct ucall uc;
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
	r = get_ucall(vcpu, &uc);
	if (r == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(r == UCALL_SYNC, "vCPU %u: wanted a sync, got exit reason %u (%s)", vcpu->id,
		    run->exit_reason, exit_reason_str(run->exit_reason));
	return true;
}

static uint64_t *hva(uint32_t b, uint32_t page)
{
	return (uint64_t *)(mem[b] + page * PAGE_SIZE);
}

static void copy_page(uint32_t b, uint32_t page)
{
	uint32_t i;

	for (i = 0; i < 8; i++)
		state[b][page].copy[i] = READ_ONCE(hva(b, page)[i]);
}

static bool changed(uint32_t b, uint32_t page)
{
	return memcmp(hva(b, page), state[b][page].copy, sizeof(state[b][page].copy));
}

static void harvest_page(uint32_t page, bool bit, bool parked)
{
	uint32_t b = attr[page] & BACKING;
	struct page_state *s = &state[b][page];

	TEST_ASSERT(bit || !s->dirty,
		    "never-lost: page %u: wanted the bit that was fetched but not cleared, got none",
		    page);
	if (!parked)
		return;
	TEST_ASSERT(bit || !changed(b, page),
		    "never-lost: page %u of backing %u: wanted a bit, got none; 0x%lx is 0x%lx, journal 0x%lx",
		    page, b, s->copy[0], *hva(b, page), sh->value[page]);
	counted.reported += bit;
	counted.over += bit && !s->dirty && !changed(b, page);
}

static void harvest(const struct mrl_slot *s, bool parked)
{
	uint32_t first = (s->gpa - BASE_GPA) / PAGE_SIZE, nr = s->size / PAGE_SIZE, i;
	bool leave = log_kind && guest_random_bool(&rng);

	if (s->id == TAG_ID || !(s->flags & KVM_MEM_LOG_DIRTY_PAGES))
		return;
	kvm_vm_get_dirty_log(vm, s->id, bitmap);
	for (i = 0; i < nr; i++)
		harvest_page(first + i, test_bit(i, bitmap), parked);
	if (log_kind && !leave)
		kvm_vm_clear_dirty_log(vm, s->id, bitmap, 0, nr);
	for (i = 0; i < nr; i++) {
		if (!test_bit(i, bitmap))
			continue;
		state[attr[first + i] & BACKING][first + i].dirty = leave;
		if (!leave)
			copy_page(attr[first + i] & BACKING, first + i);
	}
}

static void check_gone(const char *when)
{
	uint32_t b, page;

	for (b = 0; b < 2; b++) {
		for (page = 0; page < NPAGES; page++)
			TEST_ASSERT(!state[b][page].gone || !changed(b, page),
				    "no-stale-mapping: page %u of backing %u %s: wanted 0x%lx, got 0x%lx",
				    page, b, when, state[b][page].copy[0], *hva(b, page));
	}
}

/* @returned is the page's bit in the result bitmap of the slot it was in. */
static void follow_leaving(uint32_t page, uint8_t from, uint8_t to, bool returned)
{
	uint32_t b = from & BACKING;
	struct page_state *s = &state[b][page];
	bool moved = state[0][page].moved || state[1][page].moved;

	s->moved = true;
	if (!logs(from)) {
		s->gone = !(to & PRESENT) || (from ^ to) & BACKING;
		copy_page(b, page);
		return;
	}
	TEST_ASSERT(returned || !s->dirty,
		    "never-lost: page %u: wanted the uncleared bit to be returned, got none", page);
	s->dirty = false;
	counted.returned += returned;
	if (to & PRESENT && !((from ^ to) & BACKING)) {
		/* Verified by check_stopped(), when the journal is complete. */
		if (!moved) {
			stopped[page].tag = tag;
			stopped[page].base = s->copy[0];
			stopped[page].returned = returned;
		}
		return;
	}
	TEST_ASSERT(returned || !changed(b, page),
		    "never-lost: page %u of backing %u left: wanted a bit, got none; 0x%lx is 0x%lx, journal 0x%lx",
		    page, b, s->copy[0], *hva(b, page), sh->value[page]);
	counted.returned_over += returned && !changed(b, page);
	s->gone = true;
	copy_page(b, page);
}

static void follow_page(uint32_t page, uint8_t to, bool returned)
{
	struct page_state *s = &state[to & BACKING][page];
	uint8_t from = attr[page];

	TEST_ASSERT(!returned || !kept(from, to),
		    "never-lost: kept page %u: wanted no returned bit, got one", page);
	if (kept(from, to))
		return;
	if (from & PRESENT && (from ^ to) & (FULL | BACKING))
		follow_leaving(page, from, to, returned);
	/* Writes of this round may have gone nowhere. */
	s->moved |= !(from & PRESENT);
	if (to & PRESENT)
		s->gone = false;
	if (logs(to)) {
		s->dirty = log_kind & KVM_DIRTY_LOG_INITIALLY_SET;
		copy_page(to & BACKING, page);
	}
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

static void follow(const uint8_t *to)
{
	bool returned[NPAGES] = {};
	const struct mrl_slot *s;
	uint32_t i, j, nr, first;
	unsigned long *bits;

	for (i = 0; i < layout.nr; i++) {
		s = &layout.slots[i];
		if (s->id == TAG_ID || !(s->flags & KVM_MEM_LOG_DIRTY_PAGES))
			continue;
		bits = result[s->id - FIRST_ID];
		nr = s->size / PAGE_SIZE;
		first = (s->gpa - BASE_GPA) / PAGE_SIZE;
		for (j = 0; j < nr; j++)
			returned[first + j] = test_bit(j, bits);
		for (; j % 64; j++)
			TEST_ASSERT(!test_bit(j, bits), "tail bit %u: wanted 0, got 1", j);
	}
	for (i = 0; i < NPAGES; i++)
		follow_page(i, to[i], returned[i]);
	memcpy(attr, to, NPAGES);
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

/* The rest is with parked vCPUs. */
static void check_stopped(uint32_t page)
{
	uint64_t t, value;

	for (t = first_tag; t < stopped[page].tag; t++) {
		value = sh->tagged[page][t % NR_TAGS];
		counted.stops += value > stopped[page].base;
		TEST_ASSERT(value <= stopped[page].base || stopped[page].returned,
			    "never-lost: page %u, log stopped: wanted a bit, got none; 0x%lx written, gen %lu of %lu, 0x%lx told",
			    page, value, t, stopped[page].tag, stopped[page].base);
	}
}

/* A write of this round to a page that stayed where it was is there. */
static void check_journal(uint32_t page)
{
	uint64_t got = *hva(attr[page] & BACKING, page), value = 0;
	uint32_t i;

	if (state[0][page].moved || state[1][page].moved || may_exit[page])
		return;
	for (i = 0; i < NR_TAGS; i++)
		value = max(value, sh->tagged[page][i]);
	TEST_ASSERT(!value || got == value, "page %u: wanted the journaled 0x%lx, got 0x%lx",
		    page, value, got);
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
	memset(stopped, 0, sizeof(stopped));
	memset(sh->tagged, 0, sizeof(sh->tagged));
	first_tag = tag;
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
		if (timespec_to_ns(timespec_elapsed(start)) > seconds * NSEC_PER_SEC)
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
	printf("mrl-dirty log=%u modes=0x%x vcpus=%d seed=%u rounds=%lu transactions=%lu", kind,
	       modes, mrl_vcpus.nr, seed, rounds, transactions);
	printf(" reported=%lu over=%lu returned=%lu returned_over=%lu stopped=%lu exits=%lu\n",
	       counted.reported, counted.over, counted.returned, counted.returned_over,
	       counted.stops, counted.exits);
	mrl_vcpus_stop();
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	static const char *const names[] = {
		"split", "shrink", "reback", "delete", "toggle", "all"
	};
	static const uint32_t kinds[] = { 0, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET };
	uint64_t seconds = 3, rounds = 0;
	uint32_t i;
	int opt, kind = -1;

	while ((opt = getopt(argc, argv, "t:n:v:m:s:l:c:")) != -1) {
		if (opt == 't')
			seconds = atoi_positive("Seconds per kind of log", optarg);
		else if (opt == 'n')
			rounds = atoi_positive("Rounds per kind of log", optarg);
		else if (opt == 'v')
			mrl_vcpus.nr = atoi_positive("Number of vCPUs", optarg);
		else if (opt == 's')
			seed = atoi_non_negative("Seed", optarg);
		else if (opt == 'l')
			kind = atoi_non_negative("0 plain, 1 manual, 2 initially set", optarg);
		else if (opt == 'c' && !strcmp(optarg, "none"))
			change = false;
		else if (opt != 'm')
			TEST_FAIL("options: -t -n rounds -v vCPUs -m mode -s seed -l log -c none");
		for (i = 0; opt == 'm' && i < ARRAY_SIZE(names); i++) {
			if (!strcmp(optarg, names[i]))
				modes = i == 5 ? ALL : 1 << i;
		}
	}
	if (change)
		TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));
	rng = new_guest_random_state(seed);
	mem[0] = mrl_mem_alloc(NPAGES * PAGE_SIZE);
	mem[1] = mrl_mem_alloc(NPAGES * PAGE_SIZE);
	tag_mem = mrl_mem_alloc(NR_TAGS * PAGE_SIZE);
	list = mrl_alloc(2 * MRL_LAYOUT_MAX);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (kind < 0 || kind == i)
			run(kinds[i], seconds, rounds);
	}
	return 0;
}
