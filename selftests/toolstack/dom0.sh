# shellcheck shell=sh disable=SC2154 # tap_log: of tap.sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the lab's dom0, driven by selftests/toolstack/run; VGPU_TEST_SECTIONS says what. Each section makes and ends
# its own pods.

mkdir -p /run/t
# shellcheck disable=SC1091
. /lab/script/tap.sh
# shellcheck disable=SC1091
. /lab/script/place.sh
set +e

oom=cudaErrorMemoryAllocation

# --- helpers -------------------------------------------------------------------------------------------------------

# config N ENTRIES [LINE…]: /run/t/podN.cfg; ENTRIES is what stands between the brackets of vgpu=
config() {
	cfg_n=$1 cfg_entries=$2
	shift 2
	pod_config "$cfg_n" none 'on_reboot = "restart"' "vgpu = [ $cfg_entries ]" "$@" >"/run/t/pod$cfg_n.cfg"
}
# A domain made by something else than pod_start, or that has rebooted: its agent is at hand again.
reached() { pod_hub "$1" && pod_ready "$1"; }
vectoradd() { pod_run "$1" /lab/bin/vectoradd </dev/null; }
backends() { xenstore-ls -f /local/domain/0/backend 2>/dev/null | grep -E '/backend/(vgpu|vbd)/[0-9]+/'; }
no_backends() { [ -z "$(backends)" ] || { backends; return 1; }; }
no_loops() { ! cat /sys/block/loop*/loop/backing_file 2>/dev/null; }
no_loop_for() { ! grep -q "$1" /sys/block/loop*/loop/backing_file 2>/dev/null; }
no_domains() { [ "$(xl list | wc -l)" = 2 ] || { xl list; return 1; }; }
nothing_left() { no_domains && no_backends && no_loops; }
zone_of() { xl domid "pod$1"; }
field() { vgpuctl show --json "pod$1" | tr ',{}' '\n' | sed -n "s/^ *\"$2\": *\"*\([^\"]*\)\"* *\$/\1/p" | sed -n "${3:-1}p"; }
field_is() { [ "$(field "$1" "$2" "${4:-1}")" = "$3" ] || { vgpuctl show "pod$1"; return 1; }; }
events() { grep -q -e "$1" /run/t/events; }

# json "KEY…" COMMAND ARGUMENT…: vgpuctl's answer to COMMAND --json is one object with these keys
json() {
	json_keys=$1 json_command=$2
	shift 2
	vgpuctl "$json_command" --json "$@" >/run/t/json || return 1
	# shellcheck disable=SC2086 # words
	isjson $json_keys </run/t/json
}

# hold N: a client in podN that is given orders; order COMMAND ANSWER
hold() {
	rm -f /run/t/hold.in
	mkfifo /run/t/hold.in
	: >/run/t/hold
	pod_run "$1" /lab/bin/hold <>/run/t/hold.in >/run/t/hold 2>&1 &
	hold_pid=$!
	wait_for 60 grep -q '^ready' /run/t/hold || { cat /run/t/hold; return 1; }
}
order() {
	order_n=$(($(grep -c '^[0-9][0-9]* ' /run/t/hold) + 1))
	echo "$1" 1<>/run/t/hold.in
	wait_for 30 grep -q "^$order_n " /run/t/hold
	tail -n 1 /run/t/hold
	grep -q "^$order_n $1: $2\$" /run/t/hold
}
held_well() {
	order end ok
	wait "$hold_pid"
}

# --- refuse ----------------------------------------------------------------------------------------------------------

# bad KEY VALUE ALLOWED [ENTRY]
bad() {
	bad_entry=${4:-$1=$2}
	config 9 "\"gpu=0\", \"$bad_entry\""
	check_fails "vgpuctl create refuses $bad_entry" vgpuctl create /run/t/pod9.cfg
	cp "$tap_log" /run/t/said
	if front_installed; then
		check_fails "xl create refuses $bad_entry" xl create /run/t/pod9.cfg
		cat "$tap_log" >>/run/t/said
	fi
	for word in "$1" "$2" "$3"; do
		grep -q -F -e "$word" /run/t/said || { fail "and says $word" /run/t/said; return; }
	done
	pass "and names key, value and what is allowed"
}
front_installed() { [ -e /usr/bin/xl.distrib ]; }

