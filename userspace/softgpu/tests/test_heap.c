// SPDX-License-Identifier: Apache-2.0
/* Device memory: limits are exact, what is freed is reusable and reads as zero, neighbours never overlap. */
#include <string.h>

#include "../softgpu.h"
#include "tap.h"

#define MIB (1ul << 20)

static struct sg_ctx *ctx;

static bool zero(CUdeviceptr p, size_t n)
{
	const char *c = (const char *)p;

	return !n || (!c[0] && !memcmp(c, c + 1, n - 1));
}

static void limits(void)
{
	size_t left, total;
	CUdeviceptr p, q, *many = calloc(16385, sizeof(*many));
	unsigned int n;

	must(cuMemGetInfo_v2(&left, &total));
	ok(total == 64 * MIB && left == total, "SOFTGPU_MEMORY=64: %zu of %zu bytes free", left, total);
	ok(cuMemAlloc_v2(&p, total + 1) == CUDA_ERROR_OUT_OF_MEMORY, "a byte more than there is");
	must(cuMemAlloc_v2(&p, total));
	ok(cuMemAlloc_v2(&q, 1) == CUDA_ERROR_OUT_OF_MEMORY, "one more byte when all is allocated");
	must(cuMemGetInfo_v2(&left, &total));
	ok(!left, "nothing is free");
	must(cuMemFree_v2(p));
	for (n = 0; n < 16385 && !cuMemAlloc_v2(&many[n], 4096); n++)
		;
	ok(n == 16384, "exactly %u pages", n);
	for (unsigned int i = 0; i < n; i++)
		must(cuMemFree_v2(many[i]));
	must(cuMemGetInfo_v2(&left, &total));
	ok(left == total, "all is free again");
	must(cuMemAlloc_v2(&p, total));
	ok(p, "and can be had in one piece");
	must(cuMemFree_v2(p));
	free(many);
}

static void zeroing(void)
{
	static const size_t sizes[] = { 1, 300, 4096, 65536, MIB, MIB + 1, 3 * MIB, 17 * MIB };
	char *pattern = malloc(17 * MIB);
	bool good = true;

	memset(pattern, 0x5a, 17 * MIB);
	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (int how = 0; how < 4; how++) {
			CUdeviceptr p, q;

			must(cuMemAlloc_v2(&p, sizes[i]));
			good = good && zero(p, sizes[i]);
			switch (how) {
			case 0:
				must(cuMemcpyHtoD_v2(p, pattern, sizes[i]));
				break;
			case 1:
				must(cuMemsetD8_v2(p, 7, sizes[i]));
				must(cuCtxSynchronize());
				break;
			case 2:		/* as a kernel does: unseen by the driver */
				sg_heap_kernel_begin();
				((char *)p)[sizes[i] / 2] = 1;
				sg_heap_kernel_end();
				break;
			case 3:
				must(cuMemcpyHtoD_v2(p + sizes[i] - 1, pattern, 1));
				break;
			}
			must(cuMemFree_v2(p));
			must(cuMemAlloc_v2(&q, sizes[i]));
			good = good && zero(q, sizes[i]);
			must(cuMemFree_v2(q));
		}
	}
	ok(good, "memory of every size reads as zero to its next owner, however it was written");
	free(pattern);
}

static void addresses(void)
{
	CUdeviceptr p, q, base;
	char host[16] = "";
	size_t size;

	must(cuMemAlloc_v2(&p, 10000));
	must(cuMemGetAddressRange_v2(&base, &size, p + 9999));
	ok(base == p && size == 10000, "the range around an address");
	ok(cuMemGetAddressRange_v2(&base, &size, p + 10000) == CUDA_ERROR_NOT_FOUND, "not behind its end");
	ok(cuMemFree_v2(p + 256) == CUDA_ERROR_INVALID_VALUE, "free of the middle");
	ok(cuMemFree_v2(p + 4096) == CUDA_ERROR_INVALID_VALUE, "free of a page in the middle");
	ok(cuMemcpyHtoD_v2(p + 9990, host, 16) == CUDA_ERROR_INVALID_VALUE, "a copy over the end");
	ok(cuMemcpyHtoD_v2(p - 1, host, 16) == CUDA_ERROR_INVALID_VALUE, "a copy from before the start");
	ok(cuMemcpyHtoD_v2(p, host, (size_t)-1) == CUDA_ERROR_INVALID_VALUE, "a copy as long as memory");
	ok(cuMemcpyHtoD_v2(SG_HEAP_BASE + SG_HEAP_SIZE - 8, host, 16) == CUDA_ERROR_INVALID_VALUE,
	   "a copy over the heap's end");
	ok(cuMemcpyHtoD_v2((CUdeviceptr)host, host, 16) == CUDA_ERROR_INVALID_VALUE,
	   "the program's memory is no device address");
	ok(sg_mem_ok(p + 9990, 4) && !sg_mem_ok(p + 3 * 4096, 4) && !sg_mem_ok(0, 4) && !sg_mem_ok(~0ull - 2, 8),
	   "what a kernel may touch");
	must(cuMemFree_v2(p));
	ok(!sg_mem_ok(p, 4), "not what is freed");
	ok(cuMemFree_v2(p) == CUDA_ERROR_INVALID_VALUE, "free a second time");
	ok(cuMemFree_v2(0x1000) == CUDA_ERROR_INVALID_VALUE, "free of a foreign address");
	must(cuMemAllocPitch_v2(&q, &size, 100, 10, 4));
	ok(size >= 100 && size % 512 == 0, "a pitch of %zu bytes", size);
	must(cuMemFree_v2(q));
}

