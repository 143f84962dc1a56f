/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_PERF_WORLD_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_PERF_WORLD_H

/*
 * What memory_region_list_perf_test changes: layouts as data, and the memory behind them.
 *
 * A workload is a cell, i.e. a few slots before and after, in units; the world is as many
 * cells beside each other as the number of entries asks for, and a bystander: a slot that
 * no change names.  A unit is a number of pages, or a huge page.
 */
#include "memory_region_list_huge.h"

/* The last one is empty. */
#define PERF_PIECES		5
#define PERF_BYSTANDER_ID	1
#define PERF_FIRST_ID		2
#define PERF_BYSTANDER_PAGES	64u
#define PERF_HUGE_PAGES		512u
/* A small world is stretched to this size, more does not make a difference. */
#define PERF_MIN_PAGES		1024u

/* Units [first, end) of a cell, backed from unit @mem on, by slot @id of the cell. */
struct perf_piece {
	uint32_t id, first, end, mem, flags;
};

struct perf_workload {
	/* The name of the pair, that of the change and that of its reverse. */
	const char *pair, *name[2];
	uint32_t units, mem_units, nr_ids;
	/* Of a list, if the command line does not say. */
	uint32_t entries;
	struct perf_piece piece[2][PERF_PIECES];
};

static const struct perf_workload perf_workloads[] = {
	{ "split", { "split", "merge" }, 4, 4, 2, 2,
	  { { { 0, 0, 4, 0 } },
	    { { 0, 0, 2, 0 }, { 1, 2, 4, 2 } } } },
	{ "punch", { "punch", "fill" }, 8, 8, 2, 2,
	  { { { 0, 0, 8, 0 } },
	    { { 0, 0, 3, 0 }, { 1, 4, 8, 4 } } } },
	/* A piece in the middle gets other memory. */
	{ "overlay", { "overlay", "uncover" }, 8, 10, 3, 3,
	  { { { 0, 0, 8, 0 } },
	    { { 0, 0, 3, 0 }, { 1, 3, 5, 8 }, { 2, 5, 8, 5 } } } },
	{ "bar", { "bar", "bar-back" }, 8, 4, 1, 1,
	  { { { 0, 0, 4, 0 } },
	    { { 0, 4, 8, 0 } } } },
	{ "readonly", { "readonly", "writable" }, 4, 4, 1, 1,
	  { { { 0, 0, 4, 0 } },
	    { { 0, 0, 4, 0, KVM_MEM_READONLY } } } },
	{ "resize", { "grow", "shrink" }, 6, 6, 1, 1,
	  { { { 0, 0, 4, 0 } },
	    { { 0, 0, 6, 0 } } } },
	/* What QEMU was seen to do at boot: cut the memory of a PC where its ROMs begin. */
	{ "boot", { "boot", "boot-back" }, 256, 256, 4, 4,
	  { { { 0, 0, 256, 0 } },
	    { { 0, 0, 24, 0 }, { 1, 24, 28, 24 }, { 2, 28, 32, 28 }, { 3, 32, 256, 32 } } } },
	/* A boundary moves, and two slots trade their ids. */
	{ "relayout", { "relayout", "relayout-back" }, 16, 16, 4, 64,
	  { { { 0, 0, 4, 0 }, { 1, 4, 8, 4 }, { 2, 8, 12, 8 }, { 3, 12, 16, 12 } },
	    { { 0, 0, 3, 0 }, { 1, 3, 8, 3 }, { 3, 8, 12, 8 }, { 2, 12, 16, 12 } } } },
	{ "logall", { "logall", "logoff" }, 4, 4, 1, 64,
	  { { { 0, 0, 4, 0 } },
	    { { 0, 0, 4, 0, KVM_MEM_LOG_DIRTY_PAGES } } } },
};

/* How a page of the world fares in a change: its memory and whether it can be written. */
#define PERF_NO_MEM	(~0u)

struct perf_page {
	uint32_t mem[2];
	bool readonly[2];
};

struct perf_world {
	const struct perf_workload *work;
	/* The side on which it starts. */
	int first;
	uint32_t cells, unit_pages, flags;
	bool huge, hugetlb;
	uint32_t nr_ids, nr_pages, nr_mem_pages, nr_entries;
	/* By id, from PERF_FIRST_ID on; before and after.  Without a size: none. */
	struct mrl_slot *slots[2];
	struct perf_page *pages;
};

static struct perf_world perf_world;

/* By the name of one of the changes the world starts on the side from which that leads. */
static inline const struct perf_workload *perf_workload_find(const char *name, int *first)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(perf_workloads); i++) {
		const struct perf_workload *w = &perf_workloads[i];

		*first = !strcmp(w->name[1], name);
		if (*first || !strcmp(w->name[0], name) || !strcmp(w->pair, name))
			return w;
	}
	TEST_FAIL("-w: wanted a workload, got '%s'", name);
	return NULL;
}

static inline uint32_t perf_cell_pages(const struct perf_world *w)
{
	return w->work->units * w->unit_pages;
}

static inline bool perf_is_kept(const struct perf_page *p)
{
	return p->mem[0] == p->mem[1] && p->mem[0] != PERF_NO_MEM &&
	       p->readonly[0] == p->readonly[1];
}

