// SPDX-License-Identifier: Apache-2.0
/*
 * Memory that becomes a file under threads that write to it, and files that come from a host (softgpu_share.h). With a host
 * nobody asks whose a name is, so one process is enough to be both sides.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../cuda/softgpu_share.h"
#include "../softgpu.h"
#include "tap.h"

#define BYTES	(9ul << 20)
#define WRITERS	4
#define ROUNDS	24
#define FLAGS	CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS

static int files;	/* the host has made */

static int memory(uint64_t bytes)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	files++;
	if (ftruncate(fd, (off_t)bytes) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		abort();
	return fd;
}

/* Each adds one to every word of its own, again and again. */
struct writer {
	pthread_t thread;
	uint32_t *words;
	unsigned int first;
};

static void *write_words(void *arg)
{
	const struct writer *w = arg;

	for (int round = 0; round < ROUNDS; round++)
		for (size_t i = w->first; i < BYTES / 4; i += WRITERS)
			w->words[i]++;
	return NULL;
}

static void start(struct writer *w, CUdeviceptr p)
{
	for (unsigned int i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){ .words = (uint32_t *)p, .first = i };
		must(pthread_create(&w[i].thread, NULL, write_words, &w[i]));
	}
}

static size_t wrong(CUdeviceptr p, uint32_t value)
{
	const uint32_t *words = (const uint32_t *)p;
	size_t n = 0;

	for (size_t i = 0; i < BYTES / 4; i++)
		n += words[i] != value;
	return n;
}

static void moving(void)
{
	CUdeviceptr p, theirs, other;
	CUipcMemHandle handle, again;
	struct writer w[WRITERS];
	size_t free_before, free_after, total;
	int fd, copy;

	must(cuMemGetInfo_v2(&free_before, &total));
	must(cuMemAlloc_v2(&p, BYTES));
	start(w, p);
	must(cuIpcGetMemHandle(&handle, p));
	for (int i = 0; i < WRITERS; i++)
		pthread_join(w[i].thread, NULL);
	ok(!wrong(p, ROUNDS), "nothing that %d threads wrote during the move is lost: %zu words", WRITERS, wrong(p, ROUNDS));
	must(cuIpcGetMemHandle(&again, p));
	ok(!memcmp(&handle, &again, sizeof(handle)) && files == 1, "the same memory has one name and one file");

	fd = softgpu_share_take(&handle);
	ok(fd >= 0 && softgpu_share_take(&handle) < 0, "its file is taken once");
	ok(cuIpcOpenMemHandle_v2(&theirs, handle, FLAGS) == CUDA_ERROR_INVALID_VALUE, "nobody opens what was not offered");
	copy = memory(BYTES + 4096);
	softgpu_share_offer(&handle, copy);
	ok(cuIpcOpenMemHandle_v2(&theirs, handle, FLAGS) == CUDA_ERROR_INVALID_VALUE, "nor another file by that name");
	copy = memory(4096);
	softgpu_share_offer(&handle, copy);
	ok(cuIpcOpenMemHandle_v2(&theirs, handle, FLAGS) == CUDA_ERROR_INVALID_VALUE, "nor one that is too small");
	softgpu_share_offer(&handle, dup(fd));
	softgpu_share_offer(&handle, dup(fd));
	must(cuIpcOpenMemHandle_v2(&theirs, handle, FLAGS));
	ok(theirs != p && !wrong(theirs, ROUNDS), "offered, it is the same memory at another address");
	((uint32_t *)theirs)[5] = 77;
	ok(((uint32_t *)p)[5] == 77, "in both directions");
	((uint32_t *)p)[5] = ROUNDS;
	must(cuMemFree_v2(p));
	ok(!wrong(theirs, ROUNDS), "it stays when its owner has freed it");
	must(cuMemAlloc_v2(&other, BYTES));
	ok(!wrong(other, 0) && !wrong(theirs, ROUNDS), "and what the owner gets next is other memory, all zero");
	must(cuMemFree_v2(other));
	must(cuIpcCloseMemHandle(theirs));
	close(fd);
	must(cuMemGetInfo_v2(&free_after, &total));
	ok(free_before == free_after, "all memory is free again");
}

/* --- SIGSEGV is still what it was ---------------------------------------------------------------------------------------- */

static void own_handler(int sig)
{
	_exit(42);
}

/* What becomes of a child that faults by itself after an export. */
static int faulting(void (*handler)(int sig))
{
	const struct rlimit none = { 0, 0 };
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		CUipcMemHandle handle;
		volatile int *gone;
		CUcontext ctx;
		CUdeviceptr p;

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGSEGV, handler);
		if (cuInit(0) || cuDevicePrimaryCtxRetain(&ctx, 0) || cuCtxSetCurrent(ctx) || cuMemAlloc_v2(&p, 4096) ||
		    cuIpcGetMemHandle(&handle, p))
			_exit(1);
		gone = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		munmap((void *)gone, 4096);
		*gone = 1;
		_exit(2);
	}
	waitpid(pid, &status, 0);
	return status;
}

static void handlers(void)
{
	int status = faulting(SIG_DFL);

	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a fault of the program's own ends it");
	status = faulting(own_handler);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 42, "or goes to the program's own handler");
}

int main(void)
{
	static const struct softgpu_share_host host = { memory };
	CUcontext ctx;

	setenv("SOFTGPU_MEMORY", "64", 1);
	handlers();
	softgpu_share_host(&host);
	must(cuInit(0));
	must(cuDevicePrimaryCtxRetain(&ctx, 0));
	must(cuCtxSetCurrent(ctx));
	moving();
	return tap_done();
}
