/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_MINMAX_H
#define _LINUX_MINMAX_H

/* Stricter than the kernel's: both sides must have the same type. */
#define __kvm_plan_cmp(x, op, y) ({		\
	__typeof__(x) _x = (x);			\
	__typeof__(y) _y = (y);			\
	(void)(&_x == &_y);			\
	_x op _y ? _x : _y; })

#define min(x, y)	__kvm_plan_cmp(x, <, y)
#define max(x, y)	__kvm_plan_cmp(x, >, y)

#endif /* _LINUX_MINMAX_H */
