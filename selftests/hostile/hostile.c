// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "hostile.h"

static int count, failed;

void report(bool good, const char *fmt, ...)
{
	bool well = neighbour_well();
	va_list ap;

	printf("%sok %d - ", good && well ? "" : "not ", ++count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("%s\n", well ? "" : ", but the neighbour is unwell");
	failed += !good || !well;
}

int main(int argc, char **argv)
{
	/* In a pod everything may be emulated: fewer. */
	unsigned int sessions = argc > 1 ? strtoul(argv[1], NULL, 10) : access("/dev/vgpu", F_OK) ? 64 : 4;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n");
	if (!neighbour_open()) {
		printf("Bail out! there is no neighbour to protect\n");
		return 1;
	}
	attack_rings();
	attack_calls();
	attack_shown();
	attack_by_chance(sessions);
	printf("1..%d\n", count);
	return failed != 0;
}
