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

	primary_context(NULL);
	for (unsigned int round = 0; round < 3; round++)
		for (unsigned int value = 0; value < 4; value++)
			good = loads(seed + value) && good;
	return !good;
}

static void begin(void)
{

	primary_context(NULL);
}

static void wait_for_line(void)
{
	char line[64];

	printf("ready\n");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		printf("# nobody said go on\n");
}

/* Four images, each once; two and two of them share what is guessed at (digest_guess()). */
static int hold(unsigned int seed)
{
	begin();
	for (unsigned int value = seed; value < seed + 4; value++) {
		char *text = source(value);
		CUfunction f;
		CUmodule m;

		CU(cuModuleLoadData(&m, text));
		free(text);
		CU(cuModuleGetFunction(&f, m, "store"));
		ok(stores(f, value), "image %u is itself", value);
	}
	wait_for_line();
	return tap_done();
}

/* One image after the other, no two the same, until the worker dies: mostly it does so in the middle of one. */
static int endless(void)
{
	struct {
		uint32_t magic;
		uint16_t version, header;
		uint64_t size;
		uint16_t kind, a;
		uint32_t entry_header;
		uint64_t entry_size, rest[6];
	} *head;
	size_t size = 64u << 20;
	CUresult r = CUDA_ERROR_NO_BINARY_FOR_GPU;
	CUmodule m;

	head = calloc(1, size);
	if (!head)
		bail("out of memory");
	*head = (__typeof__(*head)){ .magic = 0xba55ed50, .version = 1, .header = 16, .size = size - 16, .kind = 0x4000,
				     .a = 0x101, .entry_header = 64, .entry_size = size - 16 - 64 };
	begin();
	printf("ready\n");
	fflush(stdout);
	while (r == CUDA_ERROR_NO_BINARY_FOR_GPU) {
		head->rest[5]++;
		r = cuModuleLoadData(&m, head);
	}
	printf("# %llu images\n", (unsigned long long)head->rest[5]);
	ok(r == CUDA_ERROR_UNKNOWN, "the load says that the session is over");
	return tap_done();
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "hold"))
		return hold(atoi(argv[2]));
	if (argc > 1 && !strcmp(argv[1], "endless"))
		return endless();

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
