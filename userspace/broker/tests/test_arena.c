// SPDX-License-Identifier: Apache-2.0
/* The pieces of an arena, and a driver that does not pin them; with the worker's other files in short. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../worker/worker.h"
#include "tap.h"

#define MIB	(1ull << 20)
#define ARENA	((char *)IDM_ARENA_SLOT(0))

struct worker_driver worker_driver;
struct worker worker = { .ndevices = 1 };

static CUresult says = CUDA_SUCCESS, answer;
static unsigned int registered;		/* pieces, in the only context */
static int retained, complaints;

static CUresult fake_retain(CUcontext *out, CUdevice dev)
{
	retained++;
	*out = (CUcontext)&worker;
	return CUDA_SUCCESS;
}

static CUresult fake_release(CUdevice dev)
{
	if (!--retained)
		registered = 0;
	return CUDA_SUCCESS;
}

static CUresult fake_current(CUcontext c) { return CUDA_SUCCESS; }

static CUresult fake_register(void *p, size_t size, unsigned int flags)
{
	registered += says == CUDA_SUCCESS;
	return says;
}

/* --- in short --- */

bool capture_active(CUstream s) { return false; }
bool capture_forbids(CUstream s) { return false; }
void capture_stream_ends(struct worker *w, CUstream s) { }
void capture_context_ends(struct worker *w, const struct wctx *c) { }
void capture_context_settle(struct worker *w, const struct wctx *c) { }
void fence_drain_frees(struct worker *w) { }
void fence_let_go(int *count) { }
void fence_settle(struct worker *w, int *count, int to) { }
void hook_reap(struct worker *w) { }
bool hook_waiting(void) { return false; }
void lease_uncharge(struct worker *w, uint64_t bytes) { }
bool memory_charge(struct worker *w, uint64_t bytes) { return true; }
CUresult link_release(struct handle *e, bool driver) { return CUDA_SUCCESS; }
void output_forward(struct worker *w) { }
int idm_server_show(struct idm_server *s, uint64_t offset, uint64_t len, void *at) { return 0; }
void watch_end(struct wstream *s) { }
uint64_t range_remove_owner(struct range_map *m, uint64_t owner) { return 0; }
struct handle *handle_add(struct handle_table *t, uint64_t value, enum vgpu_handle_type type, void *object) { return NULL; }
void handle_remove(struct handle_table *t, struct handle *e) { }
void handle_purge(struct handle_table *t, bool (*match)(struct handle *e, void *arg), void *arg) { }
struct handle *object_find(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return NULL; }
void object_release_aux(struct handle *e) { }
void *worker_handle_del(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return NULL; }
int worker_handle_free(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return 0; }
void worker_complain(struct worker *w, const char *fmt, ...) { complaints++; }

void worker_reply(struct worker *w, const struct idm_header *hdr, const struct vgpu_call *call, int idm_error,
		  int cu_result, const void *results, size_t len)
{
	answer = cu_result;
}

/* --- */

static CUresult retain(void)
{
	const struct vgpu_rq_cuDevicePrimaryCtxRetain q = { 0 };
	const struct idm_message m = { .header.payload_len = sizeof(q), .payload = &q };

	worker_hand_cuDevicePrimaryCtxRetain(&worker, &m);
	return answer;
}

static CUresult release(void)
{
	const struct vgpu_rq_cuDevicePrimaryCtxRelease_v2 q = { 0 };
	const struct idm_message m = { .header.payload_len = sizeof(q), .payload = &q };

	worker_hand_cuDevicePrimaryCtxRelease_v2(&worker, &m);
	return answer;
}

static char *end = ARENA;

static int grow(uint64_t size)
{
	int rc = arena_mapped(&worker, end, size);

	end += rc ? 0 : size;
	return rc;
}

int main(void)
{
	bool good = true;
	unsigned int n;

	D.cuDevicePrimaryCtxRetain = fake_retain;
	D.cuDevicePrimaryCtxRelease_v2 = fake_release;
	D.cuCtxSetCurrent = fake_current;
	D.cuMemHostRegister_v2 = fake_register;

	ok(!grow(MIB) && !registered, "without a context a piece is kept for the first one");
	says = CUDA_ERROR_OPERATING_SYSTEM;
	ok(retain() == CUDA_SUCCESS && complaints == 1, "if it cannot be pinned that is told, and there is a context all the same");
	ok(!grow(MIB) && complaints == 2, "and the arena can grow");
	says = CUDA_SUCCESS;
	ok(release() == CUDA_SUCCESS && retain() == CUDA_SUCCESS && registered == 2, "they are pinned in the next one");

	says = CUDA_ERROR_OUT_OF_MEMORY;
	ok(grow(MIB) == -ENOMEM && registered == 2 && complaints == 3, "a piece that cannot be pinned is refused");
	says = CUDA_SUCCESS;
	ok(!grow(2 * MIB) && registered == 3 && arena_piece(&worker, ARENA + 2 * MIB, 4 * MIB) == 2 * MIB, "another may follow");
	says = CUDA_ERROR_ILLEGAL_ADDRESS;
	ok(!grow(MIB) && registered == 3 && complaints == 3, "a broken context needs none");
	says = CUDA_SUCCESS;
	ok(release() == CUDA_SUCCESS && !registered && retain() == CUDA_SUCCESS && registered == 4, "the one after it has all");

	for (n = 4; n < 200 && good; n++)
		good = !grow(IDM_PAGE_SIZE) && registered == n + 1;
	ok(good, "%u pieces are pinned", n);
	release();
	for (; n < ARENA_PIECES && good; n++)
		good = !grow(IDM_PAGE_SIZE);
	ok(good && retain() == CUDA_SUCCESS && registered == n, "%u pieces are pinned at once", n);
	ok(grow(IDM_PAGE_SIZE) == -ENOMEM && registered == n, "one more is refused");
	good = arena_piece(&worker, ARENA, 2 * MIB) == MIB && arena_piece(&worker, ARENA + MIB - 1, 2) == 1 &&
	       arena_piece(&worker, ARENA + 5 * MIB - 1, 2) == 1 && arena_piece(&worker, end - 1, 2) == 1 &&
	       arena_piece(&worker, end, 2) == 2 && arena_piece(&worker, ARENA - 1, 2) == 2;
	for (n = 4; n < ARENA_PIECES; n++)
		good &= arena_piece(&worker, ARENA + 5 * MIB + (n - 4) * IDM_PAGE_SIZE + 1, MIB) == IDM_PAGE_SIZE - 1;
	ok(good, "a copy ends where its piece does");
	release();
	return tap_done();
}
