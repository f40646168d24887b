// SPDX-License-Identifier: Apache-2.0
/*
 * One CUDA Driver API program for every system under test: which libcuda.so.1 it finds decides what is measured.
 *
 * bench [sync] [alloc] [launch] [copy] [images]	measure these (the first three if nothing is named)
 * bench cost				CPU time per call: prints "mark NAME", waits for a line on stdin
 * bench idle SECONDS			a session that does nothing
 * bench count NAME N			N calls of one kind (sync, alloc, launch, launch_sync), for counting what they cost
 */
#include <cuda.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

#include "measure.h"

#define WARM	200
#define CALLS	5000
#define LAUNCHES 10000
#define ROUNDS	5

static const char image[] =
	".version 8.0\n"
	".target sm_75\n"
	".address_size 64\n"
	".visible .entry nothing(.param .u64 a, .param .u64 b, .param .u32 n, .param .f32 x)\n"
	"{\n"
	"	ret;\n"
	"}\n";

/* Every call by its exported name, so that no header macro decides which version is measured. */
#define CALLS_USED(X)                                                                                                  \
	X(cuInit, "cuInit")                                                                                            \
	X(cuGetErrorName, "cuGetErrorName")                                                                            \
	X(cuDeviceGet, "cuDeviceGet")                                                                                  \
	X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain")                                                        \
	X(cuCtxSetCurrent, "cuCtxSetCurrent")                                                                          \
	X(cuCtxSynchronize, "cuCtxSynchronize")                                                                        \
	X(cuMemAlloc, "cuMemAlloc_v2")                                                                                 \
	X(cuMemFree, "cuMemFree_v2")                                                                                   \
	X(cuMemHostAlloc, "cuMemHostAlloc")                                                                            \
	X(cuMemFreeHost, "cuMemFreeHost")                                                                              \
	X(cuMemcpyHtoD, "cuMemcpyHtoD_v2")                                                                             \
	X(cuMemcpyDtoH, "cuMemcpyDtoH_v2")                                                                             \
	X(cuModuleLoadData, "cuModuleLoadData")                                                                        \
	X(cuModuleUnload, "cuModuleUnload")                                                                            \
	X(cuModuleGetFunction, "cuModuleGetFunction")                                                                  \
	X(cuLaunchKernel, "cuLaunchKernel")

#define DECLARE(f, name) static __typeof__(f) *p_##f;
CALLS_USED(DECLARE)

static CUfunction nothing;

static void die(const char *what, int rc)
{
	const char *name = "?";

	if (p_cuGetErrorName)
		p_cuGetErrorName(rc, &name);
	fprintf(stderr, "bench: %s: %s (%d)\n", what, name, rc);
	exit(1);
}

#define must(call)                                                                                                     \
	do {                                                                                                           \
		int rc_ = (call);                                                                                      \
		if (rc_)                                                                                               \
			die(#call, rc_);                                                                               \
	} while (0)

static void load(void)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW);
	CUcontext ctx;
	CUdevice dev;

	if (!lib) {
		fprintf(stderr, "bench: %s\n", dlerror());
		exit(1);
	}
#define FIND(f, name)                                                                                                  \
	p_##f = (__typeof__(p_##f))dlsym(lib, name);                                                                   \
	if (!p_##f) {                                                                                                  \
		fprintf(stderr, "bench: libcuda.so.1 has no %s\n", name);                                              \
		exit(1);                                                                                               \
	}
	CALLS_USED(FIND)
	must(p_cuInit(0));
	must(p_cuDeviceGet(&dev, 0));
	must(p_cuDevicePrimaryCtxRetain(&ctx, dev));
	must(p_cuCtxSetCurrent(ctx));
}

static void load_kernel(void)
{
	CUmodule mod;

	if (nothing)
		return;
	must(p_cuModuleLoadData(&mod, image));
	must(p_cuModuleGetFunction(&nothing, mod, "nothing"));
}

static void do_sync(void)
{
	must(p_cuCtxSynchronize());
}

