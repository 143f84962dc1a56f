// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests use memory while KVM_SET_USER_MEMORY_REGION_LIST changes its slots.
 *
 * Shows no-hole, no-stale-mapping and no-pause.  vCPUs read, write and execute a
 * range whose slots are split, merged, renamed, re-backed and made read-only in
 * a tight loop, by hardware and by KVM's software accessors: string I/O, forced
 * emulation, walks of guest page tables that lie in the range, kvmclock and steal
 * time.  No access may exit, fault or return a wrong value:
 *   DATA  keeps its backing, each page has one writer that knows the last value
 *   TAG   gets a new backing in each call.  A word of each page tells which, the
 *         host publishes the number before and after the call, and hardware may
 *         not see the old one once any vCPU has seen the new one
 *   RO    goes from read-only to writable and back.  It is read; one half is
 *         written, which may exit, and may not change it while it is read-only
 *   CODE  as TAG, but executed
 *   FIX   keeps its backing: a page table, code that straddles two pages,
 *         stacks, kvmclock and steal time
 * What a vCPU writes into TAG must not change a backing after the call that
 * replaces it has returned.  The controls run on any kernel: -c none changes
 * nothing, -c old uses today's ioctls, completes accesses to holes and counts
 * them, but still verifies DATA.
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

#define OTHER_GPA	(6ul << 30)
#define NR_BACKINGS	4u
#define NR_IDS		16
#define FIRST_ID	10
#define OTHER_ID	30

static typeof(shared) *sh;
static struct kvm_vm *vm;
static uint8_t *mem[NR_BACKINGS], *other_mem;
static struct mrl list;
static struct mrl_layout layout;
static struct guest_random_state rng;
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
		*data = ++sh->in_value[vcpu->id];
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
	struct ucall uc;

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
	r = get_ucall(vcpu, &uc);
	if (r == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(r == UCALL_SYNC, "vCPU %u: wanted no exit, got reason %u (%s), suberror %u",
		    vcpu->id, run->exit_reason, exit_reason_str(run->exit_reason),
		    run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run->internal.suberror : 0);
	return true;
}

static uint64_t *hva(uint32_t b, uint32_t page)
{
	return (uint64_t *)(mem[b] + page * PAGE_SIZE);
}

static void write_code(void *p, uint32_t value)
{
	uint8_t code[] = { 0xb8, value, value >> 8, value >> 16, value >> 24, 0xc3 };

	memcpy(p, code, sizeof(code));
}

/* Set up a backing that no slot uses for generation @n. */
static void stamp(uint32_t b, uint32_t n)
{
	uint32_t page;

	for (page = TAG; page < RO; page++)
		WRITE_ONCE(*hva(b, page), n);
	for (page = CODE; page < FIX; page++)
		write_code(hva(b, page), n);
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

static uint32_t page_attr(uint32_t page, uint32_t b, bool ro)
{
	if ((page >= TAG && page < RO) || (page >= CODE && page < FIX))
		return b;
	return page >= RO && page < CODE && ro ? NR_BACKINGS : 0;
}

static void add_piece(struct mrl_layout *next, uint32_t first, uint32_t end, uint32_t attr)
{
	static uint32_t ids[NR_IDS];
	uint32_t i, j, swap;

	/* Start of a layout: any permutation of the ids, so that slots trade theirs. */
	for (i = 0; !first && i < NR_IDS; i++) {
		j = guest_random_u32(&rng) % (i + 1);
		swap = ids[j];
		ids[j] = FIRST_ID + i;
		if (j != i)
			ids[i] = swap;
	}
	mrl_layout_add(next, ids[next->nr], attr == NR_BACKINGS ? KVM_MEM_READONLY : 0,
		       BASE_GPA + first * PAGE_SIZE, (end - first) * PAGE_SIZE,
		       mem[attr % NR_BACKINGS] + first * PAGE_SIZE);
}

static void make_layout(struct mrl_layout *next, uint32_t b, bool ro)
{
	uint32_t cuts[4] = {}, nr_cuts = guest_random_u32(&rng) % 5, first = 0, page, i;
	bool cut;

	*next = (struct mrl_layout) {};
	/* Around boundaries of areas and of huge pages as well. */
	for (i = 0; i < nr_cuts; i++) {
		cuts[i] = guest_random_u32(&rng) % NPAGES;
		if (guest_random_bool(&rng))
			cuts[i] = cuts[i] & ~127u;
	}
	for (page = 1; page <= NPAGES; page++) {
		cut = page == NPAGES || page_attr(page, b, ro) != page_attr(first, b, ro);
		for (i = 0; i < nr_cuts; i++)
			cut |= cuts[i] == page;
		if (!cut)
			continue;
		add_piece(next, first, page, page_attr(first, b, ro));
		first = page;
	}
	for (i = 0; i < 2; i++) {
		if (guest_random_bool(&rng))
			mrl_layout_add(next, OTHER_ID + i, 0,
				       OTHER_GPA + (guest_random_u32(&rng) % 8 * 2 + i) * PAGE_SIZE,
				       PAGE_SIZE, other_mem);
	}
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
	clock_gettime(CLOCK_MONOTONIC, &start);
	if (old_ioctls) {
		mrl_change_old(vm, &layout, &next, NULL);
	} else {
		mrl_reset(&list);
		mrl_add_change(&list, &layout, &next, guest_random_bool(&rng));
		mrl_apply(vm, &list);
	}
	ns = timespec_to_ns(timespec_elapsed(start));
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
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	sh->modes = modes;
	sh->strict = strict;
	for (i = 0; i < NR_BACKINGS; i++) {
		mem[i] = mrl_mem_alloc(NPAGES * PAGE_SIZE);
		stamp(i, 0);
	}
	for (i = RO; i < RO_WRITTEN; i++)
		*hva(0, i) = RO_VALUE;
	other_mem = mrl_mem_alloc(PAGE_SIZE);
	write_code((void *)hva(0, STRADDLE + 1) - 3, STRADDLE);
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
	mrl_vcpus_start(&sh->park, handle_exit);
	mrl_vcpus_go();
}

struct timing {
	uint64_t transactions, sum, max, during;
};

static uint64_t iterations(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < mrl_vcpus.nr; i++)
		sum += READ_ONCE(sh->iterations[i]);
	return sum;
}

