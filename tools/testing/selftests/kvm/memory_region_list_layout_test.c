// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: what a successful call does.
 *
 * Proves, by a table of transactions and a naive model, for each operation and for
 * mixes of them, that after the call the guest reads, writes and exits where the
 * final layout says so, that KVM's own accesses agree, that no transaction depends
 * on the order of its entries (*order-free*), that a transaction takes one grace
 * period and a no-op none (*one-grace-period*), that dirty bits stay in a log or
 * come back (*never-lost*, with the vCPU at rest), with DISCARD_DIRTY too if there is
 * a buffer, and that calls can be mixed with KVM_SET_USER_MEMORY_REGION.  Under the
 * TDP MMU also that exactly the pages that go or change are zapped, and the guest
 * reads the others without a fault (*kept-mappings*).
 *
 * Does not prove: anything about vCPUs that run during the call, i.e. *no-hole* and
 * *no-stale-mapping* in time; see memory_region_list_race_test.c.
 */
#include <time.h>

#include "memory_region_list_model.h"

#define LOG	KVM_MEM_LOG_DIRTY_PAGES
#define RO	KVM_MEM_READONLY

struct step {
	const char *what;
	int nr;
	mrl_entry e[8];
};

/* Slot @id: @n pages from page @gpa on, host memory from page @hva on. */
#define S(id, fl, gpa, n, hva) \
	{ (id), (fl), MRL_GPA(gpa), MRL_SIZE(n), MRL_HVA(hva) }
#define DEL(id)	{ (id) }

