// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: random transactions.
 *
 * Proves, as far as random lists go, that a list succeeds if and only if a naive
 * oracle says so, fails with the oracle's errno and a plausible error_index, and
 * that the layout is then what the model says: as the guest finds it, and with no
 * dirty bit lost (*order-free*, *all-or-nothing*, *never-lost*).  Prints its seed.
 *
 * Does not prove: anything about vCPUs that run during the call.
 */
#include <time.h>

#include "memory_region_list_model.h"

#define ROUNDS	400
#define IDS	10
#define ENTRIES	8

static uint64_t pick(uint64_t n)
{
	return random() % n;
}

/* Sizes and places are such that about every other list is legal. */
static mrl_entry random_entry(const struct mrl_model *m, uint32_t id)
{
	static const uint32_t flags[] = {
		0, 0, 0, KVM_MEM_READONLY, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_LOG_DIRTY_PAGES,
		KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY,
	};
	uint64_t size = 1 + pick(12), first = pick(MRL_WIN_PAGES - size);
	const mrl_entry *near = mrl_model_find(m, first);
	mrl_entry e = {
		.slot = id,
		.flags = flags[pick(ARRAY_SIZE(flags))],
		.guest_phys_addr = MRL_GPA(first),
		.memory_size = MRL_SIZE(size),
		/* Mostly linear, or hardly a page would stay the same. */
		.userspace_addr = MRL_HVA(first + (pick(4) ? 0 : MRL_WIN_PAGES)),
	};

	switch (pick(5)) {
	case 0:
		e.memory_size = 0;
		break;
	case 1:
		/* Another part of what is there, maybe all of it. */
		if (near) {
			e.guest_phys_addr = near->guest_phys_addr;
			e.userspace_addr = near->userspace_addr;
			e.memory_size = near->memory_size;
			e.flags = near->flags;
		}
		break;
	case 2:
		/* No change. */
		e = m->slot[id];
		break;
	default:
		break;
	}
	return e;
}

/*
 * Cut what is in a range of the window anew: splits, merges, holes, renames, and
 * slots that trade places.  Always legal.
 */
static void random_cut(const struct mrl_model *m, struct mrl *l)
{
	uint64_t page = pick(MRL_WIN_PAGES), end = page + 8 + pick(24), size;
	uint32_t id, i, named = 0;

	/* All slots in the range are named, by a delete to begin with. */
	for (id = 1; id <= IDS && l->list->nent < ENTRIES - 1; id++) {
		if (m->slot[id].memory_size && mrl_entry_first(&m->slot[id]) >= page &&
		    mrl_entry_first(&m->slot[id]) < end) {
			mrl_delete(l, id);
			named |= BIT(id);
		}
	}
	for (id = 1; id <= IDS && l->list->nent < ENTRIES; id++) {
		if (!m->slot[id].memory_size)
			mrl_delete(l, id);
	}
	/* Ids become pieces in any order; those that were free and stay so go. */
	for (i = 0; i < l->list->nent; i++) {
		mrl_entry *e = &l->list->entries[(i * 5 + end) % l->list->nent];

		for (size = pick(3) ? 0 : pick(4); size && page < MRL_WIN_PAGES; size--)
			page++;
		for (size = 0; page + size < MRL_WIN_PAGES && size < 8 + pick(8); size++) {
			const mrl_entry *old = mrl_model_find(m, page + size);

			if (old && !(named & BIT(old->slot)))
				break;
		}
		if (size) {
			id = e->slot;
			*e = random_entry(m, id);
			e->slot = id;
			e->guest_phys_addr = MRL_GPA(page);
			e->memory_size = MRL_SIZE(size);
			e->userspace_addr = MRL_HVA(page + (pick(8) ? 0 : MRL_WIN_PAGES));
			if (pick(2))
				e->flags = KVM_MEM_LOG_DIRTY_PAGES;
		}
		page += size + !size;
	}
	for (i = 0; i < l->list->nent; i++) {
		const mrl_entry *e = &l->list->entries[i];

		if (!e->memory_size && !(named & BIT(e->slot)))
			l->list->entries[i--] = l->list->entries[--l->list->nent];
	}
}

