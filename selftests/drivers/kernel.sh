# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# What a kernel has to say about its drivers. busybox sh, in dom0.

# Without what other parts of Linux 6.1 say when their own memory runs out on demand: interrupts whose files in /proc were never
# made, and devices on the xenbus whose files in sysfs were not; and about the clock of a processor that was idle when its
# domain was suspended.
not_ours() {
	awk '/-\[ cut here/ { warning = 1; text = "" }
		!warning { print; next }
		{ text = text $0 "\n" }
		/-\[ end trace/ {
			if (text !~ /unregister_irq_proc/ && text !~ /sysfs group .xenbus. not found/ &&
			    text !~ /clockevents_switch_state/)
				printf "%s", text
			warning = 0
		}
		END { if (warning) printf "%s", text }'
}
# What a kernel says when something is wrong with it; on stdin its messages. The debug kernels have more to say.
complaints() {
	not_ours | grep -E 'WARNING|BUG:|Bad page|Call Trace|vgpu.*leak|KASAN|UBSAN|ODEBUG|INFO: (task|possible|suspicious|trying)|possible .*(deadlock|locking)|inconsistent lock|refcount_t|kmemleak: [1-9]'
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
