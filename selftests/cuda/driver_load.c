// SPDX-License-Identifier: Apache-2.0
/*
 * Modules that nobody waits for: the image is the caller's again when the call returns, whoever looks into the module waits
 * for it, and a load that fails after all is the answer to the first use, and to every other. Loads that are waited for
 * give the same answers at once. selftests/run-local counts, by VGPU_TRACE, what the rounds at the end cost.
 */
#include <unistd.h>

#include "driver.h"

#define ROUNDS	100

struct fatbin {
	uint32_t magic;
	uint16_t version, header;
	uint64_t size;
	uint16_t kind, member_version;
	uint32_t member_header;
	uint64_t member_size;
	uint32_t compressed, options;
	uint16_t minor, major;		/* of the PTX */
	uint32_t sm;
	uint32_t bits, name;
	uint64_t flags, unused2, uncompressed;
	uint32_t option[4];
	char text[];
};

/* A fatbin with one member, which is @ptx and says so, as nvcc makes them without compression; free() */
static struct fatbin *fatbin(const char *ptx)
{
	size_t bytes = (strlen(ptx) + 8) & ~7ull;
	struct fatbin *f = calloc(1, sizeof(*f) + bytes);

	if (!f)
		bail("out of memory");
	*f = (struct fatbin){ .magic = 0xba55ed50, .version = 1, .header = 16, .size = sizeof(*f) - 16 + bytes,
			      .kind = 1, .member_version = 0x101, .member_header = 80, .member_size = bytes, .options = 64,
			      .major = 7, .sm = 75, .flags = 0x11, .option = { 72 } };
	strcpy(f->text, ptx);
	return f;
}

static CUdeviceptr d;
static unsigned int *seen;	/* pinned */

static bool adds(CUfunction f)
{
	unsigned int one = 1, before, after;
	void *params[] = { &d, &one };

	CU(cuMemcpyDtoH(&before, d, sizeof(before)));
	CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH(&after, d, sizeof(after)));
	return after == before + 1;
}

static CUresult load(CUmodule *m, const char *ptx)
{
	struct fatbin *image = fatbin(ptx);
	size_t bytes = sizeof(*image) + image->member_size;
	CUresult r = cuModuleLoadData(m, image);

	memset(image, 'x', bytes);	/* it is the caller's again */
	free(image);
	return r;
}

static void good(void)
{
	struct fatbin *image = fatbin(PTX_HEAD ".global .u32 number = 7;\n" PTX_ADD);
	unsigned int value = 0, count = 0;
	CUmodule m[64], inside;
	CUlibrary library;
	CUdeviceptr p;
	CUfunction f;
	CUkernel k;
	size_t bytes;

	CU(load(&m[0], image->text));
	CU(cuModuleGetFunction(&f, m[0], "add"));
	ok(adds(f), "a module's function works, its image long gone");
	CU(cuModuleUnload(m[0]));

	CU(load(&m[0], image->text));
	CU(cuModuleGetGlobal(&p, &bytes, m[0], "number"));
	CU(cuMemcpyDtoH(&value, p, sizeof(value)));
	ok(bytes == 4 && value == 7, "its variable is what is asked for first");
	CU(cuModuleUnload(m[0]));

	CU(load(&m[0], image->text));
	GIVES(cuModuleGetFunctionCount(&count, m[0]), CUDA_SUCCESS, "its functions are counted first");
	ok(count == 1, "there is one");
	GIVES(cuModuleEnumerateFunctions(&f, 1, m[0]), CUDA_SUCCESS, "and named");
	ok(adds(f), "it works");
	GIVES(cuModuleGetFunction(&f, m[0], "none"), CUDA_ERROR_NOT_FOUND, "what is not in it is not found");
	CU(cuModuleUnload(m[0]));

	CU(cuLibraryLoadData(&library, image, NULL, NULL, 0, NULL, NULL, 0));
	CU(cuLibraryGetModule(&inside, library));
	CU(cuModuleGetFunction(&f, inside, "add"));
	ok(adds(f), "a library's module is what is asked for first");
	CU(cuLibraryGetKernel(&k, library, "add"));
	ok(adds((CUfunction)k), "its kernel works, too");
	CU(cuLibraryUnload(library));

	for (int i = 0; i < 64; i++)
		CU(load(&m[i], image->text));
	for (int i = 63; i >= 0; i -= 2) {
		CU(cuModuleGetFunction(&f, m[i], "add"));
		if (!adds(f))
			break;
		value++;
	}
	ok(value == 7 + 32, "64 under way at once, every other used");
	for (int i = 0; i < 64; i++)
		CU(cuModuleUnload(m[i]));

	/* More answers than a ring holds, and nobody who takes them; what comes behind them is done all the same. */
	CU(load(&m[0], image->text));
	CU(cuModuleGetFunction(&f, m[0], "add"));
	for (int i = 1; i < 400; i++)
		CU(load(&m[1], image->text));	/* the others stay until the context ends */
	*seen = 0;
	CU(cuStreamWriteValue32(NULL, (CUdeviceptr)seen, 1, 0));
	for (int i = 0; i < 20000 && !*(volatile unsigned int *)seen; i++)
		usleep(1000);
	ok(*(volatile unsigned int *)seen == 1, "400 loads that nobody uses hold nothing up");
	free(image);
}

