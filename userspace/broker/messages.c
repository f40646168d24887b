// SPDX-License-Identifier: Apache-2.0
/* What the broker and its workers tell each other. Nothing that a worker says is believed: it may be its client's by now. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker.h"

static void answer_image(struct worker *w, struct session *s, const struct worker_msg *m)
{
	struct worker_msg r = { .type = BROKER_IMAGE };
	uint64_t sum;
	int fd = -1;

	memcpy(&sum, m->u.digest, sizeof(sum));
	if (m->type == WORKER_IMAGE_KNOWN)
		images_tell(s->device, s);
	else if (m->type == WORKER_IMAGE_GET)
		fd = images_get(s->device, s, m->u.digest, m->a);
	else
		fd = images_new(s->device, s, m->b, m->a, sum);
	if (fd >= 0)
		r.a = 1;
	worker_send(w, &r, &fd, fd >= 0);
}

/* Events that a client can cause as often as it likes. */
static bool event_allowed(struct device *d)
{
	uint64_t suppressed;

	return log_allowed(&d->refusals, log_now_ns(), &suppressed);
}

/* @fd: what came along, or -1 */
static void handle(struct worker *w, struct worker_msg *m, int fd)
{
	struct session *s = w->session;
	struct worker_msg r = { 0 };
	uint64_t now = log_now_ns();
	char text[WORKER_TEXT_MAX];
	int bad = 0;

	log_clean(text, sizeof(text), m->u.text, sizeof(m->u.text));
	switch (m->type) {
	case WORKER_READY:
		if (w->state != WORKER_STARTING)
			break;
		if (!pool_seal_stats(w)) {
			snprintf(broker.start_failure, sizeof(broker.start_failure), "its counters cannot be sealed: %s", strerror(errno));
			worker_kill(w);
			return;
		}
		w->state = WORKER_IDLE;
		broker.start_failures = 0;
		broker.start_failure[0] = '\0';
		session_start_waiting();
		pool_fill();
		return;
	case WORKER_FAILED:
		if (w->state == WORKER_STARTING)
			snprintf(broker.start_failure, sizeof(broker.start_failure), "%s", text);
		return;
	case WORKER_LOG:
		if (s && device_may_log(s->device, &s->device->bucket))
			session_log(s, m->a == LOG_ERROR ? LOG_ERROR : m->a == LOG_WARNING ? LOG_WARNING :
				    m->a == LOG_INFO ? LOG_INFO : LOG_DEBUG, "%s", text);
		if (s && m->a == LOG_WARNING && event_allowed(s->device))
			event("call-refused", s->device, s, "%s", text);
		return;
	case WORKER_ENDED:
		if (s && !s->reason[0])
			snprintf(s->reason, sizeof(s->reason), "%.*s", (int)sizeof(s->reason) - 1, text);
		if (s && m->a) {
			s->device->violations++;
			if (event_allowed(s->device))
				event("violation", s->device, s, "%s", text);
		}
		if (s && s->state == SESSION_RUNNING) {
			s->state = SESSION_ENDING;
			s->kill_ns = now + KILL_GRACE_NS;
		}
		return;
	case WORKER_LEASE:
		bad = s ? quota_request(&w->holder, m->a, m->b, now) : -EINVAL;
		break;
	case WORKER_RETURN:
		bad = s ? quota_return(&w->holder, m->a, m->b, now) : -EINVAL;
		adopt_write(w);
		break;
	case WORKER_HOLDS:
		/* It had no quota until now: what it has by then is taken as it says. */
		bad = s && w->may_hold ? quota_adopt(&w->holder, m->a) : -EINVAL;
		w->may_hold -= w->may_hold != 0;
		adopt_write(w);
		break;
	case WORKER_REFUSED:
		if (s && event_allowed(s->device))
			event("quota-refused", s->device, s, "%llu bytes asked for, quota %llu MiB",
			      (unsigned long long)m->a, (unsigned long long)(s->device->memory >> 20));
		return;
	case WORKER_MEMINFO:
		if (!s) {
			bad = -EINVAL;
			break;
		}
		r.type = BROKER_MEMINFO;
		r.a = device_used(s->device);
		r.a = r.a < s->device->memory ? s->device->memory - r.a : 0;
		worker_send(w, &r, NULL, 0);
		return;
	case WORKER_ZONE:
		if (!s) {
			bad = -EINVAL;
			break;
		}
		r.type = BROKER_ZONE;
		device_describe(s->device, s, m->a, &r.u.zone);
		worker_send(w, &r, NULL, 0);
		return;
	case WORKER_IMAGE_KNOWN:
	case WORKER_IMAGE_GET:
	case WORKER_IMAGE_NEW:
		if (s)
			answer_image(w, s, m);
		return;
	case WORKER_IMAGE_FILLED:
		if (s)
			images_filled(s->device, s);
		return;
	case WORKER_IPC_EXPORT:
		bad = s ? ipc_export(w, m, fd) : -EINVAL;
		break;
	case WORKER_IPC_IMPORT:
		bad = s ? ipc_import(w, m) : -EINVAL;
		break;
	case WORKER_IPC_MEMORY:
		bad = s ? ipc_memory(w, m->a) : -EINVAL;
		break;
	case WORKER_IPC_DROP:
		bad = s ? ipc_drop(w, m->a) : -EINVAL;
		break;
	default:
		bad = -EINVAL;
	}
	if (bad && s) {
		snprintf(s->reason, sizeof(s->reason), "its worker broke the broker's protocol (message %u)", m->type);
		worker_kill(w);
	}
}