section_refuse() {
	front_install
	bad gpu "" "for example 0"
	bad gpu 0+ "for example 0"
	bad gpu '0;1' "for example 0"
	bad memory lots "1 to 16777216"
	bad memory 4G "1 to 16777216"
	bad memory -1 "1 to 16777216"
	bad memory 16777217 "1 to 16777216"
	bad weight 0 "1 to 10000"
	bad weight 10001 "1 to 10000"
	bad sessions 0 "1 to 1024"
	bad sessions 1025 "1 to 1024"
	bad backend "" "name or number"
	bad colour red "gpu, memory, weight, sessions and backend"
	bad gpu twice "once" "gpu=0,gpu=1"
	bad "key=value" gpu "the keys are" "gpu"
	bad "driver domain" nosuch "xl list" "backend=nosuch"
	config 9 '["gpu=0"]'
	check_fails "a list in the list is refused" vgpuctl create /run/t/pod9.cfg
	config 9 '"gpu=0"' 'vgpu = "gpu=0"'
	check_fails "what is no list is refused" vgpuctl create /run/t/pod9.cfg
	for line in 'memory = "lots"' 'vcpus = 0' 'on_crash = "explode"' 'tsc_mode = "never"' 'kernel = "/nonexistent"' \
		'ramdisk = "/nonexistent"' 'disk = [ "nonsense=1" ]' 'disk = [ "format=raw,vdev=xvdz,access=ro,target=/nonexistent" ]' \
		'vif = [ "mac=nonsense" ]' 'name = "a/b"' 'name = "7"' 'uuid = "x"' 'memory = 1000000' 'pci = [ "00:01.0" ]' \
		'p9 = [ "tag=a" ]' 'p9 = [ "path=/run" ]' 'p9 = [ "tag=a,path=/nonexistent" ]' 'p9 = [ "tag=a,path=/etc/passwd" ]' \
		'p9 = [ "tag=a,path=/run,security_model=x" ]' 'p9 = [ "tag=a,path=/run,nonsense" ]' 'p9 = [ "tag=a,tag=b,path=/run" ]' \
		'p9 = [ "tag=a,path=/run,colour=red" ]' 'maxmem = 1' 'type = "hvm"' 'type = "pv"'; do
		config 9 '"gpu=0"' "$line"
		check_fails "so is a configuration with $line" vgpuctl create /run/t/pod9.cfg
		# Everything but memory, which only Xen knows, names the key.
		said "and the message names it" "${line%% *}"
	done
	check "no domain was ever made" no_domains
	check "and nothing is left" nothing_left
	front_remove
}

# --- vgpuctl ---------------------------------------------------------------------------------------------------------

