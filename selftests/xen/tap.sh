# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Test Anything Protocol in dom0's busybox sh: as selftests/lib/tap.sh.
#
#	pass / fail "PROMISE" [FILE]	check "PROMISE" COMMAND…	check_fails "PROMISE" COMMAND…
#	said "PROMISE" WORDS		what the last checked command said has the words in it
#	wait_for SECONDS COMMAND…	finish

tap_count=0
tap_failed=0
tap_log=/run/tap.log	# what the last checked command said

pass() { tap_count=$((tap_count + 1)); echo "ok $tap_count - $1"; }

fail() {
	tap_count=$((tap_count + 1))
	tap_failed=$((tap_failed + 1))
	echo "not ok $tap_count - $1"
	[ -z "${2:-}" ] || { grep -E -A3 '^(not ok|Bail out)' "$2" || tail -n 15 "$2"; } | head -n 40 | sed 's/^/# /'
}

# Kept aside while it runs: the command may be a search through what the one before said.
tap_run() {
	tap_status=0
	"$@" >"$tap_log.now" 2>&1 || tap_status=$?
	mv "$tap_log.now" "$tap_log"
	return $tap_status
}

check() {
	tap_promise=$1
	shift
	if tap_run "$@"; then pass "$tap_promise"; else fail "$tap_promise (exit status $?)" "$tap_log"; fi
}

check_fails() {
	tap_promise=$1
	shift
	if tap_run "$@"; then
		fail "$tap_promise (it succeeded)" "$tap_log"
	elif [ $tap_status = 124 ] || [ $tap_status = 137 ]; then
		fail "$tap_promise (it had not ended when its time was up)" "$tap_log"
	elif [ $tap_status -gt 125 ] && [ $tap_status != 255 ]; then
		# Not to be started, or killed. (125 is what vgpu-agentctl says.)
		fail "$tap_promise (exit status $tap_status)" "$tap_log"
	else
		pass "$tap_promise"
	fi
}

said() { if grep -qi -e "$2" "$tap_log"; then pass "$1"; else fail "$1" "$tap_log"; fi; }

# Only a run that fails waits to the end: on a busy machine everything takes some times longer than it should.
wait_for() {
	tap_tries=$(($1 * 5 * 6))
	shift
	until "$@" >/dev/null 2>&1; do
		tap_tries=$((tap_tries - 1))
		[ $tap_tries -gt 0 ] || return 1
		sleep 0.2
	done
}

finish() {
	echo "1..$tap_count"
	if [ "$tap_failed" -gt 0 ] || [ "$tap_count" = 0 ]; then
		echo "# FAIL: $tap_failed of $tap_count"
		return 1
	fi
	echo "# PASS"
}
