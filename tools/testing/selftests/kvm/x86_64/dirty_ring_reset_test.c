// SPDX-License-Identifier: GPL-2.0
/*
 * Test that KVM_RESET_DIRTY_RINGS resets all pages that exist, no matter which
 * entries they share a ring with.
 *
 * Entries are by memslot id and offset.  Nothing removes them from the ring if
 * the memslot goes away, so entries of a memslot that was deleted can be beyond
 * the end of one that was created with the same id.  A page that KVM fails to
 * reset stays writable, i.e. is never reported dirty again.
 */
#include <asm/barrier.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define TEST_SLOT	10
#define TEST_GPA	0x40000000ul
#define TEST_NPAGES	100
#define SHRUNK_NPAGES	50
#define RING_NR_ENTRIES	65536

static void guest_code(void)
{
	uint64_t *first = (uint64_t *)(TEST_GPA + (SHRUNK_NPAGES - 1) * PAGE_SIZE);
	uint64_t *beyond = (uint64_t *)(TEST_GPA + SHRUNK_NPAGES * PAGE_SIZE);

	/* The memslot has TEST_NPAGES pages. */
	WRITE_ONCE(*first, 1);
	WRITE_ONCE(*beyond, 1);
	GUEST_SYNC(1);

	/* The memslot has SHRUNK_NPAGES pages. */
	WRITE_ONCE(*first, 2);
	GUEST_SYNC(2);

	/* The ring has been reset. */
	WRITE_ONCE(*first, 3);
	GUEST_SYNC(3);
}

static void run_to_sync(struct kvm_vcpu *vcpu, uint64_t stage)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT_EQ(uc.args[1], stage);
}

/* Collect all dirty entries, and return how many are for @offset. */
static int collect(struct kvm_dirty_gfn *ring, int *index, uint64_t offset)
{
	int found = 0;

	for (;; (*index)++) {
		struct kvm_dirty_gfn *gfn = &ring[*index % RING_NR_ENTRIES];

		/* Read slot and offset only if KVM has published the entry. */
		if (smp_load_acquire(&gfn->flags) != KVM_DIRTY_GFN_F_DIRTY)
			return found;

		if (gfn->slot == TEST_SLOT && gfn->offset == offset)
			found++;

		/* Hand the entry back only after it has been read. */
		smp_store_release(&gfn->flags, KVM_DIRTY_GFN_F_RESET);
	}
}

static void add_memslot(struct kvm_vm *vm, void *mem, uint64_t npages)
{
	vm_set_user_memory_region(vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES,
				  TEST_GPA, npages * PAGE_SIZE, mem);
}

int main(int argc, char *argv[])
{
	struct kvm_dirty_gfn *ring;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int index = 0, found;
	void *mem;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_DIRTY_LOG_RING) >=
		     RING_NR_ENTRIES * sizeof(struct kvm_dirty_gfn));

	/* The ring must be enabled before vCPUs are created. */
	vm = vm_create(1);
	vm_enable_dirty_ring(vm, RING_NR_ENTRIES * sizeof(struct kvm_dirty_gfn));
	vcpu = vm_vcpu_add(vm, 0, guest_code);
	ring = vcpu_map_dirty_ring(vcpu);

	mem = mmap(NULL, TEST_NPAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed");
	virt_map(vm, TEST_GPA, TEST_GPA, TEST_NPAGES);

	add_memslot(vm, mem, TEST_NPAGES);
	run_to_sync(vcpu, 1);

	add_memslot(vm, mem, 0);
	add_memslot(vm, mem, SHRUNK_NPAGES);
	run_to_sync(vcpu, 2);

	found = collect(ring, &index, SHRUNK_NPAGES - 1);
	TEST_ASSERT(found == 2,
		    "Entries for the writes before and after the shrink: wanted 2, got %d", found);
	kvm_vm_reset_dirty_ring(vm);

	run_to_sync(vcpu, 3);
	found = collect(ring, &index, SHRUNK_NPAGES - 1);
	TEST_ASSERT(found == 1, "Entries for the write after the reset: wanted 1, got %d", found);

	kvm_vm_free(vm);
	munmap(mem, TEST_NPAGES * PAGE_SIZE);
	return 0;
}
