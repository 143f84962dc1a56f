// SPDX-License-Identifier: GPL-2.0-only
/*
 * What KVM_SET_USER_MEMORY_REGION_LIST is good for: the same job done twice on
 * the same VM, with today's ioctls and with one list call.
 *
 * The guest reads, writes and executes memory of one slot that logs dirty pages,
 * by hardware and through KVM's emulator, while the slot is split in two and
 * merged again.  A transaction is one split or one merge:
 *   today: KVM_GET_DIRTY_LOG and delete of each old slot, create of each new one
 *   list:  one KVM_SET_USER_MEMORY_REGION_LIST
 *
 * A hole is an exit (MMIO, failed emulation) or an EFAULT at a page that both
 * layouts cover.  The VMM here completes such accesses, which real ones cannot.
 * A lost page was written, but no log reported it: at the end of each round all
 * vCPUs are parked, the logs are read, and the memory is compared with a copy
 * that follows the logs.  Writes that the VMM completed do not count as lost.
 * Zaps and faults are sampled with parked vCPUs: all pages are read, then one
 * transaction, then all pages are read again.
 *
 * Not shown: other kinds of change, several address spaces, memory that is not
 * anonymous.  memory_region_list_race_test and _dirty_test go further.
 */
#include <pthread.h>
#include <getopt.h>
#include <stdatomic.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "memory_region_list.h"
#include "memory_region_list_vcpus.h"

#define BASE_GPA	(4ul << 30)
#define NPAGES		1024u
#define CODE_PAGE	(NPAGES - 1)
#define DATA_PAGES	CODE_PAGE
#define STUB_VALUE	0x5eed
#define ROUND		16	/* transactions between two comparisons */
#define SAMPLE_EVERY	8	/* rounds */
#define SLOT_A		10
#define SLOT_B		11

typedef uint64_t (*guest_stub)(void);

/* In memslot 0, which never changes.  Guest and host both use it. */
static struct {
	uint32_t park;
	uint32_t touch;
	uint32_t io_value[MRL_MAX_VCPUS];
} shared;

/* Of one side of the comparison. */
enum { TRANSACTIONS, HOLES, MMIO, EMULATION, EFAULTS, LOST, NR_COUNTS };

struct result {
	uint64_t n[NR_COUNTS];
	uint64_t samples, zapped, faults, grace;
	bool has_grace;
};

static const char *const counts[NR_COUNTS][2] = {
	[TRANSACTIONS]	= { "transactions", "transactions" },
	[HOLES]		= { "holes the guest fell into", "holes" },
	[MMIO]		= { "  MMIO exits", "mmio" },
	[EMULATION]	= { "  failed emulations", "emulation" },
	[EFAULTS]	= { "  EFAULT from KVM_RUN", "efault" },
	[LOST]		= { "dirty pages lost", "lost" },
};

static struct kvm_vm *vm;
static typeof(shared) *sh;
static uint8_t *mem;
static struct mrl list;
static struct mrl_layout layout;
static struct guest_random_state rng;
static uint32_t seed = 1;
static bool use_list;
static atomic_ulong seen[NR_COUNTS];
static bool retrying[MRL_MAX_VCPUS];
/* What the word of each page was when the page was last known to be reported. */
static pthread_mutex_t copy_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t copy[NPAGES];
static unsigned long bitmap[NPAGES / 64 + 1];

static uint64_t *guest_word(uint32_t page)
{
	return (uint64_t *)(BASE_GPA + page * PAGE_SIZE);
}

static void guest_touch(void)
{
	uint32_t page;

	while (READ_ONCE(shared.touch)) {
		for (page = 0; page < NPAGES; page++)
			READ_ONCE(*guest_word(page));
		WRITE_ONCE(shared.touch, 0);
		GUEST_SYNC(0);
	}
}

/* Pages are shared out: each has one writer, so a page's word only ever grows. */
static void guest_main(uint32_t me, uint32_t nr)
{
	uint32_t park = 0, page = me;
	uint64_t value = 0, got;

	for (;;) {
		page = page + nr < DATA_PAGES ? page + nr : me;
		value++;
		WRITE_ONCE(*guest_word(page), value);
		READ_ONCE(*guest_word((page * 7 + value) % DATA_PAGES));
		if (!(value % 16)) {
			got = ((guest_stub)guest_word(CODE_PAGE))();
			__GUEST_ASSERT(got == STUB_VALUE,
				       "Code in the slot: wanted 0x%x, got 0x%lx",
				       STUB_VALUE, got);
		}
		if (!(value % 256))
			mrl_guest_outs(guest_word(page) + 1);
		if (value % 256 == 128)
			mrl_guest_ins(guest_word(page) + 1);
		if (READ_ONCE(shared.park) != park) {
			park = READ_ONCE(shared.park);
			GUEST_SYNC(0);
			guest_touch();
		}
	}
}

