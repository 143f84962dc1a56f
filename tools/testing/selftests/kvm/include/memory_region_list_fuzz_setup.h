/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_SETUP_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_SETUP_H

#include "memory_region_list_fuzz_noise.h"
#include "memory_region_list_fuzz_steps.h"

/* How a world of memory_region_list_fuzz_test, which see, begins and ends. */
static void write_code(uint8_t *p, uint32_t value)
{
	const uint8_t code[] = {
		0xb8, value, value >> 8, value >> 16, value >> 24, 0xc3, /* mov value, %eax; ret */
	};

	memcpy(p, code, sizeof(code));
}

static void map_fixed(uint64_t addr, size_t size, int prot, int flags, int fd, off_t offset)
{
	void *mem = mmap((void *)addr, size, prot, flags | MAP_FIXED, fd, offset);

	TEST_ASSERT(mem == (void *)addr, "mmap() of 0x%lx bytes: wanted 0x%lx, got %p, errno %d",
		    size, addr, mem, errno);
}

/* A large world has the same 256 pages of each backing over and over again. */
static void map_host_memory(void)
{
	uint32_t nr = FUZZ_BACKINGS * config.nr_pages, distinct = FUZZ_BACKINGS * 256, i;
	int fd = -1;

	if (config.shared_memory) {
		fd = memfd_create("fuzz", 0);
		TEST_ASSERT(fd >= 0 && !ftruncate(fd, distinct * PAGE_SIZE),
			    "memfd_create(): wanted a file, got errno %d", errno);
	}
	for (i = 0; fd >= 0 && i < nr; i += 256)
		map_fixed(FUZZ_HVA + (uint64_t)i * PAGE_SIZE, 256 * PAGE_SIZE,
			  PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			  i / config.nr_pages * 256 * PAGE_SIZE);
	if (fd < 0)
		map_fixed(FUZZ_HVA, nr * PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (config.huge)
		madvise((void *)FUZZ_HVA, nr * PAGE_SIZE, MADV_HUGEPAGE);
	for (i = 0; i < nr; i++) {
		uint8_t *p = (uint8_t *)FUZZ_HVA + (uint64_t)i * PAGE_SIZE;
		uint32_t tag = tag_of((i + 1) << 2);

		if (*(uint32_t *)(p + FUZZ_TAG) == tag && tag)
			continue;
		*(uint32_t *)(p + FUZZ_TAG) = tag;
		write_code(p + FUZZ_CODE, tag);
	}
	close(fd);
}

/* For the noise.  It is merged if ksmd runs. */
static void map_bystander(void)
{
	size_t size = FUZZ_BYSTANDER_PAGES * PAGE_SIZE;

	map_fixed(FUZZ_BYSTANDER, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise((void *)FUZZ_BYSTANDER, size, MADV_MERGEABLE);
	memset((void *)FUZZ_BYSTANDER, 0, size);
	vm_set_user_memory_region(vm, FUZZ_BYSTANDER_ID, 0, FUZZ_BYSTANDER_GPA, size,
				  (void *)FUZZ_BYSTANDER);
}

static void map_arguments(void)
{
	size_t size = align_up(mrl_size(FUZZ_MAX_IDS) + PAGE_SIZE, PAGE_SIZE);
	uint8_t *mem;

	map_fixed(FUZZ_RESULT, FUZZ_RESULT_BYTES, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	map_fixed(FUZZ_NOWHERE, 16 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mem = mmap(NULL, size + PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() of an argument: wanted memory, got errno %d", errno);
	argument_end = mem + size;
	mprotect(argument_end, PAGE_SIZE, PROT_NONE);
}

static void create_vm(void)
{
	uint32_t i;

	mrl_vcpus.nr = config.vcpus;
	/* More than there will be: in slot 0, page tables of those leave room for the journal. */
	vm = __vm_create(VM_SHAPE_DEFAULT, config.vcpus, config.nr_pages + FUZZ_MAX_PAGES);
	if (config.ring)
		vm_enable_dirty_ring(vm, FUZZ_RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
	if (config.log_kind)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, config.log_kind);
	vm_enable_cap(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
	for (i = 0; i < config.vcpus; i++) {
		mrl_vcpus.vcpu[i] = vm_vcpu_add(vm, i, fuzz_guest_main);
		if (config.ring)
			ring[i] = vcpu_map_dirty_ring(mrl_vcpus.vcpu[i]);
	}
	if (config.huge)
		virt_map_level(vm, FUZZ_GPA, FUZZ_GPA, config.nr_pages * PAGE_SIZE, PG_LEVEL_2M);
	else
		virt_map(vm, FUZZ_GPA, FUZZ_GPA, config.nr_pages);
	virt_map(vm, FUZZ_BYSTANDER_GPA, FUZZ_BYSTANDER_GPA, FUZZ_BYSTANDER_PAGES);
}

/* The slots that there are before the first step: those of the VM itself. */
static void learn_slots(void)
{
	struct userspace_mem_region *r;
	int i;

	hash_for_each(vm->regions.slot_hash, i, r, slot_node) {
		slots[0][r->region.slot] = (struct fuzz_slot) {
			.gfn = r->region.guest_phys_addr / PAGE_SIZE,
			.npages = r->region.memory_size / PAGE_SIZE,
			.hva = r->region.userspace_addr,
			.flags = r->region.flags,
		};
		nr_known = max(nr_known, r->region.slot + 1);
	}
	nr_spaces = kvm_check_cap(KVM_CAP_MULTI_ADDRESS_SPACE);
	nr_spaces = max(nr_spaces, 1u);
	max_entries = vm_check_cap(vm, KVM_CAP_USER_MEMORY_REGION_LIST);
}

static void create_world(void)
{
	uint32_t i;

	oracle_init();
	pages_init();
	world_init();
	map_arguments();
	create_vm();
	learn_slots();
	sh = addr_gva2hva(vm, (vm_vaddr_t)&fuzz_shared);
	sh->nr_pages = config.nr_pages;
	sh->quota = config.quota;
	sh->restless = config.restless;
	sh->word_shift = config.large ? 8 : 0;
	/* A vCPU adds its number, and none may start from 0. */
	sh->seed = ((uint32_t)fuzz_mix(config.seed + 1ull) & ~7u) | FUZZ_MAX_VCPUS;
	map_host_memory();
	map_bystander();
	for (i = 0; i < config.nr_pages; i++) {
		may_exit[i] = exits_of(0);
		sh->exits[i] = exits_of(0);
	}
	mrl_updater_start(&updater, vm, mrl_vcpus_mem_alloc(MRL_UPDATER_PAGES * PAGE_SIZE));
	mrl_vcpus_start(&sh->park, handle_exit);
	end_round();
	mrl_updater_set(&updater, config.updater, false);
	start_noise();
	unpark_vcpus();
}

static void destroy_world(void)
{
	stop_noise();
	mrl_updater_stop(&updater);
	program->counts.updates += updater.updates;
	program->counts.advised += noise.advised;
	program->counts.signals += noise.signals;
	program->counts.other += noise.logs;
	park_vcpus();
	mrl_vcpus_stop();
	kvm_vm_free(vm);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_SETUP_H */
