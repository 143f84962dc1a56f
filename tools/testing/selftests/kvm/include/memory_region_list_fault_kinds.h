/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_KINDS_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_KINDS_H

/* The kinds of transactions, on top of the standard layout of memory_region_list_state.h. */
#include "memory_region_list_fault.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define DISCARD		KVM_MEMORY_REGION_LIST_DISCARD_DIRTY

#define DEL(id)			{ .slot = (id) }
#define RESULT(i)		.dirty_bitmap = FAULT_RESULT + 8 * (i), .dirty_bitmap_size = 8
#define DEL_RESULT(id, i)	{ .slot = (id), RESULT(i) }
#define E_RESULT(id, fl, gpa_page, pages, hva_page, i)				\
	{ (id), (fl), MRL_GPA(gpa_page), MRL_SIZE(pages), MRL_HVA(hva_page), RESULT(i) }

/* A list, and its way back. */
struct change {
	uint32_t flags;
	mrl_entry e[4];
};

struct kind {
	const char *name;
	struct change go, back;
};

static const struct kind kinds[] = {
	{ "create and delete",
	  { 0, { MRL_E(6, 0, 40, 4, 40), MRL_E(7, LOG, 44, 4, 44) } },
	  { 0, { DEL(6), DEL_RESULT(7, 0) } } },
	{ "delete what logs",
	  { 0, { DEL_RESULT(MRL_LOGGED, 0), DEL_RESULT(MRL_LOGGED_2, 1) } },
	  { 0, { MRL_E(MRL_LOGGED, LOG, 16, 16, 16), MRL_E(MRL_LOGGED_2, LOG, 48, 8, 48) } } },
	{ "move",
	  { 0, { MRL_E(MRL_READONLY, KVM_MEM_READONLY, 40, 8, 32),
		 E_RESULT(MRL_LOGGED_2, LOG, 56, 8, 48, 0) } },
	  { 0, { MRL_E(MRL_READONLY, KVM_MEM_READONLY, 32, 8, 32),
		 E_RESULT(MRL_LOGGED_2, LOG, 48, 8, 48, 1) } } },
	{ "split and merge",
	  { 0, { MRL_E(MRL_LOGGED, LOG, 16, 4, 16), MRL_E(6, LOG, 20, 12, 20),
		 MRL_E(MRL_PLAIN, 0, 0, 8, 0), MRL_E(7, 0, 8, 8, 8) } },
	  { 0, { MRL_E(MRL_LOGGED, LOG, 16, 16, 16), DEL(6), MRL_E(MRL_PLAIN, 0, 0, 16, 0),
		 DEL(7) } } },
	{ "other memory",
	  { 0, { MRL_E(MRL_PLAIN, 0, 0, 16, 80), E_RESULT(MRL_LOGGED, LOG, 16, 16, 96, 0) } },
	  { 0, { MRL_E(MRL_PLAIN, 0, 0, 16, 0), E_RESULT(MRL_LOGGED, LOG, 16, 16, 16, 2) } } },
	{ "flags",
	  { 0, { MRL_E(MRL_PLAIN, LOG, 0, 16, 0), E_RESULT(MRL_LOGGED, 0, 16, 16, 16, 0),
		 MRL_E(MRL_READONLY, 0, 32, 8, 32),
		 E_RESULT(MRL_LOGGED_2, KVM_MEM_READONLY | LOG, 48, 8, 48, 1) } },
	  { DISCARD, { MRL_E(MRL_PLAIN, 0, 0, 16, 0), MRL_E(MRL_LOGGED, LOG, 16, 16, 16),
		 MRL_E(MRL_READONLY, KVM_MEM_READONLY, 32, 8, 32),
		 MRL_E(MRL_LOGGED_2, LOG, 48, 8, 48) } } },
	{ "grow and shrink",
	  { 0, { MRL_E(MRL_PLAIN, 0, 0, 20, 0), E_RESULT(MRL_LOGGED, LOG, 20, 12, 20, 0),
		 MRL_E(MRL_LOGGED_2, LOG, 48, 12, 48) } },
	  { 0, { MRL_E(MRL_PLAIN, 0, 0, 16, 0), MRL_E(MRL_LOGGED, LOG, 16, 16, 16),
		 E_RESULT(MRL_LOGGED_2, LOG, 48, 8, 48, 0) } } },
	/* Metadata and a dirty bitmap go on in other slots, then a slot without any fails. */
	{ "rename, and another slot",
	  { 0, { DEL(MRL_LOGGED), MRL_E(6, LOG, 16, 16, 16), MRL_E(MRL_PLAIN, LOG, 0, 16, 0),
		 MRL_E(7, LOG, 40, 4, 40) } },
	  { DISCARD, { DEL(6), MRL_E(MRL_LOGGED, LOG, 16, 16, 16), MRL_E(MRL_PLAIN, 0, 0, 16, 0),
		 DEL(7) } } },
	/* The same with pieces. */
	{ "split, and another slot",
	  { DISCARD, { MRL_E(MRL_LOGGED, LOG, 16, 8, 16), MRL_E(6, LOG, 24, 8, 24),
		 MRL_E(8, LOG, 60, 4, 60) } },
	  { DISCARD, { MRL_E(MRL_LOGGED, LOG, 16, 16, 16), DEL(6), DEL(8) } } },
};

static uint32_t change_size(const struct change *c)
{
	static const mrl_entry none;
	uint32_t i;

	for (i = 0; i < ARRAY_SIZE(c->e) && memcmp(&c->e[i], &none, sizeof(none)); i++)
		;
	return i;
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_KINDS_H */
