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
	ctl watch --json >"$run_dir/events.log" 2>&1 &
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

	check "top shows what works" top_shows
	check "show tells of one zone" shows
	check "each command speaks JSON" all_json
	order holder end ok >/dev/null || true
	check "the client ends well" ended_well holder
	check "sessions that come and go are events" come_and_go
	check "so are changes of configuration" told device-configured "memory 200 MiB, weight 7"
	check "every event is a line of JSON" python3 -c 'import json, sys; [json.loads(l) for l in open(sys.argv[1])]' "$run_dir/events.log"
	kill "$watcher" 2>/dev/null || true
	ctl set local:a memory=512,weight=1,sessions=64 >/dev/null
}
come_and_go() { told session-opened worker && told session-closed after; }
counted() { [ "$(json "print(sum(d['$1'] for d in b['devices']))")" -gt 0 ]; }
# 100 MiB of 100: after freeing nothing is out, but 64 MiB is all there is.
frees_and_asks() { order holder free ok && order holder "alloc 65" "$1"; }
frees_and_gets() { order holder free ok && order holder "alloc 200" ok && order holder "alloc 400" cudaErrorMemoryAllocation; }
top_shows() {
	echo "work 20000" 1<>"$run_dir/holder.in"
	ctl top --once -d 0.5 >"$run_dir/top.log" || return 1
	cat "$run_dir/top.log"
	# The zone's line and the session's: calls in the second that was looked at.
	awk '$3 == "a" && $7 > 0 { zone = 1 } $5 == "hold" && $6 > 0 && $10 > 0 { session = 1 } END { exit !(zone && session) }' "$run_dir/top.log" ||
		awk '/ hold / { seen = 1 } END { exit !seen }' "$run_dir/top.log"
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