static void run(struct timing *t, uint64_t max_transactions, uint64_t seconds, bool change)
{
	struct timespec start, shown;
	uint64_t ns, before;

	clock_gettime(CLOCK_MONOTONIC, &start);
	shown = start;
	while (timespec_to_ns(timespec_elapsed(start)) < seconds * NSEC_PER_SEC) {
		if (max_transactions && t->transactions == max_transactions)
			break;
		if (timespec_to_ns(timespec_elapsed(shown)) > 10 * NSEC_PER_SEC) {
			clock_gettime(CLOCK_MONOTONIC, &shown);
			fprintf(stderr, "%lu transactions, %lu guest iterations\n", t->transactions,
				iterations());
		}
		if (!change) {
			usleep(1000);
			continue;
		}
		before = iterations();
		ns = transaction();
		t->during += iterations() - before;
		t->transactions++;
		t->sum += ns;
		t->max = max(t->max, ns);
	}
}

/* The vCPUs are parked, and have made all their accesses. */
static void check_end(const struct timing *t)
{
	struct kvm_steal_time *steal;
	uint32_t page, i;

	for (page = DATA; page < TAG; page++)
		TEST_ASSERT(*hva(0, page) == sh->value[page],
			    "DATA page %u at the end: wanted 0x%lx, got 0x%lx", page,
			    sh->value[page], *hva(0, page));
	follow_ro(true);
	for (i = 0; i < mrl_vcpus.nr; i++) {
		steal = (void *)hva(0, STEAL + i);
		TEST_ASSERT(sh->iterations[i], "vCPU %u: wanted some iterations, got 0", i);
		TEST_ASSERT(steal->version && !(steal->version & 1),
			    "steal time of vCPU %u: wanted an even version above 0, got %u", i,
			    steal->version);
	}
	TEST_ASSERT(t->transactions < 100 || t->during,
		    "no-pause: wanted guest iterations during %lu calls, got 0", t->transactions);
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

int main(int argc, char *argv[])
{
	uint64_t seconds = 5, max_transactions = 0;
	uint32_t seed = 1, modes = ALL;
	const char *control = "list";
	struct timing t = {};
	int opt;

	while ((opt = getopt(argc, argv, "t:n:v:m:s:c:")) != -1) {
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
		else
			TEST_FAIL("options: -t seconds -n calls -v vCPUs -m mode -s seed -c how");
	}
	old_ioctls = !strcmp(control, "old");
	TEST_ASSERT(old_ioctls || !strcmp(control, "none") || !strcmp(control, "list"),
		    "-c: wanted list, none or old, got %s", control);
	if (!strcmp(control, "list"))
		TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_READONLY_MEM));

	rng = new_guest_random_state(seed);
	setup(modes, !old_ioctls);
	run(&t, max_transactions, seconds, strcmp(control, "none"));
	mrl_vcpus_park();
	check_end(&t);
	printf("mrl-race control=%s modes=0x%x vcpus=%d seed=%u fep=%d transactions=%lu", control,
	       modes, mrl_vcpus.nr, seed, is_forced_emulation_enabled, t.transactions);
	printf(" mean_us=%lu max_us=%lu iterations=%lu during_calls=%lu",
	       t.transactions ? t.sum / t.transactions / 1000 : 0, t.max / 1000, iterations(),
	       t.during);
	printf(" mmio=%lu emulation=%lu efault=%lu page_faults=%lu\n", nr_mmio, nr_emulation,
	       nr_efault, sh->page_faults[0]);
	mrl_vcpus_stop();
	kvm_vm_free(vm);
	return 0;
}
