// SPDX-License-Identifier: Apache-2.0
/*
 * The driver is never asked to release more of a user object than a graph has; and it tells late that one has ended. The
 * worker's other files in short.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "../worker/graph.h"
#include "tap.h"

#define OBJECT	1
#define GRAPH	2
#define CLONE	3

struct worker_driver worker_driver;
struct worker worker;

static struct handle slot = { .value = OBJECT, .object = &worker };
static uint64_t driver_released;
static CUresult answer;

static CUresult fake_retain(CUgraph graph, CUuserObject object, unsigned int count, unsigned int flags)
{
	return CUDA_SUCCESS;
}

static CUresult fake_release(CUgraph graph, CUuserObject object, unsigned int count)
{
	driver_released += count;
	return CUDA_SUCCESS;
}

static CUhostFn end;
static void *objects[1 << 17];		/* by the numbers in which they were made */
static unsigned int made;

static CUresult fake_create(CUuserObject *out, void *data, CUhostFn fn, unsigned int count, unsigned int flags)
{
	*out = data;
	objects[made++] = data;
	end = fn;
	return CUDA_SUCCESS;
}

/* --- in short --- */

int worker_enter(struct worker *w, const struct vgpu_call *call) { return 0; }
int worker_handle_free(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return 0; }
int worker_handle_add(struct worker *w, uint64_t h, enum vgpu_handle_type t, void *obj) { return 0; }
void *worker_handle_del(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return NULL; }
void *worker_handle(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return &worker; }
struct handle *object_find(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return h == OBJECT ? &slot : NULL; }
bool range_remove(struct range_map *m, uint64_t base, uint64_t *charged) { return false; }
void lease_uncharge(struct worker *w, uint64_t bytes) { }
bool memory_trim_graphs(struct worker *w) { return false; }
bool memory_outlives(struct worker *w, uint64_t addr) { return false; }
void output_forward(struct worker *w) { }
void *idm_server_arena(struct idm_server *s, uint64_t offset, uint64_t len) { return NULL; }
int idm_server_callback(struct idm_server *s, uint64_t id, const void *data, size_t len) { return 0; }

void worker_reply(struct worker *w, const struct idm_header *hdr, const struct vgpu_call *call, int idm_error,
		  int cu_result, const void *results, size_t len)
{
	if (idm_error)
		abort();
	answer = (CUresult)cu_result;
}

/* --- */

static void move(uint64_t graph, uint64_t count)
{
	const struct vgpu_rq_cuGraphRetainUserObject q = { .graph = graph, .object = OBJECT, .count = count,
							   .flags = CU_GRAPH_USER_OBJECT_MOVE };
	const struct idm_message m = { .header.payload_len = sizeof(q), .payload = &q };

	worker_hand_cuGraphRetainUserObject(&worker, &m);
}

static bool release(uint64_t graph, uint64_t count)
{
	const struct vgpu_rq_cuGraphReleaseUserObject q = { .graph = graph, .object = OBJECT, .count = count };
	const struct idm_message m = { .header.payload_len = sizeof(q), .payload = &q };
	uint64_t before = driver_released;

	worker_hand_cuGraphReleaseUserObject(&worker, &m);
	return answer == CUDA_SUCCESS && driver_released == before + count;
}

static void *tells_late(void *arg)
{
	usleep(20000);
	end(arg);
	return NULL;
}

static void ended_late(void)
{
	struct hook *h = NULL;
	unsigned int n = 0;
	pthread_t t;
	CUresult r;

	D.cuUserObjectCreate = fake_create;
	for (n = 0; n < 1 << 17 && (h = hook_memory(n, &r)); n++)
		;
	ok(!h && n && r == CUDA_ERROR_OUT_OF_MEMORY, "there are so many objects and no more: %u", n);
	pthread_create(&t, NULL, tells_late, objects[0]);
	h = hook_memory(n, &r);
	pthread_join(t, NULL);
	ok(h && r == CUDA_SUCCESS, "one that is about to end makes room for another");
	for (n = 1; n < made; n++)
		end(objects[n]);
}

int main(void)
{
	D.cuGraphRetainUserObject = fake_retain;
	D.cuGraphReleaseUserObject = fake_release;
	slot.refs = 2;
	move(GRAPH, 2);
	ok(answer == CUDA_SUCCESS && !slot.refs, "a graph takes what the client has");
	ok(!release(GRAPH, 3) && !release(CLONE, 1) && !driver_released, "more than it has it does not let go of");
	hook_copy_holds(GRAPH, CLONE);
	ok(!release(CLONE, 2) && !driver_released, "nor does its copy, of which only one is known");
	ok(release(CLONE, 1) && !release(CLONE, 1), "that one it does");
	ok(release(GRAPH, 2) && !release(GRAPH, 1) && driver_released == 3, "and the graph its own");
	ended_late();
	return tap_done();
}
