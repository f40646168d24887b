// SPDX-License-Identifier: Apache-2.0
/* Four sessions that send and fill their arenas without end: something for the pod to be destroyed in. */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "idm.h"
#include "linux/vgpu.h"
#include "session.h"

#define ARENA	(4ul << 20)

int main(void)
{
	struct vgpu_session_params p[4];
	char *memory[4];
	int fd[4];

	for (int i = 0; i < 4; i++) {
		p[i] = (struct vgpu_session_params) {
			.request_size = RING_SIZE, .reply_size = RING_SIZE, .arena_size = ARENA, .timeout_ms = 30000,
		};
		fd[i] = open("/dev/vgpu", O_RDWR | O_CLOEXEC);
		if (fd[i] < 0 || ioctl(fd[i], VGPU_IOC_SESSION, &p[i]))
			return 1;
		memory[i] = mmap(NULL, p[i].arena_offset + ARENA, PROT_READ | PROT_WRITE, MAP_SHARED, fd[i], 0);
		if (memory[i] == MAP_FAILED)
			return 1;
	}
	for (unsigned int n = 0;; n++) {
		struct idm_session *page0 = (struct idm_session *)memory[n % 4];
		struct command *c = (struct command *)(memory[n % 4] + p[n % 4].request_offset);

		c->op = OP_ECHO;
		memset(memory[n % 4] + p[n % 4].arena_offset, n, ARENA);
		__atomic_add_fetch(&page0->request.prod, 1, __ATOMIC_SEQ_CST);
		if (ioctl(fd[n % 4], VGPU_IOC_KICK))
			return 1;
	}
}
