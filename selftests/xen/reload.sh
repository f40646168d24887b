# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Modules and broker that are taken away and come back.

section_reload() {
	check "the broker is restarted" broker_restart
	check "pod 1 is served by the new one" pod_run 1 /lab/bin/vectoradd </dev/null

	check "a client holds a session" background 1 orphan /lab/bin/orphan
	check_fails "vgpu-front cannot be unloaded meanwhile" pod_run 1 rmmod vgpu_front </dev/null
	tell orphan
	wait "$(cat /run/t/orphan.pid)"
	check "vgpu-front is unloaded and loaded again" reload_front 1
	check "and the pod is served" wait_for 30 pod_run 1 /lab/bin/vectoradd

	broker_stop
	check "vgpu-back is unloaded" unload_back
	check_fails "without vgpu-back no pod with a device is made" vgpuctl_create_in_vain
	said "the message says what to do" 'modprobe vgpu-back'
	check "vgpu-back is loaded again" insmod /lab/modules/vgpu-back.ko
	check "the broker starts" broker_start
	check "both pods connect again by themselves" wait_for 60 both_served
	check "and work" pod_run 2 /lab/bin/streams </dev/null
}

# shellcheck disable=SC2016 # expanded in the pod
reload_front() {
	pod_run "$1" sh -c '
		for d in /sys/bus/xen/devices/vgpu-*; do echo "${d##*/}" >/sys/bus/xen/drivers/vgpu/unbind; done
		rmmod vgpu_front && insmod "/lab/modules/$(uname -r)/vgpu-front.ko"' </dev/null
}
# A bound device holds the module, as with every xenbus driver.
unload_back() {
	for device in /sys/bus/xen-backend/drivers/vgpu/vgpu-*; do
		echo "${device##*/}" >/sys/bus/xen-backend/drivers/vgpu/unbind
	done
	wait_for 10 rmmod vgpu_back
}
both_served() { pod_run 1 /lab/bin/vectoradd </dev/null && pod_run 2 /lab/bin/vectoradd </dev/null; }
vgpuctl_create_in_vain() {
	printf 'name = "vain"\ntype = "pvh"\nkernel = "/lab/pod/kernel"\nmemory = 64\nvgpu = [ "gpu=0" ]\n' >/run/t/vain.cfg
	vgpuctl create /run/t/vain.cfg
}
