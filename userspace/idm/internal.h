/* SPDX-License-Identifier: Apache-2.0 */
/* What libidm's files share with each other and with their tests, and nobody else sees. */
#ifndef IDM_INTERNAL_H
#define IDM_INTERNAL_H

#include <pthread.h>

#include "libidm.h"
#include "ring.h"

/* --- locks (wait.c): a private futex mutex, one word, no system call while uncontended ------------- */

struct idm_lock {
	uint32_t word;	/* 0 free, 1 held, 2 held and somebody sleeps */
};
void idm_lock_slow(struct idm_lock *l);
void idm_futex_wake_private(uint32_t *word, int n);
void idm_futex_wait_private(uint32_t *word, uint32_t value);

static inline bool idm_trylock(struct idm_lock *l)
{
	uint32_t free = 0;

	return __atomic_compare_exchange_n(&l->word, &free, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static inline void idm_lock(struct idm_lock *l)
{
	if (!idm_trylock(l))
		idm_lock_slow(l);
}

static inline void idm_unlock(struct idm_lock *l)
{
	if (__atomic_exchange_n(&l->word, 0, __ATOMIC_SEQ_CST) == 2)
		idm_futex_wake_private(&l->word, 1);
}

static inline void idm_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield");
#endif
}

/* --- wait.c ------------------------------------------------------------------------------------------------ */

/**
 * struct idm_spin - how long one kind of sleeper (for data, for space) spins; in ticks of the clock that wait.c spins by.
 * @now:	longest spin as of now
 * @strikes:	waits in a row for which it was longer than the least, and not long enough
 * @rest:	waits for which it is not made longer
 */
struct idm_spin {
	uint64_t now;
	uint32_t strikes, rest;
};

/**
 * struct idm_link - one side's sleeping and waking.
 * @self, @peer:  the two sides in page 0
 * @fd:		  session file (Xen); unused by the local transport
 * @kick, @wait:  ioctl numbers (Xen), 0 for the local transport
 * @spin_least, @spin_most: bounds of struct idm_spin's `now`
 * @spin:	  of the two kinds of sleeper (data, space)
 * @seen:	  Xen: notifications acted upon, likewise
 * @spun, @slept: counters, likewise; one thread at a time is each kind of sleeper
 * @over:	  the peer has gone or the session has ended: no wait may last
 */
struct idm_link {
	struct idm_side *self, *peer;
	int fd;
	unsigned long kick, wait;
	uint64_t spin_least, spin_most;
	struct idm_spin spin[2];
	uint32_t seen[2];
	uint64_t spun[2], slept[2];
	uint64_t kicks;
	uint32_t over;
};

/** @client: whether this is the side of the client, which may spin for longer. VGPU_SPIN_US overrides. */
void idm_link_init(struct idm_link *l, struct idm_side *self, struct idm_side *peer, bool client);

/**
 * A wait outlasted its spin: is a longer one to be tried?
 * @role:   which kind of sleeper waited
 * @waited: how long it took in all, in ticks
 */
void idm_link_learn(struct idm_link *l, int role, uint64_t waited);

/** Publish the CPU this thread runs on: cheap, called before sending and before waiting. */
void idm_link_here(struct idm_link *l);

/**
 * Wait until ready(arg), spinning if that can help, else asleep.
 * @bits:	IDM_SLEEP_* waited for; at a time, one thread of a side waits for each
 * @timeout_ns: longest wait, negative for no limit
 * @return 0 ready, -ETIMEDOUT, -EPIPE the transport says that the session is over
 */
int idm_link_wait(struct idm_link *l, uint32_t bits, bool (*ready)(void *arg), void *arg, int64_t timeout_ns);

/** Progress has been made (and published by a full barrier): wake the peer if it sleeps for @bit. */
void idm_link_wake_slow(struct idm_link *l, uint32_t bit);
static inline void idm_link_wake(struct idm_link *l, uint32_t bit)
{
	if (__atomic_load_n(&l->peer->sleeping, __ATOMIC_SEQ_CST) & bit)
		idm_link_wake_slow(l, bit);
}

/** Wake one side's sleepers without being asked to (local transport): the session is over. */
void idm_side_alarm(struct idm_side *side);

static inline bool idm_link_over(const struct idm_link *l)
{
	return __atomic_load_n(&l->over, __ATOMIC_ACQUIRE);
}

void idm_stats_link(const struct idm_link *l, struct idm_stats *out);
int64_t idm_now_ns(void);

/* --- arena.c: an allocator over offsets; its records are in private memory --------------------------------- */

struct idm_heap;
#define IDM_HEAP_NONE	UINT64_MAX
struct idm_heap *idm_heap_new(uint64_t size);
void idm_heap_delete(struct idm_heap *h);
/** @align: a power of two, at least 64. @return offset or IDM_HEAP_NONE. Not thread-safe, as all of these. */
uint64_t idm_heap_alloc(struct idm_heap *h, uint64_t size, uint64_t align);
uint64_t idm_heap_free(struct idm_heap *h, uint64_t offset);
bool idm_heap_lookup(const struct idm_heap *h, uint64_t offset, uint64_t *start, uint64_t *size);
bool idm_heap_grow(struct idm_heap *h, uint64_t size);
/** Bytes free, and the check of all invariants that the tests use: false if one is broken. */
uint64_t idm_heap_room(const struct idm_heap *h);
bool idm_heap_check(const struct idm_heap *h);

/* --- local.c, xen.c: what a transport gives to client.c ---------------------------------------------------- */

/**
 * struct idm_layout - a session as its transport describes it.
 * @fd:		memfd or /dev/vgpu; @life: local: socket whose other end the worker holds, else -1
 * @rings_end:	end of page 0 and the rings in the file; @arena_offset: start of the arena in it
 * @arena_size: bytes usable at first; @arena_map: bytes to map at first (local: all); @arena_max: the limit
 */
struct idm_layout {
	int fd, life;
	bool xen;
	uint32_t zone, own_zone, session;
	uint32_t request_size, reply_size;
	uint64_t request_offset, reply_offset, rings_end, arena_offset;
	uint64_t arena_size, arena_map, arena_max;
};

int idm_local_connect(const char *path, const struct idm_client_params *p, struct idm_layout *out,
		      struct idm_error *e);
int idm_xen_connect(const char *path, const struct idm_client_params *p, struct idm_layout *out,
		    struct idm_error *e);
void idm_xen_ioctls(struct idm_link *l);
/** VGPU_IOC_GROW: *@size is the total wanted, and then the total lent. @return 0 or -errno */
int idm_xen_grow(int fd, uint64_t *size);
/** Layout of the local transport from its sizes alone. */
void idm_local_layout(struct idm_layout *l, uint32_t request_size, uint32_t reply_size, uint64_t arena);
/** Write why the session is over into page 0, unless somebody has already, and wake the client. */
void idm_page_end(struct idm_session *page, const char *reason);

/*
 * ThreadSanitizer keeps its shadow where the arenas would be. Only tests run under it, both sides of them, so the slots may
 * differ there.
 */
#if defined(__SANITIZE_THREAD__)
#define IDM_SLOT(i)	(0x7e8000000000ull + (i) * 0x001000000000ull)
#else
#define IDM_SLOT(i)	IDM_ARENA_SLOT(i)
#endif
#if defined(__SANITIZE_THREAD__)
/*
 * With both sides in one process the arena has one address and the rings have two, so ThreadSanitizer cannot see that
 * the ring's indices order what is in the arena.
 */
void __tsan_acquire(void *p);
void __tsan_release(void *p);
#define idm_arena_acquire(base)	__tsan_acquire(base)
#define idm_arena_release(base)	__tsan_release(base)
#else
#define idm_arena_acquire(base)	((void)(base))
#define idm_arena_release(base)	((void)(base))
#endif

/** For tests with client and worker in one process: use the client's mapping of the arena as the worker's. */
void idm_server_adopt_arena(struct idm_server *s);

/** "262144", "256K", "1M", "2G". @return 0 if @text is none of that. */
uint64_t idm_parse_size(const char *text);

#endif /* IDM_INTERNAL_H */
