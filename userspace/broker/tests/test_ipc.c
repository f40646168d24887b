// SPDX-License-Identifier: Apache-2.0
/* The registry against workers that lie, die, and want too much; with the broker's other files in short. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../broker.h"
#include "softgpu_share.h"
#include "aside_now.h"
#include "tap.h"

#define MIB	(1ull << 20)
#define N	4

struct broker broker = { .soft = true, .files_max = 1u << 20 };
static struct device one, two;
static struct session sessions[N];
static struct worker workers[N];
static struct worker_msg said;		/* to the worker that asked last */
static bool with_fd;

/* --- in short --- */

int worker_send(struct worker *w, const struct worker_msg *m, const int *fds, int nfds)
{
	said = *m;
	with_fd = nfds == 1 && fds[0] >= 0;
	return 0;
}

void adopt_write(struct worker *w) { }
uint64_t log_now_ns(void) { return 1; }

static void granted(struct quota_holder *h, uint64_t bytes) { }
static void reclaim(struct quota_holder *h) { }

static unsigned int unused_images;	/* that device one has */

bool images_give_way(struct device *d)
{
	for (; !files_left(d) && unused_images; unused_images--)
		files_count(&one, -1);
	return files_left(d);
}

/* --- */

static int file(uint64_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, seals))
		abort();
	return fd;
}

/* Worker @i gives out @size bytes that it was charged @charge for, @leased of them leased. @return the broker's verdict */
static int export(int i, enum ipc_kind kind, uint64_t size, uint64_t charge, uint64_t leased)
{
	struct worker_msg m = { .type = WORKER_IPC_EXPORT, .a = charge, .b = leased, .u.ipc = { .kind = kind, .size = size } };
	int fd = file(size + 4096, F_SEAL_SHRINK | F_SEAL_GROW), ret;

	memset(&said, 0, sizeof(said));
	ret = ipc_export(&workers[i], &m, fd);
	close(fd);
	return ret;
}

static bool import(int i, enum ipc_kind kind, const uint8_t *token)
{
	struct worker_msg m = { .type = WORKER_IPC_IMPORT, .u.ipc = { .kind = kind } };

	memcpy(m.u.ipc.token, token, sizeof(m.u.ipc.token));
	memset(&said, 0, sizeof(said));
	return !ipc_import(&workers[i], &m) && said.a;
}

/* As the worker's session gets so much. */
static void lease(int i, uint64_t bytes)
{
	quota_adopt(&workers[i].holder, bytes);
}

static void begin(void)
{
	for (int i = 0; i < N; i++) {
		struct device *d = i == N - 1 ? &two : &one;

		sessions[i] = (struct session){ .device = d, .number = (uint32_t)i };
		workers[i] = (struct worker){ .session = &sessions[i], .pid = 100 + i };
		quota_join(&d->quota, &workers[i].holder);
	}
}

static void die(int i)
{
	ipc_worker_gone(&workers[i]);
	quota_leave(&workers[i].holder, 1);
	workers[i].session = NULL;
}

static void end(void)
{
	for (int i = 0; i < N; i++)
		if (workers[i].session)
			die(i);
}

/* Is all that is leased some worker's, by its lease or by what it answers for? */
static bool adds_up(const struct device *d)
{
	uint64_t sum = 0;

	for (int i = 0; i < N; i++)
		if (workers[i].session && sessions[i].device == d)
			sum += workers[i].holder.leased + workers[i].shared;
	return sum == d->quota.leased;
}

