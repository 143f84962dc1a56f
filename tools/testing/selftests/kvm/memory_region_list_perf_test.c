// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long a change of the layout takes, and what it costs the guest: with today's ioctls,
 * with today's ioctls while all vCPUs are stopped, and with one list call.
 *
 * A contender is paired with the list call: the change and its reverse by the one, then by
 * the other, in turn, in one VM.  vCPUs touch memory, or sleep in HLT, throughout.
 * Everything a call takes is built ahead of time: what is timed is the system calls, and
 * with "stopped" what it takes to stop the vCPUs and to let them go on.
 *
 * Prints one JSON object a line.  "kind" is
 *   bed      what was measured, and on what; first
 *   change   one change by one contender of one pair: medians and quartiles of n changes;
 *            what was counted during these, with what the vCPUs did on their own meanwhile;
 *            and, behind "parked_", what was counted in changes while all vCPUs were parked
 *   raw      with -r: each change of the line before
 *   left_out a contender for which this kernel lacks an ioctl
 *   end      the guest found all it wrote, and no hole in list calls; last
 * Lost time is the sum, over the vCPUs, of the gaps between two iterations of the guest
 * that are longer than a threshold, from the change to the end of one pass over all
 * pages; the longest gap is that of any vCPU.  The control "none" changes nothing, and
 * computes for as long as the list call before it took.  A hole is an exit at a page that
 * both layouts cover.  Today's ioctls have some; the VMM here completes such accesses.
 * With -o, how late another thread on the CPU of the one that makes the change woke up.
 * Memory is that of the memory cgroup: the peak during a change, and by how much there is
 * more of it behind the change.
 *
 * In an emulator the times of one run may be compared with each other, and with nothing else.
 */
#include <getopt.h>
#include <sys/utsname.h>

#include "memory_region_list_perf_contend.h"
#include "memory_region_list_perf_other.h"
#include "memory_region_list_perf_result.h"

/* Of each contender, besides one that warms up. */
#define MIN_ITERATIONS	1
#define MAX_PARKED	2u

static struct {
	const char *workload, *touch, *pages, *contenders;
	uint32_t entries, unit_pages, iterations, seconds;
	bool no_quirk, log, other, raw, yield;
} opt = {
	.workload = "split", .touch = "kept", .pages = "4k", .contenders = "ioctls,stopped",
	.iterations = 50, .seconds = 60,
};

static int64_t slots_bytes;

static void measure(const struct perf_contender *who, struct perf_calls *c,
		    struct perf_result *r)
{
	uint64_t longest = 0, lost = 0, gaps = 0;
	struct perf_counts before = perf_count();
	struct timespec start;
	int i;

	perf_begin_phase();
	perf_other_begin();
	clock_gettime(CLOCK_MONOTONIC, &start);
	who->run(c);
	r->ns[r->n] = timespec_to_ns(timespec_elapsed(start));
	r->late[r->n] = perf_other_end();
	perf_end_phase();
	perf_count_since(&r->counts, &before);

	for (i = 0; i < perf.nr; i++) {
		lost += perf.sh->vcpu[i].lost;
		gaps += perf.sh->vcpu[i].gaps;
		longest = max(longest, perf.sh->vcpu[i].longest);
	}
	r->lost[r->n] = perf_cycles_to_ns(lost);
	r->longest[r->n] = perf_cycles_to_ns(longest);
	r->gaps[r->n] = gaps;
	if (who->run == perf_run_list)
		perf_list_ns[c->from] = r->ns[r->n];
	r->n++;
}

/* Let the parked vCPU 0 map all pages, return how many faults that took. */
static uint64_t touch_all(void)
{
	uint64_t faults;

	if (!perf.nr)
		return 0;
	faults = perf_count().stat[PERF_FAULTS];
	WRITE_ONCE(perf.sh->touch, 1);
	while (!perf_handle_exit(perf.vcpu[0], __vcpu_run(perf.vcpu[0])))
		;
	return perf_count().stat[PERF_FAULTS] - faults;
}

