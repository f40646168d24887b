# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the lab's dom0, driven by selftests/native-xl/run. /lab/script/native is what scripts/xen/build made;
# no pod is up at first.

mkdir -p /run/t
for part in tap counters isolation place; do
	# shellcheck disable=SC1090
	. "/lab/script/$part.sh"
done
stock=$(command -v xl)
PATH=/lab/script/native/bin:$PATH
export LAB_CREATE="xl create"

# Everything that a pod's device could leave behind in dom0.
holdings() {
	gauges_back
	echo "broker $(broker_use)"
	echo "backend $(xenstore-ls -f /local/domain/0/backend 2>/dev/null | grep -c /vgpu)"
	echo "libxl $(xenstore-ls -f /libxl 2>/dev/null | grep -c /vgpu)"
}
as_before() {
	before_tries=75
	while holdings >/run/t/now; ! cmp -s /run/t/before /run/t/now; do
		before_tries=$((before_tries - 1))
		[ $before_tries -gt 0 ] || { diff /run/t/before /run/t/now; return 1; }
		sleep 0.2
	done
}
no_domain() { ! "$stock" domid "$1"; }

# What a pod's device is in xenstore, without what is different for every domain.
nodes() {
	for side in "/local/domain/$1/device/vgpu/0" "/local/domain/0/backend/vgpu/$1/0"; do
		xenstore-ls -p "$side" | sed "s/\\<n$1\\>/nPOD/g; s/\\<r$1\\>/rPOD/g; s,/domain/$1/,/domain/POD/,; s,/vgpu/$1/,/vgpu/POD/,
			s/^\\(frontend-id\\|ring-ref\\|event-channel\\) = \"[0-9]*\"/\\1 = \"N\"/" | sort
	done
}
same_nodes() {
	nodes "$(pod_domid 1)" >/run/t/nodes1
	nodes "$(pod_domid 2)" >/run/t/nodes2
	[ -s /run/t/nodes1 ] && diff /run/t/nodes1 /run/t/nodes2
}

# quota_of POD NODE MiB
quota_of() { pod_run "$1" env VGPU_TRANSPORT="xen:/dev/$2" /lab/bin/attributes </dev/null | grep "multiprocessors, $3 MiB"; }
# row POD DEVID MEMORY WEIGHT SESSIONS: as vgpu-list shows a connected device
row() {
	xl vgpu-list "pod$1" | awk -v id="$2" -v memory="$3" -v weight="$4" -v sessions="$5" \
		'$1 == id && $2 == 0 && $3 == 4 && $6 == memory && $7 == weight && $8 == sessions { found = 1 } { print } END { exit !found }'
}

# The same configuration for two tools; what they say must be the same.
config_with() {
	printf 'name = "refused"\ntype = "pvh"\nkernel = "/lab/pod/kernel"\nmemory = 64\n%s\n' "$1" >/run/t/refused.cfg
}
refused_alike() {
	config_with "$1"
	check_fails "xl refuses $1" xl create /run/t/refused.cfg
	# shellcheck disable=SC2154 # from tap.sh
	words_of xl <"$tap_log" >/run/t/xl.said
	vgpuctl create /run/t/refused.cfg 2>&1 | words_of vgpuctl >/run/t/vgpuctl.said
	check "in vgpuctl's words" same_words
}
words_of() { sed -n "s/^$1: //p" | sed 's,^[^ ]*/refused.cfg: ,,'; }
same_words() { [ -s /run/t/xl.said ] && diff /run/t/vgpuctl.said /run/t/xl.said; }
refused_by_libxl() {
	check_fails "xl refuses $1" xl create /run/t/refused.cfg
	said "and says why" "$2"
}

# The number that a domain gets now: Xen counts every domain that was made, also one that was destroyed at once.
next_domid() {
	printf 'name = "counted"\ntype = "pvh"\nkernel = "/lab/pod/kernel"\nmemory = 64\n' >/run/t/counted.cfg
	"$stock" create -p /run/t/counted.cfg >/dev/null 2>&1 || return 1
	"$stock" domid counted
	"$stock" destroy counted
}
nothing_made_since() {
	now=$(next_domid)
	echo "then $1, now $now"
	[ -n "$1" ] && [ "$now" = $(($1 + 1)) ]
}

# xl is stopped when the nodes appear, and goes on when the device is in use: it never sees the backend wait.
overtaken_attach() {
	xenstore-watch -n 2 /local/domain/0/backend/vgpu >/dev/null & # the first event only says that it watches
	watcher=$!
	sleep 1
	xl vgpu-attach pod1 &
	attaching=$!
	wait $watcher
	kill -STOP $attaching
	wait_for 10 row 1 1 0 1 64
	kill -CONT $attaching
	wait $attaching
}

rebooted() { pod_another 1 "$1" && [ -n "$(xl vgpu-list pod1 | awk '$1 == 0')" ]; }
reboot_pod() {
	old=$(pod_domid 1)
	rm -f /run/lab/pod1.up
	pod_run 1 reboot -f </dev/null >/dev/null 2>&1
	wait_for 60 rebooted "$old" || { xl list; cat /var/log/xen/xl-pod1.log; return 1; }
	pod_hub 1
	pod_ready 1
}

