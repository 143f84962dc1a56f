/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_GUEST_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_GUEST_H

/*
 * A VM whose only vCPU reads and writes pages of a window of guest physical
 * memory on request.  What is found at a page is what the guest finds there: the
 * tag of the host page behind it, or an exit with KVM_EXIT_MMIO.
 *
 * Host memory is at a fixed address, so that lists can be constant tables.
 */
#include <linux/bits.h>
#include <linux/mman.h>

#include "memory_region_list.h"
#include "processor.h"
#include "ucall_common.h"

#define MRL_PAGE_SIZE	4096ull
#define MRL_GPA_BASE	0x10000000ull
#define MRL_HVA_BASE	0x100000000000ull
#define MRL_MEM_PAGES	256
#define MRL_WIN_PAGES	64

/* Byte addresses of the n-th page of the window, and of host memory. */
#define MRL_GPA(page)	(MRL_GPA_BASE + (page) * MRL_PAGE_SIZE)
#define MRL_HVA(page)	(MRL_HVA_BASE + (page) * MRL_PAGE_SIZE)
#define MRL_SIZE(pages)	((pages) * MRL_PAGE_SIZE)
#define MRL_ALL_PAGES	(~0ull)

/* What the guest reads where there is no memory. */
#define MRL_HOLE	0xdeadull

/* The first word of each host page. */
#define MRL_TAG(page)	(0x7461670000000000ull | (page))

/* The field of a page that the kernel itself writes to, see mrl_kernel_touch(). */
#define MRL_KERNEL_OFFSET	2048

struct mrl_guest_cmd {
	uint64_t write;
	uint64_t gpa;
	uint64_t pages;
	uint64_t val[MRL_WIN_PAGES];
};

struct mrl_guest {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct mrl_guest_cmd *cmd;
};

static struct mrl_guest_cmd mrl_guest_cmd;

static inline void mrl_guest_code(void)
{
	struct mrl_guest_cmd *cmd = &mrl_guest_cmd;
	uint64_t *word;
	int i;

	for (;;) {
		for (i = 0; i < MRL_WIN_PAGES; i++) {
			if (!(READ_ONCE(cmd->pages) & BIT_ULL(i)))
				continue;

			word = (uint64_t *)(READ_ONCE(cmd->gpa) + i * MRL_PAGE_SIZE);
			if (READ_ONCE(cmd->write))
				WRITE_ONCE(*word, cmd->val[i]);
			else
				cmd->val[i] = READ_ONCE(*word);
		}
		GUEST_SYNC(0);
	}
}

/* Allocate @pages of tagged host memory at MRL_HVA_BASE, in small pages. */
static inline void mrl_mem_alloc(uint32_t pages)
{
	void *mem = (void *)MRL_HVA_BASE;
	uint32_t i;

	mem = mmap(mem, MRL_SIZE(pages), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	TEST_ASSERT(mem == (void *)MRL_HVA_BASE, "mmap(): wanted %p, got %p",
		    (void *)MRL_HVA_BASE, mem);
	madvise(mem, MRL_SIZE(pages), MADV_NOHUGEPAGE);
	for (i = 0; i < pages; i++)
		*(uint64_t *)MRL_HVA(i) = MRL_TAG(i);
}

/* Bytes of this process that are in transparent huge pages. */
static inline uint64_t mrl_thp_bytes(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	long kbytes = 0;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "AnonHugePages: %ld kB", &kbytes);
	if (f)
		fclose(f);
	return kbytes * 1024;
}

/*
 * As mrl_mem_alloc(), but in place of what is there, and in huge pages if @huge.  False
 * if the host has none.
 */
