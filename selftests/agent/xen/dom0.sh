# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# vgpu-init as the first process of a real pod, and vgpu-agentctl in dom0. The pod has an initramfs of vgpu-init, busybox
# and vgpu-front, nothing else: no shell starts it.
# shellcheck disable=SC2016 # expanded in the pod
set -u
# shellcheck source=/dev/null
. /lab/lib.sh
# shellcheck source=selftests/xen/tap.sh
. /lab/script/tap.sh
# shellcheck source=selftests/agent/xen/network.sh
. /lab/script/network.sh
# shellcheck source=selftests/agent/xen/p9.sh
. /lab/script/p9.sh

sock=/run/agent.sock
ctl() { vgpu-agentctl -w 120000 -a $sock "$@"; }

build_initrd() {
	mkdir -p /run/rd/bin /run/rd/sbin /run/rd/dev /run/rd/etc "/run/rd/lib/modules/$(cat /lab/script/release)"
	cp /bin/busybox /run/rd/bin/
	cp /lab/script/vgpu-init /run/rd/init
	# What the kernel runs when the toolstack asks for the pod's end.
	ln -s /init /run/rd/sbin/poweroff
	ln -s /init /run/rd/sbin/reboot
	cp /run/rd/init /run/rd/sbin/usermode-helper
	cp /lab/script/vgpu-front.ko "/run/rd/lib/modules/$(cat /lab/script/release)/"
	for applet in sh cat echo sleep kill id grep wc head ps ls dd stty tty true mount hostname nc date ip ping ping6 dmesg mkdir mv rm ln; do
		ln -s busybox "/run/rd/bin/$applet"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\nsomebody:x:1000:1000::/:/bin/sh\n' >/run/rd/etc/passwd
	(cd /run/rd && find . | cpio -o -H newc) >/run/agent.cpio 2>/dev/null
}

# start_pod [KERNEL-WORD…]; $create makes the domain, $shares is a line of its configuration.
start_pod() {
	cat >/run/agent.cfg <<-CFG
		name = "agent"
		type = "pvh"
		kernel = "$LAB_POD_KERNEL"
		ramdisk = "/run/agent.cpio"
		extra = "console=hvc0 quiet loglevel=4 panic=-1 mitigations=off vgpu.hostname=agent-pod $LAB_POD_WORDS $*"
		memory = 192
		vcpus = 2
		tsc_mode = "native"
		on_poweroff = "destroy"
		on_reboot = "destroy"
		on_crash = "destroy"
		vgpu = [ "$LAB_VGPU" ]
		vif = [ "mac=00:16:3e:00:00:07,script=/lab/script/vif.sh" ]
		${shares:-}
	CFG
	${create:-vgpuctl create} /run/agent.cfg || return 1
	start_hub
}

start_hub() {
	vgpu-agentctl hub --ready /run/agent.up "vchan:$(xl domid agent)" $sock >>/run/agent-hub.log 2>&1 &
	echo $! >/run/agent-hub.pid
}

section_boot() {
	build_initrd
	prepare_share
	shares="p9 = [ \"tag=share,security_model=none,path=$share\" ]"
	check "a pod with vgpu-init as its first process is created" start_pod "$net_words"
	check "its agent answers" wait_for 120 [ -e /run/agent.up ]
	check "and says how it started" ctl info
	said "host connected" "host connected"
	check "nothing went wrong there" sh -c "! vgpu-agentctl -a $sock info | grep ^trouble"
	check "a program runs" ctl run echo hello
	said "and its output comes" hello
	check "vgpu-front is loaded and its device there" wait_for 30 ctl run ls /dev/vgpu
	check "no further module can be loaded" ctl run sh -c '[ "$(cat /proc/sys/kernel/modules_disabled)" = 1 ]'
	check "the pod has its name" ctl run sh -c '[ "$(hostname)" = agent-pod ]'
}

section_programs() {
	check_code 42 "an exit code comes through" ctl run sh -c 'exit 42'
	check_code 137 "a program that is killed says so" ctl run sh -c 'kill -9 $$'
	check_code 127 "one that is not there is told from those that are" ctl run /no/such/program
	said "with its name" "/no/such/program"
	check "a terminal of its own" ctl run -t 30x100 stty size
	said "of the size that was asked for" "30 100"
	check "as many descriptors as programs expect" ctl run sh -c '[ "$(ulimit -Sn) $(ulimit -Hn)" = "1024 524288" ]'
	check "and more for the agent" ctl run grep -q 'Max open files *1048576' /proc/1/limits
	check "1,000 programs, one after the other" soak execs 1000
	check "100 MiB through a program, both ways" soak bulk 100
	check "afterwards the agent remembers none of them" sh -c "[ \$(vgpu-agentctl -a $sock list | wc -l) = 1 ]"
	check "a file is copied in" ctl cp /run/agent.cfg :/a/b/c
	check "and out again, unchanged" sh -c "vgpu-agentctl -a $sock cp :/a/b/c - | cmp - /run/agent.cfg"
	check "the pod's clock is set" ctl time 2000000000
	check "and says so" ctl run sh -c '[ "$(date +%s)" -ge 2000000000 ]'
	ctl run -b -n server sh -c 'while :; do echo served | nc -l -p 7777; done' >/dev/null
	check "a connection to a port in the pod" wait_for 20 sh -c "sleep 1 | vgpu-agentctl -a $sock dial 7777 | grep served"
	check "its server is killed and deleted" ctl delete server kill
}

