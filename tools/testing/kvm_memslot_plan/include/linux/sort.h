/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_SORT_H
#define _LINUX_SORT_H

#include <stdlib.h>

/* Unlike qsort(), sort() is fine with NULL if there is nothing to sort. */
static inline void sort(void *base, size_t num, size_t size,
			int (*cmp)(const void *, const void *),
			void (*swap)(void *, void *, int))
{
	(void)swap;
	if (num > 1)
		qsort(base, num, size, cmp);
}

#endif /* _LINUX_SORT_H */
