// SPDX-License-Identifier: Apache-2.0
/*
 * When to spin, when to sleep.
 *
 * Spinning pays only while the peer runs on another CPU. So each side of the local transport publishes its CPU in
 * page 0, and a side spins only if its peer was last seen elsewhere, for at most a few microseconds; then it says
 * in page 0 that it sleeps, looks once more, and blocks. Never sched_yield(): it gives the CPU to somebody
 * else's busy loop for a whole scheduler slice.
 *
 * Being woken costs 5 to 15 us. A client whose answer came soon after it fell asleep (a small copy, a short kernel) spins
 * that long the next time, up to SPIN_US_CLIENT. If that does not help twice in a row, since the answers take longer or
 * the worker cannot run while the client spins, it spins for the few microseconds again and tries no more for a while.
 * The time it spends so is the pod's own. A worker's is everybody's: it stays with the few.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/rseq.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "linux/vgpu.h"

#define SPIN_US_DEFAULT	10
#define SPIN_US_CLIENT	100
#define SPIN_STRIKES	2	/* spins in a row that did not help */
#define SPIN_REST	64	/* waits after those before it is tried again */
#define SPIN_US_MAX	1000
#define CALIBRATE_NS	20000	/* once per session: what is measured is good to a few percent */
#define SPIN_BATCH	16	/* pauses between two looks at the clock */

static int futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, value, timeout, NULL, 0) < 0 ? -errno : 0;
}

void idm_futex_wake_private(uint32_t *word, int n)
{
	futex(word, FUTEX_WAKE_PRIVATE, n, NULL);
}

void idm_futex_wait_private(uint32_t *word, uint32_t value)
{
	futex(word, FUTEX_WAIT_PRIVATE, value, NULL);
}

void idm_lock_slow(struct idm_lock *l)
{
	for (int i = 0; i < 64; i++) {
		if (!__atomic_load_n(&l->word, __ATOMIC_RELAXED) && idm_trylock(l))
			return;
		idm_pause();
	}
	while (__atomic_exchange_n(&l->word, 2, __ATOMIC_SEQ_CST))
		idm_futex_wait_private(&l->word, 2);
}

int64_t idm_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/*
 * A clock for spinning. clock_gettime() is a real system call wherever the clock source is none that the vDSO can
 * read, as in some guests, and a spinning side must not enter the kernel.
 */
static uint64_t ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return idm_now_ns();
#endif
}

static uint64_t ticks_in(int64_t ns)
{
#if defined(__x86_64__)
	int64_t t0 = idm_now_ns(), t;
	uint64_t c0 = ticks();

	do
		t = idm_now_ns();
	while (t - t0 < CALIBRATE_NS);
	return (double)(ticks() - c0) / (t - t0) * ns;
#else
	return ns;
#endif
}

static ptrdiff_t rseq_offset;	/* of a thread's rseq area from its thread pointer; 0: there is none */

/* The C library registers the area, since glibc 2.35; a container's may be older (idm.mk). */
__attribute__((constructor)) static void find_rseq(void)
{
	const ptrdiff_t *offset = dlsym(RTLD_DEFAULT, "__rseq_offset");
	const unsigned int *size = dlsym(RTLD_DEFAULT, "__rseq_size");

	if (offset && size && *size)
		rseq_offset = *offset;
	dlerror();	/* a program that asks for errors is not told of ours */
}

/* The CPU this thread runs on, plus 1. The kernel keeps it in the thread's rseq area: a load, no call. */
static uint32_t this_cpu(void)
{
	if (rseq_offset) {
		const char *area = (const char *)__builtin_thread_pointer() + rseq_offset;
		int32_t cpu = ((const volatile struct rseq *)area)->cpu_id;

		if (cpu >= 0)
			return cpu + 1;
	}
	return sched_getcpu() + 1;
}

void idm_link_init(struct idm_link *l, struct idm_side *self, struct idm_side *peer, bool client)
{
	const char *us = getenv("VGPU_SPIN_US");
	char *end = NULL;
	long least = us ? strtol(us, &end, 10) : -1, most = least;

	if (!us || end == us || *end || least < 0 || least > SPIN_US_MAX) {
		least = SPIN_US_DEFAULT;
		most = client ? SPIN_US_CLIENT : SPIN_US_DEFAULT;
	}
	l->self = self;
	l->peer = peer;
	l->spin_least = least ? ticks_in(least * 1000) : 0;
	l->spin_most = least ? l->spin_least * most / least : 0;
	l->spin[0].now = l->spin[1].now = l->spin_least;
}

void idm_link_here(struct idm_link *l)
{
	uint32_t cpu;

	if (l->wait)	/* another domain: CPU numbers mean nothing there */
		return;
	cpu = this_cpu();
	if (__atomic_load_n(&l->self->cpu, __ATOMIC_RELAXED) != cpu)
		__atomic_store_n(&l->self->cpu, cpu, __ATOMIC_RELAXED);
}

/* An unknown CPU counts as another one. */
static bool peer_is_elsewhere(const struct idm_link *l)
{
	uint32_t cpu = __atomic_load_n(&l->peer->cpu, __ATOMIC_RELAXED);

	return l->wait || !cpu || cpu != this_cpu();
}

