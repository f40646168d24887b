// SPDX-License-Identifier: Apache-2.0
/* Captures whose context ends, and a driver that keeps both until it is told; with the worker's other files in short. */
#include <stdlib.h>

#include "../worker/graph.h"
#include "tap.h"

#define MINE	((CUgraph)0x40)		/* a graph of the client's */

struct worker_driver worker_driver;
struct worker worker;

static struct wctx one = { .root = &one }, green = { .root = &one }, other = { .root = &other };
static struct wstream streams[] = {
	{ .real = (CUstream)1, .ctx = &one }, { .real = (CUstream)2, .ctx = &green }, { .real = (CUstream)3, .ctx = &other },
};
static CUgraph capturing[4];		/* what each stream captures, in the driver */
static unsigned int graphs;		/* that are nobody's but the driver's */
static uint64_t forgotten;
static CUresult answer;

static CUresult fake_begin(CUstream s, CUstreamCaptureMode mode)
{
	capturing[(uintptr_t)s] = (CUgraph)(0x10 + (uintptr_t)s);
	graphs++;
	return CUDA_SUCCESS;
}

static CUresult fake_begin_into(CUstream s, CUgraph graph, const CUgraphNode *deps, const CUgraphEdgeData *data, size_t n,
				CUstreamCaptureMode mode)
{
	capturing[(uintptr_t)s] = graph;
	return CUDA_SUCCESS;
}

static CUresult fake_end(CUstream s, CUgraph *out)
{
	*out = capturing[(uintptr_t)s];
	capturing[(uintptr_t)s] = NULL;
	return *out ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_STATE;
}

static CUresult fake_info(CUstream s, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph, const CUgraphNode **deps,
			  const CUgraphEdgeData **data, size_t *n)
{
	*status = capturing[(uintptr_t)s] ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
	*graph = capturing[(uintptr_t)s];
	return CUDA_SUCCESS;
}

static CUresult fake_capturing(CUstream s, CUstreamCaptureStatus *status)
{
	*status = capturing[(uintptr_t)s] ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}

static CUresult fake_destroy(CUgraph graph)
{
	graphs--;
	return CUDA_SUCCESS;
}

/* --- in short --- */

int worker_enter(struct worker *w, const struct vgpu_call *call) { return 0; }
void *worker_handle(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return MINE; }
void context_visit(const struct wctx *c) { }
void context_leave(const struct wctx *c) { }
uint64_t graph_known(CUgraph graph) { return (uintptr_t)graph; }
void graph_forget(struct worker *w, uint64_t handle) { forgotten = handle; }
CUgraphNode *graph_nodes(struct worker *w, const uint64_t *handles, size_t n, bool after, int *err) { return calloc(1, 1); }

uint64_t graph_name_graph(struct worker *w, CUgraph graph, uint64_t parent, struct fresh *f)
{
	return (uintptr_t)graph;
}

int stream_of(struct worker *w, const struct vgpu_call *call, uint64_t h, struct wstream **out)
{
	*out = &streams[h];
	return 0;
}

void worker_reply(struct worker *w, const struct idm_header *hdr, const struct vgpu_call *call, int idm_error, int cu_result,
		  const void *results, size_t len)
{
	if (idm_error)
		abort();
	answer = (CUresult)cu_result;
}

/* --- */

static void begin(uint64_t stream)
{
	const struct vgpu_rq_cuStreamBeginCapture_v2 q = { .hStream = stream };
	const struct idm_message m = { .header.payload_len = sizeof(q), .payload = &q };

	worker_hand_cuStreamBeginCapture_v2(&worker, &m);
}

static void begin_into(uint64_t stream)
{
	const struct vgpu_capture_begin q = { .stream = stream };
	const struct idm_message m = { .header.payload_len = sizeof(q), .payload = &q };

	worker_hand_capture_begin(&worker, &m);
}

int main(void)
{
	D.cuStreamBeginCapture_v2 = fake_begin;
	D.cuStreamBeginCaptureToGraph = fake_begin_into;
	D.cuStreamEndCapture = fake_end;
	D.cuStreamGetCaptureInfo_v3 = fake_info;
	D.cuStreamIsCapturing = fake_capturing;
	D.cuGraphDestroy = fake_destroy;

	for (uint64_t i = 0; i < 3; i++)
		begin(i);
	ok(answer == CUDA_SUCCESS && graphs == 3 && capture_active(streams[0].real), "three streams capture");
	capture_context_settle(&worker, &one);
	ok(!capturing[1] && !capturing[2] && graphs == 1, "what is captured in a context ends before it, and in its green ones");
	ok(forgotten == 0x11 || forgotten == 0x12, "with the client's name for it");
	ok(capturing[3] && capture_active(streams[2].real), "another one's goes on");
	capture_context_settle(&worker, &one);
	ok(graphs == 1, "once");
	forgotten = 0;
	begin_into(0);
	ok(answer == CUDA_SUCCESS && capturing[1] == MINE, "a stream captures into a graph of the client's");
	capture_context_settle(&worker, &one);
	ok(!capturing[1] && graphs == 1 && !forgotten, "which stays");
	capture_context_settle(&worker, &other);
	ok(!capturing[3] && !graphs && !capture_active(streams[2].real), "nothing captures in the end");
	return tap_done();
}
