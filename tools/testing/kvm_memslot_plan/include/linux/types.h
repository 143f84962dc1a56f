/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_TYPES_H
#define _LINUX_TYPES_H

#include <stdbool.h>
#include <stddef.h>

/* As in the kernel, on all architectures. */
typedef unsigned int u32;
typedef unsigned long long u64;

#define PAGE_SHIFT	12

#endif /* _LINUX_TYPES_H */
