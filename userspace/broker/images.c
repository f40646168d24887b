// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker.h"
#include "digest.h"
#include "images.h"
#include "wire.h"

#define NEWS_MAX	1800u		/* guesses told to a session at first: what its socket holds */
#define ALIKE_MAX	4u		/* images with the same guess */
#define SLICE		(256u << 10)	/* bytes of digest per turn of the event loop: a sixth of a millisecond */

enum entry_state { ENTRY_FILLING, ENTRY_SEALING, ENTRY_DIGEST, ENTRY_READY, ENTRY_DROPPED };

struct image_entry {
	struct image_entry *next;
	enum entry_state state;
	int fd;
	uint64_t guess, size, sum;		/* as its worker says */
	uint64_t room;				/* bytes of the file */
	uint8_t digest[DIGEST_BYTES];
	struct session *filler;			/* ENTRY_FILLING */
	struct session **users;			/* sessions that have it, each once */
	unsigned int nusers, cap;
	uint64_t used_ns;
	uint64_t seal;				/* ENTRY_SEALING: its number in aside.c */
	/* ENTRY_DIGEST */
	struct digest *running;
	const unsigned char *map;
	uint64_t at;
};

static uint64_t seals;
static uint64_t total;			/* bytes of all devices' images */

/* All devices together: an eighth of the machine's memory. */
static uint64_t total_max(void)
{
	static uint64_t max;

	if (!max)
		max = (uint64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 8;
	return max;
}

static bool add_user(struct image_entry *e, struct session *s)
{
	struct session **more;
	unsigned int i;

	for (i = 0; i < e->nusers; i++)
		if (e->users[i] == s)
			return true;
	if (e->nusers == e->cap) {
		more = realloc(e->users, (e->cap + 4) * sizeof(e->users[0]));
		if (!more)
			return false;
		e->users = more;
		e->cap += 4;
	}
	e->users[e->nusers++] = s;
	return true;
}

static void stop_digest(struct image_entry *e)
{
	uint8_t unused[DIGEST_BYTES];

	if (e->running)
		digest_finish(e->running, unused);
	if (e->map)
		munmap((void *)e->map, e->room);
	e->running = NULL;
	e->map = NULL;
}

/* Out of the cache; and away, if nobody has it. */
static void drop(struct device *d, struct image_entry *e)
{
	struct image_entry **p;

	stop_digest(e);
	e->state = ENTRY_DROPPED;
	e->filler = NULL;
	if (e->fd >= 0) {
		aside_close(e->fd);
		files_count(d, -1);
	}
	e->fd = -1;
	if (e->nusers)
		return;
	for (p = &d->images.entries; *p != e; p = &(*p)->next)
		;
	*p = e->next;
	d->images.bytes -= e->room;
	d->images.count--;
	total -= e->room;
	free(e->users);
	free(e);
}

static struct image_entry *oldest_unused(const struct device *d)
{
	struct image_entry *oldest = NULL, *e;

	for (e = d->images.entries; e; e = e->next)
		if (e->state == ENTRY_READY && !e->nusers && (!oldest || e->used_ns < oldest->used_ns))
			oldest = e;
	return oldest;
}

bool images_spare(void)
{
	struct image_entry *oldest = NULL, *e;
	struct device *d, *of = NULL;

	for (d = broker.devices; d; d = d->next) {
		e = oldest_unused(d);
		if (e && (!oldest || e->used_ns < oldest->used_ns)) {
			oldest = e;
			of = d;
		}
	}
	if (oldest)
		drop(of, oldest);
	return oldest;
}

static bool full(const struct device *d, uint64_t bytes)
{
	return d->images.count >= IMAGES_MOST || bytes > IMAGES_BYTES - d->images.bytes ||
	       bytes + total > total_max();
}

static bool drop_oldest(struct device *d)
{
	struct image_entry *oldest = oldest_unused(d);

	if (oldest)
		drop(d, oldest);
	return oldest;
}

bool images_give_way(struct device *d)
{
	while (d->files >= broker.files_max / 2)
		if (!drop_oldest(d))
			return false;
	while (!files_left(d))
		if (!images_spare())
			return false;
	return true;
}

/* Room for @bytes more: what was not used for longest, and is in nobody's hands, goes. */
static bool make_room(struct device *d, uint64_t bytes)
{
	while (full(d, bytes))
		if (!drop_oldest(d))
			return false;
	return images_give_way(d);
}

static void tell(struct session *s, struct worker_msg *m)
{
	if (m->u.news.count && s->worker)
		worker_send(s->worker, m, NULL, 0);
	m->u.news.count = 0;
}

void images_tell(struct device *d, struct session *s)
{
	struct worker_msg m = { .type = BROKER_NEWS };
	unsigned int most = NEWS_MAX;
	const struct image_entry *e;

	if (s->news)
		return;
	s->news = true;
	for (e = d->images.entries; e && most; e = e->next) {
		if (e->state != ENTRY_READY)
			continue;
		most--;
		m.u.news.guess[m.u.news.count++] = e->guess;
		if (m.u.news.count == VGPU_IMAGE_NEWS)
			tell(s, &m);
	}
	tell(s, &m);
}

static void tell_all(const struct device *d, const struct image_entry *e)
{
	struct worker_msg m = { .type = BROKER_NEWS };
	struct session *s;

	for (s = broker.sessions; s; s = s->next) {
		if (s->device != d || !s->news || s->state != SESSION_RUNNING)
			continue;
		m.u.news.count = 1;
		m.u.news.guess[0] = e->guess;
		tell(s, &m);
	}
}

int images_get(struct device *d, struct session *s, const uint8_t digest[DIGEST_BYTES], uint64_t size)
{
	struct image_entry *e;

	for (e = d->images.entries; e; e = e->next) {
		if (e->state != ENTRY_READY || e->size != size || memcmp(e->digest, digest, DIGEST_BYTES))
			continue;
		if (!add_user(e, s))
			return -1;
		e->used_ns = log_now_ns();
		d->images.hits++;
		return e->fd;
	}
	return -1;
}

int images_new(struct device *d, struct session *s, uint64_t guess, uint64_t size, uint64_t sum)
{
	struct image_entry *e, *next;
	unsigned int alike = 0;
	uint64_t room;

	if (size < VGPU_STORED_LEAST || size > IMAGES_BYTES / 2)
		return -1;
	room = image_room(size);
	/*
	 * What was asked for and not filled is given up. Two processes that load the same at once: one is enough. Who
	 * lies about the sum keeps an image of its own zone out, or has the digest find it out (is_there()).
	 */
	for (e = d->images.entries; e; e = next) {
		next = e->next;
		if (e->state != ENTRY_DROPPED && e->guess == guess && e->size == size && e->filler != s) {
			if (e->sum == sum)
				return -1;
			alike++;
		}
		if (e->state == ENTRY_FILLING && e->filler == s)
			drop(d, e);
	}
	if (alike >= ALIKE_MAX || !make_room(d, room))
		return -1;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -1;
	e->fd = memfd_create("vgpu-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (e->fd < 0 || ftruncate(e->fd, room) || fcntl(e->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) ||
	    !add_user(e, s)) {
		if (e->fd >= 0)
			close(e->fd);
		free(e);
		return -1;
	}
	e->filler = s;
	e->guess = guess;
	e->size = size;
	e->sum = sum;
	e->room = room;
	files_count(d, 1);
	e->next = d->images.entries;
	d->images.entries = e;
	d->images.bytes += room;
	d->images.count++;
	total += room;
	return e->fd;
}

/* From here on nobody can write to it. Fails while somebody has it mapped for writing. */
static bool seal(int fd, const void *unused)
{
	return !fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL);
}

