// SPDX-License-Identifier: Apache-2.0
/*
 * Talking with the broker. Before there is a session the main thread reads; afterwards a thread of its own does, so
 * that the broker's questions are answered whatever the others wait for.
 *
 * The lease: `used` of `leased` bytes are taken. What an allocation needs is added to `used` before it is asked for,
 * so that a broker that takes unused budget back meanwhile does not take that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker.h"

static struct {
	pthread_mutex_t lock;
	pthread_cond_t answer;
	uint64_t leased, used;
	uint64_t pending;	/* of used: what is being asked for */
	bool gone;		/* no broker any more: the lease is what it is */
	bool asking, leased_answer, meminfo_answer, zone_answer;
	uint64_t granted, meminfo;
	struct vgpu_zone_reply zone;
	bool image_answer;
	uint64_t image;
	int image_fd;
	bool ipc_answer;
	struct worker_msg ipc;
	int ipc_fd;
} lease = { .lock = PTHREAD_MUTEX_INITIALIZER, .answer = PTHREAD_COND_INITIALIZER };

void control_tell(uint32_t type, uint64_t a, uint64_t b, const char *text)
{
	struct worker_msg m = { .type = type, .a = a, .b = b };

	if (text)
		snprintf(m.u.text, sizeof(m.u.text), "%s", text);
	/* Log lines may get lost when the broker is slow. What it must know may not. */
	send(WORKER_FD_CONTROL, &m, sizeof(m), MSG_NOSIGNAL | (type == WORKER_LOG || type == WORKER_REFUSED ? MSG_DONTWAIT : 0));
}

int control_wait_assign(struct worker *w, int *fd, int *life)
{
	union {
		char buf[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} c;
	struct worker_msg m;
	struct iovec iov = { &m, sizeof(m) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof(c.buf) };
	struct cmsghdr *cm;
	int fds[2] = { -1, -1 };
	ssize_t n;

	do
		n = recvmsg(WORKER_FD_CONTROL, &h, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(m) || m.type != BROKER_ASSIGN)
		return -EPIPE;
	cm = CMSG_FIRSTHDR(&h);
	if (!cm || cm->cmsg_type != SCM_RIGHTS)
		return -EPROTO;
	memcpy(fds, CMSG_DATA(cm), cm->cmsg_len - CMSG_LEN(0) < sizeof(fds) ? cm->cmsg_len - CMSG_LEN(0) : sizeof(fds));
	*fd = fds[0];
	*life = fds[1];
	w->assign = m.u.assign;
	w->assign.gpu[sizeof(w->assign.gpu) - 1] = '\0';
	return 0;
}

static uint64_t unused(void)
{
	return lease.leased > lease.used ? lease.leased - lease.used : 0;
}

/* What is leased and not used goes back. @keep: bytes to hold on to */
static void give_back(uint64_t keep, bool answer)
{
	uint64_t spare = unused();

	spare = spare > keep ? spare - keep : 0;
	lease.leased -= spare;
	if (spare || answer)
		control_tell(WORKER_RETURN, spare, answer, NULL);
}

/* The quota has changed. What is in use stays; from now on nothing is had but by lease. The first one has an answer. */
static void new_quota(struct worker *w, uint64_t quota)
{
	uint64_t held = lease.used - lease.pending, more = held > lease.leased ? held - lease.leased : 0;
	bool first = !w->assign.quota;

	__atomic_store_n(&w->assign.quota, quota, __ATOMIC_RELAXED);
	if (!quota)
		return;
	if (first) {
		control_tell(WORKER_HOLDS, more, 0, NULL);
		lease.leased += more;
	}
	if (!more)
		give_back(0, false);
}

/* A message, and the descriptor that may come with it. */
static ssize_t receive(struct worker_msg *m, int *fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} c;
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof(c.buf) };
	ssize_t n = recvmsg(WORKER_FD_CONTROL, &h, MSG_CMSG_CLOEXEC);
	struct cmsghdr *cm = n > 0 ? CMSG_FIRSTHDR(&h) : NULL;

	*fd = -1;
	if (cm && cm->cmsg_type == SCM_RIGHTS && cm->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(cm), sizeof(int));
	return n;
}

