// SPDX-License-Identifier: Apache-2.0
/*
 * Threads that help with launches. They are created when first wanted and then sleep between launches. The thread
 * that launches always works too, so a launch goes on even if no helper can be had.
 */

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "exec.h"

#define MAX_THREADS 256

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER, idle = PTHREAD_COND_INITIALIZER;
static struct launch *queue;
static unsigned int wanted, started;
static pid_t owner;

unsigned int pool_threads(void)
{
	unsigned int n = __atomic_load_n(&wanted, __ATOMIC_RELAXED);
	const char *s;
	long cpus;

	if (n)
		return n;
	s = getenv("SOFTGPU_THREADS");
	cpus = s ? atol(s) : 0;
	if (cpus < 1)
		cpus = sysconf(_SC_NPROCESSORS_ONLN);
	n = cpus < 1 ? 1 : cpus > MAX_THREADS ? MAX_THREADS : cpus;
	__atomic_store_n(&wanted, n, __ATOMIC_RELAXED);
	return n;
}

void ptx_set_threads(unsigned int n)
{
	__atomic_store_n(&wanted, n > MAX_THREADS ? MAX_THREADS : n, __ATOMIC_RELAXED);
}

static bool more(const struct launch *l)
{
	return __atomic_load_n(&l->next, __ATOMIC_RELAXED) < l->nblocks && !__atomic_load_n(&l->stop, __ATOMIC_RELAXED);
}

/* What a launch takes before it is worth waking helpers for. */
#define ALONE_NS 50000

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
}

static void call_helpers(struct launch *l);

static void no_memory(struct launch *l)
{
	int none = 0;

	if (__atomic_compare_exchange_n(&l->error, &none, FAULT_TRAP, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) && l->fault)
		strcpy(l->fault, "no memory for a block's registers and shared memory");
	__atomic_store_n(&l->stop, 1, __ATOMIC_SEQ_CST);
}

static bool begin_next(struct launch *l, struct block *b)
{
	uint64_t i;

	if (!more(l))
		return false;
	i = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
	if (i >= l->nblocks)
		return false;
	block_begin(b, i);
	return true;
}

/*
 * Blocks one after the other. If one takes very long, it may be waiting for one that has not begun (CUDA does not
 * promise that to work, GPUs make it work as long as all blocks fit), so then more and more run by turns.
 * @alone: the launching thread, which calls for help once it knows that the launch is a long one
 */
static void run_blocks(struct launch *l, bool alone)
{
	uint64_t start = alone ? now_ns() : 0;
	struct block *b[MAX_BESIDE] = { block_create(l) };
	unsigned int n = 1, finished;

	if (!b[0]) {
		no_memory(l);
		return;
	}
	if (!begin_next(l, b[0])) {
		block_destroy(b[0]);
		return;
	}
	while (n) {
		finished = 0;
		for (unsigned int i = 0; i < n;) {
			if (!block_run(b[i], n == 1 ? TURNS_ALONE / l->nwarps + 1 : 1)) {
				i++;
				continue;
			}
			finished++;
			if (alone && more(l) && now_ns() - start > ALONE_NS) {
				call_helpers(l);
				alone = false;
			}
			if (!begin_next(l, b[i])) {
				block_destroy(b[i]);
				b[i] = b[--n];
			}
		}
		if (finished || !n)
			continue;
		if (alone && more(l)) {
			call_helpers(l);
			alone = false;
		}
		for (unsigned int k = n; k && n < MAX_BESIDE && more(l); k--) {
			b[n] = block_create(l);
			if (!b[n])
				break;
			if (!begin_next(l, b[n])) {
				block_destroy(b[n]);
				break;
			}
			n++;
		}
	}
}

static struct launch *find_work(void)
{
	for (struct launch *l = queue; l; l = l->queue_next)
		if (more(l) && l->helpers + 1 < pool_threads() && l->helpers + 1 < l->nblocks)
			return l;
	return NULL;
}

static void *helper(void *unused)
{
	pthread_mutex_lock(&lock);
	for (;;) {
		struct launch *l = find_work();

		if (!l) {
			pthread_cond_wait(&work, &lock);
			continue;
		}
		l->helpers++;
		pthread_mutex_unlock(&lock);
		run_blocks(l, false);
		pthread_mutex_lock(&lock);
		if (!--l->helpers)
			pthread_cond_broadcast(&idle);
	}
	return unused;
}

static void start_helpers(unsigned int n)
{
	if (owner != getpid()) {	/* threads do not survive fork() */
		owner = getpid();
		started = 0;
	}
	while (started < n) {
		pthread_attr_t attr;
		pthread_t t;
		int err;

		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		err = pthread_create(&t, &attr, helper, NULL);
		pthread_attr_destroy(&attr);
		if (err)
			return;
		started++;
	}
}

static void call_helpers(struct launch *l)
{
	pthread_mutex_lock(&lock);
	start_helpers(pool_threads() - 1);
	l->queued = true;
	l->queue_next = queue;
	queue = l;
	pthread_cond_broadcast(&work);
	pthread_mutex_unlock(&lock);
}

void pool_run(struct launch *l)
{
	struct launch **at;

	run_blocks(l, l->nblocks > 1 && pool_threads() > 1);
	if (!l->queued)
		return;
	pthread_mutex_lock(&lock);
	for (at = &queue; *at != l; at = &(*at)->queue_next)
		;
	*at = l->queue_next;
	while (l->helpers)
		pthread_cond_wait(&idle, &lock);
	pthread_mutex_unlock(&lock);
}
