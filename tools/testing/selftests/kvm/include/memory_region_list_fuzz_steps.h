/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_STEPS_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_STEPS_H

#include <asm/barrier.h>

#include "memory_region_list_fuzz_world.h"

/* The steps of memory_region_list_fuzz_test, which see, that change no memslot. */
static void do_get(const struct fuzz_step *s)
{
	give_turn();
	get_log(s->arg[0], false);
	program->counts.other++;
}

/* By words, as the ioctl wants it. */
static void do_clear(const struct fuzz_step *s)
{
	uint32_t npages = slots[0][s->arg[0]].npages, first = s->arg[1] * 64, end = s->arg[2] * 64;

	if (!config.log_kind || !get_log(s->arg[0], false))
		return;
	end = min(end, npages);
	if (first < end)
		clear_log(s->arg[0], first, end);
	program->counts.other++;
}

static void collect_entry(const struct kvm_dirty_gfn *gfn)
{
	const struct fuzz_slot *name = &ring_name[gfn->slot % FUZZ_MAX_IDS];

	TEST_ASSERT(gfn->slot < FUZZ_MAX_IDS && gfn->offset < name->npages,
		    "never-lost: ring entry: wanted a name of this round, got slot %u, offset %llu of %lu",
		    gfn->slot, gfn->offset, name->npages);
	pair_of(page_of(name->gfn) + gfn->offset, map_of(name, name->gfn + gfn->offset))->event =
		ring_event;
}

/* Harvest and reset, and read only then, as the API documentation says. */
static void harvest_rings(void)
{
	static struct kvm_dirty_gfn *seen;
	const struct fuzz_slot *name;
	struct kvm_dirty_gfn *gfn;
	uint32_t i, nr = 0, page, m, reset;

	if (!seen)
		seen = fuzz_alloc(FUZZ_MAX_VCPUS * FUZZ_RING_ENTRIES, sizeof(*seen));

	for (i = 0; i < config.vcpus; i++) {
		for (;; ring_index[i]++) {
			gfn = &ring[i][ring_index[i] % FUZZ_RING_ENTRIES];
			/* Read slot and offset only if KVM has published the entry. */
			if (smp_load_acquire(&gfn->flags) != KVM_DIRTY_GFN_F_DIRTY)
				break;
			collect_entry(gfn);
			seen[nr++] = *gfn;
			/* Hand the entry back only after it has been read. */
			smp_store_release(&gfn->flags, KVM_DIRTY_GFN_F_RESET);
		}
	}
	reset = kvm_vm_reset_dirty_ring(vm);
	TEST_ASSERT(reset == nr, "ring entries reset: wanted %u, got %u", nr, reset);
	for (i = 0; i < nr; i++) {
		name = &ring_name[seen[i].slot];
		page = page_of(name->gfn) + seen[i].offset;
		m = map_of(name, name->gfn + seen[i].offset);
		program->counts.over += pair_of(page, m)->copy == word_of(page, m);
		pair_of(page, m)->copy = word_of(page, m);
	}
	program->counts.reported += nr;
	ring_event++;
}

/* All vCPUs are parked: each page of a log that differs from its copy must have been told. */
static void check_rings(void)
{
	uint32_t page, id;

	harvest_rings();
	for (page = 0; page < config.nr_pages; page++) {
		if (!page_logs(map[page]))
			continue;
		TEST_ASSERT(word_of(page, map[page]) == pair_of(page, map[page])->copy,
			    "never-lost: page %u of host page %u: wanted an entry, got none; 0x%x is 0x%x",
			    page, host_of(map[page]), pair_of(page, map[page])->copy,
			    word_of(page, map[page]));
	}
	for (id = 0; id < nr_known; id++)
		ring_name[id] = slot_logs(&slots[0][id]) ? slots[0][id] : (struct fuzz_slot) {};
}

/* Each round, as the world may be killed. */
static void take_counts(void)
{
	/* What exited is in no page. */
	program->counts.stores -= atomic_exchange(&nr_write_exits, 0);
	program->counts.exits += atomic_exchange(&nr_exits, 0);
	program->counts.prefaults += atomic_exchange(&nr_prefaults, 0);
}

static void do_park(const struct fuzz_step *s)
{
	uint32_t id;

	park_vcpus();
	for (id = 1; !config.ring && id < nr_known; id++) {
		if (slot_logs(&slots[0][id]) && get_log(id, true) && config.log_kind && s->arg[0])
			clear_log(id, 0, slots[0][id].npages);
	}
	if (config.ring)
		check_rings();
	take_counts();
	end_round();
	unpark_vcpus();
}

static void do_prefault(const struct fuzz_step *s)
{
	uint32_t vcpu = s->arg[2] % config.vcpus;

	pthread_mutex_lock(&idle.lock);
	idle.wanted[vcpu].gpa = FUZZ_GPA + s->arg[0] * PAGE_SIZE;
	idle.wanted[vcpu].size = s->arg[1] * PAGE_SIZE;
	pthread_mutex_unlock(&idle.lock);
}

static bool is_journal_half_full(void)
{
	uint32_t i;

	for (i = 0; i < config.vcpus; i++) {
		if (READ_ONCE(sh->nr[i]) >= FUZZ_JOURNAL / 2)
			return true;
	}
	return false;
}

static void do_step(const struct fuzz_step *s)
{
	/* Room for one more change in what the round remembers, and for accesses. */
	if (nr_gens == FUZZ_MAX_GENS || nr_gone > FUZZ_MAX_NOTES / 2 || is_journal_half_full())
		do_park(&(struct fuzz_step) {});
	switch (s->kind) {
	case FUZZ_STEP_LIST:
		do_list(s);
		break;
	case FUZZ_STEP_SLOT:
		do_slot(s);
		break;
	case FUZZ_STEP_GET:
		do_get(s);
		break;
	case FUZZ_STEP_CLEAR:
		do_clear(s);
		break;
	case FUZZ_STEP_PARK:
		do_park(s);
		break;
	case FUZZ_STEP_PREFAULT:
		do_prefault(s);
		break;
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_STEPS_H */