/* A message, and the descriptor that may come with it. Nobody honest sends two, for which there is room by alignment. */
static ssize_t receive(int sock, struct worker_msg *m, int *fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} c;
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof(c.buf) };
	ssize_t n = recvmsg(sock, &h, MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
	struct cmsghdr *cm = n >= 0 ? CMSG_FIRSTHDR(&h) : NULL;

	*fd = -1;
	if (!cm || cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
		return n;
	for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= cm->cmsg_len; at += sizeof(int)) {
		if (*fd >= 0)
			close(*fd);
		memcpy(fd, CMSG_DATA(cm) + at, sizeof(int));
	}
	return n;
}

void worker_listen(struct worker *w)
{
	struct worker_msg m;
	ssize_t n;
	int fd;
	int turns = 64;	/* a flood of messages must not hold up the others */

	while (turns-- && w->control.fd >= 0) {
		n = receive(w->control.fd, &m, &fd);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n != sizeof(m)) {
			if (fd >= 0)
				close(fd);
			/* It has died, or has closed its end, after which a socket never stops being readable. */
			unwatch(&w->control);
			worker_kill(w);
			return;
		}
		handle(w, &m, fd);
		if (fd >= 0)
			close(fd);
	}
}

void worker_speaks(struct source *src, uint32_t events)
{
	struct worker *w = container_of(src, struct worker, control);

	if (events & EPOLLIN)
		worker_listen(w);
	else if (events & (EPOLLHUP | EPOLLERR))
		unwatch(src);	/* its death follows through the pidfd */
}

int worker_send(struct worker *w, const struct worker_msg *m, const int *fds, int nfds)
{
	union {
		char buf[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} c;
	struct iovec iov = { (void *)m, sizeof(*m) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (w->control.fd < 0)
		return -EPIPE;
	if (nfds) {
		struct cmsghdr *cm;

		memset(&c, 0, sizeof(c));
		h.msg_control = c.buf;
		h.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cm = CMSG_FIRSTHDR(&h);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, nfds * sizeof(int));
	}
	if (sendmsg(w->control.fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(*m)) {
		/* A worker that does not read its socket has been taken over or is stuck. */
		if (errno == EAGAIN)
			worker_kill(w);
		return -EPIPE;
	}
	return 0;
}
