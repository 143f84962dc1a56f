/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef __LINUX_KVM_H
#define __LINUX_KVM_H

/*
 * The part of include/uapi/linux/kvm.h, i.e. of the ABI, that the planner uses.
 * The header of the host may be too old for the last one.
 */
#define KVM_MEM_LOG_DIRTY_PAGES	1UL
#define KVM_MEM_READONLY	2UL
#define KVM_MEM_GUEST_MEMFD	4UL

#endif /* __LINUX_KVM_H */
