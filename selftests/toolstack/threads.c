// SPDX-License-Identifier: Apache-2.0
/*
 * libvgpuxl from several threads at once: each makes domains with a disk and a vgpu, looks, and destroys them, while
 * one more lists all the time. TAP; runs in the lab's dom0.
 *
 *	threads KERNEL DISK-FILE [THREADS [CYCLES]]
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vgpuxl.h"

static const char *kernel, *disk;
static int nthreads = 3, cycles = 2;
static volatile int stop;

struct thread {
	pthread_t id;
	int number, done;
	struct vgpuxl_error e;
};

static void *churn(void *arg)
{
	struct thread *t = arg;
	struct vgpuxl_config config = { .memory = 48, .kernel = kernel, .cmdline = "console=hvc0 quiet rootwait root=/dev/none" };
	char name[32], spec[512];
	const char *disks[] = { spec };
	struct vgpuxl_entry entry;

	config.disks = disks;
	config.ndisks = 1;
	config.entries = &entry;
	config.nentries = 1;
	snprintf(spec, sizeof(spec), "format=raw,vdev=xvda,access=ro,target=%s", disk);
	vgpuxl_entry_parse("memory=16", &entry, &t->e);
	for (int i = 0; i < cycles; i++) {
		enum vgpuxl_reason reason;
		uint32_t domid;

		snprintf(name, sizeof(name), "thread%d-%d", t->number, i);
		config.name = name;
		/* Every other one never runs. */
		if (vgpuxl_create(&config, i % 2 ? VGPUXL_CREATE_PAUSED : 0, &domid, &t->e))
			return NULL;
		if (vgpuxl_wait(domid, 0, -1, &reason, &t->e) != -ETIMEDOUT || vgpuxl_destroy(domid, &t->e))
			return NULL;
		if (vgpuxl_wait(domid, 10000, -1, &reason, &t->e) || reason != VGPUXL_DESTROYED)
			return NULL;
		t->done++;
	}
	return NULL;
}

static void *look(void *arg)
{
	struct thread *t = arg;

	while (!stop) {
		struct vgpuxl_domain *domains;
		unsigned int n;

		if (vgpuxl_list_domains(&domains, &n, &t->e))
			return NULL;
		free(domains);
		t->done++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct thread threads[16] = { 0 }, looker = { 0 };
	int good = 0;

	if (argc < 3) {
		fprintf(stderr, "usage: threads KERNEL DISK-FILE [THREADS [CYCLES]]\n");
		return 2;
	}
	kernel = argv[1];
	disk = argv[2];
	if (argc > 3)
		nthreads = atoi(argv[3]) > 16 ? 16 : atoi(argv[3]);
	if (argc > 4)
		cycles = atoi(argv[4]);
	pthread_create(&looker.id, NULL, look, &looker);
	for (int i = 0; i < nthreads; i++) {
		threads[i].number = i;
		pthread_create(&threads[i].id, NULL, churn, &threads[i]);
	}
	for (int i = 0; i < nthreads; i++) {
		pthread_join(threads[i].id, NULL);
		good += threads[i].done == cycles;
		if (threads[i].done != cycles)
			printf("# thread %d, cycle %d: %s\n", i, threads[i].done, threads[i].e.text);
	}
	stop = 1;
	pthread_join(looker.id, NULL);
	printf("%sok 1 - %d threads made and destroyed %d domains each\n", good == nthreads ? "" : "not ", nthreads, cycles);
	printf("%sok 2 - one more listed them %d times meanwhile\n", looker.done && !looker.e.err ? "" : "not ", looker.done);
	printf("1..2\n");
	return good != nthreads || !looker.done || looker.e.err;
}
