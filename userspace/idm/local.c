// SPDX-License-Identifier: Apache-2.0
/*
 * The local transport: a session is a sealed memfd, handed over a UNIX socket, and a socket pair whose ends
 * client and worker hold: when one dies, the other's end hangs up. Sleeping is a futex in page 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define HELLO_MAGIC	0x4c4d4449u	/* "IDML" */
#define HELLO_VERSION	1
#define HUGE_PAGE	(2ull << 20)
#define NO_SOCKET_MS	1000	/* a socket file that is not there is not worth a long wait */
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS	83	/* Linux 6.16 */
#endif

struct local_request {
	uint32_t magic, version;
	uint32_t request_size, reply_size;
	uint64_t arena_size;
};

struct local_answer {
	uint32_t magic, version;
	int32_t err;
	uint32_t zone, own_zone, session;
	uint32_t request_size, reply_size;
	uint64_t arena_max;
	char reason[IDM_REASON_MAX];
};

void idm_local_layout(struct idm_layout *l, uint32_t request_size, uint32_t reply_size, uint64_t arena)
{
	l->request_size = request_size;
	l->reply_size = reply_size;
	l->request_offset = IDM_PAGE_SIZE;
	l->reply_offset = l->request_offset + request_size;
	l->rings_end = l->reply_offset + reply_size;
	/* Where huge pages can be used, if the kernel gives them to shared memory: 6 x cheaper to touch at first. */
	l->arena_offset = (l->rings_end + HUGE_PAGE - 1) & ~(uint64_t)(HUGE_PAGE - 1);
	l->arena_map = arena;
	l->arena_max = arena;
}

static bool ring_size_ok(uint32_t size)
{
	return size >= IDM_RING_MIN && size <= IDM_RING_MAX && !(size & (size - 1));
}

static int socket_address(const char *path, struct sockaddr_un *a, struct idm_error *e)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(a->sun_path))
		return idm_error_set(e, ENAMETOOLONG, "socket path %s is longer than %zu bytes: use a shorter VGPU_RUN_DIR",
				     path, sizeof(a->sun_path) - 1);
	strcpy(a->sun_path, path);
	return 0;
}

/* --- the client's end --------------------------------------------------------------------------------------- */