static void *listen_to_broker(void *arg)
{
	struct worker *w = arg;
	struct worker_msg m;
	ssize_t n;
	int fd;

	for (;;) {
		n = receive(&m, &fd);
		if (n < 0 && errno == EINTR)
			continue;
		pthread_mutex_lock(&lease.lock);
		if (n != sizeof(m)) {
			/* The broker has died. The session goes on with what it has. */
			lease.gone = true;
			pthread_cond_broadcast(&lease.answer);
			pthread_mutex_unlock(&lease.lock);
			return NULL;
		}
		switch (m.type) {
		case BROKER_LEASED:
			lease.leased += m.a;
			lease.granted = m.a;
			lease.leased_answer = true;
			pthread_cond_broadcast(&lease.answer);
			break;
		case BROKER_RECLAIM:
			give_back(0, true);
			break;
		case BROKER_QUOTA:
			new_quota(w, m.a);
			break;
		case BROKER_MEMINFO:
			lease.meminfo = m.a;
			lease.meminfo_answer = true;
			pthread_cond_broadcast(&lease.answer);
			break;
		case BROKER_ZONE:
			lease.zone = m.u.zone;
			lease.zone_answer = true;
			pthread_cond_broadcast(&lease.answer);
			break;
		case BROKER_IMAGE:
			lease.image = m.a;
			lease.image_fd = fd;
			fd = -1;
			lease.image_answer = true;
			pthread_cond_broadcast(&lease.answer);
			break;
		case BROKER_IPC:
			lease.ipc = m;
			lease.ipc_fd = fd;
			fd = -1;
			lease.ipc_answer = true;
			pthread_cond_broadcast(&lease.answer);
			break;
		case BROKER_NEWS:
			image_news(m.u.news.guess, m.u.news.count < VGPU_IMAGE_NEWS ? m.u.news.count : VGPU_IMAGE_NEWS);
			break;
		case BROKER_END:
			m.u.text[sizeof(m.u.text) - 1] = '\0';
			idm_server_end(w->server, m.u.text);
			control_tell(WORKER_ENDED, 0, 0, m.u.text);
			_exit(0);
		}
		pthread_mutex_unlock(&lease.lock);
		if (fd >= 0)
			close(fd);
	}
}

int control_start(struct worker *w)
{
	pthread_t t;
	int ret = pthread_create(&t, NULL, listen_to_broker, w);

	if (!ret)
		pthread_detach(t);
	return -ret;
}

static void publish(struct worker *w)
{
	__atomic_store_n(&w->stats->memory, lease.used, __ATOMIC_RELAXED);
	if (lease.used > w->stats->memory_peak)
		__atomic_store_n(&w->stats->memory_peak, lease.used, __ATOMIC_RELAXED);
}

/*
 * Have all that is used leased. Under the lock, which is let go of while the broker is asked: one thread asks at a time,
 * for all that are there by then.
 */
static bool cover(struct worker *w)
{
	bool ok = true;

	while (ok && w->assign.quota && lease.used > lease.leased) {
		uint64_t need = lease.used - lease.leased;

		if (lease.gone)
			return false;
		if (lease.asking) {
			pthread_cond_wait(&lease.answer, &lease.lock);
			continue;
		}
		lease.asking = true;
		lease.leased_answer = false;
		control_tell(WORKER_LEASE, need, need < QUOTA_SLAB ? QUOTA_SLAB : need, NULL);
		while (!lease.leased_answer && !lease.gone)
			pthread_cond_wait(&lease.answer, &lease.lock);
		lease.asking = false;
		pthread_cond_broadcast(&lease.answer);
		ok = lease.leased_answer && lease.granted;
	}
	return ok;
}

bool lease_charge(struct worker *w, uint64_t bytes)
{
	bool ok = true;

	pthread_mutex_lock(&lease.lock);
	if (__builtin_add_overflow(lease.used, bytes, &lease.used)) {
		lease.used -= bytes;
		pthread_mutex_unlock(&lease.lock);
		return false;
	}
	lease.pending += bytes;
	if (w->assign.quota && lease.used > w->assign.quota)
		ok = false;
	ok = ok && cover(w);
	lease.pending -= bytes;
	if (!ok)
		lease.used -= bytes;
	publish(w);
	pthread_mutex_unlock(&lease.lock);
	return ok;
}

void lease_refused(struct worker *w, uint64_t bytes)
{
	stat_add(&w->stats->quota_refusals, 1);
	control_tell(WORKER_REFUSED, bytes, 0, NULL);
}

void lease_uncharge(struct worker *w, uint64_t bytes)
{
	if (!bytes)
		return;
	pthread_mutex_lock(&lease.lock);
	lease.used -= bytes;
	publish(w);
	if (w->assign.quota && lease.leased - lease.used > 2 * QUOTA_SLAB && lease.leased > lease.used && !lease.gone)
		give_back(QUOTA_SLAB, false);
	pthread_mutex_unlock(&lease.lock);
}

