/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside libvgpuagent. connection.c has the thread that moves frames, call.c what a caller's thread waits for, spec.c and
 * requests.c put requests together and take replies apart.
 */
#ifndef VGPUAGENT_INTERNAL_H
#define VGPUAGENT_INTERNAL_H

#include <pthread.h>

#include "codec.h"
#include "transport.h"
#include "vgpuagent.h"

#define EVENTS_MAX	1024	/* events nobody has fetched yet, of one call */

struct payload {
	struct payload *next;
	size_t len;
	uint8_t data[];
};

struct stream {
	struct wire_queue data;		/* came, not yet read */
	uint64_t allowed;		/* bytes the agent may still send */
	bool ended;
};

struct vgpu_agent_call {
	struct vgpu_agent *agent;
	struct vgpu_agent_call *next;
	uint32_t id;
	bool ended;			/* the final frame came, or the connection is over */
	bool abandoned;			/* freed by its owner; lives until the agent has ended it */
	struct vgpu_agent_error error;	/* code 0: it ended with a reply */
	struct payload *reply, *events, **events_end;
	unsigned int event_count;	/* in @events */
	unsigned int events_due;	/* that may still come */
	struct stream streams[VGPU_AGENT_STREAMS];
	uint64_t credit;		/* of stream 0 */
	bool input_closed;
	pthread_cond_t changed;
};

struct vgpu_agent {
	struct transport *transport;
	pthread_mutex_t lock;		/* of everything below and of every call */
	pthread_cond_t room;		/* in @out */
	pthread_t thread;
	int wake;			/* eventfd: there is something in @out, or the end */
	bool closing, dead;
	struct vgpu_agent_error why;	/* when @dead */
	struct wire_queue in, out;
	struct vgpu_agent_call *calls;
	unsigned int call_count;
	uint32_t next_id;
	int timeout_ms;
	struct vgpu_agent_info info;
};

/* connection.c; @a->lock is held */
void agent_wake(struct vgpu_agent *a);
void agent_die(struct vgpu_agent *a, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
const char *call_frame(struct vgpu_agent_call *c, const struct vgpu_agent_frame *f, const uint8_t *payload);
void call_destroy(struct vgpu_agent_call *c);

/* call.c */
int set_error(struct vgpu_agent_error *e, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define ANY_NUMBER	(~0u)

struct request {
	struct wire_queue q;
	size_t begun;
	unsigned int events;	/* that may come before its answer: 0, 1 or ANY_NUMBER */
};
void request_begin(struct request *r, uint16_t type);
/* Opens a call; the request is used up. */
struct vgpu_agent_call *request_send(struct vgpu_agent *a, struct request *r, struct vgpu_agent_error *e);
/* Opens a call and waits for its end; @call is the caller's to free. 0 with a reply. */
int request_ask(struct vgpu_agent *a, struct request *r, int timeout_ms, struct vgpu_agent_call **call, struct vgpu_agent_error *e);
/* The same when nothing but success is of interest. */
int request_do(struct vgpu_agent *a, struct request *r, struct vgpu_agent_error *e);
int call_wait_end(struct vgpu_agent_call *c, int timeout_ms, struct vgpu_agent_error *e);
/* The next event: the caller's to free. NULL: timed out, or (code 0) the call has ended well. */
struct payload *call_wait_event(struct vgpu_agent_call *c, int timeout_ms, struct vgpu_agent_error *e);
int parse_exit(const struct wire_attr *nest, struct vgpu_agent_exit *exit);
int parse_reply_exit(struct vgpu_agent_call *c, struct vgpu_agent_exit *exit, struct vgpu_agent_error *e);
/* For people: what an agent wrote, without what a terminal would act upon. */
void copy_text(char *to, size_t size, const char *from);
int agent_hello(struct vgpu_agent *a, int timeout_ms, struct vgpu_agent_error *e);

#endif /* VGPUAGENT_INTERNAL_H */
