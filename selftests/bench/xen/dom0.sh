# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the lab's dom0 under -icount (scripts/xenlab script --icount): what one call costs through Xen, counted.
# N and 2N calls are made; the difference belongs to N calls. TAP.
#
#	awake	both sides spin long enough never to sleep: no notification, no system call
#	asleep	neither side spins: every call puts both to sleep, one notification each way

N=500

counter() { sed -n 's/^notifications_sent //p'; }
front() { stats_front 1 | counter; }
back() { stats_back | counter; }
bench() { pod_run 1 env VGPU_SPIN_US="$spin" /lab/bin/bench count "$1" "$2" </dev/null; }

# Under strace: the sum of the column "calls".
syscalls() {
	pod_run 1 sh -c "VGPU_SPIN_US=$spin /lab/bin/strace -f -c -qq -o /tmp/strace /lab/bin/bench count $1 $2 >/dev/null && cat /tmp/strace" </dev/null |
		awk '$NF != "total" && $4 ~ /^[0-9]+$/ { n += $4 } END { print n + 0 }'
}

per() { awk -v a="$1" -v b="$2" -v n="$N" 'BEGIN { printf "%.3f", (b - a) / n }'; }

number=0
failure() { number=$((number + 1)); echo "not ok $number - $1"; }
# check VALUE LEAST MOST WORDS
check() {
	number=$((number + 1))
	if awk -v v="$1" -v min="$2" -v max="$3" 'BEGIN { exit !(v >= min && v <= max) }'; then
		echo "ok $number - $4"
	else
		echo "not ok $number - $4 (from $2 to $3)"
	fi
}

measure() {
	mode=$1 op=$2 least=$3 most=$4
	bench "$op" 50 >/dev/null || { failure "$mode, $op: the program fails"; return; }
	f0=$(front) b0=$(back)
	bench "$op" $N >/dev/null || { failure "$mode, $op: the program fails"; return; }
	f1=$(front) b1=$(back)
	insn=$(bench "$op" $((2 * N)) | sed -n 's/^ns_per_call \([0-9]*\).*/\1/p')
	f2=$(front) b2=$(back)
	if [ -z "$insn" ] || [ -z "$f0" ] || [ -z "$b0" ]; then
		failure "$mode, $op: nothing was counted"
		return
	fi
	if [ "$mode" = awake ]; then
		f=$(per $((f1 - f0)) $((f2 - f1)))
		b=$(per $((b1 - b0)) $((b2 - b1)))
	else
		# Now and then a side is still awake: the difference of two runs could exceed what either had per call.
		f=$(per 0 $(((f2 - f1) / 2)))
		b=$(per 0 $(((b2 - b1) / 2)))
	fi
	check "$(printf '%s\n%s\n' "$f" "$b" | sort -g | tail -n 1)" "$least" "$most" \
		"$mode, $op: $f notifications per call by the pod, $b by the worker, $insn instructions per call"
}

for mode in awake asleep; do
	spin=0
	[ "$mode" = awake ] && spin=1000
	export VGPU_SPIN_US=$spin
	broker_restart || exit 1
	for op in sync alloc launch; do
		# One a message at most, and opening a session costs some, too. A free is a message of its own, which is posted:
		# the worker may have fallen asleep behind it.
		most=0.02
		[ "$mode" = awake ] || most=1.05
		[ "$mode $op" != "asleep alloc" ] || most=2.05
		# Of two differences by chance either may be the smaller one.
		least=-0.02
		# Who launches does not wait, and one that sleeps is woken for many launches.
		[ "$mode" = awake ] || [ "$op" = launch ] || least=0.5
		measure "$mode" "$op" "$least" "$most"
	done
	if [ "$mode" = awake ]; then
		for op in sync launch; do
			s1=$(syscalls $op $N) s2=$(syscalls $op $((2 * N)))
			# Even opening a session takes some.
			if [ "$s1" = 0 ] || [ "$s2" = 0 ]; then
				failure "awake, $op: strace has counted nothing"
				continue
			fi
			s=$(per "$s1" "$s2")
			check "$s" -1 0.02 "awake, $op: $s system calls per call in the pod"
		done
	fi
done
echo "1..$number"
