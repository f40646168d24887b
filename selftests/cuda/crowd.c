// SPDX-License-Identifier: Apache-2.0
/*
 * Fifteen threads beside whatever program this is loaded into (LD_PRELOAD): as soon as the program has initialised
 * CUDA, each of them has a stream of its own, and copies, launches, allocates and frees in it over and over, and looks
 * at what comes out. So the program runs as one of 16 threads, and what it says must be what it says alone.
 *
 * The threads work in device 0's primary context, which programs of the runtime share with them and others have beside
 * their own. Where the program breaks that context or ends it, holds its streams up, which cuMemFree() waits for, or
 * asks which are idle, CROWD_APART=1 has them work in another one. They take part in nobody's capture. When main()
 * returns they end; the exit status says whether each of them has worked, and whether all they got was right.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define __CUDA_API_VERSION_INTERNAL	/* forms of calls by their own names */
#include "driver.h"

#define THREADS	15
#define WORDS	512u
#define PAUSE	3000000	/* ns between two rounds of a thread: the program shall have its turn */

static const char ptx[] = ".version 7.0\n.target sm_75\n.address_size 64\n" PTX_ADD;

/* What the program uses, whether it is linked with the library or has opened it. */
#define CALLS(_)										\
	_(cuDeviceGetCount) _(cuDevicePrimaryCtxRetain) _(cuDevicePrimaryCtxRelease_v2)		\
	_(cuCtxCreate_v2) _(cuCtxDestroy_v2)							\
	_(cuCtxSetCurrent) _(cuThreadExchangeStreamCaptureMode) _(cuModuleLoadData)		\
	_(cuModuleGetFunction) _(cuModuleUnload) _(cuStreamCreate) _(cuStreamDestroy_v2)	\
	_(cuStreamSynchronize) _(cuMemAlloc_v2) _(cuMemFree_v2) _(cuMemcpyHtoDAsync_v2)		\
	_(cuMemcpyDtoHAsync_v2) _(cuLaunchKernel) _(cuGetErrorName)

#define POINTER(name) __typeof__(name) *name;
static struct { CALLS(POINTER) } cu;

static struct job {
	pthread_t thread;
	unsigned int number, rounds, wrong;
	CUresult failed;
	const char *at;
} jobs[THREADS];

static pthread_t watcher;
static bool watching;
static CUcontext apart;		/* theirs alone, if not NULL */
static atomic_bool over;
static unsigned int started;	/* threads, by the watcher */

static void pause_for(long ns)
{
	nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL);
}

/* A call of a thread's; the first that fails ends the thread. */
#define TRY(job, call) do {						\
	CUresult r_ = cu.call;						\
	if (r_ != CUDA_SUCCESS) {					\
		(job)->failed = r_;					\
		(job)->at = #call;					\
		return;							\
	}								\
} while (0)

static void round_of(struct job *j, CUfunction add, CUstream stream)
{
	unsigned int host[WORDS], seed = j->number * 100000 + j->rounds;
	CUdeviceptr device;
	void *params[] = { &device, &seed };

	for (unsigned int i = 0; i < WORDS; i++)
		host[i] = seed + i;
	TRY(j, cuMemAlloc_v2(&device, sizeof(host)));
	TRY(j, cuMemcpyHtoDAsync_v2(device, host, sizeof(host), stream));
	for (int k = 0; k < 3; k++)
		TRY(j, cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL));
	TRY(j, cuMemcpyDtoHAsync_v2(host, device, sizeof(host), stream));
	TRY(j, cuStreamSynchronize(stream));
	TRY(j, cuMemFree_v2(device));
	for (unsigned int i = 0; i < WORDS; i++)
		j->wrong += host[i] != seed + i + (i ? 0 : 3 * seed);
	j->rounds++;
}

