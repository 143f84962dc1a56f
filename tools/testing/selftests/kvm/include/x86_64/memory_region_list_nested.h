/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_NESTED_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_NESTED_H

/*
 * The guests of memory_region_list_nested_test, which see: L1, what it needs to run
 * an L2 with nested NPT, and L2.  Two regions have slots that change:
 *
 *	TABLES	the nested page tables, i.e. what KVM shadows
 *	MEM	L2's data.  L2 sees it at WINDOW, its first half by small nested
 *		entries, its second half by a single huge one.  L1 sees it, too.
 *
 * All else, i.e. code, stacks, L1's page tables, which are also L2's, and VMCBs, is
 * in memslot 0, which L2 sees where L1 does.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "memory_region_list_vcpus.h"

#define MEM_GPA		(4ul << 30)
#define TABLES_GPA	(5ul << 30)
#define WINDOW		(8ul << 30)	/* L2's */
#define NPAGES		1024u
#define TABLE_PAGES	16u

/* The page of TABLES with the nested page table of each kind. */
enum { NPML4 = 1, NPDPT = 4, NPD_LOW = 7, NPD_WINDOW = 10, NPT_WINDOW = 14 };

#define NESTED_BITS	(PTE_PRESENT_MASK | PTE_WRITABLE_MASK | PTE_USER_MASK)
#define WALK_BITS	(PTE_ACCESSED_MASK | PTE_DIRTY_MASK)

/* Pages of MEM that have several backings, one in each half. */
#define NR_TAGS		2u
#define TAG_SMALL	100u
#define TAG_HUGE	612u

/* Where the backings of TABLES differ: the page that WHO leads to. */
#define WHO		511u
#define FIRST_WHO	508u

#define NR_MAX		4

enum { TOUCH_L1 = 1, TOUCH_L2 = 2, CLEAR_WALK_BITS = 4 };

/* Of memory that is replaced: the one that a call brings, and the one that a call has brought. */
struct generation {
	uint64_t before, after;
};

/* In memslot 0, which never changes.  Guests and host use it. */
static struct {
	uint32_t park;
	uint32_t command;			/* for the only vCPU that runs */
	bool no_tables;				/* nested page faults are to be expected */
	struct generation tag, who;
	struct svm_test_data *svm[NR_MAX];
	uint64_t rounds[NR_MAX], entries[NR_MAX], nested_faults[NR_MAX];
	uint64_t value[NPAGES];			/* journal: last value written */
} shared;

static uint64_t l2_stacks[NR_MAX][1024] __aligned(PAGE_SIZE);
static uint32_t nr_vcpus;

static inline uint64_t *window(uint32_t page)
{
	return (uint64_t *)(WINDOW + page * PAGE_SIZE);
}

static inline uint64_t *l1_mem(uint32_t page)
{
	return (uint64_t *)(MEM_GPA + page * PAGE_SIZE);
}

static inline uint64_t *l1_table(uint32_t page)
{
	return (uint64_t *)(TABLES_GPA + page * PAGE_SIZE);
}

static inline bool is_data(uint32_t page)
{
	return page != TAG_SMALL && page != TAG_HUGE && (page < FIRST_WHO || page > WHO);
}

