/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_DRAW_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_DRAW_H

#include "memory_region_list_fuzz_spoil.h"

/*
 * What memory_region_list_fuzz_test, which see, does next, as the layout is now.  Most
 * lists cut a range of the window anew: splits, merges, holes, moves, renames and slots
 * that trade places come out of that by themselves.
 */
struct fuzz_piece {
	uint32_t first, end;	/* pages */
};

static uint32_t *cut_map, *cut_owner;		/* by page; owner: id plus one */
static uint32_t *cut_named, nr_named;		/* ids whose slots are in the range */
static struct fuzz_piece *cut_pieces;
static uint32_t nr_pieces;
static bool *cut_used;				/* ids that have a piece */

static void draw_init(void)
{
	cut_map = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(*cut_map));
	cut_owner = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(*cut_owner));
	cut_named = fuzz_alloc(FUZZ_MAX_IDS, sizeof(*cut_named));
	cut_pieces = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(*cut_pieces));
	cut_used = fuzz_alloc(FUZZ_MAX_IDS, sizeof(*cut_used));
}

static void learn_layout(uint32_t as_id)
{
	const struct fuzz_slot *s;
	uint32_t id, i, page;

	memset(cut_map, 0, config.nr_pages * sizeof(*cut_map));
	memset(cut_owner, 0, config.nr_pages * sizeof(*cut_owner));
	for (id = 0; id < nr_known; id++) {
		s = &slots[as_id][id];
		for (i = 0; in_window(s) && i < s->npages; i++) {
			page = page_of(s->gfn) + i;
			cut_map[page] = map_of(s, s->gfn + i);
			cut_owner[page] = id + 1;
		}
	}
}

/* A range that begins and ends where slots do, or in a hole. */
static struct fuzz_piece draw_range(void)
{
	uint32_t all = config.nr_pages, most = fuzz_once_in(2) ? 24 : fuzz_once_in(8) ? all : 96;
	struct fuzz_piece r;

	/* In terms of huge pages it is small, too. */
	most *= config.huge ? 4 : 1;
	r.first = fuzz_pick(all);
	r.end = min(all, r.first + 1 + fuzz_pick(most));
	while (r.first && cut_owner[r.first] && cut_owner[r.first - 1] == cut_owner[r.first])
		r.first--;
	while (r.end < all && cut_owner[r.end] &&
	       cut_owner[r.end - 1] == cut_owner[r.end])
		r.end++;
	return r;
}

static uint32_t at_host(uint32_t host, uint32_t flags)
{
	return ((host + 1) << 2) | flags;
}

enum { MAKE_HOLE, FILL, REBACK, SHIFT, RO_ON, RO_OFF, LOG_ON, LOG_OFF };

/* Mostly there is memory that can be written and that logs, or there would be little to see. */
static const uint8_t mutations[] = {
	MAKE_HOLE, FILL, FILL, FILL, FILL, REBACK, REBACK, SHIFT, RO_ON, RO_OFF, RO_OFF, RO_OFF,
	LOG_ON, LOG_ON, LOG_ON, LOG_OFF,
};

static uint32_t mutate_page(uint32_t m, uint32_t page, uint32_t how, uint32_t by)
{
	uint32_t all = FUZZ_BACKINGS * config.nr_pages;

	if (how == MAKE_HOLE || (!m && how != FILL))
		return 0;
	switch (how) {
	case FILL:
		return m ?: at_host(page, (by % 4 ? FUZZ_LOG : 0) | (by % 32 ? 0 : FUZZ_RO));
	case REBACK:
		return at_host((host_of(m) + config.nr_pages) % all, m & 3);
	case SHIFT:
		return at_host(page + (config.linear ? 0 : by % config.nr_pages), m & 3);
	case RO_ON:
		return m | FUZZ_RO;
	case RO_OFF:
		return m & ~FUZZ_RO;
	case LOG_ON:
		return m | FUZZ_LOG;
	}
	return m & ~FUZZ_LOG;
}

