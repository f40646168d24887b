// SPDX-License-Identifier: Apache-2.0
/* Host memory at reserved addresses, and a driver that does not give them back; with the worker's other files in short. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../worker/worker.h"
#include "tap.h"

#define MIB	(1ull << 20)
#define SIZE	(4 * MIB)
#define PIECE	(2 * MIB)

struct worker_driver worker_driver;
struct worker worker = { .ndevices = 1 };

/* --- the driver --- */

static bool waits;			/* what is queued takes its time; atomic */
static bool keeps, elsewhere;		/* addresses that it is given back; and it does not give them out again */
static unsigned int reserves, frees, maps, pinned;
static void *pinned_at;
static CUresult pins = CUDA_SUCCESS, unpins = CUDA_SUCCESS;

static CUresult fake_reserve(CUdeviceptr *out, size_t size, size_t align, CUdeviceptr hint, unsigned long long flags)
{
	void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	reserves++;
	if (hint && keeps && !elsewhere) {
		munmap(p, size);
		p = (void *)hint;
	}
	*out = (uintptr_t)p;
	return CUDA_SUCCESS;
}

static CUresult fake_free(CUdeviceptr p, size_t size)
{
	frees++;
	if (!keeps)
		munmap((void *)p, size);
	return CUDA_SUCCESS;
}

static CUresult fake_map(CUdeviceptr p, size_t size, size_t offset, CUmemGenericAllocationHandle h, unsigned long long flags)
{
	maps++;
	return CUDA_SUCCESS;
}

static CUresult fake_unmap(CUdeviceptr p, size_t size)
{
	maps--;
	return CUDA_SUCCESS;
}

static CUresult fake_register(void *p, size_t size, unsigned int flags)
{
	if (pins == CUDA_SUCCESS) {
		pinned++;
		pinned_at = p;
	}
	return pins;
}

static CUresult fake_unregister(void *p)
{
	while (__atomic_load_n(&waits, __ATOMIC_SEQ_CST))
		sched_yield();
	if (unpins == CUDA_SUCCESS)
		pinned--;
	return unpins;
}

static CUresult fake_current(CUcontext c) { return CUDA_SUCCESS; }

/* --- in short --- */

static struct wctx contexts[2] = { { .handle = 1, .root = &contexts[0], .refs = 1 },
				   { .handle = 2, .root = &contexts[1], .refs = 1 } };
static struct physical physical = { .size = PIECE, .refs = 1, .handles = 1 };
static bool idle = true;
static int answer, complaints;
static uint64_t value;

bool context_idle(struct wctx *c) { return idle; }
CUresult context_borrow(struct worker *w, CUcontext *made) { *made = NULL; return CUDA_SUCCESS; }
void context_put(struct wctx *c) { __atomic_sub_fetch(&c->refs, 1, __ATOMIC_SEQ_CST); }
void fence_let_go(int *count) { }
void context_give_back(struct worker *w, CUcontext made) { }
void context_set_none(struct worker *w) { w->current = NULL; }
void handle_purge(struct handle_table *t, bool (*match)(struct handle *e, void *arg), void *arg) { }
void handle_remove(struct handle_table *t, struct handle *e) { }
void *worker_handle(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return &physical; }
int worker_handle_add(struct worker *w, uint64_t h, enum vgpu_handle_type t, void *object) { return 0; }
int worker_handle_free(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return 0; }
struct handle *object_find(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return NULL; }
void ipc_forget(uint64_t id) { }
void lease_uncharge(struct worker *w, uint64_t bytes) { }
bool memory_charge(struct worker *w, uint64_t bytes) { return true; }
int worker_device(struct worker *w, uint64_t device) { return 0; }
void worker_complain(struct worker *w, const char *fmt, ...) { complaints++; }

int memory_range_add(struct worker *w, uint64_t base, uint64_t size, enum range_kind kind, uint64_t owner, uint64_t charge)
{
	return range_add(&w->ranges, base, size, kind, owner, charge);
}

static char *arena;

void *idm_server_arena(struct idm_server *s, uint64_t offset, uint64_t len)
{
	return offset > SIZE || len > SIZE - offset ? NULL : arena + offset;
}

