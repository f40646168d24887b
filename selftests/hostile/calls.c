// SPDX-License-Identifier: Apache-2.0
/*
 * Lies in well-formed messages. Handles and addresses that are not the session's are refused and the session goes on;
 * names for new objects that cannot be end it.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "hostile.h"

static const char ptx[] =
	".version 7.0\n.target sm_75\n.address_size 64\n"
	".visible .global .align 8 .u64 count;\n"
	".visible .entry bump()\n{\n"
	"	.reg .b64 %rd<2>;\n"
	"	atom.global.add.u64 %rd1, [count], 1;\n"
	"	ret;\n}\n";

static struct raw r;

static int result(uint16_t type, const void *q, size_t len)
{
	return raw_result(&r, type, q, len);
}

/*
 * Refusals by the dozen, sent in one go: in an emulated pod a wake-up is dear. Each is expected to give @want.
 */
#define BATCH 256
static struct { uint64_t seq; uint16_t type; int want; } batch[BATCH];
static unsigned int batched;

static int refusals(void)
{
	struct idm_response rp;
	unsigned int i, n, left = batched;
	int wrong = 0;

	raw_publish(&r);
	for (n = 0; n < batched; n++) {
		uint64_t seq;

		if (raw_receive_seq(&r, &rp, &seq) != 1)
			break;
		for (i = 0; i < batched && batch[i].seq != seq; i++)
			;
		if (i == batched || rp.cu_result != batch[i].want || rp.latched) {
			printf("# message %#x: CUresult %d, latched %d, instead of %d\n", i < batched ? batch[i].type : 0,
			       rp.cu_result, rp.latched, i < batched ? batch[i].want : 0);
			wrong++;
		}
		left--;
	}
	if (left)
		printf("# %u answers are missing: %s\n", left, raw_reason(&r));
	batched = 0;
	return wrong + left;
}

/* @return what was wrong with earlier ones, if there was no room left */
static int refused(int want, uint16_t type, const void *q, size_t len)
{
	int wrong = batched == BATCH ? refusals() : 0;
	struct idm_header h = raw_header(&r, type, 0, len);

	raw_write(&r, &h, sizeof(h));
	raw_write(&r, q, len);
	raw_align(&r);
	batch[batched].seq = h.seq;
	batch[batched].type = type;
	batch[batched++].want = want;
	return wrong;
}

