// SPDX-License-Identifier: Apache-2.0
/*
 * L: what this machine can do at all. 64 bytes to another process and back through shared memory, sleeping on a
 * futex with both on one CPU, and spinning on two; and copying memory.
 */
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define WARM	200
#define CALLS	5000

struct shared {
	uint32_t ping __attribute__((aligned(64)));
	uint32_t pong __attribute__((aligned(64)));
	char a[64], b[64];
	uint32_t ready;
};

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void set(uint32_t *word, uint32_t v, int spin)
{
	__atomic_store_n(word, v, __ATOMIC_SEQ_CST);
	if (!spin)
		syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void await(uint32_t *word, uint32_t v, int spin)
{
	uint32_t now;

	while ((now = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != v) {
		if (spin)
			__builtin_ia32_pause();
		else
			syscall(SYS_futex, word, FUTEX_WAIT, now, NULL, NULL, 0);
	}
}

static void ping_pong(const char *name, int cpu_a, int cpu_b, int spin)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	static double us[CALLS];
	char msg[64] = { 1 };
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(cpu_b);
		__atomic_store_n(&s->ready, 1, __ATOMIC_SEQ_CST);
		for (uint32_t i = 1; i <= WARM + CALLS; i++) {
			await(&s->ping, i, spin);
			memcpy(s->b, s->a, 64);
			set(&s->pong, i, spin);
		}
		_exit(0);
	}
	/* Asleep until then: under SCHED_FIFO a spinning parent would never let the child go. */
	while (!__atomic_load_n(&s->ready, __ATOMIC_SEQ_CST))
		usleep(1000);
	pin(cpu_a);
	for (uint32_t i = 1; i <= WARM + CALLS; i++) {
		double t = now_us();

		memcpy(s->a, msg, 64);
		set(&s->ping, i, spin);
		await(&s->pong, i, spin);
		memcpy(msg, s->b, 64);
		if (i > WARM)
			us[i - WARM - 1] = now_us() - t;
	}
	waitpid(pid, NULL, 0);
	munmap(s, sizeof(*s));
	print_percentiles(name, us, CALLS);
}

static void copy(const char *name, size_t size, int times)
{
	char *a = aligned_alloc(4096, size), *b = aligned_alloc(4096, size);
	double best, t;

	memset(a, 1, size);
	memset(b, 2, size);
	t = now_us();
	for (int i = 0; i < times; i++) {
		memcpy(b, a, size);
		__asm__ __volatile__("" ::: "memory");
	}
	best = size * (double)times / (now_us() - t) * 1e-3;
	free(a);
	free(b);
	print_value(name, best);
}

int main(void)
{
	cpu_set_t all;
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);

	alarm(60);
	sched_getaffinity(0, sizeof(all), &all);
	ping_pong("futex_1cpu_us", 0, 0, 0);
	if (cpus > 1)
		ping_pong("spin_2cpu_us", 0, 1, 1);
	sched_setaffinity(0, sizeof(all), &all);
	copy("memcpy_1MB_GBs", 1 << 20, 500);
	copy("memcpy_256MB_GBs", 256 << 20, 2);
	return 0;
}