static inline bool perf_is_covered(const struct perf_page *p)
{
	return p->mem[0] != PERF_NO_MEM && p->mem[1] != PERF_NO_MEM;
}

static inline bool perf_is_changed(const struct mrl_slot *a, const struct mrl_slot *b)
{
	return (a->size || b->size) && !mrl_slot_equal(a, b);
}

/* In bytes, for a piece of a cell. */
static inline void perf_slot_set(struct perf_world *w, int side, uint32_t cell,
				 const struct perf_piece *p)
{
	uint32_t first = cell * perf_cell_pages(w) + p->first * w->unit_pages;
	uint32_t mem = (cell * w->work->mem_units + p->mem) * w->unit_pages;
	uint32_t pages = (p->end - p->first) * w->unit_pages, i;
	struct mrl_slot *s = &w->slots[side][cell * w->work->nr_ids + p->id];

	*s = (struct mrl_slot) {
		.id = PERF_FIRST_ID + cell * w->work->nr_ids + p->id,
		.flags = p->flags | w->flags,
		.gpa = MRL_GPA(first),
		.size = MRL_SIZE(pages),
		.hva = (void *)MRL_HVA(mem),
	};
	for (i = 0; i < pages; i++) {
		w->pages[first + i].mem[side] = mem + i;
		w->pages[first + i].readonly[side] = p->flags & KVM_MEM_READONLY;
	}
}

static inline void perf_world_fill(struct perf_world *w)
{
	uint32_t cell, i, cells_end = w->cells * perf_cell_pages(w);
	uint32_t mem_end = w->cells * w->work->mem_units * w->unit_pages;
	int side, piece;

	for (i = 0; i < w->nr_pages; i++)
		w->pages[i] = (struct perf_page) { .mem = { PERF_NO_MEM, PERF_NO_MEM } };
	for (side = 0; side < 2; side++) {
		for (cell = 0; cell < w->cells; cell++)
			for (piece = 0; w->work->piece[side][piece].end; piece++)
				perf_slot_set(w, side, cell, &w->work->piece[side][piece]);
		for (i = cells_end; i < w->nr_pages; i++)
			w->pages[i].mem[side] = mem_end + i - cells_end;
	}
	for (i = 0; i < w->nr_ids; i++)
		w->nr_entries += perf_is_changed(&w->slots[0][i], &w->slots[1][i]);
}

/* The first word of each page tells its cell, whichever memory it has. */
static inline uint64_t perf_tag(const struct perf_world *w, uint32_t mem_page)
{
	return MRL_TAG(mem_page / (w->work->mem_units * w->unit_pages));
}

static inline bool perf_mem_alloc(struct perf_world *w)
{
	uint32_t i;

	if (w->hugetlb ? !mrl_huge_alloc(MRL_SIZE(w->nr_mem_pages), true) :
			 !mrl_mem_realloc(w->nr_mem_pages, w->huge))
		return false;
	for (i = 0; i < w->nr_mem_pages; i++)
		*(uint64_t *)MRL_HVA(i) = perf_tag(w, i);
	return true;
}

static inline const struct perf_piece *perf_piece_find(const struct perf_piece *p, uint32_t id)
{
	for (; p->end; p++) {
		if (p->id == id)
			return p;
	}
	return NULL;
}

/* How many entries turn one cell into the other. */
static inline uint32_t perf_cell_entries(const struct perf_workload *work)
{
	const struct perf_piece *a, *b;
	uint32_t id, nr = 0;

	for (id = 0; id < work->nr_ids; id++) {
		a = perf_piece_find(work->piece[0], id);
		b = perf_piece_find(work->piece[1], id);
		nr += !a || !b || memcmp(a, b, sizeof(*a));
	}
	return nr;
}

/* At most @entries in a list.  @unit_pages 0: as many as make the world large enough. */
static inline void perf_world_init(struct perf_world *w, uint32_t entries, uint32_t unit_pages,
				   uint32_t max_slots)
{
	uint32_t bystander = w->huge ? PERF_HUGE_PAGES : PERF_BYSTANDER_PAGES;

	w->cells = max(1u, entries / perf_cell_entries(w->work));
	w->cells = min(w->cells, (max_slots - PERF_FIRST_ID) / w->work->nr_ids);
	if (w->huge)
		w->unit_pages = PERF_HUGE_PAGES;
	else
		w->unit_pages = unit_pages ?: max(1u, PERF_MIN_PAGES / (w->cells * w->work->units));
	w->nr_ids = w->cells * w->work->nr_ids;
	w->nr_pages = w->cells * perf_cell_pages(w) + bystander;
	w->nr_mem_pages = w->cells * w->work->mem_units * w->unit_pages + bystander;
	w->slots[0] = calloc(w->nr_ids, sizeof(*w->slots[0]));
	w->slots[1] = calloc(w->nr_ids, sizeof(*w->slots[1]));
	w->pages = calloc(w->nr_pages, sizeof(*w->pages));
	TEST_ASSERT(w->slots[0] && w->slots[1] && w->pages, "calloc() failed");
	perf_world_fill(w);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_PERF_WORLD_H */