#define NO(result_, name, ...) \
	refused(result_, VGPU_MSG_##name, &(struct vgpu_rq_##name){ .call = RAW_CALL, ##__VA_ARGS__ }, \
		sizeof(struct vgpu_rq_##name))

#define ASK(name, ...) \
	result(VGPU_MSG_##name, &(struct vgpu_rq_##name){ .call = RAW_CALL, ##__VA_ARGS__ }, sizeof(struct vgpu_rq_##name))

static struct vgpu_launch launch_of(uint64_t function, uint64_t stream)
{
	return (struct vgpu_launch){ .call = RAW_CALL, .function = function, .stream = stream, .grid = { 1, 1, 1 },
				     .block = { 1, 1, 1 } };
}

static int launch(uint64_t function, uint64_t stream)
{
	struct vgpu_launch l = launch_of(function, stream);

	return result(VGPU_MSG_cuLaunchKernel, &l, sizeof(l));
}

static int no_launch(uint64_t function, uint64_t stream)
{
	struct vgpu_launch l = launch_of(function, stream);

	return refused(CUDA_ERROR_INVALID_HANDLE, VGPU_MSG_cuLaunchKernel, &l, sizeof(l));
}

struct bump {
	struct vgpu_get_kernel k;
	char name[8];
};

static struct bump bump_of(uint64_t parent, uint64_t handle)
{
	return (struct bump){ { .call = RAW_CALL, .parent = parent, .handle = handle, .name_len = 4 }, "bump" };
}

static int get_kernel(uint64_t parent, uint64_t handle)
{
	struct bump q = bump_of(parent, handle);

	return result(VGPU_MSG_cuModuleGetFunction, &q, sizeof(q));
}

static int no_kernel(uint64_t parent, uint64_t handle)
{
	struct bump q = bump_of(parent, handle);

	return refused(CUDA_ERROR_INVALID_HANDLE, VGPU_MSG_cuModuleGetFunction, &q, sizeof(q));
}

static int load(uint64_t handle)
{
	struct { struct vgpu_load l; char text[sizeof(ptx)]; } q = {
		{ .call = RAW_CALL, .handle = handle, .image = { VGPU_DATA_INLINE, sizeof(ptx) } }, "" };

	memcpy(q.text, ptx, sizeof(ptx));
	return result(VGPU_MSG_cuModuleLoadData, &q, offsetof(__typeof__(q), text) + sizeof(ptx));
}

static int no_h2d(uint64_t dst, uint64_t offset, uint64_t size, uint32_t async)
{
	struct vgpu_copy_h2d c = { .call = RAW_CALL, .dst = dst, .src = { offset, size }, .async = async };

	return refused(CUDA_ERROR_INVALID_VALUE, VGPU_MSG_cuMemcpyHtoD_v2, &c, sizeof(c));
}

static int no_d2h(uint64_t src, uint64_t offset, uint64_t size, uint32_t async)
{
	struct vgpu_copy_d2h c = { .call = RAW_CALL, .src = src, .dst = { offset, size }, .async = async };

	return refused(CUDA_ERROR_INVALID_VALUE, VGPU_MSG_cuMemcpyDtoH_v2, &c, sizeof(c));
}

static bool start(void)
{
	return raw_open(&r, true) && raw_use_arena(&r) && raw_context(&r) && !ASK(cuStreamCreate, .phStream = MINE(STREAM, 1)) &&
	       !ASK(cuEventCreate, .phEvent = MINE(EVENT, 2)) && !load(MINE(MODULE, 3)) && !load(MINE(LIBRARY, 4)) &&
	       !get_kernel(MINE(MODULE, 3), MINE(FUNCTION, 5)) && !get_kernel(MINE(LIBRARY, 4), MINE(KERNEL, 6)) &&
	       !ASK(cuCtxCreate_v2, .pctx = MINE(CTX, 7));
}

/* Every call that takes a handle of that type says INVALID_HANDLE to @h. @return how many did not, so far */
static int unaccepted(enum vgpu_handle_type type, uint64_t h)
{
	const int no = CUDA_ERROR_INVALID_HANDLE;

	switch (type) {
	case VGPU_H_STREAM:
		return NO(no, cuStreamQuery, .hStream = h) + NO(no, cuStreamSynchronize, .hStream = h) +
		       NO(no, cuStreamWaitEvent, .hStream = h, .hEvent = MINE(EVENT, 2)) +
		       NO(no, cuEventRecord, .hEvent = MINE(EVENT, 2), .hStream = h) + no_launch(MINE(FUNCTION, 5), h) +
		       NO(no, cuMemAllocAsync, .bytesize = 64, .hStream = h) + NO(no, cuStreamDestroy_v2, .hStream = h);
	case VGPU_H_EVENT:
		return NO(no, cuEventQuery, .hEvent = h) + NO(no, cuEventSynchronize, .hEvent = h) +
		       NO(no, cuEventRecord, .hEvent = h) + NO(no, cuStreamWaitEvent, .hEvent = h) +
		       NO(no, cuEventElapsedTime, .hStart = h, .hEnd = MINE(EVENT, 2)) +
		       NO(no, cuEventDestroy_v2, .hEvent = h);
	case VGPU_H_MODULE:
		return no_kernel(h, MINE(FUNCTION, 9)) + NO(no, cuModuleGetFunctionCount, .mod = h) +
		       NO(no, cuModuleUnload, .hmod = h);
	case VGPU_H_LIBRARY:
		return no_kernel(h, MINE(KERNEL, 9)) + NO(no, cuLibraryGetKernelCount, .lib = h) +
		       NO(no, cuLibraryUnload, .library = h);
	case VGPU_H_FUNCTION:
		return no_launch(h, 0) + NO(no, cuFuncSetAttribute, .hfunc = h);
	case VGPU_H_KERNEL:
		return no_launch(h, 0) + NO(no, cuKernelSetAttribute, .kernel = h);
	case VGPU_H_CTX:
		return NO(no, cuCtxDestroy_v2, .ctx = h) +
		       refused(no, VGPU_MSG_cuMemGetInfo_v2,
			       &(struct vgpu_rq_cuMemGetInfo_v2){ .call = { .ctx = h, .thread = 1 } },
			       sizeof(struct vgpu_rq_cuMemGetInfo_v2));
	default:
		return 1;
	}
}

static bool means_nothing(enum vgpu_handle_type type, uint64_t h)
{
	int wrong = unaccepted(type, h);

	return !(wrong + refusals());
}

static const struct {
	const char *name;
	enum vgpu_handle_type type;
	uint64_t mine;
} kinds[] = {
	{ "stream", VGPU_H_STREAM, MINE(STREAM, 1) },	    { "event", VGPU_H_EVENT, MINE(EVENT, 2) },
	{ "module", VGPU_H_MODULE, MINE(MODULE, 3) },	    { "library", VGPU_H_LIBRARY, MINE(LIBRARY, 4) },
	{ "function", VGPU_H_FUNCTION, MINE(FUNCTION, 5) }, { "kernel", VGPU_H_KERNEL, MINE(KERNEL, 6) },
	{ "context", VGPU_H_CTX, MINE(CTX, 7) },
};

static void forged_handles(void)
{
	size_t i, k;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		uint64_t h = kinds[i].mine;
		const uint64_t forged[] = {
			h + (1ull << 40), h - (1ull << 40), h + 1, h ^ 1ull << 63, h | 0xffffff0000000000ull,
			VGPU_HANDLE(0x51, VGPU_H_TYPES, VGPU_HANDLE_INDEX(h)),
			VGPU_HANDLE(0x51, kinds[i].type, VGPU_HANDLES_MAX - 1), VGPU_HANDLE(0x51, kinds[i].type, UINT32_MAX),
			VGPU_HANDLE(0x51, kinds[i].type, 0), 0x7fffdeadbeefull, UINT64_MAX,
			kinds[i].type == VGPU_H_STREAM ? MINE(EVENT, 2) : MINE(STREAM, 1),
		};
		int wrong = 0;

		for (k = 0; k < sizeof(forged) / sizeof(forged[0]); k++)
			wrong += unaccepted(kinds[i].type, forged[k]);
		wrong += refusals();
		report(!wrong, "a %s by a wrong generation, index, type or address is refused by every call",
		       kinds[i].name);
	}
	report(means_nothing(VGPU_H_STREAM, neighbour_stream()) && means_nothing(VGPU_H_EVENT, neighbour_event()),
	       "the neighbour's own handles mean nothing here");
}

static void stale_handles(void)
{
	bool good;

	good = !ASK(cuEventDestroy_v2, .hEvent = MINE(EVENT, 2)) && means_nothing(VGPU_H_EVENT, MINE(EVENT, 2)) &&
	       !ASK(cuStreamDestroy_v2, .hStream = MINE(STREAM, 1));
	report(good && !ASK(cuEventCreate, .phEvent = MINE(EVENT, 2)) && means_nothing(VGPU_H_STREAM, MINE(STREAM, 1)),
	       "destroyed streams and events are gone");
	good = !ASK(cuModuleUnload, .hmod = MINE(MODULE, 3)) && means_nothing(VGPU_H_MODULE, MINE(MODULE, 3)) &&
	       means_nothing(VGPU_H_FUNCTION, MINE(FUNCTION, 5));
	report(good, "an unloaded module takes its functions along");
	good = !ASK(cuLibraryUnload, .library = MINE(LIBRARY, 4)) && means_nothing(VGPU_H_KERNEL, MINE(KERNEL, 6));
	report(good, "an unloaded library takes its kernels along");
	good = !ASK(cuCtxDestroy_v2, .ctx = MINE(CTX, 7)) && means_nothing(VGPU_H_CTX, MINE(CTX, 7));
	report(good, "a destroyed context is gone");
}

static void wild_addresses(void)
{
	uint64_t mine = raw_alloc(&r, 8192), other = raw_alloc(&r, 8192), wild[] = {
		1, 4096, 0x7fff00000000ull, UINT64_MAX, UINT64_MAX - 4095, mine - 1, mine + 8192 - 63,
		IDM_ARENA_SLOT(1) + (1ull << 39), 0xffff800000000000ull,
	};
	const int no = CUDA_ERROR_INVALID_VALUE;
	int wrong = !mine || !other;
	size_t i;

	for (i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		uint64_t a = wild[i];

		wrong += no_h2d(a, 0, 64, 0) + no_h2d(a, 0, 64, 1) + no_d2h(a, 0, 64, 0) +
			 no_d2h(a, VGPU_DATA_INLINE, 64, 0) + NO(no, cuMemcpyDtoD_v2, a, mine, 64) +
			 NO(no, cuMemcpyDtoD_v2, mine, a, 64) + NO(no, cuMemsetD8_v2, a, 1, 64) +
			 NO(no, cuMemsetD32Async, a, 1, 16) + NO(no, cuMemFree_v2, a) +
			 NO(no, cuMemsetD2D8_v2, a, 8, 1, 8, 8);
	}
	wrong += refusals();
	report(!wrong, "copies, memsets and frees of addresses that are not the session's are refused");

	wrong = NO(no, cuMemsetD32_v2, mine, 1, UINT64_MAX / 2) + NO(no, cuMemsetD32_v2, mine, 1, 1ull << 62) +
		NO(no, cuMemcpyDtoD_v2, mine, mine, UINT64_MAX) + no_h2d(mine, 0, 8193, 0) +
		NO(no, cuMemsetD2D32_v2, mine, 1ull << 33, 0, 4, 1ull << 31) +
		NO(no, cuMemsetD2D8_v2, mine, UINT64_MAX, 0, 1, 3) + refusals();
	report(!wrong, "lengths that leave an allocation or wrap are refused");

	wrong = NO(no, cuMemFree_v2, mine + 256) + NO(0, cuMemFree_v2, mine) + NO(no, cuMemFree_v2, mine) +
		no_h2d(mine, 0, 64, 0);
	wrong += refusals();
	report(!wrong, "freed memory can neither be freed nor copied to again");
	ASK(cuMemFree_v2, other);
}

static void wild_offsets(void)
{
	uint64_t mine = raw_alloc(&r, 65536), wild[] = { 1ull << 40, UINT64_MAX - 1, UINT64_MAX - 63, 1ull << 63,
						 r.l.arena_size, r.l.arena_size - 3 };
	const int no = CUDA_ERROR_INVALID_VALUE;
	struct vgpu_load l = { .call = RAW_CALL, .handle = MINE(MODULE, 20) };
	struct vgpu_host_func f = { .call = RAW_CALL, .ticket = 1 };
	int wrong = !mine;
	size_t i;

	for (i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		struct vgpu_copy_box c = { .call = RAW_CALL, .src = { .type = CU_MEMORYTYPE_HOST, .at = wild[i], .pitch = 64 },
					   .dst = { .type = CU_MEMORYTYPE_DEVICE, .at = mine, .pitch = 64 }, .width = 64,
					   .height = 2, .depth = 1 };

		wrong += no_h2d(mine, wild[i], 64, 0) + no_h2d(mine, wild[i], 64, 1) + no_d2h(mine, wild[i], 64, 0) +
			 refused(no, VGPU_MSG_cuMemcpy2D_v2, &c, sizeof(c));
		l.image = (struct vgpu_data){ wild[i], 64 };
		wrong += refused(CUDA_ERROR_INVALID_IMAGE, VGPU_MSG_cuModuleLoadData, &l, sizeof(l));
		f.ack = wild[i];
		wrong += refused(no, VGPU_MSG_cuLaunchHostFunc, &f, sizeof(f));
	}
	wrong += refusals();
	report(!wrong, "offsets outside the arena are refused by copies, loads and host functions");

	wrong = 0;
	for (i = 0; i < 9; i++) {
		struct vgpu_copy_box c = { .call = RAW_CALL, .src = { .type = CU_MEMORYTYPE_HOST, .pitch = 64, .rows = 2 },
					   .dst = { .type = CU_MEMORYTYPE_DEVICE, .at = mine, .pitch = 64, .rows = 2 },
					   .width = 64, .height = 2, .depth = 1 };

		*(uint64_t *[]){ &c.width, &c.height, &c.depth, &c.src.y, &c.dst.y, &c.src.x, &c.dst.x, &c.src.z,
				 &c.dst.z }[i] = UINT64_MAX - i;
		wrong += refused(no, VGPU_MSG_cuMemcpy2D_v2, &c, sizeof(c));
	}
	for (i = 0; i < 4; i++) {
		struct vgpu_copy_box c = { .call = RAW_CALL, .src = { .type = CU_MEMORYTYPE_HOST, .pitch = (i & 1) * 64 },
					   .dst = { .type = CU_MEMORYTYPE_DEVICE, .at = mine, .pitch = !(i & 1) * 64 },
					   .width = 64, .height = i < 2 ? 1024 : 1, .depth = i < 2 ? 1 : 1024 };

		wrong += refused(no, VGPU_MSG_cuMemcpy2D_v2, &c, sizeof(c));
	}
	/* An array that is none; one's slices that wrap. */
	for (i = 0; i < 3; i++) {
		struct vgpu_copy_box c = { .call = RAW_CALL, .src = { .type = CU_MEMORYTYPE_HOST, .pitch = 64, .rows = 1 },
					   .dst = { .type = CU_MEMORYTYPE_ARRAY, .at = i ? mine : MINE(ARRAY, 30) },
					   .width = 64, .height = 1, .depth = 1 };

		if (i == 2)
			c.dst.type = 9;
		wrong += refused(i == 2 ? no : CUDA_ERROR_INVALID_HANDLE, VGPU_MSG_cuMemcpy2D_v2, &c, sizeof(c));
	}
	wrong += refusals();
	report(!wrong, "copies of boxes whose extent wraps, that claim to need no pitch, or name no array, are refused");
	ASK(cuMemFree_v2, mine);
}

/* The same of a graph's nodes, which have x, y and z, and are carried out later. */
static int node(const CUDA_MEMCPY3D *c, int want)
{
	struct vgpu_graph_node q = { .call = RAW_CALL, .graph = MINE(GRAPH, 31), .handle = MINE(GRAPHNODE, 32) };
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEMCPY, .memcpy.copyParams = *c };
	int got;

	p.memcpy.copyCtx = (CUcontext)VGPU_PRIMARY_CTX(0);
	memcpy(q.node.params, &p, sizeof(p));
	got = result(VGPU_MSG_cuGraphAddNode_v2, &q, sizeof(q));
	if (!got)
		ASK(cuGraphDestroyNode, .hNode = q.handle);
	if (got == want)
		return 0;
	printf("# a node that copies from host memory, height %zu, depth %zu, y %zu, z %zu, pitch %zu, rows %zu: CUresult %d\n",
	       c->Height, c->Depth, c->srcY, c->srcZ, c->srcPitch, c->srcHeight, got);
	return 1;
}

static void wild_boxes(void)
{
	const int no = CUDA_ERROR_INVALID_VALUE;
	const uint64_t mine = raw_alloc(&r, 4096);
	const CUDA_MEMCPY3D good = {
		.srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = (void *)IDM_ARENA_SLOT(1), .srcPitch = 8,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = mine, .dstPitch = 8, .srcHeight = 1, .dstHeight = 1,
		.WidthInBytes = 8, .Height = 1, .Depth = 1,
	};
	int wrong = !mine || ASK(cuGraphCreate, .phGraph = MINE(GRAPH, 31));

#define NODE(want, ...) ({ CUDA_MEMCPY3D c = good; __VA_ARGS__; node(&c, want); })
	wrong += NODE(0) + NODE(0, c.srcPitch = c.dstPitch = 0) + NODE(0, c.srcHeight = c.dstHeight = 0) +
		 NODE(0, c.Height = 2; c.Depth = 2; c.srcHeight = c.dstHeight = 2) + NODE(0, c.srcZ = 3) +
		 NODE(0, c.srcY = 1; c.srcHeight = 0);
	/* Without rows a driver may take the box's own height for them, and without a pitch its width. */
	wrong += NODE(no, c.srcHeight = 0; c.srcZ = 1ull << 40) + NODE(no, c.dstHeight = 0; c.dstZ = 1ull << 40) +
		 NODE(no, c.srcHeight = 0; c.srcZ = 1) + NODE(no, c.srcHeight = 0; c.Depth = 1 << 30) +
		 NODE(no, c.srcPitch = 0; c.srcY = 1ull << 40) + NODE(no, c.srcPitch = 0; c.Height = 1 << 30) +
		 NODE(no, c.srcPitch = 0; c.srcZ = 1ull << 40) + NODE(no, c.srcPitch = 4; c.Height = 2) +
		 NODE(no, c.srcHeight = 1; c.Height = 2; c.Depth = 2) + NODE(no, c.srcHeight = 2; c.srcY = 2; c.srcZ = 1) +
		 NODE(no, c.srcXInBytes = 1; c.srcY = 1);
	/* Beyond what there is, and so far that it wraps. */
	wrong += NODE(no, c.srcZ = 1ull << 40) + NODE(no, c.dstZ = 4096 / 8) + NODE(no, c.srcY = 1ull << 40; c.srcHeight = 0) +
		 NODE(no, c.srcXInBytes = 1ull << 40) + NODE(no, c.srcXInBytes = UINT64_MAX - 3) +
		 NODE(no, c.srcZ = 1ull << 61) + NODE(no, c.srcHeight = 1ull << 61; c.Depth = 2) +
		 NODE(no, c.srcHost = (void *)(IDM_ARENA_SLOT(1) - 8)) + NODE(no, c.reserved0 = (void *)mine);
#undef NODE
	report(!wrong, "nodes of graphs that copy boxes copy from and to what is the session's, or are refused");
	ASK(cuGraphDestroy, .hGraph = MINE(GRAPH, 31));
	ASK(cuMemFree_v2, mine);
}

/*
 * What comes in a message, or goes with a reply, is there for one copy. A graph would make it again, from bytes that are
 * gone: so a stream that captures takes none, whoever has made it capture.
 */
static int inline_copies(uint64_t stream, uint64_t mine, uint32_t async, int want)
{
	struct { struct vgpu_copy_h2d c; char bytes[256]; } to = {
		{ .call = RAW_CALL, .dst = mine, .stream = stream, .src = { VGPU_DATA_INLINE, 256 }, .async = async }, "" };
	struct vgpu_copy_d2h from = { .call = RAW_CALL, .src = mine, .stream = stream, .dst = { VGPU_DATA_INLINE, 256 },
				      .async = async };

	return refused(want, VGPU_MSG_cuMemcpyHtoD_v2, &to, sizeof(to)) +
	       refused(want, VGPU_MSG_cuMemcpyDtoH_v2, &from, sizeof(from)) + refusals();
}

static void inline_captures(void)
{
	const uint64_t mine = raw_alloc(&r, 4096), one = MINE(STREAM, 33), two = MINE(STREAM, 34), event = MINE(EVENT, 35);
	struct vgpu_capture_end end = { .call = RAW_CALL, .stream = one, .fresh = MINE(GRAPH, 36) };
	struct vgpu_copy_h2d arena = { .call = RAW_CALL, .dst = mine, .stream = one, .src = { 0, 256 }, .async = 1 };
	const int no = CUDA_ERROR_NOT_SUPPORTED;
	int wrong = !mine || ASK(cuStreamCreate, .phStream = one) || ASK(cuStreamCreate, .phStream = two) ||
		    ASK(cuEventCreate, .phEvent = event);

	wrong += ASK(cuStreamBeginCapture_v2, .hStream = one, .mode = CU_STREAM_CAPTURE_MODE_RELAXED) != 0;
	wrong += inline_copies(one, mine, 1, no) + inline_copies(two, mine, 1, 0);
	wrong += NO(0, cuEventRecord, .hEvent = event, .hStream = one) +
		 NO(0, cuStreamWaitEvent, .hStream = two, .hEvent = event);
	wrong += inline_copies(two, mine, 1, no);
	wrong += refused(0, VGPU_MSG_cuMemcpyHtoD_v2, &arena, sizeof(arena));
	wrong += NO(0, cuEventRecord, .hEvent = event, .hStream = two) +
		 NO(0, cuStreamWaitEvent, .hStream = one, .hEvent = event);
	wrong += refused(0, VGPU_MSG_cuStreamEndCapture, &end, sizeof(end)) + refusals();
	wrong += inline_copies(one, mine, 1, 0) + inline_copies(two, mine, 1, 0);
	/* Of a thread's default stream also by copies that wait. */
	end.stream = 2;
	end.fresh = MINE(GRAPH, 37);
	wrong += ASK(cuStreamBeginCapture_v2, .hStream = 2, .mode = CU_STREAM_CAPTURE_MODE_RELAXED) != 0;
	wrong += inline_copies(2, mine, 1, no) + inline_copies(2, mine, 0, no);
	wrong += refused(0, VGPU_MSG_cuStreamEndCapture, &end, sizeof(end)) + refusals();
	wrong += inline_copies(2, mine, 0, 0);
	report(!wrong, "a stream that captures takes no copy from a message or into a reply");
	wrong = NO(0, cuGraphDestroy, .hGraph = MINE(GRAPH, 36)) + NO(0, cuGraphDestroy, .hGraph = MINE(GRAPH, 37)) +
		NO(0, cuStreamDestroy_v2, .hStream = one) + NO(0, cuStreamDestroy_v2, .hStream = two) +
		NO(0, cuEventDestroy_v2, .hEvent = event) + NO(0, cuMemFree_v2, mine) + refusals();
	report(!wrong, "and its graph is an ordinary one");
}

/* A context takes the captures of its streams along, and with them the graphs that nobody has got yet. */
static void captures_of_contexts(void)
{
	const uint64_t ctx = MINE(CTX, 38), stream = MINE(STREAM, 39), graph = MINE(GRAPH, 40);
	const struct vgpu_call in = { .ctx = ctx, .thread = 1 };
	struct vgpu_capture_info ask = { .call = in, .stream = stream, .fresh = graph };
	struct vgpu_rq_cuStreamBeginCapture_v2 begin = { .call = in, .hStream = stream, .mode = CU_STREAM_CAPTURE_MODE_RELAXED };
	struct vgpu_rq_cuStreamCreate create = { .call = in, .phStream = stream };
	bool good = !ASK(cuCtxCreate_v2, .pctx = ctx) && !result(VGPU_MSG_cuStreamCreate, &create, sizeof(create)) &&
		    !result(VGPU_MSG_cuStreamBeginCapture_v2, &begin, sizeof(begin)) &&
		    !result(VGPU_MSG_cuStreamGetCaptureInfo_v3, &ask, sizeof(ask)) && !ASK(cuCtxDestroy_v2, .ctx = ctx);
	int wrong = NO(CUDA_ERROR_INVALID_HANDLE, cuGraphDestroy, .hGraph = graph) + refusals();

	report(good && !wrong, "a graph that a destroyed context's stream was capturing is gone");
}

/*
 * A free that the driver refuses must not count as one: what is still there would not be in the quota any more. Without a
 * context the software GPU refuses; NVIDIA's driver frees.
 */
static void refused_free(void)
{
	struct vgpu_rq_cuMemFree_v2 f = { .call = { .thread = 1 }, .dptr = raw_alloc(&r, 65536) };
	bool freed = !result(VGPU_MSG_cuMemFree_v2, &f, sizeof(f));
	int wrong = NO(freed ? CUDA_ERROR_INVALID_VALUE : 0, cuMemsetD8_v2, f.dptr, 1, 65536) + refusals();

	report(!wrong && (freed || !ASK(cuMemFree_v2, f.dptr)), "memory whose free was refused still belongs to the session");
}

/* Device memory that is not allocated by name: it must come out of the quota all the same. */
static void greedy_limits(void)
{
	struct vgpu_rq_cuMemGetInfo_v2 ask = { .call = RAW_CALL };
	struct vgpu_rp_cuMemGetInfo_v2 before = { 0 }, after = { 0 };
	struct idm_response rp;
	bool good;

	raw_call(&r, VGPU_MSG_cuMemGetInfo_v2, &ask, sizeof(ask), &rp, &before, sizeof(before));
	good = ASK(cuCtxSetLimit, .limit = CU_LIMIT_MALLOC_HEAP_SIZE, .value = 1ull << 50) == CUDA_ERROR_OUT_OF_MEMORY &&
	       !ASK(cuCtxSetLimit, .limit = CU_LIMIT_MALLOC_HEAP_SIZE, .value = 24 << 20);
	raw_call(&r, VGPU_MSG_cuMemGetInfo_v2, &ask, sizeof(ask), &rp, &after, sizeof(after));
	good = good && before.free - after.free == 16 << 20 &&
	       !ASK(cuCtxSetLimit, .limit = CU_LIMIT_MALLOC_HEAP_SIZE, .value = 8 << 20);
	raw_call(&r, VGPU_MSG_cuMemGetInfo_v2, &ask, sizeof(ask), &rp, &after, sizeof(after));
	report(good && before.free == after.free, "a context's limits take of the quota, and no more than there is");
}

/* A number that is another one in 32 bits: what is compared in 64 must not be what the driver gets. */
static void wide_numbers(void)
{
	const uint64_t high = 1ull << 32;
	const int no = CUDA_ERROR_INVALID_VALUE;
	int wrong = ASK(cuDeviceGetDefaultMemPool, .dev = 0, .pool_out = MINE(MEMPOOL, 30));

	wrong += NO(no, cuCtxSetLimit, .limit = high | CU_LIMIT_MALLOC_HEAP_SIZE, .value = 1ull << 50) +
		 NO(no, cuMemPoolSetAttribute, .pool = MINE(MEMPOOL, 30), .attr = high | CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
		    .value = UINT64_MAX) +
		 NO(no, cuMemsetD8_v2, .dstDevice = 0, .uc = 256, .N = 0) + NO(no, cuCtxGetLimit, .limit = high) +
		 NO(no, cuFuncSetAttribute, .hfunc = MINE(FUNCTION, 5), .value = high) +
		 NO(no, cuFuncSetAttribute, .hfunc = MINE(FUNCTION, 5), .value = UINT32_MAX) + refusals();
	/* Signed ones come with their sign. */
	wrong += NO(0, cuStreamCreateWithPriority, .phStream = MINE(STREAM, 31), .priority = (uint64_t)-1) +
		 NO(0, cuStreamDestroy_v2, .hStream = MINE(STREAM, 31)) + refusals();
	report(!wrong, "numbers that would change when they are made narrow are refused");
}

/* What a pool keeps of freed memory is there: it may not be had a second time, with the pool's or without. */
static void kept_memory(void)
{
	struct vgpu_rq_cuMemPoolGetAttribute reserved = { .call = RAW_CALL, .pool = MINE(MEMPOOL, 30),
							  .attr = CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT };
	struct vgpu_rq_cuMemGetInfo_v2 ask = { .call = RAW_CALL };
	struct vgpu_rp_cuMemPoolGetAttribute kept = { 0 }, after = { 0 };
	struct vgpu_rp_cuMemGetInfo_v2 info = { 0 };
	struct vgpu_rp_cuMemAllocAsync rp = { 0 };
	struct vgpu_rq_cuMemAllocAsync some = { .call = RAW_CALL };
	struct idm_response rs;
	uint64_t most, got;
	bool good;

	raw_call(&r, VGPU_MSG_cuMemGetInfo_v2, &ask, sizeof(ask), &rs, &info, sizeof(info));
	most = some.bytesize = info.free / 4 * 3;
	good = !ASK(cuMemPoolSetAttribute, .pool = MINE(MEMPOOL, 30), .attr = CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
		    .value = UINT64_MAX) &&
	       raw_call(&r, VGPU_MSG_cuMemAllocAsync, &some, sizeof(some), &rs, &rp, sizeof(rp)) == 1 && rp.dptr &&
	       !ASK(cuMemFreeAsync, .dptr = rp.dptr);
	raw_call(&r, VGPU_MSG_cuMemPoolGetAttribute, &reserved, sizeof(reserved), &rs, &kept, sizeof(kept));
	good = good && kept.value >= most;
	got = raw_alloc(&r, most);
	raw_call(&r, VGPU_MSG_cuMemPoolGetAttribute, &reserved, sizeof(reserved), &rs, &after, sizeof(after));
	report(good && got && after.value <= info.free - most, "what a pool keeps counts, and goes when it is needed");
	ASK(cuMemFree_v2, got);
	ASK(cuMemPoolSetAttribute, .pool = MINE(MEMPOOL, 30), .attr = CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, .value = 0);
}

static uint64_t ask_later(uint16_t type, const void *q, size_t len)
{
	raw_send(&r, type, 0, q, len);
	return r.seq;
}

#define LATER(name, ...) \
	ask_later(VGPU_MSG_##name, &(struct vgpu_rq_##name){ __VA_ARGS__ }, sizeof(struct vgpu_rq_##name))
#define POST(name, ...) \
	raw_send(&r, VGPU_MSG_##name, IDM_FLAG_POSTED, &(struct vgpu_rq_##name){ __VA_ARGS__ }, sizeof(struct vgpu_rq_##name))

/* What a graph does not hold may be gone already, although nobody has said so yet. */
static void released_twice(void)
{
	const uint64_t graph = MINE(GRAPH, 44), clone = MINE(GRAPH, 45), object = MINE(USEROBJ, 46);
	struct vgpu_user_object make = { .call = RAW_CALL, .handle = object, .id = 1, .count = 2,
					 .flags = CU_USER_OBJECT_NO_DESTRUCTOR_SYNC };
	const int no = CUDA_ERROR_INVALID_VALUE;
	struct idm_response end;
	int wrong = ASK(cuGraphCreate, .phGraph = graph) || result(VGPU_MSG_cuUserObjectCreate, &make, sizeof(make));

	wrong += NO(no, cuGraphReleaseUserObject, .graph = graph, .object = object, .count = 1) +
		 NO(0, cuGraphRetainUserObject, .graph = graph, .object = object, .count = 2,
		    .flags = CU_GRAPH_USER_OBJECT_MOVE) +
		 NO(no, cuGraphReleaseUserObject, .graph = graph, .object = object, .count = 3) +
		 NO(no, cuGraphReleaseUserObject, .graph = graph, .object = object) +
		 NO(0, cuGraphClone, .phGraphClone = clone, .originalGraph = graph) +
		 NO(no, cuGraphReleaseUserObject, .graph = clone, .object = object, .count = 2) +
		 NO(0, cuGraphReleaseUserObject, .graph = clone, .object = object, .count = 1) +
		 NO(no, cuGraphReleaseUserObject, .graph = clone, .object = object, .count = 1) + refusals();
	/* The last ones: all that comes is word of the object's end. */
	POST(cuGraphReleaseUserObject, .call = RAW_CALL, .graph = graph, .object = object, .count = 2);
	wrong += raw_receive(&r, &end, NULL, 0, 10000) != 1;
	wrong += NO(no, cuGraphReleaseUserObject, .graph = graph, .object = object, .count = 1) +
		 NO(0, cuGraphDestroy, .hGraph = graph) + NO(0, cuGraphDestroy, .hGraph = clone) + refusals();
	report(!wrong, "a graph's user objects are released as often as it holds them");
}

/* Everything that is being waited for is destroyed meanwhile, the context last. */
static void ends_during_waits(void)
{
	const uint64_t ctx = MINE(CTX, 41), stream = MINE(STREAM, 42), event = MINE(EVENT, 43);
	const struct vgpu_call in = { .ctx = ctx, .thread = 1 };
	struct vgpu_host_func f = { .call = in, .stream = stream, .id = 1, .ticket = 1 };
	uint32_t *ack = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r.l.fd, r.l.arena_offset);
	uint64_t seq, wanted[4];
	unsigned int i, answered = 0;
	struct idm_response rp;

	if (ack == MAP_FAILED || ASK(cuCtxCreate_v2, .pctx = ctx)) {
		report(false, "a context and a word of the arena");
		return;
	}
	*ack = 0;
	POST(cuStreamCreate, .call = in, .phStream = stream);
	POST(cuEventCreate, .call = in, .phEvent = event);
	raw_send(&r, VGPU_MSG_cuLaunchHostFunc, IDM_FLAG_POSTED, &f, sizeof(f));
	POST(cuEventRecord, .call = in, .hEvent = event, .hStream = stream);
	/* From a context that stays, so that a wait is looked at as long as possible. */
	wanted[0] = LATER(cuEventSynchronize, .call = RAW_CALL, .hEvent = event);
	wanted[1] = LATER(cuStreamSynchronize, .call = { .ctx = VGPU_PRIMARY_CTX(0), .thread = 2 }, .hStream = stream);
	wanted[2] = LATER(cuStreamSynchronize, .call = in, .hStream = stream);
	POST(cuEventDestroy_v2, .call = in, .hEvent = event);
	POST(cuStreamDestroy_v2, .call = in, .hStream = stream);
	POST(cuCtxDestroy_v2, .call = RAW_CALL, .ctx = ctx);
	wanted[3] = LATER(cuCtxSynchronize, .call = RAW_CALL);
	nanosleep(&(struct timespec){ .tv_nsec = 30000000 }, NULL);
	__atomic_store_n(ack, 1, __ATOMIC_RELEASE);
	/* One more message is the host function's. */
	for (i = 0; i < 5 && raw_receive_seq(&r, &rp, &seq) == 1; i++)
		answered += (seq == wanted[0] || seq == wanted[1] || seq == wanted[2] || seq == wanted[3]) && !rp.error;
	munmap(ack, 4096);
	if (answered != 4)
		printf("# %u answers of 4: %s\n", answered, raw_reason(&r));
	report(answered == 4 && means_nothing(VGPU_H_CTX, ctx),
	       "what is waited for may be destroyed meanwhile, and every wait is answered");
}

/* Images that claim to be longer than they are: the driver would read on. */
static void lying_images(void)
{
	struct { struct vgpu_load l; unsigned char image[256]; } q = {
		{ .call = RAW_CALL, .handle = MINE(MODULE, 21), .image = { VGPU_DATA_INLINE, 256 } }, { 0 } };
	static const struct { uint32_t magic; uint16_t version, header; uint64_t size; } fatbin = {
		0xBA55ED50u, 1, 16, 1ull << 40 };
	static const unsigned char elf[64] = { 0x7f, 'E', 'L', 'F', 2, 1, 1, [40] = 0xff, 0xff, 0xff, 0xff, 0xff,
					       [58] = 64, [60] = 0xff, 0xff };
	const uint64_t wrapper[3] = { 0x1466243B1ull, 0x7fff00000000ull, 0 };
	int wrong = 0;

	memcpy(q.image, &fatbin, sizeof(fatbin));
	wrong += result(VGPU_MSG_cuModuleLoadData, &q, sizeof(q)) != CUDA_ERROR_INVALID_IMAGE;
	memcpy(q.image, elf, sizeof(elf));
	wrong += result(VGPU_MSG_cuModuleLoadData, &q, sizeof(q)) != CUDA_ERROR_INVALID_IMAGE;
	memcpy(q.image, wrapper, sizeof(wrapper));
	wrong += result(VGPU_MSG_cuModuleLoadData, &q, sizeof(q)) != CUDA_ERROR_INVALID_IMAGE;
	memset(q.image, 'x', sizeof(q.image));
	wrong += !result(VGPU_MSG_cuModuleLoadData, &q, sizeof(q));
	report(!wrong, "images longer than what came, and wrappers with addresses, are refused");
}

/* Images in parts that are no image: gaps, ends beyond the end, loads of what has not come, more than may be under way. */
static void lying_parts(void)
{
	struct vgpu_image_part p = { .call = RAW_CALL, .handle = MINE(MODULE, 22), .size = 1 << 20, .data = { 0, 4096 } };
	struct vgpu_load l = { .call = RAW_CALL, .handle = MINE(MODULE, 22), .image = { VGPU_DATA_UPLOADED, 1 << 20 } };
	int wrong = 0;

#define PART(...) ({ struct vgpu_image_part p_ = p; __VA_ARGS__; result(VGPU_MSG_image_part, &p_, sizeof(p_)); })
	wrong += PART(p_.at = 4096) != CUDA_ERROR_INVALID_VALUE;	/* nothing has begun */
	wrong += PART() != 0;
	wrong += PART(p_.at = 8192) != CUDA_ERROR_INVALID_VALUE;
	wrong += PART(p_.at = UINT64_MAX - 4095) != CUDA_ERROR_INVALID_VALUE;
	wrong += PART(p_.at = 4096; p_.size = 1 << 21) != CUDA_ERROR_INVALID_VALUE;
	wrong += PART(p_.at = 4096; p_.data.size = UINT64_MAX) != CUDA_ERROR_INVALID_VALUE;
	wrong += PART(p_.at = 4096; p_.data.offset = UINT64_MAX - 2048) != CUDA_ERROR_INVALID_VALUE;
	wrong += PART(p_.size = 2048) != CUDA_ERROR_INVALID_VALUE;
	wrong += PART(p_.size = UINT64_MAX) != CUDA_ERROR_INVALID_VALUE;
	wrong += PART(p_.size = 0; p_.data.size = 0) != CUDA_ERROR_INVALID_VALUE;
	report(!wrong, "parts of an image out of order, or beyond its end or the arena, are refused");

	wrong = !PART(p_.at = 4096; p_.size = 1) + (PART() != 0);
	wrong += !result(VGPU_MSG_cuModuleLoadData, &l, sizeof(l));	/* 4096 bytes of a MiB have come */
	wrong += !result(VGPU_MSG_cuModuleLoadData, &l, sizeof(l));	/* and now none */
	for (unsigned int i = 0; i < 3 * VGPU_UPLOADS; i++)
		wrong += PART(p_.handle += (uint64_t)i << 40; p_.size = 1 << 30) != 0;
	p.handle = MINE(MODULE, 23);
	l.handle = p.handle;
	l.image.size = 4096;
	wrong += PART(p_.size = 4096) != 0;
	wrong += !result(VGPU_MSG_cuModuleLoadData, &l, sizeof(l));	/* it is no image */
	report(!wrong, "what has not all come is not loaded, and begun uploads without end take nothing");
#undef PART
}

static void launches(void)
{
	struct { struct vgpu_launch l; CUlaunchAttribute a[1]; } q = {
		{ .call = RAW_CALL, .function = MINE(FUNCTION, 5), .grid = { 1, 1, 1 }, .block = { 1, 1, 1 }, .nattrs = 1 },
		{ { 0 } } };
	int wrong = 0;

	_Static_assert(offsetof(__typeof__(q), a) == sizeof(struct vgpu_launch), "no hole");
	q.a[0].id = 4711;
	wrong += result(VGPU_MSG_cuLaunchKernel, &q, sizeof(q)) != CUDA_ERROR_NOT_SUPPORTED;
	q.a[0].id = CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE;
	wrong += result(VGPU_MSG_cuLaunchKernel, &q, sizeof(q)) != CUDA_ERROR_NOT_SUPPORTED;
	q.a[0].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT;
	q.a[0].value.programmaticEvent.event = (CUevent)0x7fffdeadbeefull;
	wrong += result(VGPU_MSG_cuLaunchKernel, &q, sizeof(q)) != CUDA_ERROR_INVALID_HANDLE;
	wrong += ASK(cuStreamSetAttribute, .hStream = MINE(STREAM, 1), .attr = CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT,
		     .param.launchCompletionEvent.event = (CUevent)0x7fffdeadbeefull) != CUDA_ERROR_NOT_SUPPORTED;
	report(!wrong, "launch and stream attributes that are unknown or hold foreign events are refused");

	/* The ordinary launch works after all that. */
	report(!launch(MINE(FUNCTION, 5), MINE(STREAM, 1)) && !ASK(cuStreamSynchronize, .hStream = MINE(STREAM, 1)),
	       "and an honest launch still runs");
}

static void impossible_names(void)
{
	static const struct { const char *what; uint64_t h; } names[] = {
		{ "in use", MINE(EVENT, 1) },
		{ "with index 0", MINE(EVENT, 0) },
		{ "beyond the table", MINE(EVENT, VGPU_HANDLES_MAX) },
		{ "of another type", MINE(STREAM, 30) },
		{ "of no type", VGPU_HANDLE(1, 200, 30) },
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		bool good = raw_open(&r, true);

		if (good) {
			struct vgpu_rq_cuEventCreate q = { .call = RAW_CALL, .phEvent = names[i].h };

			good = raw_context(&r) && !ASK(cuStreamCreate, .phStream = MINE(STREAM, 1));
			raw_send(&r, VGPU_MSG_cuEventCreate, IDM_FLAG_POSTED, &q, sizeof(q));
			good = good && raw_ended(&r, "names a new object");
			raw_close(&r);
		}
		report(good, "a new object by a name %s ends the session", names[i].what);
	}
}

/*
 * A green context holds the primary one: what was allocated in that is still there, and must be in the quota, when the
 * client has let go of the primary one itself.
 */
static void green_quota(void)
{
	struct vgpu_resource_get get = { .call = RAW_CALL, .type = CU_DEV_RESOURCE_TYPE_SM };
	struct { struct vgpu_resource_desc d; } desc = { { .call = RAW_CALL, .handle = MINE(RESDESC, 1), .n = 1 } };
	struct vgpu_rq_cuMemGetInfo_v2 ask = { .call = RAW_CALL };
	struct vgpu_rp_cuMemGetInfo_v2 empty = { 0 }, full = { 0 };
	struct vgpu_rq_cuGreenCtxStreamCreate stream = {
		.call = { .ctx = MINE(CTX, 2), .thread = 1 }, .phStream = MINE(STREAM, 4), .greenCtx = MINE(GREENCTX, 3),
		.flags = CU_STREAM_NON_BLOCKING };
	struct vgpu_rq_cuStreamQuery query = { .call = { .thread = 1 }, .hStream = MINE(STREAM, 4) };
	struct vgpu_resource whole = { 0 };
	struct idm_response rp;
	uint64_t held;
	bool good;

	good = raw_open(&r, true) && raw_context(&r) && !ASK(cuCtxCreate_v2, .pctx = MINE(CTX, 2)) &&
	       raw_call(&r, VGPU_MSG_cuDeviceGetDevResource, &get, sizeof(get), &rp, &whole, sizeof(whole)) == 1 && !rp.cu_result;
	desc.d.ids[0] = whole.id;
	good = good && !result(VGPU_MSG_cuDevResourceGenerateDesc, &desc, sizeof(desc)) &&
	       !ASK(cuGreenCtxCreate, .phCtx = MINE(GREENCTX, 3), .desc = MINE(RESDESC, 1), .flags = CU_GREEN_CTX_DEFAULT_STREAM);
	/* Whatever context is current, the stream must be none of that one's. */
	good = good && !result(VGPU_MSG_cuGreenCtxStreamCreate, &stream, sizeof(stream));
	raw_call(&r, VGPU_MSG_cuMemGetInfo_v2, &ask, sizeof(ask), &rp, &empty, sizeof(empty));
	held = raw_alloc(&r, empty.free / 2);
	good = good && held && !ASK(cuDevicePrimaryCtxRelease_v2, .dev = 0) && raw_context(&r);
	raw_call(&r, VGPU_MSG_cuMemGetInfo_v2, &ask, sizeof(ask), &rp, &full, sizeof(full));
	report(good && full.free <= empty.free - empty.free / 2 && !ASK(cuMemFree_v2, held),
	       "what a green context keeps in a context that was released is in the quota");
	good = !ASK(cuDevicePrimaryCtxRelease_v2, .dev = 0) && !ASK(cuGreenCtxDestroy, .hCtx = MINE(GREENCTX, 3)) &&
	       result(VGPU_MSG_cuStreamQuery, &query, sizeof(query)) == CUDA_ERROR_INVALID_HANDLE;
	report(good, "and with the green context it is gone, streams and all");
	raw_close(&r);
}

void attack_calls(void)
{
	if (!start()) {
		report(false, "a session with one object of each kind");
		return;
	}
	launches();
	forged_handles();
	wild_addresses();
	wild_offsets();
	wild_boxes();
	inline_captures();
	captures_of_contexts();
	refused_free();
	greedy_limits();
	wide_numbers();
	kept_memory();
	released_twice();
	lying_images();
	lying_parts();
	ends_during_waits();
	stale_handles();
	report(!ASK(cuCtxSynchronize), "after all that the attacker's session still serves honest calls");
	raw_close(&r);
	green_quota();
	impossible_names();
}
