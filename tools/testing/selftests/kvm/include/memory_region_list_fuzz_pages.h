/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_PAGES_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_PAGES_H

#include <stdatomic.h>
#include <linux/bitmap.h>

#include "memory_region_list_fuzz_oracle.h"

/*
 * What memory_region_list_fuzz_test, which see, knows of each page, and what it therefore
 * wants to find in memory, in logs, in rings and in result bitmaps.
 *
 * A pair is a page of the guest at a page of the host: what the document calls the same
 * page.  Each has a word of its own, see the guest.
 */
#define FUZZ_MAX_PAIRS	(256u * 512u)	/* in a small world, or 2 * FUZZ_MAX_PAGES */
#define FUZZ_MAX_GENS	16u
#define FUZZ_MAX_NOTES	65536u

static struct fuzz_shared *sh;
static struct fuzz_program *program;

/* Address space 0 by page: number of the host's page plus one, and flags.  0 is a hole. */
static uint32_t *map, *history[FUZZ_MAX_GENS], nr_gens;
/* The generation that the first of them was in. */
static uint32_t first_gen;
/* In this round: pages whose accesses may exit, and pages that did not stay where they were. */
static atomic_uchar *may_exit;
static bool *moved;
static uint32_t *done_before;

enum { PAIR_DIRTY = 1, PAIR_GONE = 2 };

static struct fuzz_pair {
	uint32_t copy;		/* the word when the page was last reported, or entered */
	uint32_t left;		/* the word when the guest lost it */
	uint32_t event;		/* when it was last in a ring */
	uint8_t flags;
} *pairs;

/* Of this round: pairs that the guest lost, logs that stopped, writes that a ring must have. */
static struct fuzz_note {
	uint32_t page, map, copy, gen, event;
	bool returned;
} *gone, *stopped, *owed;
static uint32_t nr_gone, nr_stopped, nr_owed, ring_event = 1;

static void pages_init(void)
{
	uint32_t i;

	map = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(*map));
	for (i = 0; i < FUZZ_MAX_GENS; i++)
		history[i] = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(**history));
	may_exit = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(*may_exit));
	moved = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(*moved));
	done_before = fuzz_alloc(FUZZ_MAX_PAGES, sizeof(*done_before));
	pairs = fuzz_alloc(FUZZ_MAX_PAIRS, sizeof(*pairs));
	gone = fuzz_alloc(FUZZ_MAX_NOTES, sizeof(*gone));
	stopped = fuzz_alloc(FUZZ_MAX_NOTES, sizeof(*stopped));
	owed = fuzz_alloc(FUZZ_MAX_NOTES, sizeof(*owed));
}

static uint32_t host_of(uint32_t m)
{
	return (m >> 2) - 1;
}

static bool page_logs(uint32_t m)
{
	return m & FUZZ_LOG;
}

static bool is_rw(uint32_t m)
{
	return m && !(m & FUZZ_RO);
}

static bool same_page(uint32_t from, uint32_t to)
{
	return from && to && host_of(from) == host_of(to);
}

/* Each store gets to where the one before got to. */
static bool stays_rw(uint32_t from, uint32_t to)
{
	return is_rw(from) && is_rw(to) && same_page(from, to);
}

/* Accesses that exit. */
static uint32_t exits_of(uint32_t m)
{
	return (m ? 0 : FUZZ_EXIT_READ) | (is_rw(m) ? 0 : FUZZ_EXIT_WRITE);
}

static bool stays_logged(uint32_t from, uint32_t to)
{
	return same_page(from, to) && page_logs(from) && page_logs(to);
}

/* The host's pages behind a slot, as the map has them. */
static uint32_t map_of(const struct fuzz_slot *s, uint64_t gfn)
{
	return (((slot_hva(s, gfn) - FUZZ_HVA) / PAGE_SIZE + 1) << 2) | s->flags;
}

static struct fuzz_pair *pair_of(uint32_t page, uint32_t m)
{
	if (config.linear)
		return &pairs[page * FUZZ_BACKINGS + host_of(m) / config.nr_pages];
	return &pairs[page * FUZZ_BACKINGS * config.nr_pages + host_of(m)];
}

static uint32_t word_of(uint32_t page, uint32_t m)
{
	uint64_t *host = (uint64_t *)(FUZZ_HVA + (uint64_t)host_of(m) * PAGE_SIZE);

	return READ_ONCE(host[(page >> sh->word_shift) % FUZZ_WORDS]);
}

/* What is in the last word of the page, and what its code returns. */
static uint32_t tag_of(uint32_t m)
{
	if (!m)
		return FUZZ_HOLE;
	return config.large ? host_of(m) / config.nr_pages * 256 + host_of(m) % 256 : host_of(m);
}

static struct fuzz_note *add_note(struct fuzz_note *notes, uint32_t *nr, uint32_t page, uint32_t m)
{
	struct fuzz_note *n = &notes[*nr];