static inline uint32_t next_random(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* A page that no other vCPU writes to. */
static inline uint32_t own_page(uint32_t *x, uint32_t me, uint32_t nr)
{
	uint32_t page;

	do {
		page = next_random(x) % (NPAGES / nr) * nr + me;
	} while (!is_data(page));
	return page;
}

static inline void use_page(uint64_t *p, uint32_t page, const char *who, bool emulate)
{
	uint64_t got = mrl_guest_load(p, emulate);

	__GUEST_ASSERT(got == shared.value[page], "%s, page %u: wanted 0x%lx, got 0x%lx", who,
		       page, shared.value[page], got);
	shared.value[page]++;
	mrl_guest_store(p, shared.value[page], emulate);
}

/* The generation may be read while its memory is replaced, but it is not an old one. */
static inline void check_generation(const struct generation *g, const uint64_t *p, const char *what)
{
	uint64_t after = READ_ONCE(g->after), got = READ_ONCE(*p), before = READ_ONCE(g->before);

	__GUEST_ASSERT(got >= after && got <= before,
		       "no-stale-mapping: %s: wanted generation %lu to %lu, got %lu", what, after,
		       before, got);
}

static inline void touch_all(uint64_t *first)
{
	uint32_t page;

	for (page = 0; page < NPAGES; page++)
		READ_ONCE(first[page * PAGE_SIZE / sizeof(*first)]);
}

/* L2: leave to L1.  As in vmmcall(), L0 is not to take it for a hypercall. */
static inline void l2_leave(void)
{
	uint64_t rax = 0xdeadbeef, rcx = 0xbeefdead;

	asm volatile("vmmcall" : "+a"(rax), "+c"(rcx) : : "memory");
}

/* Of L2, but RAX, RSP.  L2 may be left anywhere, i.e. L1 has to keep them all. */
struct l2_regs {
	uint64_t rbx, rcx, rdx, rsi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rdi;
};

/* L1: enter L2.  The library's run_guest() has registers for one vCPU only. */
static inline void l1_enter(uint64_t vmcb, struct l2_regs *regs)
{
	asm volatile("lea -128(%%rsp), %%rsp\n\t"
		     "push %%rbp\n\t"
		     "push %%rdi\n\t"
		     "vmload %%rax\n\t"
		     "mov 0x00(%%rdi), %%rbx\n\t"
		     "mov 0x08(%%rdi), %%rcx\n\t"
		     "mov 0x10(%%rdi), %%rdx\n\t"
		     "mov 0x18(%%rdi), %%rsi\n\t"
		     "mov 0x20(%%rdi), %%rbp\n\t"
		     "mov 0x28(%%rdi), %%r8\n\t"
		     "mov 0x30(%%rdi), %%r9\n\t"
		     "mov 0x38(%%rdi), %%r10\n\t"
		     "mov 0x40(%%rdi), %%r11\n\t"
		     "mov 0x48(%%rdi), %%r12\n\t"
		     "mov 0x50(%%rdi), %%r13\n\t"
		     "mov 0x58(%%rdi), %%r14\n\t"
		     "mov 0x60(%%rdi), %%r15\n\t"
		     "mov 0x68(%%rdi), %%rdi\n\t"
		     "vmrun %%rax\n\t"
		     "xchg %%rdi, (%%rsp)\n\t"
		     "mov %%rbx, 0x00(%%rdi)\n\t"
		     "mov %%rcx, 0x08(%%rdi)\n\t"
		     "mov %%rdx, 0x10(%%rdi)\n\t"
		     "mov %%rsi, 0x18(%%rdi)\n\t"
		     "mov %%rbp, 0x20(%%rdi)\n\t"
		     "mov %%r8, 0x28(%%rdi)\n\t"
		     "mov %%r9, 0x30(%%rdi)\n\t"
		     "mov %%r10, 0x38(%%rdi)\n\t"
		     "mov %%r11, 0x40(%%rdi)\n\t"
		     "mov %%r12, 0x48(%%rdi)\n\t"
		     "mov %%r13, 0x50(%%rdi)\n\t"
		     "mov %%r14, 0x58(%%rdi)\n\t"
		     "mov %%r15, 0x60(%%rdi)\n\t"
		     "pop 0x68(%%rdi)\n\t"
		     "vmsave %%rax\n\t"
		     "pop %%rbp\n\t"
		     "lea 128(%%rsp), %%rsp"
		     : "+a"(vmcb), "+D"(regs)
		     : : "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
		     "r15", "cc", "memory");
}

static inline void l2_round(uint32_t *x, uint32_t me, uint32_t nr)
{
	uint32_t i, page, tag = next_random(x) & 1 ? TAG_SMALL : TAG_HUGE;
	/* Without tables KVM can't read the prefix, and injects the #UD. */
	bool emulate = !(next_random(x) & 15) && !READ_ONCE(shared.no_tables);

	for (i = 0; i < 8; i++) {
		page = own_page(x, me, nr);
		use_page(window(page), page, "L2", !i && emulate);
	}
	check_generation(&shared.tag, window(tag), "L2's data");
	WRITE_ONCE(*(window(tag) + 1 + me), shared.rounds[me]);
	check_generation(&shared.who, window(WHO), "nested page table");
	WRITE_ONCE(shared.rounds[me], shared.rounds[me] + 1);
}

static void l2_main(uint32_t me)
{
	uint32_t park = READ_ONCE(shared.park), x = 88675123u + me, i;

	for (i = 1;; i++) {
		if (READ_ONCE(shared.command) & TOUCH_L2)
			touch_all(window(0));
		else if (!READ_ONCE(shared.command))
			l2_round(&x, me, nr_vcpus);
		if (i % 16 && READ_ONCE(shared.park) == park && !READ_ONCE(shared.command))
			continue;
		park = READ_ONCE(shared.park);
		l2_leave();
	}
}

/* Of one entry that walks of L2's accesses use, or of all. */
static inline void l1_clear_walk_bits(uint32_t entry)
{
	static const uint8_t tables[] = { NPML4, NPDPT, NPDPT, NPD_LOW, NPD_WINDOW, NPD_WINDOW };
	static const uint8_t index[] = { 0, 0, WINDOW >> 30, 0, 0, 1 };
	uint64_t *p = l1_table(NPT_WINDOW) + entry % 512;

	if (entry % 1024 < ARRAY_SIZE(tables))
		p = l1_table(tables[entry % 1024]) + index[entry % 1024];
	asm volatile("lock andq %1, %0" : "+m"(*p) : "r"(~WALK_BITS) : "memory", "cc");
}

/* In between, L1 uses the same pages, through its own mapping. */
static inline void l1_round(uint32_t *x, uint32_t me, uint32_t nr)
{
	uint32_t page = own_page(x, me, nr);

	use_page(l1_mem(page), page, "L1", false);
	if (!shared.no_tables)
		l1_clear_walk_bits(next_random(x));
}

static inline void l1_command(uint32_t command)
{
	uint32_t i;

	if (command & TOUCH_L1)
		touch_all(l1_mem(0));
	for (i = 0; command & CLEAR_WALK_BITS && i < 1024; i++)
		l1_clear_walk_bits(i);
}

static inline void l1_setup(struct svm_test_data *svm, uint32_t me)
{
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, l2_main, (void *)&l2_stacks[me][ARRAY_SIZE(l2_stacks[me]) - 1]);
	vmcb->control.nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	vmcb->control.nested_cr3 = TABLES_GPA + NPML4 * PAGE_SIZE;
	vmcb->save.rflags = 2;
}