static const struct step steps[] = {
	{ "create", 4, { S(1, 0, 0, 16, 0), S(2, LOG, 16, 16, 16), S(3, RO, 32, 8, 32),
			 S(4, LOG, 48, 8, 48) } },
	{ "no-op", 4, { S(4, LOG, 48, 8, 48), S(2, LOG, 16, 16, 16), S(3, RO, 32, 8, 32),
			S(1, 0, 0, 16, 0) } },
	{ "grow at the end", 1, { S(3, RO, 32, 16, 32) } },
	{ "shrink at the end", 1, { S(3, RO, 32, 8, 32) } },
	{ "shrink at the start", 1, { S(1, 0, 4, 12, 4) } },
	{ "grow at the start", 1, { S(1, 0, 0, 16, 0) } },
	{ "move", 1, { S(3, RO, 40, 8, 32) } },
	{ "move onto itself", 1, { S(3, RO, 37, 8, 32) } },
	{ "move back", 1, { S(3, RO, 32, 8, 32) } },
	{ "split", 2, { S(1, 0, 0, 8, 0), S(5, 0, 8, 8, 8) } },
	{ "split twice", 4, { S(1, 0, 0, 4, 0), S(5, 0, 8, 4, 8), S(6, 0, 4, 4, 4),
			      S(7, 0, 12, 4, 12) } },
	{ "merge", 4, { DEL(1), DEL(5), DEL(6), S(7, 0, 0, 16, 0) } },
	{ "punch a hole", 2, { S(7, 0, 0, 6, 0), S(1, 0, 10, 6, 10) } },
	{ "fill the hole with other memory", 1, { S(6, 0, 6, 4, 70) } },
	{ "merge around other memory", 3, { S(1, 0, 0, 16, 0), DEL(7), DEL(6) } },
	{ "split at an odd page", 2, { S(1, 0, 0, 1, 0), S(5, 0, 1, 15, 1) } },
	{ "merge into the lower", 2, { S(1, 0, 0, 16, 0), DEL(5) } },
	{ "other host memory", 1, { S(1, 0, 0, 16, 80) } },
	{ "other host memory, overlapping", 1, { S(1, 0, 0, 16, 81) } },
	{ "read-only", 1, { S(1, RO, 0, 16, 81) } },
	{ "read-write", 1, { S(1, 0, 0, 16, 81) } },
	{ "a part of it read-only", 2, { S(1, 0, 0, 5, 81), S(5, RO, 5, 11, 86) } },
	{ "the other part read-only", 2, { S(1, RO, 0, 5, 81), S(5, 0, 5, 11, 86) } },
	{ "ids trade places", 2, { S(5, RO, 0, 5, 81), S(1, 0, 5, 11, 86) } },
	{ "ids trade places and flags", 2, { S(1, 0, 0, 5, 81), S(5, RO, 5, 11, 86) } },
	{ "ranges swap", 2, { S(1, 0, 11, 5, 81), S(5, RO, 0, 11, 86) } },
	{ "memory swaps", 2, { S(1, 0, 11, 5, 86), S(5, RO, 0, 11, 91) } },
	{ "rename", 2, { DEL(1), S(8, 0, 11, 5, 86) } },
	{ "grow into what another gives up", 2, { S(8, 0, 6, 10, 81), S(5, RO, 0, 6, 91) } },
	{ "grow into what a deleted one gives up", 2, { DEL(5), S(8, 0, 0, 16, 110) } },
	{ "three rotate", 3, { S(8, 0, 16, 8, 118), S(2, LOG, 24, 8, 24), S(9, 0, 0, 16, 16) } },
	{ "logging on", 3, { S(8, LOG, 16, 8, 118), S(3, RO | LOG, 32, 8, 32),
			     S(9, LOG, 0, 16, 16) } },
	{ "split while logging", 4, { S(9, LOG, 0, 3, 16), S(1, LOG, 3, 6, 19),
				      S(5, LOG, 9, 7, 25), S(2, LOG, 24, 8, 24) } },
	{ "rename while logging", 3, { DEL(1), S(5, LOG, 3, 6, 19), S(10, LOG, 9, 7, 25) } },
	{ "merge while logging", 3, { S(9, LOG, 0, 16, 16), DEL(5), DEL(10) } },
	{ "punch a hole while logging", 2, { S(9, LOG, 0, 5, 16), S(1, LOG, 11, 5, 27) } },
	{ "grow while logging", 1, { S(9, LOG, 0, 11, 16) } },
	{ "read-only while logging", 1, { S(9, LOG | RO, 0, 11, 16) } },
	{ "split and read-write while logging", 2, { S(9, LOG, 0, 6, 16),
						     S(11, LOG | RO, 6, 5, 22) } },
	{ "ids trade places while logging", 2, { S(11, LOG, 0, 6, 16), S(9, LOG | RO, 6, 5, 22) } },
	{ "move while logging", 1, { S(4, LOG, 52, 8, 48) } },
	{ "other host memory while logging", 1, { S(4, LOG, 52, 8, 60) } },
	{ "a part stops logging", 2, { S(4, 0, 52, 3, 60), S(12, LOG, 55, 5, 63) } },
	{ "no-op and a change", 3, { S(12, LOG, 55, 5, 63), S(2, LOG, 24, 8, 24),
				     S(4, LOG, 52, 3, 60) } },
	{ "logging off", 5, { S(8, 0, 16, 8, 118), S(2, 0, 24, 8, 24), S(3, RO, 32, 8, 32),
			      S(4, 0, 52, 3, 60), S(12, 0, 55, 5, 63) } },
	{ "delete what logs", 2, { DEL(11), DEL(1) } },
	{ "all at once", 7, { DEL(9), DEL(8), S(2, 0, 0, 32, 0), S(3, LOG, 32, 8, 32),
			      DEL(12), S(4, RO, 40, 4, 140), S(13, LOG, 44, 20, 144) } },
	{ "delete all", 4, { DEL(13), DEL(4), DEL(3), DEL(2) } },
};

static void fill_list(struct mrl *l, const struct step *s)
{
	mrl_entry tmp;
	int i, j;

	mrl_reset(l);
	for (i = 0; i < s->nr; i++)
		l->list->entries[l->list->nent++] = s->e[i];

	/* *order-free* */
	for (i = s->nr - 1; i > 0; i--) {
		j = random() % (i + 1);
		tmp = l->list->entries[i];
		l->list->entries[i] = l->list->entries[j];
		l->list->entries[j] = tmp;
	}
}

