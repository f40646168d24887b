// SPDX-License-Identifier: Apache-2.0
/*
 * The worker's decoders under libFuzzer: all of its sources but the entry, on the null GPU, fed with sequences of
 * messages as libidm would hand them over. An input is a row of records: type, flags and length, and a payload.
 *
 * A payload lies in memory of just its length, the arena between pages that cannot be touched: AddressSanitizer sees
 * whatever reads or writes beyond either.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../userspace/broker/worker/graph.h"
#include "record.h"

#define ARENA_AT	((char *)0x200000000000ull)
#define ARENA_BYTES	65536u
#define MESSAGES_MAX	512

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);

static uint16_t types[4096];
static unsigned int ntypes;

const char *__asan_default_options(void)
{
	return "detect_leaks=0:allocator_may_return_null=1:handle_abort=1";
}

/* --- in place of libidm --- */

int idm_server_reply(struct idm_server *s, uint64_t seq, const struct idm_response *r, const void *results, size_t len)
{
	static volatile unsigned char sum;
	const unsigned char *p = results;

	/* What goes to the client is read to its end. */
	for (size_t i = 0; i < len; i++)
		sum += p[i];
	return len > IDM_PAYLOAD_MAX ? -90 : 0;
}

void *idm_server_arena(struct idm_server *s, uint64_t offset, uint64_t len)
{
	return offset > ARENA_BYTES || len > ARENA_BYTES - offset ? NULL : ARENA_AT + offset;
}

int idm_server_show(struct idm_server *s, uint64_t offset, uint64_t len, void *at)
{
	if (!idm_server_arena(s, offset, len))
		abort();
	return mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED ? -12 : 0;
}

int idm_server_output(struct idm_server *s, const char *text, size_t len) { return 0; }
int idm_server_errors(struct idm_server *s, const char *text, size_t len) { return 0; }
int idm_server_callback(struct idm_server *s, uint64_t id, const void *data, size_t len) { return -32; }
void idm_server_end(struct idm_server *s, const char *reason) { }
int idm_server_recv(struct idm_server *s, struct idm_message *m, int ms, struct idm_error *e) { return -32; }
bool idm_server_ready(struct idm_server *s) { return false; }
int idm_server_open(struct idm_server **out, const struct idm_server_params *p, struct idm_error *e) { return -22; }
void idm_server_stats(const struct idm_server *s, struct idm_stats *out) { memset(out, 0, sizeof(*out)); }

const char *idm_server_program(const struct idm_server *s, uint32_t *pid)
{
	*pid = 1;
	return "fuzz";
}

/* --- in place of the broker, as far as sessions share --- */

#define FOREIGN	1000u	/* numbers from here on are another session's, and tell the kind */
#define KINDS	8u

static uint64_t given_out;
static uint8_t given_kind[FOREIGN];

bool control_ipc(struct worker_msg *m, int fd, int *answer_fd)
{
	struct worker_ipc what = m->u.ipc;
	uint64_t id = 0;

	*answer_fd = -1;
	if (m->type == WORKER_IPC_EXPORT && given_out < FOREIGN - 1) {
		id = ++given_out;
		given_kind[id] = what.kind;
		memset(what.token, 0, sizeof(what.token));
		memcpy(what.token, &id, sizeof(id));
	} else if (m->type == WORKER_IPC_IMPORT) {
		memcpy(&id, what.token, sizeof(id));
		/* As with the broker, a number is that of one object, which is of one kind. */
		if (id >= FOREIGN)
			id = id - id % KINDS + what.kind;
		else if (id > given_out || given_kind[id] != what.kind)
			id = 0;
		what.size = id << 12;
		what.device = id & 1 ? 0 : id % 3;
		if (what.kind == IPC_PHYSICAL || what.kind == IPC_POOL)
			*answer_fd = id % 5 ? dup(WORKER_FD_CONTROL) : -1;
	}
	*m = (struct worker_msg){ .a = id, .b = id < FOREIGN ? IPC_OWN : 0, .u.ipc = what };
	return id;
}

bool control_export(struct worker *w, struct worker_msg *m, int fd, uint64_t charge)
{
	bool ok = control_ipc(m, fd, &fd);

	if (ok)
		lease_uncharge(w, charge);
	return ok;
}

/* --- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int pair[2];

	/* A broker that is gone: nothing is asked of it. */
	socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
	dup2(pair[0], WORKER_FD_CONTROL);
	close(pair[1]);
	if (mmap(ARENA_AT - 4096, ARENA_BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		 0) == MAP_FAILED || mprotect(ARENA_AT, ARENA_BYTES, PROT_READ | PROT_WRITE))
		abort();
	if (worker_driver_load(dlopen(NULL, RTLD_NOW)) < 50 || D.cuInit(0))
		abort();
	worker.stats = calloc(1, sizeof(*worker.stats));
	worker.ndevices = 1;
	worker.soft = true;
	worker.ranges.gone = ipc_forget;
	latch_init(&worker.latches);
	control_start(&worker);
	arena_mapped(&worker, ARENA_AT, ARENA_BYTES);
	for (unsigned int t = 0; t <= 0xffff && ntypes < sizeof(types) / sizeof(types[0]); t++)
		if (worker_call_find(t))
			types[ntypes++] = t;
	return 0;
}

static bool all(struct handle *e, void *arg)
{
	object_release_aux(e);
	hook_forget_holds(e->value, e->value);
	return true;
}

/* The next input is another session. */
static void begin_again(void)
{
	fence_drain_frees(&worker);
	for (unsigned int i = 0; i < worker.ndevices; i++) {
		if (worker.primary[i])
			context_forget(&worker, worker.primary[i]);
		worker.primary[i] = NULL;
		worker.retained[i] = 0;
		worker.greens[i] = 0;
	}
	handle_purge(&worker.handles, all, NULL);
	handle_table_free(&worker.handles);
	range_map_free(&worker.ranges);
	memset(&worker.ranges, 0, sizeof(worker.ranges));
	worker.ranges.gone = ipc_forget;
	context_set_none(&worker);
	worker.violation[0] = '\0';
	given_out = 0;
	image_uploads_forget();
	worker.image_bytes = 0;
	latch_init(&worker.latches);
}

static void one(const struct record *r, const uint8_t *payload, size_t len, uint64_t seq)
{
	struct idm_message m = { .header = { .magic = IDM_MAGIC, .version = IDM_VERSION, .type = r->type,
					     .flags = r->flags & IDM_FLAG_POSTED, .payload_len = len, .seq = seq } };
	const struct worker_call *c = worker_call_find(r->type);
	void *copy;

	if (!c) {
		m.header.type = types[r->type % ntypes];
		c = worker_call_find(m.header.type);
	}
	if (len < sizeof(struct vgpu_call) || posix_memalign(&copy, 16, len))
		return;
	memcpy(copy, payload, len);
	m.payload = copy;
	block_heard(&worker, ((struct vgpu_call *)copy)->thread);
	c->fn(&worker, &m);
	free(copy);
	fence_poll(&worker);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (uint64_t seq = 1; size >= sizeof(struct record) && seq < MESSAGES_MAX && !worker.violation[0]; seq++) {
		struct record r;
		size_t len;

		memcpy(&r, data, sizeof(r));
		data += sizeof(r);
		size -= sizeof(r);
		len = r.len < size ? r.len : size;
		if (len > IDM_PAYLOAD_MAX)
			len = IDM_PAYLOAD_MAX;
		one(&r, data, len, seq);
		data += len;
		size -= len;
	}
	begin_again();
	return 0;
}
