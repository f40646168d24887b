# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# A folder of dom0 in the pod: 9p over Xen, served by the QEMU that libxenlight starts for p9= in the configuration.
# shellcheck disable=SC2012,SC2016,SC2154 # the same ls at both ends; expanded in the pod; set by dom0.sh

share=/run/share
nine="trans=xen,version=9p2000.L"

# What the pod's start_pod puts into its configuration.
prepare_share() {
	mkdir -p $share/many $share/deep/er
	echo "from dom0" >$share/deep/er/hello
	for share_n in $(seq 1 150); do echo "$share_n" >"$share/many/a file, number $share_n"; done
	dd if=/dev/urandom of=$share/bulk bs=1M count=4 2>/dev/null
	echo secret >/run/secret
	ln -s /run/secret $share/link
	ln -s deep/er/hello $share/inner
}
server() { pidof xen-qemu-system-i386; }
same() { vgpu-agentctl -a "$sock" run cat "$1" </dev/null | cmp - "$2"; }
lists() { vgpu-agentctl -a "$sock" run ls -1 "$1" </dev/null >/run/t.listed && ls -1 "$2" | cmp - /run/t.listed; }

section_shares() {
	check "a server runs for the pod's share" server
	check_fails "a tag that nobody serves" ctl mount nosuchtag /nine 9p $nine
	check "the pod mounts the share" ctl mount share /nine 9p $nine
	check "reads a file of dom0's" ctl run cat /nine/deep/er/hello
	said "with its content" "^from dom0$"
	check "lists a folder of 150 files" lists /nine/many $share/many
	check "4 MiB arrive unchanged" same /nine/bulk $share/bulk
	check "and go back" ctl run sh -c 'cat /nine/bulk >/nine/back'
	check "unchanged" cmp $share/bulk $share/back
	echo "changed in dom0" >$share/deep/er/hello
	check "what dom0 changes the pod sees" ctl run grep -x "changed in dom0" /nine/deep/er/hello
	check "and dom0 what the pod appends" ctl run sh -c 'echo "from the pod" >>/nine/deep/er/hello'
	check "at its place" [ "$(tr '\n' '+' <$share/deep/er/hello)" = "changed in dom0+from the pod+" ]
	check "the pod makes folders, renames and removes" ctl run sh -c \
		'mkdir /nine/made && mv /nine/back /nine/made/moved && rm "/nine/many/a file, number 7" && ln -s made/moved /nine/pointer'
	check "and dom0 sees that" sh -c "cmp $share/bulk $share/made/moved && [ ! -e $share/back ] &&
		[ ! -e '$share/many/a file, number 7' ] && [ \"\$(readlink $share/pointer)\" = made/moved ]"
	check "four programs write at once" ctl run sh -c \
		'for n in 1 2 3 4; do (i=0; while [ $i -lt 50 ]; do echo "$n $i" >>/nine/log$n; i=$((i + 1)); done) & done; wait'
	check "and nothing is mixed up" sh -c "for n in 1 2 3 4; do
		i=0; while [ \$i -lt 50 ]; do echo \"\$n \$i\"; i=\$((i + 1)); done | cmp - $share/log\$n || exit 1; done"
	check "a link within the share leads to its target" ctl run grep "from the pod" /nine/inner
	check_fails "one that leads out leads into the pod, not into dom0" ctl run cat /nine/link
	check_fails "a second mount of it is refused" ctl mount share /ten 9p $nine
	said "as busy" "busy"
	check "and does the first no harm" same /nine/bulk $share/bulk
	check "it is unmounted" ctl unmount /nine
	check "a container has it as a mount of its own" ctl run --namespaces mount --mount "share:/ten:9p:$nine" \
		sh -c 'cat /ten/made/moved >/ten/again && grep -x "changed in dom0" /ten/deep/er/hello'
	check "and what it wrote is in dom0" cmp $share/bulk $share/again
	check "with the container its mount has gone" ctl mount share /nine 9p ro,$nine
	check_fails "nothing is written where it is read-only" ctl run sh -c 'echo x >/nine/more'
	check "but read" same /nine/bulk $share/bulk
}

# The pod has ended, with the share mounted.
section_shares_end() {
	check "the share's server ends with its pod" wait_for 20 no_server
	check "and nothing of the share is left in xenstore" no_share_nodes
}
no_server() { ! server; }
no_share_nodes() { ! xenstore-ls -f / 2>/dev/null | grep 9pfs; }