static void mutate_range(struct fuzz_piece r)
{
	uint32_t times = fuzz_pick(4), size = r.end - r.first, page, first, end, how, by;

	while (times--) {
		how = mutations[fuzz_pick(ARRAY_SIZE(mutations))];
		by = fuzz_pick(1024);
		first = r.first + (fuzz_once_in(3) ? 0 : fuzz_pick(size));
		end = fuzz_once_in(3) ? r.end : first + 1 + fuzz_pick(r.end - first);
		for (page = first; page < end; page++)
			cut_map[page] = mutate_page(cut_map[page], page, how, by);
	}
}

/* May one slot have both pages? */
static bool continues(uint32_t m, uint32_t next)
{
	return m ? next == m + (1 << 2) : !next;
}

/* @all: as many as there can be. */
static void draw_pieces(struct fuzz_piece r, bool all)
{
	uint32_t cuts = fuzz_once_in(4) ? 2 : fuzz_once_in(4) ? 8 : config.nr_pages + 1, page;
	uint32_t first = r.first;

	nr_pieces = 0;
	for (page = r.first + 1; page <= r.end; page++) {
		if (page < r.end && continues(cut_map[page - 1], cut_map[page]) &&
		    !(all ? nr_pieces < FUZZ_MAX_IDS - 4 : fuzz_once_in(cuts * 4)))
			continue;
		if (cut_map[first])
			cut_pieces[nr_pieces++] = (struct fuzz_piece) { first, page };
		first = page;
	}
}

static void learn_named(struct fuzz_piece r)
{
	uint32_t page;

	nr_named = 0;
	for (page = r.first; page < r.end; page++) {
		if (cut_owner[page] && (page == r.first || cut_owner[page] != cut_owner[page - 1]))
			cut_named[nr_named++] = cut_owner[page] - 1;
	}
}

/* A ring may still have the id, with another meaning. */
static bool means_other(uint32_t as_id, uint32_t id, const struct fuzz_slot *new)
{
	const struct fuzz_slot *name = &ring_name[id];

	return config.ring && !as_id && name->npages &&
	       (name->gfn != new->gfn || name->hva != new->hva);
}

/* An id for a slot: of the slot which is there, any other one of the range, or a free one. */
static uint32_t draw_id(uint32_t as_id, const struct fuzz_slot *new, uint32_t owner)
{
	static uint32_t next;
	uint32_t i, id, tries;

	if (owner && !cut_used[owner - 1] && !means_other(as_id, owner - 1, new) &&
	    !fuzz_once_in(4))
		return owner - 1;
	i = fuzz_pick(nr_named + 1);
	for (tries = 0; i < nr_named && tries < 16; i++, tries++) {
		if (!cut_used[cut_named[i]] && !means_other(as_id, cut_named[i], new))
			return cut_named[i];
	}
	/* One after the other, or it takes too long to find the last of 32,764. */
	next = config.large ? next : fuzz_pick(config.nr_ids);
	for (tries = 0; tries < config.nr_ids; tries++) {
		id = 1 + next++ % config.nr_ids;
		if (!is_taken_id(id) && !slots[as_id][id].npages && !cut_used[id] &&
		    !means_other(as_id, id, new))
			return id;
	}
	return 0;
}

static bool add_pieces(struct fuzz_step *s)
{
	struct fuzz_slot new;
	uint32_t i, id, m;
	mrl_entry *e;

	for (i = 0; i < nr_pieces; i++) {
		m = cut_map[cut_pieces[i].first];
		new = (struct fuzz_slot) {
			.gfn = FUZZ_GPA / PAGE_SIZE + cut_pieces[i].first,
			.hva = FUZZ_HVA + (uint64_t)host_of(m) * PAGE_SIZE,
		};
		id = draw_id(s->head.as_id, &new, cut_owner[cut_pieces[i].first]);
		if (!id)
			return false;
		cut_used[id] = true;
		e = fuzz_step_add(s, id);
		e->flags = m & (FUZZ_LOG | FUZZ_RO);
		e->guest_phys_addr = new.gfn * PAGE_SIZE;
		e->memory_size = (uint64_t)(cut_pieces[i].end - cut_pieces[i].first) * PAGE_SIZE;
		e->userspace_addr = new.hva;
	}
	return true;
}