section_vgpuctl() {
	config 1 '"gpu=0,memory=128"'
	check "vgpuctl check, in JSON" json "name vgpu" check /run/t/pod1.cfg
	check "vgpuctl create" json "domain name devices paused" create /run/t/pod1.cfg
	check "the pod answers" reached 1
	check "and runs a CUDA program" vectoradd 1
	first_text=$(text_at 1)
	check_fails "a second pod of that name is refused" vgpuctl create /run/t/pod1.cfg
	said "and the message says what to do" "vgpuctl destroy"

	dd if=/dev/zero of=/run/t/disk.img bs=1M count=2 2>/dev/null
	check "a disk is added" json "domain result" disk-attach pod1 format=raw,vdev=xvdz,access=ro,target=/run/t/disk.img
	check "the pod sees it" wait_for 10 pod_run 1 grep -q xvdz /proc/partitions
	check "it is removed" json "domain result" disk-detach --force pod1 xvdz
	check "with its loop device" wait_for 10 no_loop_for disk.img
	check_fails "one that is not there cannot be removed" vgpuctl disk-detach pod1 xvdq
	shared_disk

	check "a second device is added" json "zone device result" attach pod1 gpu=0,memory=32
	check "and one's quota changed" json result set pod1 0 memory=96,weight=5
	for word in list "show pod1" stats "top -n 1 -d 0.1"; do
		# shellcheck disable=SC2086 # words
		check "vgpuctl $word, in JSON" json "" $word
	done
	old=$(zone_of 1)
	check "the pod is asked to reboot" json "domain asked_to" shutdown -r pod1
	check "it comes back as another domain" wait_for 60 pod_another 1 "$old"
	check "and answers" reached 1
	check "with the device it had" vectoradd 1
	check "its kernel is where chance put it, and not where it is linked for" moved "$first_text" "$(text_at 1)"
	check "its quota as it was set" field_is 1 memory_quota 100663296
	check "and its weight" field_is 1 weight 5
	check "and with the other device" wait_for 10 pod_run 1 test -e /dev/vgpu1
	check "nothing of the old domain is left" wait_for 15 only_zone "$(zone_of 1)"
	check "a device is removed" json "zone device result" detach pod1 1
	old=$(zone_of 1)
	check "it reboots again" vgpuctl_reboot 1
	check "comes back" wait_for 60 pod_another 1 "$old"
	check "and answers" reached 1
	check "without the removed device" pod_run 1 test ! -e /dev/vgpu1
	check "and with the other" vectoradd 1

	check "xl destroy behind our back" xl destroy pod1
	check "leaves nothing" wait_for 15 nothing_left
	check "and nobody follows it any more" wait_for 15 no_followers

	sed 's/^extra = .\(.*\).$/extra = "\1 nokaslr"/' /run/t/pod1.cfg >/run/t/pod2.cfg
	sed -i 's/pod1/pod2/' /run/t/pod2.cfg
	check "a pod with nokaslr" vgpuctl create /run/t/pod2.cfg
	check "answers" reached 2
	check "and has its kernel where it is linked for" is_linked_at "$(text_at 2)"
	check "and ends" vgpuctl destroy pod2

	check "a pod again" vgpuctl create /run/t/pod1.cfg
	check "whoever follows it is killed" kill_followers
	check "the pod is destroyed" xl destroy pod1
	check "and leaves nothing" wait_for 15 nothing_left

	check "a pod that is not followed" vgpuctl create -e -p /run/t/pod1.cfg
	check "is there, and paused" is_paused
	check "is destroyed by vgpuctl" json destroyed destroy pod1
	check "and leaves nothing at once" nothing_left

	config 1 '"gpu=0,memory=64"' 'on_poweroff = "destroy"' 'on_crash = "restart"'
	check "a pod that will crash" vgpuctl create /run/t/pod1.cfg
	check "answers" reached 1
	old=$(zone_of 1)
	vgpuctl wait --timeout 60 pod1 >/run/t/wait 2>&1 &
	waiter=$!
	pod_crash 1
	wait $waiter
	check "its end is told with the reason" grep -qx crash /run/t/wait
	check "on_crash brings another domain" wait_for 60 pod_another 1 "$old"
	check "which answers" reached 1
	check "and has the device" vectoradd 1
	json "domain reason" wait --timeout 60 pod1 >/run/t/wait 2>&1 &
	waiter=$!
	sleep 1
	pod_run 1 poweroff -f </dev/null >/dev/null 2>&1 &
	wait $waiter
	check "its end is told with the reason" grep -q -e poweroff -e destroyed /run/t/wait
	check "and nothing is left" wait_for 20 nothing_left
}
# What one pod writes no other has.
shared_disk() {
	disk=target=/run/t/disk.img
	pod_config 2 none >/run/t/pod2.cfg
	check "another pod" vgpuctl create -e -p /run/t/pod2.cfg
	check "a disk that the first writes" vgpuctl disk-attach pod1 format=raw,vdev=xvdz,access=rw,$disk
	check_fails "the other does not get to write" vgpuctl disk-attach pod2 format=raw,vdev=xvdz,access=rw,$disk
	said "because a guest has it" "in a guest domain"
	check_fails "nor to read" vgpuctl disk-attach pod2 format=raw,vdev=xvdz,access=ro,$disk
	check "and its loop device is the only one of it" [ "$(cat /sys/block/loop*/loop/backing_file 2>/dev/null | grep -c disk.img)" = 1 ]
	check "it is removed" vgpuctl disk-detach --force pod1 xvdz
	check "with its loop device" wait_for 10 no_loop_for disk.img
	check "then the other gets it" vgpuctl disk-attach pod2 format=raw,vdev=xvdz,access=ro,$disk
	check "and both may read" vgpuctl disk-attach pod1 format=raw,vdev=xvdz,access=ro,$disk
	check_fails "but neither write" vgpuctl disk-attach pod1 format=raw,vdev=xvdy,access=rw,$disk
	check "the other ends" vgpuctl destroy pod2
	check "and the first gives it back" vgpuctl disk-detach --force pod1 xvdz
	check "nothing of it is left" wait_for 10 no_loop_for disk.img
}
vgpuctl_reboot() { pod_run "$1" reboot -f </dev/null >/dev/null 2>&1 & }
# Once the waiter waits: it is told "destroyed" if it looks when the follower has already begun.
pod_crash() { sleep 2; pod_run "$1" sh -c 'echo c >/proc/sysrq-trigger' </dev/null >/dev/null 2>&1 & }
only_zone() { ! backends | grep -v "/$1/"; }
# shellcheck disable=SC2009 # busybox
followers() { ps | grep -c '[v]gpu-follow'; }
no_followers() { [ "$(followers)" = 0 ]; }
# shellcheck disable=SC2046 # several
kill_followers() { kill -9 $(ps | awk '/[v]gpu-follow/ { print $1 }'); }
is_paused() { xl list pod1 | grep -q -- '--p---'; }