static void do_alloc(void)
{
	CUdeviceptr d;

	must(p_cuMemAlloc(&d, 65536));
	must(p_cuMemFree(d));
}

static void do_launch(void)
{
	unsigned long long a = 1, b = 2;
	unsigned int n = 3;
	float x = 4;
	void *params[] = { &a, &b, &n, &x };

	must(p_cuLaunchKernel(nothing, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
}

/* B1 */
static void measure_sync(void)
{
	static double us[CALLS];

	for (int i = 0; i < WARM; i++)
		do_sync();
	for (int i = 0; i < CALLS; i++) {
		double t = now_us();

		do_sync();
		us[i] = now_us() - t;
	}
	print_percentiles("sync_us", us, CALLS);
}

/* B2 */
static void measure_alloc(void)
{
	double t;

	for (int i = 0; i < WARM; i++)
		do_alloc();
	t = now_us();
	for (int i = 0; i < CALLS; i++)
		do_alloc();
	print_value("alloc_pairs_per_s", CALLS / (now_us() - t) * 1e6);
}

/* B3 */
static void measure_launch(void)
{
	double rate[ROUNDS], t;

	load_kernel();
	for (int i = 0; i < WARM; i++)
		do_launch();
	do_sync();
	for (int round = 0; round < ROUNDS; round++) {
		t = now_us();
		for (int i = 0; i < LAUNCHES; i++)
			do_launch();
		do_sync();
		rate[round] = LAUNCHES / (now_us() - t) * 1e6;
	}
	qsort(rate, ROUNDS, sizeof(*rate), by_value);
	print_value("launches_per_s", rate[ROUNDS / 2]);
	t = now_us();
	for (int i = 0; i < 2000; i++) {
		do_launch();
		do_sync();
	}
	print_value("launch_sync_us", (now_us() - t) / 2000);
}

/* B4. Destination pages are touched before, what comes back is compared. */
static void copy_rate(const char *kind, const char *size_name, size_t size, int times, unsigned char *src,
		      unsigned char *dst, CUdeviceptr d)
{
	char name[64];
	double t;

	for (size_t i = 0; i < size; i += 64)
		src[i] = i >> 6;
	memset(dst, 0xee, size);
	must(p_cuMemcpyHtoD(d, src, size));	/* warm */
	t = now_us();
	for (int i = 0; i < times; i++)
		must(p_cuMemcpyHtoD(d, src, size));
	t = now_us() - t;
	snprintf(name, sizeof(name), "h2d_%s_%s_%s", kind, size_name, size < 65536 ? "us" : "GBs");
	print_value(name, size < 65536 ? t / times : size * (double)times / t * 1e-3);

	must(p_cuMemcpyDtoH(dst, d, size));
	if (memcmp(src, dst, size)) {
		fprintf(stderr, "bench: %s: what came back is not what was sent\n", name);
		exit(1);
	}
	t = now_us();
	for (int i = 0; i < times; i++)
		must(p_cuMemcpyDtoH(dst, d, size));
	t = now_us() - t;
	snprintf(name, sizeof(name), "d2h_%s_%s_%s", kind, size_name, size < 65536 ? "us" : "GBs");
	print_value(name, size < 65536 ? t / times : size * (double)times / t * 1e-3);
	if (memcmp(src, dst, size)) {
		fprintf(stderr, "bench: %s: what came back is not what was sent\n", name);
		exit(1);
	}
}

static void measure_copy(void)
{
	static const struct {
		const char *name;
		size_t size;
		int times;
	} sizes[] = { { "4KB", 4096, 2000 }, { "1MB", 1 << 20, 300 }, { "256MB", 256 << 20, 3 } };
	const size_t max = 256 << 20;
	CUdeviceptr d;

	must(p_cuMemAlloc(&d, max));
	for (int pinned = 0; pinned < 2; pinned++) {
		void *a, *b;

		if (pinned) {
			must(p_cuMemHostAlloc(&a, max, 0));
			must(p_cuMemHostAlloc(&b, max, 0));
		} else {
			a = aligned_alloc(4096, max);
			b = aligned_alloc(4096, max);
		}
		memset(a, 1, max);
		memset(b, 2, max);
		for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
			copy_rate(pinned ? "pinned" : "pageable", sizes[i].name, sizes[i].size, sizes[i].times, a, b, d);
		if (pinned) {
			must(p_cuMemFreeHost(a));
			must(p_cuMemFreeHost(b));
		} else {
			free(a);
			free(b);
		}
	}
	must(p_cuMemFree(d));
}

/*
 * What a first use of cuBLAS sends: 19 images, 75 MB together. These hold next to no code, so that what is measured is
 * their way to the driver and not its work; unloading them waits for it. Sent first, and then named (upload.c).
 * Beside it the same bytes as copies to the device. BENCH_IMAGES=NUMBER chooses the images, so that a second process can
 * load what the first one has sent.
 */
#define IMAGES		19
#define IMAGE_BYTES	(75u * 1000 * 1000 / IMAGES / 8 * 8)
static double load_images(const unsigned char *all)
{
	CUmodule m[IMAGES];
	double t = now_us();

	for (int i = 0; i < IMAGES; i++)
		must(p_cuModuleLoadData(&m[i], all + i * (size_t)IMAGE_BYTES));
	for (int i = 0; i < IMAGES; i++)
		must(p_cuModuleUnload(m[i]));
	return 75e6 / (now_us() - t) * 1e-3;
}

/* The second time: the device's memory has been touched. */
static double copy_images(const unsigned char *all)
{
	CUdeviceptr d;
	double t = 0;

	must(p_cuMemAlloc(&d, IMAGES * (size_t)IMAGE_BYTES));
	for (int again = 0; again < 2; again++) {
		t = now_us();
		for (int i = 0; i < IMAGES; i++)
			must(p_cuMemcpyHtoD(d + i * (size_t)IMAGE_BYTES, all + i * (size_t)IMAGE_BYTES, IMAGE_BYTES));
		t = now_us() - t;
	}
	must(p_cuMemFree(d));
	return 75e6 / t * 1e-3;
}

static void measure_images(bool second)
{
	struct { uint32_t magic; uint16_t version, header; uint64_t size; } head = { 0xba55ed50, 1, 16, IMAGE_BYTES - 16 };
	unsigned char *all = malloc(IMAGES * (size_t)IMAGE_BYTES), *copy = malloc(IMAGES * (size_t)IMAGE_BYTES);
	uint64_t number = getenv("BENCH_IMAGES") ? strtoull(getenv("BENCH_IMAGES"), NULL, 0) :
						    (uint64_t)getpid() << 32 ^ (uint64_t)now_us();
	double t;

	if (!all || !copy)
		die("memory for images", 2);
	memset(copy, 1, IMAGES * (size_t)IMAGE_BYTES);
	for (size_t i = 0; i < IMAGES * (size_t)IMAGE_BYTES; i += 8) {
		number = number * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(all + i, &number, 8);
	}
	/* A module without functions; what is left of the image is of a kind that no driver knows. */
	for (int i = 0; i < IMAGES; i++) {
		static const char ptx[64] = ".version 7.0\n.target sm_75\n.address_size 64\n";
		struct { uint16_t kind, a; uint32_t header; uint64_t size; uint32_t b[3], sm; uint64_t rest[4]; } code = {
			.kind = 1, .a = 0x101, .header = sizeof(code), .size = sizeof(ptx), .sm = 75, .rest = { 0, 0x11 } };
		__typeof__(code) filling = { .kind = 0x4000, .a = 0x101, .header = sizeof(filling),
					     .size = IMAGE_BYTES - sizeof(head) - 2 * sizeof(code) - sizeof(ptx) };
		unsigned char *to = all + i * (size_t)IMAGE_BYTES;

		to = (unsigned char *)memcpy(to, &head, sizeof(head)) + sizeof(head);
		to = (unsigned char *)memcpy(to, &code, sizeof(code)) + sizeof(code);
		to = (unsigned char *)memcpy(to, ptx, sizeof(ptx)) + sizeof(ptx);
		memcpy(to, &filling, sizeof(filling));
	}
	if (second) {
		print_value("images_other_GBs", load_images(all));
		goto out;
	}
	t = now_us();
	memcpy(copy, all, IMAGES * (size_t)IMAGE_BYTES);
	__asm__ volatile("" : : "r"(copy) : "memory");	/* it is not for nothing */
	print_value("images_memcpy_GBs", 75e6 / (now_us() - t) * 1e-3);
	print_value("images_staged_GBs", copy_images(all));
	print_value("images_first_GBs", load_images(all));
	/* Worker and broker take them in meanwhile. */
	usleep(1500000);
	print_value("images_again_GBs", load_images(all));
out:
	free(all);
	free(copy);
}

/* B6: the parent looks at the clocks of all processes at each mark. */
static void mark(const char *name)
{
	char line[16];

	printf("mark %s\n", name);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		exit(1);
}

static double cpu_us(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e6 + r.ru_utime.tv_usec + r.ru_stime.tv_usec;
}

static void measure_cost(void)
{
	static const struct {
		const char *name;
		void (*f)(void);
		int times;
	} ops[] = { { "sync", do_sync, 20000 }, { "alloc", do_alloc, 10000 }, { "launch", do_launch, 50000 } };
	char name[64];

	load_kernel();
	for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
		double t;

		for (int k = 0; k < WARM; k++)
			ops[i].f();
		do_sync();
		mark("begin");
		t = cpu_us();
		for (int k = 0; k < ops[i].times; k++)
			ops[i].f();
		do_sync();
		t = cpu_us() - t;
		snprintf(name, sizeof(name), "cost_%s", ops[i].name);
		mark(name);
		snprintf(name, sizeof(name), "cost_%s_client_us", ops[i].name);
		print_value(name, t / ops[i].times);
		snprintf(name, sizeof(name), "cost_%s_calls", ops[i].name);
		print_value(name, ops[i].times);
	}
}

/*
 * Under QEMU's -icount a nanosecond is an instruction of the whole machine, also of whatever else goes on in it for a
 * while: the best of BATCHES is what the calls cost.
 */
#define BATCHES	10
static void count(const char *op, int n)
{
	bool launch = !strncmp(op, "launch", 6), sync = !strcmp(op, "launch_sync");
	void (*f)(void) = launch ? do_launch : !strcmp(op, "sync") ? do_sync : do_alloc;
	double best = 1e18;

	if (launch)
		load_kernel();
	do_sync();
	for (int batch = 0; batch < BATCHES; batch++) {
		double t = now_us();

		for (int i = 0; i < n / BATCHES; i++) {
			f();
			if (sync)
				do_sync();
		}
		if (launch)
			do_sync();
		t = now_us() - t;
		if (t < best)
			best = t;
	}
	print_value("ns_per_call", best * 1e3 / (n / BATCHES));
}

int main(int argc, char **argv)
{
	bool all = argc == 1;

	load();
	for (int i = 1; i < argc || all; i++) {
		const char *what = all ? "" : argv[i];

		if (!strcmp(what, "idle")) {
			int seconds = i + 1 < argc ? atoi(argv[i + 1]) : 5;

			load_kernel();
			do_alloc();
			do_launch();
			do_sync();
			usleep(200000);
			mark("begin");
			sleep(seconds);
			mark("idle");
			return 0;
		}
		if (!strcmp(what, "count") && i + 2 < argc) {
			count(argv[i + 1], atoi(argv[i + 2]));
			return 0;
		}
		if (!strcmp(what, "cost"))
			measure_cost();
		if (all || !strcmp(what, "sync"))
			measure_sync();
		if (all || !strcmp(what, "alloc"))
			measure_alloc();
		if (all || !strcmp(what, "launch"))
			measure_launch();
		if (!strcmp(what, "images"))
			measure_images(false);
		if (!strcmp(what, "images_other"))
			measure_images(true);
		if (!strcmp(what, "copy"))
			measure_copy();
		all = false;
	}
	return 0;
}
