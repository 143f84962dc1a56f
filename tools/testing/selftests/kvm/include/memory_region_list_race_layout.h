/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_RACE_LAYOUT_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_RACE_LAYOUT_H

#include "test_util.h"
#include "memory_region_list.h"
#include "memory_region_list_race.h"

/* The layouts of memory_region_list_race_test, which see. */
#define OTHER_GPA	(6ul << 30)
#define NR_BACKINGS	4u
#define NR_IDS		16
#define FIRST_ID	10
#define OTHER_ID	30

static typeof(shared) *sh;
static uint8_t *mem[NR_BACKINGS], *other_mem;
static struct mrl_layout layout;
static struct guest_random_state rng;

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

/*
 * Boundaries of pieces that are not those of areas: any, those around areas and of
 * huge pages as well, and those that the guest crosses.
 */
static void choose_cuts(bool *cut)
{
	uint32_t nr = guest_random_u32(&rng) % 5, page, i;

	memset(cut, 0, NPAGES);
	for (; nr; nr--) {
		page = guest_random_u32(&rng) % NPAGES;
		cut[guest_random_bool(&rng) ? page & ~127u : page] = true;
	}
	for (i = 0; i < CROSS_DATA; i++)
		cut[cross_page(i)] |= !(guest_random_u32(&rng) % 4);
	/* Not more, or ids run out. */
	for (i = 0; i < 2; i++) {
		page = cross_page(CROSS_DATA + guest_random_u32(&rng) % mrl_vcpus.nr);
		cut[page] |= !(guest_random_u32(&rng) % 4);
	}
}

static void make_layout(struct mrl_layout *next, uint32_t b, bool ro)
{
	uint32_t first = 0, page, i;
	bool cut[NPAGES];

	*next = (struct mrl_layout) {};
	choose_cuts(cut);
	for (page = 1; page <= NPAGES; page++) {
		if (page < NPAGES && !cut[page] &&
		    page_attr(page, b, ro) == page_attr(first, b, ro))
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

static bool is_cut(const struct mrl_layout *l, uint32_t page)
{
	uint32_t i;

	for (i = 0; i < l->nr; i++) {
		if (l->slots[i].gpa == BASE_GPA + page * PAGE_SIZE)
			return true;
	}
	return false;
}

/* Boundaries that came or went in a call, during which the guest crossed them. */
struct crossings {
	uint64_t before[NR_CROSS];
	uint64_t code, forced, data;
};

static void crossings_before(struct crossings *c)
{
	memcpy(c->before, sh->crossed, sizeof(c->before));
}

static void crossings_after(struct crossings *c, const struct mrl_layout *next)
{
	uint32_t i;

	for (i = 0; i < NR_CROSS; i++) {
		if (READ_ONCE(sh->crossed[i]) == c->before[i] ||
		    is_cut(&layout, cross_page(i)) == is_cut(next, cross_page(i)))
			continue;
		c->code += i == CROSS_CODE;
		c->forced += i == CROSS_FORCED || i == CROSS_PREFIX;
		c->data += i >= CROSS_DATA;
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_RACE_LAYOUT_H */
