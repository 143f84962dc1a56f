/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_NESTED_SLOTS_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_NESTED_SLOTS_H

/*
 * The slots of a VM whose L1 runs an L2, and what is known of the memory behind them: the
 * list call that gives them a new shape, and the checks that follow one.
 */
#include <linux/memfd.h>
#include <sys/syscall.h>

#include "memory_region_list_nested.h"

#define NR_IDS		8u
#define TABLES_ID	10
#define MEM_ID		20

/* Backings.  The first two of the tables are the same memory, at two addresses. */
#define NR_TABLES	4u
#define NR_TAG_BACKINGS	4u

static const uint32_t who_page[NR_TABLES] = { FIRST_WHO, FIRST_WHO, FIRST_WHO + 1, FIRST_WHO + 2 };
static const uint32_t tag_page[NR_TAGS] = { TAG_SMALL, TAG_HUGE };

/* Memory that no guest uses. */
#define NOISE_ID	40
#define NOISE_GPA	(16ul << 30)
#define NOISE_SIZE	(32ul << 20)

/* What a layout is made from. */
struct shape {
	uint32_t tables, tag;		/* backings */
	uint32_t table_flags, mem_flags;
	uint32_t table_cuts, mem_cuts;
	bool no_tables;
};

static struct kvm_vm *vm;
static typeof(shared) *sh;
static uint8_t *tables[NR_TABLES], *mem[NR_TAG_BACKINGS], *noise;
static struct mrl list;
static struct mrl_layout layout;
static struct shape now;
static struct guest_random_state rng;
static unsigned long results[2 * MRL_LAYOUT_MAX][NPAGES / 64], bitmap[NPAGES / 64];
static uint64_t tag_words[NR_TAG_BACKINGS][NR_TAGS][NR_MAX];

/*
 * Of each page, those of the tables last: what it held at the last stop, and its log.
 * Allocated, as the guest gets all that is static.
 */
static uint8_t (*copy)[PAGE_SIZE];
static bool reported[NPAGES + TABLE_PAGES];

/* What logs came to. */
static struct {
	uint64_t reported, changed, tables;
} logged;

static uint32_t below(uint32_t n)
{
	return guest_random_u32(&rng) % n;
}

static uint8_t *page_hva(uint32_t page)
{
	return page < NPAGES ? mem[0] + page * PAGE_SIZE :
			       tables[0] + (page - NPAGES) * PAGE_SIZE;
}

/* The backing of the page of TABLES or MEM, as an address at which the area would start. */
static uint8_t *backing_of(const struct shape *s, bool of_tables, uint32_t page)
{
	if (of_tables)
		return tables[s->tables];
	return page == TAG_SMALL || page == TAG_HUGE ? mem[s->tag] : mem[0];
}

static void add_area(struct mrl_layout *next, const struct shape *s, bool of_tables)
{
	uint32_t nr = of_tables ? TABLE_PAGES : NPAGES, first = 0, page, n = 0;
	uint32_t cuts = of_tables ? s->table_cuts : s->mem_cuts;
	uint32_t turn = cuts ? below(NR_IDS) : 0;
	bool cut[NPAGES] = {};

	while (cuts--)
		cut[1 + below(nr - 1)] = true;
	for (page = 1; page <= nr; page++) {
		uint8_t *hva = backing_of(s, of_tables, first);

		if (page < nr && !cut[page] && backing_of(s, of_tables, page) == hva)
			continue;
		mrl_layout_add(next, (of_tables ? TABLES_ID : MEM_ID) + (n++ + turn) % NR_IDS,
			       of_tables ? s->table_flags : s->mem_flags,
			       (of_tables ? TABLES_GPA : MEM_GPA) + first * PAGE_SIZE,
			       (page - first) * PAGE_SIZE, hva + first * PAGE_SIZE);
		first = page;
	}
}

static void make_layout(struct mrl_layout *next, const struct shape *s)
{
	*next = (struct mrl_layout) {};
	if (!s->no_tables)
		add_area(next, s, true);
	add_area(next, s, false);
}

static bool logs(const struct mrl_slot *s)
{
	return s && s->flags & KVM_MEM_LOG_DIRTY_PAGES;
}

