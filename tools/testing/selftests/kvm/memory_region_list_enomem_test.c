// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: ENOMEM.
 *
 * Proves that a list one entry of which needs more memory than there is fails with
 * ENOMEM, names that entry, changes nothing (*all-or-nothing*) and gives back what it
 * had allocated for the others, and that the list without that entry succeeds.
 *
 * Needs shadow paging: guest physical addresses have 52 bits and each page takes 8
 * bytes of a reverse map, i.e. 16 GiB for a slot as large as slots get.  Where memory
 * is smaller than that, vmalloc() tells KVM so without trying, and logs an error
 * with a stack trace.
 *
 * Does not prove: anything about allocations other than those of the architecture.
 */
#include "memory_region_list_state.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define HUGE_SLOT_PAGES	(BIT_ULL(31) - 1)
#define HUGE_SLOT_KB	(HUGE_SLOT_PAGES * 8 >> 10)
/* The reverse map of this one takes 32 MiB, the rest of its metadata less. */
#define LARGE_SLOT_PAGES	BIT_ULL(22)
#define LARGE_SLOT_KB		(LARGE_SLOT_PAGES * 8 >> 10)
#define CALLS		20
/* What others may allocate meanwhile. */
#define SLACK_KB	512

static uint64_t meminfo_kb(const char *key)
{
	size_t len = strlen(key);
	uint64_t kb = 0;
	bool found = false;
	char line[256];
	FILE *f;

	f = fopen("/proc/meminfo", "r");
	TEST_ASSERT(f, "fopen() of /proc/meminfo: got errno %d", errno);
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, key, len) && sscanf(line + len, ": %lu kB", &kb) == 1;
	fclose(f);
	TEST_ASSERT(found, "/proc/meminfo: wanted '%s', got none", key);
	return kb;
}

static void check_used(uint64_t before, int64_t min, int64_t max, const char *what)
{
	int64_t got = meminfo_kb("VmallocUsed") - before;

	TEST_ASSERT(got >= min - SLACK_KB && got <= max + SLACK_KB,
		    "%s: vmalloc memory: wanted %ld to %ld kB (+-%d) more than before, got %ld",
		    what, min, max, SLACK_KB, got);
}

/* KVM prepares by address: when it comes to the huge slot, there is much to undo. */
static struct mrl make_list(bool huge)
{
	struct mrl l = mrl_alloc(4);

	mrl_set(&l, MRL_FREE_ID, LOG, MRL_GPA(40), MRL_SIZE(4), (void *)MRL_HVA(40));
	if (huge)
		mrl_set(&l, 7, 0, BIT_ULL(40), MRL_SIZE(HUGE_SLOT_PAGES), (void *)MRL_HVA(0));
	mrl_set(&l, 8, LOG, BIT_ULL(39), MRL_SIZE(LARGE_SLOT_PAGES), (void *)MRL_HVA(0));
	mrl_set(&l, MRL_PLAIN, LOG, MRL_GPA(0), MRL_SIZE(8), (void *)MRL_HVA(64));
	return l;
}

static void test_enomem(struct mrl_world *w)
{
	struct mrl l = make_list(true);
	uint64_t before;
	int i;

	/* A test does not allocate. */
	l.list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY;
	mrl_apply(w->g.vm, &l);
	l.list->flags = 0;

	before = meminfo_kb("VmallocUsed");
	for (i = 0; i < CALLS; i++)
		mrl_expect_fail(w, "ENOMEM", l.list, ENOMEM, MRL_ENTRY(1));
	check_used(before, 0, 0, "Calls that failed");
	pr_info("%d calls failed for want of %llu kB, changed nothing and kept no memory\n",
		CALLS, HUGE_SLOT_KB);
	mrl_free(&l);
}

static void test_without(struct mrl_world *w)
{
	const uint64_t pages = BIT_ULL(7) | BIT_ULL(8) | BIT_ULL(40);
	const uint64_t before = meminfo_kb("VmallocUsed");
	uint64_t val[MRL_WIN_PAGES], exits;
	struct mrl l = make_list(false);

	mrl_apply(w->g.vm, &l);
	check_used(before, LARGE_SLOT_KB, 2 * LARGE_SLOT_KB, "The large slot exists");
	exits = mrl_guest_read(&w->g, 0, pages, val);
	TEST_ASSERT(exits == BIT_ULL(8) && val[7] == MRL_TAG(71) && val[40] == MRL_TAG(40),
		    "Pages 7, 40: wanted 0x%llx, 0x%llx, exits 0x%llx, got 0x%lx, 0x%lx, exits 0x%lx",
		    MRL_TAG(71), MRL_TAG(40), BIT_ULL(8), val[7], val[40], exits);

	mrl_reset(&l);
	mrl_delete(&l, 8);
	l.list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	mrl_apply(w->g.vm, &l);
	check_used(before, 0, 0, "The large slot deleted");
	pr_info("Without the huge slot the list succeeds\n");
	mrl_free(&l);
}

int main(int argc, char *argv[])
{
	struct mrl_world w;

	mrl_require();
	TEST_REQUIRE(!kvm_is_tdp_enabled());
	TEST_REQUIRE(meminfo_kb("MemTotal") < HUGE_SLOT_KB);

	mrl_mem_alloc(MRL_MEM_PAGES);
	mrl_result_alloc();
	w = mrl_world_create();
	test_enomem(&w);
	test_without(&w);
	mrl_world_free(&w);
	return 0;
}
