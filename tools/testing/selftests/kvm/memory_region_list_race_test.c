// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests use memory while KVM_SET_USER_MEMORY_REGION_LIST changes its slots.
 *
 * Shows no-hole, no-stale-mapping and no-pause.  vCPUs read, write and execute a
 * range whose slots are split, merged, renamed, re-backed and made read-only in
 * a tight loop, by hardware and by KVM's software accessors: string I/O, forced
 * emulation, walks of guest page tables that lie in the range, kvmclock and steal
 * time.  No access may exit, fault or return a wrong value:
 *   DATA  keeps its backing, each page has one writer that knows the last value.
 *         Some is accessed across two pages, often while a boundary comes or goes
 *   TAG   gets a new backing in each call.  A word of each page tells which, the
 *         host publishes the number before and after the call, and hardware may
 *         not see the old one once any vCPU has seen the new one
 *   RO    goes from read-only to writable and back.  It is read; one half is
 *         written, which may exit, and may not change it while it is read-only
 *   CODE  as TAG, but executed, and fetched by KVM to be emulated
 *   FIX   keeps its backing: a page table, code that straddles two pages, some
 *         of it for the emulator, stacks, kvmclock and steal time
 * What a vCPU writes into TAG must not change a backing after the call that
 * replaces it has returned.  During half of the calls another thread changes a
 * slot of its own by KVM_SET_USER_MEMORY_REGION2 and reads its log.  A kernel with
 * KASAN reports any use-after-free of what was replaced.  The controls
 * run on any kernel: -c none changes nothing, -c old uses today's ioctls, completes
 * accesses to holes and counts them, wants some, but still verifies DATA.
 *
 * The emulator loads, stores and fetches only if kvm.force_emulation_prefix is set;
 * -f fails without, else the first line of output says so.
 *
 * Not shown: SMM, nested guests, guest_memfd, dirty logs (see the dirty test).
 */
#include <getopt.h>
#include <stdatomic.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "memory_region_list.h"
#include "memory_region_list_vcpus.h"
#include "memory_region_list_race.h"
#include "memory_region_list_race_layout.h"
#include "memory_region_list_updater.h"

/* In a run by the clock, however slow the host is.  Old ones are slow themselves. */
#define MIN_TRANSACTIONS	50
#define MIN_OLD_TRANSACTIONS	10

static struct kvm_vm *vm;
static struct mrl list;
static struct mrl_updater updater;
static struct crossings crossings;
static uint32_t backing;		/* of TAG and CODE */
static bool readonly, old_ioctls;
static atomic_ulong nr_mmio, nr_emulation, nr_efault;
static uint64_t tag_words[NR_BACKINGS][RO - TAG][MRL_MAX_VCPUS];
static uint64_t ro_words[CODE - RO_WRITTEN][2];

static void handle_mmio(struct kvm_run *run, uint32_t vcpu)
{
	uint64_t offset = run->mmio.phys_addr - BASE_GPA;
	uint32_t page = offset / PAGE_SIZE;
	bool rebacked = (page >= TAG && page < RO) || (page >= CODE && page < FIX);
	uint8_t *p;

	if (run->mmio.is_write && page >= RO_WRITTEN && page < CODE && sh->modes & READONLY)
		return;
	TEST_ASSERT(old_ioctls && page < NPAGES,
		    "no-hole: vCPU %u wanted no exit, got MMIO %s at 0x%llx, page %u", vcpu,
		    run->mmio.is_write ? "write" : "read", run->mmio.phys_addr, page);
	nr_mmio++;
	p = mem[rebacked ? READ_ONCE(backing) : 0] + offset;
	if (run->mmio.is_write)
		memcpy(p, run->mmio.data, run->mmio.len);
	else
		memcpy(run->mmio.data, p, run->mmio.len);
}

