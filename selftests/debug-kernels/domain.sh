# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the lab's dom0: the drivers' tests with vgpu-back in a driver domain that is not dom0, but a PVH domain whose
# kernel checks every access to memory. Pod 1 is that domain, pods 2 and 3 are its pods. TAP.
# shellcheck source=selftests/xen/tap.sh
. /lab/script/tap.sh
# shellcheck source=selftests/drivers/kernel.sh
. /lab/script/kernel.sh

in_domain() { pod_run 1 "$@" </dev/null; }
# shellcheck disable=SC2016 # awk's
gauge() { in_domain awk -v name="$1" '$1 == name { print $2 }' /sys/kernel/debug/vgpu-back/counters; }
# shellcheck disable=SC2317 # called by name
nothing_held() {
	for name in sessions sessions_accepted pages_lent pages_returning grants event_channels; do
		[ "$(gauge $name)" = 0 ] || { echo "$name is $(gauge $name)"; return 1; }
	done
}
# shellcheck disable=SC2317 # called by name
pod_complains() { pod_run "$1" dmesg </dev/null | complaints; }
# shellcheck disable=SC2317 # called by name
at_work() { [ "$(gauge sessions_accepted)" -ge 4 ]; }

pod_create 1 none || exit 1
domain=$(pod_domid 1)
check "vgpu-back is loaded in a driver domain" in_domain insmod /lab/script/vgpu-back.ko
in_domain drivers-server >/run/drivers-server.log 2>&1 &

pod_create 2 none || exit 1
sh /lab/script/attach "$(pod_domid 2)" 0 "$domain"
for program in session_test giveback_test fault_test; do
	check "$program" pod_run 2 $program </dev/null
	grep -h '^#' "$tap_log"
done
check_fails "the pod's kernel has no complaint" pod_complains 2
pod_run 2 busy_sessions </dev/null >/dev/null 2>&1 &
check "sessions are at work" wait_for 60 at_work
check "their pod is destroyed" pod_destroy 2
# The directory is the driver domain's: nobody else removes it.
xenstore-rm "/local/domain/$domain/backend/vgpu"
check "and everything is given back" wait_for 60 nothing_held

pod_create 3 none || exit 1
pod_run 3 rmmod vgpu_front </dev/null
for device in 0 1 2 3 4 5 6 7 8 9; do
	sh /lab/script/attach "$(pod_domid 3)" $device "$domain"
done
check "hostile_test" pod_run 3 hostile_test </dev/null
check "its pod is destroyed" pod_destroy 3
xenstore-rm "/local/domain/$domain/backend/vgpu"
check "and everything is given back" wait_for 60 nothing_held
check_fails "the driver domain's kernel has no complaint" pod_complains 1
finish
