# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the lab's dom0: CUDA programs through broker, worker and both drivers, and what the kernels say of it. TAP.
# shellcheck source=selftests/xen/tap.sh
. /lab/script/tap.sh
# shellcheck source=selftests/drivers/kernel.sh
. /lab/script/kernel.sh

# shellcheck disable=SC2317 # called by name
pod_complains() { pod_run 1 dmesg </dev/null | complaints; }
# shellcheck disable=SC2317 # called by name
dom0_complains() { dmesg | complaints; }

pod_create 1 || exit 1
while read -r program; do
	check "$program" pod_run 1 "$program" </dev/null
done </lab/script/programs
check_fails "the pod's kernel has no complaint" pod_complains
# Destroyed with a program under way.
pod_run 1 "$(head -n 1 /lab/script/programs)" </dev/null >/dev/null 2>&1 &
sleep 1
check "a pod is destroyed" pod_destroy 1
broker_stop
check "vgpu-back is unloaded" rmmod vgpu_back
check_fails "dom0's kernel has no complaint" dom0_complains
check_fails "dom0's kernel has lost no memory" leaks
finish