static void add_deletions(struct fuzz_step *s)
{
	uint32_t i;

	for (i = 0; i < nr_named; i++) {
		if (!cut_used[cut_named[i]])
			fuzz_step_add(s, cut_named[i]);
	}
}

/* Entries that change nothing may go, and the order is any. */
static void shuffle_entries(struct fuzz_step *s)
{
	bool noops = fuzz_once_in(2);
	mrl_entry e;
	uint32_t i, j;

	for (i = 0; !noops && i < s->nr_entries; i++) {
		if (is_noop(&s->entries[i], s->head.as_id))
			s->entries[i--] = s->entries[--s->nr_entries];
	}
	for (i = s->nr_entries; i > 1; i--) {
		j = fuzz_pick(i);
		e = s->entries[i - 1];
		s->entries[i - 1] = s->entries[j];
		s->entries[j] = e;
	}
	s->head.nent = s->nr_entries;
}

static void draw_cut(struct fuzz_step *s)
{
	bool first = !program->nr_steps, fits;
	struct fuzz_piece r;
	uint32_t i;

	learn_layout(s->head.as_id);
	r = first ? (struct fuzz_piece) { 0, config.nr_pages } : draw_range();
	learn_named(r);
	for (i = 0; first && i < config.nr_pages; i++)
		cut_map[i] = at_host(i, config.large && i % 3 ? FUZZ_LOG : 0);
	mutate_range(r);
	draw_pieces(r, config.large && (first || fuzz_once_in(8)));
	fits = add_pieces(s);
	for (i = 0; i < s->nr_entries; i++)
		cut_used[s->entries[i].slot] &= fits;
	if (!fits)
		s->nr_entries = 0;
	add_deletions(s);
	for (i = 0; i < s->nr_entries; i++)
		cut_used[s->entries[i].slot] = false;
	shuffle_entries(s);
}

/* Entries that know little of the layout: about every other list is not legal. */
static void draw_any(struct fuzz_step *s)
{
	uint32_t nr = 1 + fuzz_pick(4), size, page;
	mrl_entry *e;

	while (nr--) {
		e = fuzz_step_add(s, 1 + fuzz_pick(config.nr_ids));
		skip_taken_id(e);
		if (fuzz_once_in(4))
			continue;
		size = 1 + fuzz_pick(12);
		page = fuzz_pick(config.nr_pages - size);
		e->flags = fuzz_pick(4) & (FUZZ_LOG | FUZZ_RO);
		e->guest_phys_addr = FUZZ_GPA + (uint64_t)page * PAGE_SIZE;
		e->memory_size = size * PAGE_SIZE;
		e->userspace_addr = FUZZ_HVA + (uint64_t)page * PAGE_SIZE;
	}
}

/* Buffers for bits of slots that log, or leave to drop them. */
static void draw_results(struct fuzz_step *s)
{
	uint64_t next = FUZZ_RESULT + fuzz_pick(64) * 8;
	bool missing = false, sparing = fuzz_once_in(4);
	const struct fuzz_slot *old;
	mrl_entry *e;
	uint32_t i;

	for (i = 0; i < s->nr_entries; i++) {
		e = &s->entries[i];
		old = &slots[s->head.as_id][e->slot];
		if (!slot_logs(old))
			continue;
		if ((sparing && fuzz_once_in(2)) || next + result_bytes(old) + 64 > FUZZ_NOWHERE) {
			missing = true;
			continue;
		}
		e->dirty_bitmap = next;
		e->dirty_bitmap_size = result_bytes(old) + fuzz_pick(2) * 8;
		next += e->dirty_bitmap_size + fuzz_pick(2) * 8;
	}
	if (missing ? !fuzz_once_in(8) : fuzz_once_in(8))
		s->head.flags |= KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	if (fuzz_once_in(16))
		s->head.flags |= KVM_MEMORY_REGION_LIST_TEST_ONLY;
}

static void draw_list(struct fuzz_step *s)
{
	bool first = !program->nr_steps;

	if (fuzz_once_in(8) && !first)
		s->head.as_id = fuzz_pick(nr_spaces);
	if (fuzz_once_in(6) && !first)
		draw_any(s);
	else if (!fuzz_once_in(64) || first)
		draw_cut(s);
	draw_results(s);
	if (fuzz_pick(100) < (config.large ? 20 : 55) && !first)
		spoil_list(s);
}

