// SPDX-License-Identifier: Apache-2.0
/*
 * The client's host functions. The driver calls one of ours in the stream's order, which tells the client and holds
 * the stream until the client's word in the arena says that its function has returned.
 */
#include <stdlib.h>
#include <time.h>

#include "graph.h"

#define HOOKS_MAX	65536	/* at a time */
#define SPINS		2000	/* looks at the word before sleeping between looks */
#define NAP_FIRST_NS	20000
#define NAP_LONGEST_NS	1000000

struct call {
	uint64_t id;
	const uint32_t *ack;	/* arena: the client's to write, and only compared here */
	uint32_t ticket;
};

static unsigned int hooks;	/* atomic */

static bool returned(const struct call *h)
{
	return (int32_t)(__atomic_load_n(h->ack, __ATOMIC_ACQUIRE) - h->ticket) >= 0;
}

static void hold(const struct call *h)
{
	long nap = NAP_FIRST_NS;
	int i;

	for (i = 0; i < SPINS; i++) {
		if (returned(h))
			return;
#if defined(__x86_64__)
		__builtin_ia32_pause();
#endif
	}
	while (!returned(h)) {
		nanosleep(&(struct timespec){ .tv_nsec = nap }, NULL);
		nap = nap < NAP_LONGEST_NS ? nap * 2 : nap;
	}
}

static void run(struct call *h, CUresult r)
{
	struct vgpu_callback c = { .result = r };

	output_forward(&worker);
	if (!idm_server_callback(worker.server, h->id, &c, sizeof(c)))
		hold(h);
	__atomic_sub_fetch(&hooks, 1, __ATOMIC_RELAXED);
	free(h);
}

static void CUDA_CB host_function(void *data)
{
	run(data, CUDA_SUCCESS);
}

static void CUDA_CB stream_callback(CUstream stream, CUresult r, void *data)
{
	run(data, r);
}

/* For the graph that the stream captures. */
static CUresult captured(struct worker *w, const struct vgpu_host_func *q, CUstream stream)
{
	CUgraph graph = capture_graph(stream);
	CUresult r = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	struct hook *h = NULL;

	if (graph)
		h = hook_new(w, q->id, q->ack, q->ticket, &r);
	if (!h) {
		hook_refuse(w, q->id);
		return r;
	}
	r = hook_keep(h, graph);
	if (r != CUDA_SUCCESS)
		return r;
	r = D.cuLaunchHostFunc ? D.cuLaunchHostFunc(stream, hook_run, h) : CUDA_ERROR_NOT_SUPPORTED;
	if (r != CUDA_SUCCESS)
		hook_unkeep(h, graph);
	return r;
}

void worker_hand_host_func(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_host_func *q = m->payload;
	CUresult r = CUDA_SUCCESS;
	struct call *h = NULL;
	void *stream, *ack;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_stream(w, &q->call, q->stream, &stream);
	if (err)
		goto out;
	if (q->always == VGPU_HOST_CAPTURED) {
		r = captured(w, q, stream);
		goto out;
	}
	if (capture_active(stream)) {
		r = CUDA_ERROR_NOT_SUPPORTED;	/* what it is called with is good for one call */
		goto out;
	}
	ack = idm_server_arena(w->server, q->ack, sizeof(uint32_t));
	if (!ack || q->ack % sizeof(uint32_t)) {
		worker_complain(w, "a host function whose answer would be outside the arena");
		r = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	r = CUDA_ERROR_OUT_OF_MEMORY;
	if (__atomic_load_n(&hooks, __ATOMIC_RELAXED) >= HOOKS_MAX)
		goto out;
	h = malloc(sizeof(*h));
	if (!h)
		goto out;
	*h = (struct call){ .id = q->id, .ack = ack, .ticket = q->ticket };
	__atomic_add_fetch(&hooks, 1, __ATOMIC_RELAXED);
	r = CUDA_ERROR_NOT_SUPPORTED;
	if (q->always == VGPU_HOST_ALWAYS && D.cuStreamAddCallback)
		r = D.cuStreamAddCallback(stream, stream_callback, h, 0);
	else if (D.cuLaunchHostFunc)
		r = D.cuLaunchHostFunc(stream, host_function, h);
	if (r != CUDA_SUCCESS) {
		__atomic_sub_fetch(&hooks, 1, __ATOMIC_RELAXED);
		free(h);
	}
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}