static void handle_io(struct kvm_vcpu *vcpu)
{
	uint64_t wanted = sh->out_wanted[vcpu->id], before;
	struct kvm_run *run = vcpu->run;
	uint32_t *data = (void *)run + run->io.data_offset;

	if (run->io.direction == KVM_EXIT_IO_IN) {
		/* In both halves, which may be of two pages. */
		sh->in_value[vcpu->id] += 0x10001;
		*data = sh->in_value[vcpu->id];
	} else if (sh->out_kind[vcpu->id] == OUT_CLOCK) {
		vcpu_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
	} else if (sh->out_kind[vcpu->id] == OUT_TAG) {
		before = READ_ONCE(sh->before);
		TEST_ASSERT(!sh->strict || (*data >= wanted && *data <= before),
			    "no-stale-mapping: OUTS of vCPU %u: wanted generation %lu to %lu, got %u",
			    vcpu->id, wanted, before, *data);
	} else {
		TEST_ASSERT(*data == (uint32_t)wanted, "OUTS of vCPU %u: wanted 0x%x, got 0x%x",
			    vcpu->id, (uint32_t)wanted, *data);
	}
}

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	struct kvm_run *run = vcpu->run;

	if (r) {
		TEST_ASSERT(old_ioctls && errno == EFAULT,
			    "no-hole: KVM_RUN of vCPU %u: wanted 0, got errno %d", vcpu->id, errno);
		nr_efault++;
		return false;
	}
	if (run->exit_reason == KVM_EXIT_MMIO) {
		handle_mmio(run, vcpu->id);
		return false;
	}
	if (run->exit_reason == KVM_EXIT_IO && run->io.port == MRL_IO_PORT) {
		handle_io(vcpu);
		return false;
	}
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR && old_ioctls &&
	    run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
		nr_emulation++;
		return false;
	}
	mrl_vcpu_expect_sync(vcpu);
	return true;
}

static uint64_t *hva(uint32_t b, uint32_t page)
{
	return (uint64_t *)(mem[b] + page * PAGE_SIZE);
}

/* A function that returns @value. */
static void write_code(void *p, uint32_t value, bool forced)
{
	uint8_t code[] = { 0x0f, 0x0b, 'k', 'v', 'm',
			   0xb8, value, value >> 8, value >> 16, value >> 24, 0xc3 };
	uint32_t prefix = forced ? 0 : 5;

	memcpy(p, code + prefix, sizeof(code) - prefix);
}

/* Set up a backing that no slot uses for generation @n. */
static void stamp(uint32_t b, uint32_t n)
{
	uint32_t page;

	for (page = TAG; page < RO; page++)
		WRITE_ONCE(*hva(b, page), n);
	for (page = CODE; page < FIX; page++) {
		write_code(hva(b, page), n, false);
		write_code((void *)hva(b, page) + FORCED_CODE, n, true);
	}
}

/* A backing that is gone, and read-only pages, keep what they held at return. */
static void check_unchanged(uint64_t *p, uint64_t *copy, uint32_t nr, bool check, const char *what,
			    uint32_t page)
{
	uint32_t i;

	for (i = 0; i < nr; i++) {
		TEST_ASSERT(!check || READ_ONCE(p[i]) == copy[i],
			    "no-stale-mapping: %s page %u, word %u, after return: wanted 0x%lx, got 0x%lx",
			    what, page, i, copy[i], p[i]);
		copy[i] = READ_ONCE(p[i]);
	}
}

static void follow_tag(uint32_t b, bool check)
{
	uint32_t page;

	for (page = TAG; page < RO; page++)
		check_unchanged(hva(b, page) + 1, tag_words[b][page - TAG], mrl_vcpus.nr,
				check && sh->strict, "replaced", page);
}

static void follow_ro(bool check)
{
	uint32_t page;

	for (page = RO_WRITTEN; page < CODE && readonly; page++)
		check_unchanged(hva(0, page), ro_words[page - RO_WRITTEN], 2, check && sh->strict,
				"read-only", page);
}

/* Calls that change nothing, in between. */
static void noise(const struct mrl_layout *next)
{
	mrl_reset(&list);
	mrl_add_change(&list, &layout, next, true);
	list.list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY;
	mrl_apply(vm, &list);
	list.list->flags = 0;
	mrl_set(&list, OTHER_ID + 2, 0, BASE_GPA, PAGE_SIZE, other_mem);
	TEST_ASSERT(__mrl_apply(vm, &list) == -1 && errno == EEXIST,
		    "overlap: wanted EEXIST, got errno %d", errno);
}

