// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"
#include "linux/vgpu.h"

#define PATIENCE_MS	10000	/* far more than an emulated machine needs */

static const char *transport(void)
{
	static char path[256];
	const char *t = getenv("VGPU_TRANSPORT"), *dir = getenv("VGPU_RUN_DIR");

	if (t && *t)
		return t;
	if (!access("/dev/vgpu", F_OK))
		return "xen:/dev/vgpu";
	snprintf(path, sizeof(path), "local:%s/vgpu.sock", dir ? dir : "/run/vgpu");
	return path;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
}

bool raw_open(struct raw *r, bool hello)
{
	struct idm_client_params p = { .request_size = 65536, .reply_size = 65536, .arena_size = 65536,
				       .timeout_ms = PATIENCE_MS };
	const char *t = transport();
	struct vgpu_hello h = { .table_hash = VGPU_TABLE_HASH, .arena_base = IDM_ARENA_SLOT(1), .pid = getpid(),
				.program = "attacker" };
	struct idm_response rp;
	struct idm_error e = { 0 };
	char *map;
	int rc;

	memset(r, 0, sizeof(*r));
	if (!strncmp(t, "xen:", 4))
		rc = idm_xen_connect(t + 4, &p, &r->l, &e);
	else
		rc = idm_local_connect(strncmp(t, "local:", 6) ? t : t + 6, &p, &r->l, &e);
	if (rc) {
		printf("# no session: %s\n", e.text);
		return false;
	}
	map = mmap(NULL, r->l.arena_offset, PROT_READ | PROT_WRITE, MAP_SHARED, r->l.fd, 0);
	if (map == MAP_FAILED) {
		printf("# no mapping: %s\n", strerror(errno));
		return false;
	}
	r->page = (struct idm_session *)map;
	r->request = (unsigned char *)map + r->l.request_offset;
	r->reply = (unsigned char *)map + r->l.reply_offset;
	if (!hello)
		return true;
	raw_send(r, IDM_HELLO, 0, &h, sizeof(h));
	rc = raw_receive(r, &rp, NULL, 0, PATIENCE_MS);
	if (rc == 1 && !rp.error)
		return true;
	printf("# no answer to IDM_HELLO: %s\n", raw_reason(r));
	raw_close(r);
	return false;
}

void raw_close(struct raw *r)
{
	munmap(r->page, r->l.arena_offset);
	if (r->l.life >= 0)
		close(r->l.life);
	close(r->l.fd);
}

struct idm_header raw_header(struct raw *r, uint16_t type, uint32_t flags, uint32_t len)
{
	return (struct idm_header){ .magic = IDM_MAGIC, .version = IDM_VERSION, .type = type, .src_zone = r->l.zone,
				    .dst_zone = r->l.own_zone, .seq = ++r->seq, .payload_len = len, .flags = flags };
}

void raw_write(struct raw *r, const void *data, size_t len)
{
	const unsigned char *from = data;
	size_t i;

	for (i = 0; i < len; i++)
		r->request[(r->prod + i) & (r->l.request_size - 1)] = from[i];
	r->prod += len;
}

void raw_align(struct raw *r)
{
	r->prod = (r->prod + IDM_ALIGN - 1) & ~(IDM_ALIGN - 1);
}

