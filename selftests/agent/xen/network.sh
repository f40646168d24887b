# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# The pod's network on a real vif, as vgpu-init set it up; what it says to wrong settings; the kernel's file systems.
# shellcheck disable=SC2016,SC2154 # expanded in the pod; set by dom0.sh

net_words="vgpu.net=eth0,10.77.0.2/24,fd77::2/64,gw=10.77.0.1,mtu=1400,mac=02:00:00:77:00:02"
net_words="$net_words vgpu.dns=10.77.0.1,fd77::1 vgpu.search=pods.example,example vgpu.dnsopt=ndots:5"

network_modules() {
	while read -r net_module; do
		insmod "/lab/more-modules/$net_module.ko" || echo "# insmod $net_module failed"
	done </lab/more-modules/order
}

section_network() {
	check "the pod's interface has its address" wait_for 10 ctl run sh -c 'ip addr show eth0 | grep "inet 10.77.0.2/24"'
	check "and the other one" ctl run sh -c 'ip addr show eth0 | grep "inet6 fd77::2/64"'
	check "its MTU and MAC address" ctl run sh -c 'ip link show eth0 | tr "\n" " " | grep "UP.*mtu 1400.*ether 02:00:00:77:00:02"'
	check "its gateway" ctl run sh -c 'ip route | grep "^default via 10.77.0.1 dev eth0"'
	check "loopback is up" ctl run sh -c 'ip addr show lo | grep "inet 127.0.0.1/8"'
	printf 'search pods.example example\nnameserver 10.77.0.1\nnameserver fd77::1\noptions ndots:5\n' >/run/resolv.wanted
	check "resolv.conf is as it was asked for" sh -c "vgpu-agentctl -a $sock cp :/etc/resolv.conf - | cmp - /run/resolv.wanted"
	check "dom0 reaches the pod" wait_for 20 ping -c 1 -W 2 10.77.0.2
	check "over IPv6, too" wait_for 20 ping6 -c 1 -W 2 fd77::2
	check "the pod reaches dom0" ctl run ping -c 3 -W 5 10.77.0.1
	ctl run -b -n listener sh -c 'while :; do echo "from the pod" | nc -l -p 7778; done' >/dev/null
	check "dom0 connects to a listener in the pod" wait_for 6 timeout 10 sh -c "sleep 1 | nc 10.77.0.2 7778 | grep 'from the pod'"
	check "so does the agent, for port forwarding" wait_for 8 sh -c "sleep 1 | vgpu-agentctl -a $sock dial 10.77.0.2:7778 | grep 'from the pod'"
	ctl delete listener kill
	check_fails "where nobody listens it cannot" ctl dial 10.77.0.2:7779
	said "and says so" refused
	(while :; do echo "from dom0" | timeout 30 nc -l -p 7780; done) &
	net_pid=$!
	check "the pod connects to a listener in dom0" wait_for 8 ctl run sh -c 'sleep 1 | nc 10.77.0.1 7780 | grep "from dom0"'
	kill $net_pid
	dd if=/dev/urandom of=/run/bulk bs=1M count=8 2>/dev/null
	ctl run -b -n sink sh -c 'nc -l -p 7781 >/bulk' >/dev/null
	check "8 MiB to the pod" wait_for 5 timeout 200 sh -c 'nc 10.77.0.2 7781 </run/bulk'
	check "arrive unchanged" wait_for 8 sh -c "vgpu-agentctl -a $sock cp :/bulk - | cmp - /run/bulk"
	ctl delete sink kill >/dev/null 2>&1
	ctl run sh -c ": >/bulk"
	check_fails "an interface that is not there" ctl network eth9 10.77.0.3/24
	said "is named" "no network interface eth9"
	check_fails "an address that is none" ctl network eth0 10.77.0.300/24
	said "is named" "10.77.0.300/24: not ADDRESS/PREFIX"
	check_fails "a gateway of the other kind" ctl network eth0 10.77.0.4/24 fe80::zz
	said "is named" "fe80::zz"
	check "what was set stays" ctl run ping -c 1 -W 5 10.77.0.1
	section_filesystems
}

section_filesystems() {
	for net_type in 9p overlay squashfs erofs ext4 fuse tmpfs; do
		check "the pod's kernel has $net_type" ctl run grep -qw "$net_type" /proc/filesystems
	done
	check "and 9p over Xen" ctl run ls /sys/bus/xen/drivers/9pfs
	# The kernel says EINVAL to both, and to its log what it did not find.
	check_fails "a transport it has not" ctl mount tag /nine 9p trans=tcp
	check "is told as such" ctl run sh -c 'dmesg | grep "not find request transport: tcp"'
}

# Settings from xenstore: there before the domain runs, and wrong.
create_with_keys() {
	vgpuctl create -p "$1" || return 1
	net_keys=/local/domain/$(xl domid agent)/vm-data/vgpu
	xenstore-write "$net_keys/net" "eth0,10.77.0.5/33,gw=10.77.0.999,mtu=much" "$net_keys/dns" "10.77.0.1" \
		"$net_keys/search" "by.xenstore" "$net_keys/dnsopt" "ndots:2" &&
		xl unpause agent
}

section_misconfigured() {
	check "a pod with a wrong network starts" ctl info
	said "says which address is wrong" "trouble.*10.77.0.5/33: not ADDRESS/PREFIX"
	said "which gateway" "trouble.*10.77.0.999"
	said "which MTU" "trouble.*mtu=much"
	check "and does what was right" sh -c "vgpu-agentctl -a $sock cp :/etc/resolv.conf - | grep 'search by.xenstore'"
	check "its host repairs it" ctl network eth0 10.77.0.5/24 10.77.0.1
	check "and reaches it" wait_for 20 ping -c 1 -W 2 10.77.0.5
}