static void note_bits(const struct mrl_slot *s, const unsigned long *bits)
{
	uint32_t i, first = s->gpa < TABLES_GPA ? (s->gpa - MEM_GPA) / PAGE_SIZE :
						  NPAGES + (s->gpa - TABLES_GPA) / PAGE_SIZE;

	for (i = 0; i < s->size / PAGE_SIZE; i++)
		reported[first + i] |= test_bit(i, bits);
}

static void harvest(void)
{
	uint32_t i;

	for (i = 0; i < layout.nr; i++) {
		if (!logs(&layout.slots[i]))
			continue;
		kvm_vm_get_dirty_log(vm, layout.slots[i].id, bitmap);
		note_bits(&layout.slots[i], bitmap);
	}
}

static void apply(const struct mrl_layout *next)
{
	const struct mrl_slot *old;
	mrl_entry *e;
	uint32_t i;

	mrl_reset(&list);
	mrl_add_change(&list, &layout, next, below(2));
	for (i = 0; i < list.list->nent; i++) {
		e = &list.list->entries[i];
		old = mrl_layout_find(&layout, e->slot);
		if (logs(old))
			mrl_result(e, results[i], align_up(old->size / PAGE_SIZE, 64) / 8);
	}
	mrl_apply(vm, &list);
	for (i = 0; i < list.list->nent; i++) {
		e = &list.list->entries[i];
		old = mrl_layout_find(&layout, e->slot);
		if (logs(old))
			note_bits(old, results[i]);
	}
}

static uint64_t *tag_word(uint32_t b, uint32_t tag)
{
	return (uint64_t *)(mem[b] + tag_page[tag] * PAGE_SIZE);
}

/* A backing that is gone keeps what it held at return. */
static void follow_tag(uint32_t b, bool check)
{
	uint32_t tag, i;

	for (tag = 0; tag < NR_TAGS; tag++) {
		for (i = 0; i < NR_MAX; i++) {
			uint64_t *old = &tag_words[b][tag][i], got;

			got = READ_ONCE(tag_word(b, tag)[1 + i]);
			TEST_ASSERT(!check || got == *old,
				    "no-stale-mapping: replaced page %u, after return: wanted 0x%lx, got 0x%lx",
				    tag_page[tag], *old, got);
			*old = got;
		}
	}
}

static void stamp(const struct shape *next)
{
	uint64_t n;
	uint32_t i;

	if (next->tag != now.tag) {
		follow_tag(next->tag, true);
		n = sh->tag.before + 1;
		WRITE_ONCE(sh->tag.before, n);
		for (i = 0; i < NR_TAGS; i++)
			WRITE_ONCE(*tag_word(next->tag, i), n);
	}
	if (who_page[next->tables] != who_page[now.tables]) {
		n = sh->who.before + 1;
		WRITE_ONCE(sh->who.before, n);
		WRITE_ONCE(*(uint64_t *)page_hva(who_page[next->tables]), n);
	}
}

static void transaction(struct shape next)
{
	struct mrl_layout to;

	make_layout(&to, &next);
	stamp(&next);
	apply(&to);
	if (next.tag != now.tag)
		follow_tag(now.tag, false);
	WRITE_ONCE(sh->tag.after, sh->tag.before);
	WRITE_ONCE(sh->who.after, sh->who.before);
	layout = to;
	now = next;
}

/* Forget what was reported, take what pages hold as the start. */
static void forget(void)
{
	uint32_t page;

	for (page = 0; page < NPAGES + TABLE_PAGES; page++)
		memcpy(copy[page], page_hva(page), PAGE_SIZE);
	memset(reported, 0, sizeof(reported));
}

/* The vCPUs are parked.  Returns how many pages of the tables changed. */
static uint32_t check_log(void)
{
	uint32_t page, changed_tables = 0;
	bool changed;

	harvest();
	for (page = 0; page < NPAGES + TABLE_PAGES; page++) {
		changed = memcmp(copy[page], page_hva(page), PAGE_SIZE);
		TEST_ASSERT(reported[page] || !changed,
			    "never-lost: page %u of %s changed: wanted a bit, got none",
			    page < NPAGES ? page : page - NPAGES,
			    page < NPAGES ? "L2's memory" : "nested page tables");
		logged.reported += reported[page];
		logged.changed += changed;
		changed_tables += changed && page >= NPAGES;
	}
	logged.tables += changed_tables;
	forget();
	return changed_tables;
}

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	mrl_vcpu_expect_no_hole(vcpu, r);
	mrl_vcpu_expect_sync(vcpu);
	return true;
}

