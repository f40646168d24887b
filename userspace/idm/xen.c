// SPDX-License-Identifier: Apache-2.0
/* The Xen transport, the pod's side: /dev/vgpu (uapi/linux/vgpu.h). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "internal.h"
#include "linux/vgpu.h"

static int explain(struct idm_error *e, int err, const char *path)
{
	switch (err) {
	case ENODEV:
		return idm_error_set(e, err, "%s: no vgpu backend is connected: is vgpu-back loaded and vgpu-broker running in the driver domain?",
				     path);
	case ENOSPC:
		return idm_error_set(e, err, "%s: this domain's session or memory quota is used up (in the driver domain: vgpuctl list)",
				     path);
	case ECONNRESET:
		return idm_error_set(e, err, "%s: the driver domain went away while the session was being opened", path);
	default:
		return idm_error_set(e, err, "%s: cannot open a session: %s", path, strerror(err));
	}
}

int idm_xen_connect(const char *path, const struct idm_client_params *p, struct idm_layout *out,
		    struct idm_error *e)
{
	struct vgpu_session_params s = { .request_size = p->request_size, .reply_size = p->reply_size,
					 .arena_size = p->arena_size, .timeout_ms = p->timeout_ms };
	struct vgpu_info info;
	int fd, rc;

	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return idm_error_set(e, errno, "cannot open %s: %s%s", path, strerror(errno),
				     errno == ENOENT ? " (is vgpu-front loaded, and does this domain have a vgpu device?)" : "");
	if (ioctl(fd, VGPU_IOC_QUERY, &info)) {
		rc = idm_error_set(e, errno, "%s is no vgpu device: %s", path, strerror(errno));
		goto fail;
	}
	if (info.version != VGPU_API_VERSION) {
		rc = idm_error_set(e, EPROTO, "%s has interface version %u, this library needs %u: load the matching vgpu-front",
				   path, info.version, VGPU_API_VERSION);
		goto fail;
	}
	while (ioctl(fd, VGPU_IOC_SESSION, &s)) {
		if (errno == EINTR)
			continue;
		rc = explain(e, errno, path);
		goto fail;
	}
	/* The backend may have come while SESSION waited: its zone number is only certain now. */
	if (ioctl(fd, VGPU_IOC_QUERY, &info)) {
		rc = explain(e, errno, path);
		goto fail;
	}
	*out = (struct idm_layout){
		.fd = fd, .life = -1, .xen = true, .zone = info.zone, .own_zone = info.backend_zone,
		.session = s.session, .request_size = s.request_size, .reply_size = s.reply_size,
		.request_offset = s.request_offset, .reply_offset = s.reply_offset,
		.rings_end = s.arena_offset, .arena_offset = s.arena_offset,
		.arena_size = s.arena_size, .arena_map = s.arena_size, .arena_max = info.max_arena,
	};
	return 0;
fail:
	close(fd);
	return rc;
}

void idm_xen_ioctls(struct idm_link *l)
{
	l->kick = VGPU_IOC_KICK;
	l->wait = VGPU_IOC_WAIT;
}

int idm_xen_grow(int fd, uint64_t *size)
{
	struct vgpu_grow g = { .arena_size = *size };

	while (ioctl(fd, VGPU_IOC_GROW, &g))
		if (errno != EINTR)
			return -errno;
	*size = g.arena_size;
	return 0;
}
