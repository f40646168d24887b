# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# The demo, as dom0 sees it. Pods 1 and 2 are up, the broker serves the software GPU.

failures=0
title() { printf '\n=== %s\n' "$*"; }
problem() { echo "!!! $*"; failures=$((failures + 1)); }
gauges() { grep -E '^(sessions|pages_lent|grants|event_channels) ' /sys/kernel/debug/vgpu-back/counters; }

# Both pods at the same time; lines are told apart by pod.
both() {
	for n in 1 2; do
		{
			pod_run $n "/lab/bin/$1" </dev/null 2>&1
			echo $? >"/run/status$n"
		} | sed "s/^/pod$n: /" &
		eval "pid$n=\$!"
	done
	# shellcheck disable=SC2154 # set by eval
	wait "$pid1" "$pid2"
	for n in 1 2; do
		[ "$(cat /run/status$n)" = 0 ] || problem "$1 in pod $n ended with $(cat /run/status$n)"
	done
}

title "Two pods, each with a virtual GPU; no GPU in either"
xl list
gauges >/run/before

title "A program in pod 1 that keeps a secret in GPU memory, and stays"
mkfifo /run/victim.in
podexec run pod1 /lab/bin/isolation victim <>/run/victim.in >/run/victim 2>&1 &
victim=$!
tries=0
until grep -q '^ready' /run/victim; do
	tries=$((tries + 1))
	if [ $tries -ge 300 ] || ! kill -0 $victim 2>/dev/null; then
		cat /run/victim
		problem "the victim did not start"
		break
	fi
	sleep 0.2
done
grep -c '^handle' /run/victim | sed 's/$/ handles, among them a context, a stream, a module, memory at/'
grep '^address' /run/victim | head -n 1

title "1. CUDA runtime API, static runtime, built by nvcc"
both vectoradd
title "2. The same with the shared runtime"
# The programs are short: look again and again, and keep the moment with the most sessions.
(
	most=0
	vgpuctl list >/run/list 2>&1
	while [ ! -e /run/enough ]; do
		vgpuctl list >/run/list.now 2>&1
		now=$(grep -c ' running ' /run/list.now)
		if [ "$now" -gt "$most" ]; then
			most=$now
			mv /run/list.now /run/list
		fi
		sleep 0.1
	done
) &
lister=$!
both vectoradd-shared
touch /run/enough
title "3. CUDA Driver API, loading PTX text"
both driver_ptx

title "vgpuctl list, taken while the second program ran in both pods"
wait $lister
cat /run/list
grep -q ' running ' /run/list || problem "vgpuctl list showed no running session"

title "Pod 2 attacks pod 1: every handle and address it was told, guessed, replayed, off by one generation"
if podexec run pod2 /lab/bin/isolation attacker </run/victim >/run/attack 2>&1; then
	grep -E '^ok|^#' /run/attack | tail -n 12
	echo "--> all of it refused"
else
	cat /run/attack
	problem "the attack was not refused entirely"
fi
echo "go on" 1<>/run/victim.in
if wait $victim; then echo "--> pod 1 is unharmed"; else problem "pod 1 was harmed: $(cat /run/victim)"; fi
grep -iE 'zone [0-9]+.*(refused|violat|invalid|ended|forged)' /var/log/vgpu-broker.log | tail -n 3

title "Shutdown: everything is given back"
echo "before any program:"
sed 's/^/    /' /run/before
echo "after all of them:"
tries=0
until gauges >/run/after && cmp -s /run/before /run/after || [ $tries -ge 50 ]; do
	tries=$((tries + 1))
	sleep 0.2
done
sed 's/^/    /' /run/after
cmp -s /run/before /run/after || problem "not everything came back"
for n in 1 2; do
	pod_shutdown $n || problem "pod $n does not end"
done
tries=0
while xenstore-ls -f /local/domain/0/backend 2>/dev/null | grep -q /vgpu/ && [ $tries -lt 50 ]; do
	tries=$((tries + 1))
	sleep 0.2
done
echo "after both pods ended:"
gauges >/run/ended
sed 's/^/    /' /run/ended
! grep -qv ' 0$' /run/ended || problem "not everything came back from pods that ended"
nodes=$(xenstore-ls -f /local/domain/0/backend 2>/dev/null | grep -c '/vgpu/[0-9]*/')
echo "    xenstore: $nodes vgpu nodes left"
[ "$nodes" = 0 ] || problem "a pod that ended has left nodes in xenstore"
if broker_stop; then echo "    vgpu-broker ended cleanly"; else problem "vgpu-broker does not end"; fi
rmmod vgpu-back && echo "    vgpu-back unloaded"
[ "$(gauges 2>/dev/null)" = "" ] || problem "vgpu-back is still loaded"

exit $((failures > 0))
