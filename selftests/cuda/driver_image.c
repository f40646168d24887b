// SPDX-License-Identifier: Apache-2.0
/*
 * Large images: loaded as often as one likes, by as many processes as one likes, each gets the code it asked for. What
 * an image is, and whether the zone has it already, must make no difference (selftests/run-local counts that it did).
 */
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"

#define BYTES	(256u << 10)

/* A kernel that stores @value, and comments up to @BYTES. Two of them differ in nothing but that one number. */
static char *source(unsigned int value)
{
	char *text = malloc(BYTES + 1);
	size_t n;

	if (!text)
		bail("out of memory");
	n = sprintf(text, "// image %u\n.version 7.0\n.target sm_52\n.address_size 64\n", value / 2);
	while (n < BYTES / 2)
		n += sprintf(text + n, "// filling, line at %zu, so that the image is a large one\n", n);
	n += sprintf(text + n,
		     ".visible .entry store(.param .u64 to)\n{\n\t.reg .u64 %%p;\n\t.reg .u32 %%v;\n"
		     "\tld.param.u64 %%p, [to];\n\tcvta.to.global.u64 %%p, %%p;\n\tmov.u32 %%v, %u;\n"
		     "\tst.global.u32 [%%p], %%v;\n\tret;\n}\n", value);
	while (n < BYTES - 100)
		n += sprintf(text + n, "// filling, line at %zu, so that the image is a large one\n", n);
	return text;
}

static bool stores(CUfunction f, unsigned int value)
{
	unsigned int got = 0;
	CUdeviceptr p;
	void *params[] = { &p };

	CU(cuMemAlloc(&p, sizeof(got)));
	CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH(&got, p, sizeof(got)));
	CU(cuMemFree(p));
	return got == value;
}

static bool loads(unsigned int value)
{
	char *text = source(value);
	CUlibrary library;
	CUfunction f;
	CUkernel k;
	CUmodule m;
	bool good;

	CU(cuModuleLoadData(&m, text));
	CU(cuLibraryLoadData(&library, text, NULL, NULL, 0, NULL, NULL, 0));
	memset(text, 'x', BYTES);	/* the caller's copy is the caller's again */
	free(text);
	CU(cuModuleGetFunction(&f, m, "store"));
	good = stores(f, value);
	CU(cuLibraryGetKernel(&k, library, "store"));
	good = stores((CUfunction)k, value) && good;
	CU(cuModuleUnload(m));
	CU(cuLibraryUnload(library));
	return good;
}

static int child(unsigned int seed)
{
	bool good = true;
	CUcontext ctx;
	CUdevice dev;

	CU(cuInit(0));
	CU(cuDeviceGet(&dev, 0));
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	for (unsigned int round = 0; round < 3; round++)
		for (unsigned int value = 0; value < 4; value++)
			good = loads(seed + value) && good;
	return !good;
}

int main(int argc, char **argv)
{
	unsigned int seed = argc > 1 ? atoi(argv[1]) : 1000;

	for (int i = 0; i < 3; i++) {
		int status;
		pid_t pid = fork();

		if (!pid)
			_exit(child(seed));
		waitpid(pid, &status, 0);
		ok(status == 0, "process %d: four images, loaded three times each, as module and as library", i + 1);
	}
	return tap_done();
}