	TEST_ASSERT(*nr < FUZZ_MAX_NOTES, "notes: wanted less than %u, got %u", FUZZ_MAX_NOTES,
		    *nr);
	++*nr;
	*n = (struct fuzz_note) { .page = page, .map = m, .gen = sh->gen, .event = ring_event };
	return n;
}

static void check_gone(uint32_t page, uint32_t m, const char *when)
{
	const struct fuzz_pair *p = pair_of(page, m);

	TEST_ASSERT(!(p->flags & PAIR_GONE) || word_of(page, m) == p->left,
		    "no-stale-mapping: page %u of host page %u, %s: wanted 0x%x, got 0x%x", page,
		    host_of(m), when, p->left, word_of(page, m));
}

/* From its return on nothing writes through the layout that was. */
static void follow_access(uint32_t page, uint32_t from, uint32_t to)
{
	if (stays_rw(from, to))
		return;
	if (is_rw(from)) {
		pair_of(page, from)->flags |= PAIR_GONE;
		pair_of(page, from)->left = word_of(page, from);
		add_note(gone, &nr_gone, page, from);
	}
	if (is_rw(to))
		pair_of(page, to)->flags &= ~PAIR_GONE;
}

/* How a page's bit was to be returned. */
enum { NO_RESULT, BIT_CLEAR, BIT_SET };

static void follow_leaving(uint32_t page, uint32_t from, uint32_t to, int result)
{
	struct fuzz_pair *p = pair_of(page, from);
	uint32_t word = word_of(page, from), flags = p->flags;
	struct fuzz_note *n;

	p->flags &= ~PAIR_DIRTY;
	if (result == NO_RESULT)
		return;
	TEST_ASSERT(result == BIT_SET || !(flags & PAIR_DIRTY),
		    "never-lost: page %u: wanted the uncleared bit to be returned, got none", page);
	program->counts.returned += result == BIT_SET;
	if (is_rw(to) && same_page(from, to)) {
		n = add_note(stopped, &nr_stopped, page, from);
		n->copy = p->copy;
		n->returned = result == BIT_SET;
		return;
	}
	program->counts.returned_over += result == BIT_SET && word == p->copy &&
					 !(flags & PAIR_DIRTY);
	if (word == p->copy || result == BIT_SET)
		return;
	TEST_ASSERT(config.ring,
		    "never-lost: page %u of host page %u left: wanted a bit, got none; 0x%x is 0x%x",
		    page, host_of(from), p->copy, word);
	n = add_note(owed, &nr_owed, page, from);
	n->copy = p->copy;
}

/* A call has returned that turned @from into @to. */
static void follow_page(uint32_t page, uint32_t from, uint32_t to, int result)
{
	struct fuzz_pair *p;

	TEST_ASSERT(result != BIT_SET || !stays_logged(from, to),
		    "never-lost: kept page %u: wanted no returned bit, got one", page);
	moved[page] |= !stays_rw(from, to);
	if (page_logs(from) && !stays_logged(from, to))
		follow_leaving(page, from, to, result);
	follow_access(page, from, to);
	if (page_logs(to) && !stays_logged(from, to)) {
		p = pair_of(page, to);
		p->copy = word_of(page, to);
		p->flags &= ~PAIR_DIRTY;
		if (config.log_kind & KVM_DIRTY_LOG_INITIALLY_SET)
			p->flags |= PAIR_DIRTY;
	}
	map[page] = to;
	sh->exits[page] = exits_of(to);
}

/* @bit is what the log says of a page. */
static void follow_bit(uint32_t page, bool bit, bool parked)
{
	struct fuzz_pair *p = pair_of(page, map[page]);
	uint32_t word = word_of(page, map[page]);

	TEST_ASSERT(bit || !(p->flags & PAIR_DIRTY),
		    "never-lost: page %u: wanted the bit that was fetched but not cleared, got none",
		    page);
	TEST_ASSERT(bit || !parked || word == p->copy,
		    "never-lost: page %u of host page %u: wanted a bit, got none; 0x%x is 0x%x, journal 0x%x",
		    page, host_of(map[page]), p->copy, word, sh->done[page]);
	program->counts.reported += bit;
	program->counts.over += bit && parked && word == p->copy && !(p->flags & PAIR_DIRTY);
	if (bit)
		p->flags |= PAIR_DIRTY;
}

/* The log no longer has the page. */
static void follow_cleared(uint32_t page)
{
	struct fuzz_pair *p = pair_of(page, map[page]);

	p->flags &= ~PAIR_DIRTY;
	p->copy = word_of(page, map[page]);
}

static void check_stopped(const struct fuzz_access *a, uint32_t m)
{
	const struct fuzz_note *n;
	uint32_t i;

	for (i = 0; i < nr_stopped; i++) {
		n = &stopped[i];
		if (n->page != a->page || a->end >= n->gen || !same_page(n->map, m))
			continue;
		TEST_ASSERT(a->value <= n->copy || n->returned ||
			    (config.ring && pair_of(a->page, m)->event >= n->event),
			    "never-lost: page %u, log stopped: wanted a bit, got none; 0x%x written, 0x%x told",
			    a->page, a->value, n->copy);
	}
}