/* Returns the nanoseconds that the call took. */
static uint64_t transaction(void)
{
	uint32_t old_backing = backing, b = 0;
	struct mrl_layout next;
	struct timespec start;
	uint64_t ns;
	bool ro = sh->modes & READONLY && guest_random_bool(&rng);

	if (sh->modes & (REBACK | EXEC)) {
		b = 1 + (sh->before + 1) % (NR_BACKINGS - 1);
		follow_tag(b, true);
		stamp(b, sh->before + 1);
		WRITE_ONCE(sh->before, sh->before + 1);
	}
	make_layout(&next, b, ro);
	if (!old_ioctls && !(guest_random_u32(&rng) % 16))
		noise(&next);
	follow_ro(true);
	WRITE_ONCE(backing, b);
	crossings_before(&crossings);
	clock_gettime(CLOCK_MONOTONIC, &start);
	if (old_ioctls) {
		mrl_change_old(vm, &layout, &next, NULL);
	} else {
		mrl_reset(&list);
		mrl_add_change(&list, &layout, &next, guest_random_bool(&rng));
		mrl_apply(vm, &list);
	}
	ns = timespec_to_ns(timespec_elapsed(start));
	crossings_after(&crossings, &next);
	WRITE_ONCE(sh->after, sh->before);
	follow_tag(old_backing, false);
	readonly = ro;
	follow_ro(false);
	layout = next;
	return ns;
}

static void map_alias(void)
{
	uint64_t *pte = hva(0, PAGE_TABLE), *pde;
	int level = PG_LEVEL_2M, i;

	for (i = 0; i < 512; i++)
		pte[i] = (BASE_GPA + i * PAGE_SIZE) | PTE_PRESENT_MASK | PTE_WRITABLE_MASK;
	virt_map(vm, ALIAS_GVA, BASE_GPA, 1);
	pde = __vm_get_page_table_entry(vm, ALIAS_GVA, &level);
	*pde = (BASE_GPA + PAGE_TABLE * PAGE_SIZE) | PTE_PRESENT_MASK | PTE_WRITABLE_MASK;
}

static void setup(uint32_t modes, bool strict)
{
	struct mrl_layout empty = {};
	int i;

	vm = mrl_vcpus_create(guest_main);
	vm_install_exception_handler(vm, PF_VECTOR, guest_page_fault);
	vm_install_exception_handler(vm, UD_VECTOR, guest_undefined);
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	sh->modes = modes;
	sh->strict = strict;
	for (i = 0; i < NR_BACKINGS; i++) {
		mem[i] = mrl_vcpus_mem_alloc(NPAGES * PAGE_SIZE);
		stamp(i, 0);
	}
	for (i = RO; i < RO_WRITTEN; i++)
		*hva(0, i) = RO_VALUE;
	other_mem = mrl_vcpus_mem_alloc(PAGE_SIZE);
	for (i = 0; i < CROSS_DATA; i++)
		write_code(mem[0] + cross_code(i), i, i != CROSS_CODE);
	list = mrl_alloc(2 * MRL_LAYOUT_MAX);
	make_layout(&layout, 0, false);
	mrl_change_old(vm, &empty, &layout, NULL);
	virt_map(vm, BASE_GPA, BASE_GPA, NPAGES);
	map_alias();
	for (i = 0; i < mrl_vcpus.nr; i++) {
		vcpu_set_msr(mrl_vcpus.vcpu[i], MSR_KVM_SYSTEM_TIME_NEW,
			     (BASE_GPA + (CLOCK + i) * PAGE_SIZE) | KVM_MSR_ENABLED);
		vcpu_set_msr(mrl_vcpus.vcpu[i], MSR_KVM_STEAL_TIME,
			     (BASE_GPA + (STEAL + i) * PAGE_SIZE) | KVM_MSR_ENABLED);
	}
	mrl_updater_start(&updater, vm, mrl_vcpus_mem_alloc(MRL_UPDATER_PAGES * PAGE_SIZE));
	mrl_vcpus_start(&sh->park, handle_exit);
	mrl_vcpus_go();
}

