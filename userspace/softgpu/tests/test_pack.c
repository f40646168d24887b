// SPDX-License-Identifier: Apache-2.0
/* Packs: an image with machine code only gets its kernels from one; a damaged pack does no harm. */
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../softgpu.h"
#include "tap.h"

static const char ptx[] = ".version 8.0\n.target sm_90\n.address_size 64\n.global .u32 n = 5;\n"
	".visible .entry theirs(.param .u64 out) { .reg .b32 %r<3>; .reg .b64 %d<2>; ld.param.u64 %d1, [out];\n"
	"ld.global.u32 %r1, [n]; st.global.u32 [%d1], %r1; ret; }\n.visible .entry bad() { frobnicate; }\n";

static unsigned char file[4096];
static char path[] = "/tmp/softgpu-pack.XXXXXX";

static void at(size_t where, const void *p, size_t n)
{
	memcpy(file + where, p, n);
}

/* One member, names "a_bad", "ours" and "worse", which leads to a member that is not there. */
static void write_pack(void)
{
	static const char strings[] = "\0a_bad\0bad\0ours\0theirs\0worse";
	static char text[400000];	/* large enough for each kernel to be compiled by itself */
	char packed[3072];
	int n = (memset(text, ' ', sizeof(text)), memcpy(text, ptx, sizeof(ptx) - 1),
		 LZ4_compress_default(text, packed, sizeof(text), sizeof(packed)));
	uint32_t counts[2] = { 1, 3 }, sizes[2] = { (uint32_t)n, sizeof(text) };
	uint32_t names[12] = { 1, 7, 0, 0, 11, 16, 0, 0, 23, 16, 9, 0 };
	uint64_t places[4] = { 48, 64, 128, sizeof(strings) }, payload = 256;
	int fd = mkstemp(path);

	at(0, "SGPTX01\n", 8);
	at(8, counts, 8);
	at(16, places, 32);
	at(48, &payload, 8);
	at(56, sizes, 8);
	at(64, names, sizeof(names));
	at(128, strings, sizeof(strings));
	at(256, packed, (size_t)n);
	if (fd < 0 || write(fd, file, sizeof(file)) != (ssize_t)sizeof(file) || close(fd))
		exit(1);
}

int main(void)
{
	/* A fatbin with one member: machine code for sm_90. */
	uint32_t image[4 + 16 + 2] = { 0xba55ed50, 16 << 16 | 1, 72, 0, 2 | 0x101u << 16, 64, 8, 0, 0, 0, 0, 90 };
	CUdeviceptr out;
	CUfunction f;
	CUmodule m;
	CUcontext c;
	int v = 0;

	write_pack();
	setenv("SOFTGPU_PTX", path, 1);
	must(cuInit(0));
	must(cuDevicePrimaryCtxRetain(&c, 0));
	must(cuCtxSetCurrent(c));
	must(cuMemAlloc_v2(&out, 64));
	ok(!cuModuleLoadData(&m, image), "an image with machine code only loads");
	ok(!cuModuleGetFunction(&f, m, "ours"), "its kernel is found by the image's name for it");
	ok(!cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, (void *[]){ &out }, NULL) && !cuMemcpyDtoH_v2(&v, out, 4) && v == 5,
	    "and runs: %d", v);
	ok(cuModuleGetFunction(&f, m, "theirs") == CUDA_ERROR_NO_BINARY_FOR_GPU, "a kernel that the pack lacks: no binary");
	ok(cuModuleGetFunction(&f, m, "a_bad") == CUDA_ERROR_INVALID_PTX, "one that does not compile: invalid PTX");
	ok(cuModuleGetFunction(&f, m, "worse") == CUDA_ERROR_NO_BINARY_FOR_GPU, "one whose module is not in the file");
	ok(!cuModuleUnload(m), "the module is unloaded");
	unlink(path);
	return tap_done();
}
