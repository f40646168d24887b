# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Sessions and domains that end, in every way.

kill_worker_of() { kill -9 "$(worker_of "$1")"; }

section_errors() {
	check "a client in pod 1 whose worker will die starts" background 1 orphan /lab/bin/orphan
	check "a neighbour in pod 2 starts" background 2 neighbour /lab/bin/busy 10
	check "the worker is killed" kill_worker_of 1
	sleep 1
	tell orphan
	check "every later call of the client fails soon" ended_well orphan
	check "a client starts that waits for its GPU" background 1 orphan /lab/bin/orphan busy
	check "its worker is killed meanwhile" kill_worker_of 1
	sleep 1
	tell orphan
	check "the wait comes back with an error" ended_well orphan
	check "the neighbour has noticed nothing" ended_well neighbour
	check "pod 1 can open new sessions" pod_run 1 /lab/bin/vectoradd </dev/null
}

section_giveback() {
	check "some sessions first" pod_run 1 /lab/bin/churn 4 </dev/null
	wait_for 15 no_sessions
	sleep 1
	held >/run/t/before
	sed 's/^/# /' /run/t/before
	check "50 sessions in pod 1, ended in four ways" timeout 400 podexec run pod1 /lab/bin/churn 50 </dev/null
	check "counters of both modules, broker and xenstore are back where they were" back_to /run/t/before
}

section_destroy() {
	held >/run/t/before
	check "a third pod starts" pod_create 3
	check "a program in it copies" background 3 copier /lab/bin/busy
	check "another domain keeps working meanwhile" background 2 neighbour /lab/bin/busy 8
	check "xl destroy in the middle of a copy" pod_destroy 3
	check "everything it held has been given back" back_to_busy
	check "its backend directory is gone from xenstore" wait_for 15 zone_gone
	check "the neighbour has noticed nothing" ended_well neighbour
	check "counters of both modules, broker and xenstore are back where they were" back_to /run/t/before

	check "a pod starts again under the same name" pod_create 3
	check "and is served" pod_run 3 /lab/bin/vectoradd </dev/null
	check "it shuts itself down" pod_shutdown 3
	check "and leaves nothing either" back_to /run/t/before
}
# While the neighbour's session is still there: nothing of the dead zone.
back_to_busy() { wait_for 15 no_session_but 2; }
no_session_but() { vgpuctl list | awk -v zone="$(pod_domid "$1")" '$4 == "running" && $1 != zone { bad = 1 } END { exit bad }'; }
zone_gone() { [ "$(xenstore_nodes)" = "$(sed -n 's/^xenstore //p' /run/t/before)" ]; }