struct timing {
	uint64_t transactions, sum, max, during;
};

static uint64_t holes(void)
{
	return nr_mmio + nr_emulation + nr_efault + sh->page_faults + sh->undefined;
}

/* What must happen before a pass says anything and did not happen, or NULL. */
static const char *missing(const struct timing *t, bool change)
{
	if (!mrl_vcpus_sum(sh->iterations))
		return "guest iterations";
	if (!change)
		return NULL;
	if (t->transactions < (old_ioctls ? MIN_OLD_TRANSACTIONS : MIN_TRANSACTIONS))
		return "enough transactions";
	if (!t->during)
		return "no-pause: guest iterations during calls";
	if (!READ_ONCE(updater.updates))
		return "updates by the other thread";
	if (old_ioctls)
		return holes() ? NULL : "holes, which today's ioctls are known for";
	if (!crossings.data)
		return "DATA accessed across a boundary that moves";
	if (!crossings.code && sh->modes & EXEC)
		return "code fetched across a boundary that moves";
	if (!crossings.forced && sh->modes & EXEC && sh->modes & EMUL &&
	    is_forced_emulation_enabled)
		return "code fetched by KVM across a boundary that moves";
	return NULL;
}

/* When the time is over, a slow host gets up to ten times as long. */
static bool is_over(const struct timing *t, bool change, uint64_t max_transactions,
		    uint64_t seconds, uint64_t ns)
{
	if (max_transactions && t->transactions == max_transactions)
		return true;
	if (ns < seconds * NSEC_PER_SEC)
		return false;
	return max_transactions || !missing(t, change) || ns >= 10 * seconds * NSEC_PER_SEC;
}

/* The updater's deletions zap all, which hides stale mappings: half of the calls run alone. */
static void run(struct timing *t, uint64_t max_transactions, uint64_t seconds, bool change)
{
	struct timespec start, shown;
	uint64_t ns, before;

	clock_gettime(CLOCK_MONOTONIC, &start);
	shown = start;
	while (!is_over(t, change, max_transactions, seconds,
			timespec_to_ns(timespec_elapsed(start)))) {
		if (timespec_to_ns(timespec_elapsed(shown)) > 10 * NSEC_PER_SEC) {
			clock_gettime(CLOCK_MONOTONIC, &shown);
			fprintf(stderr, "%lu transactions, %lu guest iterations\n", t->transactions,
				mrl_vcpus_sum(sh->iterations));
		}
		if (!change) {
			usleep(1000);
			continue;
		}
		mrl_updater_set(&updater, t->transactions / 8 % 2, false);
		before = mrl_vcpus_sum(sh->iterations);
		ns = transaction();
		t->during += mrl_vcpus_sum(sh->iterations) - before;
		t->transactions++;
		t->sum += ns;
		t->max = max(t->max, ns);
	}
	mrl_updater_stop(&updater);
}

/* The vCPUs are parked, and have made all their accesses. */
static void check_data(void)
{
	uint32_t page, i;
	uint64_t got;

	for (page = DATA; page < PAIR; page++)
		TEST_ASSERT(*hva(0, page) == sh->value[page],
			    "DATA page %u at the end: wanted 0x%lx, got 0x%lx", page,
			    sh->value[page], *hva(0, page));
	for (i = 0; i < mrl_vcpus.nr; i++) {
		page = cross_page(CROSS_DATA + i);
		memcpy(&got, (void *)hva(0, page) - 4, sizeof(got));
		TEST_ASSERT(got == sh->pair[i],
			    "DATA across page %u at the end: wanted 0x%lx, got 0x%lx", page,
			    sh->pair[i], got);
	}
	follow_ro(true);
}

