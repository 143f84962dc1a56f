/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_LIMITS_H
#define _LINUX_LIMITS_H

#include <linux/types.h>

#define U64_MAX		((u64)~0ULL)

#endif /* _LINUX_LIMITS_H */