/* Complete the access as if the hole were not there. */
static void complete_mmio(struct kvm_run *run)
{
	uint64_t offset = run->mmio.phys_addr - BASE_GPA;
	uint32_t page = offset / PAGE_SIZE;

	TEST_ASSERT(page < NPAGES, "MMIO: wanted an address in the slot, got 0x%llx",
		    run->mmio.phys_addr);
	if (use_list && !seen[MMIO])
		fprintf(stderr, "\nhole: MMIO %s at page %u\n",
			run->mmio.is_write ? "write" : "read", page);
	seen[MMIO]++;
	if (!run->mmio.is_write) {
		memcpy(run->mmio.data, mem + offset, run->mmio.len);
		return;
	}
	pthread_mutex_lock(&copy_lock);
	memcpy(mem + offset, run->mmio.data, run->mmio.len);
	copy[page] = *(uint64_t *)(mem + page * PAGE_SIZE);
	pthread_mutex_unlock(&copy_lock);
}

static void handle_io(struct kvm_run *run, uint32_t id)
{
	uint32_t *data = (void *)run + run->io.data_offset;

	if (run->io.direction == KVM_EXIT_IO_IN)
		*data = ++sh->io_value[id];
}

/* Returns true if the vCPU came to a GUEST_SYNC(). */
static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	bool retry = retrying[vcpu->id];
	struct kvm_run *run = vcpu->run;

	retrying[vcpu->id] = false;
	if (r) {
		TEST_ASSERT(errno == EFAULT, "KVM_RUN: wanted 0 or EFAULT, got %d", errno);
		seen[EFAULTS]++;
		return false;
	}
	if (run->exit_reason == KVM_EXIT_MMIO) {
		complete_mmio(run);
		return false;
	}
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
		TEST_ASSERT(run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION,
			    "Internal error: wanted suberror %u, got %u",
			    KVM_INTERNAL_ERROR_EMULATION, run->internal.suberror);
		/* The instruction runs again until the slot is back: one hole. */
		seen[EMULATION] += !retry;
		retrying[vcpu->id] = true;
		return false;
	}
	if (run->exit_reason == KVM_EXIT_IO && run->io.port == MRL_IO_PORT) {
		handle_io(run, vcpu->id);
		return false;
	}
	mrl_vcpu_expect_sync(vcpu);
	return true;
}

/* Read the log of @s.  What it reports is known from here on. */
static void harvest(const struct mrl_slot *s)
{
	uint32_t i, first = (s->gpa - BASE_GPA) / PAGE_SIZE;

	kvm_vm_get_dirty_log(vm, s->id, bitmap);
	pthread_mutex_lock(&copy_lock);
	for (i = 0; i < s->size / PAGE_SIZE; i++) {
		if (test_bit(i, bitmap))
			copy[first + i] = READ_ONCE(*(uint64_t *)(mem + (first + i) * PAGE_SIZE));
	}
	pthread_mutex_unlock(&copy_lock);
}

static void transaction(void)
{
	uint32_t cut = 1 + guest_random_u32(&rng) % (NPAGES - 1);
	struct mrl_layout next = {};

	if (layout.nr > 1)
		cut = NPAGES;
	mrl_layout_add(&next, SLOT_A, KVM_MEM_LOG_DIRTY_PAGES, BASE_GPA, cut * PAGE_SIZE, mem);
	if (cut < NPAGES)
		mrl_layout_add(&next, SLOT_B, KVM_MEM_LOG_DIRTY_PAGES, BASE_GPA + cut * PAGE_SIZE,
			       (NPAGES - cut) * PAGE_SIZE, mem + cut * PAGE_SIZE);
	if (use_list) {
		mrl_reset(&list);
		mrl_add_change(&list, &layout, &next, false);
		mrl_apply(vm, &list);
	} else {
		mrl_change_old(vm, &layout, &next, harvest);
	}
	layout = next;
}

static uint64_t compare(void)
{
	uint64_t lost = 0, now;
	uint32_t i;

	for (i = 0; i < layout.nr; i++)
		harvest(&layout.slots[i]);
	for (i = 0; i < DATA_PAGES; i++) {
		now = *(uint64_t *)(mem + i * PAGE_SIZE);
		if (now != copy[i] && use_list && !lost)
			fprintf(stderr, "\nlost: page %u, wanted a dirty bit, 0x%lx is now 0x%lx\n",
				i, copy[i], now);
		lost += now != copy[i];
		copy[i] = now;
	}
	return lost;
}

