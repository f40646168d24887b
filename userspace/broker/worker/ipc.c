// SPDX-License-Identifier: Apache-2.0
/*
 * Memory and events of several sessions. The driver's handles go to the broker and come from it; the client sees tokens.
 * What is exported is charged by the broker from then on (../ipc.h), until this session and all others have let go.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "softgpu_share.h"
#include "ipc.h"

static struct share *shares;

/* What a client has for 64 bytes of a handle. */
struct token {
	char magic[8];
	uint32_t kind, reserved;
	uint8_t bytes[IPC_TOKEN_BYTES];
	uint8_t zero[16];
};
_Static_assert(sizeof(struct token) == VGPU_IPC_BYTES, "a token is as long as CUDA's handles");
static const char magic[8] = "vgpu-ipc";

void no_more(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* --- the software GPU's files ------------------------------------------------------------------------------------------ */

static int (*soft_take)(const void *name);
static void (*soft_offer)(const void *name, int fd);

static int soft_memory(uint64_t bytes)
{
	struct worker_msg m = { .type = WORKER_IPC_MEMORY, .a = bytes };
	int fd;

	control_ipc(&m, -1, &fd);
	return fd;
}

void ipc_init(void *dl)
{
	static const struct softgpu_share_host host = { soft_memory };
	void (*soft_host)(const struct softgpu_share_host *h) = dlsym(dl, "softgpu_share_host");

	soft_take = dlsym(dl, "softgpu_share_take");
	soft_offer = dlsym(dl, "softgpu_share_offer");
	if (soft_host)
		soft_host(&host);
}

/* --- what there is ----------------------------------------------------------------------------------------------------- */

struct share *share_find(uint64_t id)
{
	struct share *s;

	for (s = shares; s && s->id != id; s = s->next)
		;
	return s;
}

struct share *share_new(uint64_t id, enum ipc_kind kind, uint64_t at, bool own)
{
	struct share *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	*s = (struct share){ .id = id, .at = at, .kind = kind, .count = 1, .own = own, .next = shares };
	shares = s;
	return s;
}

static void unlist(struct share *s)
{
	struct share **p;

	for (p = &shares; *p != s; p = &(*p)->next)
		;
	*p = s->next;
	free(s);
}

void ipc_unlist(uint64_t id)
{
	struct share *s = id ? share_find(id) : NULL;

	if (s)
		unlist(s);
}

void ipc_drop(uint64_t id)
{
	if (id)
		control_tell(WORKER_IPC_DROP, id, 0, NULL);
}

void ipc_forget(uint64_t id)
{
	ipc_unlist(id);
	ipc_drop(id);
}

void ipc_object_gone(const void *object)
{
	struct share *s, *next;

	for (s = shares; s; s = next) {
		next = s->next;
		if (s->kind != IPC_POOL || s->at != (uintptr_t)object)
			continue;
		ipc_drop(s->id);
		unlist(s);
	}
}

struct share *share_of_pool(const void *pool)
{
	struct share *s;

	for (s = shares; s && (s->kind != IPC_POOL || s->at != (uintptr_t)pool); s = s->next)
		;
	return s;
}

void share_token(const struct share *s, void *out)
{
	struct token t = { .kind = s->kind };

	memcpy(t.magic, magic, sizeof(t.magic));
	memcpy(t.bytes, s->token, sizeof(t.bytes));
	memcpy(out, &t, sizeof(t));
}

CUresult give_out(struct worker *w, enum ipc_kind kind, const void *handle, int fd, uint64_t device, uint64_t size,
		  uint64_t charge, uint64_t at, uint64_t *id, void *token)
{
	struct worker_msg m = { .type = WORKER_IPC_EXPORT, .u.ipc = { .kind = kind, .size = size } };
	struct share *s = share_new(0, kind, at, true);
	bool ok;

	m.u.ipc.device = device_number(w, device);
	if (handle)
		memcpy(m.u.ipc.handle, handle, sizeof(m.u.ipc.handle));
	ok = s && control_export(w, &m, fd, charge);
	no_more(fd);
	if (!ok) {
		if (s)
			unlist(s);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	s->id = m.a;
	memcpy(s->token, m.u.ipc.token, sizeof(s->token));
	*id = s->id;
	share_token(s, token);
	return CUDA_SUCCESS;
}

CUresult come_by(const void *token, enum ipc_kind kind, struct found *f)
{
	struct worker_msg m = { .type = WORKER_IPC_IMPORT, .u.ipc = { .kind = kind } };
	const struct token *t = token;

	if (memcmp(t->magic, magic, sizeof(magic)) || t->kind != (uint32_t)kind || t->reserved)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < sizeof(t->zero); i++)
		if (t->zero[i])
			return CUDA_ERROR_INVALID_VALUE;
	memcpy(m.u.ipc.token, t->bytes, sizeof(m.u.ipc.token));
	if (!control_ipc(&m, -1, &f->fd)) {
		worker_complain(&worker, "a token of what no process of this device has, or has any more");
		return CUDA_ERROR_INVALID_VALUE;
	}
	f->id = m.a;
	f->own = m.b & IPC_OWN;
	f->what = m.u.ipc;
	f->what.device = device_of_number(&worker, m.u.ipc.device);
	return CUDA_SUCCESS;
}

void lost(const struct found *f)
{
	if (!f->own)
		ipc_drop(f->id);
}

void share_known_by(struct share *s, const void *token)
{
	memcpy(s->token, ((const struct token *)token)->bytes, sizeof(s->token));
}

/* For drivers whose handles are bytes alone: the software GPU's go with a file. */
int file_of(const void *handle)
{
	return soft_take ? soft_take(handle) : -1;
}

void offer(const void *handle, int fd)
{
	if (fd >= 0 && soft_offer)
		soft_offer(handle, fd);
	else if (fd >= 0)
		close(fd);
}

bool ipc_imported(uint64_t id)
{
	const struct share *s = id ? share_find(id) : NULL;

	return s && !s->own;
}

bool ipc_one_of_many(uint64_t id)
{
	struct share *s = id ? share_find(id) : NULL;

	if (!s || s->count < 2)
		return false;
	s->count--;
	return true;
}