/* Allocations filled with their own number: any overlap or wrong reuse shows. */
static void stress(void)
{
	enum { SLOTS = 200, ROUNDS = 30000 };
	static struct {
		CUdeviceptr p;
		size_t n;
		unsigned char tag;
	} slot[SLOTS];
	size_t free, total, used = 0;
	bool good = true;
	CUdeviceptr p;

	srandom(1);
	for (int i = 0; i < ROUNDS && good; i++) {
		int s = (int)(random() % SLOTS);

		if (slot[s].p) {
			const unsigned char *c = (const unsigned char *)slot[s].p;

			good = c[0] == slot[s].tag && c[slot[s].n / 2] == slot[s].tag && c[slot[s].n - 1] == slot[s].tag;
			must(cuMemFree_v2(slot[s].p));
			used -= (slot[s].n + 4095) & ~4095ul;
			slot[s].p = 0;
			continue;
		}
		slot[s].n = random() % 8 ? 1 + (size_t)random() % 65536 : 1 + (size_t)random() % (3 * MIB);
		slot[s].tag = (unsigned char)(1 + random() % 255);
		if (cuMemAlloc_v2(&slot[s].p, slot[s].n)) {
			good = used + ((slot[s].n + 4095) & ~4095ul) > 64 * MIB;
			slot[s].p = 0;
			continue;
		}
		used += (slot[s].n + 4095) & ~4095ul;
		good = !*(char *)slot[s].p && !((char *)slot[s].p)[slot[s].n - 1];
		must(cuMemsetD8_v2(slot[s].p, slot[s].tag, slot[s].n));
		must(cuCtxSynchronize());
	}
	ok(good, "%d allocations and frees of random sizes keep their contents and their count", ROUNDS);
	must(cuMemGetInfo_v2(&free, &total));
	ok(total - free == used, "%zu bytes used, as counted", used);
	for (int s = 0; s < SLOTS; s++)
		if (slot[s].p)
			must(cuMemFree_v2(slot[s].p));
	must(cuMemAlloc_v2(&p, 64 * MIB));
	ok(zero(p, 64 * MIB), "everything freed makes one piece again");
	must(cuMemFree_v2(p));
}

static void contexts(void)
{
	size_t free, total;
	CUcontext other;
	CUdeviceptr p;
	void *host;

	must(cuCtxCreate_v2(&other, 0, 0));
	for (int i = 0; i < 10; i++)
		must(cuMemAlloc_v2(&p, 100000));
	must(cuMemHostAlloc(&host, 5000, 0));
	ok(sg_host_ok((uint64_t)host + 4996, 4) && !sg_host_ok((uint64_t)host + 4997, 4), "pinned memory is for kernels too");
	must(cuCtxDestroy_v2(other));
	must(cuCtxSetCurrent((CUcontext)ctx));
	must(cuMemGetInfo_v2(&free, &total));
	ok(free == total, "a destroyed context leaves no memory behind");
	ok(!sg_host_ok((uint64_t)host, 4), "nor pinned memory");
}

int main(void)
{
	setenv("SOFTGPU_MEMORY", "64", 1);
	must(cuInit(0));
	must(cuDevicePrimaryCtxRetain((CUcontext *)&ctx, 0));
	must(cuCtxSetCurrent((CUcontext)ctx));
	limits();
	zeroing();
	addresses();
	stress();
	contexts();
	must(cuDevicePrimaryCtxRelease_v2(0));
	return tap_done();
}
