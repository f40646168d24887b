# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Devices that come and go, configurations that are refused.

section_hotplug() {
	held >/run/t/before
	check "a second device for the running pod 1" vgpuctl attach pod1 gpu=0,memory=64
	check "the pod sees it" wait_for 10 pod_run 1 test -e /dev/vgpu1
	check "a program uses it" pod_run 1 env VGPU_TRANSPORT=xen:/dev/vgpu1 /lab/bin/attributes </dev/null
	check "its quota is its own" quota_is 64
	check "it is detached" vgpuctl detach pod1 1
	check "and the pod has lost it" wait_for 10 pod_run 1 test ! -e /dev/vgpu1
	check "everything is as before" back_to /run/t/before

	check "another second device" vgpuctl attach pod1 gpu=0,memory=64
	wait_for 10 pod_run 1 test -e /dev/vgpu1
	check "a program holds it" background 1 holder env VGPU_TRANSPORT=xen:/dev/vgpu1 /lab/bin/orphan
	check "it is detached all the same" vgpuctl detach --force pod1 1
	tell holder
	check "the program's next calls fail, and it does not hang" ended_well holder
	check "everything is as before" back_to /run/t/before
	check "another second device" vgpuctl attach pod1 gpu=0,memory=64
	wait_for 10 pod_run 1 test -e /dev/vgpu1
	check "the pod's driver lets go of it" pod_run 1 sh -c 'echo vgpu-1 >/sys/bus/xen/drivers/vgpu/unbind' </dev/null
	check "and it is detached without force" vgpuctl detach pod1 1
	check "everything is as before" back_to /run/t/before
	check_fails "a device that is not there cannot be detached" vgpuctl detach pod1 7
	check_fails "nor attached to a domain that is not there" vgpuctl attach nobody

	refused_create memory=lots "memory=lots"
	refused_create colour=red "colour"
	refused_create gpu=0,gpu=1 "twice"
	# This one is found out only when the domain is there: it must be gone again.
	refused_create backend=nosuch "nosuch"
	check "a pod whose device is fine, after all those" pod_create 3 gpu=0,memory=32
	check "is served" pod_run 3 /lab/bin/vectoradd </dev/null
	pod_destroy 3
	check "everything is as before" back_to /run/t/before
}
quota_is() { pod_run 1 env VGPU_TRANSPORT=xen:/dev/vgpu1 /lab/bin/attributes </dev/null | grep -q "multiprocessors, $1 MiB"; }

# refused_create ENTRY WORD: nothing is made, and the message has the word in it.
refused_create() {
	printf 'name = "refused"\ntype = "pvh"\nkernel = "/lab/pod/kernel"\nmemory = 64\nvgpu = [ "%s" ]\n' "$1" >/run/t/refused.cfg
	check_fails "a configuration with $1 is refused" vgpuctl create /run/t/refused.cfg
	said "the message names it" "$2"
	check_fails "and no domain was made" xl domid refused
}

section_pv() {
	check "a PV guest without a device starts" pv_pod
	check_fails "a device for it is refused" vgpuctl attach pod4
	said "with words that say why" PVH
	check "vgpu-front has said so in the guest's log" in_log 4
	printf 'name = "pv"\nkernel = "/lab/pod/kernel"\nmemory = 64\nvgpu = [ "gpu=0" ]\n' >/run/t/pv.cfg
	check_fails "vgpuctl create refuses a PV configuration before anything is made" vgpuctl create /run/t/pv.cfg
	pod_destroy 4
}
# The pods' own kernel is for PVH alone: Debian's, which can both.
pv_pod() {
	lab_debian_pod 4 >/run/t/debian
	set --
	while read -r pv_line; do set -- "$@" "$pv_line"; done </run/t/debian
	pod_create 4 none 'type="pv"' "$@"
}
in_log() { pod_run "$1" dmesg </dev/null | grep -i vgpu | grep -qi pvh; }
