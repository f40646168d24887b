// SPDX-License-Identifier: Apache-2.0
/*
 * Tokens: what the processes of a zone share they tell one another by them. In their own zone they are as good as the memory
 * itself; anywhere else, or a bit off, they are nothing.
 */
#include <inttypes.h>

#include "isolation.h"

#define FROM	0x70cee5	/* generation of the objects that imports make */
#define CALL	{ .ctx = VGPU_PRIMARY_CTX(0), .thread = 1 }
#define PIECE	(2ull << 20)

static const struct token_kind {
	const char *name;
	uint16_t import;
	enum vgpu_handle_type object;
} names[TOKENS] = {
	{ "memory", VGPU_MSG_cuIpcOpenMemHandle_v2, VGPU_H_NONE },
	{ "event", VGPU_MSG_cuIpcOpenEventHandle, VGPU_H_EVENT },
	{ "physical", VGPU_MSG_cuMemImportFromShareableHandle, VGPU_H_MEMALLOC },
	{ "pool", VGPU_MSG_cuMemImportFromShareableHandle, VGPU_H_MEMPOOL },
	{ "pointer", VGPU_MSG_cuMemPoolImportPointer, VGPU_H_NONE },
};

/* --- the victim --- */

static void told(int kind, int ret, const uint8_t *token)
{
	if (ret < 0)
		bail("exporting %s ends the session", names[kind].name);
	if (ret) {
		printf("# the driver does not export %s\n", names[kind].name);
		return;
	}
	printf("token %s ", names[kind].name);
	for (int i = 0; i < VGPU_IPC_BYTES; i++)
		printf("%02x", token[i]);
	printf("\n");
}

static int export(uint64_t handle, uint8_t *token)
{
	struct vgpu_ipc q = { .call = CALL, .handle = handle };

	return ask_payload(VGPU_MSG_cuMemExportToShareableHandle, &q, sizeof(q), NULL, 0, token, VGPU_IPC_BYTES);
}

void tokens_tell(uint64_t memory, uint32_t gen)
{
	const uint64_t ctx = VGPU_PRIMARY_CTX(0), event = VGPU_HANDLE(gen, VGPU_H_EVENT, 300);
	const uint64_t physical = VGPU_HANDLE(gen, VGPU_H_MEMALLOC, 301), pool = VGPU_HANDLE(gen, VGPU_H_MEMPOOL, 302);
	struct vgpu_vmm create = { .call = CALL, .handle = physical, .size = PIECE, .handle_types = 1 };
	struct vgpu_pool_create make = { .call = CALL, .handle = pool, .handle_types = 1 };
	uint8_t token[VGPU_IPC_BYTES];
	uint64_t value;
	int ret;

	told(0, ask(VGPU_MSG_cuIpcGetMemHandle, ctx, token, sizeof(token), 1, &memory), token);
	ret = ask(VGPU_MSG_cuEventCreate, ctx, NULL, 0, 2, (uint64_t[]){ event, 6 });
	told(1, ret ? ret : ask(VGPU_MSG_cuIpcGetEventHandle, ctx, token, sizeof(token), 1, &event), token);
	ret = ask_payload(VGPU_MSG_cuMemCreate, &create, sizeof(create), NULL, 0, &value, sizeof(value));
	told(2, ret ? ret : export(physical, token), token);
	ret = ask_payload(VGPU_MSG_cuMemPoolCreate, &make, sizeof(make), NULL, 0, NULL, 0);
	told(3, ret ? ret : export(pool, token), token);
	if (!ret)
		ret = ask(VGPU_MSG_cuMemAllocFromPoolAsync, ctx, &value, sizeof(value), 3, (uint64_t[]){ 4096, pool, 0 });
	told(4, ret ? ret : ask(VGPU_MSG_cuMemPoolExportPointer, 0, token, sizeof(token), 1, &value), token);
}

/* --- the attacker --- */