# --- live ------------------------------------------------------------------------------------------------------------

section_live() {
	config 1 '"gpu=0,memory=256,weight=3,sessions=4"'
	vgpuctl watch --json >/run/t/events 2>&1 &
	watcher=$!
	check "a pod" vgpuctl create /run/t/pod1.cfg
	check "answers" reached 1
	zone=$(zone_of 1)
	check "a client in it" hold 1
	check "allocates" order "alloc 100" ok
	check "list shows the zone by name" list_names
	check "show tells what it has" field_is 1 memory_used 104861696
	echo "work 200000" 1<>/run/t/hold.in
	check "top shows it working" top_shows
	wait_for 120 grep -q work /run/t/hold
	check "the quota is lowered below what it has" vgpuctl set pod1 memory=64
	check "the broker knows at once" wait_for 5 field_is 1 memory_quota 67108864
	check "not a byte more is had" order "alloc 1" $oom
	check "what there is works on" order "work 10" ok
	check "it is raised" vgpuctl set pod1 0 memory=220 sessions=1
	check "which the broker knows" wait_for 5 field_is 1 memory_quota 230686720
	check "and more is had" order "alloc 100" ok
	check "but not more than that" order "alloc 50" $oom
	check_fails "and one session is the most" vectoradd 1
	check "with more allowed" vgpuctl set pod1 sessions=8
	check "a second one is served" wait_for 10 vectoradd 1
	for change in memory=4G weight=0 sessions=2000 gpu=1 nonsense; do
		check_fails "the change $change is refused" vgpuctl set pod1 "$change"
	done
	check "the client ends well" held_well
	kill $watcher
	check "events told of the device" events "device-added.*zone.*$zone"
	check "of the session" events session-opened
	check "of its end" events session-closed
	check "of the change" events 'device-configured.*memory 64 MiB'
	check "of what the quota refused" events quota-refused
	check "the pod ends" vgpuctl destroy pod1
	check "and nothing is left" nothing_left
}
list_names() { vgpuctl list | awk -v zone="$zone" '$1 == zone && $2 == "pod1" && $3 == 0 { ok = 1 } END { exit !ok }'; }
top_shows() {
	vgpuctl top --once >/run/t/top || return 1
	cat /run/t/top
	awk '$2 == "pod1" && $7 > 0 { zone = 1 } $5 == "hold" && $6 > 0 { session = 1 } END { exit !(zone && session) }' /run/t/top
}