/* Returns whether L2 has left by itself, i.e. not in the middle of using a page. */
static inline bool l1_run_l2(struct svm_test_data *svm, struct l2_regs *regs, uint32_t me)
{
	struct vmcb_control_area *control = &svm->vmcb->control;

	l1_enter(svm->vmcb_gpa, regs);
	WRITE_ONCE(shared.entries[me], shared.entries[me] + 1);
	if (control->exit_code == SVM_EXIT_NPF && READ_ONCE(shared.no_tables)) {
		WRITE_ONCE(shared.nested_faults[me], shared.nested_faults[me] + 1);
		return false;
	}
	__GUEST_ASSERT(control->exit_code == SVM_EXIT_VMMCALL,
		       "no-hole: L2 of vCPU %u: wanted VMMCALL, got exit 0x%x, info 0x%lx, 0x%lx",
		       me, control->exit_code, control->exit_info_1, control->exit_info_2);
	svm->vmcb->save.rip += 3;
	return true;
}

static void l1_main(uint32_t me, uint32_t nr)
{
	struct svm_test_data *svm = shared.svm[me];
	uint32_t park = 0, command, x = 2463534242u + me;
	struct l2_regs regs = { .rdi = me };
	bool between_rounds = true;

	l1_setup(svm, me);
	for (;;) {
		/* For the first time ahead of the first entry. */
		if (READ_ONCE(shared.park) != park) {
			park = READ_ONCE(shared.park);
			GUEST_SYNC(0);
		}
		command = READ_ONCE(shared.command);
		l1_command(command);
		if (!command || command & TOUCH_L2)
			between_rounds = l1_run_l2(svm, &regs, me);
		if (command)
			GUEST_SYNC(0);
		else if (park && between_rounds)
			l1_round(&x, me, nr);
	}
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_NESTED_H */
