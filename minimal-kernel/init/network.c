// SPDX-License-Identifier: Apache-2.0
/* The pod's network: links, addresses and routes over rtnetlink; host name and resolv.conf. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <linux/rtnetlink.h>
#include <unistd.h>

#include "init.h"

#define A(name)	VGPU_AGENT_A_##name

struct message {
	struct nlmsghdr header;
	char body[512];
};

/* Everything in here is a few addresses: it cannot come to the end of @body. */
static void put(struct message *m, uint16_t type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)m + NLMSG_ALIGN(m->header.nlmsg_len));

	a->rta_type = type;
	a->rta_len = RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	m->header.nlmsg_len = NLMSG_ALIGN(m->header.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

static void *begin(struct message *m, uint16_t type, uint16_t flags, size_t len)
{
	memset(m, 0, sizeof(*m));
	m->header.nlmsg_len = NLMSG_LENGTH(len);
	m->header.nlmsg_type = type;
	m->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	return NLMSG_DATA(&m->header);
}

/* Sends, and waits for the kernel's answer, which comes at once. */
static int talk(struct message *m)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), error = -EIO;
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[1024];
	} answer;

	if (fd < 0)
		return -1;
	if (send(fd, m, m->header.nlmsg_len, 0) >= 0 && recv(fd, &answer, sizeof(answer), 0) >= (ssize_t)NLMSG_LENGTH(sizeof(int)) &&
	    answer.header.nlmsg_type == NLMSG_ERROR)
		error = answer.error.error;
	close(fd);
	errno = -error;
	return error ? -1 : 0;
}

struct address {
	int family, len, prefix;
	unsigned char bytes[16];
};

static bool parse_address(const char *text, struct address *a)
{
	char copy[64], *slash, *end;

	if (strlen(text) >= sizeof(copy))
		return false;
	strcpy(copy, text);
	slash = strchr(copy, '/');
	if (slash)
		*slash++ = 0;
	a->family = strchr(copy, ':') ? AF_INET6 : AF_INET;
	a->len = a->family == AF_INET ? 4 : 16;
	a->prefix = slash ? strtol(slash, &end, 10) : a->len * 8;
	return inet_pton(a->family, copy, a->bytes) == 1 && (!slash || (*slash && !*end)) && a->prefix >= 0 && a->prefix <= a->len * 8;
}

static int interface_index(const char *name, struct failure *f)
{
	unsigned int index = if_nametoindex(name);

	return index ? (int)index : refuse(f, ENODEV, "there is no network interface %.32s", name);
}

/* A driver refuses to set the MAC address of a link that is up, even to what it is. */
static bool has_mac(const char *name, const struct ether_addr *mac)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { 0 };
	bool same;

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%.15s", name);
	same = fd >= 0 && !ioctl(fd, SIOCGIFHWADDR, &request) && !memcmp(request.ifr_hwaddr.sa_data, mac, sizeof(*mac));
	if (fd >= 0)
		close(fd);
	return same;
}

static int link_set(int index, const char *name, const char *mac, uint32_t mtu, struct failure *f)
{
	struct ether_addr *address;
	struct ifinfomsg *info;
	struct message m;

	info = begin(&m, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = index;
	if (mac) {
		address = ether_aton(mac);
		if (!address)
			return refuse(f, EINVAL, "%.40s: not a MAC address", mac);
		if (has_mac(name, address))
			mac = NULL;
		else
			put(&m, IFLA_ADDRESS, address, sizeof(*address));
	}
	if (mtu)
		put(&m, IFLA_MTU, &mtu, sizeof(mtu));
	if ((mac || mtu) && talk(&m))
		return fail(f, "cannot set MAC address or MTU of %.32s", name);
	info = begin(&m, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = index;
	info->ifi_flags = info->ifi_change = IFF_UP;
	return talk(&m) ? fail(f, "cannot bring %.32s up", name) : 0;
}

static int address_add(int index, const char *text, struct failure *f)
{
	struct ifaddrmsg *info;
	struct address a;
	struct message m;

	if (!parse_address(text, &a))
		return refuse(f, EINVAL, "%.64s: not ADDRESS/PREFIX", text);
	info = begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*info));
	info->ifa_family = a.family;
	info->ifa_prefixlen = a.prefix;
	info->ifa_index = index;
	/* The host chose the address: there is nobody to detect a duplicate of. */
	info->ifa_flags = a.family == AF_INET6 ? IFA_F_NODAD : 0;
	put(&m, IFA_LOCAL, a.bytes, a.len);
	put(&m, IFA_ADDRESS, a.bytes, a.len);
	return talk(&m) ? fail(f, "cannot add the address %.64s", text) : 0;
}