static int dial(const char *path, uint32_t timeout_ms, struct idm_error *e)
{
	int64_t start = idm_now_ns() / 1000000;
	struct sockaddr_un a;
	int fd, rc;

	rc = socket_address(path, &a, e);
	if (rc)
		return rc;
	for (;;) {
		int64_t waited = idm_now_ns() / 1000000 - start;

		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return idm_error_set(e, errno, "cannot make a socket: %s", strerror(errno));
		if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
			return fd;
		rc = errno;
		close(fd);
		if (rc != ENOENT && rc != ECONNREFUSED && rc != EAGAIN && rc != EINTR)
			return idm_error_set(e, rc, "cannot connect to the broker at %s: %s", path, strerror(rc));
		if (waited >= timeout_ms || (rc == ENOENT && waited >= NO_SOCKET_MS))
			return idm_error_set(e, rc, "no broker answers at %s (%s): start vgpu-broker, or set VGPU_TRANSPORT",
					     path, strerror(rc));
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
}

static void close_fds(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static int receive_answer(int fd, const char *path, uint32_t timeout_ms, struct local_answer *reply, int fds[2],
			  struct idm_error *e)
{
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { reply, sizeof(*reply) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;
	int rc;

	do
		rc = poll(&p, 1, timeout_ms);
	while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return idm_error_set(e, ETIMEDOUT, "the broker at %s gave no session within %u ms", path, timeout_ms);
	n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return idm_error_set(e, errno, "reading the broker's answer at %s: %s", path, strerror(errno));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			size_t len = c->cmsg_len - CMSG_LEN(0);

			memcpy(fds, CMSG_DATA(c), len < 2 * sizeof(int) ? len : 2 * sizeof(int));
		}
	if (n == 0)
		return idm_error_set(e, ECONNRESET, "the broker at %s closed the connection without an answer", path);
	if (n != sizeof(*reply) || reply->magic != HELLO_MAGIC || reply->version != HELLO_VERSION)
		return idm_error_set(e, EPROTO, "what answers at %s is no vgpu-broker of this version", path);
	return 0;
}

int idm_local_connect(const char *path, const struct idm_client_params *p, struct idm_layout *out,
		      struct idm_error *e)
{
	struct local_request rq = { .magic = HELLO_MAGIC, .version = HELLO_VERSION, .request_size = p->request_size,
				    .reply_size = p->reply_size, .arena_size = p->arena_size };
	struct local_answer reply = { 0 };
	int fds[2] = { -1, -1 };
	struct stat st;
	int fd, rc;

	fd = dial(path, p->timeout_ms, e);
	if (fd < 0)
		return fd;
	if (send(fd, &rq, sizeof(rq), MSG_NOSIGNAL) != sizeof(rq))
		rc = idm_error_set(e, errno, "cannot ask the broker at %s for a session: %s", path, strerror(errno));
	else
		rc = receive_answer(fd, path, p->timeout_ms, &reply, fds, e);
	close(fd);
	if (rc)
		goto fail;

	rc = -EPROTO;
	reply.reason[sizeof(reply.reason) - 1] = '\0';
	if (reply.err) {
		rc = idm_error_set(e, reply.err > 0 ? reply.err : EPROTO, "the broker at %s refused a session: %s", path,
				   reply.reason);
		goto fail;
	}
	if (fds[0] < 0 || fds[1] < 0 || !ring_size_ok(reply.request_size) || !ring_size_ok(reply.reply_size) ||
	    reply.arena_max > IDM_ARENA_SLOT_SIZE || reply.arena_max % IDM_PAGE_SIZE) {
		idm_error_set(e, EPROTO, "the broker at %s described a session that cannot be", path);
		goto fail;
	}
	*out = (struct idm_layout){ .fd = fds[0], .life = fds[1], .zone = reply.zone, .own_zone = reply.own_zone,
				    .session = reply.session };
	idm_local_layout(out, reply.request_size, reply.reply_size, reply.arena_max);
	out->arena_size = p->arena_size < reply.arena_max ? p->arena_size : reply.arena_max;
	/* Sealed and long enough: no touch of the mapping can raise SIGBUS. */
	if (fstat(fds[0], &st) || (uint64_t)st.st_size < out->arena_offset + reply.arena_max ||
	    !(fcntl(fds[0], F_GET_SEALS) & F_SEAL_SHRINK)) {
		idm_error_set(e, EPROTO, "the broker at %s lent memory that it could take away", path);
		goto fail;
	}
	return 0;
fail:
	close_fds(fds, 2);
	return rc;
}

/* --- the broker's end --------------------------------------------------------------------------------------- */

/*
 * Descriptors that a client sends are closed by who lets go of the message, and that may take as long as the client
 * likes: a TCP connection with SO_LINGER waits. Where the kernel can refuse them it does.
 */
static void take_no_descriptors(int fd)
{
	int no = 0;

	setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof(no));
}

int idm_local_listen(const char *path, struct idm_error *e)
{
	struct sockaddr_un a;
	int fd, rc;

	rc = socket_address(path, &a, e);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return idm_error_set(e, errno, "cannot make a socket: %s", strerror(errno));
	take_no_descriptors(fd);	/* nor will what it accepts */
	unlink(path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || chmod(path, 0666) || listen(fd, 128)) {
		rc = errno;
		close(fd);
		return idm_error_set(e, rc, "cannot listen at %s: %s", path, strerror(rc));
	}
	return fd;
}

int idm_local_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

int idm_local_read(int fd, struct idm_local_request *out, struct idm_error *e)
{
	struct local_request rq;
	struct ucred who = { 0 };
	socklen_t len = sizeof(who);
	ssize_t n;

	/* No room for control messages: descriptors that a client sends along are closed by the kernel. */
	n = recv(fd, &rq, sizeof(rq), MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return idm_error_set(e, errno, "reading a client's request: %s", strerror(errno));
	if (n == 0)
		return idm_error_set(e, ECONNRESET, "the client hung up before it asked for a session");
	if (n != sizeof(rq) || rq.magic != HELLO_MAGIC)
		return idm_error_set(e, EPROTO, "%zd bytes that are no request for a session", n);
	if (rq.version != HELLO_VERSION)
		return idm_error_set(e, EPROTO, "the client speaks version %u of the local transport, this broker %u",
				     rq.version, HELLO_VERSION);
	if (!ring_size_ok(rq.request_size) || !ring_size_ok(rq.reply_size))
		return idm_error_set(e, EINVAL, "ring sizes %u and %u: they must be powers of two from %u to %u",
				     rq.request_size, rq.reply_size, IDM_RING_MIN, IDM_RING_MAX);
	if (rq.arena_size > IDM_ARENA_SLOT_SIZE)
		return idm_error_set(e, EINVAL, "an arena of %llu bytes is more than there can be",
				     (unsigned long long)rq.arena_size);
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
	*out = (struct idm_local_request){ .request_size = rq.request_size, .reply_size = rq.reply_size,
					   .arena_size = rq.arena_size, .pid = who.pid, .uid = who.uid };
	return 1;
}

int idm_local_create(const struct idm_local_request *rq, uint64_t arena_max, int *memfd, int *life_worker,
		     int *life_client, struct idm_error *e)
{
	struct idm_layout l = { 0 };
	int fd, pair[2], rc;

	idm_local_layout(&l, rq->request_size, rq->reply_size, arena_max);
	fd = memfd_create("vgpu-session", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return idm_error_set(e, errno, "memfd_create: %s", strerror(errno));
	if (ftruncate(fd, l.arena_offset + arena_max) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		rc = idm_error_set(e, errno, "cannot make %llu MiB of session memory: %s",
				   (unsigned long long)(arena_max >> 20), strerror(errno));
		close(fd);
		return rc;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		rc = idm_error_set(e, errno, "socketpair: %s", strerror(errno));
		close(fd);
		return rc;
	}
	take_no_descriptors(pair[0]);
	*memfd = fd;
	*life_worker = pair[0];
	*life_client = pair[1];
	return 0;
}

static int answer(int fd, const struct local_answer *reply, const int *fds, size_t nfds)
{
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)reply, sizeof(*reply) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds) {
		struct cmsghdr *c = &control.align;

		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(*reply) ? 0 : -errno;
}

int idm_local_grant(int fd, const struct idm_local_request *rq, uint32_t zone, uint32_t own_zone, uint32_t session,
		    uint64_t arena_max, int memfd, int life_client)
{
	struct local_answer reply = { .magic = HELLO_MAGIC, .version = HELLO_VERSION, .zone = zone,
				    .own_zone = own_zone, .session = session, .request_size = rq->request_size,
				    .reply_size = rq->reply_size, .arena_max = arena_max };
	int fds[2] = { memfd, life_client };
	int rc = answer(fd, &reply, fds, 2);

	close(life_client);
	return rc;
}

int idm_local_refuse(int fd, int err, const char *reason)
{
	struct local_answer reply = { .magic = HELLO_MAGIC, .version = HELLO_VERSION, .err = err < 0 ? -err : err };

	snprintf(reply.reason, sizeof(reply.reason), "%s", reason);
	return answer(fd, &reply, NULL, 0);
}

void idm_page_end(struct idm_session *page, const char *reason)
{
	if (__atomic_load_n(&page->state, __ATOMIC_ACQUIRE) != IDM_STATE_ENDED) {
		snprintf((char *)page->reason, sizeof(page->reason), "%s", reason);
		/* Release: whoever sees the state sees the reason. */
		__atomic_store_n(&page->state, IDM_STATE_ENDED, __ATOMIC_RELEASE);
	}
	idm_side_alarm(&page->client);
}

void idm_local_end(int memfd, const char *reason)
{
	struct idm_session *page = mmap(NULL, IDM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);

	if (page == MAP_FAILED)
		return;
	idm_page_end(page, reason);
	munmap(page, IDM_PAGE_SIZE);
}
