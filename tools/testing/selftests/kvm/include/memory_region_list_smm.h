/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_SMM_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_SMM_H

/* An SMI handler that accesses a page of the window through address space 1. */
#include "memory_region_list_guest.h"

#define SMRAM_GPA	0x1000000
#define SMRAM_SIZE	65536
#define SMRAM_SLOT	0x10001
#define SMI_ENTRY	0x8000
#define SMI_PORT	0xe

/*
 * Runs in real mode with 4 GiB segments: read a word of a page, write it to
 * another place in the page, and report it.
 */
static const uint8_t smi_handler[] = {
	0x66, 0x67, 0xa1, 0, 0, 0, 0,	/* mov addr, %eax */
	0x66, 0x67, 0xa3, 0, 0, 0, 0,	/* mov %eax, addr */
	0x66, 0xe7, SMI_PORT,		/* out %eax, $SMI_PORT */
	0x0f, 0xaa,			/* rsm */
};

#define SMI_READ_ADDR	3
#define SMI_WRITE_ADDR	10
#define WRITE_OFFSET	1024

static inline uint8_t *mrl_smm_setup(struct mrl_guest *g)
{
	uint8_t *smram;

	vm_userspace_mem_region_add(g->vm, VM_MEM_SRC_ANONYMOUS, SMRAM_GPA, SMRAM_SLOT,
				    SMRAM_SIZE / MRL_PAGE_SIZE, 0);
	smram = addr_gpa2hva(g->vm, SMRAM_GPA);
	memcpy(smram + SMI_ENTRY, smi_handler, sizeof(smi_handler));
	vcpu_set_msr(g->vcpu, MSR_IA32_SMBASE, SMRAM_GPA);
	return smram + SMI_ENTRY;
}

static inline void mrl_smm_inject(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	events.smi.pending = 1;
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	vcpu_events_set(vcpu, &events);
}

/* What SMM finds at a page.  Counts the exits. */
static inline uint32_t mrl_smm_access(struct mrl_guest *g, uint8_t *handler, uint64_t page,
				      int *exits)
{
	const uint32_t hole = MRL_HOLE, addr = MRL_GPA(page), to = addr + WRITE_OFFSET;
	struct kvm_run *run = g->vcpu->run;

	memcpy(handler + SMI_READ_ADDR, &addr, sizeof(addr));
	memcpy(handler + SMI_WRITE_ADDR, &to, sizeof(to));
	mrl_smm_inject(g->vcpu);

	for (*exits = 0; ; ++*exits) {
		vcpu_run(g->vcpu);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;
		if (!run->mmio.is_write)
			memcpy(run->mmio.data, &hole, sizeof(hole));
	}
	TEST_ASSERT(run->exit_reason == KVM_EXIT_IO && run->io.port == SMI_PORT,
		    "Wanted KVM_EXIT_IO at port %d, got exit %u (%s)", SMI_PORT,
		    run->exit_reason, exit_reason_str(run->exit_reason));
	return *(uint32_t *)((void *)run + run->io.data_offset);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_SMM_H */