static void fill_tables(uint32_t b)
{
	uint64_t (*p)[512] = (void *)tables[b];
	uint32_t i;

	p[NPML4][0] = (TABLES_GPA + NPDPT * PAGE_SIZE) | NESTED_BITS;
	p[NPDPT][0] = (TABLES_GPA + NPD_LOW * PAGE_SIZE) | NESTED_BITS;
	p[NPDPT][WINDOW >> 30] = (TABLES_GPA + NPD_WINDOW * PAGE_SIZE) | NESTED_BITS;
	p[NPD_WINDOW][0] = (TABLES_GPA + NPT_WINDOW * PAGE_SIZE) | NESTED_BITS;
	p[NPD_WINDOW][1] = (MEM_GPA + 512 * PAGE_SIZE) | NESTED_BITS | PTE_LARGE_MASK;
	for (i = 0; i < 512; i++) {
		p[NPD_LOW][i] = i * 512 * PAGE_SIZE | NESTED_BITS | PTE_LARGE_MASK;
		p[NPT_WINDOW][i] = (MEM_GPA + i * PAGE_SIZE) | NESTED_BITS;
	}
	p[NPT_WINDOW][WHO] = (MEM_GPA + who_page[b] * PAGE_SIZE) | NESTED_BITS;
}

static void alloc_memory(void)
{
	int fd = syscall(__NR_memfd_create, "tables", MFD_CLOEXEC);
	size_t size = TABLE_PAGES * PAGE_SIZE;
	uint32_t i;

	TEST_ASSERT(fd >= 0 && !ftruncate(fd, size), "memfd of 0x%lx bytes: errno %d", size, errno);
	for (i = 0; i < NR_TABLES; i++) {
		tables[i] = mmap(NULL, size, PROT_READ | PROT_WRITE,
				 i < 2 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS,
				 i < 2 ? fd : -1, 0);
		TEST_ASSERT(tables[i] != MAP_FAILED, "mmap(): errno %d", errno);
	}
	close(fd);
	for (i = 0; i < NR_TAG_BACKINGS; i++)
		mem[i] = mrl_vcpus_mem_alloc(NPAGES * PAGE_SIZE);
	noise = mmap(NULL, NOISE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(noise != MAP_FAILED, "mmap(): errno %d", errno);
	madvise(noise, NOISE_SIZE, MADV_NOHUGEPAGE);
	memset(noise, 1, NOISE_SIZE);
	list = mrl_alloc(2 * MRL_LAYOUT_MAX);
	copy = calloc(NPAGES + TABLE_PAGES, PAGE_SIZE);
	TEST_ASSERT(copy, "calloc() failed");
}

/*
 * A new VM, with memory as it was at the beginning.  Its vCPUs, which run @guest_main, are
 * parked ahead of L2.
 */
static void create_nested_vm(int nr, void (*guest_main)(uint32_t me, uint32_t nr))
{
	static const struct shape whole;
	vm_vaddr_t gva;
	uint32_t i;

	for (i = 0; i < NR_TABLES; i++)
		fill_tables(i);
	for (i = 0; i < NR_TAG_BACKINGS; i++)
		memset(mem[i], 0, NPAGES * PAGE_SIZE);
	memset(tag_words, 0, sizeof(tag_words));
	mrl_vcpus.nr = nr;
	vm = mrl_vcpus_create(guest_main);
	nr_vcpus = nr;
	sync_global_to_guest(vm, nr_vcpus);
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	for (i = 0; i < nr; i++) {
		vcpu_alloc_svm(vm, &gva);
		sh->svm[i] = (void *)gva;
	}
	virt_map(vm, MEM_GPA, MEM_GPA, NPAGES);
	virt_map(vm, TABLES_GPA, TABLES_GPA, TABLE_PAGES);
	virt_map(vm, WINDOW, WINDOW, NPAGES);
	vm_set_user_memory_region(vm, NOISE_ID, 0, NOISE_GPA, NOISE_SIZE, noise);
	layout = (struct mrl_layout) {};
	now = whole;
	transaction(whole);
	mrl_vcpus_start(&sh->park, handle_exit);
}

static void destroy_vm(void)
{
	mrl_vcpus_stop();
	kvm_vm_free(vm);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_NESTED_SLOTS_H */
