# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Pod 2 against pod 1.

# background POD NAME PROGRAM…: its stdin is a fifo for tell, its output /run/t/NAME. Waits until it is ready.
background() {
	bg_pod=$1 bg_name=$2
	shift 2
	rm -f "/run/t/$bg_name.in" "/run/t/$bg_name"
	mkfifo "/run/t/$bg_name.in"
	timeout 240 podexec run "pod$bg_pod" "$@" <>"/run/t/$bg_name.in" >"/run/t/$bg_name" 2>&1 &
	echo $! >"/run/t/$bg_name.pid"
	wait_for 60 grep -q '^ready' "/run/t/$bg_name" || { cat "/run/t/$bg_name"; return 1; }
}
tell() { echo "go on" 1<>"/run/t/$1.in"; }
ended_well() {
	wait "$(cat "/run/t/$1.pid")"
	bg_status=$?
	cat "/run/t/$1"
	return $bg_status
}

section_isolation() {
	check "the victim in pod 1 has its objects" background 1 victim /lab/bin/isolation victim
	check "of every kind" grep -q "^# handles of all kinds" /run/t/victim
	check "from pod 2 none of them can be reached" attack 2
	check "from another session of pod 1 neither, but what it shares" attack 1 neighbour
	tell victim
	check "the victim is unharmed" ended_well victim
	check "what it left cannot be found by pod 1's next session" pod_run 1 /lab/bin/isolation scavenger </dev/null
	check "nor by pod 2" pod_run 2 /lab/bin/isolation scavenger </dev/null
}
attack() {
	attack_pod=$1
	shift
	timeout 240 podexec run "pod$attack_pod" /lab/bin/isolation attacker "$@" </run/t/victim
}

section_hostile() {
	check "a neighbour works in pod 1" background 1 neighbour /lab/bin/busy 20
	check "a hostile client in pod 2" timeout 400 podexec run pod2 /lab/bin/hostile </dev/null
	check "pod 2 is still served" pod_run 2 /lab/bin/vectoradd </dev/null
	check "the neighbour has noticed nothing" ended_well neighbour
	check "the broker has logged the forged source zone" grep -q 'forged source zone' /var/log/vgpu-broker.log
}