/* What the table does not show: *all-or-nothing* when only a test was wanted. */
static void check_test_only(struct mrl_model *m, struct mrl *l, const char *what)
{
	struct mrl_counts counts = mrl_counts_get(m->g.vm);

	l->list->as_id = m->as_id;
	l->list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY |
			 KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	mrl_apply(m->g.vm, l);
	l->list->flags = 0;

	counts = mrl_counts_since(m->g.vm, counts);
	TEST_ASSERT(!counts.grace_periods && !counts.zapped,
		    "%s, as a test: wanted no work, got %lu grace periods, %lu zapped",
		    what, counts.grace_periods, counts.zapped);
	mrl_model_check_logs(m, what);
	mrl_model_check_probes(m, what);
}

/* As userspace has to do it without the list; loses the bits of what it deletes. */
static void apply_old(struct mrl_model *m, struct mrl *l, const char *what)
{
	struct kvm_userspace_memory_region_list *list = l->list;
	const mrl_entry *e;
	uint32_t i;

	for (i = 0; i < list->nent; i++) {
		e = &list->entries[i];
		if (!m->slot[e->slot].memory_size || mrl_entry_equal(e, &m->slot[e->slot]))
			continue;
		if (mrl_entry_logs(&m->slot[e->slot]))
			m->dirty &= ~mrl_entry_pages(&m->slot[e->slot]);
		vm_set_user_memory_region(m->g.vm, m->as_id << 16 | e->slot, 0, 0, 0, NULL);
	}
	for (i = 0; i < list->nent; i++) {
		e = &list->entries[i];
		if (!e->memory_size || mrl_entry_equal(e, &m->slot[e->slot]))
			continue;
		if (i % 2)
			vm_set_user_memory_region(m->g.vm, m->as_id << 16 | e->slot, e->flags,
						  e->guest_phys_addr, e->memory_size,
						  (void *)e->userspace_addr);
		else
			vm_set_user_memory_region2(m->g.vm, m->as_id << 16 | e->slot, e->flags,
						   e->guest_phys_addr, e->memory_size,
						   (void *)e->userspace_addr, 0, 0);
	}
	mrl_model_commit(m, l);
	mrl_model_check(m, what);
}

/* Every @mix-th step by the old ioctls, if not 0. */
static void run_steps(uint32_t as_id, int mix, const char *what)
{
	struct mrl_model m = mrl_model_create();
	struct mrl l = mrl_alloc(ARRAY_SIZE(steps[0].e));
	int i;

	m.as_id = as_id;
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		fill_list(&l, &steps[i]);
		if (mix && i % mix == mix - 1) {
			apply_old(&m, &l, steps[i].what);
		} else {
			check_test_only(&m, &l, steps[i].what);
			mrl_model_apply(&m, &l, steps[i].what);
		}
		/* What another address space does is invisible. */
		if (as_id)
			TEST_ASSERT(!~mrl_guest_read(&m.g, 0, MRL_ALL_PAGES, NULL),
				    "%s: wanted an exit for each page, got memory",
				    steps[i].what);
	}
	pr_info("%s: %d transactions, %lu dirty bits more than needed\n", what, i,
		m.over_reported);
	mrl_free(&l);
	mrl_model_free(&m);
}

#define LONG_PAGES	200
#define LONG_WORDS	DIV_ROUND_UP(LONG_PAGES, 64)

static bool long_dirty(uint64_t page)
{
	return page * 11 % 7 < 3;
}

