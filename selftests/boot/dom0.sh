# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the lab's dom0 for scripts/test-minimal-boot: one pod as the product has it (one disk, its own command line, nothing of
# the lab's), started once, and what it said.
# shellcheck disable=SC2016 # expanded in the pod

pod_config 1 "$LAB_VGPU" "extra = \"$(cat /lab/pod/cmdline)\"" \
	"disk = [ 'format=raw,access=ro,backendtype=phy,script=vgpu-block,vdev=xvda,target=$LAB_POD_IMAGE' ]" >/run/lab/pod1.cfg || exit 1
vgpuctl create -p /run/lab/pod1.cfg >&2 || exit 1
boot-measure "$(pod_domid 1)" || { pod_console 1 >&2; exit 1; }
pod_hub 1
tries=0
until [ -e /run/lab/pod1.up ]; do
	tries=$((tries + 1))
	[ $tries -lt 300 ] || exit 1
	sleep 0.1
done
pod_run 1 cat /proc/meminfo </dev/null | sed 's/^/meminfo /'
pod_run 1 dmesg </dev/null | sed 's/^/dmesg /'
pod_run 1 sh -c 'echo "modules_disabled $(cat /proc/sys/kernel/modules_disabled)"' </dev/null
pod_run 1 sh -c 'for f in /dev/vgpu /dev/mem /dev/xen/privcmd /proc/kcore /sys/kernel/debug/vgpu-front; do [ ! -e $f ] || echo "there $f"; done' </dev/null
# Where vmalloc space begins differs from boot to boot if regions are randomised; without, it is always the same.
pod_run 1 sh -c 'echo 1 >/proc/sys/kernel/kptr_restrict; head -n 1 /proc/vmallocinfo' </dev/null | sed 's/^/vmalloc /'
# Arenas are mapped into address space that needs no memory of the pod's own.
pod_run 1 grep MemTotal /proc/meminfo </dev/null | sed 's/^/before /'
pod_run 1 sh -c 'cat >/tmp/program && chmod 755 /tmp/program' </lab/script/program
pod_run 1 sh -c '/tmp/program; echo "status $?"' </dev/null | sed 's/^/program /'
pod_run 1 grep MemTotal /proc/meminfo </dev/null | sed 's/^/after /'
pod_run 1 sh -c 'cat >/tmp/nvml && chmod 755 /tmp/nvml' </lab/script/nvml
pod_run 1 /tmp/nvml </dev/null 2>&1 | sed 's/^/nvml /'
pod_shutdown 1 && echo "shutdown well"