static void count_parked(const struct perf_contender *who, struct perf_calls *c,
			 struct perf_result *r)
{
	uint64_t mapped, hits[PERF_NR_PROBES] = {};
	struct perf_counts before;
	int64_t charged = 0;
	int i;

	touch_all();
	mapped = perf_mapped();
	before = perf_count();
	for (i = 0; i < PERF_NR_PROBES && perf_has_probes; i++)
		hits[i] = perf_probe_hits(i);
	if (perf_has_memory)
		charged = perf_memory_mark();
	who->run(c);
	if (perf_has_memory) {
		r->peak = max(r->peak, perf_memory_peak() - charged);
		r->grown = perf_memory_mark() - charged;
	}
	for (i = 0; i < PERF_NR_PROBES && perf_has_probes; i++)
		r->probes[i] += perf_probe_hits(i) - hits[i];
	if (perf_has_probes)
		r->locked = max(r->locked, perf_locked_ns());
	perf_count_since(&r->parked, &before);
	r->zapped += mapped - min(mapped, perf_mapped());
	r->faults += touch_all();
	r->parked_n++;
}

static void print_setting(const char *kind)
{
	printf("{\"kind\": \"%s\", \"vcpus\": %d, \"touch\": \"%s\", \"pages\": \"%s\"", kind,
	       perf.nr, opt.touch, opt.pages);
	printf(", \"quirk\": %d, \"log\": %d, \"other\": %d, \"entries\": %u", !opt.no_quirk,
	       opt.log, opt.other, perf_world.nr_entries);
}

static void print_change(const char *kind, const struct perf_contender *who,
			 const struct perf_contender *other, int from)
{
	print_setting(kind);
	printf(", \"workload\": \"%s\", \"contender\": \"%s\", \"in_turn_with\": \"%s\"",
	       perf_world.work->name[from], who->name, other->name);
}

/* The caller has printed what was changed, and by whom. */
static void print_result(const struct perf_result *r)
{
	int i;

	printf(", \"n\": %u", r->n);
	perf_print_quartiles("ns", r->ns, r->n);
	if (perf_guest_runs()) {
		perf_print_quartiles("lost_ns", r->lost, r->n);
		perf_print_quartiles("longest_ns", r->longest, r->n);
		perf_print_quartiles("gaps", r->gaps, r->n);
	}
	if (opt.other)
		perf_print_quartiles("late_ns", r->late, r->n);
	perf_print_counts("", &r->counts, true);
	printf(", \"parked_n\": %lu, \"parked_zapped\": %lu, \"parked_faults\": %lu", r->parked_n,
	       r->zapped, r->faults);
	for (i = 0; i < PERF_NR_PROBES && perf_has_probes; i++)
		printf(", \"parked_%s\": %lu", perf_probe_names[i][0], r->probes[i]);
	if (r->locked)
		printf(", \"parked_locked_ns\": %lu", r->locked);
	if (perf_has_memory)
		printf(", \"parked_peak_bytes\": %ld, \"parked_grown_bytes\": %ld", r->peak,
		       r->grown);
	perf_print_counts("parked_", &r->parked, false);
	printf("}\n");
}

static void print_raw(const struct perf_result *r)
{
	perf_print_array("ns", r->ns, r->n);
	perf_print_array("lost_ns", r->lost, r->n);
	perf_print_array("longest_ns", r->longest, r->n);
	printf("}\n");
}

/* The change and its reverse by one contender. */
struct side {
	const struct perf_contender *who;
	struct perf_calls calls[2];
	struct perf_result results[2];
};

static void side_init(struct side *s, const struct perf_contender *who)
{
	int from;

	*s = (struct side) { .who = who };
	for (from = 0; from < 2; from++) {
		s->calls[from].from = from;
		who->prepare(&s->calls[from]);
		perf_result_init(&s->results[from], opt.iterations + 1);
	}
}