static uint64_t stat_or_zero(const char *name)
{
	uint64_t value = 0;

	mrl_read_vm_stat(vm, name, &value);
	return value;
}

static uint64_t mapped_pages(void)
{
	return stat_or_zero("pages_4k") + 512 * stat_or_zero("pages_2m") +
	       512 * 512 * stat_or_zero("pages_1g");
}

/* Let the parked vCPU 0 read all pages, return how many faults that took. */
static uint64_t touch_all(void)
{
	uint64_t before = 0, after = 0;

	mrl_read_vcpu_stat(mrl_vcpus.vcpu[0], "pf_taken", &before);
	WRITE_ONCE(sh->touch, 1);
	while (!handle_exit(mrl_vcpus.vcpu[0], __vcpu_run(mrl_vcpus.vcpu[0])))
		;
	TEST_ASSERT(mrl_read_vcpu_stat(mrl_vcpus.vcpu[0], "pf_taken", &after),
		    "vCPU stat pf_taken: wanted one, got none");
	return after - before;
}

static void sample(struct result *r)
{
	uint64_t mapped;

	touch_all();
	mapped = mapped_pages();
	transaction();
	r->zapped += mapped - min(mapped, mapped_pages());
	r->faults += touch_all();
	r->samples++;
	r->n[TRANSACTIONS]++;
}

static void progress(const char *name, struct result *r, bool last)
{
	static struct timespec shown;
	int i;

	for (i = MMIO; i <= EFAULTS; i++)
		r->n[i] = seen[i];
	r->n[HOLES] = r->n[MMIO] + r->n[EMULATION] + r->n[EFAULTS];
	if (!last && timespec_to_ns(timespec_elapsed(shown)) < NSEC_PER_SEC)
		return;
	clock_gettime(CLOCK_MONOTONIC, &shown);
	fprintf(stderr, "%s: %lu transactions, %lu holes, %lu lost pages\n", name,
		r->n[TRANSACTIONS], r->n[HOLES], r->n[LOST]);
}

/* At most @max transactions, or @ns nanoseconds; 0 is no bound. */
static void run_side(const char *name, struct result *r, uint64_t max, uint64_t ns)
{
	uint64_t grace = 0;
	struct timespec start;
	uint32_t round, i;

	memset(seen, 0, sizeof(seen));
	r->has_grace = mrl_read_vm_stat(vm, "memslot_grace_periods", &grace);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (round = 0; !max || r->n[TRANSACTIONS] < max; round++) {
		if (ns && timespec_to_ns(timespec_elapsed(start)) > ns)
			break;
		if (round % SAMPLE_EVERY == 0)
			sample(r);
		mrl_vcpus_go();
		for (i = 0; i < ROUND; i++) {
			/* Today's transaction reads the log anyway. */
			if (use_list && i % 8 == 7)
				harvest(&layout.slots[0]);
			transaction();
		}
		mrl_vcpus_park();
		r->n[TRANSACTIONS] += ROUND;
		r->n[LOST] += compare();
		progress(name, r, false);
	}
	r->grace = stat_or_zero("memslot_grace_periods") - grace;
	progress(name, r, true);
}

static const char *mmu_mode(void)
{
	bool tdp = kvm_is_tdp_enabled();
	const char *hw = host_cpu_is_intel ? "EPT" : "NPT";
	static char mode[64];

	if (!tdp)
		return "shadow paging";
	snprintf(mode, sizeof(mode), "%s, %s", hw,
		 get_kvm_param_bool("tdp_mmu") ? "TDP MMU" : "legacy MMU");
	return mode;
}

/* A number with thousands separators and, if @scale is 10, one decimal; or "-". */
static const char *text(bool measured, uint64_t value, uint32_t scale)
{
	static char buf[2][40];
	static int turn;
	char digits[24], *p = buf[turn ^= 1];
	int i, len = snprintf(digits, sizeof(digits), "%lu", value / scale);

	if (!measured)
		return "-";
	for (i = 0; i < len; i++) {
		*p++ = digits[i];
		if (i < len - 1 && !((len - 1 - i) % 3))
			*p++ = ',';
	}
	*p = 0;
	if (scale == 10)
		sprintf(p, ".%lu", value % 10);
	return buf[turn];
}