static int route_add(int index, const char *to, const char *gateway, struct failure *f)
{
	struct address destination = { .family = AF_INET }, via;
	struct rtmsg *info;
	struct message m;

	if ((to && !parse_address(to, &destination)) || (gateway && !parse_address(gateway, &via)))
		return refuse(f, EINVAL, "%.64s via %.64s: not a route", to ?: "default", gateway ?: "nothing");
	if (!to && gateway)
		destination.family = via.family;
	if (gateway && destination.family != via.family)
		return refuse(f, EINVAL, "%.64s via %.64s: two kinds of address", to, gateway);
	info = begin(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*info));
	info->rtm_family = destination.family;
	info->rtm_table = RT_TABLE_MAIN;
	info->rtm_protocol = RTPROT_BOOT;
	info->rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	info->rtm_type = RTN_UNICAST;
	/* A gateway beyond every subnet, as some container networks have it. */
	info->rtm_flags = gateway ? RTNH_F_ONLINK : 0;
	if (to && destination.prefix) {
		info->rtm_dst_len = destination.prefix;
		put(&m, RTA_DST, destination.bytes, destination.len);
	}
	if (gateway)
		put(&m, RTA_GATEWAY, via.bytes, via.len);
	put(&m, RTA_OIF, &index, sizeof(index));
	return talk(&m) ? fail(f, "cannot add the route to %.64s via %.64s", to ?: "default", gateway ?: "nothing") : 0;
}

int network_loopback(struct failure *f)
{
	int index = interface_index("lo", f);

	return index < 0 ? -1 : link_set(index, "lo", NULL, 0, f);
}

/* ---- The attributes */

static int apply_interface(const struct wire_attr *nest, struct failure *f)
{
	const char *name = NULL, *mac = NULL, *address;
	struct wire_reader r = wire_get_nest(nest);
	struct wire_attr a;
	uint32_t mtu = 0;
	int got, index;

	while ((got = wire_next(&r, &a)) > 0)
		if (!(a.type == A(LABEL) ? wire_get_string(&a, &name) : a.type == A(MAC) ? wire_get_string(&a, &mac) :
		      a.type == A(MTU) ? wire_get_u32(&a, &mtu) : a.type == A(NET_ADDRESS) ? wire_get_string(&a, &address) : false))
			return refuse(f, EINVAL, "an interface's attribute %u is unknown or not of its type", a.type);
	if (got < 0 || !name)
		return refuse(f, EINVAL, "an interface is malformed or has no name");
	index = interface_index(name, f);
	if (index < 0 || link_set(index, name, mac, mtu, f))
		return -1;
	r = wire_get_nest(nest);
	while (wire_next(&r, &a) > 0)
		if (a.type == A(NET_ADDRESS) && wire_get_string(&a, &address) && address_add(index, address, f))
			return -1;
	return 0;
}

static int apply_route(const struct wire_attr *nest, struct failure *f)
{
	const char *name = NULL, *to = NULL, *gateway = NULL;
	struct wire_reader r = wire_get_nest(nest);
	struct wire_attr a;
	int got, index;

	while ((got = wire_next(&r, &a)) > 0)
		if (!(a.type == A(LABEL) ? wire_get_string(&a, &name) : a.type == A(NET_ADDRESS) ? wire_get_string(&a, &to) :
		      a.type == A(GATEWAY) ? wire_get_string(&a, &gateway) : false))
			return refuse(f, EINVAL, "a route's attribute %u is unknown or not of its type", a.type);
	if (got < 0 || !name)
		return refuse(f, EINVAL, "a route is malformed or has no interface");
	index = interface_index(name, f);
	return index < 0 ? -1 : route_add(index, to, gateway, f);
}

/* A line of resolv.conf: nothing that begins another one, and a name server is an address (with %INTERFACE for fe80::). */
static int check_resolv(uint16_t type, const char *text, struct failure *f)
{
	char copy[64], bytes[16];

	if (!*text || strpbrk(text, "\n\r"))
		return refuse(f, EINVAL, "\"%.100s\" cannot be in resolv.conf", text);
	if (type != A(NAMESERVER))
		return 0;
	snprintf(copy, sizeof(copy), "%.60s", text);
	copy[strcspn(copy, "%")] = 0;
	if (inet_pton(strchr(copy, ':') ? AF_INET6 : AF_INET, copy, bytes) != 1)
		return refuse(f, EINVAL, "%.100s: not the address of a name server", text);
	return 0;
}

static int write_resolv(struct wire_reader r, struct failure *f)
{
	const char *text, *search = "search";
	struct wire_attr a;
	bool more = false;
	FILE *file;

	mkdir("/etc", 0755);
	file = fopen("/etc/resolv.conf.new", "we");
	if (!file)
		return fail(f, "cannot write /etc/resolv.conf");
	for (struct wire_reader again = r; wire_next(&again, &a) > 0;)
		if (a.type == A(SEARCH) && wire_get_string(&a, &text)) {
			fprintf(file, "%s %s", search, text);
			search = "";
			more = true;
		}
	if (more)
		fprintf(file, "\n");
	while (wire_next(&r, &a) > 0) {
		if (!wire_get_string(&a, &text))
			continue;
		if (a.type == A(NAMESERVER))
			fprintf(file, "nameserver %s\n", text);
		else if (a.type == A(RESOLV_OPTION))
			fprintf(file, "options %s\n", text);
	}
	if (fclose(file) || rename("/etc/resolv.conf.new", "/etc/resolv.conf"))
		return fail(f, "cannot write /etc/resolv.conf");
	return 0;
}