echo "# entries"
first=$(next_domid)
for entry in 'memory=lots' 'memory=4G' 'memory=-1' 'memory=16777217' 'memory=' 'weight=0' 'weight=10001' 'sessions=0' \
	'sessions=1025' 'gpu=' 'gpu=0+' 'gpu=0;rm' 'backend=' 'backend=a/b' 'colour=red' 'gpu=0,' 'gpu' 'gpu=0,gpu=1' 'weight==1'; do
	refused_alike "vgpu = [ \"$entry\" ]"
done
refused_alike 'vgpu = "gpu=0"'
refused_alike 'vgpu = [ ["gpu=0"] ]'
config_with 'vgpu = [ "backend=nosuch" ]'
refused_by_libxl "a driver domain that is not there" "backend=nosuch"
config_with "$(printf 'vgpu = [ "gpu=0" ]\ntype = "pv"')"
refused_by_libxl "a device for a PV domain" 'type="pvh"'
config_with 'vgpu = [ "", "gpu=0+1,memory=7" ]'
check "not even for a moment has any of these made a domain" nothing_made_since "$first"
check "two good entries are understood" sh -c 'xl -N create /run/t/refused.cfg | grep -A12 "\"vgpus\""'

echo "# create"
holdings >/run/t/before
check "xl create makes a pod with a device" pod_create 1 gpu=0,memory=64,weight=3,sessions=5 'on_reboot = "restart"'
check "a CUDA program in it has the right result" pod_run 1 /lab/bin/vectoradd </dev/null
check "the quota holds" quota_of 1 vgpu 64
check "vgpu-list shows it" row 1 0 64 3 5
LAB_CREATE="vgpuctl create"
check "a pod is made by vgpuctl" pod_create 2 gpu=0,memory=64,weight=3,sessions=5
export LAB_CREATE="xl create"
check "both have the same nodes and permissions in xenstore" same_nodes
check "and each its kernel where chance put it" moved "$(text_at 1)" "$(text_at 2)"
pod_destroy 2
check "xl list -l tells the configuration" sh -c 'xl list -l pod1 | grep "\"memory_mib\": 64"'

check "vgpuctl changes its weight" vgpuctl set pod1 weight=9
check "vgpu-list shows it" row 1 0 64 9 5

echo "# hotplug"
holdings >/run/t/before1
mv /run/t/before /run/t/before0
cp /run/t/before1 /run/t/before
check "a second device is attached" xl vgpu-attach pod1 gpu=0 memory=32
check "the pod has it" wait_for 10 pod_run 1 test -e /dev/vgpu1
check "a program uses it, within its quota" quota_of 1 vgpu1 32
check "vgpu-list shows both" row 1 1 32 1 64
check "it is detached" xl vgpu-detach pod1 1
check "and the pod has lost it" wait_for 10 pod_run 1 test ! -e /dev/vgpu1
check "everything is as before" as_before
check "another is attached, and connects before xl has looked" overtaken_attach
check "the pod has it" wait_for 10 pod_run 1 test -e /dev/vgpu1
check "a program holds it" background 1 holder env VGPU_TRANSPORT=xen:/dev/vgpu1 /lab/bin/orphan
check "it is detached all the same" xl vgpu-detach pod1 1
tell holder
check "the program's next calls fail, and it does not hang" ended_well holder
check "everything is as before" as_before
check_fails "a device that is not there cannot be detached" xl vgpu-detach pod1 7
said "the message says where to look" "vgpu-list"
check_fails "a word is no device" xl vgpu-detach pod1 first
check_fails "a bad entry cannot be attached" xl vgpu-attach pod1 memory=lots
check "everything is as before" as_before

echo "# reboot"
check "the pod reboots, and has a device again" reboot_pod
check "a CUDA program in it has the right result" pod_run 1 /lab/bin/vectoradd </dev/null
check "as its configuration has it" row 1 0 64 3 5

echo "# ends"
mv /run/t/before0 /run/t/before
check "a program computes" background 1 holder /lab/bin/orphan
check "xl destroy meanwhile" xl destroy pod1
check "leaves nothing" as_before
broker_stop
check "vgpu-back is unloaded" wait_for 10 rmmod vgpu_back
config_with 'vgpu = [ "gpu=0" ]'
check_fails "without it no pod with a device is made" xl create /run/t/refused.cfg
check "nor left" no_domain refused
check "and nothing in xenstore" sh -c '! xenstore-ls -f / | grep /vgpu'
insmod /lab/modules/vgpu-back.ko
broker_start
check "with it there is one again" pod_create 1 gpu=0,memory=64
check "which works" pod_run 1 /lab/bin/vectoradd </dev/null
check "it ends by itself" pod_shutdown 1
check "and leaves nothing" as_before
finish
