/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libidm: IDM messages over the rings of a session (uapi/idm.h), through one of two transports.
 *
 *	xen:/dev/vgpu		vgpu-front, in a pod
 *	local:/path/to/socket	a broker on the same machine: UNIX socket, memfd, futex
 *
 * Files: ring.c (indices and copies, shared with the kernel and the fuzzers), arena.c (the allocator),
 * client.c (messages), session.c (opening, arena), server.c, wait.c (when to spin, when to sleep), local.c and xen.c
 * (the transports), error.c.
 */
#ifndef LIBIDM_H
#define LIBIDM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "idm.h"

#ifdef __cplusplus
extern "C" {
#endif

/** struct idm_error - why something failed, one line a person can act on. Each layer adds its half-sentence. */
struct idm_error {
	int err;		/* errno value */
	char text[512];
};

/** Set @e (NULL is fine) and return -err. */
int idm_error_set(struct idm_error *e, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* --- client.c: one per process -------------------------------------------------------------------------- */

struct idm_client;

/**
 * struct idm_client_params - zero-initialise for defaults.
 * @transport:	  "xen:PATH" or "local:PATH"; NULL: $VGPU_TRANSPORT, else xen:/dev/vgpu where that exists, else
 *		  local:$VGPU_RUN_DIR/vgpu.sock (default /run/vgpu)
 * @request_size: bytes, power of two; 0: $VGPU_RING_SIZE or 256 KiB
 * @reply_size:	  bytes, power of two; 0: $VGPU_RING_SIZE or 64 KiB
 * @arena_size:	  first arena in bytes; 0: $VGPU_ARENA_SIZE or 1 MiB
 * @timeout_ms:	  how long to wait for a backend or broker; 0: 10 s
 * @table_hash:	  hash of the call table this client was generated from, told in IDM_HELLO
 * @on_output:	  called (by whichever thread receives) with text from IDM_OUTPUT; NULL: written to stdout
 */
struct idm_client_params {
	const char *transport;
	uint32_t request_size, reply_size;
	uint64_t arena_size;
	uint32_t timeout_ms;
	uint64_t table_hash;
	void (*on_output)(const char *text, size_t len);
};

/** Open a session, map it, say hello. @return 0, or -errno with @e set. */
int idm_client_open(struct idm_client **out, const struct idm_client_params *params, struct idm_error *e);

/** End the session. No other thread may use it any more. */
void idm_client_close(struct idm_client *c);

/** In the child after fork(): forget the session without touching the ring or waking anybody. */
void idm_client_abandon(struct idm_client *c);

/** The zone and session numbers, for messages. */
uint32_t idm_client_zone(const struct idm_client *c);
uint32_t idm_client_session(const struct idm_client *c);

/** Why the session ended; NULL while it lives. The text stays valid. */
const char *idm_client_ended(struct idm_client *c);

/**
 * struct idm_pending - one request that awaits its reply; lives in the caller's frame until waited for.
 * @reply:     where the reply's results (after struct idm_response) go; may be NULL
 * @reply_cap: its size in bytes; a longer reply is a protocol violation (-EPROTO)
 * @reply_len: out: bytes received
 * @response:  out: start of the reply
 * The rest is libidm's.
 */
struct idm_pending {
	void *reply;
	size_t reply_cap;
	size_t reply_len;
	struct idm_response response;
	uint64_t seq;
	uint32_t done;
	struct idm_pending *next;
};

/**
 * Post a request: no reply, never waits except for ring space.
 * @iov, @n: the payload's parts, copied into the ring (or the arena, if too long for it) before return
 * @return 0, -EPIPE the session is over, -EMSGSIZE longer than IDM_PAYLOAD_MAX, -ENOMEM longer than half the ring and
 *	   the arena has no room for it either
 * Thread-safe: the order in which calls return is the order of the ring.
 */
int idm_post(struct idm_client *c, uint16_t type, const struct iovec *iov, int n);

/** Send a request and remember it in @p (its reply and reply_cap set by the caller). Errors as idm_post(). */
int idm_submit(struct idm_client *c, uint16_t type, const struct iovec *iov, int n, struct idm_pending *p);

/** Wait for @p's reply. @return 0 (look at p->response), -EPIPE, -EPROTO. */
int idm_wait(struct idm_client *c, struct idm_pending *p);

/**
 * Wait for the worker's next IDM_CALLBACK message: its number in p->seq, what it says (cut to reply_cap) in p->reply.
 * One thread only. @return 0, -EPIPE
 */
int idm_listen(struct idm_client *c, struct idm_pending *p);
#define IDM_CALLBACK_MAX	64	/* bytes in one */

/** Has @p's reply come? Receives what is in the reply ring, never sleeps. */
bool idm_test(struct idm_client *c, struct idm_pending *p);

/** idm_submit() and idm_wait(). */
int idm_call(struct idm_client *c, uint16_t type, const struct iovec *iov, int n, struct idm_pending *p);

/** The longest payload of a request, and the longest results of a reply, that this session can carry. */
size_t idm_payload_max(const struct idm_client *c);
size_t idm_reply_max(const struct idm_client *c);

/* Arena: bulk memory with the same address in client and worker. Offsets count from its start. */

/** @return the arena's address, fixed for the session's life. */
void *idm_arena_base(const struct idm_client *c);

/** @return bytes lent at present. */
uint64_t idm_arena_size(const struct idm_client *c);

/**
 * Allocate @size bytes of arena, 4096-aligned if @size >= 4096, else 64-aligned; the arena grows if it must.
 * @return the address, or NULL if the zone's quota is used up. Thread-safe.
 */
void *idm_arena_alloc(struct idm_client *c, uint64_t size);

/** Free what idm_arena_alloc() gave; @return bytes freed, 0 if @p is not the start of an allocation. */
uint64_t idm_arena_free(struct idm_client *c, void *p);

/**
 * Show [@p, @p + @size), whole pages of arena, at the address @at too, in place of what is mapped there. They stay when the
 * session is closed. @return 0 or -errno; then what was at @at is as it was, in all likelihood
 */
int idm_arena_alias(struct idm_client *c, const void *p, uint64_t size, void *at, int prot);

/** @return the allocation that holds @p with its start in *@base and size in *@size, false if none does. */
bool idm_arena_lookup(struct idm_client *c, const void *p, void **base, uint64_t *size);

/** struct idm_stats - cost of the calls so far, for benchmarks and tests. */
struct idm_stats {
	uint64_t posted, called;	/* messages */
	uint64_t spun, slept;		/* waits that ended while spinning, and that had to block */
	uint64_t kicks;			/* notifications sent */
	uint64_t grown;			/* times the arena grew */
};
void idm_client_stats(const struct idm_client *c, struct idm_stats *out);

/* --- server.c: the worker's side ------------------------------------------------------------------------ */

struct idm_server;

/**
 * struct idm_server_params
 * @kind:     IDM_SERVER_XEN: @fd is a session file of /dev/vgpu-back. IDM_SERVER_LOCAL: @fd is the session's
 *	      memfd and @life the worker's end of the socket whose other end the client holds
 * @zone:     the client's zone as the transport knows it: the only source zone accepted
 * @own_zone: the only destination zone accepted
 * @request_size, @reply_size, @arena_size: local only: the layout (Xen asks VGPU_BACK_IOC_INFO)
 * @table_hash: must equal the client's, or the session is refused with a message that says so
 * @arena_mapped: called when (more) arena is mapped, for pinning; may be NULL. @return 0 or -errno
 */
enum idm_server_kind { IDM_SERVER_LOCAL, IDM_SERVER_XEN };
struct idm_server_params {
	enum idm_server_kind kind;
	int fd, life;
	uint32_t zone, own_zone;
	uint32_t request_size, reply_size;
	uint64_t arena_size;
	uint64_t table_hash;
	int (*arena_mapped)(void *opaque, void *addr, uint64_t size);
	void *opaque;
};

/** Map the rings. IDM_HELLO and IDM_ARENA_GROWN are answered inside idm_server_recv(). Takes the fds. */
int idm_server_open(struct idm_server **out, const struct idm_server_params *params, struct idm_error *e);
void idm_server_close(struct idm_server *s);

/**
 * struct idm_message - a request, already copied out of shared memory and checked as far as the header goes.
 * @payload: private copy, 16-aligned, valid until the next idm_server_recv(); hand-over: see idm_server_recv()
 */
struct idm_message {
	struct idm_header header;
	const void *payload;
};

/**
 * Receive the next request; sleeps if there is none.
 * @timeout_ms: longest sleep, -1 for none
 * @return 1 a message, 0 timeout, -EPIPE the client has gone, -EPROTO the client broke the protocol (@e says how;
 *	   the session must be ended with that text). One thread only.
 */
int idm_server_recv(struct idm_server *s, struct idm_message *m, int timeout_ms, struct idm_error *e);

/** Is there something to receive (or the client gone)? A look at the ring, for callers with something else to do. */
bool idm_server_ready(struct idm_server *s);

/**
 * Reply to the request with sequence number @seq. Thread-safe. Blocks while the reply ring is full and the client
 * lives. @return 0, -EPIPE
 */
int idm_server_reply(struct idm_server *s, uint64_t seq, const struct idm_response *r, const void *results,
		     size_t len);

/** Send kernel output as IDM_OUTPUT messages: for the client's stdout, and (failed assertions) for its stderr. */
int idm_server_output(struct idm_server *s, const char *text, size_t len);
int idm_server_errors(struct idm_server *s, const char *text, size_t len);

/** Send an IDM_CALLBACK message, at most IDM_CALLBACK_MAX bytes. Thread-safe. @return 0, -EPIPE */
int idm_server_callback(struct idm_server *s, uint64_t id, const void *data, size_t len);

/** Tell the client that the session is over, and why. */
void idm_server_end(struct idm_server *s, const char *reason);

/**
 * Range check for the arena: is [offset, offset + len) inside what is mapped?
 * @return its address in the worker, NULL if not. Overflow-safe. What it points to may change at any time.
 */
void *idm_server_arena(struct idm_server *s, uint64_t offset, uint64_t len);

/** Map a part of the arena, whole pages that idm_server_arena() knows, at @at too, in place of what is there. @return 0 or -errno */
int idm_server_show(struct idm_server *s, uint64_t offset, uint64_t len, void *at);
void idm_server_stats(const struct idm_server *s, struct idm_stats *out);

/** What the client called itself and its process number, from IDM_HELLO: untrusted, printable, for logs. */
const char *idm_server_program(const struct idm_server *s, uint32_t *pid);

/* --- local.c: the broker's end of the local transport ---------------------------------------------------- */

/** struct idm_local_request - what a connecting client asked for, checked. */
struct idm_local_request {
	uint32_t request_size, reply_size;
	uint64_t arena_size;	/* asked for; the broker lends its limit at once, as sparse memory */
	uint32_t pid;		/* SO_PEERCRED */
	uint32_t uid;
};

/** Listen on a UNIX socket (SOCK_SEQPACKET) at @path. @return fd or -errno. */
int idm_local_listen(const char *path, struct idm_error *e);

/** Accept one connection. @return fd or -errno (-EAGAIN when non-blocking). */
int idm_local_accept(int listener);

/** Read the request of an accepted connection (non-blocking). @return 1, 0 not yet, -errno to be closed. */
int idm_local_read(int fd, struct idm_local_request *out, struct idm_error *e);

/**
 * Make the session's memory (a sealed memfd of page 0 + rings + @arena_max) and the life socket pair.
 * @return 0; *memfd and *life_worker go to the worker, *life_client to idm_local_grant().
 */
int idm_local_create(const struct idm_local_request *rq, uint64_t arena_max, int *memfd, int *life_worker,
		     int *life_client, struct idm_error *e);

/** Tell the client its session; closes life_client. The connection may be closed afterwards. */
int idm_local_grant(int fd, const struct idm_local_request *rq, uint32_t zone, uint32_t own_zone, uint32_t session,
		    uint64_t arena_max, int memfd, int life_client);

/** Refuse, with a reason the user will read. */
int idm_local_refuse(int fd, int err, const char *reason);

/** Write state and reason into the session's page 0 and wake the client: for a broker whose worker has died. */
void idm_local_end(int memfd, const char *reason);

#ifdef __cplusplus
}
#endif
#endif /* LIBIDM_H */