static void charges(void)
{
	uint8_t token[IPC_TOKEN_BYTES];
	uint64_t id;

	begin();
	lease(0, 10 * MIB);
	ok(!export(0, IPC_MEMORY, 4 * MIB, 4 * MIB, 4 * MIB) && said.a, "memory is given out");
	id = said.a;
	memcpy(token, said.u.ipc.token, sizeof(token));
	ok(workers[0].holder.leased == 6 * MIB && one.quota.leased == 10 * MIB, "its charge has moved, and is one still");
	ok(workers[0].shared == 4 * MIB, "its worker answers for it");
	ok(import(1, IPC_MEMORY, token) && with_fd && said.u.ipc.size == 4 * MIB, "another session gets it");
	ok(one.quota.leased == 10 * MIB, "which costs nothing more");
	die(0);
	ok(one.quota.leased == 4 * MIB && workers[1].shared == 4 * MIB, "the first one's death does not free it");
	ok(!import(2, IPC_MEMORY, token), "but nobody new gets it any more");
	ok(import(1, IPC_MEMORY, token), "who has it may open it again");
	ok(!ipc_drop(&workers[1], id) && one.quota.leased == 4 * MIB, "it has it twice");
	ok(!ipc_drop(&workers[1], id) && !one.quota.leased && !one.ipc.count, "when the last one lets go it is free");
	ok(ipc_drop(&workers[1], id) == -EINVAL, "what one has not cannot be let go");
	end();

	begin();
	for (int i = 0; i < 3; i++) {
		lease(i, 8 * MIB);
		for (int k = 0; k < 4; k++) {
			export(i, IPC_MEMORY, MIB, MIB, MIB);
			import((i + 1) % 3, IPC_MEMORY, said.u.ipc.token);
			import((i + 2) % 3, IPC_MEMORY, said.u.ipc.token);
		}
	}
	ok(adds_up(&one) && workers[0].shared == 4 * MIB, "each object is one worker's to answer for");
	die(1);
	ok(adds_up(&one) && workers[2].shared == 8 * MIB, "and another's when that one dies");
	die(2);
	ok(adds_up(&one) && workers[0].shared == 12 * MIB, "down to the last");
	die(0);
	ok(!one.quota.leased && !workers[0].shared, "who leaves nothing");
	end();

	begin();
	lease(0, MIB);
	ok(!export(0, IPC_PHYSICAL, MIB, MIB, MIB) && said.a, "physical memory");
	memcpy(token, said.u.ipc.token, sizeof(token));
	ok(import(1, IPC_PHYSICAL, token), "is imported");
	die(0);
	ok(import(2, IPC_PHYSICAL, token), "and lives on for whoever comes, as long as somebody has it");
	die(1);
	ok(one.quota.leased == MIB, "it counts");
	die(2);
	ok(!one.quota.leased && !one.ipc.count, "until nobody has it");
	ok(!import(3, IPC_PHYSICAL, token), "then it is gone");
	end();
}

static void others(void)
{
	uint8_t token[IPC_TOKEN_BYTES];
	int found = 0;

	begin();
	lease(0, MIB);
	export(0, IPC_MEMORY, MIB, MIB, MIB);
	memcpy(token, said.u.ipc.token, sizeof(token));
	ok(!import(3, IPC_MEMORY, token) && !with_fd, "another device's session gets nothing");
	ok(!import(1, IPC_PHYSICAL, token) && !import(1, IPC_EVENT, token), "nor does who asks for another kind");
	for (int bit = 0; bit < IPC_TOKEN_BYTES * 8; bit++) {
		token[bit / 8] ^= 1 << bit % 8;
		found += import(1, IPC_MEMORY, token);
		token[bit / 8] ^= 1 << bit % 8;
	}
	ok(!found, "nor who guesses all but a bit");
	ok(import(0, IPC_MEMORY, token) && said.b == IPC_OWN, "its own session is told that it is");
	ok(ipc_drop(&workers[1], said.a) == -EINVAL, "who has it not cannot drop it");
	ok(import(1, IPC_MEMORY, token), "with the token it is there");
	end();
}

