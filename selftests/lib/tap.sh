# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Test Anything Protocol for the runners. One line per promise; what a failed one said follows as comments.
#
#	check "PROMISE" COMMAND…	the command must exit with 0
#	check_fails "PROMISE" COMMAND…	the command must not, but end, and by itself
#	skip "PROMISE" REASON		what cannot be tested here
#	pass / fail "PROMISE" [FILE]	for what was decided elsewhere; FILE explains
#	wait_for SECONDS COMMAND…	until it succeeds, at most so long
#	finish				the plan; the exit status

tap_count=0
tap_failed=0
tap_log=$(mktemp)
TAP_TIMEOUT=${TAP_TIMEOUT:-120}

pass() { tap_count=$((tap_count + 1)); printf 'ok %d - %s\n' "$tap_count" "$1"; }

skip() { tap_count=$((tap_count + 1)); printf 'ok %d - %s # SKIP %s\n' "$tap_count" "$1" "$2"; }

fail() {
	tap_count=$((tap_count + 1))
	tap_failed=$((tap_failed + 1))
	printf 'not ok %d - %s\n' "$tap_count" "$1"
	if [ -n "${2:-}" ]; then
		# All failures inside, or else the end.
		{ grep -aE -A3 '^(not ok|Bail out)' "$2" || tail -n 15 "$2"; } | head -n 40 | sed 's/^/# /'
	fi
}

# A command that is a function runs without a time limit: it must have its own.
tap_run() {
	if [ "$(type -t "$1")" = function ]; then "$@"; else timeout --kill-after=5 "$TAP_TIMEOUT" "$@"; fi >"$tap_log" 2>&1
}

# What a program has skipped in its own TAP is skipped here, too. Told once, however often it runs.
declare -A tap_skipped=()
inner_skips() {
	local line
	while read -r line; do
		[ -z "${tap_skipped[$line]:-}" ] || continue
		tap_skipped[$line]=1
		skip "$1: ${line%% \# SKIP*}" "${line##*\# SKIP }"
	done < <(sed -n 's/^ok [0-9]* - \(.*# SKIP .*\)/\1/p' "$tap_log")
}

check() {
	local promise=$1 status=0
	shift
	tap_run "$@" || status=$?
	if [ $status = 0 ]; then
		pass "$promise"
		inner_skips "$promise"
	elif [ $status = 124 ]; then
		fail "$promise (not done within $TAP_TIMEOUT s)" "$tap_log"
	else
		fail "$promise (exit status $status)" "$tap_log"
	fi
}

check_fails() {
	local promise=$1 status=0
	shift
	tap_run "$@" || status=$?
	if [ $status = 0 ]; then
		fail "$promise (it succeeded)" "$tap_log"
	elif [ $status = 124 ]; then
		fail "$promise (it had not ended when its time was up)" "$tap_log"
	elif [ $status -gt 124 ] && [ $status != 255 ]; then
		# Not to be started, or killed.
		fail "$promise (exit status $status)" "$tap_log"
	else
		pass "$promise"
	fi
}

# Only a run that fails waits to the end: on a busy machine everything takes some times longer than it should.
wait_for() {
	local tries=$(($1 * 20 * 6))
	shift
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.05
	done
}

finish() {
	rm -f "$tap_log"
	printf '1..%d\n' "$tap_count"
	if [ "$tap_failed" -gt 0 ] || [ "$tap_count" = 0 ]; then
		printf '# FAIL: %d of %d\n' "$tap_failed" "$tap_count"
		return 1
	fi
	printf '# PASS\n'
}