static inline bool mrl_mem_realloc(uint32_t pages, bool huge)
{
	void *want = (void *)MRL_HVA_BASE, *mem;
	uint32_t i;

	mem = mmap(want, MRL_SIZE(pages), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	TEST_ASSERT(mem == want, "mmap(): wanted %p, got %p", want, mem);
	madvise(mem, MRL_SIZE(pages), huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (i = 0; i < pages; i++)
		*(uint64_t *)MRL_HVA(i) = MRL_TAG(i);
	return !huge || mrl_thp_bytes() >= MRL_SIZE(pages);
}

static inline void mrl_mem_free(uint32_t pages)
{
	munmap((void *)MRL_HVA_BASE, MRL_SIZE(pages));
}

/*
 * Add the vCPU to @vm, which has none.  The guest maps @pages from MRL_GPA_BASE on,
 * no memslot is behind them.
 */
static inline struct mrl_guest mrl_guest_init(struct kvm_vm *vm, uint32_t pages)
{
	struct mrl_guest g = { .vm = vm };

	g.vcpu = vm_vcpu_add(vm, 0, mrl_guest_code);
	virt_map(vm, MRL_GPA_BASE, MRL_GPA_BASE, pages);
	g.cmd = addr_gva2hva(vm, (vm_vaddr_t)&mrl_guest_cmd);
	return g;
}

static inline struct mrl_guest mrl_guest_create(uint32_t pages)
{
	return mrl_guest_init(__vm_create(VM_SHAPE_DEFAULT, 1, pages / 256), pages);
}

/* What is zapped is what goes or changes, whatever the list: without rmaps only. */
static inline bool mrl_zaps_are_exact(void)
{
	return kvm_is_tdp_enabled() && get_kvm_param_bool("tdp_mmu");
}

static inline uint64_t mrl_guest_run(struct mrl_guest *g)
{
	struct kvm_run *run = g->vcpu->run;
	struct mrl_guest_cmd *cmd = g->cmd;
	const uint64_t hole = MRL_HOLE;
	uint64_t i, exits = 0;
	struct ucall uc;

	for (;;) {
		vcpu_run(g->vcpu);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;

		i = (run->mmio.phys_addr - cmd->gpa) / MRL_PAGE_SIZE;
		TEST_ASSERT(i < MRL_WIN_PAGES && (cmd->pages & BIT_ULL(i)) &&
			    run->mmio.is_write == cmd->write,
			    "Wanted accesses to pages 0x%lx from 0x%lx, got MMIO at 0x%llx, is_write %u",
			    cmd->pages, cmd->gpa, run->mmio.phys_addr,
			    run->mmio.is_write);
		exits |= BIT_ULL(i);
		if (!run->mmio.is_write)
			memcpy(run->mmio.data, &hole, sizeof(hole));
	}
	TEST_ASSERT(get_ucall(g->vcpu, &uc) == UCALL_SYNC,
		    "Wanted UCALL_SYNC, got ucall %lu, exit %u (%s)", uc.cmd,
		    run->exit_reason, exit_reason_str(run->exit_reason));
	return exits;
}

/*
 * Let the guest read the first word of @pages, a bitmap, of the 64 pages from
 * @first on.  Returns those for which that exited.
 */
static inline uint64_t mrl_guest_read(struct mrl_guest *g, uint64_t first,
				      uint64_t pages, uint64_t *val)
{
	uint64_t exits;

	g->cmd->write = 0;
	g->cmd->gpa = MRL_GPA(first);
	g->cmd->pages = pages;
	exits = mrl_guest_run(g);
	if (val)
		memcpy(val, g->cmd->val, sizeof(g->cmd->val));
	return exits;
}

static inline uint64_t mrl_guest_write(struct mrl_guest *g, uint64_t first,
				       uint64_t pages, const uint64_t *val)
{
	g->cmd->write = 1;
	g->cmd->gpa = MRL_GPA(first);
	g->cmd->pages = pages;
	memcpy(g->cmd->val, val, sizeof(g->cmd->val));
	return mrl_guest_run(g);
}

/*
 * Make KVM itself read and write guest memory, through memslots and not through
 * the MMU: the version of a wall clock structure is counted up by two.
 */
static inline void mrl_kernel_touch(struct mrl_guest *g, uint64_t page)
{
	vcpu_set_msr(g->vcpu, MSR_KVM_WALL_CLOCK_NEW,
		     MRL_GPA(page) + MRL_KERNEL_OFFSET);
}

static inline uint32_t mrl_kernel_count(uint64_t hva)
{
	return READ_ONCE(*(uint32_t *)(hva + MRL_KERNEL_OFFSET));
}

/* What the kernel counts of a VM's memslot changes. */
struct mrl_counts {
	uint64_t calls;
	uint64_t failed;
	uint64_t entries;
	uint64_t zapped;
	uint64_t grace_periods;
};

static inline struct mrl_counts mrl_counts_get(struct kvm_vm *vm)
{
	return (struct mrl_counts) {
		.calls = vm_get_stat(vm, "memory_region_list_calls"),
		.failed = vm_get_stat(vm, "memory_region_list_failed"),
		.entries = vm_get_stat(vm, "memory_region_list_entries"),
		.zapped = vm_get_stat(vm, "memory_region_list_zapped"),
		.grace_periods = vm_get_stat(vm, "memslot_grace_periods"),
	};
}

/* The counts since @before. */
static inline struct mrl_counts mrl_counts_since(struct kvm_vm *vm,
						 struct mrl_counts before)
{
	struct mrl_counts now = mrl_counts_get(vm);

	return (struct mrl_counts) {
		.calls = now.calls - before.calls,
		.failed = now.failed - before.failed,
		.entries = now.entries - before.entries,
		.zapped = now.zapped - before.zapped,
		.grace_periods = now.grace_periods - before.grace_periods,
	};
}

static inline uint64_t mrl_vcpu_stat(struct kvm_vcpu *vcpu, const char *name)
{
	uint64_t data = 0;

	TEST_ASSERT(mrl_read_vcpu_stat(vcpu, name, &data),
		    "Wanted a vCPU stat '%s', got none", name);
	return data;
}

/* A list that changes nothing: returns 0, or errno. */
static inline int mrl_probe(struct kvm_vm *vm, uint32_t as_id, mrl_entry entry)
{
	struct {
		struct kvm_userspace_memory_region_list list;
		mrl_entry entry;
	} arg = {
		.list = {
			.nent = 1,
			.flags = KVM_MEMORY_REGION_LIST_TEST_ONLY |
				 KVM_MEMORY_REGION_LIST_DISCARD_DIRTY,
			.as_id = as_id,
		},
		.entry = entry,
	};

	return __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION_LIST, &arg.list) ? errno : 0;
}

static inline bool mrl_slot_exists(struct kvm_vm *vm, uint32_t as_id, uint32_t slot)
{
	int err = mrl_probe(vm, as_id, (mrl_entry) { .slot = slot });

	TEST_ASSERT(!err || err == ENOENT || err == EOPNOTSUPP,
		    "Deletion of slot %u, as a test: wanted 0, ENOENT or EOPNOTSUPP, got %d (%s)",
		    slot, err, strerror(err));
	return err != ENOENT;
}

/* @unused is the id of a slot that does not exist. */
static inline bool mrl_page_occupied(struct kvm_vm *vm, uint32_t as_id,
				     uint32_t unused, uint64_t page)
{
	int err = mrl_probe(vm, as_id, (mrl_entry) {
		.slot = unused,
		.guest_phys_addr = MRL_GPA(page),
		.memory_size = MRL_PAGE_SIZE,
		.userspace_addr = MRL_HVA(0),
	});

	TEST_ASSERT(!err || err == EEXIST,
		    "Creation at page %lu, as a test: wanted 0 or EEXIST, got %d (%s)",
		    page, err, strerror(err));
	return err;
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_GUEST_H */
