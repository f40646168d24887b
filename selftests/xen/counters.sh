# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# What is held at the moment, by both modules, the broker and xenstore. All of it must come back.

# gauges_of COMMAND…: by the command that runs something where vgpu-back is
gauges_of() {
	"$@" grep -E '^(devices|sessions|sessions_accepted|pages_lent|pages_returning|grants|event_channels|events_queued) ' \
		/sys/kernel/debug/vgpu-back/counters
}
gauges_back() { gauges_of env; }
gauges_front() {
	pod_run "$1" grep -E '^(sessions|pages_mapped|pages_leaked|event_channels|connected) ' \
		/sys/kernel/debug/vgpu-front/counters </dev/null
}
# The sum of what the broker says is used of device memory, in MiB, and its sessions: "0.0 0".
broker_use() {
	VGPU_RUN_DIR=/run/vgpu vgpuctl list --json | tr ',{' '\n' |
		awk -F: '/"memory_used"/ { used += $2 } /"session"/ { n++ } END { printf "%d %d\n", used, n }'
}
xenstore_nodes() { xenstore-ls -f /local/domain/0/backend 2>/dev/null | grep -c /vgpu/; }

held() {
	gauges_back
	gauges_front 1
	gauges_front 2
	echo "broker $(broker_use)"
	echo "xenstore $(xenstore_nodes)"
}
# back_to FILE [COMMAND]: until COMMAND (held) says what is in FILE, at most 15 s
back_to() {
	back_tries=75
	while "${2:-held}" >/run/t/now; ! cmp -s "$1" /run/t/now; do
		back_tries=$((back_tries - 1))
		[ $back_tries -gt 0 ] || { diff "$1" /run/t/now; return 1; }
		sleep 0.2
	done
}

# The worker that serves a pod's only session.
worker_of() { vgpuctl list | awk -v zone="$(pod_domid "$1")" '$1 == zone && $4 == "running" { print $5 }'; }
sessions_of() { vgpuctl list | awk -v zone="$(pod_domid "$1")" '$1 == zone && $4 == "running"' | wc -l; }
no_sessions() { [ "$(broker_use)" = "0 0" ]; }