void raw_publish(struct raw *r)
{
	__atomic_store_n(&r->page->request.prod, r->prod, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->page->worker.sleeping, 0, __ATOMIC_SEQ_CST);
	if (r->l.xen) {
		ioctl(r->l.fd, VGPU_IOC_KICK);
		return;
	}
	__atomic_add_fetch(&r->page->worker.wake, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &r->page->worker.wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void raw_send(struct raw *r, uint16_t type, uint32_t flags, const void *payload, size_t len)
{
	struct idm_header h = raw_header(r, type, flags, len);

	raw_write(r, &h, sizeof(h));
	raw_write(r, payload, len);
	raw_align(r);
	raw_publish(r);
}

static bool over(struct raw *r)
{
	return __atomic_load_n(&r->page->state, __ATOMIC_ACQUIRE) == IDM_STATE_ENDED;
}

static void read_reply(struct raw *r, uint32_t at, void *to, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		((unsigned char *)to)[i] = r->reply[(at + i) & (r->l.reply_size - 1)];
}

int raw_receive(struct raw *r, struct idm_response *out, void *results, size_t cap, int ms)
{
	int64_t end = idm_now_ns() + ms * 1000000ll;
	struct idm_header h;
	size_t len;

	for (;;) {
		while (__atomic_load_n(&r->page->reply.prod, __ATOMIC_ACQUIRE) == r->cons) {
			if (over(r))
				return -1;
			if (idm_now_ns() > end)
				return 0;
			nap();
		}
		read_reply(r, r->cons, &h, sizeof(h));
		r->received = h.seq;
		memset(out, 0, sizeof(*out));
		read_reply(r, r->cons + sizeof(h), out, h.payload_len < sizeof(*out) ? h.payload_len : sizeof(*out));
		len = h.payload_len > sizeof(*out) ? h.payload_len - sizeof(*out) : 0;
		if (results)
			read_reply(r, r->cons + sizeof(h) + sizeof(*out), results, len < cap ? len : cap);
		r->cons += idm_message_size(h.payload_len);
		__atomic_store_n(&r->page->reply.cons, r->cons, __ATOMIC_SEQ_CST);
		if (h.type != IDM_OUTPUT)
			return 1;
	}
}

int raw_receive_seq(struct raw *r, struct idm_response *out, uint64_t *seq)
{
	int rc = raw_receive(r, out, NULL, 0, PATIENCE_MS);

	*seq = r->received;
	return rc;
}

int raw_call(struct raw *r, uint16_t type, const void *payload, size_t len, struct idm_response *out, void *results,
	     size_t cap)
{
	raw_send(r, type, 0, payload, len);
	return raw_receive(r, out, results, cap, PATIENCE_MS);
}

const char *raw_reason(struct raw *r)
{
	static char text[IDM_REASON_MAX];

	memcpy(text, r->page->reason, sizeof(text));
	text[sizeof(text) - 1] = '\0';
	return over(r) ? text : "the session has not ended";
}

bool raw_ended(struct raw *r, const char *word)
{
	int64_t end = idm_now_ns() + PATIENCE_MS * 1000000ll;

	while (!over(r) && idm_now_ns() < end)
		nap();
	if (over(r) && strstr(raw_reason(r), word))
		return true;
	printf("# wanted an end because of '%s', got: %s\n", word, raw_reason(r));
	return false;
}

bool raw_context(struct raw *r)
{
	struct vgpu_rq_cuDevicePrimaryCtxRetain q = { .dev = 0 };
	struct idm_response rp;

	return raw_call(r, VGPU_MSG_cuDevicePrimaryCtxRetain, &q, sizeof(q), &rp, NULL, 0) == 1 && !rp.error;
}

int raw_result(struct raw *r, uint16_t type, const void *q, size_t len)
{
	struct idm_response rp;

	if (raw_call(r, type, q, len, &rp, NULL, 0) != 1) {
		static int told;

		if (!told++)
			printf("# no answer to message %#x: %s\n", type, raw_reason(r));
		return -1;
	}
	return rp.latched ? rp.latched : rp.cu_result;
}

bool raw_use_arena(struct raw *r)
{
	struct vgpu_arena_grown g = { r->l.arena_size };

	return !raw_result(r, IDM_ARENA_GROWN, &g, sizeof(g));
}

uint64_t raw_alloc(struct raw *r, uint64_t size)
{
	struct vgpu_rq_cuMemAlloc_v2 q = { .call = RAW_CALL, .bytesize = size };
	struct vgpu_rp_cuMemAlloc_v2 rp = { 0 };
	struct idm_response rs;

	return raw_call(r, VGPU_MSG_cuMemAlloc_v2, &q, sizeof(q), &rs, &rp, sizeof(rp)) == 1 && !rs.error ? rp.dptr : 0;
}
