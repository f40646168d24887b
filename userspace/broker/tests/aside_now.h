/* SPDX-License-Identifier: Apache-2.0 */
/* aside.c in short: all is done at once. */
#include <unistd.h>

#include "../aside.h"

bool aside_run(const void *owner, int fd, bool (*work)(int fd, const void *arg), const void *arg,
	       void (*done)(uint64_t id, bool good), uint64_t id)
{
	bool good = work(fd, arg);

	if (done)
		done(id, good);
	return true;
}

void aside_close(int fd)
{
	close(fd);
}