static void row(const char *name, const char *today, const char *list)
{
	printf("  %-40s %12s %14s\n", name, today, list);
}

static const char *mean(uint64_t sum, uint64_t n)
{
	return text(n, n ? (sum * 10 + n / 2) / n : 0, 10);
}

static void print_table(const struct result *t, const struct result *l)
{
	uint64_t nt = t->n[TRANSACTIONS], nl = l->n[TRANSACTIONS];
	int i;

	printf("\n%s.  %d vCPUs use %u pages of one slot, dirty logging on, while the slot\n"
	       "is split in two and merged again: one transaction each.\n\n",
	       mmu_mode(), mrl_vcpus.nr, NPAGES);
	row("", "today", "list call");
	for (i = 0; i < NR_COUNTS; i++)
		row(counts[i][0], text(nt, t->n[i], 1), text(nl, l->n[i], 1));
	row("pages zapped per transaction",
	    mean(t->zapped, t->samples), mean(l->zapped, l->samples));
	row("guest faults afterwards per transaction",
	    mean(t->faults, t->samples), mean(l->faults, l->samples));
	row("grace periods per transaction",
	    mean(t->grace, t->has_grace ? nt : 0), mean(l->grace, l->has_grace ? nl : 0));
	printf("\n");
}

/* One line for programs.  No field for what was not measured. */
static void print_machine(const char *side, const struct result *r)
{
	int i;

	printf("mrl-compare side=%s mmu=\"%s\" vcpus=%d pages=%u seed=%u", side, mmu_mode(),
	       mrl_vcpus.nr, NPAGES, seed);
	for (i = 0; i < NR_COUNTS; i++)
		printf(" %s=%lu", counts[i][1], r->n[i]);
	if (r->samples)
		printf(" samples=%lu zapped=%lu faults=%lu", r->samples, r->zapped, r->faults);
	if (r->has_grace)
		printf(" grace=%lu", r->grace);
	printf("\n");
}

static void setup(void)
{
	static const uint8_t stub[] = { 0xb8, STUB_VALUE & 0xff, STUB_VALUE >> 8, 0, 0, 0xc3 };

	vm = mrl_vcpus_create(guest_main);
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	mem = mrl_vcpus_mem_alloc(NPAGES * PAGE_SIZE);
	memcpy(mem + CODE_PAGE * PAGE_SIZE, stub, sizeof(stub));
	list = mrl_alloc(8);
	mrl_layout_add(&layout, SLOT_A, KVM_MEM_LOG_DIRTY_PAGES, BASE_GPA, NPAGES * PAGE_SIZE, mem);
	vm_set_user_memory_region(vm, SLOT_A, KVM_MEM_LOG_DIRTY_PAGES, BASE_GPA,
				  NPAGES * PAGE_SIZE, mem);
	virt_map(vm, BASE_GPA, BASE_GPA, NPAGES);
	mrl_vcpus_start(&sh->park, handle_exit);
	compare();
}

static void help(const char *name)
{
	printf("usage: %s [-n list transactions] [-t seconds of today's side] [-v vCPUs]\n"
	       "       [-s seed] [-c old: only today's side, on any kernel]\n", name);
	exit(1);
}

int main(int argc, char *argv[])
{
	uint64_t max_list = 3500, seconds = 5;
	struct result today = {}, one = {};
	bool today_only = false;
	int opt;

	while ((opt = getopt(argc, argv, "n:t:v:s:c:")) != -1) {
		if (opt == 'n')
			max_list = atoi_positive("List transactions", optarg);
		else if (opt == 't')
			seconds = atoi_positive("Seconds of today's side", optarg);
		else if (opt == 'v')
			mrl_vcpus.nr = atoi_positive("Number of vCPUs", optarg);
		else if (opt == 's')
			seed = atoi_non_negative("Seed", optarg);
		else if (opt == 'c' && !strcmp(optarg, "old"))
			today_only = true;
		else
			help(argv[0]);
	}
	if (!today_only)
		TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));
	rng = new_guest_random_state(seed);
	setup();

	run_side("today", &today, 0, seconds * NSEC_PER_SEC);

	/* Both sides begin with one slot. */
	if (layout.nr > 1)
		transaction();
	use_list = true;
	if (!today_only)
		run_side("list", &one, max_list, 0);
	mrl_vcpus_stop();

	print_table(&today, &one);
	print_machine("today", &today);
	if (!today_only)
		print_machine("list", &one);
	kvm_vm_free(vm);
	return !(today.n[HOLES] && today.n[LOST] && !one.n[HOLES] && !one.n[LOST]);
}