static void side_print(struct side *s, const struct perf_contender *other)
{
	int from;

	for (from = 0; from < 2; from++) {
		print_change("change", s->who, other, from);
		print_result(&s->results[from]);
		if (opt.raw) {
			print_change("raw", s->who, other, from);
			print_raw(&s->results[from]);
		}
	}
}

/* *no-hole*, for the list call. */
static void side_expect_no_hole(const struct side *s)
{
	const uint64_t *seen;
	int from;

	for (from = 0; from < 2; from++) {
		seen = s->results[from].counts.seen;
		TEST_ASSERT(!seen[PERF_HOLE_MMIO] && !seen[PERF_HOLE_EMULATION] &&
			    !seen[PERF_HOLE_EFAULT],
			    "no-hole: %s by %s: wanted none, got %lu MMIO, %lu emulation, %lu EFAULT",
			    perf_world.work->name[from], s->who->name, seen[PERF_HOLE_MMIO],
			    seen[PERF_HOLE_EMULATION], seen[PERF_HOLE_EFAULT]);
	}
}

static void side_free(struct side *s)
{
	int from;

	for (from = 0; from < 2; from++) {
		free(s->results[from].ns);
		free(s->calls[from].regions);
		free(s->calls[from].logs);
		mrl_free(&s->calls[from].list);
	}
}

static void side_run(struct side *s, void (*run)(const struct perf_contender *,
						 struct perf_calls *, struct perf_result *))
{
	int from = perf_world.first;

	run(s->who, &s->calls[from], &s->results[from]);
	run(s->who, &s->calls[!from], &s->results[!from]);
}

static void run_pair(const struct perf_contender *who)
{
	struct timespec start;
	struct side sides[2];
	uint32_t i;
	int s;

	side_init(&sides[0], who);
	side_init(&sides[1], perf_contender_find("list"));
	perf_go();
	for (s = 0; s < 2; s++) {
		side_run(&sides[s], measure);
		perf_result_reset(&sides[s].results[0]);
		perf_result_reset(&sides[s].results[1]);
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < opt.iterations; i++) {
		if (i >= MIN_ITERATIONS && timespec_elapsed(start).tv_sec >= opt.seconds)
			break;
		side_run(&sides[0], measure);
		side_run(&sides[1], measure);
	}
	perf_park();

	if (perf_has_probes)
		perf_probes_start();
	for (i = 0; i < min(opt.iterations, MAX_PARKED); i++) {
		side_run(&sides[0], count_parked);
		side_run(&sides[1], count_parked);
	}
	if (perf_has_probes)
		perf_probes_stop();
	for (s = 0; s < 2; s++)
		side_print(&sides[s], sides[!s].who);
	fflush(stdout);
	side_expect_no_hole(&sides[1]);
	for (s = 0; s < 2; s++)
		side_free(&sides[s]);
}

static const char *read_clocksource(void)
{
	static struct mrl_setting s = {
		.path = "/sys/devices/system/clocksource/clocksource0/current_clocksource",
	};

	return mrl_setting_read(&s, s.value, sizeof(s.value)) ? s.value : "";
}

static void print_bed(void)
{
	struct utsname host = {};

	uname(&host);
	print_setting("bed");
	printf(", \"kernel\": \"%s\", \"cpus\": %d, \"clocksource\": \"%s\"", host.release,
	       perf.nr_cpus, read_clocksource());
	printf(", \"tdp\": %d, \"tdp_mmu\": %d, \"svm\": %d", kvm_is_tdp_enabled(),
	       kvm_is_tdp_enabled() && get_kvm_param_bool("tdp_mmu"), host_cpu_is_amd);
	printf(", \"pair\": \"%s\", \"cells\": %u, \"pages_of_unit\": %u, \"pages_of_world\": %u",
	       perf_world.work->pair, perf_world.cells, perf_world.unit_pages,
	       perf_world.nr_pages);
	printf(", \"pages_touched\": %u, \"yield\": %d, \"tsc_khz\": %lu, \"threshold_ns\": %lu",
	       perf.sh->nr_pages, opt.yield, perf_tsc_khz,
	       perf_cycles_to_ns(perf.sh->threshold));
	if (perf_has_memory)
		printf(", \"slots_bytes\": %ld", slots_bytes);
	printf("}\n");
	fflush(stdout);
}