static void work(struct job *j)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	CUcontext context = apart;
	CUfunction add;
	CUmodule module;
	CUstream stream;

	TRY(j, cuThreadExchangeStreamCaptureMode(&mode));
	if (!apart)
		TRY(j, cuDevicePrimaryCtxRetain(&context, 0));
	TRY(j, cuCtxSetCurrent(context));
	TRY(j, cuModuleLoadData(&module, ptx));
	TRY(j, cuModuleGetFunction(&add, module, "add"));
	TRY(j, cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	do {
		round_of(j, add, stream);
		pause_for(PAUSE);
	} while (!j->failed && !atomic_load(&over));
	if (j->failed)
		return;
	TRY(j, cuStreamDestroy_v2(stream));
	TRY(j, cuModuleUnload(module));
	if (!apart)
		TRY(j, cuDevicePrimaryCtxRelease_v2(0));
}

static void *run(void *arg)
{
	work(arg);
	return NULL;
}

/* The library, once it is there and cuInit() has been called. */
static bool initialised(void)
{
	void *dl = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
	int n;

	if (!dl)
		return false;
#define FIND(name) cu.name = (__typeof__(cu.name))dlsym(dl, #name);
	CALLS(FIND)
	dlclose(dl);	/* it stays: the program has it */
	return cu.cuDeviceGetCount(&n) == CUDA_SUCCESS && n;
}

static void *watch(void *arg)
{
	(void)arg;
	while (!initialised()) {
		if (atomic_load(&over))
			return NULL;
		pause_for(200000);
	}
	if (getenv("CROWD_APART") && cu.cuCtxCreate_v2(&apart, 0, 0) != CUDA_SUCCESS)
		return NULL;
	/* Also when the program has ended meanwhile: each has its round. */
	for (; started < THREADS; started++) {
		jobs[started].number = started;
		if (pthread_create(&jobs[started].thread, NULL, run, &jobs[started]))
			break;
	}
	return NULL;
}

/* @return what is wrong with the crowd */
static int end(void)
{
	unsigned int rounds = 0, idle = 0, wrong = 0, failed = 0;

	atomic_store(&over, true);
	pthread_join(watcher, NULL);
	for (unsigned int i = 0; i < started; i++) {
		struct job *j = &jobs[i];
		const char *name = NULL;

		pthread_join(j->thread, NULL);
		rounds += j->rounds;
		idle += !j->rounds;
		wrong += j->wrong;
		failed += j->failed != CUDA_SUCCESS;
		if (j->failed && cu.cuGetErrorName(j->failed, &name) == CUDA_SUCCESS)
			fprintf(stderr, "# crowd: thread %u, round %u: %s: %s\n", i, j->rounds, j->at, name);
	}
	if (apart)
		failed += cu.cuCtxDestroy_v2(apart) != CUDA_SUCCESS;
	fprintf(stderr, "%sok - crowd: %u threads beside the program, %u rounds, %u threads without one, %u failed, "
		"%u wrong words\n",
		started == THREADS && !idle && !wrong && !failed ? "" : "not ", started, rounds, idle, failed, wrong);
	return started != THREADS || idle || wrong || failed;
}

static int (*program)(int, char **, char **);

static int beside(int argc, char **argv, char **envp)
{
	pid_t here = getpid();
	int status;

	watching = !pthread_create(&watcher, NULL, watch, NULL);
	status = program(argc, argv, envp);
	/* A child that the program forked comes here, too, and has no threads. */
	if (getpid() != here || !watching)
		return status;
	return end() || status;
}

int __libc_start_main(int (*start)(int, char **, char **), int argc, char **argv, void (*init)(void),
		      void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
int __libc_start_main(int (*start)(int, char **, char **), int argc, char **argv, void (*init)(void),
		      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
	__typeof__(__libc_start_main) *real = (__typeof__(real))dlsym(RTLD_NEXT, "__libc_start_main");

	program = start;
	return real(beside, argc, argv, init, fini, rtld_fini, stack_end);
}
