# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Helpers for scripts that run in the lab's dom0 (xenlab script; see xenlab --help). busybox sh.
#
#	pod_create N [VGPU] [CFG-LINE…]	create podN and wait until it takes commands. VGPU is the device's
#					configuration ("gpu=0,memory=512,weight=1", the default is $LAB_VGPU), or
#					"none". Further arguments are lines for its xl.cfg, last one wins.
#	pod_start N [VGPU] [CFG-LINE…]	the same without waiting;  pod_ready N  waits
#	pod_config N [VGPU] [CFG-LINE…]	only print the configuration;  pod_hub N  reaches a domain made from it otherwise
#	pod_run N PROGRAM [ARGS…]	run in podN; streams and exit status come through. Side by side with `&`.
#	pod_copy N FILE			dom0's FILE to the same path in podN
#	pod_destroy N			xl destroy;  pod_shutdown N  lets its init end it
#	pod_gone N [SECONDS]		wait until podN's domain is gone
#	pod_hub N			connect to podN's agent (pod_start did; again when it has rebooted)
#	driver_domain N			podN has the GPU, and serves pods with backend=podN
#	pod_domid N, pod_console N	its domain id, its console so far;  pod_another N DOMID	it is another domain than DOMID
#	broker_start [ARGS…]		vgpu-broker --xen with the software GPU;  broker_stop, broker_restart [ARGS…]
#	broker_log			what it has said so far
#	stats_back, stats_front N	the counters of the modules (debugfs)
#
# Names and paths: /lab/bin (programs given by --bin), /lab/script (the script's folder), both in dom0 and pods.

LAB_VGPU=${LAB_VGPU:-gpu=0,memory=512,weight=1}
LAB_POD_MEMORY=${LAB_POD_MEMORY:-384}
LAB_POD_CPUS=${LAB_POD_CPUS:-1}
LAB_POD_KERNEL=${LAB_POD_KERNEL:-/lab/pod/kernel}
LAB_POD_IMAGE=${LAB_POD_IMAGE:-/lab/pod/root.squashfs}
LAB_POD_TYPE=${LAB_POD_TYPE:-pvh}
LAB_POD_WORDS=${LAB_POD_WORDS:-}	# for its kernel's command line, where the machine is emulated
LAB_BOOT_SECONDS=${LAB_BOOT_SECONDS:-120}
LAB_CREATE=${LAB_CREATE:-vgpuctl create}	# makes a domain of the file that is added to it

lab_say() { echo "lab: $*" >&2; }

pod_domid() { xl domid "pod$1" 2>/dev/null; }
# Asked once: between two questions the old domain may go.
pod_another() { case $(pod_domid "$1") in "" | "$2") false ;; esac }
pod_console() { cat "/var/log/xen/console/guest-pod$1.log" 2>/dev/null; }

lab_triple_faults() { xl dmesg | grep -ci 'triple fault'; }

# How QEMU's emulation breaks a guest: a triple fault that Xen reports, or page faults in the kernel's entry code until
# the entry stack is used up (Documentation/lab.rst). No driver's mistake looks like that.
lab_emulator_fault() {
	[ "$(lab_triple_faults)" -gt "$2" ] && return 0
	pod_console "$1" | grep -q 'ENTRY_TRAMPOLINE stack guard page was hit'
}

# What a pod boots from: the product's image and on top of it what belongs to this run, or an initramfs with everything.
lab_pod_root() {
	lab_words="loglevel=4 mitigations=off debugfs=on vgpu.modules=open vgpu.hostname=pod$1 $LAB_POD_WORDS"
	if [ -e /lab/pod/initrd ]; then
		echo 'ramdisk = "/lab/pod/initrd"'
		echo "extra = \"console=hvc0 quiet panic=-1 $lab_words\""
		return
	fi
	lab_disk='format=raw,access=ro,backendtype=phy,script=vgpu-block'
	echo "disk = [ '$lab_disk,vdev=xvda,target=$LAB_POD_IMAGE', '$lab_disk,vdev=xvdb,target=/lab/pod/content.squashfs' ]"
	echo "extra = '$(cat /lab/pod/cmdline) $lab_words'"
}

# Lines for pod_create: Debian's kernel and a small initramfs (xenlab script --pv), for what the pods' kernel cannot do.
lab_debian_pod() {
	printf '%s\n' 'kernel = "/lab/debian/kernel"' 'ramdisk = "/lab/debian/initrd"' 'disk = []' \
		"extra = \"console=hvc0 quiet loglevel=4 panic=-1 mitigations=off vgpu.modules=open vgpu.hostname=pod$1 $LAB_POD_WORDS\""
}

