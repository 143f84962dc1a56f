/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_DIRTY_STATE_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_DIRTY_STATE_H

#include <stdatomic.h>
#include <linux/bitmap.h>

#include "memory_region_list.h"
#include "memory_region_list_dirty.h"

/*
 * What memory_region_list_dirty_test, which see, knows of each page, and what it
 * therefore wants to find in logs and result bitmaps.
 */
#define NR_IDS		24u
#define FIRST_ID	10
#define TAG_ID		9

static typeof(shared) *sh;
static struct kvm_vm *vm;
static uint8_t *mem[2];
static struct mrl_layout layout;
static struct guest_random_state rng;
static uint32_t log_kind;
static uint8_t attr[NPAGES];
static atomic_bool may_exit[NPAGES];
static uint64_t tag, first_tag;			/* generation now, and when the round began */

static struct page_state {
	uint64_t copy[8];	/* start of the page when it was last reported */
	bool dirty;		/* fetched but not cleared, or set initially */
	bool gone, moved;	/* is of no slot; left a layout in this round */
} state[2][NPAGES];

/* If the first that a round does to a page is that its slot stops to log. */
static struct {
	uint64_t tag, base;
	bool returned;
} stopped[NPAGES];

static unsigned long bitmap[NPAGES / 64], result[NR_IDS][NPAGES / 64];

/*
 * Pages that logs reported to parked vCPUs, and results on leaving, of these over:
 * without a write.  Pages of page tables among both.  PTEs found accessed.  Writes to
 * slots that stopped to log.
 */
static struct {
	uint64_t reported, over, returned, returned_over, tables, walks, stops, exits;
} counted;

static uint64_t *hva(uint32_t b, uint32_t page)
{
	return (uint64_t *)(mem[b] + page * PAGE_SIZE);
}

static void copy_page(uint32_t b, uint32_t page)
{
	uint32_t i;

	for (i = 0; i < 8; i++)
		state[b][page].copy[i] = READ_ONCE(hva(b, page)[i]);
}

/* So that walks set the bits again.  All vCPUs are parked, and all logs were read. */
static void clear_accessed(void)
{
	const uint64_t bits = PTE_ACCESSED_MASK | PTE_DIRTY_MASK;
	uint64_t *pte;
	uint32_t b, i;

	for (b = 0; b < 2; b++) {
		for (i = 0; i < ALIASES; i++) {
			pte = hva(b, TABLES + i / TABLE_PTES) + i % TABLE_PTES;
			counted.walks += !!(*pte & bits);
			*pte &= ~bits;
		}
		for (i = TABLES; i < TABLES + NR_TABLES; i++)
			copy_page(b, i);
	}
}

/* The first word that is not as in the copy, or 8. */
static uint32_t changed_word(uint32_t b, uint32_t page)
{
	uint32_t i;

	for (i = 0; i < 8 && hva(b, page)[i] == state[b][page].copy[i]; i++)
		;
	return i;
}

static void harvest_page(uint32_t page, bool bit, bool parked)
{
	uint32_t b = attr[page] & BACKING, w = changed_word(b, page);
	struct page_state *s = &state[b][page];

	TEST_ASSERT(bit || !s->dirty,
		    "never-lost: page %u: wanted the bit that was fetched but not cleared, got none",
		    page);
	if (!parked)
		return;
	TEST_ASSERT(bit || w == 8,
		    "never-lost: page %u of backing %u: wanted a bit, got none; word %u, 0x%lx, is 0x%lx, journal 0x%lx",
		    page, b, w, s->copy[w % 8], hva(b, page)[w % 8], sh->value[page]);
	counted.reported += bit;
	counted.tables += is_table(page) && w < 8;
	counted.over += bit && !s->dirty && w == 8;
}

static void harvest(const struct mrl_slot *s, bool parked)
{
	uint32_t first = (s->gpa - BASE_GPA) / PAGE_SIZE, nr = s->size / PAGE_SIZE, i;
	bool leave = log_kind && guest_random_bool(&rng);

	if (s->id == TAG_ID || !(s->flags & KVM_MEM_LOG_DIRTY_PAGES))
		return;
	kvm_vm_get_dirty_log(vm, s->id, bitmap);
	for (i = 0; i < nr; i++)
		harvest_page(first + i, test_bit(i, bitmap), parked);
	if (log_kind && !leave)
		kvm_vm_clear_dirty_log(vm, s->id, bitmap, 0, nr);
	for (i = 0; i < nr; i++) {
		if (!test_bit(i, bitmap))
			continue;
		state[attr[first + i] & BACKING][first + i].dirty = leave;
		if (!leave)
			copy_page(attr[first + i] & BACKING, first + i);
	}
}