/* @ptx can't be loaded for reason @why, which is said at once or whenever it is used. */
static void bad(const char *ptx, CUresult why, const char *what)
{
	struct fatbin *image = fatbin(ptx);
	CUlibrary library;
	CUdeviceptr p;
	CUfunction f;
	CUkernel k;
	CUmodule m;
	CUresult r = load(&m, ptx);

	if (r == CUDA_SUCCESS) {
		GIVES(cuModuleGetFunction(&f, m, "add"), why, what);
		GIVES(cuModuleGetFunction(&f, m, "add"), why, "and again");
		GIVES(cuModuleGetGlobal(&p, NULL, m, "number"), why, "and for a variable");
		GIVES(cuModuleUnload(m), why, "and to its end");
		OURS(cuModuleUnload(m), CUDA_ERROR_INVALID_HANDLE, "which is the end");
	} else {
		ok(r == why, "%s: %s at once", what, cu_name(r));
	}
	if (load(&m, ptx) == CUDA_SUCCESS)
		GIVES(cuModuleUnload(m), why, "used for nothing but to be unloaded");
	r = cuLibraryLoadData(&library, image, NULL, NULL, 0, NULL, NULL, 0);
	if (r == CUDA_SUCCESS) {
		GIVES(cuLibraryGetModule(&m, library), why, "a library likewise");
		GIVES(cuLibraryGetKernel(&k, library, "add"), why, "for its kernel, too");
		/* NVIDIA's driver may look into a library late, and so may not know by then. */
		r = cuLibraryUnload(library);
		ok(r == why || (r == CUDA_SUCCESS && !ON_SOFTWARE()), "and to its end: %s", cu_name(r));
	}
	free(image);
}

int main(void)
{
	static const char add[] = PTX_HEAD PTX_ADD;
	char log[1024] = "";
	CUjit_option options[] = { CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES };
	void *values[] = { log, (void *)sizeof(log) };
	struct fatbin *image;
	CUcontext ctx;
	CUfunction f;
	CUdevice dev;
	CUmodule m;
	int works = 0;

	ctx = primary_context(&dev);
	CU(cuMemAlloc(&d, 4096));
	CU(cuMemsetD8(d, 0, 4096));
	CU(cuMemHostAlloc((void **)&seen, 4096, CU_MEMHOSTALLOC_DEVICEMAP));

	good();
	bad(PTX_HEAD ".visible .entry add()\n{\n\tno.such.thing;\n}\n", CUDA_ERROR_INVALID_PTX, "a compiler's mistake");
	image = fatbin(PTX_HEAD ".visible .entry add()\n{\n\tno.such.thing;\n}\n");
	GIVES(cuModuleLoadDataEx(&m, image, 2, options, values), CUDA_ERROR_INVALID_PTX, "who wants the log gets it at once");
	ok(log[0], "with what is wrong in it");
	/* A size, and no place for it. */
	if (cuModuleLoadDataEx(&m, image, 1, &options[1], &values[1]) == CUDA_SUCCESS)
		GIVES(cuModuleGetFunction(&f, m, "add"), CUDA_ERROR_INVALID_PTX, "who only says how long a log may be");
	free(image);
	image = fatbin(add);
	image->sm = 999;
	OURS(cuModuleLoadData(&m, image), CUDA_ERROR_NO_BINARY_FOR_GPU, "what is for no device there is is told at once");
	free(image);

	/* It is not used any more when its context ends, and it had not been used before. */
	CU(load(&m, add));
	CU(cuDevicePrimaryCtxReset(dev));
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	OURS(cuModuleGetFunction(&f, m, "add"), CUDA_ERROR_INVALID_HANDLE, "a module ends with its context");
	CU(cuMemAlloc(&d, 4096));
	CU(cuMemsetD8(d, 0, 4096));

	for (int i = 0; i < ROUNDS; i++) {
		CU(load(&m, add));
		CU(cuModuleGetFunction(&f, m, "add"));
		works += adds(f);
		CU(cuModuleUnload(m));
	}
	ok(works == ROUNDS, "loaded, used and unloaded, over and over");
	CU(cuMemFree(d));
	return tap_done();
}
