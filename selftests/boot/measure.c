// SPDX-License-Identifier: Apache-2.0
/*
 * boot-measure DOMID: in the lab's dom0, starts a paused pod and says when what happened, in nanoseconds since then.
 * Under QEMU's -icount a nanosecond is an instruction of the whole machine: Xen, dom0 and pod together.
 *
 *	vgpu NS		vgpu-back has connected to the pod's frontend
 *	agent NS	the pod's agent has answered
 *	phase NS LABEL	of the pod's start, by the pod's own clock
 *
 * The channel is there before the pod runs, as a toolstack has it.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenstore.h>

#include "vgpuagent.h"

#define LIMIT_MS 120000

static struct vgpu_agent *agent;
static struct vgpu_agent_error error;
static uint64_t agent_ns, vgpu_ns;
static int domid;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void *wait_for_agent(void *unused)
{
	char address[32];

	snprintf(address, sizeof(address), "vchan:%d", domid);
	agent = vgpu_agent_open(address, LIMIT_MS, &error);
	agent_ns = now();
	return NULL;
}

/* XenbusStateConnected, seen by a watch: a poll would cost instructions of its own. */
static void *wait_for_vgpu(void *store)
{
	struct pollfd pfd = { .fd = xs_fileno(store), .events = POLLIN };
	char path[80];

	snprintf(path, sizeof(path), "/local/domain/0/backend/vgpu/%d/0/state", domid);
	if (!xs_watch(store, path, "state"))
		return NULL;
	while (poll(&pfd, 1, LIMIT_MS) > 0) {
		unsigned int len;
		char **event = xs_read_watch(store, &len), *state = xs_read(store, XBT_NULL, path, &len);
		int connected = state && atoi(state) == 4;

		free(event);
		free(state);
		if (connected) {
			vgpu_ns = now();
			return NULL;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	xc_interface *xc = xc_interface_open(NULL, NULL, 0);
	struct xs_handle *store = xs_open(0);
	const struct vgpu_agent_info *info;
	pthread_t threads[2];
	uint64_t start;

	domid = argc == 2 ? atoi(argv[1]) : 0;
	if (!xc || !store || domid <= 0) {
		fprintf(stderr, "usage: boot-measure DOMID (in dom0)\n");
		return 2;
	}
	pthread_create(&threads[0], NULL, wait_for_agent, NULL);
	pthread_create(&threads[1], NULL, wait_for_vgpu, store);
	sleep(1);	/* both wait now */
	start = now();
	if (xc_domain_unpause(xc, domid)) {
		perror("boot-measure: the domain cannot be unpaused");
		return 1;
	}
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	if (!agent || !vgpu_ns) {
		fprintf(stderr, "boot-measure: %s\n", agent ? "vgpu-back did not connect" : error.text);
		return 1;
	}
	printf("vgpu %llu\nagent %llu\n", (unsigned long long)(vgpu_ns - start), (unsigned long long)(agent_ns - start));
	info = vgpu_agent_info(agent);
	for (unsigned int i = 0; i < info->phase_count; i++)
		printf("phase %llu %s\n", (unsigned long long)info->phases[i].ns, info->phases[i].label);
	for (unsigned int i = 0; i < info->trouble_count; i++)
		printf("trouble %s\n", info->troubles[i]);
	vgpu_agent_close(agent);
	return 0;
}
