# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the lab's dom0, without a broker: the drivers' own tests, each in a pod that is made for it. TAP.

count=0
failed=0
result() {
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count $2"
	else
		failed=1
		echo "not ok $count $2"
	fi
}
gauge() { awk -v name="$1" '$1 == name { print $2 }' /sys/kernel/debug/vgpu-back/counters; }
nothing_held() {
	tries=0
	for name in devices sessions sessions_accepted pages_lent pages_returning grants event_channels events_queued; do
		until [ "$(gauge $name)" = 0 ]; do
			tries=$((tries + 1))
			[ $tries -lt 600 ] || { echo "# $name is $(gauge $name)"; return 1; }
			sleep 0.1
		done
	done
}
# shellcheck source=selftests/drivers/kernel.sh
. /lab/script/kernel.sh

# Probe pod 1's backend with its first, second, third … allocation failing, until none has failed. In one shell: the
# number counts what that shell's system calls allocate. Says what is left of it; the files are open for that, too.
probe_with_failures() {
	device=vgpu-$(pod_domid 1)-0
	try=0
	left=0
	while [ "$left" = 0 ]; do
		try=$((try + 1))
		[ $try -lt 400 ] || { echo "# the device can't be probed"; return 1; }
		echo "$device" >/sys/bus/xen-backend/drivers/vgpu/unbind 2>/dev/null
		# shellcheck disable=SC2016 # its own
		left=$(sh -c 'echo "$1" >/proc/self/fail-nth
			echo "$2" >/sys/bus/xen-backend/drivers/vgpu/bind
			read -r left </proc/self/fail-nth
			echo 0 >/proc/self/fail-nth
			echo "${left:-0}"' sh $try "$device" 2>/dev/null)
		[ -e "/sys/bus/xen-backend/drivers/vgpu/$device" ] || left=0
	done
	echo "# $try attempts"
	[ $try -gt 10 ]
}

drivers-server --action /lab/script/dom0-action >>/run/drivers-server.log 2>&1 &

pod_create 1 none || exit 1
sh /lab/script/attach "$(pod_domid 1)"
pod_run 1 session_test </dev/null
result $? "sessions: what a pod may expect"
pod_run 1 giveback_test </dev/null
result $? "whatever becomes of a client, all it held is given back"
# shellcheck disable=SC2016 # expanded in the pod
pod_run 1 sh -c 'exec ending_test /lab/modules/$(uname -r)/vgpu-front.ko' </dev/null
result $? "a session that is ended by others ends in order"
# Only the debug kernels can run out of memory on demand.
if [ -d /sys/kernel/debug/failslab ] && pod_run 1 test -d /sys/kernel/debug/failslab </dev/null; then
	pod_run 1 fault_test </dev/null
	result $? "every error path when memory runs out"
	probe_with_failures
	result $? "and of the backend's probe"
fi

front_reaches() {
	tries=0
	until [ "$(xenstore-read "/local/domain/$(pod_domid 1)/device/vgpu/0/state")" = "$1" ]; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || { echo "# the frontend does not come to state $1"; return 1; }
		sleep 0.1
	done
}

# A frontend that comes anew reads `versions` again; a backend writes it once.
versions_read() {
	xenstore-write "/local/domain/0/backend/vgpu/$(pod_domid 1)/0/versions" "$1"
	# shellcheck disable=SC2016 # expanded in the pod
	pod_run 1 sh -c 'for device in /sys/bus/xen/drivers/vgpu/vgpu-*; do echo "${device##*/}" >/sys/bus/xen/drivers/vgpu/unbind; done
		rmmod vgpu_front; insmod "/lab/modules/$(uname -r)/vgpu-front.ko"' </dev/null
	front_reaches "$2"
}
versions_read 2,10,21 6 && versions_read 2,1,10 4
result $? "a backend that speaks more versions than one is understood"
versions_read 1 4

# Nobody answers the frontend's offer, as vgpu-back is unbound, and the directory goes; then a backend comes.
offer_is_made_again() {
	zone=$(pod_domid 1)
	back=/local/domain/0/backend/vgpu/$zone/0
	echo "vgpu-$zone-0" >/sys/bus/xen-backend/drivers/vgpu/unbind
	front_reaches 6 && xenstore-write "$back/state" 2 && front_reaches 3 || return 1
	xenstore-rm "$back"
	sleep 1
	xenstore-write "$back/frontend" "/local/domain/$zone/device/vgpu/0" "$back/frontend-id" "$zone" "$back/online" 1 \
		"$back/gpu" 0 "$back/memory" 256 "$back/weight" 1 "$back/sessions" 40
	xenstore-chmod -r "$back" n0 "r$zone"
	xenstore-write "$back/state" 1
	front_reaches 4
}
offer_is_made_again
result $? "a frontend whose backend goes before it answers has the next one"

ring_keeper "$(pod_domid 1)" && pod_run 1 dmesg </dev/null | grep -q 'control rings of before' &&
	sh /lab/script/dom0-action detach-attach && front_reaches 4
result $? "a backend that keeps control rings does not use up the pod's grants"
pod_run 1 dmesg </dev/null | complaints && result 1 "the pod's kernel has complaints"

# Destroyed while it has sessions with their memory mapped and talks through them.
pod_run 1 busy_sessions </dev/null &
tries=0
until [ "$(gauge sessions_accepted)" -ge 4 ] || [ $tries -gt 1200 ]; do
	tries=$((tries + 1))
	sleep 0.1
done
echo "# $(gauge sessions_accepted) sessions, $(gauge pages_lent) pages lent when the pod is destroyed"
# The workers are stuck meanwhile; they have the pages mapped.
workers=$(pidof drivers-server)
domid=$(pod_domid 1)
# shellcheck disable=SC2086 # several
kill -STOP $workers
[ "$(gauge sessions_accepted)" -ge 4 ] && pod_destroy 1 && {
	tries=0
	until [ "$(gauge grants)" = 0 ] && ! xl list "$domid" >/dev/null 2>&1 || [ $tries -gt 300 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
	echo "# $(gauge grants) grants, $(gauge event_channels) event channels, $(gauge pages_lent) pages lent without the pod"
	[ "$(gauge grants)" = 0 ] && [ "$(gauge event_channels)" = 0 ] && [ "$(gauge sessions_accepted)" -ge 4 ] &&
		! xl list "$domid" >/dev/null 2>&1
}
result $? "a worker that is stuck keeps nothing of a pod that has gone"
# shellcheck disable=SC2086 # several
kill -CONT $workers
nothing_held
result $? "a pod that is destroyed gives everything back"
xenstore-rm /local/domain/0/backend/vgpu 2>/dev/null

pod_create 2 none || exit 1
pod_run 2 rmmod vgpu_front </dev/null
# The hostile frontend grants pages from userspace.
pod_run 2 test -e /dev/xen/gntalloc </dev/null || result 1 "the pod's kernel lets userspace grant pages"
for device in 0 1 2 3 4 5 6 7 8 9; do
	sh /lab/script/attach "$(pod_domid 2)" $device
done
pod_run 2 hostile_test </dev/null 2>/dev/null	# libxengnttab speaks of the mappings that must fail
result $? "a frontend that lies loses its device and nothing else"
dmesg | grep -q 'of ?\[31mred-abi?\[7m,' && ! dmesg | grep -q "$(printf '\033')"
result $? "what a frontend says of itself can be read in the log, and no more"

# The first zone may have all that can be lent (zone_memory is more), the second comes when nothing else is left.
echo 40 >/sys/module/vgpu_back/parameters/all_memory
pod_run 2 hostile_test hog </dev/null >/run/hog 2>/dev/null &
pod_create 3 none || exit 1
pod_run 3 rmmod vgpu_front </dev/null
tries=0
until grep -q full /run/hog || [ $tries -gt 1200 ]; do
	tries=$((tries + 1))
	sleep 0.1
done
echo "# pod 2:$(grep KiB /run/hog | tr -d '#'); $(gauge pages_lent) pages are lent"
sh /lab/script/attach "$(pod_domid 3)"
grep -q full /run/hog && [ "$(gauge pages_lent)" -gt 6000 ] && pod_run 3 hostile_test modest </dev/null
result $? "a zone that takes all it gets leaves other zones their part"
echo 0 >/sys/module/vgpu_back/parameters/all_memory
pod_destroy 3
pod_destroy 2
nothing_held
result $? "and everything is given back when its pod is destroyed"

# shellcheck disable=SC2046 # there may be several
kill -9 $(pidof drivers-server)
sleep 0.5
rmmod vgpu_back && insmod /lab/modules/vgpu-back.ko
result $? "vgpu-back can be unloaded and loaded"
dmesg | complaints && result 1 "dom0's kernel has complaints"
leaks && result 1 "dom0's kernel has lost memory"
echo "1..$count"
[ $failed = 0 ] || { cat /run/dom0-action.log; tail -n 20 /run/drivers-server.log; }
exit $failed
