// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random layouts, in worlds of 64 to 256 blocks.
 *
 * Independent layouts seldom share pages.  So half of the final layouts are made
 * from the old ones by the operations that userspace has in mind.
 */
#include <stdlib.h>
#include <string.h>

#include "plan_test.h"

#define MAX_SLOTS	24

u64 next_random(u64 *state)
{
	u64 z;

	/* splitmix64 */
	*state += 0x9e3779b97f4a7c15ULL;
	z = *state;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

u32 random_below(u64 *state, u32 n)
{
	return (next_random(state) >> 32) % n;
}

void shuffle_slots(struct kvm_plan_slot *slots, u32 nr, u64 *state)
{
	struct kvm_plan_slot tmp;
	u32 i, j;

	for (i = nr; i > 1; i--) {
		j = random_below(state, i);
		tmp = slots[i - 1];
		slots[i - 1] = slots[j];
		slots[j] = tmp;
	}
}

/* An array of its own, so that ASan sees accesses beyond its end. */
struct kvm_plan_slot *copy_slots(const struct kvm_plan_slot *slots, u32 nr)
{
	struct kvm_plan_slot *copy;

	if (!nr)
		return NULL;

	copy = malloc(nr * sizeof(*copy));
	memcpy(copy, slots, nr * sizeof(*copy));
	return copy;
}

void free_layouts(struct layouts *l)
{
	free(l->old);
	free(l->new);
}

static struct world random_world(u64 *state)
{
	struct world w = { .nr = 64 + random_below(state, 193) };

	/* Half of the worlds are of single pages, others too large for 32 bits. */
	if (random_below(state, 2))
		w.shift = random_below(state, 25);

	switch (random_below(state, 4)) {
	case 0:
		break;
	case 1:
		/* Up to the last gfn there can be. */
		w.base = (1ULL << 52) - ((u64)w.nr << w.shift);
		break;
	default:
		w.base = next_random(state) >> 13;
		break;
	}
	return w;
}

/*
 * Few backings, each at a distance of its own from the gfns, so that pages are
 * often the same.
 */
static u64 random_hva(u64 gfn, u64 *state)
{
	u64 hva = gfn + random_below(state, 3) * 0x10000ULL;

	/* Seldom off by some pages. */
	return random_below(state, 6) ? hva : hva + random_below(state, 3);
}

static u32 random_flags(u64 *state)
{
	u32 flags = 0;

	if (random_below(state, 2))
		flags |= KVM_MEM_LOG_DIRTY_PAGES;
	if (!random_below(state, 4))
		flags |= KVM_MEM_READONLY;
	if (!random_below(state, 8))
		flags |= KVM_MEM_GUEST_MEMFD;
	return flags;
}

/*
 * Until they are placed in the world, slots are counted in blocks, hvas too.
 *
 * Return the number of slots.  Often without gaps, often up to both ends.
 */
static u32 random_layout(const struct world *w, struct kvm_plan_slot *slots, u64 *state)
{
	u32 max_size = 1 + random_below(state, w->nr);
	u32 pos = 0, nr = 0, size;

	if (!random_below(state, 32))
		return 0;

	while (nr < MAX_SLOTS) {
		if (random_below(state, 2))
			pos += random_below(state, 16);
		if (pos >= w->nr)
			break;

		size = 1 + random_below(state, max_size);
		if (size > w->nr - pos)
			size = w->nr - pos;
		slots[nr].gfn = pos;
		slots[nr].npages = size;
		slots[nr].hva = random_hva(pos, state);
		slots[nr].flags = random_flags(state);
		nr++;
		pos += size;
	}
	return nr;
}

static void insert_slot(struct kvm_plan_slot *slots, u32 *nr, u32 at)
{
	memmove(slots + at + 1, slots + at, (*nr - at) * sizeof(*slots));
	++*nr;
}

static void remove_slot(struct kvm_plan_slot *slots, u32 *nr, u32 at)
{
	--*nr;
	memmove(slots + at, slots + at + 1, (*nr - at) * sizeof(*slots));
}

/* [gfn, gfn + npages) of the first @head pages, and of what follows. */
static void split_slot(struct kvm_plan_slot *slots, u32 *nr, u32 at, u64 head)
{
	if (!head || head >= slots[at].npages || *nr >= MAX_SLOTS)
		return;

	insert_slot(slots, nr, at);
	slots[at].npages = head;
	slots[at + 1].gfn += head;
	slots[at + 1].npages -= head;
	slots[at + 1].hva += head;
}

static void swap_backings(struct kvm_plan_slot *a, struct kvm_plan_slot *b)
{
	u64 hva = a->hva;

	a->hva = b->hva;
	b->hva = hva;
}

static u64 end_of(const struct kvm_plan_slot *slot)
{
	return slot->gfn + slot->npages;
}

/* Move a slot next to its successor, or grow it up to there. */
static void fill_gap(const struct world *w, struct kvm_plan_slot *slots, u32 nr, u32 at,
		     bool grow)
{
	u64 limit = at + 1 < nr ? slots[at + 1].gfn : w->nr;
	u64 gap = limit - end_of(&slots[at]);

	if (grow)
		slots[at].npages += gap;
	else
		slots[at].gfn += gap;
}

/* Slots are sorted by gfn, and stay so. */
static void random_edit(const struct world *w, struct kvm_plan_slot *slots, u32 *nr, u64 *state)
{
	u32 at = random_below(state, *nr), next = at + 1 < *nr ? at + 1 : 0;
	struct kvm_plan_slot *slot = &slots[at];
	u64 n = random_below(state, slot->npages);

	switch (random_below(state, 10)) {
	case 0:
	case 1:
		split_slot(slots, nr, at, n);
		break;
	case 2:
		/* Hole punch. */
		split_slot(slots, nr, at, n);
		if (at + 1 < *nr)
			split_slot(slots, nr, at + 1, 1);
		remove_slot(slots, nr, at + 1 < *nr ? at + 1 : at);
		break;
	case 3:
		/* Merge. */
		if (next && end_of(slot) == slots[next].gfn) {
			slot->npages += slots[next].npages;
			remove_slot(slots, nr, next);
		}
		break;
	case 4:
		slot->npages -= n;
		break;
	case 5:
		slot->gfn += n;
		slot->npages -= n;
		slot->hva += n;
		break;
	case 6:
		fill_gap(w, slots, *nr, at, n & 1);
		break;
	case 7:
		slot->flags ^= 1u << random_below(state, 3);
		break;
	case 8:
		slot->hva = random_hva(slot->gfn, state);
		break;
	case 9:
		swap_backings(slot, &slots[next]);
		break;
	}
}

static u32 random_edits(const struct world *w, struct kvm_plan_slot *slots, u32 nr, u64 *state)
{
	u32 i, edits = 1 + random_below(state, 8);

	for (i = 0; i < edits && nr; i++)
		random_edit(w, slots, &nr, state);
	return nr;
}

/* The planner must not look at what stands for the id. */
static void name_slots(struct kvm_plan_slot *slots, u32 nr, u64 *state)
{
	u32 i, first = random_below(state, 1000);

	for (i = 0; i < nr; i++)
		slots[i].index = first + i;
	for (i = nr; i > 1; i--) {
		u32 j = random_below(state, i), index = slots[i - 1].index;

		slots[i - 1].index = slots[j].index;
		slots[j].index = index;
	}
}

static struct kvm_plan_slot *place_slots(const struct world *w,
					 struct kvm_plan_slot *slots, u32 nr, u64 *state)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		slots[i].gfn = world_gfn(w, slots[i].gfn);
		slots[i].npages <<= w->shift;
		slots[i].hva = 0x7f0000000000ULL + (slots[i].hva << w->shift) * TEST_PAGE_SIZE;
	}
	name_slots(slots, nr, state);
	shuffle_slots(slots, nr, state);
	return copy_slots(slots, nr);
}

void random_layouts(struct layouts *l, u64 *state)
{
	struct kvm_plan_slot old[MAX_SLOTS], new[MAX_SLOTS];

	l->world = random_world(state);
	l->nr_old = random_layout(&l->world, old, state);
	if (random_below(state, 2)) {
		memcpy(new, old, l->nr_old * sizeof(*old));
		l->nr_new = random_edits(&l->world, new, l->nr_old, state);
	} else {
		l->nr_new = random_layout(&l->world, new, state);
	}
	l->old = place_slots(&l->world, old, l->nr_old, state);
	l->new = place_slots(&l->world, new, l->nr_new, state);
}

/* Few slots in a small world, so that some layouts have no overlap. */
void random_overlaps(struct layouts *l, u64 *state)
{
	struct kvm_plan_slot slots[6];
	u32 i, nr = random_below(state, ARRAY_SIZE(slots) + 1);

	l->world = random_world(state);
	for (i = 0; i < nr; i++) {
		slots[i] = (struct kvm_plan_slot) {
			.gfn = random_below(state, 56),
			.npages = 1 + random_below(state, 8),
		};
	}
	l->old = NULL;
	l->nr_old = 0;
	l->new = place_slots(&l->world, slots, nr, state);
	l->nr_new = nr;
}