/* The bystander and one side of the world.  Returns the kernel memory that takes. */
static int64_t create_slots(void)
{
	int64_t charged = perf_has_memory ? perf_memory_mark() : 0;
	uint32_t i, first = perf_world.cells * perf_cell_pages(&perf_world);
	const struct mrl_slot *s = perf_world.slots[perf_world.first];
	const struct perf_page *bystander = &perf_world.pages[first];
	struct mrl l = mrl_alloc(perf_world.nr_ids + 1);

	mrl_set(&l, PERF_BYSTANDER_ID, perf_world.flags, MRL_GPA(first),
		MRL_SIZE(perf_world.nr_pages - first), (void *)MRL_HVA(bystander->mem[0]));
	for (i = 0; i < perf_world.nr_ids; i++) {
		if (s[i].size)
			mrl_set(&l, s[i].id, s[i].flags, s[i].gpa, s[i].size, s[i].hva);
	}
	mrl_apply(perf.vm, &l);
	mrl_free(&l);
	return perf_has_memory ? perf_memory_mark() - charged : 0;
}

static void create_vm(void)
{
	int i;

	perf_vcpus_create(perf_world.nr_pages);
	if (opt.no_quirk)
		vm_enable_cap(perf.vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL);
	for (i = 0; i < perf.nr; i++)
		perf.vcpu[i] = vm_vcpu_add(perf.vm, i, perf_guest_main);
	perf.sh = addr_gva2hva(perf.vm, (vm_vaddr_t)&shared);
	if (perf_world.huge)
		mrl_huge_map(perf.vm, MRL_SIZE(perf_world.nr_pages));
	else
		virt_map(perf.vm, MRL_GPA_BASE, MRL_GPA_BASE, perf_world.nr_pages);
	if (perf.nr)
		perf_tsc_khz = __vcpu_ioctl(perf.vcpu[0], KVM_GET_TSC_KHZ, NULL);
	perf_log_buffer = calloc(perf_world.nr_mem_pages / 64 + perf_world.nr_ids + 1, 8);
}

static void setup(void)
{
	perf_world.huge = strcmp(opt.pages, "4k");
	perf_world.hugetlb = !strcmp(opt.pages, "hugetlb");
	perf_world.flags = opt.log ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	perf_world.work = perf_workload_find(opt.workload, &perf_world.first);
	perf_world_init(&perf_world, opt.entries ?: perf_world.work->entries, opt.unit_pages,
			kvm_check_cap(KVM_CAP_NR_MEMSLOTS));
	if (!perf_world.nr_entries)
		ksft_exit_skip("-l: %s changes nothing then\n", opt.workload);
	if (!perf_mem_alloc(&perf_world))
		ksft_exit_skip("-p %s: the host does not have the pages\n", opt.pages);
	TEST_ASSERT(perf.nr <= MRL_MAX_VCPUS, "-v: wanted <= %d, got %d", MRL_MAX_VCPUS, perf.nr);
	perf.nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	/* Ahead of the cgroup: no other CPU charges anything in advance for this thread. */
	perf_pin(-1);
	perf_has_memory = perf_memory_start();
	create_vm();
	perf.sh->halt = !strcmp(opt.touch, "halt");
	perf.sh->yield = opt.yield;
	perf_choose_pages(opt.touch);
	slots_bytes = create_slots();
	perf_vcpus_start();
	if (opt.other)
		perf_other_start();
	perf_count_init();
	perf_calibrate();
	perf_has_probes = !access(MRL_TRACING "kprobe_events", W_OK);
}

