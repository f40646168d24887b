// SPDX-License-Identifier: Apache-2.0
/* The cache of images against workers that lie, die, and want too much; with the broker's other files in short. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../broker.h"
#include "../images.h"
#include "digest.h"
#include "aside_now.h"
#include "tap.h"
#include "wire.h"

#define SIZE	((uint64_t)VGPU_STORED_LEAST)
#define N	4

struct broker broker = { .files_max = 1u << 20 };
static struct device one, two;
static struct session sessions[N];	/* the last one is @two's */
static struct worker workers[N];
static unsigned int told[N];		/* images that a session's worker has heard of */

/* --- in short --- */

int worker_send(struct worker *w, const struct worker_msg *m, const int *fds, int nfds)
{
	if (m->type != BROKER_NEWS || nfds)
		abort();
	told[w - workers] += m->u.news.count;
	return 0;
}

uint64_t log_now_ns(void)
{
	static uint64_t now;

	return ++now;
}

/* --- */

static void begin(void)
{
	broker.sessions = NULL;
	for (int i = 0; i < N; i++) {
		sessions[i] = (struct session){ .next = broker.sessions, .device = i == N - 1 ? &two : &one,
						.worker = &workers[i], .state = SESSION_RUNNING };
		broker.sessions = &sessions[i];
		told[i] = 0;
		images_tell(sessions[i].device, &sessions[i]);
	}
}

static bool empty(const struct device *d)
{
	return !d->images.entries && !d->images.bytes && !d->images.count;
}

static void end(void)
{
	for (int i = 0; i < N; i++)
		images_session_gone(sessions[i].device, &sessions[i]);
	images_device_gone(&one);
	images_device_gone(&two);
}

/* Bytes of its own for each @seed. */
static void fill(unsigned char *p, unsigned int seed)
{
	memset(p, 'x', SIZE);
	memcpy(p, &seed, sizeof(seed));
}

static void digest_of(unsigned int seed, uint8_t digest[DIGEST_BYTES])
{
	static unsigned char image[SIZE];
	struct digest *d = digest_new();

	fill(image, seed);
	digest_add(d, image, SIZE);
	digest_finish(d, digest);
}

static int new(int i, unsigned int seed)
{
	return images_new(sessions[i].device, &sessions[i], seed, SIZE, seed);
}

static void write_to(int fd, unsigned int seed)
{
	unsigned char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		abort();
	fill(p, seed);
	munmap(p, SIZE);
}

/* Session @i's worker stores image @seed. @return false if it may not */
static bool store(int i, unsigned int seed)
{
	int fd = new(i, seed);

	if (fd < 0)
		return false;
	write_to(fd, seed);
	images_filled(sessions[i].device, &sessions[i]);
	return true;
}

static int get(int i, unsigned int seed)
{
	uint8_t digest[DIGEST_BYTES];

	digest_of(seed, digest);
	return images_get(sessions[i].device, &sessions[i], digest, SIZE);
}

static void work(void)
{
	while (images_work())
		;
}

static void stored(void)
{
	unsigned char c = 0;
	int fd;

	begin();
	ok(store(0, 1), "an image is stored");
	ok(get(1, 1) < 0, "nobody gets it before the broker has its digest");
	work();
	ok(told[0] == 1 && told[1] == 1 && !told[3], "the device's sessions hear of it, no others");
	fd = get(1, 1);
	ok(fd >= 0 && pread(fd, &c, 1, SIZE - 1) == 1 && c == 'x', "another session of the device gets it");
	ok(pwrite(fd, "y", 1, 0) < 0 && mmap(NULL, SIZE, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED &&
	   ftruncate(fd, 0), "and cannot change it");
	ok(get(3, 1) < 0, "another device's session does not");
	ok(!store(1, 1), "it is not stored again");
	ok(store(3, 1), "but for the other device");
	images_session_gone(&one, &sessions[0]);
	ok(get(2, 1) >= 0, "it outlives who stored it");
	end();
	ok(empty(&one) && empty(&two), "nothing is left");
}

static void lies(void)
{
	uint64_t before = one.images.stored;
	unsigned int i, most = 0;
	unsigned char *p;
	int fd;

	begin();
	ok(images_new(&one, &sessions[0], 1, SIZE - 1, 1) < 0 && images_new(&one, &sessions[0], 1, 0, 1) < 0,
	   "what is too small is not taken");
	ok(images_new(&one, &sessions[0], 1, UINT64_MAX, 1) < 0 && images_new(&one, &sessions[0], 1, IMAGES_BYTES, 1) < 0,
	   "nor what is too large");
	images_filled(&one, &sessions[0]);
	ok(empty(&one), "who got no file has filled none");

	fd = new(0, 2);
	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || p == MAP_FAILED)
		abort();
	fill(p, 2);
	images_filled(&one, &sessions[0]);
	work();
	ok(get(1, 2) < 0, "what its worker can still write to is dropped");
	munmap(p, SIZE);

	fd = new(1, 3);
	write_to(fd, 3);
	if (pwrite(fd, "more", 4, SIZE) != 4)
		abort();
	images_filled(&one, &sessions[1]);
	work();
	ok(get(1, 3) < 0 && !told[0], "so is what has bytes after its end");

	/* One that is called as another, to keep it out; or many of them. */
	for (i = 0; i < 16; i++) {
		fd = images_new(&one, &sessions[i % 3], 7, SIZE, i);
		if (fd >= 0) {
			write_to(fd, 100 + i);
			images_filled(&one, &sessions[i % 3]);
			most++;
		}
	}
	ok(most && most < 16, "of those with the same guess it keeps some: %u", most);
	work();
	for (i = 0, most = 0; i < 16; i++)
		most += get(2, 100 + i) >= 0;
	ok(most, "each under the digest of its bytes: %u", most);
	ok(store(0, 200) && images_new(&one, &sessions[1], 201, SIZE, 1) >= 0, "and goes on taking others");
	write_to(fd = images_new(&one, &sessions[1], 202, SIZE, 2), 200);
	images_filled(&one, &sessions[1]);
	work();
	ok(one.images.stored - before == told[0], "the same bytes under two names are there once");

	fd = new(2, 300);
	images_session_gone(&one, &sessions[2]);
	ok(fd >= 0 && fcntl(fd, F_GETFD) < 0, "who dies filling one leaves nothing");
	end();
	ok(empty(&one), "nothing is left of them");
}