bool token_heard(const char *line, struct token *t)
{
	char name[32], hex[2 * VGPU_IPC_BYTES + 1];

	if (sscanf(line, "token %31s %128[0-9a-f]", name, hex) != 2 || strlen(hex) != 2 * VGPU_IPC_BYTES)
		return false;
	for (int k = 0; k < TOKENS; k++) {
		if (strcmp(name, names[k].name))
			continue;
		t[k].there = true;
		for (int i = 0; i < VGPU_IPC_BYTES; i++)
			sscanf(hex + 2 * i, "%2hhx", &t[k].bytes[i]);
	}
	return true;
}

static uint32_t next_index = 500;

/* As ask(). @pool: for pointers; 0: the attacker's none */
static int import(int kind, uint64_t pool, const uint8_t *token, uint64_t *handle, struct vgpu_ipc_memory_reply *reply)
{
	struct vgpu_ipc q = { .call = CALL, .handle = pool, .flags = kind ? 0 : 1 };

	if (names[kind].object)
		*handle = q.handle = VGPU_HANDLE(FROM, names[kind].object, next_index++);
	memcpy(q.token, token, sizeof(q.token));
	return ask_payload(names[kind].import, &q, sizeof(q), NULL, 0, reply, sizeof(*reply));
}

/* @return how many get through; -1 if the session has ended */
static int try_all(const uint8_t *token, uint64_t pool)
{
	struct vgpu_ipc_memory_reply reply;
	uint64_t handle;
	int through = 0, ret;

	for (int k = 0; k < TOKENS; k++) {
		ret = import(k, pool, token, &handle, &reply);
		if (ret < 0)
			return -1;
		through += !ret;
	}
	return through;
}

static bool usable(int kind, uint64_t handle, const struct vgpu_ipc_memory_reply *reply)
{
	uint64_t address = reply->address;
	char buf[64];

	switch (kind) {
	case 0:
		return !copy_out(buf, address, sizeof(buf)) && memmem(buf, sizeof(buf), SECRET, SECRET_LEN) &&
		       !ask(VGPU_MSG_cuIpcCloseMemHandle, VGPU_PRIMARY_CTX(0), NULL, 0, 1, &address) &&
		       copy_out(buf, address, sizeof(buf)) == 1;
	case 1:
		return !ask(VGPU_MSG_cuEventQuery, VGPU_PRIMARY_CTX(0), NULL, 0, 1, &handle);
	case 2:
		return reply->size == PIECE;
	case 4:
		return !copy_out(buf, address, sizeof(buf));
	default:
		return true;
	}
}

void tokens_try(const struct token *t, bool neighbour)
{
	struct vgpu_ipc_memory_reply reply = { 0 };
	struct vgpu_pool_create make = { .call = CALL, .handle = VGPU_HANDLE(FROM, VGPU_H_MEMPOOL, 499) };
	uint8_t bad[VGPU_IPC_BYTES];
	uint64_t pool = make.handle, handle = 0;
	int through = 0, tried = 0, n;

	if (ask_payload(VGPU_MSG_cuMemPoolCreate, &make, sizeof(make), NULL, 0, NULL, 0))
		pool = 0;
	for (int k = 0; k < TOKENS; k++) {
		if (!t[k].there) {
			printf("# no token of %s was told: not tested\n", names[k].name);
			continue;
		}
		/* In its own zone each is good for what it was made for; that proves the probes below. */
		if (neighbour) {
			n = import(k, pool, t[k].bytes, &handle, &reply);
			if (!n && names[k].object == VGPU_H_MEMPOOL)
				pool = handle;
			ok(!n && usable(k, handle, &reply), "in its own zone the victim's token of %s is good", names[k].name);
		} else {
			ok(!try_all(t[k].bytes, pool), "in another zone the victim's token of %s is nothing", names[k].name);
		}
		for (int bit = 0; bit < VGPU_IPC_BYTES * 8; bit += 7) {
			memcpy(bad, t[k].bytes, sizeof(bad));
			bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
			n = try_all(bad, pool);
			tried++;
			through += !!n;
		}
	}
	for (uint64_t i = 0, x = 88172645463325252ull; i < 200; i++) {
		memcpy(bad, t[i % TOKENS].bytes, sizeof(bad));
		for (int at = 16; at < 48; at += 8) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			memcpy(bad + at, &x, 8);
		}
		tried++;
		through += !!try_all(bad, pool);
	}
	ok(!through && tried, "%d tokens a bit off or made up: none is good", tried);
}