static bool spin(struct idm_link *l, uint64_t longest, bool (*ready)(void *arg), void *arg)
{
	uint64_t start = 0;

	if (!longest)
		return false;
	while (peer_is_elsewhere(l)) {
		for (int i = 0; i < SPIN_BATCH; i++) {
			if (ready(arg))
				return true;
			idm_pause();
		}
		if (!start)
			start = ticks();
		else if (ticks() - start > longest)
			break;
	}
	return false;
}

void idm_link_learn(struct idm_link *l, int role, uint64_t waited)
{
	struct idm_spin *s = &l->spin[role];

	if (s->rest) {
		s->rest--;
	} else if (s->now > l->spin_least && ++s->strikes == SPIN_STRIKES) {
		*s = (struct idm_spin){ .now = l->spin_least, .rest = SPIN_REST };
	} else if (waited <= l->spin_most && s->now < waited + waited / 4) {
		s->now = waited + waited / 4 < l->spin_most ? waited + waited / 4 : l->spin_most;
	}
}

static void count(uint64_t *counter)
{
	/* One thread at a time adds to it; others may read. */
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

/* Sleep until notified. @wake: value of the futex word before `sleeping` was set. */
static int block(struct idm_link *l, int role, uint32_t wake, int64_t timeout_ns)
{
	if (l->wait) {
		struct vgpu_wait w = { .seen = l->seen[role], .timeout_ns = timeout_ns };
		int rc = ioctl(l->fd, l->wait, &w) < 0 ? -errno : 0;

		if (!rc)
			l->seen[role] = w.seen;
		return rc;
	}
	struct timespec t = { .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };

	return futex(&l->self->wake, FUTEX_WAIT, wake, timeout_ns < 0 ? NULL : &t);
}

int idm_link_wait(struct idm_link *l, uint32_t bits, bool (*ready)(void *arg), void *arg, int64_t timeout_ns)
{
	int role = bits & IDM_SLEEP_DATA ? 0 : 1;
	int64_t end = -1;
	uint64_t start;
	int rc = 0;

	if (ready(arg))
		return 0;
	idm_link_here(l);
	start = l->spin_most > l->spin_least ? ticks() : 0;
	if (spin(l, l->spin[role].now, ready, arg)) {
		l->spin[role].strikes = 0;
		count(&l->spun[role]);
		return 0;
	}
	if (timeout_ns > 0)
		end = idm_now_ns() + timeout_ns;

	for (;;) {
		/* Read before `sleeping` is set: a wake after this makes the futex call return at once. */
		uint32_t wake = __atomic_load_n(&l->self->wake, __ATOMIC_ACQUIRE);

		/*
		 * Full barrier, partner of idm_queue_publish() and idm_queue_release(): either the look below
		 * sees the peer's progress, or the peer sees the bit and notifies.
		 */
		__atomic_fetch_or(&l->self->sleeping, bits, __ATOMIC_SEQ_CST);
		if (ready(arg)) {
			rc = 0;
			break;
		}
		if (!timeout_ns) {
			rc = -ETIMEDOUT;
			break;
		}
		count(&l->slept[role]);
		rc = block(l, role, wake, timeout_ns);
		if (ready(arg)) {
			rc = 0;
			break;
		}
		if (rc == -EPIPE || rc == -ENODEV || rc == -EBADF) {
			rc = -EPIPE;
			break;
		}
		if (end >= 0) {
			timeout_ns = end - idm_now_ns();
			if (timeout_ns <= 0) {
				rc = -ETIMEDOUT;
				break;
			}
		}
	}
	if (__atomic_load_n(&l->self->sleeping, __ATOMIC_RELAXED) & bits)
		__atomic_fetch_and(&l->self->sleeping, ~bits, __ATOMIC_SEQ_CST);
	if (start)
		idm_link_learn(l, role, ticks() - start);
	return rc;
}

void idm_side_alarm(struct idm_side *side)
{
	__atomic_fetch_add(&side->wake, 1, __ATOMIC_SEQ_CST);
	futex(&side->wake, FUTEX_WAKE, INT_MAX, NULL);
}

void idm_link_wake_slow(struct idm_link *l, uint32_t bit)
{
	/* Whoever clears the bit notifies, so that two of our threads do not both do it. */
	if (!(__atomic_fetch_and(&l->peer->sleeping, ~bit, __ATOMIC_SEQ_CST) & bit))
		return;
	__atomic_fetch_add(&l->kicks, 1, __ATOMIC_RELAXED);
	if (l->kick)
		ioctl(l->fd, l->kick);	/* EPIPE is noticed by whoever waits next */
	else
		idm_side_alarm(l->peer);
}

void idm_stats_link(const struct idm_link *l, struct idm_stats *out)
{
	out->spun = __atomic_load_n(&l->spun[0], __ATOMIC_RELAXED) + __atomic_load_n(&l->spun[1], __ATOMIC_RELAXED);
	out->slept = __atomic_load_n(&l->slept[0], __ATOMIC_RELAXED) +
		     __atomic_load_n(&l->slept[1], __ATOMIC_RELAXED);
	out->kicks = __atomic_load_n(&l->kicks, __ATOMIC_RELAXED);
}