static void limits(void)
{
	unsigned int n = 0;

	begin();
	while (n <= IMAGES_MOST && store(0, n))
		n++;
	ok(n == IMAGES_MOST, "a device has %u images at most: %u", IMAGES_MOST, n);
	work();
	ok(!store(1, n), "none of them goes while the session lives that has it");
	ok(store(3, 1), "which is no other device's concern");
	work();
	images_session_gone(&one, &sessions[0]);
	ok(get(1, 0) >= 0, "the oldest is used");
	ok(store(1, n) && one.images.count == IMAGES_MOST, "then another one goes for a new one");
	work();
	ok(get(1, n) >= 0 && get(1, 0) >= 0 && get(1, 2) >= 0 && get(1, 1) < 0, "the one not used for longest");
	end();
	ok(empty(&one) && empty(&two), "nothing is left");
}

/* Descriptors are the broker's, and not one device's to use up. */
static void files(void)
{
	const unsigned int before = broker.files_max;
	unsigned int n = 0;

	begin();
	broker.files_max = 16;
	while (n < 32 && store(0, n))
		n++;
	work();
	ok(n == 8 && one.files == 8 && broker.files == 8, "a device has half of the descriptors at most: %u", n);
	broker.files += 2;	/* some other device's */
	for (n = 0; n < 32 && store(3, n); n++)
		;
	work();
	ok(n == 6 && broker.files == 16, "another gets what is left: %u", n);
	images_session_gone(&one, &sessions[0]);
	ok(store(3, n) && one.files == 7 && two.files == 7, "what nobody has of one device's goes for another's");
	work();
	for (n = 0; n < 32 && images_spare(); n++)
		;
	ok(n == 7 && !one.files && two.files == 7, "what is spared is only what nobody has");
	ok(images_give_way(&two) && two.files == 7, "there is room for something else, and none goes");
	files_count(&two, 1);
	ok(!images_give_way(&two) && two.files == 8, "there is none while all are had");
	images_session_gone(&two, &sessions[3]);
	ok(images_give_way(&two) && two.files == 7, "then one goes, and no more");
	files_count(&one, 7);
	ok(images_give_way(&one) && two.files == 6, "of another device, too, if all have too many");
	files_count(&one, -7);
	files_count(&two, -1);
	broker.files -= 2;
	broker.files_max = before;
	end();
	ok(!broker.files && !one.files && !two.files, "none is left");
}

static void turns(void)
{
	unsigned int i;

	begin();
	for (i = 0; i < 100; i++)
		store(0, i);
	store(3, 1);
	for (i = 0; i < 4 && !told[3]; i++)
		images_work();
	ok(told[3], "a device's image waits for no other device's hundred");
	end();
}

int main(void)
{
	struct rlimit most;

	getrlimit(RLIMIT_NOFILE, &most);
	most.rlim_cur = most.rlim_max;
	setrlimit(RLIMIT_NOFILE, &most);
	broker.devices = &one;
	one.next = &two;
	stored();
	lies();
	limits();
	files();
	turns();
	return tap_done();
}