# --- front -----------------------------------------------------------------------------------------------------------

# As scripts/xl-divert does it, where there is no dpkg.
front_install() {
	mv /usr/bin/xl /usr/bin/xl.distrib
	cp /lab/bin/vgpu-xl /usr/bin/xl
}
front_remove() { mv /usr/bin/xl.distrib /usr/bin/xl; }

section_front() {
	front_install
	check "xl works as ever" xl info
	config 1 '"gpu=0,memory=128", "gpu=0,memory=32"' 'on_poweroff = "destroy"'
	check "xl create with vgpu=" xl create /run/t/pod1.cfg
	check "the pod answers" reached 1
	check "and runs a CUDA program" vectoradd 1
	check "it has both devices" wait_for 10 pod_run 1 test -e /dev/vgpu1
	check "xl vgpu-list shows them" vgpu_list_has_both
	check "xl sees the domain as its own" xl list -l pod1
	check "with the kernel that it was told to boot" sh -c 'xl list -l pod1 | grep "\"kernel\": \"/lab/pod/kernel\""'
	first_text=$(text_at 1)
	check "xl vgpu-detach" xl vgpu-detach pod1 1
	check "xl vgpu-attach" xl vgpu-attach pod1 gpu=0 memory=48
	old=$(zone_of 1)
	check "the pod reboots" vgpuctl_reboot 1
	check "it comes back as another domain" wait_for 60 pod_another 1 "$old"
	check "and answers" reached 1
	check "with its device" vectoradd 1
	check "and with the other" field_is 1 memory_quota 50331648 2
	check "its kernel is where chance put it" moved "$first_text" "$(text_at 1)"
	check "xl destroy" xl destroy pod1
	check "leaves nothing" wait_for 15 nothing_left
	check "xl create -p with key=value words" xl create -p /run/t/pod1.cfg 'vgpu=["gpu=0,memory=16"]'
	check "and those are honoured" field_is 1 memory_quota 16777216
	check "xl destroy" xl destroy pod1
	check "a pod without vgpu= is xl's alone" plain_pod
	check "and has none" has_no_device
	check "xl destroy, at once" xl destroy pod2
	check "leaves nothing" wait_for 15 nothing_left
	check "a pod whose disks' script is never told of the end, as libxenlight does it after 10 seconds" deaf_pod
	check "xl destroy" xl destroy pod2
	check "leaves no loop device" wait_for 15 nothing_left
	check "xl create -n tells what it would do" xl create -n /run/t/pod1.cfg
	check "and does nothing" wait_for 15 nothing_left
	config 1 '"gpu=0"' 'memory = "lots"'
	check_fails "what the real xl refuses is refused" xl create /run/t/pod1.cfg
	config 1 '"gpu=0"' 'type = "pv"'
	check_fails "so is a pv domain with a vgpu" xl create /run/t/pod1.cfg
	said "with words that say why" pvh
	check_fails "and an unknown command, by xl itself" xl nonsense
	check "nothing is left" nothing_left
	front_remove
}
vgpu_list_has_both() { [ "$(xl vgpu-list pod1 | grep -c ' pod1 ')" = 2 ]; }
plain_pod() {
	pod_config 2 none >/run/t/pod2.cfg
	xl create /run/t/pod2.cfg
}
deaf_pod() {
	pod_config 2 none >/run/t/pod2.cfg
	# shellcheck disable=SC2016 # the script's own
	printf '#!/bin/sh\n[ "$1" = remove ] || exec vgpu-block "$@"\n' >/etc/xen/scripts/deaf
	chmod 755 /etc/xen/scripts/deaf
	cp /etc/xen/scripts/vgpu-block /usr/bin/
	sed -i s/script=vgpu-block/script=deaf/g /run/t/pod2.cfg
	xl create /run/t/pod2.cfg && wait_for 60 disks_connected 2 && ! no_loops
}
disks_connected() {
	disks=/local/domain/0/backend/vbd/$(zone_of "$1")
	[ "$(xenstore-read "$disks/51712/state")" = 4 ] && [ "$(xenstore-read "$disks/51728/state")" = 4 ]
}
has_no_device() { ! xenstore-ls -f "/local/domain/$(zone_of 2)/device" | grep vgpu; }