static void check_gone(const char *when)
{
	uint32_t b, page, w;

	for (b = 0; b < 2; b++) {
		for (page = 0; page < NPAGES; page++) {
			w = state[b][page].gone ? changed_word(b, page) : 8;
			TEST_ASSERT(w == 8,
				    "no-stale-mapping: page %u of backing %u %s: word %u: wanted 0x%lx, got 0x%lx",
				    page, b, when, w, state[b][page].copy[w % 8],
				    hva(b, page)[w % 8]);
		}
	}
}

/* @returned is the page's bit in the result bitmap of the slot it was in. */
static void follow_leaving(uint32_t page, uint8_t from, uint8_t to, bool returned)
{
	uint32_t b = from & BACKING, w;
	struct page_state *s = &state[b][page];
	bool moved = state[0][page].moved || state[1][page].moved;

	s->moved = true;
	if (!logs(from)) {
		s->gone = !(to & PRESENT) || (from ^ to) & BACKING;
		copy_page(b, page);
		return;
	}
	TEST_ASSERT(returned || !s->dirty,
		    "never-lost: page %u: wanted the uncleared bit to be returned, got none", page);
	s->dirty = false;
	if (to & PRESENT && !((from ^ to) & BACKING)) {
		/* Verified by check_stopped(), when the journal is complete. */
		if (!moved) {
			stopped[page].tag = tag;
			stopped[page].base = s->copy[0];
			stopped[page].returned = returned;
		}
		return;
	}
	w = changed_word(b, page);
	TEST_ASSERT(returned || w == 8,
		    "never-lost: page %u of backing %u left: wanted a bit, got none; word %u, 0x%lx, is 0x%lx, journal 0x%lx",
		    page, b, w, s->copy[w % 8], hva(b, page)[w % 8], sh->value[page]);
	counted.returned += returned;
	counted.tables += is_table(page) && w < 8;
	counted.returned_over += returned && w == 8;
	s->gone = true;
	copy_page(b, page);
}

static void follow_page(uint32_t page, uint8_t to, bool returned)
{
	struct page_state *s = &state[to & BACKING][page];
	uint8_t from = attr[page];

	TEST_ASSERT(!returned || !kept(from, to),
		    "never-lost: kept page %u: wanted no returned bit, got one", page);
	if (kept(from, to))
		return;
	if (from & PRESENT && (from ^ to) & (FULL | BACKING))
		follow_leaving(page, from, to, returned);
	/* Writes of this round may have gone nowhere. */
	s->moved |= !(from & PRESENT);
	if (to & PRESENT)
		s->gone = false;
	if (logs(to)) {
		s->dirty = log_kind & KVM_DIRTY_LOG_INITIALLY_SET;
		copy_page(to & BACKING, page);
	}
}

static void follow(const uint8_t *to)
{
	bool returned[NPAGES] = {};
	const struct mrl_slot *s;
	uint32_t i, j, nr, first;
	unsigned long *bits;

	for (i = 0; i < layout.nr; i++) {
		s = &layout.slots[i];
		if (s->id == TAG_ID || !(s->flags & KVM_MEM_LOG_DIRTY_PAGES))
			continue;
		bits = result[s->id - FIRST_ID];
		nr = s->size / PAGE_SIZE;
		first = (s->gpa - BASE_GPA) / PAGE_SIZE;
		for (j = 0; j < nr; j++)
			returned[first + j] = test_bit(j, bits);
		for (; j % 64; j++)
			TEST_ASSERT(!test_bit(j, bits), "tail bit %u: wanted 0, got 1", j);
	}
	for (i = 0; i < NPAGES; i++)
		follow_page(i, to[i], returned[i]);
	memcpy(attr, to, NPAGES);
}

/* The rest is with parked vCPUs. */
static void check_stopped(uint32_t page)
{
	uint64_t t, value;

	for (t = first_tag; t < stopped[page].tag; t++) {
		value = sh->tagged[page][t % NR_TAGS];
		counted.stops += value > stopped[page].base;
		TEST_ASSERT(value <= stopped[page].base || stopped[page].returned,
			    "never-lost: page %u, log stopped: wanted a bit, got none; 0x%lx written, gen %lu of %lu, 0x%lx told",
			    page, value, t, stopped[page].tag, stopped[page].base);
	}
}

/* A write of this round to a page that stayed where it was is there. */
static void check_journal(uint32_t page)
{
	uint64_t got = *hva(attr[page] & BACKING, page), value = 0;
	uint32_t i;

	if (state[0][page].moved || state[1][page].moved || may_exit[page])
		return;
	for (i = 0; i < NR_TAGS; i++)
		value = max(value, sh->tagged[page][i]);
	TEST_ASSERT(!value || got == value, "page %u: wanted the journaled 0x%lx, got 0x%lx",
		    page, value, got);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_DIRTY_STATE_H */
