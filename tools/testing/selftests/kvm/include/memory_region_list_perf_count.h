/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_PERF_COUNT_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_PERF_COUNT_H

/*
 * What memory_region_list_perf_test counts: stats of KVM, calls of two of its functions
 * and kernel memory.  What this host cannot count is left out.
 */
#include <sys/mount.h>

#include "memory_region_list_setting.h"
#include "memory_region_list_trace.h"
#include "memory_region_list_perf_vcpus.h"

enum {
	PERF_GRACE, PERF_ZAPPED, PERF_FLUSH_REQUESTS, PERF_FLUSHES, PERF_4K, PERF_2M, PERF_1G,
	PERF_EXITS, PERF_IRQ_EXITS, PERF_SIGNAL_EXITS, PERF_FAULTS, PERF_FIXED, PERF_EMULATED,
	PERF_NR_STATS,
	PERF_FIRST_VCPU_STAT = PERF_EXITS,
};

/* The name of the stat.  Those whose name in the output is NULL are for perf_mapped(). */
static const struct {
	const char *stat, *name;
} perf_stat_names[PERF_NR_STATS] = {
	[PERF_GRACE]		= { "memslot_grace_periods", "grace_periods" },
	[PERF_ZAPPED]		= { "memory_region_list_zapped", "list_zapped" },
	[PERF_FLUSH_REQUESTS]	= { "remote_tlb_flush_requests", "tlb_flush_requests" },
	[PERF_FLUSHES]		= { "remote_tlb_flush", "tlb_flushes" },
	[PERF_4K]		= { "pages_4k" },
	[PERF_2M]		= { "pages_2m" },
	[PERF_1G]		= { "pages_1g" },
	[PERF_EXITS]		= { "exits", "exits" },
	[PERF_IRQ_EXITS]	= { "irq_exits", "irq_exits" },
	[PERF_SIGNAL_EXITS]	= { "signal_exits", "signal_exits" },
	[PERF_FAULTS]		= { "pf_taken", "pf_taken" },
	[PERF_FIXED]		= { "pf_fixed", "pf_fixed" },
	[PERF_EMULATED]		= { "insn_emulation", "emulated" },
};

/* Sums over the vCPUs. */
struct perf_counts {
	uint64_t stat[PERF_NR_STATS];
	uint64_t seen[PERF_NR_SEEN];
};

/* Where a stat is in its file; -1: there is none. */
static int64_t perf_stat_at[PERF_NR_STATS];
static int perf_vm_stats, perf_vcpu_stats[MRL_MAX_VCPUS];

static inline void perf_find_stats(int fd, int first, int end)
{
	struct kvm_stats_desc *descs, *desc;
	struct kvm_stats_header header;
	int i, k;

	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);
	for (i = first; i < end; i++) {
		perf_stat_at[i] = -1;
		for (k = 0; k < header.num_desc; k++) {
			desc = get_stats_descriptor(descs, k, &header);
			if (!strcmp(desc->name, perf_stat_names[i].stat))
				perf_stat_at[i] = header.data_offset + desc->offset;
		}
	}
	free(descs);
}

static inline void perf_count_init(void)
{
	int i;

	perf_vm_stats = vm_get_stats_fd(perf.vm);
	perf_find_stats(perf_vm_stats, 0, PERF_FIRST_VCPU_STAT);
	for (i = 0; i < perf.nr; i++)
		perf_vcpu_stats[i] = vcpu_get_stats_fd(perf.vcpu[i]);
	if (perf.nr)
		perf_find_stats(perf_vcpu_stats[0], PERF_FIRST_VCPU_STAT, PERF_NR_STATS);
}

static inline uint64_t perf_read_stat(int fd, int64_t at)
{
	uint64_t value = 0;

	TEST_ASSERT(at < 0 || pread(fd, &value, sizeof(value), at) == sizeof(value),
		    "Read of a stat: got errno %d", errno);
	return value;
}

static inline struct perf_counts perf_count(void)
{
	struct perf_counts c = {};
	int i, v;

	for (i = 0; i < PERF_FIRST_VCPU_STAT; i++)
		c.stat[i] = perf_read_stat(perf_vm_stats, perf_stat_at[i]);
	for (; i < PERF_NR_STATS; i++) {
		for (v = 0; v < perf.nr; v++)
			c.stat[i] += perf_read_stat(perf_vcpu_stats[v], perf_stat_at[i]);
	}
	for (i = 0; i < PERF_NR_SEEN; i++)
		c.seen[i] = atomic_load(&perf.seen[i]);
	return c;
}

static inline void perf_count_since(struct perf_counts *sum, const struct perf_counts *before)
{
	struct perf_counts now = perf_count();
	int i;

	for (i = 0; i < PERF_NR_STATS; i++)
		sum->stat[i] += now.stat[i] - before->stat[i];
	for (i = 0; i < PERF_NR_SEEN; i++)
		sum->seen[i] += now.seen[i] - before->seen[i];
}

/* Pages that the guest can access without a fault. */
static inline uint64_t perf_mapped(void)
{
	struct perf_counts c = perf_count();

	return c.stat[PERF_4K] + 512 * c.stat[PERF_2M] + 512 * 512 * c.stat[PERF_1G];
}

