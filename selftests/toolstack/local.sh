# shellcheck shell=bash disable=SC2154 # run_dir, B, VGPUCTL: of selftests/run-local
# SPDX-License-Identifier: Apache-2.0
#
# vgpuctl against a broker of this machine: set, top, watch, show. Part of selftests/run-local.

ctl() { "$VGPUCTL" "$@"; }

# order NAME COMMAND ANSWER: tell the client `hold` in the background, and see that it ends so.
order() {
	local number
	number=$(($(grep -c '^[0-9]* ' "$run_dir/$1.log") + 1))
	echo "$2" 1<>"$run_dir/$1.in"
	wait_for 20 grep -q "^$number " "$run_dir/$1.log" || true
	tail -n 1 "$run_dir/$1.log"
	grep -q "^$number $2: $3\$" "$run_dir/$1.log"
}

# shellcheck disable=SC2034 # read by ended_well
watch_events() {
	"$VGPUCTL" watch --json >"$run_dir/events.log" 2>&1 &
	watcher=$!
	sleep 0.3
}
told() { wait_for 5 grep -q "\"event\": \"$1\".*$2" "$run_dir/events.log"; }

section_toolstack() {
	local oom=cudaErrorMemoryAllocation
	wait_for 10 no_sessions || true
	watch_events
	check "a client in a zone with 512 MiB" background holder a "$B/tests/hold"
	check "allocates 100 MiB" order holder "alloc 100" ok
	check "the quota is lowered below what it has" ctl set local:a memory=64
	check "not a byte more, at once" order holder "alloc 1" $oom
	check "what it has works on" order holder "work 10" ok
	check "the refusal is an event" told quota-refused 64
	check "and is counted" counted quota_refusals
	check "what it gives back does not help yet" frees_and_asks $oom
	check "the quota is raised" ctl set local:a memory=200,weight=7
	check "it can allocate again" order holder "alloc 120" ok
	check "up to the new quota" order holder "alloc 100" $oom
	check "without a quota" ctl set local:a memory=0
	check "it gets more than it had before" order holder "alloc 600" ok
	check "with a quota again" ctl set local:a memory=512
	check "what it has is charged" order holder "alloc 1" $oom
	check "also after it has freed some of it" frees_and_gets
	check "quotas may come and go faster than its worker can answer" quotas_come_and_go
	check "the weight has been set" [ "$(json 'print([d["weight"] for d in b["devices"] if d["device"] == "a"][0])')" = 7 ]
	check "one session is the most from now on" ctl set local:a sessions=1
	check_fails "so a second one is refused" in_zone a "$B/tests/hold" </dev/null
	check "which is an event" told session-refused "limit"
	check "more are allowed again" ctl set local:a sessions=64
	check "a second one is served" in_zone a "$B/tests/hold" </dev/null
	for change in memory=4G weight=0 sessions=0 gpu=1 colour=red ""; do
		check_fails "the change '$change' is refused" ctl set local:a "$change"
	done
	check_fails "and one of a device that there is not" ctl set local:nosuch memory=1

	if [ "$(id -u)" = 0 ]; then
		check "a zone of more weight gets more of the GPU" weighs
	else
		skip "a zone of more weight gets more of the GPU" "only root may give a worker's processes more"
	fi
	check "top shows what works" top_shows
	check "on a terminal it has a screen of its own, and leaves with q" live_top
	check "show tells of one zone" shows
	check "each command speaks JSON" all_json
	order holder end ok >/dev/null || true
	check "the client ends well" ended_well holder
	check "sessions that come and go are events" come_and_go
	check "so are changes of configuration" told device-configured "memory 200 MiB, weight 7"
	check "every event is a line of JSON" python3 -c 'import json, sys; [json.loads(l) for l in open(sys.argv[1])]' "$run_dir/events.log"
	kill "$watcher" 2>/dev/null || true

	check "vgpu-xl goes in front of xl, as dpkg's diversion" diverted
	check "it hands on what is not its own" in_front list --long "list --long"
	printf 'name="pod"\ntype="pvh"\nmemory=64\n' >"$run_dir/plain.cfg"
	check "and a configuration without vgpu=" in_front create "$run_dir/plain.cfg" "create $run_dir/plain.cfg"
	check "and a dry run" in_front create -n "$run_dir/plain.cfg" 'vgpu=["gpu=0"]' "create -n"
	check_fails "but not one with a bad entry" "$run_dir/root/usr/sbin/xl" create "$run_dir/plain.cfg" 'vgpu=["gpu=x;"]'
	check "it is taken away again, and the real one is back" undiverted
	check "the manual pages format without a warning" manuals
	check "completion completes" completes
	ctl set local:a memory=512,weight=1,sessions=64 >/dev/null
}
# Each time that there is a quota where there was none, a worker says what it has by then.
quotas_come_and_go() {
	local worker n memory status=0
	worker=$(worker_of a)
	for n in 1 2 3; do
		kill -STOP "$worker"
		for memory in 0 512 0 512; do
			ctl set local:a "memory=$memory" || status=1
		done
		kill -CONT "$worker"
		order holder "work $n" ok || status=1
	done
	return $status
}
# In a root of its own, with echo for xl.
diverted() {
	mkdir -p "$run_dir/root/usr/sbin" "$run_dir/root/var/lib/dpkg/info" "$run_dir/root/var/lib/dpkg/updates" &&
		touch "$run_dir/root/var/lib/dpkg/status" "$run_dir/root/var/lib/dpkg/diversions" &&
		cp /bin/echo "$run_dir/root/usr/sbin/xl" &&
		scripts/xl-divert add --root "$run_dir/root" && scripts/xl-divert add --root "$run_dir/root" &&
		cmp /bin/echo "$run_dir/root/usr/sbin/xl.distrib" && cmp "$B/bin/vgpu-xl" "$run_dir/root/usr/sbin/xl" &&
		[[ $(scripts/xl-divert status --root "$run_dir/root") == *"in front"* ]]
}
undiverted() {
	scripts/xl-divert remove --root "$run_dir/root" && cmp /bin/echo "$run_dir/root/usr/sbin/xl" &&
		[ ! -e "$run_dir/root/usr/sbin/xl.distrib" ] && ! grep -q . "$run_dir/root/var/lib/dpkg/diversions"
}
# in_front ARGUMENT… SAID
in_front() {
	local said
	said=$("$run_dir/root/usr/sbin/xl" "${@:1:$#-1}")
	echo "$said"
	[[ $said == "${*: -1}"* ]]
}
manuals() {
	local said
	said=$(groff -man -Tutf8 -ww -z Documentation/man/*.8 2>&1)
	echo "$said"
	[ -z "$said" ]
}
completes() {
	# shellcheck disable=SC2016 # expanded by the inner shell
	PATH=$B/bin:$PATH bash -c '
		. userspace/toolstack/vgpuctl.bash-completion
		COMP_WORDS=(vgpuctl wa) COMP_CWORD=1; _vgpuctl; echo "${COMPREPLY[@]}"; [ "${COMPREPLY[*]}" = "wait watch" ] || exit 1
		COMP_WORDS=(vgpuctl show local:s) COMP_CWORD=2; _vgpuctl; echo "${COMPREPLY[@]}"; [ "${COMPREPLY[*]}" = "local:small" ] || exit 1
		COMP_WORDS=(vgpuctl top --o) COMP_CWORD=2; _vgpuctl; [ "${COMPREPLY[*]}" = --once ]'
}
# Two zones whose kernels want all processors for the same time, and one weighs 16 times as much. Other work on the machine
# takes from both. Ended by the deaths of their clients.
weighs() {
	local pids=() zone before after a b
	ctl set local:a weight=16 && ctl set local:b weight=1 || return 1
	for zone in a b; do
		in_zone "$zone" "$B/tests/hold" <<<"spin 1000000" >"$run_dir/weighs-$zone.log" 2>&1 &
		pids+=($!)
	done
	sleep 2
	before=$(gpu_times)
	sleep 3
	after=$(gpu_times)
	# The shells' children: a shell that is killed leaves them running.
	for zone in "${pids[@]}"; do pkill -P "$zone"; done
	wait "${pids[@]}" || true
	read -r a b < <(paste <(echo "$before") <(echo "$after") | awk '{ printf "%d %d\n", ($3 - $1) / 1000, ($4 - $2) / 1000 }')
	echo "processor time: $a us and $b us"
	[ "$a" -gt $((2 * b)) ]
}
gpu_times() { json "t = {d['device']: d['gpu_ns'] for d in b['devices']}; print(t['a'], t['b'])"; }
come_and_go() { told session-opened worker && told session-closed after; }
counted() { [ "$(json "print(sum(d['$1'] for d in b['devices']))")" -gt 0 ]; }
# 100 MiB of 100: after freeing nothing is out, but 64 MiB is all there is.
frees_and_asks() { order holder free ok && order holder "alloc 65" "$1"; }
frees_and_gets() { order holder free ok && order holder "alloc 200" ok && order holder "alloc 400" cudaErrorMemoryAllocation; }
# Some calls every moment, as long as somebody looks; few enough that none wait when it ends.
works_on() {
	touch "$run_dir/working"
	{ echo "alloc 8"; while [ -e "$run_dir/working" ] && echo "work 20"; do sleep 0.05; done; } |
		in_zone a "$B/tests/hold" >"$run_dir/works.log" 2>&1
}
top_shows() {
	local worker status=0
	works_on &
	worker=$!
	# On a machine with other work the client may not get its turn while one table is made.
	wait_for 1 top_counts || status=1
	cat "$run_dir/top.log"
	rm -f "$run_dir/working"
	wait "$worker" || { cat "$run_dir/works.log"; status=1; }
	return $status
}
# In one table: calls, launches, memory and GPU time of the session, and the zone's calls and launches, which are no fewer.
top_counts() {
	ctl top --once -d 0.5 >"$run_dir/top.log" || return 1
	# Zones of this machine have no name: the second word is the device.
	awk '$2 == "a" && $4 >= 1 { calls = $6; launches = $7 }
		$5 == "hold" && $6 > 0 && $7 > 0 && $8 >= 8 && $10 > 0 && $6 <= calls && $7 <= launches { seen = 1 }
		END { exit !seen }' "$run_dir/top.log"
}
live_top() {
	local screen=$'\033[?1049h\033[?25l' back=$'\033[?25h\033[?1049l' said
	scripts/lab/typed.py -t 100 PROGRAM q -- "$VGPUCTL" top -d 0.2 >"$run_dir/live.log" || return 1
	said=$(<"$run_dir/live.log")
	cat -v "$run_dir/live.log"
	[[ $said == "$screen"* && $said == *hold* && $said == *"$back" ]]
}
shows() {
	ctl show local:a >"$run_dir/show.log" || return 1
	cat "$run_dir/show.log"
	grep -q 'program *hold' "$run_dir/show.log" && ! grep -q 'device b' "$run_dir/show.log"
}
all_json() {
	local command
	for command in "list --json" "show --json local:a" "stats --json" "top --json -n 1 -d 0.1"; do
		# shellcheck disable=SC2086 # words
		ctl $command | python3 -c 'import json, sys; json.load(sys.stdin)' || { echo "$command"; return 1; }
	done
}
