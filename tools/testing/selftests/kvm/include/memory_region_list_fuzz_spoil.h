/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_SPOIL_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_SPOIL_H

#include "memory_region_list_fuzz_steps.h"

/*
 * How memory_region_list_fuzz_test, which see, makes lists that must fail.  What comes of
 * it is for the oracle to say: some lists are still legal, others are wrong in many ways.
 */
static bool is_taken_id(uint32_t id)
{
	return id == MRL_UPDATER_ID || id == FUZZ_BYSTANDER_ID;
}

/* These two are not the program's. */
static void skip_taken_id(mrl_entry *e)
{
	if (is_taken_id(e->slot))
		e->slot = 1;
}

static void spoil_header(struct fuzz_step *s)
{
	switch (fuzz_pick(7)) {
	case 0:
		s->head.flags |= BIT(2 + fuzz_pick(30));
		break;
	case 1:
		s->head.reserved[fuzz_pick(2)] |= BIT_ULL(fuzz_pick(64));
		break;
	case 2:
		s->head.as_id = nr_spaces + fuzz_pick(3) * 0x7fff;
		break;
	case 3:
		s->head.nent = fuzz_once_in(2) ? UINT32_MAX : max_entries + 1;
		break;
	case 4:
		s->head.nent += 1 + fuzz_pick(100);
		break;
	case 5:
		s->at = FUZZ_AT_NULL + fuzz_pick(4);
		break;
	case 6:
		s->head.flags |= KVM_MEMORY_REGION_LIST_TEST_ONLY;
		break;
	}
}

static void spoil_range(mrl_entry *e)
{
	switch (fuzz_pick(8)) {
	case 0:
		e->guest_phys_addr |= 1 + fuzz_pick(PAGE_SIZE - 1);
		break;
	case 1:
		e->memory_size |= 1 + fuzz_pick(PAGE_SIZE - 1);
		break;
	case 2:
		e->userspace_addr |= 1 + fuzz_pick(PAGE_SIZE - 1);
		break;
	case 3:
		e->guest_phys_addr = -(uint64_t)PAGE_SIZE * fuzz_pick(4);
		e->memory_size += 4 * PAGE_SIZE;
		break;
	case 4:
		e->memory_size = 1ull << (43 + fuzz_pick(20));
		break;
	case 5:
		e->userspace_addr |= 1ull << 63;
		break;
	case 6:
		e->guest_phys_addr |= 1ull << (52 + fuzz_pick(12));
		break;
	case 7:
		e->flags |= BIT(2 + fuzz_pick(30));
		break;
	}
}

static void spoil_result(struct fuzz_step *s, mrl_entry *e)
{
	const mrl_entry *other = &s->entries[fuzz_pick(s->nr_entries)];

	switch (fuzz_pick(7)) {
	case 0:
		e->dirty_bitmap = 0;
		e->dirty_bitmap_size = 8;
		break;
	case 1:
		e->dirty_bitmap = FUZZ_RESULT;
		e->dirty_bitmap_size = 8;
		break;
	case 2:
		e->dirty_bitmap_size -= e->dirty_bitmap_size ? 8 : 0;
		break;
	case 3:
		if (e->dirty_bitmap)
			e->dirty_bitmap = FUZZ_NOWHERE + (fuzz_once_in(2) ? 0 : -4);
		break;
	case 4:
		if (e->dirty_bitmap)
			e->dirty_bitmap |= 1ull << 63;
		break;
	case 5:
		if (e->dirty_bitmap && other->dirty_bitmap)
			e->dirty_bitmap = other->dirty_bitmap + fuzz_pick(16);
		break;
	case 6:
		mrl_result(e, NULL, 0);
		s->head.flags &= ~KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
		break;
	}
}

/* Alone each field is right. */
static void spoil_set(struct fuzz_step *s, mrl_entry *e)
{
	const mrl_entry *other = &s->entries[fuzz_pick(s->nr_entries)];
	uint64_t end = FUZZ_HVA + FUZZ_BACKINGS * config.nr_pages * PAGE_SIZE;
	uint64_t room = FUZZ_GPA + config.nr_pages * PAGE_SIZE - e->guest_phys_addr;

	switch (fuzz_pick(5)) {
	case 0:
		e->slot = other->slot;
		break;
	case 1:
		e->slot = 1 + fuzz_pick(config.nr_ids);
		skip_taken_id(e);
		break;
	case 2:
		/* Into what is next to it, as long as there is memory behind it. */
		if (e->memory_size && e->memory_size + 8 * PAGE_SIZE <= room && !config.linear &&
		    e->userspace_addr + e->memory_size + 8 * PAGE_SIZE <= end)
			e->memory_size += (1 + fuzz_pick(8)) * PAGE_SIZE;
		break;
	case 3:
		e->memory_size = 0;
		break;
	case 4:
		e->guest_phys_addr = 0;
		break;
	}
}

static void spoil_list(struct fuzz_step *s)
{
	mrl_entry *e;

	if (!s->nr_entries || fuzz_once_in(5)) {
		spoil_header(s);
		return;
	}
	e = &s->entries[fuzz_pick(s->nr_entries)];
	switch (fuzz_pick(5)) {
	case 0:
		e->slot = FUZZ_MAX_IDS + fuzz_pick(100000);
		break;
	case 1:
		e->reserved = BIT_ULL(fuzz_pick(64));
		break;
	case 2:
		spoil_range(e);
		break;
	case 3:
		spoil_result(s, e);
		break;
	case 4:
		spoil_set(s, e);
		break;
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_SPOIL_H */