# driver_domain N: podN is a domain with the GPU (xenlab script --driver-domain), its driver and its broker. Pods whose
# device says backend=podN are served by it.
driver_domain() {
	lab_debian_pod "$1" >/run/lab/driver.lines
	lab_driver=$1
	set --
	while read -r lab_line; do set -- "$@" "$lab_line"; done </run/lab/driver.lines
	pod_create "$lab_driver" none "$@" 'ramdisk = "/lab/driver/initrd"' 'memory = 640' 'max_grant_frames = 128' &&
		pod_run "$lab_driver" sh -c 'mount -t debugfs debugfs /sys/kernel/debug; insmod /lab/modules/vgpu-back.ko' </dev/null || return 1
	pod_run "$lab_driver" sh -c '. /lab/lib.sh; mkdir -p /var/log /run/lab; broker_start; tail -n +1 -f /var/log/vgpu-broker.log' \
		</dev/null >"/var/log/pod$lab_driver-broker.log" 2>&1 &
	lab_wait=0
	until pod_run "$lab_driver" test -S /run/vgpu/control </dev/null; do
		lab_wait=$((lab_wait + 1))
		[ $lab_wait -lt 60 ] || { lab_say "no broker in pod$lab_driver: $(cat "/var/log/pod$lab_driver-broker.log")"; return 1; }
		sleep 1
	done
}

