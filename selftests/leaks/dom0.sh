# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the lab's dom0: LEAK_CYCLES pods are made, used and ended in four ways, and everything that can be counted is
# counted before and after. TAP.
#
# The first cycles fill caches (slabs, the broker's pool, xenstored's arenas): the reference is taken after WARM of them.

mkdir -p /run/t
# shellcheck source=selftests/xen/tap.sh
. /lab/script/tap.sh
WARM=4

backend_nodes() { xenstore-ls -f /local/domain/0/backend 2>/dev/null | wc -l; }
# All of xenstore, but for what counts up by design.
store_nodes() { xenstore-ls -f / 2>/dev/null | wc -l; }
gauges() { grep -E '^(devices|sessions|sessions_accepted|pages_lent|pages_returning|grants|event_channels|events_queued) ' /sys/kernel/debug/vgpu-back/counters; }
# Xen's own table of dom0's grants: active entries.
xen_grants() {
	xl dmesg -c >/dev/null
	xl debug-keys g
	xl dmesg | grep -cE '^\(XEN\) *\[ *[0-9]+\]'
}
# The broker and the workers it has at hand.
broker_kib() {
	cat /proc/[0-9]*/status 2>/dev/null | awk -v broker="$(cat /run/lab/broker.pid)" \
		'/^Pid:/ { pid = $2 } /^PPid:/ { parent = $2 } /^VmRSS:/ && (pid == broker || parent == broker) { n += $2 } END { print n + 0 }'
}
# What dom0's kernel and its daemons hold, caches dropped.
dom0_kib() {
	echo 3 >/proc/sys/vm/drop_caches
	awk '/^MemFree/ { print $2 }' /proc/meminfo
}
open_files() { for pid in $(cat /run/lab/broker.pid) $(pidof xenstored xenconsoled); do find "/proc/$pid/fd" -type l 2>/dev/null; done | wc -l; }

# Exactly these come back.
exact() {
	gauges
	echo "backend_nodes $(backend_nodes)"
	echo "store_nodes $(store_nodes)"
	echo "loop_devices $(losetup -a | wc -l)"
	echo "dom0_event_channels $(lsevtchn 0 | wc -l)"
	echo "xen_grants $(xen_grants)"
	echo "domains $(xl list | tail -n +2 | wc -l)"
	echo "open_files $(open_files)"
	echo "xen_free_mib $(xl info free_memory)"
}

finished() { exact >/run/t/now; cmp -s /run/t/reference /run/t/now; }

# A second processor makes an emulated pod's boot twice as long and more: four of fifty have one, in each of the four ways.
# shellcheck disable=SC2034 # the lab's
cycle() {
	LAB_POD_CPUS=1
	[ $(($1 % 50)) -ge 4 ] || LAB_POD_CPUS=2
	pod_create 1 || return 1
	case $(($1 % 4)) in
	0) pod_destroy 1 ;;
	1) timeout 600 podexec run pod1 /lab/bin/vectoradd </dev/null >/run/t/said 2>&1 && pod_shutdown 1 ;;
	2)
		# destroyed in the middle of a session
		pod_run 1 /lab/bin/orphan </dev/null >/run/t/orphan 2>&1 &
		wait_for 20 grep -q . /run/t/orphan
		pod_destroy 1
		wait $!
		true
		;;
	3) pod_shutdown 1 ;;
	esac || return 1
	pod_gone 1 20
}

failed_cycles=0
n=0
while [ $n -lt $((WARM + LEAK_CYCLES)) ]; do
	if [ $n = $WARM ]; then
		sleep 2
		exact >/run/t/reference
		reference_dom0=$(dom0_kib)
		reference_broker=$(broker_kib)
		sed 's/^/# before: /' /run/t/reference
	fi
	if ! cycle $n; then
		failed_cycles=$((failed_cycles + 1))
		echo "# cycle $n failed: $(tail -n 3 /run/t/said 2>/dev/null)"
		pod_destroy 1
		pod_gone 1 60
	fi
	n=$((n + 1))
	[ $((n % 20)) -ne 0 ] || echo "# $n pods so far, $(cut -d. -f1 /proc/uptime) s; dom0 has $(awk '/^MemFree/ { print $2 }' /proc/meminfo) KiB free, the broker uses $(broker_kib) KiB"
done
check "$LEAK_CYCLES pods came and went: destroyed idle, shut down after a program, destroyed in a session, shut down idle" \
	[ $failed_cycles = 0 ]
wait_for 30 finished
exact >/run/t/now
sed 's/^/# after: /' /run/t/now
for line in $(tr ' ' '=' </run/t/reference); do
	name=${line%%=*}
	check "$name is what it was: ${line#*=}" grep -qx "$name ${line#*=}" /run/t/now
done
lost=$((reference_dom0 - $(dom0_kib)))
# Console logs grow in dom0's memory (they are files there); per-CPU lists and slabs breathe.
logs=$(du -k /var/log | tail -n 1 | cut -f1)
echo "# dom0 has $lost KiB less free memory, $logs KiB of logs in it"
check "dom0's memory: less than 32 KiB per pod is gone" [ $((lost - logs)) -lt $((32 * LEAK_CYCLES + 2048)) ]
grown=$(($(broker_kib) - reference_broker))
echo "# the broker and its workers use $grown KiB more"
check "the broker's memory: less than 8 KiB per pod" [ $grown -lt $((8 * LEAK_CYCLES + 1024)) ]
finish
