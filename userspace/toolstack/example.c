// SPDX-License-Identifier: Apache-2.0
/*
 * libvgpuxl, shown: make a pod with a vgpu, give it a disk and a second device while it runs, wait for its end.
 *
 *	cc -o example example.c -lvgpuxl
 *	./example NAME KERNEL RAMDISK "KERNEL COMMAND LINE" [ENTRY [DISK-FILE]]
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vgpuxl.h"

static int fail(const char *what, const struct vgpuxl_error *e)
{
	fprintf(stderr, "example: %s: %s\n", what, e->text);
	return 1;
}

/* Any thread may call the library: this one waits, the other one goes on. */
static void *wait_for_end(void *arg)
{
	uint32_t domid = *(uint32_t *)arg;
	enum vgpuxl_reason reason;
	struct vgpuxl_error e;

	if (vgpuxl_wait(domid, -1, -1, &reason, &e))
		fail("wait", &e);
	else
		printf("domain %u has ended: %s\n", domid, vgpuxl_reason_name(reason));
	return NULL;
}

static void list(void)
{
	struct vgpuxl_domain *domains;
	struct vgpuxl_error e;
	unsigned int n;

	if (vgpuxl_list_domains(&domains, &n, &e)) {
		fail("list", &e);
		return;
	}
	for (unsigned int i = 0; i < n; i++)
		printf("domain %u (%s): %llu MiB, %u vCPUs, %u vgpu devices%s\n", domains[i].domid, domains[i].name,
		       (unsigned long long)domains[i].memory_kib >> 10, domains[i].vcpus, domains[i].devices,
		       domains[i].ended ? ", has ended" : "");
	free(domains);
}

int main(int argc, char **argv)
{
	struct vgpuxl_config config = { .memory = 192, .vcpus = 1, .tsc_mode = "native" };
	struct vgpuxl_entry entry;
	struct vgpuxl_error e;
	pthread_t waiter;
	uint32_t domid;
	int ret = 0;

	if (argc < 5) {
		fprintf(stderr, "usage: example NAME KERNEL RAMDISK CMDLINE [ENTRY [DISK-FILE]]\n");
		return 2;
	}
	config.name = argv[1];
	config.kernel = argv[2];
	config.ramdisk = argv[3];
	config.cmdline = argv[4];
	if (vgpuxl_entry_parse(argc > 5 ? argv[5] : "gpu=0,memory=64", &entry, &e))
		return fail("entry", &e);
	config.entries = &entry;
	config.nentries = 1;

	if (vgpuxl_create(&config, 0, &domid, &e))
		return fail("create", &e);
	printf("domain %u runs\n", domid);
	pthread_create(&waiter, NULL, wait_for_end, &domid);
	if (argc > 6) {
		char spec[512];

		snprintf(spec, sizeof(spec), "format=raw,vdev=xvdz,access=ro,target=%s", argv[6]);
		if (vgpuxl_disk_attach(domid, spec, &e))
			ret = fail("disk-attach", &e);
		else
			printf("disk attached\n");
		list();
		if (!ret && vgpuxl_disk_detach(domid, "xvdz", true, &e))
			ret = fail("disk-detach", &e);
		else if (!ret)
			printf("disk detached\n");
	} else {
		list();
	}
	if (vgpuxl_destroy(domid, &e))
		ret = fail("destroy", &e);
	pthread_join(waiter, NULL);
	return ret;
}
