// SPDX-License-Identifier: Apache-2.0
/*
 * Device memory moves to a memfd while kernels and copies go on. A piece at a time is made read-only, copied, and replaced
 * by the memfd's pages; who writes to it meanwhile faults, waits in the handler until it is over, and writes again.
 *
 * Nothing else makes a page of the heap read-only, so a fault of that kind there can have no other reason. All others
 * go to whoever handled SIGSEGV before.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "softgpu.h"

#define PIECE	(2ul << 20)
#define PAGE	4096

static _Atomic uint32_t moving;
static struct sigaction before;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const struct timespec nap = { .tv_nsec = 50000 };

	if (info->si_code == SEGV_ACCERR && sg_in_heap((uint64_t)info->si_addr)) {
		while (atomic_load(&moving))
			nanosleep(&nap, NULL);
		return;
	}
	if (before.sa_flags & SA_SIGINFO)
		before.sa_sigaction(sig, info, context);
	else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
		before.sa_handler(sig);
	else
		signal(SIGSEGV, SIG_DFL);	/* the access is made again, and ends the process */
}

/*
 * It stays: a thread that has faulted may come to its handler when all is over. Stream threads do not block the signal.
 * Under the heap's lock.
 */
static bool catch_faults(void)
{
	struct sigaction now, ours = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };

	if (sigaction(SIGSEGV, NULL, &now))
		return false;
	if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_fault)
		return true;
	before = now;
	return !sigaction(SIGSEGV, &ours, NULL);
}

static bool all_zero(const char *page)
{
	return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

static bool move(char *at, char *window, size_t bytes, int fd, size_t offset)
{
	bool ok;

	atomic_store(&moving, 1);
	if (mprotect(at, bytes, PROT_READ)) {
		atomic_store(&moving, 0);
		return false;
	}
	/* The file is all holes: what is zero stays one. */
	for (size_t i = 0; i < bytes; i += PAGE)
		if (!all_zero(at + i))
			memcpy(window + i, at + i, PAGE);
	ok = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) != MAP_FAILED;
	if (!ok)
		mprotect(at, bytes, PROT_READ | PROT_WRITE);
	atomic_store(&moving, 0);
	return ok;
}

bool sg_move_to_file(void *at, size_t bytes, int fd)
{
	char *window = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	bool ok = window != MAP_FAILED && catch_faults();

	for (size_t i = 0; ok && i < bytes; i += PIECE)
		ok = move((char *)at + i, window + i, bytes - i < PIECE ? bytes - i : PIECE, fd, i);
	if (window != MAP_FAILED)
		munmap(window, bytes);
	return ok;
}
