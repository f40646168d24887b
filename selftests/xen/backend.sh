# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# The GPU in a domain of its own (pod 8 here) instead of dom0: it serves a pod, and ends under it.

driver=8
in_driver() { pod_run $driver "$@" </dev/null; }
driver_gauges() { gauges_of in_driver; }
has_no_device() { pod_run "$1" test ! -e /dev/vgpu </dev/null; }
no_frontend() { ! xenstore-ls "/local/domain/$(pod_domid "$1")/device/vgpu"; }
serves_pod3() {
	in_driver vgpuctl list --json >/run/t/list
	cat /run/t/list
	tr -d ' \n' </run/t/list | grep -q "\"zone\":$(pod_domid 3),"
}
dom0_knows_nothing() { ! xenstore-ls "/local/domain/0/backend/vgpu/$(pod_domid 3)"; }

section_backend() {
	held >/run/t/before
	check "a domain with the GPU and its broker" driver_domain $driver
	driver_gauges >/run/t/driver_before
	check "a pod that it serves" pod_create 3 "gpu=0,memory=64,backend=pod$driver"
	check "dom0 has no part in that" dom0_knows_nothing
	check "the pod's programs work" pod_run 3 /lab/bin/vectoradd </dev/null
	check "so do those of a pod that dom0 serves" pod_run 1 /lab/bin/vectoradd </dev/null
	check "the broker beside the GPU tells of the pod" serves_pod3
	check "dom0 lists the device" listed_from_dom0
	check "ten sessions, one after the other" pod_run 3 /lab/bin/churn 10 </dev/null
	check "the device is detached" vgpuctl detach pod3 0
	check "and the pod has lost it" wait_for 10 has_no_device 3
	check "nothing is left in the driver domain" back_to /run/t/driver_before driver_gauges
	check "it is attached again" vgpuctl attach pod3 "gpu=0,memory=64,backend=pod$driver"
	check "a program holds it" background 3 holder /lab/bin/orphan

	check "the driver domain is destroyed" pod_destroy $driver
	tell holder
	check "the program's next calls fail, and it does not hang" ended_well holder
	check "the pod loses the device" wait_for 20 has_no_device 3
	check "with its half of the nodes" wait_for 10 no_frontend 3
	check "the driver domain is wholly gone" wait_for 10 none_dying

	check "the next domain with the GPU" driver_domain $driver
	check "the pod gets its device again" vgpuctl attach pod3 "gpu=0,memory=64,backend=pod$driver"
	check "by its old name" wait_for 20 pod_run 3 test -e /dev/vgpu </dev/null
	check "and its programs work" pod_run 3 /lab/bin/vectoradd </dev/null
	check "the driver domain is destroyed with nobody to clear up" destroyed_alone
	check "the device can be detached all the same" vgpuctl detach pod3 0
	check "and is gone" wait_for 20 has_no_device 3
	check_fails "for good" vgpuctl detach pod3 0
	pod_destroy 3
	check "everything is as before" back_to /run/t/before
}
listed_from_dom0() { vgpuctl list | tee /dev/stderr | grep "^ *$(pod_domid 3) *pod3 .* -/64 MiB *-/64 *-  connected"; }
# Its pages are given back by whoever had them mapped.
none_dying() { ! xl list | tee /dev/stderr | grep -q null; }
destroyed_alone() {
	kill "$(pidof vgpuctl)"
	wait_for 10 daemon_has_gone && pod_destroy $driver
}
daemon_has_gone() { ! pidof vgpuctl; }