# pod_config N [VGPU] [CFG-LINE…]: the pod's configuration
pod_config() {
	lab_n=$1
	lab_vgpu=${2:-$LAB_VGPU}
	if [ $# -lt 2 ]; then shift; else shift 2; fi
	cat <<-CFG
		name = "pod$lab_n"
		type = "$LAB_POD_TYPE"
		kernel = "$LAB_POD_KERNEL"
		memory = $LAB_POD_MEMORY
		vcpus = $LAB_POD_CPUS
		tsc_mode = "native"
		on_poweroff = "destroy"
		on_reboot = "destroy"
		on_crash = "destroy"
	CFG
	lab_pod_root "$lab_n"
	[ "$lab_vgpu" = none ] || echo "vgpu = [ \"$lab_vgpu\" ]"
	for lab_line in "$@"; do echo "$lab_line"; done
}

# For the domain that podN is now: it is another one after a reboot.
pod_hub() {
	rm -f "/run/lab/pod$1.up" "/run/lab/pod$1.root"
	podexec hub "pod$1" "$(pod_domid "$1")" >>/var/log/lab-hub.log 2>&1 &
}

pod_start() {
	lab_cfg=/run/lab/pod$1.cfg
	pod_config "$@" >"$lab_cfg"
	rm -f "/var/log/xen/console/guest-pod$1.log"
	if ! $LAB_CREATE "$lab_cfg" >"/run/lab/pod$1.create" 2>&1; then
		lab_say "pod$1 could not be created: $(cat "/run/lab/pod$1.create")"
		return 1
	fi
	pod_hub "$1"
}

# What a pod's init had to complain about. Also waits for the device, which needs dom0's half of the handshake.
lab_pod_trouble() {
	vgpu-agentctl -w 120000 -a "/run/lab/pod$1.sock" info >"/run/lab/pod$1.info" 2>&1 || { cat "/run/lab/pod$1.info"; return 1; }
	if sed -n 's/^trouble//p' "/run/lab/pod$1.info" | grep .; then
		pod_console "$1" | grep vgpu_front
		return 1
	fi
	[ -e /lab/pod/initrd ] || grep -q initrd "/run/lab/pod$1.cfg" || podexec root "pod$1" || return 1
	# shellcheck disable=SC2016 # expanded in the pod
	pod_run "$1" sh -c '
		[ -n "$(ls /sys/bus/xen/devices 2>/dev/null | grep ^vgpu-)" ] || exit 0
		tries=0
		until [ -e /dev/vgpu ]; do
			tries=$((tries + 1))
			[ $tries -lt 2400 ] || { echo "/dev/vgpu did not appear within 120 s: $(dmesg | grep -i vgpu | tail -n 3)"; exit 1; }
			sleep 0.05
		done' </dev/null
}

# Ready means: its agent answers and its device, if it has one, is connected.
pod_ready() {
	lab_wait=0
	while [ ! -e "/run/lab/pod$1.up" ]; do
		lab_wait=$((lab_wait + 1))
		# Seldom: xl takes an emulated machine's time from the pod that boots.
		if [ $((lab_wait % 20)) = 0 ] && ! pod_domid "$1" >/dev/null; then
			lab_say "pod$1 died while booting"
			return 1
		fi
		if [ $lab_wait -ge $((LAB_BOOT_SECONDS * 10)) ]; then
			lab_say "pod$1 did not come up within $LAB_BOOT_SECONDS s; its hub says: $(tail -n 2 /var/log/lab-hub.log)"
			return 2
		fi
		sleep 0.1
	done
	lab_problem=$(lab_pod_trouble "$1" 2>&1) && return 0
	lab_say "pod$1: $lab_problem"
	return 3
}

# The emulator sometimes triple-faults a booting guest by itself (Documentation/lab.rst): that start is repeated.
pod_create() {
	lab_attempt=0
	while :; do
		lab_faults=$(lab_triple_faults)
		pod_start "$@" || return 1
		lab_status=0
		pod_ready "$1" || lab_status=$?
		[ $lab_status -gt 0 ] || return 0
		lab_attempt=$((lab_attempt + 1))
		# An emulated pod that does not come up may stand still in its kernel, before vgpu-init's pulse.
		if [ $lab_attempt -gt 2 ] || ! { [ $lab_status = 2 ] && [ -n "$LAB_POD_WORDS" ] || lab_emulator_fault "$1" "$lab_faults"; }; then
			lab_say "the end of pod$1's console:"
			pod_console "$1" | tail -n 25 >&2
			return 1
		fi
		lab_say "the emulator broke pod$1 while it booted: starting it again ($lab_attempt of 2)"
		pod_destroy "$1" 2>/dev/null
	done
}

pod_run() {
	lab_to=pod$1
	shift
	podexec run "$lab_to" "$@"
}

# shellcheck disable=SC2016,SC2094 # expanded in the pod, where the other file is
pod_copy() { pod_run "$1" sh -c 'mkdir -p "${1%/*}" && cat >"$1" && chmod 755 "$1"' sh "$2" <"$2"; }

pod_gone() {
	lab_left=$((${2:-30} * 5))
	while pod_domid "$1" >/dev/null; do
		lab_left=$((lab_left - 1))
		[ $lab_left -gt 0 ] || return 1
		sleep 0.2
	done
}

pod_destroy() { xl destroy "pod$1"; }
pod_shutdown() { vgpu-agentctl -w 120000 -a "/run/lab/pod$1.sock" shutdown 2000 >/dev/null 2>&1; pod_gone "$1"; }

broker_start() {
	LD_LIBRARY_PATH=/lab/lib vgpu-broker --xen --driver /lab/softgpu/libsoftgpu.so --worker /lab/bin/vgpu-worker \
		--user vgpu --foreground "$@" </dev/null >>/var/log/vgpu-broker.log 2>&1 &
	echo $! >/run/lab/broker.pid
	lab_wait=0
	until [ -S /run/vgpu/control ]; do
		lab_wait=$((lab_wait + 1))
		if [ $lab_wait -ge 1200 ] || ! kill -0 "$(cat /run/lab/broker.pid)" 2>/dev/null; then
			lab_say "vgpu-broker did not start: $(tail -n 5 /var/log/vgpu-broker.log)"
			return 1
		fi
		sleep 0.05
	done
}

broker_stop() {
	lab_pid=$(cat /run/lab/broker.pid)
	kill "$lab_pid"
	lab_wait=0
	while kill -0 "$lab_pid" 2>/dev/null; do
		lab_wait=$((lab_wait + 1))
		[ $lab_wait -lt 1200 ] || { lab_say "vgpu-broker does not end"; return 1; }
		sleep 0.05
	done
	rm -f /run/vgpu/control
}
broker_restart() { broker_stop && broker_start "$@"; }
broker_log() { cat /var/log/vgpu-broker.log; }

stats_back() { for lab_f in /sys/kernel/debug/vgpu-back/*; do echo "${lab_f##*/}: $(cat "$lab_f")"; done; }
# shellcheck disable=SC2016 # expanded in the pod
stats_front() { pod_run "$1" sh -c 'for f in /sys/kernel/debug/vgpu-front/*; do echo "${f##*/}: $(cat "$f")"; done'; }
