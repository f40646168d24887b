/* SPDX-License-Identifier: Apache-2.0 */
/* A broker of a few lines for libidm's tests: real socket, real memfd, real futex. */
#ifndef IDM_TESTS_SESSION_H
#define IDM_TESTS_SESSION_H

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../internal.h"
#include "tap.h"

#define TEST_ZONE	0x10001
#define TEST_OWN	0
#define TEST_HASH	0x1234567890abcdefull
#define TEST_ARENA	(64ull << 20)

struct test_broker {
	char dir[64], path[96], transport[112];
	int listener;
};

static inline void broker_start(struct test_broker *b)
{
	struct idm_error e;

	strcpy(b->dir, "/tmp/idm-test-XXXXXX");
	if (!mkdtemp(b->dir))
		exit(2);
	snprintf(b->path, sizeof(b->path), "%s/vgpu.sock", b->dir);
	snprintf(b->transport, sizeof(b->transport), "local:%s", b->path);
	b->listener = idm_local_listen(b->path, &e);
	if (b->listener < 0) {
		printf("Bail out! %s\n", e.text);
		exit(2);
	}
}

static inline void broker_stop(struct test_broker *b)
{
	close(b->listener);
	unlink(b->path);
	rmdir(b->dir);
}

/* Wait for a client and read what it wants. @return its connection */
static inline int broker_request(struct test_broker *b, struct idm_local_request *rq)
{
	struct pollfd p = { .fd = b->listener, .events = POLLIN };
	struct idm_error e;
	int fd, rc;

	poll(&p, 1, -1);
	fd = idm_local_accept(b->listener);
	if (fd < 0)
		return fd;
	p.fd = fd;
	do {
		poll(&p, 1, -1);
		rc = idm_local_read(fd, rq, &e);
	} while (!rc);
	if (rc < 0) {
		printf("# request refused: %s\n", e.text);
		idm_local_refuse(fd, -rc, e.text);
		close(fd);
		return rc;
	}
	return fd;
}

/* Serve the next client as a worker would be set up. */
static inline struct idm_server *broker_serve(struct test_broker *b, bool same_process)
{
	struct idm_server_params p = { .kind = IDM_SERVER_LOCAL, .zone = TEST_ZONE, .own_zone = TEST_OWN,
				       .arena_size = TEST_ARENA, .table_hash = TEST_HASH };
	struct idm_local_request rq;
	struct idm_server *s = NULL;
	struct idm_error e;
	int life_client, fd = broker_request(b, &rq);

	if (fd < 0)
		return NULL;
	p.request_size = rq.request_size;
	p.reply_size = rq.reply_size;
	if (idm_local_create(&rq, TEST_ARENA, &p.fd, &p.life, &life_client, &e) || idm_server_open(&s, &p, &e)) {
		printf("# %s\n", e.text);
		return NULL;
	}
	if (same_process)
		idm_server_adopt_arena(s);
	idm_local_grant(fd, &rq, p.zone, p.own_zone, 7, TEST_ARENA, p.fd, life_client);
	close(fd);
	return s;
}

#endif /* IDM_TESTS_SESSION_H */
