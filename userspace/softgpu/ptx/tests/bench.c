// SPDX-License-Identifier: Apache-2.0
/* Thread-instructions per second on one thread (or argv[1] of them), by kernel: "ptx: <kernel> <Minstr/s>". */

#include <time.h>

#include "harness.h"
#include "kernels.h"

/* On one thread it is the thread's own time that counts, so that a busy machine does not make the interpreter slow. */
static clockid_t clock_used = CLOCK_PROCESS_CPUTIME_ID;

static double now(void)
{
	struct timespec ts;

	clock_gettime(clock_used, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

static void run(struct ptx_module *m, const char *kernel, struct launch_args a, const uint64_t *args, unsigned int n)
{
	uint64_t before;
	double start, used;
	int ret = launch(m, kernel, a, args, n);	/* warm */

	if (ret) {
		printf("ptx: %s failed: %d %s\n", kernel, ret, fault_text);
		exit(1);
	}
	before = ptx_instructions();
	start = now();
	do {
		launch(m, kernel, a, args, n);
		used = now() - start;
	} while (used < 0.4);
	printf("ptx: %s %.0f Minstr/s\n", kernel, (ptx_instructions() - before) / used / 1e6);
}

int main(int argc, char **argv)
{
	char *text = nvcc(source, "75", "");
	int n = 1 << 20;
	struct ptx_module *m;
	void *a, *b, *c;

	if (!text) {
		printf("ptx: no nvcc to compile the kernels with\n");
		return 0;
	}
	ptx_set_threads(argc > 1 ? atoi(argv[1]) : 1);
	if (argc > 1 && atoi(argv[1]) > 1)
		clock_used = CLOCK_MONOTONIC;
	m = load("bench", text);
	if (!m)
		return 1;
	a = dev(n * 4);
	b = dev(n * 4);
	c = dev(n * 4);
	run(m, "vadd", (struct launch_args){ { n / 256 }, { 256 } }, ARGS(P(a), P(b), P(c), n));
	run(m, "saxpy", (struct launch_args){ { 64 }, { 256 } }, ARGS(n, fbits(2.0f), P(a), P(b)));
	run(m, "matmul", (struct launch_args){ { 16, 16 }, { 16, 16 } }, ARGS(P(a), P(b), P(c), 256));
	run(m, "reduce", (struct launch_args){ { 64 }, { 256 } }, ARGS(P(a), P(c), n));
	run(m, "histogram", (struct launch_args){ { 64 }, { 256 } }, ARGS(P(a), P(c), n));
	run(m, "mandel", (struct launch_args){ { 16, 64 }, { 32, 8 } }, ARGS(P(a), 512, 512, 200));
	run(m, "transpose", (struct launch_args){ { 32, 32 }, { 32, 8 } }, ARGS(P(a), P(b), 1024, 1024));
	run(m, "softmax", (struct launch_args){ { 64 }, { 256 } }, ARGS(P(a), P(b), 4096));
	ptx_module_free(m);
	return 0;
}