static void random_list(const struct mrl_model *m, struct mrl *l)
{
	uint32_t nr = 1 + pick(4), id, used = 0;

	mrl_reset(l);
	if (pick(3)) {
		random_cut(m, l);
		return;
	}
	while (l->list->nent < nr) {
		id = 1 + pick(IDS);
		if (used & BIT(id))
			continue;
		used |= BIT(id);
		l->list->entries[l->list->nent++] = random_entry(m, id);
	}
}

static bool overlaps(const mrl_entry *a, const mrl_entry *b)
{
	return a->guest_phys_addr < b->guest_phys_addr + b->memory_size &&
	       b->guest_phys_addr < a->guest_phys_addr + a->memory_size;
}

/* Entries of slots that overlap in the final layout @m, as a bitmap. */
static uint32_t overlapping(const struct mrl_model *m, const struct mrl *l)
{
	uint32_t i, j, bad = 0;

	for (i = 0; i < l->list->nent; i++) {
		const mrl_entry *e = &l->list->entries[i];

		for (j = 0; e->memory_size && j < MRL_MODEL_IDS; j++) {
			if (j != e->slot && m->slot[j].memory_size && overlaps(e, &m->slot[j]))
				bad |= BIT(i);
		}
	}
	return bad;
}

/* What has to come of it: 0 or an errno, and the entries that may be named. */
static int oracle(const struct mrl_model *m, const struct mrl *l, uint32_t *index)
{
	struct mrl_model final = *m;
	int err = 0;
	uint32_t i;

	for (i = 0; i < l->list->nent; i++) {
		const mrl_entry *e = &l->list->entries[i];

		if (!e->memory_size && !m->slot[e->slot].memory_size) {
			*index = BIT(i);
			err = ENOENT;
			return err;
		}
		final.slot[e->slot] = *e;
	}
	*index = overlapping(&final, l);
	if (*index)
		err = EEXIST;
	return err;
}

static void expect_fail(struct mrl_model *m, struct mrl *l, const char *what, int want,
			uint32_t index)
{
	struct mrl_counts counts = mrl_counts_get(m->g.vm);
	uint32_t got;
	int r;

	mrl_model_want_results(m, l);
	r = __mrl_apply(m->g.vm, l);
	got = l->list->error_index;
	TEST_ASSERT(r == -1 && errno == want, "%s: wanted errno %d, got %d, errno %d", what,
		    want, r, errno);
	TEST_ASSERT(got < 32 && (index & BIT(got)), "%s: wanted error_index of 0x%x, got %u",
		    what, index, got);

	counts = mrl_counts_since(m->g.vm, counts);
	TEST_ASSERT(counts.failed == 1 && !counts.grace_periods && !counts.zapped,
		    "%s: wanted 1 failed, no work, got %lu, %lu grace periods, %lu zapped",
		    what, counts.failed, counts.grace_periods, counts.zapped);
	mrl_model_check(m, what);
}

int main(int argc, char *argv[])
{
	unsigned int seed = argc > 1 ? strtoul(argv[1], NULL, 0) : time(NULL);
	int i, want, count[2] = {};
	struct mrl_model m;
	uint32_t index;
	char what[64];
	struct mrl l;

	mrl_require();

	pr_info("Seed %u, give it as an argument to repeat the run\n", seed);
	srandom(seed);
	mrl_mem_alloc(MRL_MEM_PAGES);
	m = mrl_model_create();
	l = mrl_alloc(ENTRIES);

	for (i = 0; i < ROUNDS; i++) {
		random_list(&m, &l);
		want = oracle(&m, &l, &index);
		snprintf(what, sizeof(what), "seed %u, round %d", seed, i);
		if (want)
			expect_fail(&m, &l, what, want, index);
		else
			mrl_model_apply(&m, &l, what);
		count[!want]++;
	}
	pr_info("%d lists were legal, %d were not, %lu dirty bits more than needed\n",
		count[1], count[0], m.over_reported);
	TEST_ASSERT(count[0] > ROUNDS / 10 && count[1] > ROUNDS / 10,
		    "Wanted at least %d of each, got %d legal, %d not", ROUNDS / 10, count[1],
		    count[0]);
	mrl_free(&l);
	mrl_model_free(&m);
	return 0;
}
