// SPDX-License-Identifier: Apache-2.0
/* A session in raw messages. */
#include <stddef.h>

#include "isolation.h"

static const char ptx[] =
	".version 7.0\n.target sm_75\n.address_size 64\n"
	".visible .global .align 8 .u64 count;\n"
	".visible .entry bump()\n{\n"
	"	.reg .b64 %rd<2>;\n"
	"	atom.global.add.u64 %rd1, [count], 1;\n"
	"	ret;\n}\n";

struct idm_client *client;

static int send_parts(uint16_t type, const struct iovec *iov, int n, void *reply, size_t reply_size)
{
	char scratch[16384];
	struct idm_pending p = { .reply = reply ? reply : scratch, .reply_cap = reply ? reply_size : sizeof(scratch) };

	if (idm_call(client, type, iov, n, &p)) {
		const char *why = idm_client_ended(client);

		printf("# the session has ended: %s\n", why ? why : "no reason given");
		return -1;
	}
	return p.response.error || p.response.cu_result || p.response.latched ? 1 : 0;
}

int ask(uint16_t type, uint64_t ctx, void *reply, size_t reply_size, int n, const uint64_t *args)
{
	struct vgpu_call call = { .ctx = ctx, .thread = 1 };
	struct iovec iov[2] = { { &call, sizeof(call) }, { (void *)args, (size_t)n * 8 } };

	return send_parts(type, iov, n ? 2 : 1, reply, reply_size);
}

int ask_payload(uint16_t type, const void *payload, size_t size, const void *more, size_t more_size, void *reply,
		size_t reply_size)
{
	struct iovec iov[2] = { { (void *)payload, size }, { (void *)more, more_size } };

	return send_parts(type, iov, more_size ? 2 : 1, reply, reply_size);
}

#define CALL_HERE { .ctx = VGPU_PRIMARY_CTX(0), .thread = 1 }

/* Payloads are multiples of 8 bytes: what follows the fixed part is padded. */
static size_t padded(char *out, const void *data, size_t size)
{
	size_t whole = (size + 7) & ~(size_t)7;

	memset(out, 0, whole);
	memcpy(out, data, size);
	return whole;
}

int launch(uint64_t ctx, uint64_t function, uint64_t stream)
{
	struct vgpu_launch l = { .call = { .ctx = ctx, .thread = 1 }, .function = function, .stream = stream,
				 .grid = { 1, 1, 1 }, .block = { 1, 1, 1 } };

	return ask_payload(VGPU_MSG_cuLaunchKernel, &l, sizeof(l), NULL, 0, NULL, 0);
}

int copy_in(uint64_t dst, const void *data, size_t size)
{
	struct vgpu_copy_h2d c = { .call = CALL_HERE, .dst = dst, .src = { VGPU_DATA_INLINE, size } };

	return ask_payload(VGPU_MSG_cuMemcpyHtoD_v2, &c, sizeof(c), data, size, NULL, 0);
}

int copy_out(void *data, uint64_t src, size_t size)
{
	struct vgpu_copy_d2h c = { .call = CALL_HERE, .src = src, .dst = { VGPU_DATA_INLINE, size } };

	return ask_payload(VGPU_MSG_cuMemcpyDtoH_v2, &c, sizeof(c), NULL, 0, data, size);
}

int get_named(uint16_t type, uint64_t parent, uint64_t handle, const char *name, void *reply, size_t reply_size)
{
	struct vgpu_get_kernel k = { .call = CALL_HERE, .parent = parent, .handle = handle, .name_len = (uint32_t)strlen(name) };
	struct vgpu_get_global g = { .call = CALL_HERE, .parent = parent, .name_len = (uint32_t)strlen(name) };
	char text[64];
	size_t len = padded(text, name, strlen(name));

	if (type == VGPU_MSG_cuModuleGetFunction)
		return ask_payload(type, &k, sizeof(k), text, len, reply, reply_size);
	return ask_payload(type, &g, sizeof(g), text, len, reply, reply_size);
}

static void must(int ret, const char *what)
{
	if (ret)
		bail("%s: %s", what, ret < 0 ? "the session has ended" : "refused");
}

static int load(uint64_t handle)
{
	struct vgpu_load l = { .call = CALL_HERE, .handle = handle, .image = { VGPU_DATA_INLINE, sizeof(ptx) } };
	char text[sizeof(ptx) + 8];
	size_t len = padded(text, ptx, sizeof(ptx));

	return ask_payload(VGPU_MSG_cuModuleLoadData, &l, sizeof(l), text, len, NULL, 0);
}

void session_open(void)
{
	struct idm_client_params params = { .table_hash = VGPU_TABLE_HASH };
	struct idm_error e;

	if (idm_client_open(&client, &params, &e))
		bail("cannot open a session: %s", e.text);
	must(ask(VGPU_MSG_cuDevicePrimaryCtxRetain, 0, NULL, 0, 1, (uint64_t[]){ 0 }), "retain the primary context");
}

void own_create(struct own *own, uint32_t gen, uint64_t bytes)
{
	const uint64_t ctx = VGPU_PRIMARY_CTX(0);
	struct vgpu_global_reply global;

	own->gen = gen;
	for (int k = 0; k < KINDS; k++)
		own->handle[k] = VGPU_HANDLE(gen, kinds[k].type, 100 + k);
	must(ask(VGPU_MSG_cuStreamCreate, ctx, NULL, 0, 2, (uint64_t[]){ own->handle[STREAM], 0 }), "create a stream");
	must(ask(VGPU_MSG_cuEventCreate, ctx, NULL, 0, 2, (uint64_t[]){ own->handle[EVENT], 0 }), "create an event");
	must(load(own->handle[MODULE]), "load a module");
	must(load(own->handle[LIBRARY]), "load a library");
	must(get_named(VGPU_MSG_cuModuleGetFunction, own->handle[MODULE], own->handle[FUNCTION], "bump", NULL, 0),
	     "get a function");
	must(get_named(VGPU_MSG_cuModuleGetFunction, own->handle[LIBRARY], own->handle[KERNEL], "bump", NULL, 0),
	     "get a kernel");
	must(get_named(VGPU_MSG_cuModuleGetGlobal_v2, own->handle[MODULE], 0, "count", &global, sizeof(global)),
	     "get a global variable");
	own->counter = global.address;
	must(ask(VGPU_MSG_cuCtxCreate_v2, ctx, NULL, 0, 3, (uint64_t[]){ own->handle[CTX], 0, 0 }), "create a context");
	must(ask(VGPU_MSG_cuMemAlloc_v2, ctx, &own->memory, sizeof(own->memory), 1, &bytes), "allocate device memory");
	own->memory_size = bytes;
	objects_create(own);
}