uint64_t lease_free(struct worker *w)
{
	uint64_t bytes;

	pthread_mutex_lock(&lease.lock);
	if (lease.gone) {
		bytes = unused();
	} else {
		lease.meminfo_answer = false;
		control_tell(WORKER_MEMINFO, 0, 0, NULL);
		while (!lease.meminfo_answer && !lease.gone)
			pthread_cond_wait(&lease.answer, &lease.lock);
		bytes = lease.meminfo_answer ? lease.meminfo : unused();
	}
	pthread_mutex_unlock(&lease.lock);
	return bytes;
}

bool lease_zone(uint64_t first, struct vgpu_zone_reply *out)
{
	bool ok = false;

	pthread_mutex_lock(&lease.lock);
	if (!lease.gone) {
		lease.zone_answer = false;
		control_tell(WORKER_ZONE, first, 0, NULL);
		while (!lease.zone_answer && !lease.gone)
			pthread_cond_wait(&lease.answer, &lease.lock);
		ok = lease.zone_answer;
		*out = lease.zone;
	}
	pthread_mutex_unlock(&lease.lock);
	return ok;
}

/* The dispatching thread asks, and the one that stores: one question at a time. */
uint64_t control_image(uint32_t type, uint64_t a, uint64_t b, const uint8_t *digest, int *fd)
{
	static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
	struct worker_msg m = { .type = type, .a = a, .b = b };
	uint64_t answer = 0;

	*fd = -1;
	if (digest)
		memcpy(m.u.digest, digest, sizeof(m.u.digest));
	pthread_mutex_lock(&turn);
	pthread_mutex_lock(&lease.lock);
	if (!lease.gone) {
		lease.image_answer = false;
		send(WORKER_FD_CONTROL, &m, sizeof(m), MSG_NOSIGNAL);
		while (!lease.image_answer && !lease.gone)
			pthread_cond_wait(&lease.answer, &lease.lock);
		if (lease.image_answer) {
			answer = lease.image;
			*fd = lease.image_fd;
		}
	}
	pthread_mutex_unlock(&lease.lock);
	pthread_mutex_unlock(&turn);
	return answer;
}

static bool send_with(const struct worker_msg *m, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} c = { .buf = { 0 } };
	struct iovec iov = { (void *)m, sizeof(*m) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		h.msg_control = c.buf;
		h.msg_controllen = sizeof(c.buf);
		c.align.cmsg_level = SOL_SOCKET;
		c.align.cmsg_type = SCM_RIGHTS;
		c.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&c.align), &fd, sizeof(int));
	}
	return sendmsg(WORKER_FD_CONTROL, &h, MSG_NOSIGNAL) == sizeof(*m);
}

/* Under the lock. @return false if the broker refuses, or there is none */
static bool ask_ipc(struct worker_msg *m, int fd, int *answer_fd)
{
	lease.ipc_answer = false;
	/* Where too many descriptors are on their way, of anybody's, it is not sent. */
	if (!send_with(m, fd))
		return false;
	while (!lease.ipc_answer && !lease.gone)
		pthread_cond_wait(&lease.answer, &lease.lock);
	if (!lease.ipc_answer)
		return false;
	*m = lease.ipc;
	*answer_fd = lease.ipc_fd;
	return m->a;
}

/* As control_image(). */
bool control_ipc(struct worker_msg *m, int fd, int *answer_fd)
{
	bool ok = false;

	*answer_fd = -1;
	pthread_mutex_lock(&lease.lock);
	if (!lease.gone)
		ok = ask_ipc(m, fd, answer_fd);
	pthread_mutex_unlock(&lease.lock);
	return ok;
}

bool control_export(struct worker *w, struct worker_msg *m, int fd, uint64_t charge)
{
	uint64_t leased;
	bool ok = false;
	int none = -1;

	pthread_mutex_lock(&lease.lock);
	/* What could not be covered below may be it. Nobody honest gives out what it has not leased. */
	if (!lease.gone && (!w->assign.quota || charge <= lease.leased || cover(w))) {
		/* Without a quota nothing is leased; with one, all of it is. Said before that can change. */
		leased = w->assign.quota ? charge : 0;
		m->a = charge;
		m->b = leased;
		lease.used -= charge;
		lease.leased -= leased;
		ok = ask_ipc(m, fd, &none);
		if (!ok) {
			lease.used += charge;
			lease.leased += leased;
			cover(w);	/* a first quota may have come meanwhile, and not have found it */
		}
		publish(w);
	}
	pthread_mutex_unlock(&lease.lock);
	return ok;
}