/* What kvm_vcpu_kick() and kvm_make_all_cpus_request() are called for, by anybody. */
enum { PERF_KICK, PERF_REQUEST, PERF_NR_PROBES };

static const char * const perf_probe_names[PERF_NR_PROBES][2] = {
	{ "kicks", "kvm_vcpu_kick" }, { "requests_to_all", "kvm_make_all_cpus_request" },
};

static inline void perf_probes_start(void)
{
	char text[128];
	int i;

	mrl_trace_start();
	mrl_trace_enable("kvm/kvm_memory_region_list", NULL);
	for (i = 0; i < PERF_NR_PROBES; i++) {
		snprintf(text, sizeof(text), "p:mrlperf/%s %s\n", perf_probe_names[i][0],
			 perf_probe_names[i][1]);
		mrl_trace_probe(text);
		/* It is the hits that count, nothing is to be recorded. */
		snprintf(text, sizeof(text), "mrlperf/%s", perf_probe_names[i][0]);
		mrl_trace_enable(text, "common_pid == 0");
	}
}

static inline void perf_probes_stop(void)
{
	char text[64];
	int i;

	mrl_trace_stop();
	for (i = 0; i < PERF_NR_PROBES; i++) {
		snprintf(text, sizeof(text), "-:mrlperf/%s\n", perf_probe_names[i][0]);
		mrl_trace_probe(text);
	}
}

static inline uint64_t perf_probe_hits(int probe)
{
	FILE *f = fopen(MRL_TRACING "kprobe_profile", "r");
	char line[128], name[64];
	uint64_t hits = 0, n;

	TEST_ASSERT(f, "fopen() of kprobe_profile: got errno %d", errno);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, " %63s %lu", name, &n) == 2 &&
		    !strcmp(name, perf_probe_names[probe][0]))
			hits = n;
	}
	fclose(f);
	return hits;
}

/* For how long the last list held mmu_lock to publish; 0 if there was none since. */
static inline uint64_t perf_locked_ns(void)
{
	FILE *f = mrl_trace_open();
	char line[1024];
	uint64_t ns = 0;

	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, " kvm_memory_region_list: "))
			ns = mrl_trace_field(line, "locked_ns");
	}
	fclose(f);
	mrl_trace_clear();
	return ns;
}

/*
 * Kernel memory at its peak, as the memory cgroup sees it.  A CPU charges up to 64 pages in
 * advance; writing memory.high below what is charged makes it give them back.
 */
#define PERF_CGROUPS	"/sys/fs/cgroup/"
#define PERF_CGROUP	PERF_CGROUPS "mrl_perf/"

static int perf_peak_fd = -1;

static inline int64_t perf_charged(void)
{
	static struct mrl_setting current = { PERF_CGROUP "memory.current" };

	TEST_ASSERT(mrl_setting_read(&current, current.value, sizeof(current.value)),
		    "%s: got errno %d", current.path, errno);
	return atol(current.value);
}

/* False if there is no such cgroup, or its peak can't be reset. */
static inline bool perf_memory_start(void)
{
	const struct mrl_setting control = { PERF_CGROUPS "cgroup.subtree_control" };
	const struct mrl_setting procs = { PERF_CGROUP "cgroup.procs" };
	char pid[16];

	if (mount("none", PERF_CGROUPS, "cgroup2", 0, NULL) && errno != EBUSY)
		return false;
	snprintf(pid, sizeof(pid), "%d", getpid());
	if (!mrl_setting_write(&control, "+memory") ||
	    (mkdir(PERF_CGROUP, 0700) && errno != EEXIST) || !mrl_setting_write(&procs, pid))
		return false;
	perf_peak_fd = open(PERF_CGROUP "memory.peak", O_RDWR);
	return perf_peak_fd >= 0;
}

static inline void perf_memory_stop(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	mrl_write_file(PERF_CGROUPS "cgroup.procs", 0, pid);
	if (perf_peak_fd >= 0)
		close(perf_peak_fd);
	perf_peak_fd = -1;
	rmdir(PERF_CGROUP);
}

/* Returns what is charged now, to 64 pages; the peak starts from there. */
static inline int64_t perf_memory_mark(void)
{
	int64_t before;
	char high[32];

	snprintf(high, sizeof(high), "%ld", perf_charged() - getpagesize());
	mrl_write_file(PERF_CGROUP "memory.high", 0, high);
	mrl_write_file(PERF_CGROUP "memory.high", 0, "max");
	/* Other CPUs give back by a work item each. */
	do {
		before = perf_charged();
		usleep(1000);
	} while (perf_charged() != before);
	TEST_ASSERT(write(perf_peak_fd, "0", 1) == 1, "Reset of memory.peak: got errno %d", errno);
	return perf_charged();
}

static inline int64_t perf_memory_peak(void)
{
	char text[32] = {};

	TEST_ASSERT(pread(perf_peak_fd, text, sizeof(text) - 1, 0) > 0,
		    "memory.peak: got errno %d", errno);
	return atol(text);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_PERF_COUNT_H */