# Of a program that did not end: what the agent and the kernel know of it.
soak() {
	agent-soak $sock "$@" && return
	ctl list
	ctl run sh -c 'for p in /proc/[0-9]*; do [ -z "$(cat $p/cmdline)" ] || cat $p/stat $p/wchan $p/syscall; done'
	return 1
}

section_limits() {
	ctl events >/run/events 2>&1 &
	events_pid=$!
	wait_for 10 told_start	# it listens
	check_code 137 "a program that takes more memory than its limit is killed" ctl run --cgroup memory.max=16M --cgroup memory.swap.max=0 dd if=/dev/zero of=/dev/null bs=64M count=1
	said "and it is said why" "want of memory"
	check "who listens to the pod's events hears of it" wait_for 10 grep -qE '^oom [^ ]+ [1-9]' /run/events
	check "and of the end" wait_for 10 grep -qE '^exit [^ ]+ 137 oom$' /run/events
	kill $events_pid
	check_fails "one that starts more processes than it may, cannot" ctl run --cgroup pids.max=3 sh -c 'for i in 1 2 3 4 5; do sleep 2 & done; wait'
	check "a process with limits" ctl run -b -n limited --cgroup memory.max=32M --cgroup pids.max=50 --cgroup "cpu.max=50000 100000" sleep 1000
	check "has figures" ctl stats limited
	said "of its memory" "memory.current"
	said "and its limits" "memory.max 33554432"
	check "its limit is changed while it runs" ctl update limited memory.max=48M
	check "to what was said" sh -c "vgpu-agentctl -a $sock stats limited | grep 'memory.max 50331648'"
	check "it is killed" ctl signal limited KILL
	check_code 137 "and seen to be" ctl wait limited 10000
	check "and deleted" ctl delete limited
	check "as is its cgroup" ctl run sh -c '! ls /sys/fs/cgroup/limited'
	check "the pod as a whole has figures" ctl stats
	said "of its memory, too" "meminfo.MemTotal"
}

# An event that there is in any case: a program that ends.
told_start() { ctl run true && grep -q '^exit ' /run/events; }

# A root of its own, with namespaces, made of what there is.
section_containers() {
	check "a root is mounted in the pod" ctl mount tmpfs /c/rw tmpfs size=8m overlay /c/root overlay lowerdir=/,upperdir=/c/rw/upper,workdir=/c/rw/work
	check "a container runs in it" ctl run -b -n box --root /c/root --namespaces mount,pid,uts,ipc,cgroup --hostname box \
		--mount proc:/proc:proc:nosuid --mount /dev:/dev --mask /proc/iomem --readonly /proc/sys --caps chown,kill --no-new-privs \
		--cgroup pids.max=20 sleep 1000
	check "it is the first process there" ctl exec box sh -c '[ "$(cat /proc/1/comm)" = sleep ]'
	check "with its own name" ctl exec box sh -c '[ "$(hostname)" = box ]'
	check "a second program in it, on a terminal of its own" ctl exec box -t 30x100 stty size
	said "of the size that was asked for" "30 100"
	check_code 7 "and without one, input, output and exit code" sh -c "echo typed | vgpu-agentctl -a $sock exec box sh -c 'cat; exit 7'"
	said "come through" typed
	check_fails "what is read-only is that" ctl exec box sh -c 'echo 1 >/proc/sys/kernel/panic'
	check "what is hidden is" ctl exec box sh -c '[ -z "$(cat /proc/iomem)" ]'
	check "its capabilities are those it was given" ctl run --root /c/root --mount proc:/proc:proc --caps chown --no-new-privs grep -q 'CapBnd:.*0000000000000001' /proc/self/status
	check "another user" ctl exec box -u somebody id
	said "by name" "uid=1000"
	echo '{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}' >/run/seccomp.json
	check_fails "a system call that its seccomp profile forbids" ctl run --seccomp /run/seccomp.json mkdir /never
	said "fails as it says" "not permitted"
	check "and its limits are its own" ctl run --rlimit nofile=77:99 sh -c '[ "$(ulimit -Sn) $(ulimit -Hn)" = "77 99" ]'
	check "a device it was allowed" ctl run --devices "c 1:3 rwm" dd if=/dev/null of=/dev/null count=1
	check_fails "and no other" ctl run --devices "c 1:3 rwm" dd if=/dev/zero of=/dev/null count=1
	check_fails "nor more of it than that" ctl run --devices "c 1:3 r" --devices "c *:* m" sh -c 'echo >/dev/null'
	check "it ends" ctl delete box kill
	mount_points
	terminals
	check "its root is unmounted" ctl unmount /c/root
}

