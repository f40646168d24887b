# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# vgpu-init as the first process of a real pod, and vgpu-agentctl in dom0. The pod has an initramfs of vgpu-init, busybox
# and vgpu-front, nothing else: no shell starts it.
# shellcheck disable=SC2016 # expanded in the pod
set -u
# shellcheck source=/dev/null
. /lab/lib.sh
# shellcheck source=selftests/xen/tap.sh
. /lab/script/tap.sh

sock=/run/agent.sock
ctl() { vgpu-agentctl -a $sock "$@"; }

build_initrd() {
	mkdir -p /run/rd/bin /run/rd/dev /run/rd/etc "/run/rd/lib/modules/$(cat /lab/script/release)"
	cp /bin/busybox /run/rd/bin/
	cp /lab/script/vgpu-init /run/rd/init
	cp /lab/script/vgpu-front.ko "/run/rd/lib/modules/$(cat /lab/script/release)/"
	for applet in sh cat echo sleep kill id grep wc head ps ls dd stty true mount hostname nc md5sum; do
		ln -s busybox "/run/rd/bin/$applet"
	done
	printf 'root:x:0:0:root:/:/bin/sh\nsomebody:x:1000:1000::/:/bin/sh\n' >/run/rd/etc/passwd
	(cd /run/rd && find . | cpio -o -H newc) >/run/agent.cpio 2>/dev/null
}

start_pod() {
	cat >/run/agent.cfg <<-CFG
		name = "agent"
		type = "pvh"
		kernel = "$LAB_POD_KERNEL"
		ramdisk = "/run/agent.cpio"
		extra = "console=hvc0 quiet loglevel=4 panic=-1 mitigations=off vgpu.hostname=agent-pod $*"
		memory = 192
		vcpus = 2
		tsc_mode = "native"
		on_poweroff = "destroy"
		on_reboot = "destroy"
		on_crash = "destroy"
		vgpu = [ "$LAB_VGPU" ]
	CFG
	vgpuctl create /run/agent.cfg || return 1
	start_hub
}

start_hub() {
	vgpu-agentctl hub --ready /run/agent.up "vchan:$(xl domid agent)" $sock >>/run/agent-hub.log 2>&1 &
	echo $! >/run/agent-hub.pid
}

section_boot() {
	build_initrd
	check "a pod with vgpu-init as its first process is created" start_pod
	check "its agent answers" wait_for 120 [ -e /run/agent.up ]
	check "and says how it started" ctl info
	said "host connected" "host connected"
	check "nothing went wrong there" sh -c "! vgpu-agentctl -a $sock info | grep ^trouble"
	check "a program runs" ctl run echo hello
	said "and its output comes" hello
	check "vgpu-front is loaded and its device there" wait_for 30 ctl run ls /dev/vgpu
	check "no further module can be loaded" ctl run sh -c '[ "$(cat /proc/sys/kernel/modules_disabled)" = 1 ]'
	check "the pod has its name" ctl run sh -c '[ "$(hostname)" = agent-pod ]'
}

broker_start
section_boot
tail -n 20 /var/log/xen/console/guest-agent.log >&2
cat /run/agent-hub.log >&2
finish