int network_apply(const uint8_t *payload, size_t len, struct failure *f)
{
	struct wire_reader r = wire_reader(payload, len);
	const char *text;
	struct wire_attr a;
	bool resolv = false;
	int got, result = 0;

	while (!result && (got = wire_next(&r, &a)) > 0)
		switch (a.type) {
		case A(HOSTNAME):
			if (!wire_get_string(&a, &text))
				return refuse(f, EINVAL, "the host name is no string");
			if (sethostname(text, strlen(text)))
				return fail(f, "cannot set the host name %.100s", text);
			break;
		case A(INTERFACE):
			result = apply_interface(&a, f);
			break;
		case A(ROUTE):
			result = apply_route(&a, f);
			break;
		case A(NAMESERVER):
		case A(SEARCH):
		case A(RESOLV_OPTION):
			if (!wire_get_string(&a, &text))
				return refuse(f, EINVAL, "a line for resolv.conf is no string");
			result = check_resolv(a.type, text, f);
			resolv = true;
			break;
		default:
			return refuse(f, ENOTSUP, "a network has no attribute %u, or this agent does not know it", a.type);
		}
	if (result)
		return result;
	if (got < 0)
		return refuse(f, EINVAL, "malformed attributes");
	return resolv ? write_resolv(wire_reader(payload, len), f) : 0;
}

void network_request(struct call *c, const uint8_t *payload, size_t len)
{
	struct failure f = { 0 };

	if (network_apply(payload, len, &f))
		call_fail(c, &f);
	else
		call_reply(c);
}

/* ---- At the start: "vgpu.net=eth0,10.1.0.2/24,gw=10.1.0.1,mtu=1400,mac=…" and lists for dns, search and dnsopt. */

static void put_list(struct wire_queue *q, const struct config *c, const char *key, uint16_t attr)
{
	char *list = config_get(c, key), *word, *rest;

	for (word = list ? strtok_r(list, ",", &rest) : NULL; word; word = strtok_r(NULL, ",", &rest))
		wire_string(q, attr, word);
	free(list);
}

/* Each part for itself: what is wrong with one is said, and the others are there. */
static void apply_part(struct wire_queue *q)
{
	struct failure f = { 0 };

	if (q->len && network_apply(q->data + q->start, q->len, &f))
		trouble("%s", f.text);
	wire_free(q);
}

static void apply_net(char *text)
{
	char *name, *word, *rest, *end, *gateway = NULL;
	struct wire_queue q = { 0 };
	unsigned long mtu;
	size_t nest;

	name = strtok_r(text, ",", &rest);
	if (!name)
		return;
	for (int i = 0; i < 200 && !if_nametoindex(name); i++)
		usleep(10000);	/* its backend connects while the pod starts */
	nest = wire_nest(&q, A(INTERFACE));
	wire_string(&q, A(LABEL), name);
	while ((word = strtok_r(NULL, ",", &rest)))
		if (!strncmp(word, "gw=", 3)) {
			gateway = word + 3;
		} else if (!strncmp(word, "mtu=", 4)) {
			mtu = strtoul(word + 4, &end, 10);
			if (*end || !mtu || mtu > 65535)
				trouble("vgpu.net: %.40s: not an MTU, which stays as it was", word);
			else
				wire_u32(&q, A(MTU), mtu);
		} else if (!strncmp(word, "mac=", 4)) {
			wire_string(&q, A(MAC), word + 4);
		} else {
			wire_string(&q, A(NET_ADDRESS), word);
		}
	wire_nest_end(&q, nest);
	apply_part(&q);
	if (!gateway)
		return;
	nest = wire_nest(&q, A(ROUTE));
	wire_string(&q, A(LABEL), name);
	wire_string(&q, A(GATEWAY), gateway);
	wire_nest_end(&q, nest);
	apply_part(&q);
}

void boot_network(struct config *c)
{
	struct wire_queue q = { 0 };
	struct failure f = { 0 };
	char *net = config_get(c, "net");

	if (network_loopback(&f))
		trouble("%s", f.text);
	if (c->hostname)
		wire_string(&q, A(HOSTNAME), c->hostname);
	apply_part(&q);
	if (net)
		apply_net(net);
	put_list(&q, c, "dns", A(NAMESERVER));
	put_list(&q, c, "search", A(SEARCH));
	put_list(&q, c, "dnsopt", A(RESOLV_OPTION));
	apply_part(&q);
	free(net);
	phase_done("network");
}