static struct image_entry *sealing(uint64_t id, struct device **d)
{
	struct image_entry *e;

	for (*d = broker.devices; *d; *d = (*d)->next)
		for (e = (*d)->images.entries; e; e = e->next)
			if (e->state == ENTRY_SEALING && e->seal == id)
				return e;
	return NULL;
}

static void sealed(uint64_t id, bool good)
{
	struct device *d;
	struct image_entry *e = sealing(id, &d);

	if (!e)
		return;
	if (!good) {
		drop(d, e);
		return;
	}
	e->map = mmap(NULL, e->room, PROT_READ, MAP_PRIVATE, e->fd, 0);
	if (e->map == MAP_FAILED)
		e->map = NULL;
	e->running = digest_new();
	e->state = ENTRY_DIGEST;
	e->used_ns = log_now_ns();
	if (!e->map || !e->running)
		drop(d, e);
}

void images_filled(struct device *d, struct session *s)
{
	struct image_entry *e;

	for (e = d->images.entries; e; e = e->next)
		if (e->state == ENTRY_FILLING && e->filler == s)
			break;
	if (!e)
		return;
	/* A worker can make it last: for as long as it likes, and when the GPU has had the pages pinned, for 150 ms. */
	e->filler = NULL;
	e->state = ENTRY_SEALING;
	e->seal = ++seals;
	if (!aside_run(d, e->fd, seal, NULL, sealed, e->seal))
		drop(d, e);
}

static bool is_there(const struct device *d, const struct image_entry *new)
{
	const struct image_entry *e;

	for (e = d->images.entries; e; e = e->next)
		if (e->state == ENTRY_READY && e->size == new->size && !memcmp(e->digest, new->digest, DIGEST_BYTES))
			return true;
	return false;
}

/* @return true if @e needs more turns */
static bool digest_some(struct device *d, struct image_entry *e)
{
	uint64_t n = e->size - e->at < SLICE ? e->size - e->at : SLICE, i;
	bool padded = true;

	digest_add(e->running, e->map + e->at, n);
	e->at += n;
	if (e->at < e->size)
		return true;
	for (i = e->size; i < e->room; i++)
		padded = padded && !e->map[i];
	digest_finish(e->running, e->digest);
	e->running = NULL;
	stop_digest(e);
	if (!padded || is_there(d, e)) {
		drop(d, e);
		return false;
	}
	e->state = ENTRY_READY;
	d->images.stored++;
	tell_all(d, e);
	return false;
}

static struct image_entry *digest_due(const struct device *d)
{
	struct image_entry *e;

	for (e = d->images.entries; e && e->state != ENTRY_DIGEST; e = e->next)
		;
	return e;
}

bool images_work(void)
{
	static uint64_t turn;
	struct device *d, *first = NULL;

	for (d = broker.devices; d; d = d->next)
		if ((!first || d->images.turn < first->images.turn) && digest_due(d))
			first = d;
	if (!first)
		return false;
	first->images.turn = ++turn;
	digest_some(first, digest_due(first));
	return true;	/* perhaps; the next turn knows */
}

void images_session_gone(struct device *d, struct session *s)
{
	struct image_entry *e, *next;
	unsigned int i;

	for (e = d->images.entries; e; e = next) {
		next = e->next;
		for (i = 0; i < e->nusers; i++)
			if (e->users[i] == s)
				e->users[i--] = e->users[--e->nusers];
		if ((e->state == ENTRY_FILLING && e->filler == s) || (e->state == ENTRY_DROPPED && !e->nusers))
			drop(d, e);
	}
}

void images_device_gone(struct device *d)
{
	struct image_entry *e;

	while ((e = d->images.entries)) {
		e->nusers = 0;
		drop(d, e);
	}
}
