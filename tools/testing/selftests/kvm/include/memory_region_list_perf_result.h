/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_PERF_RESULT_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_PERF_RESULT_H

/* What memory_region_list_perf_test found out about a change, and how it prints that. */
#include "memory_region_list_perf_count.h"

/* Samples of one change of one contender, in turn with the other's. */
struct perf_result {
	uint64_t *ns, *lost, *longest, *gaps, *late;
	uint32_t n;
	struct perf_counts counts;
	/* With all vCPUs parked. */
	struct perf_counts parked;
	uint64_t parked_n, zapped, faults, locked, probes[PERF_NR_PROBES];
	int64_t peak, grown;
};

static bool perf_has_probes, perf_has_memory;

static inline void perf_result_init(struct perf_result *r, uint32_t max)
{
	uint64_t *p = calloc(5 * max, sizeof(*p));

	TEST_ASSERT(p, "calloc() failed");
	*r = (struct perf_result) {
		.ns = p, .lost = p + max, .longest = p + 2 * max, .gaps = p + 3 * max,
		.late = p + 4 * max,
	};
}

/* What has been sampled so far does not count. */
static inline void perf_result_reset(struct perf_result *r)
{
	r->n = 0;
	r->counts = (struct perf_counts) {};
}

static inline int perf_compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Nearest rank. */
static inline void perf_print_quartiles(const char *name, const uint64_t *values, uint32_t n)
{
	static const char * const names[] = { "min", "q1", "med", "q3", "max" };
	uint64_t *sorted = malloc(n * sizeof(*sorted));
	int i;

	TEST_ASSERT(sorted, "malloc() failed");
	memcpy(sorted, values, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), perf_compare_u64);
	for (i = 0; i < 5; i++)
		printf(", \"%s_%s\": %lu", name, names[i], sorted[(n - 1) * i / 4]);
	free(sorted);
}

/* All of them, or those that mean something while no vCPU runs. */
static inline void perf_print_counts(const char *prefix, const struct perf_counts *c, bool all)
{
	int end = all && perf.nr ? PERF_NR_STATS : PERF_FIRST_VCPU_STAT;
	int i;

	for (i = 0; i < end; i++) {
		if (perf_stat_names[i].name && perf_stat_at[i] >= 0)
			printf(", \"%s%s\": %lu", prefix, perf_stat_names[i].name, c->stat[i]);
	}
	for (i = 0; i < PERF_NR_SEEN && all; i++)
		printf(", \"%s%s\": %lu", prefix, perf_seen_names[i], c->seen[i]);
}

static inline void perf_print_array(const char *name, const uint64_t *values, uint32_t n)
{
	uint32_t i;

	printf(", \"%s\": [", name);
	for (i = 0; i < n; i++)
		printf("%s%lu", i ? ", " : "", values[i]);
	printf("]");
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_PERF_RESULT_H */
