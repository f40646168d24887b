// SPDX-License-Identifier: Apache-2.0
/* Several copies, or several operations on values in memory, by one call; three-dimensional copies between contexts. */
#include <pthread.h>

#include "driver.h"

#define WORDS	1024u

static CUstream stream, opener;
static CUdeviceptr gate;

/* In a while, so that a driver which waits for the stream before it returns need not wait for ever. */
static void *open_gate(void *arg)
{
	usleep(300000);
	CU(cuCtxSetCurrent(arg));
	CU(cuStreamWriteValue32(opener, gate, 1, 0));
	return NULL;
}

static pthread_t close_gate(CUcontext ctx)
{
	pthread_t t;

	CU(cuMemsetD32(gate, 0, 1));
	CU(cuStreamWaitValue32(stream, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
	pthread_create(&t, NULL, open_gate, ctx);
	return t;
}

static unsigned int others(CUdeviceptr at, unsigned int value)
{
	static unsigned int got[WORDS];
	unsigned int n = 0;

	CU(cuMemcpyDtoH(got, at, sizeof(got)));
	for (unsigned int i = 0; i < WORDS; i++)
		n += got[i] != value;
	return n;
}

static void fill(unsigned int *p, unsigned int value)
{
	for (unsigned int i = 0; i < WORDS; i++)
		p[i] = value;
}

/*
 * What is to be read during the call has been read when it returns, wherever it lies, and though the stream has not
 * come so far: it is overwritten at once.
 */
static void ephemeral(CUcontext ctx)
{
	CUmemcpyAttributes how[2] = { { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM },
				      { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL } };
	CUDA_MEMCPY3D_BATCH_OP op = { .src = { .type = CU_MEMCPY_OPERAND_TYPE_POINTER },
				      .dst = { .type = CU_MEMCPY_OPERAND_TYPE_POINTER }, .extent = { 256, 4, 2 },
				      .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL };
	static const char *const names[4] = { "pinned", "registered", "managed", "the program's own" };
	size_t sizes[5], indices[2] = { 0, 1 }, bytes = WORDS * 4;
	CUdeviceptr to[5], from[5], m;
	unsigned int *host[4];
	unsigned char *box;
	pthread_t t;
	CUgraph g;

	if (native("sources that are read during the call"))
		return;
	CU(cuMemHostAlloc((void **)&host[0], bytes, 0));
	host[1] = aligned_alloc(4096, bytes);
	CU(cuMemHostRegister(host[1], bytes, 0));
	CU(cuMemAllocManaged(&m, bytes, CU_MEM_ATTACH_GLOBAL));
	host[2] = (unsigned int *)(uintptr_t)m;
	host[3] = malloc(bytes);
	for (int i = 0; i < 4; i++) {
		fill(host[i], i + 1);
		from[i + 1] = (CUdeviceptr)(uintptr_t)host[i];
	}
	for (int i = 0; i < 5; i++) {
		CU(cuMemAlloc(&to[i], bytes));
		CU(cuMemsetD32(to[i], 99, WORDS));
		sizes[i] = bytes;
	}
	from[0] = gate;	/* in the stream's order */
	sizes[0] = 4;
	CU(cuCtxSynchronize());
	t = close_gate(ctx);
	CU(cuMemcpyBatchAsync(to, from, sizes, 5, how, indices, 2, stream));
	for (int i = 0; i < 4; i++)
		fill(host[i], 77);
	CU(cuStreamSynchronize(stream));
	pthread_join(t, NULL);
	for (int i = 0; i < 4; i++)
		ok(!others(to[i + 1], i + 1), "%s memory is read during the call", names[i]);

	/* The device's own: then the stream has come so far. */
	CU(cuMemsetD32(to[1], 5, WORDS));
	CU(cuMemsetD32(to[2], 99, WORDS));
	CU(cuCtxSynchronize());
	indices[0] = 0;
	t = close_gate(ctx);
	CU(cuMemcpyBatchAsync(&to[2], &to[1], &sizes[1], 1, &how[1], indices, 1, stream));
	CU(cuMemsetD32Async(to[1], 6, WORDS, opener));
	CU(cuStreamSynchronize(opener));
	CU(cuStreamSynchronize(stream));
	pthread_join(t, NULL);
	ok(!others(to[2], 5), "and so is the device's");

	/* A box of 256 by 4 by 2 bytes, out of rows of 300 and layers of 5. */
	for (unsigned int i = 0; i < WORDS * 4; i++)
		((unsigned char *)host[0])[i] = i % 300 < 256 && i / 300 % 5 < 4 && i < 3000 ? 9 : 0;
	CU(cuMemsetD8(to[1], 99, bytes));
	CU(cuCtxSynchronize());
	op.src.op.ptr.ptr = (CUdeviceptr)(uintptr_t)host[0];
	op.src.op.ptr.rowLength = 300;
	op.src.op.ptr.layerHeight = 5;
	op.dst.op.ptr.ptr = to[1];
	t = close_gate(ctx);
	CU(cuMemcpy3DBatchAsync(1, &op, 0, stream));
	fill(host[0], 0x4d4d4d4d);
	CU(cuStreamSynchronize(stream));
	pthread_join(t, NULL);
	CU(cuMemcpyDtoH(host[0], to[1], bytes));
	box = (unsigned char *)host[0];
	ok(box[0] == 9 && box[2047] == 9 && box[2048] == 99, "a box is read during the call");
	op.src.op.ptr.rowLength = 255;
	GIVES(cuMemcpy3DBatchAsync(1, &op, 0, stream), CUDA_ERROR_INVALID_VALUE, "a row that is too short");
	op.src.op.ptr.rowLength = 0;
	op.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_INVALID;
	GIVES(cuMemcpy3DBatchAsync(1, &op, 0, stream), CUDA_ERROR_INVALID_VALUE, "a box without an order");

	/* A graph reads when it is launched. */
	CU(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
	OURS(cuMemcpyBatchAsync(&to[1], &from[1], &sizes[1], 1, &how[1], indices, 1, stream),
	     CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "no graph reads during the call");
	cuStreamEndCapture(stream, &g);

	CU(cuMemFreeHost(host[0]));
	CU(cuMemHostUnregister(host[1]));
	CU(cuMemFree(m));
	free(host[1]);
	free(host[3]);
	for (int i = 0; i < 5; i++)
		CU(cuMemFree(to[i]));
}

static void attributes(CUdeviceptr d, CUdeviceptr e)
{
	CUmemcpyAttributes how[3] = { { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM },
				      { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_ANY },
				      { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM } };
	size_t sizes[2] = { 64, 64 }, indices[3] = { 0, 1, 2 };
	CUdeviceptr to[2] = { d, d + 64 }, from[2] = { e, e + 64 };

#define BATCH(n) cuMemcpyBatchAsync(to, from, sizes, 2, how, indices, n, stream)
	how[0].flags = CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE;
	GIVES(BATCH(2), CUDA_SUCCESS, "attributes for one copy each");
	OURS(BATCH(3), CUDA_ERROR_INVALID_VALUE, "more attributes than copies");
	OURS(BATCH(0), CUDA_ERROR_INVALID_VALUE, "none");
	indices[0] = 1;
	OURS(BATCH(1), CUDA_ERROR_INVALID_VALUE, "a copy without attributes");
	indices[0] = indices[1] = 0;
	OURS(BATCH(2), CUDA_ERROR_INVALID_VALUE, "two for the same copies");
	indices[1] = 2;
	OURS(BATCH(2), CUDA_ERROR_INVALID_VALUE, "attributes for a copy that is not there");
	indices[1] = 1;
	how[1].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_INVALID;
	OURS(BATCH(2), CUDA_ERROR_INVALID_VALUE, "no order");
	how[1].srcAccessOrder = (CUmemcpySrcAccessOrder)4;
	OURS(BATCH(2), CUDA_ERROR_INVALID_VALUE, "an order that is none");
	how[1].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_ANY;
	how[1].flags = 8;
	OURS(BATCH(2), CUDA_ERROR_INVALID_VALUE, "a flag that is none");
}

int main(void)
{
	CUmemcpyAttributes how = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM };
	CUstreamBatchMemOpParams ops[4] = { { 0 } };
	unsigned int *host, got[2] = { 0 }, wrong = 0;
	CUDA_MEMCPY3D_PEER c = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .dstMemoryType = CU_MEMORYTYPE_DEVICE,
				 .srcPitch = 64, .dstPitch = 64, .srcHeight = 4, .dstHeight = 4,
				 .WidthInBytes = 32, .Height = 2, .Depth = 3 };
	size_t sizes[3], index = 0;
	CUdeviceptr d, e, to[3], from[3];
	CUcontext ctx;
	CUdevice dev;

	ctx = primary_context(&dev);
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&opener, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&gate, 4));
	CU(cuMemAlloc(&d, 4096));
	CU(cuMemAlloc(&e, 4096));
	CU(cuMemHostAlloc((void **)&host, 8192, 0));
	for (unsigned int i = 0; i < 2048; i++)
		host[i] = i;

	/* In, on the device, and out again. */
	to[0] = d;
	from[0] = (CUdeviceptr)(uintptr_t)host;
	to[1] = e;
	from[1] = d;
	to[2] = (CUdeviceptr)(uintptr_t)(host + 1024);
	from[2] = e;
	sizes[0] = sizes[1] = sizes[2] = 4096;
	CU(cuMemcpyBatchAsync(to, from, sizes, 3, &how, &index, 1, stream));
	CU(cuStreamSynchronize(stream));
	for (unsigned int i = 0; i < 1024; i++)
		wrong += host[1024 + i] != i;
	ok(!wrong, "three copies by one call: %u wrong", wrong);
	GIVES(cuMemcpyBatchAsync(to, from, sizes, 0, &how, &index, 1, stream), CUDA_ERROR_INVALID_VALUE, "no copies");
	attributes(d, e);
	ephemeral(ctx);

	ops[0].operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
	ops[0].writeValue.address = d;
	ops[0].writeValue.value = 77;
	ops[1].operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
	ops[1].waitValue.address = d;
	ops[1].waitValue.value = 77;
	ops[1].waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
	ops[2].operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
	ops[2].writeValue.address = d + 4;
	ops[2].writeValue.value = 78;
	CU(cuStreamBatchMemOp(stream, 3, ops, 0));
	CU(cuStreamSynchronize(stream));
	CU(cuMemcpyDtoH(got, d, 8));
	ok(got[0] == 77 && got[1] == 78, "write, wait, write: %u %u", got[0], got[1]);

	c.srcDevice = d;
	c.dstDevice = e;
	c.srcContext = c.dstContext = ctx;
	CU(cuMemsetD8(d, 0xab, 4096));
	CU(cuMemsetD8(e, 0, 4096));
	CU(cuMemcpy3DPeer(&c));
	CU(cuMemcpyDtoH(host, e, 4096));
	wrong = 0;
	for (unsigned int i = 0; i < 4096; i++) {
		bool inside = i % 64 < 32 && i / 64 % 4 < 2 && i / 256 < 3;

		wrong += ((unsigned char *)host)[i] != (inside ? 0xab : 0);
	}
	ok(!wrong, "a box of bytes: %u wrong", wrong);
	c.dstContext = NULL;
	GIVES(cuMemcpy3DPeer(&c), CUDA_SUCCESS, "no context is the current one");
	CU(cuMemFreeHost(host));
	CU(cuMemFree(d));
	CU(cuMemFree(e));
	CU(cuMemFree(gate));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
