/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The node `versions` of uapi/xen/io/vgpuif.h: numbers joined by ','. Free of kernel and Xen calls, so that it also
 * compiles in userspace.
 */
#ifndef VGPU_VERSIONS_H
#define VGPU_VERSIONS_H

#include <linux/types.h>

/*
 * Is @version one of the numbers in @list? A part that is anything but a decimal number that fits is none: neither is
 * the 1 of "10", of "1x" or of " 1" one.
 */
static inline bool vgpu_version_listed(const char *list, __u32 version)
{
	for (;;) {
		const char *start = list;
		__u64 number = 0;

		while (*list >= '0' && *list <= '9' && number <= 0xffffffffu)
			number = number * 10 + (*list++ - '0');
		if (list != start && number == version && (*list == ',' || !*list))
			return true;
		while (*list && *list != ',')
			list++;
		if (!*list++)
			return false;
	}
}

#endif /* VGPU_VERSIONS_H */
