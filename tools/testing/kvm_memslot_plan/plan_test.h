/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_PLAN_TEST_H__
#define __KVM_PLAN_TEST_H__

#include <stdio.h>
#include <stdnoreturn.h>

#include <linux/kvm.h>
#include <linux/types.h>

#include "memslot_plan.h"

#define TEST_PAGE_SIZE	((u64)1 << PAGE_SHIFT)
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/*
 * All slots are in @nr blocks of 1 << @shift pages each, from the gfn @base on,
 * and begin and end at the border of a block.
 */
struct world {
	u64 base;
	u32 nr;
	u32 shift;
};

static inline u64 world_gfn(const struct world *w, u64 block)
{
	return w->base + (block << w->shift);
}

/* Old and new layout in no particular order, in arrays of exactly nr slots. */
struct layouts {
	struct world world;
	struct kvm_plan_slot *old;
	struct kvm_plan_slot *new;
	u32 nr_old;
	u32 nr_new;
};

/* What is being tested, for the message of a failure. */
extern const char *test_name;
extern const struct layouts *test_layouts;

/* Print what went wrong, and the layouts, and exit. */
#define fail(...) do {				\
	start_failure();			\
	fprintf(stderr, __VA_ARGS__);		\
	end_failure();				\
} while (0)

void start_failure(void);
noreturn void end_failure(void);

/* random.c */
u64 next_random(u64 *state);
u32 random_below(u64 *state, u32 n);
void shuffle_slots(struct kvm_plan_slot *slots, u32 nr, u64 *state);
void random_layouts(struct layouts *l, u64 *state);
void random_overlaps(struct layouts *l, u64 *state);
struct kvm_plan_slot *copy_slots(const struct kvm_plan_slot *slots, u32 nr);
void free_layouts(struct layouts *l);

/* oracle.c: fail() if the planner and the oracle differ. */
void check_plan(struct layouts *l, u64 *state);
void check_overlap(const struct kvm_plan_slot *slots, u32 nr);

/* cases.c: return the number of cases. */
u32 test_cases(void);

#endif /* __KVM_PLAN_TEST_H__ */