/* One slot by the old ioctl: create, delete, or turn logging on or off. */
static void draw_slot(struct fuzz_step *s)
{
	uint32_t page = fuzz_pick(config.nr_pages), i;
	const struct fuzz_slot *old;
	mrl_entry *e;

	s->arg[0] = fuzz_pick(2);
	learn_layout(0);
	e = fuzz_step_add(s, 1 + fuzz_pick(config.nr_ids));
	skip_taken_id(e);
	if (cut_owner[page] && !fuzz_once_in(8))
		e->slot = cut_owner[page] - 1;
	old = &slots[0][e->slot];
	if (old->npages) {
		e->flags = old->flags ^ FUZZ_LOG;
		e->guest_phys_addr = old->gfn * PAGE_SIZE;
		e->memory_size = fuzz_once_in(3) ? 0 : old->npages * PAGE_SIZE;
		e->userspace_addr = old->hva;
		return;
	}
	for (i = page; i < config.nr_pages && !cut_owner[i] && i - page < 32; i++)
		;
	e->flags = fuzz_pick(4) & (FUZZ_LOG | FUZZ_RO);
	e->guest_phys_addr = FUZZ_GPA + (uint64_t)page * PAGE_SIZE;
	e->memory_size = (uint64_t)(i - page) * PAGE_SIZE;
	e->userspace_addr = FUZZ_HVA + (uint64_t)page * PAGE_SIZE;
}

static uint32_t draw_logging_id(void)
{
	uint32_t page = fuzz_pick(config.nr_pages), id;

	for (id = 1; id < nr_known && fuzz_pick(8); id++) {
		if (in_window(&slots[0][id]) && slot_logs(&slots[0][id]) &&
		    page_of(slots[0][id].gfn) + slots[0][id].npages > page)
			return id;
	}
	id = 1 + fuzz_pick(config.nr_ids);
	return is_taken_id(id) ? 1 : id;
}

static uint32_t draw_kind(void)
{
	/* Per thousand.  What is left is lists. */
	static const struct { uint32_t kind, share; } kinds[] = {
		{ FUZZ_STEP_SLOT, 25 }, { FUZZ_STEP_GET, 40 }, { FUZZ_STEP_CLEAR, 25 },
		{ FUZZ_STEP_PARK, 25 }, { FUZZ_STEP_PREFAULT, 25 },
	};
	uint32_t r = fuzz_pick(1000), i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (r < kinds[i].share)
			return kinds[i].kind;
		r -= kinds[i].share;
	}
	return FUZZ_STEP_LIST;
}

static const struct fuzz_step *draw_step(struct fuzz_program *p)
{
	/* To begin with there is memory everywhere, in a large world in as many slots as can be. */
	struct fuzz_step *s = fuzz_step_begin(p, p->nr_steps ? draw_kind() : FUZZ_STEP_LIST);

	switch (s->kind) {
	case FUZZ_STEP_LIST:
		draw_list(s);
		s->arg[0] = fuzz_once_in(4);
		break;
	case FUZZ_STEP_SLOT:
		draw_slot(s);
		break;
	case FUZZ_STEP_GET:
	case FUZZ_STEP_CLEAR:
		s->arg[0] = draw_logging_id();
		s->arg[1] = fuzz_pick(4);
		s->arg[2] = s->arg[1] + 1 + fuzz_pick(config.nr_pages / 64);
		break;
	case FUZZ_STEP_PARK:
		s->arg[0] = fuzz_pick(2);
		break;
	case FUZZ_STEP_PREFAULT:
		s->arg[0] = fuzz_pick(config.nr_pages);
		s->arg[1] = 1 + fuzz_pick(min(1024u, config.nr_pages - (uint32_t)s->arg[0]));
		s->arg[2] = fuzz_pick(FUZZ_MAX_VCPUS);
		break;
	}
	fuzz_step_end(p, s);
	return s;
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_DRAW_H */
