/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_TABLE_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_TABLE_H

/*
 * Layouts as constant tables, for tests that go from one of a few to another one.
 */
#include "memory_region_list_guest.h"

#define MRL_TABLE_PIECES	5
/* Slots below are those of the VM itself. */
#define MRL_TABLE_FIRST_ID	10

/* Page @hva of the host's memory is behind page @first, and so on. */
struct mrl_piece {
	uint32_t first, end, hva, id, flags;
};

struct mrl_table {
	const char *what;
	struct mrl_piece piece[MRL_TABLE_PIECES];
};

/* NULL: a hole. */
static inline const struct mrl_piece *mrl_table_find(const struct mrl_table *t, uint32_t page)
{
	const struct mrl_piece *p;

	for (p = t->piece; p < t->piece + MRL_TABLE_PIECES; p++) {
		if (page >= p->first && page < p->end)
			return p;
	}
	return NULL;
}

static inline void mrl_table_layout(const struct mrl_table *t, struct mrl_layout *to)
{
	const struct mrl_piece *p;

	to->nr = 0;
	for (p = t->piece; p < t->piece + MRL_TABLE_PIECES && p->end; p++)
		mrl_layout_add(to, MRL_TABLE_FIRST_ID + p->id, p->flags, MRL_GPA(p->first),
			       MRL_SIZE(p->end - p->first), (void *)MRL_HVA(p->hva));
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_TABLE_H */