# --- library ---------------------------------------------------------------------------------------------------------

section_library() {
	dd if=/dev/zero of=/run/t/disk.img bs=1M count=2 2>/dev/null
	check "the example makes a pod, plugs a disk, waits in a thread and destroys it" \
		vgpuxl-example example /lab/pod/kernel "" "console=hvc0 quiet rootwait root=/dev/xvdy" gpu=0,memory=64 /run/t/disk.img
	said "its thread has seen the end" "has ended: destroyed"
	said "and it has listed the domain" "1 vgpu devices"
	check "nothing is left" nothing_left
	check "three threads make and destroy domains, one lists them" vgpuxl-threads /lab/pod/kernel /run/t/disk.img 3 2
	check "nothing is left" nothing_left
	check_fails "its errors are told" vgpuxl-example example /nonexistent /nonexistent x
	said "with what and why" "/nonexistent"
}
# --- broker ----------------------------------------------------------------------------------------------------------

section_broker() {
	config 1 '"gpu=0,memory=256"'
	check "a pod" vgpuctl create /run/t/pod1.cfg
	check "answers" reached 1
	check "a client holds memory" hold 1
	check "of some size" order "alloc 150" ok
	used=$(field 1 memory_used)
	check "a broker that is killed" kill_broker
	check "leaves the client's worker working" order "work 10" ok
	pod_run 1 /lab/bin/vectoradd </dev/null >/run/t/waiting 2>&1 &
	waiting=$!
	sleep 1
	check "the next broker starts" broker_start
	check "a client that came meanwhile has waited, and works" wait $waiting
	check "the running session is adopted" session_is_adopted
	check "its memory is known" field_is 1 memory_used "$used"
	check "and charged: another one gets the rest and no more" rest_only
	check "it works on" order "work 10" ok
	check "and ends well" held_well
	check "then everything is free" wait_for 10 field_is 1 memory_used 0

	pod_run 1 /lab/bin/busy 4 </dev/null >/run/t/busy 2>&1 &
	busy=$!
	wait_for 60 grep -q '^ready' /run/t/busy
	check "a broker that is told to end lets a session finish" broker_stop
	check "which it does, well" wait $busy
	pod_run 1 /lab/bin/vectoradd </dev/null >/run/t/waiting 2>&1 &
	waiting=$!
	sleep 1
	check "the next broker starts" broker_start
	check "a client that came meanwhile works" wait $waiting
	check "the pod ends" vgpuctl destroy pod1
	check "and nothing is left" nothing_left
}
kill_broker() {
	kill -9 "$(cat /run/lab/broker.pid)"
	rm -f /run/vgpu/control
}
session_is_adopted() { vgpuctl show --json pod1 | grep -q '"adopted": true'; }
# 150 of 256 MiB are out.
rest_only() {
	printf 'alloc 90\nalloc 30\nend\n' | pod_run 1 /lab/bin/hold >/run/t/rest 2>&1
	cat /run/t/rest
	grep -q '1 alloc 90: ok' /run/t/rest && grep -q "2 alloc 30: $oom" /run/t/rest
}

for section in $VGPU_TEST_SECTIONS; do
	echo "# $section"
	"section_$section"
done
finish
