# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# The CUDA programs, with the static runtime in pod 1 and with the shared one in pod 2, at the same time.

# run_list POD FILE-OF-NAMES: each program's output in /run/t/POD.NAME, its status in /run/t/POD.NAME.status
run_list() {
	while read -r program; do
		begun=$(cut -d. -f1 /proc/uptime)
		timeout 240 podexec run "pod$1" "/lab/bin/$program" </dev/null >"/run/t/$1.$program" 2>&1
		echo $? >"/run/t/$1.$program.status"
		echo "$(($(cut -d. -f1 /proc/uptime) - begun)) s $program in pod $1" >>"/run/t/times$1"
	done <"$2"
}

section_cuda() {
	grep -v -e '-shared$' -e '-more$' /lab/script/programs >/run/t/list1
	grep -e '-shared$' -e '-more$' /lab/script/programs >/run/t/list2
	run_list 1 /run/t/list1 &
	run_list 2 /run/t/list2
	wait $!
	for pod in 1 2; do
		while read -r program; do
			if [ "$(cat "/run/t/$pod.$program.status" 2>/dev/null)" = 0 ]; then
				pass "pod $pod: $program"
			else
				fail "pod $pod: $program (exit status $(cat "/run/t/$pod.$program.status"))" "/run/t/$pod.$program"
			fi
		done <"/run/t/list$pod"
	done
	check "sessions of programs that have ended are closed" wait_for 15 no_sessions
	echo "# the longest:"
	sort -rn /run/t/times1 /run/t/times2 | head -n 12 | sed 's/^/# /'
}