/* Bits of a log, or of @result, of @nr pages from page @first on. */
static void check_long(struct kvm_vm *vm, uint32_t slot, const uint64_t *result,
		       uint64_t first, uint64_t nr, uint64_t want_from)
{
	uint64_t log[LONG_WORDS] = {};
	uint64_t i;

	if (!result)
		kvm_vm_get_dirty_log(vm, slot, log);
	else
		memcpy(log, result, sizeof(log));

	for (i = 0; i < LONG_WORDS * 64; i++) {
		bool want = i < nr && i >= want_from && long_dirty(first + i);
		bool got = log[i / 64] & BIT_ULL(i % 64);

		TEST_ASSERT(want == got, "%s of slot %u, page %lu: wanted %d, got %d",
			    result ? "Result" : "Log", slot, i, want, got);
	}
}

static void set_long(struct mrl *l, uint32_t slot, uint64_t first, uint64_t end)
{
	mrl_set(l, slot, LOG, MRL_GPA(first), MRL_SIZE(end - first), (void *)MRL_HVA(first));
}

/* Bitmaps of several words, cut where no word ends. */
static void test_long_bitmaps(void)
{
	struct mrl_guest g = mrl_guest_create(4 * MRL_WIN_PAGES);
	uint64_t result[LONG_WORDS + 1] = {}, val[MRL_WIN_PAGES] = {}, pages, i, page;
	struct mrl l = mrl_alloc(4);

	vm_enable_cap(g.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	set_long(&l, 1, 0, LONG_PAGES);
	mrl_apply(g.vm, &l);
	for (page = 0; page < LONG_PAGES; page += MRL_WIN_PAGES) {
		for (i = 0, pages = 0; i < MRL_WIN_PAGES && page + i < LONG_PAGES; i++)
			pages |= (uint64_t)long_dirty(page + i) << i;
		mrl_guest_write(&g, page, pages, val);
	}
	check_long(g.vm, 1, NULL, 0, LONG_PAGES, 0);

	/* Into slots that log in words of their own. */
	mrl_reset(&l);
	set_long(&l, 2, 0, 67);
	set_long(&l, 3, 67, 70);
	set_long(&l, 1, 70, 133);
	set_long(&l, 4, 133, LONG_PAGES);
	mrl_apply(g.vm, &l);
	check_long(g.vm, 2, NULL, 0, 67, 0);
	check_long(g.vm, 3, NULL, 67, 3, 0);
	check_long(g.vm, 1, NULL, 70, 63, 0);
	check_long(g.vm, 4, NULL, 133, LONG_PAGES - 133, 0);

	mrl_reset(&l);
	mrl_delete(&l, 2);
	mrl_delete(&l, 3);
	mrl_delete(&l, 1);
	set_long(&l, 4, 0, LONG_PAGES);
	mrl_apply(g.vm, &l);
	check_long(g.vm, 4, NULL, 0, LONG_PAGES, 0);

	/* What leaves is what is beyond page 69, and no word more is written. */
	mrl_reset(&l);
	result[LONG_WORDS] = 0xa5;
	set_long(&l, 4, 0, 69);
	mrl_result(&l.list->entries[0], result, sizeof(result));
	mrl_apply(g.vm, &l);
	check_long(g.vm, 4, NULL, 0, 69, 0);
	check_long(g.vm, 4, result, 0, LONG_PAGES, 69);
	TEST_ASSERT(result[LONG_WORDS] == 0xa5, "Behind the result: wanted 0xa5, got 0x%lx",
		    result[LONG_WORDS]);
	mrl_free(&l);
	kvm_vm_free(g.vm);
}

/* Of two slots that go, only the bits of the one without a buffer are dropped. */
static void test_discard_one(void)
{
	struct mrl_guest g = mrl_guest_create(MRL_WIN_PAGES);
	uint64_t result[2] = { 0xa5, 0xa5 }, val[MRL_WIN_PAGES] = {}, log;
	struct mrl l = mrl_alloc(2);

	vm_enable_cap(g.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	set_long(&l, 1, 0, 8);
	set_long(&l, 2, 8, 16);
	mrl_apply(g.vm, &l);
	mrl_guest_write(&g, 0, BIT_ULL(1) | BIT_ULL(2) | BIT_ULL(9), val);

	mrl_reset(&l);
	mrl_delete(&l, 2);
	mrl_result(mrl_delete(&l, 1), result, 8);
	l.list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	mrl_apply(g.vm, &l);
	TEST_ASSERT(l.list->error_index == l.list->nent && result[0] == 0x6 && result[1] == 0xa5,
		    "DISCARD_DIRTY, one buffer: wanted error_index %u, 0x6, 0xa5, got %u, 0x%lx, 0x%lx",
		    l.list->nent, l.list->error_index, result[0], result[1]);

	/* Nor do the others come back. */
	mrl_reset(&l);
	set_long(&l, 1, 0, 8);
	set_long(&l, 2, 8, 16);
	mrl_apply(g.vm, &l);
	kvm_vm_get_dirty_log(g.vm, 1, &log);
	TEST_ASSERT(!(log & 0xff), "Log of slot 1: wanted 0, got 0x%lx", log & 0xff);
	kvm_vm_get_dirty_log(g.vm, 2, &log);
	TEST_ASSERT(!(log & 0xff), "Log of slot 2: wanted 0, got 0x%lx", log & 0xff);
	mrl_free(&l);
	kvm_vm_free(g.vm);
}

/* The rules for bits also hold if all of them are set to begin with. */
static void test_initially_set(void)
{
	struct mrl_model m = mrl_model_create();
	struct mrl l = mrl_alloc(4);
	uint64_t log = 0, result = 0;

	vm_enable_cap(m.g.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	mrl_set(&l, 1, LOG, MRL_GPA(0), MRL_SIZE(8), (void *)MRL_HVA(0));
	mrl_apply(m.g.vm, &l);
	kvm_vm_get_dirty_log(m.g.vm, 1, &log);
	TEST_ASSERT(log == 0xff, "Initially set: wanted 0xff, got 0x%lx", log);

	/* Pages that enter by growing are set, pages that were cleared are not. */
	kvm_vm_clear_dirty_log(m.g.vm, 1, &log, 0, 8);
	mrl_reset(&l);
	mrl_set(&l, 1, LOG, MRL_GPA(0), MRL_SIZE(12), (void *)MRL_HVA(0));
	mrl_apply(m.g.vm, &l);
	log = 0;
	kvm_vm_get_dirty_log(m.g.vm, 1, &log);
	TEST_ASSERT((log & 0xf00) == 0xf00, "Entered: wanted 0xf00, got 0x%lx", log);
	pr_info("Initially set: %d dirty bits more than needed\n",
		__builtin_popcountll(log & ~0xf00ull));

	/* Initial bits that were never fetched are returned as well. */
	mrl_reset(&l);
	mrl_result(mrl_set(&l, 1, LOG, MRL_GPA(0), MRL_SIZE(10), (void *)MRL_HVA(0)),
		   &result, 8);
	mrl_apply(m.g.vm, &l);
	TEST_ASSERT(result == 0xc00, "Returned: wanted 0xc00, got 0x%lx", result);
	mrl_free(&l);
	mrl_model_free(&m);
}

int main(int argc, char *argv[])
{
	unsigned int seed = argc > 1 ? strtoul(argv[1], NULL, 0) : time(NULL);

	mrl_require();

	pr_info("Seed %u, give it as an argument to repeat the run\n", seed);
	srandom(seed);
	mrl_mem_alloc(MRL_MEM_PAGES);

	run_steps(0, 0, "List");
	run_steps(0, 2, "List and old ioctls in turn");
	run_steps(0, 3, "List and some old ioctls");
	if (kvm_check_cap(KVM_CAP_MULTI_ADDRESS_SPACE) > 1)
		run_steps(1, 0, "Address space 1");
	else
		pr_info("Left out: address space 1, not supported\n");
	test_discard_one();
	test_initially_set();
	test_long_bitmaps();
	return 0;
}