static void run_pairs(void)
{
	char *names = strdup(opt.contenders), *name, *rest = NULL;
	const struct perf_contender *who;

	for (name = strtok_r(names, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
		who = perf_contender_find(name);
		if (!who->available || who->available()) {
			run_pair(who);
			continue;
		}
		print_setting("left_out");
		printf(", \"contender\": \"%s\"}\n", name);
	}
	free(names);
}

static void help(const char *program)
{
	int i;

	printf("usage: %s [-w workload] [-c contenders, comma-separated] [-n entries of a list]\n"
	       "       [-i iterations] [-t seconds of a pair] [-v vCPUs]\n"
	       "       [-k kept|changed|other|halt: what vCPUs do] [-p 4k|2m|hugetlb]\n"
	       "       [-s pages of a unit] [-q: without KVM_X86_QUIRK_SLOT_ZAP_ALL]\n"
	       "       [-l: all slots log] [-o: wake another thread up meanwhile]\n"
	       "       [-y: guests yield, for emulators] [-r: raw]\n", program);
	for (i = 0; i < ARRAY_SIZE(perf_workloads); i++)
		printf("  -w %s: %s and %s\n", perf_workloads[i].pair, perf_workloads[i].name[0],
		       perf_workloads[i].name[1]);
	for (i = 0; i < ARRAY_SIZE(perf_contenders); i++)
		printf("  -c %s\n", perf_contenders[i].name);
	exit(1);
}

static const char *one_of(const char *names, const char *name)
{
	char *all = strdup(names), *one, *rest = NULL;

	for (one = strtok_r(all, " ", &rest); one && strcmp(one, name);
	     one = strtok_r(NULL, " ", &rest))
		;
	TEST_ASSERT(one, "Wanted one of %s, got '%s'", names, name);
	return one;
}

static void parse(int argc, char *argv[])
{
	int o;

	while ((o = getopt(argc, argv, "w:c:n:i:t:v:k:p:s:qloyr")) != -1) {
		if (o == 'w')
			opt.workload = optarg;
		else if (o == 'c')
			opt.contenders = optarg;
		else if (o == 'n')
			opt.entries = atoi_positive("Entries", optarg);
		else if (o == 'i')
			opt.iterations = atoi_positive("Iterations", optarg);
		else if (o == 't')
			opt.seconds = atoi_positive("Seconds", optarg);
		else if (o == 'v')
			perf.nr = atoi_non_negative("Number of vCPUs", optarg);
		else if (o == 'k')
			opt.touch = one_of("kept changed other halt", optarg);
		else if (o == 'p')
			opt.pages = one_of("4k 2m hugetlb", optarg);
		else if (o == 's')
			opt.unit_pages = atoi_positive("Pages of a unit", optarg);
		else if (o == 'q')
			opt.no_quirk = true;
		else if (o == 'l')
			opt.log = true;
		else if (o == 'o')
			opt.other = true;
		else if (o == 'y')
			opt.yield = true;
		else if (o == 'r')
			opt.raw = true;
		else
			help(argv[0]);
	}
}

int main(int argc, char *argv[])
{
	parse(argc, argv);
	mrl_require();
	TEST_REQUIRE(!opt.no_quirk ||
		     kvm_check_cap(KVM_CAP_DISABLE_QUIRKS2) & KVM_X86_QUIRK_SLOT_ZAP_ALL);
	setup();
	print_bed();
	run_pairs();
	perf_check_data();
	perf_other_stop();
	perf_vcpus_stop();
	if (perf_has_memory)
		perf_memory_stop();
	print_setting("end");
	printf(", \"data\": \"right\"}\n");
	kvm_vm_free(perf.vm);
	return 0;
}
