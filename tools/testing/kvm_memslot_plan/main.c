// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of virt/kvm/memslot_plan.c, which is compiled as it is.
 *
 * Proves: the planner classifies every page of hand-made and of random layouts as
 * the document of KVM_SET_USER_MEMORY_REGION_LIST says, in runs that are sorted,
 * disjoint and as long as possible, and finds overlaps.
 * Does not prove: that KVM does the right thing with a plan.
 *
 * A random case is replayed by the -s that its failure prints.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "plan_test.h"

const char *test_name;
const struct layouts *test_layouts;

static void print_slots(const char *side, const struct kvm_plan_slot *slots, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++)
		fprintf(stderr, "  %s [0x%llx, 0x%llx) hva 0x%llx%s%s%s index %u\n", side,
			slots[i].gfn, slots[i].gfn + slots[i].npages, slots[i].hva,
			slots[i].flags & KVM_MEM_LOG_DIRTY_PAGES ? " log" : "",
			slots[i].flags & KVM_MEM_READONLY ? " ro" : "",
			slots[i].flags & KVM_MEM_GUEST_MEMFD ? " gmem" : "",
			slots[i].index);
}

void start_failure(void)
{
	fprintf(stderr, "FAIL %s: ", test_name);
}

void end_failure(void)
{
	fputc('\n', stderr);
	if (test_layouts) {
		print_slots("old", test_layouts->old, test_layouts->nr_old);
		print_slots("new", test_layouts->new, test_layouts->nr_new);
	}
	exit(1);
}

static void test_random(u64 seed)
{
	struct layouts l;
	u64 state = seed;
	char name[64];

	snprintf(name, sizeof(name), "random layout, replay with -s %llu -n 1", seed);
	test_name = name;
	test_layouts = &l;

	random_layouts(&l, &state);
	check_plan(&l, &state);
	free_layouts(&l);

	random_overlaps(&l, &state);
	check_overlap(l.new, l.nr_new);
	free_layouts(&l);

	test_layouts = NULL;
}

int main(int argc, char *argv[])
{
	u64 i, seed = 1, runs = 200000;
	clock_t start = clock();
	u32 nr_cases;
	int c;

	while ((c = getopt(argc, argv, "s:n:")) != -1) {
		if (c == 's') {
			seed = strtoull(optarg, NULL, 0);
		} else if (c == 'n') {
			runs = strtoull(optarg, NULL, 0);
		} else {
			fprintf(stderr, "usage: %s [-s seed] [-n random layouts]\n", argv[0]);
			return 2;
		}
	}

	nr_cases = test_cases();
	for (i = 0; i < runs; i++)
		test_random(seed + i);

	printf("ok: memslot planner, %u cases, %llu random layouts from seed %llu, %.1f s\n",
	       nr_cases, runs, seed, (double)(clock() - start) / CLOCKS_PER_SEC);
	return 0;
}