int idm_server_show(struct idm_server *s, uint64_t offset, uint64_t len, void *at)
{
	return mremap(arena + offset, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED ? -1 : 0;
}

void worker_reply(struct worker *w, const struct idm_header *hdr, const struct vgpu_call *call, int idm_error,
		  int cu_result, const void *results, size_t len)
{
	answer = cu_result;
	if (len == sizeof(value))
		memcpy(&value, results, len);
}

/* --- */

static CUresult say(void (*fn)(struct worker *w, const struct idm_message *m), uint64_t address, uint64_t size, uint64_t offset,
		    uint64_t flags)
{
	const struct vgpu_vmm q = { .address = address, .size = size, .offset = offset, .flags = flags };
	const struct idm_message m = { .header.payload_len = sizeof(q), .payload = &q };

	fn(&worker, &m);
	return (CUresult)answer;
}

static uint64_t reserve(void)
{
	return say(worker_hand_vmm_reserve, 0, SIZE, 0, 0) == CUDA_SUCCESS ? value : 0;
}

static CUresult unreserve(uint64_t at) { return say(worker_hand_vmm_unreserve, at, SIZE, 0, 0); }
static CUresult show(uint64_t at, uint64_t offset) { return say(worker_hand_vmm_map, at, PIECE, offset, VGPU_VMM_HOST); }
static CUresult map(uint64_t at) { return say(worker_hand_vmm_map, at, PIECE, 0, 0); }
static CUresult unmap(uint64_t at) { return say(worker_hand_vmm_unmap, at, PIECE, 0, 0); }
static CUresult unshow(uint64_t at, uint64_t wait) { return say(worker_hand_vmm_unmap, at, PIECE, 0, VGPU_VMM_HOST | wait); }

static bool is_free(uint64_t at)
{
	bool yes = arena_hold((void *)at, SIZE);

	if (yes)
		munmap((void *)at, SIZE);
	return yes;
}

static void gives_back(void)
{
	uint64_t at = reserve();

	worker.current = &contexts[0];
	worker.primary[0] = &contexts[0];
	ok(at && show(at, PIECE) == CUDA_SUCCESS && frees == 1, "the driver lets go of addresses for host memory");
	arena[PIECE] = 5;
	ok(*(char *)at == 5 && pinned == 1 && pinned_at == (void *)at, "which is there, and pinned there");
	ok(show(at + PIECE, PIECE) == CUDA_SUCCESS && pinned == 2 && frees == 1, "twice, if that is wanted");
	ok(map(at) == CUDA_ERROR_INVALID_VALUE && unreserve(at) == CUDA_ERROR_INVALID_VALUE && !maps, "nothing else is mapped there");
	ok(range_covers(&worker.ranges, at, SIZE), "copies may use all of it");
	idle = false;
	ok(unshow(at, 0) == CUDA_ERROR_NOT_READY && pinned == 2, "it stays while something is queued");
	waits = true;
	ok(unshow(at, VGPU_VMM_HOST_WAIT) == CUDA_ERROR_NOT_READY && unshow(at, 0) == CUDA_ERROR_NOT_READY && pinned == 2 &&
	   __atomic_load_n(&contexts[0].refs, __ATOMIC_SEQ_CST) == 2, "a thread of its own waits for the driver");
	ok(show(at, 0) == CUDA_ERROR_INVALID_VALUE && unreserve(at) == CUDA_ERROR_INVALID_VALUE, "and nothing else has its place");
	__atomic_store_n(&waits, false, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&contexts[0].refs, __ATOMIC_SEQ_CST) == 2)
		sched_yield();
	ok(unshow(at, 0) == CUDA_SUCCESS && pinned == 1, "which is told when it is done");
	idle = true;
	ok(!range_covers(&worker.ranges, at, SIZE) && !is_free(at), "its addresses are held");
	unpins = CUDA_ERROR_OPERATING_SYSTEM;
	ok(unshow(at + PIECE, 0) == unpins && *(char *)(at + PIECE) == 5, "what the driver does not let go of stays mapped");
	unpins = CUDA_SUCCESS;
	ok(unshow(at + PIECE, 0) == CUDA_SUCCESS && !pinned && unreserve(at) == CUDA_SUCCESS && frees == 1 && is_free(at),
	   "unmapped and freed, the addresses are nobody's");
}

static void pinning(void)
{
	uint64_t at = reserve();

	worker.current = NULL;
	worker.primary[0] = NULL;
	ok(show(at, 0) == CUDA_SUCCESS && !pinned, "without a context there is no pinning");
	worker.current = &contexts[0];
	arena_pin(&worker);
	ok(pinned == 1, "the first one does it");
	worker.primary[0] = &contexts[1];
	worker.current = &contexts[1];
	pinned = 0;
	arena_unpinned(&worker, &contexts[0]);
	ok(pinned == 1, "and when that ends another one");
	pins = CUDA_ERROR_OUT_OF_MEMORY;
	ok(show(at + PIECE, 0) == CUDA_ERROR_OUT_OF_MEMORY && !is_free(at), "what cannot be pinned is not mapped");
	pins = CUDA_SUCCESS;
	ok(show(at + PIECE, 0) == CUDA_SUCCESS && pinned == 2, "and may be tried again");
	unpins = CUDA_ERROR_ILLEGAL_ADDRESS;
	ok(unshow(at, 0) == CUDA_SUCCESS, "a broken context is in nobody's way");
	unpins = CUDA_SUCCESS;
	ok(unshow(at + PIECE, 0) == CUDA_SUCCESS && unreserve(at) == CUDA_SUCCESS, "all of it goes");
}

static void keeps_them(void)
{
	uint64_t at = reserve();

	keeps = true;
	complaints = 0;
	ok(show(at, 0) == CUDA_ERROR_NOT_SUPPORTED && complaints == 1, "a driver that keeps addresses is told of");
	ok(map(at) == CUDA_SUCCESS && maps == 1 && show(at + PIECE, 0) == CUDA_ERROR_NOT_SUPPORTED && unmap(at) == CUDA_SUCCESS,
	   "its memory can be mapped there all the same");
	elsewhere = true;
	ok(show(at, 0) == CUDA_ERROR_NOT_SUPPORTED && map(at) == CUDA_ERROR_INVALID_VALUE && show(at, 0) == CUDA_ERROR_NOT_SUPPORTED &&
	   !maps, "if it does not give them out again nothing is");
	frees = 0;
	ok(unreserve(at) == CUDA_SUCCESS && !frees && unreserve(at) == CUDA_ERROR_INVALID_VALUE, "they are gone when the client says so");
}

int main(void)
{
	arena = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	D.cuMemAddressReserve = fake_reserve;
	D.cuMemAddressFree = fake_free;
	D.cuMemMap = fake_map;
	D.cuMemUnmap = fake_unmap;
	D.cuMemHostRegister_v2 = fake_register;
	D.cuMemHostUnregister = fake_unregister;
	D.cuCtxSetCurrent = fake_current;
	/* How much there is of it, for how often it may be mapped. */
	worker.arena[0].addr = arena;
	worker.arena[0].size = SIZE;
	worker.arena[0].pinned = &contexts[1];
	worker.narena = 1;
	gives_back();
	pinning();
	keeps_them();
	return tap_done();
}