static void lies(void)
{
	struct worker_msg m = { .type = WORKER_IPC_EXPORT, .u.ipc = { .kind = IPC_MEMORY, .size = MIB } };
	unsigned int n = 0;
	int pipes[2];

	begin();
	one.memory = 64 * MIB;
	lease(0, MIB);
	ok(export(0, IPC_MEMORY, MIB, 2 * MIB, 2 * MIB) == -EINVAL, "more than it leased");
	ok(export(0, IPC_MEMORY, MIB, MIB, 0) == -EINVAL, "less than what it was charged");
	ok(export(0, IPC_MEMORY, MIB, 1ull << 60, 0) == -EINVAL, "more than there can be");
	ok(export(0, 0, MIB, MIB, MIB) == -EINVAL && export(0, IPC_KINDS, MIB, MIB, MIB) == -EINVAL, "of no kind");
	ok(workers[0].holder.leased == MIB && !one.ipc.count, "nothing came of it");
	m.a = m.b = MIB;
	ok(!ipc_export(&workers[0], &m, -1) && !said.a, "memory without a file is refused");
	if (pipe(pipes))
		abort();
	ok(!ipc_export(&workers[0], &m, pipes[0]) && !said.a, "a pipe, too");
	close(pipes[0]);
	close(pipes[1]);
	pipes[0] = file(MIB, F_SEAL_GROW);
	ok(!ipc_export(&workers[0], &m, pipes[0]) && !said.a, "a file that may shrink under its users");
	close(pipes[0]);
	pipes[0] = file(MIB, F_SEAL_SHRINK);
	ok(!ipc_export(&workers[0], &m, pipes[0]) && !said.a, "or grow, when it has been looked at");
	close(pipes[0]);
	pipes[0] = file(MIB + IPC_FILE_FREE + 4096, F_SEAL_SHRINK | F_SEAL_GROW);
	ok(!ipc_export(&workers[0], &m, pipes[0]) && !said.a, "one that holds more than is charged");
	close(pipes[0]);
	pipes[0] = file(4096, F_SEAL_SHRINK | F_SEAL_GROW);
	ok(!ipc_export(&workers[0], &m, pipes[0]) && !said.a, "a file that is too small");
	close(pipes[0]);
	ok(workers[0].holder.leased == MIB && one.quota.leased == MIB, "and its charge is its own still");
	ok(ipc_memory(&workers[0], 4 * MIB) == -EINVAL, "a file for more than it leased");
	ok(ipc_memory(&workers[0], 0) == -EINVAL && ipc_memory(&workers[0], UINT64_MAX) == -EINVAL, "of no size, or any");
	ok(!ipc_memory(&workers[0], MIB + 4096) && said.a && with_fd, "one for what it has");
	one.memory = 0;
	while (n <= IPC_SESSION_MAX && !export(0, IPC_EVENT, 0, 0, 0) && said.a)
		n++;
	ok(n == IPC_SESSION_MAX, "a session gives out %u objects at most: %u", IPC_SESSION_MAX, n);
	while (n <= IPC_DEVICE_MAX && !export(1 + n % 2, IPC_EVENT, 0, 0, 0) && said.a)
		n++;
	ok(n == IPC_DEVICE_MAX, "and a device's sessions %u: %u", IPC_DEVICE_MAX, n);
	lease(3, MIB);
	ok(!export(3, IPC_MEMORY, MIB, MIB, MIB) && said.a, "which is no other device's concern");
	end();
	ok(!one.ipc.count && !two.ipc.count && !one.ipc.entries && !one.quota.leased, "nothing is left of them");
	begin();
	broker.files_max = 8;
	for (n = 0; n < 32 && !export(0, IPC_EVENT, 0, 0, 0) && said.a; n++)
		;
	ok(n == 4 && broker.files == 4, "a device's have half of the descriptors that may be kept: %u", n);
	end();
	begin();
	unused_images = 3;
	files_count(&one, 3);
	for (n = 0; n < 32 && !export(0, IPC_EVENT, 0, 0, 0) && said.a; n++)
		;
	ok(n == 4 && broker.files == 4 && !unused_images, "images that nobody has are no reason to refuse: %u", n);
	end();
	broker.files_max = 1u << 20;
	ok(!broker.files && !one.files, "and give them back");
}

static void lost(void)
{
	struct worker_msg m = { .type = WORKER_IPC_EXPORT, .u.ipc = { .kind = IPC_EVENT } };
	int fd = file(8192, F_SEAL_SHRINK | F_SEAL_GROW);
	struct softgpu_shared_event *e = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint8_t token[IPC_TOKEN_BYTES];

	if (e == MAP_FAILED)
		abort();
	begin();
	ipc_export(&workers[0], &m, fd);
	memcpy(token, said.u.ipc.token, sizeof(token));
	ok(import(1, IPC_EVENT, token) && import(2, IPC_EVENT, token), "an event of three sessions");
	e->recorder = 102;
	die(1);
	ok(!e->lost, "the death of one that does not record it is none of its business");
	die(2);
	ok(e->lost == 102, "the death of the one that does is told");
	end();
	munmap(e, 4096);
	close(fd);
}

int main(void)
{
	struct device *all[] = { &one, &two };

	for (int i = 0; i < 2; i++) {
		all[i]->quota.limit = UINT64_MAX;
		all[i]->quota.granted = granted;
		all[i]->quota.reclaim = reclaim;
	}
	charges();
	others();
	lies();
	lost();
	return tap_done();
}