# What is mounted in a root, and where its own links lead.
mount_points() {
	check "a bind mount that is read-only with all below it" ctl run --root /c/root --mount /c:/all::rro sh -c '[ -d /all/rw/upper ] && ! echo >/all/rw/no'
	check_fails "an option that there is not" ctl run --root /c/root --mount /c:/all::readonly true
	said "is named" readonly
	check "an image with a link to nowhere" ctl run --root /c/root ln -s /not/there /link
	check "gets a mount there" ctl run --root /c/root --mount proc:/proc:proc --mount tmpfs:/link/x:tmpfs grep -q ' /not/there/x ' /proc/self/mounts
	check "a directory to work in is made in a read-only root" ctl run --root /c/root --readonly-root -d /made/for/it sh -c '[ "$PWD" = /made/for/it ]'
}

# Terminals of a container's own devpts, and rules for devices that name none of them.
terminals() {
	check "a container with a devpts of its own runs" ctl run -b -n own --root /c/root --namespaces mount,pid --mount proc:/proc:proc --mount tmpfs:/dev:tmpfs \
		--mount devpts:/dev/pts:devpts:newinstance,ptmxmode=0666 --devices "c 1:3 rwm" sleep 1000
	check "a second program in it has a terminal" ctl exec own -t 30x100 sh -c 'tty && stty size && grep -q own /proc/self/cgroup'
	said "that it finds there" /dev/pts/0
	said "of the size that was asked for" "30 100"
	check "it ends" ctl delete own kill
	check "the console of a container with a terminal is that" ctl run -t 30x100 --root /c/root --mount proc:/proc:proc --mount tmpfs:/dev:tmpfs \
		--mount devpts:/dev/pts:devpts:newinstance,ptmxmode=0666 --devices "c 1:3 rwm" sh -c '[ /dev/console -ef "$(tty)" ] && echo here >/dev/console'
	said "which can be written to" here
	check "HOME is what the passwd says" ctl run --root /c/root sh -c 'echo "home $HOME"'
	said "of its user" "home /root"
}

section_host() {
	check "a program that waits for its host" ctl run -b -n patient sh -c 'read line; echo "got $line"; exit 5'
	check "the hub is killed" sh -c 'kill -9 "$(cat /run/agent-hub.pid)"'
	rm -f /run/agent.up
	start_hub
	check "another one finds the pod again" wait_for 60 [ -e /run/agent.up ]
	check_code 5 "and the program, and how it ends" sh -c "echo hello | vgpu-agentctl -a $sock attach patient"
	said "with what it still had to say" "got hello"
	check_code 5 "it can still be asked" ctl wait patient 1000
	ctl delete patient
	check "clients that do not speak the protocol are cut off" agent-soak $sock garbage 100
	check "and disturbs nobody" ctl run true
}

section_end() {
	ctl run -b -n last sh -c 'trap "exit 0" TERM; while :; do sleep 0.1; done' >/dev/null
	check "the pod ends when it is told to" ctl shutdown 20000
	check "and its domain with it" wait_for 30 gone
	check "the hub ends by itself" wait_for 20 [ ! -e /run/agent.up ]
	section_shares_end
	shares=
	create=create_with_keys
	check "a pod is created again" start_pod
	check "its agent answers" wait_for 120 [ -e /run/agent.up ]
	section_misconfigured
	check "xl shutdown ends it as well" xl shutdown agent
	check "cleanly" wait_for 60 gone
}
gone() { ! xl domid agent >/dev/null 2>&1; }

# check_code CODE "PROMISE" COMMAND…
check_code() {
	code=$1
	promise=$2
	shift 2
	tap_run "$@"
	got=$?
	if [ $got = "$code" ]; then pass "$promise"; else fail "$promise (exit status $got)" "$tap_log"; fi
}

broker_start
network_modules
for section in ${AGENT_SECTIONS:-boot network shares programs limits containers host end}; do
	echo "# $section"
	"section_$section"
done
[ "$tap_failed" = 0 ] || { tail -n 20 /var/log/xen/console/guest-agent.log; cat /run/agent-hub.log; } >&2
finish