static void check_vcpus(void)
{
	struct kvm_steal_time *steal;
	uint32_t i;

	for (i = 0; i < mrl_vcpus.nr; i++) {
		steal = (void *)hva(0, STEAL + i);
		TEST_ASSERT(sh->iterations[i], "vCPU %u: wanted some iterations, got 0", i);
		TEST_ASSERT(steal->version && !(steal->version & 1),
			    "steal time of vCPU %u: wanted an even version above 0, got %u", i,
			    steal->version);
	}
}

static void check_work(const struct timing *t, bool change, bool by_clock)
{
	const char *what = missing(t, change);

	TEST_ASSERT(change == !!t->transactions, "wanted %s transactions, got %lu",
		    change ? "some" : "0", t->transactions);
	TEST_ASSERT(!what || (!by_clock && t->transactions < 4 * MIN_TRANSACTIONS),
		    "%lu transactions, %lu iterations: wanted %s, got none", t->transactions,
		    mrl_vcpus_sum(sh->iterations), what);
}

static uint32_t parse_mode(const char *name)
{
	static const char *const names[] = { "split", "reback", "ro", "code", "emul" };
	int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(name, names[i]))
			return 1 << i;
	}
	TEST_ASSERT(!strcmp(name, "all"),
		    "-m: wanted split, reback, ro, code, emul or all, got %s", name);
	return ALL;
}

static void print_result(const struct timing *t, const char *control, uint32_t seed)
{
	uint64_t emulated = mrl_check_emulated(vm);

	printf("mrl-race control=%s modes=0x%x vcpus=%d seed=%u fep=%d transactions=%lu", control,
	       sh->modes, mrl_vcpus.nr, seed, is_forced_emulation_enabled, t->transactions);
	printf(" mean_us=%lu max_us=%lu iterations=%lu during_calls=%lu",
	       t->transactions ? t->sum / t->transactions / 1000 : 0, t->max / 1000,
	       mrl_vcpus_sum(sh->iterations),
	       t->during);
	printf(" emulated=%lu forced=%lu updates=%lu", emulated, mrl_forced, updater.updates);
	printf(" crossed_data=%lu crossed_code=%lu crossed_forced=%lu", crossings.data,
	       crossings.code, crossings.forced);
	printf(" mmio=%lu emulation=%lu efault=%lu page_faults=%lu undefined=%lu\n", nr_mmio,
	       nr_emulation, nr_efault, sh->page_faults, sh->undefined);
}

int main(int argc, char *argv[])
{
	uint64_t seconds = 5, max_transactions = 0;
	bool forced = false, change;
	uint32_t seed = 1, modes = ALL;
	const char *control = "list";
	struct timing t = {};
	int opt;

	while ((opt = getopt(argc, argv, "t:n:v:m:s:c:f")) != -1) {
		if (opt == 't')
			seconds = atoi_positive("Seconds", optarg);
		else if (opt == 'n')
			max_transactions = atoi_positive("Transactions", optarg);
		else if (opt == 'v')
			mrl_vcpus.nr = atoi_positive("Number of vCPUs", optarg);
		else if (opt == 'm')
			modes = parse_mode(optarg);
		else if (opt == 's')
			seed = atoi_non_negative("Seed", optarg);
		else if (opt == 'c')
			control = optarg;
		else if (opt == 'f')
			forced = true;
		else
			TEST_FAIL("options: -t seconds -n calls -v vCPUs -m mode -s seed -c -f");
	}
	old_ioctls = !strcmp(control, "old");
	change = strcmp(control, "none");
	TEST_ASSERT(old_ioctls || !change || !strcmp(control, "list"),
		    "-c: wanted list, none or old, got %s", control);
	mrl_check_forced_emulation(forced);
	if (!strcmp(control, "list"))
		TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_READONLY_MEM));

	rng = new_guest_random_state(seed);
	setup(modes, !old_ioctls);
	run(&t, max_transactions, seconds, change);
	mrl_vcpus_park();
	print_result(&t, control, seed);
	check_data();
	check_vcpus();
	check_work(&t, change, !max_transactions);
	mrl_vcpus_stop();
	kvm_vm_free(vm);
	return 0;
}
