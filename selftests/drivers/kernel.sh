# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# What a kernel has to say about its drivers. busybox sh, in dom0.

# What a kernel says when something is wrong with it; on stdin its messages. The debug kernels have more to say.
complaints() {
	grep -E 'WARNING|BUG:|Bad page|Call Trace|vgpu.*leak|KASAN|UBSAN|ODEBUG|INFO: (task|possible|suspicious|trying)|possible .*(deadlock|locking)|inconsistent lock|refcount_t|kmemleak: [1-9]'
}
# Memory that nobody points to any more, where the kernel can tell (kmemleak). Twice: what is just being linked in is no leak.
leaks() {
	[ -w /sys/kernel/debug/kmemleak ] || return 1
	for _ in 1 2; do
		echo scan >/sys/kernel/debug/kmemleak
		sleep 6
	done
	echo scan >/sys/kernel/debug/kmemleak
	grep . /sys/kernel/debug/kmemleak
}