/* One that overlaps changes finds one of the layouts from @first to @last. */
static void check_read(const struct fuzz_access *a, uint32_t vcpu, uint32_t first, uint32_t last)
{
	uint32_t i, page = a->page;

	for (i = first; i <= last && a->value != tag_of(history[i][page]); i++)
		;
	TEST_ASSERT(i <= last,
		    "no-hole, no-stale-mapping: vCPU %u %s page %u, gen %u-%u: wanted 0x%x%s0x%x, got 0x%x",
		    vcpu, a->kind == FUZZ_LOAD ? "reads" : "calls", page, a->gen, a->end,
		    tag_of(history[first][page]), last > first + 1 ? " to " : " or ",
		    tag_of(history[last][page]), a->value);
}

/* Where one that overlaps changes got to is known if the page stayed where it was. */
static void check_store(const struct fuzz_access *a, uint32_t vcpu, uint32_t first, uint32_t last)
{
	uint32_t m = history[first][a->page], i;
	bool logs = true;

	for (i = first; i <= last; i++) {
		if (!stays_rw(m, history[i][a->page]))
			return;
		logs &= page_logs(history[i][a->page]);
	}
	TEST_ASSERT(word_of(a->page, m) >= a->value,
		    "no-stale-mapping: vCPU %u, page %u of host page %u: wanted the stored 0x%x, got 0x%x",
		    vcpu, a->page, host_of(m), a->value, word_of(a->page, m));
	if (logs)
		check_stopped(a, m);
}

/* One that exited, or failed, has met a layout in which it had to. */
static void check_exits(const struct fuzz_access *a, uint32_t vcpu, uint32_t first, uint32_t last)
{
	uint32_t i, exits = 0;

	for (i = first; i <= last; i++)
		exits |= exits_of(history[i][a->page]);
	program->counts.exits_judged += !!a->exits;
	TEST_ASSERT(!(a->exits & ~exits),
		    "no-hole: vCPU %u, %s of page %u, gen %u-%u: wanted exits 0x%x, got 0x%x", vcpu,
		    a->kind == FUZZ_PREFAULT ? "prefault" : "access", a->page, a->gen, a->end,
		    exits, a->exits);
}

static void check_access(const struct fuzz_access *a, uint32_t vcpu)
{
	/* The calls that it overlaps are between these layouts. */
	uint32_t first = (a->gen - first_gen) / 2, last = (a->end - first_gen + 1) / 2;

	/* The last round ended with the vCPU in its middle, as the ring was full. */
	if (a->gen < first_gen)
		return;
	program->counts.journaled++;
	program->counts.overlapped += first != last;
	check_exits(a, vcpu, first, last);
	if (a->kind == FUZZ_STORE)
		check_store(a, vcpu, first, last);
	else if (a->kind != FUZZ_PREFAULT)
		check_read(a, vcpu, first, last);
}

/* The last store to a page that stayed where it was is there. */
static void check_journal(uint32_t page)
{
	uint32_t word = word_of(page, map[page]), done = sh->done[page];

	/* A vCPU whose ring is full may have stored, and not yet said so. */
	TEST_ASSERT(done == done_before[page] || word - done <= config.ring,
		    "no-stale-mapping: page %u of host page %u: wanted the journaled 0x%x, got 0x%x",
		    page, host_of(map[page]), done, word);
}

/* All vCPUs are parked, and all logs and rings have been read. */
static void end_round(void)
{
	uint32_t i, page;

	for (i = 0; i < config.vcpus; i++) {
		for (page = 0; page < sh->nr[i]; page++)
			check_access(&sh->journal[i][page], i);
		program->counts.stores += sh->stores[i];
		program->counts.untold += sh->untold[i];
		program->counts.left_out += sh->left_out[i];
		sh->left_out[i] = 0;
		sh->untold[i] = 0;
		sh->stores[i] = 0;
		sh->nr[i] = 0;
	}
	for (i = 0; i < nr_gone; i++)
		check_gone(gone[i].page, gone[i].map, "after return");
	for (i = 0; i < nr_owed; i++)
		TEST_ASSERT(pair_of(owed[i].page, owed[i].map)->event >= owed[i].event,
			    "never-lost: page %u of host page %u left: wanted a bit or an entry, got none; 0x%x told",
			    owed[i].page, host_of(owed[i].map), owed[i].copy);
	for (page = 0; page < config.nr_pages; page++) {
		if (!moved[page] && is_rw(map[page]))
			check_journal(page);
		may_exit[page] = exits_of(map[page]);
		moved[page] = false;
		done_before[page] = sh->done[page];
	}
	nr_gone = 0;
	nr_stopped = 0;
	nr_owed = 0;
	nr_gens = 0;
	first_gen = sh->gen;
	memcpy(history[nr_gens++], map, config.nr_pages * sizeof(*map));
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_PAGES_H */
