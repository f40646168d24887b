// SPDX-License-Identifier: Apache-2.0
/* MOUNT and UNMOUNT in the pod itself: by a child, since a device may take its time. */
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "init.h"

#define DEVICE_WAIT_MS	10000

struct mount_job {
	struct call *call;	/* NULL: cancelled; the mount is done all the same */
	struct list mounts;
	uint8_t *payload;
	const char *path;	/* to unmount */
};

static void job_cancel(struct call *c, bool lost)
{
	((struct mount_job *)c->object)->call = NULL;
	if (!lost)
		call_failf(c, ECANCELED, "cancelled; what had begun is carried through");
}

static const struct call_ops job_ops = { .cancel = job_cancel };

static void job_done(void *arg, const struct failure *f)
{
	struct mount_job *job = arg;

	if (job->call && f->code)
		call_fail(job->call, f);
	else if (job->call)
		call_reply(job->call);
	free(job->mounts.items);
	free(job->payload);
	free(job);
}

/* A disk that was just plugged in appears when its backend has connected. */
static int device_there(const char *path, struct failure *f)
{
	for (int ms = 0; access(path, F_OK); ms += 5) {
		if (ms >= DEVICE_WAIT_MS)
			return refuse(f, ENXIO, "%.200s did not appear within %d s", path, DEVICE_WAIT_MS / 1000);
		usleep(5000);
	}
	return 0;
}

static int mount_all(void *arg, struct failure *f)
{
	struct mount_job *job = arg;

	for (size_t i = 0; i < job->mounts.count; i++) {
		const struct spec_mount *m = LIST_ITEM(&job->mounts, struct spec_mount, i);

		if (m->source && !strncmp(m->source, "/dev/", 5) && device_there(m->source, f))
			return -1;
		if (rootfs_mount(-1, m, f))
			return -1;
	}
	return 0;
}

static int unmount(void *arg, struct failure *f)
{
	struct mount_job *job = arg;

	return umount2(job->path, UMOUNT_NOFOLLOW) ? fail(f, "cannot unmount %.200s", job->path) : 0;
}

static void begin(struct call *c, struct mount_job *job, int (*work)(void *, struct failure *))
{
	job->call = c;
	call_keep(c, &job_ops, job);
	if (job_start(work, job_done, job)) {
		struct failure f;

		fail(&f, "cannot fork");
		job_done(job, &f);
	}
}

void mount_request(struct call *c, const uint8_t *payload, size_t len)
{
	struct mount_job *job = calloc(1, sizeof(*job));
	struct wire_reader r;
	struct wire_attr a;
	struct failure f = { 0 };
	int got;

	if (job)
		job->payload = malloc(len ?: 1);
	if (!job || !job->payload) {
		free(job);
		call_failf(c, ENOMEM, "out of memory");
		return;
	}
	memcpy(job->payload, payload, len);
	r = wire_reader(job->payload, len);
	while ((got = wire_next(&r, &a)) > 0 && a.type == VGPU_AGENT_A_MOUNT)
		if (spec_parse_mount(&a, list_add(&job->mounts, sizeof(struct spec_mount)), &f))
			break;
	if (got || !job->mounts.count) {
		if (!f.code)
			refuse(&f, EINVAL, "malformed or unknown attributes, or nothing to mount");
		job->call = c;
		job_done(job, &f);
		return;
	}
	begin(c, job, mount_all);
}

void unmount_request(struct call *c, const char *path)
{
	struct mount_job *job = calloc(1, sizeof(*job));

	if (job)
		job->payload = (uint8_t *)strdup(path);
	if (!job || !job->payload) {
		free(job);
		call_failf(c, ENOMEM, "out of memory");
		return;
	}
	job->path = (const char *)job->payload;
	begin(c, job, unmount);
}
