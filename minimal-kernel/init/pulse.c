// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu.pulse=MS: each processor of the pod is interrupted that often, for emulators that lose wake-ups (Documentation/lab.rst).
 * Nothing is done then but that the processor looks whether somebody wants to run.
 */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "init.h"

/* A wake-up of the one may be lost like any other, and no further one comes then: the other's interrupt makes up for it. */
#define PULSES_EACH	2
#define PULSE_MS_MAX	10000

static void __attribute__((noreturn)) pulse(long cpu, long ms)
{
	sigset_t none;
	cpu_set_t own;

	CPU_ZERO(&own);
	CPU_SET(cpu, &own);
	sched_setaffinity(0, sizeof(own), &own);
	prctl(PR_SET_NAME, "vgpu-pulse");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close_range(0, ~0u, 0);
	for (;;)
		usleep(ms * 1000);
}

void boot_pulse(const struct config *c)
{
	char *text = config_get(c, "pulse");
	long ms = text ? atol(text) : 0, cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (text && (ms < 1 || ms > PULSE_MS_MAX))
		trouble("vgpu.pulse=%.32s: not 1 to %d milliseconds", text, PULSE_MS_MAX);
	else if (text)
		for (long i = 0; i < cpus * PULSES_EACH; i++) {
			pid_t pid = fork();

			if (!pid)
				pulse(i % cpus, ms);
			if (pid < 0)
				trouble("vgpu.pulse: processor %ld: %s", i % cpus, strerror(errno));
		}
	free(text);
}
