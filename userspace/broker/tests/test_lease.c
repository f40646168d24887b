// SPDX-License-Identifier: Apache-2.0
/* The worker's part of leases, against a broker whose answers come when it suits least. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../worker/worker.h"
#include "tap.h"

#define MIB	(1ull << 20)

static struct worker_stats stats;
static struct worker worker_ = { .stats = &stats };
static int broker;

void image_news(const uint64_t *guess, uint64_t count) { }
void idm_server_end(struct idm_server *s, const char *reason) { }

/* --- the broker --- */

static struct {
	uint64_t leased;		/* by its books */
	uint64_t grants;		/* what it still has */
	uint64_t quota;			/* sent as an export comes, not 0 */
	bool agrees;
	unsigned int exports, lies;
} b;

static void say(uint32_t type, uint64_t a)
{
	struct worker_msg m = { .type = type, .a = a };

	if (send(broker, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m))
		abort();
}

static void *serve(void *unused)
{
	struct worker_msg m;

	while (recv(broker, &m, sizeof(m), 0) == sizeof(m)) {
		uint64_t granted = m.type == WORKER_LEASE && m.a <= b.grants ? m.a : 0;

		switch (m.type) {
		case WORKER_LEASE:
			b.leased += granted;
			b.grants -= granted;
			say(BROKER_LEASED, granted);
			break;
		case WORKER_RETURN:
			b.lies += m.a > b.leased;
			b.leased -= m.a;
			break;
		case WORKER_HOLDS:
			b.leased += m.a;
			break;
		case WORKER_IPC_EXPORT:
			b.exports++;
			b.lies += m.b > b.leased || m.b > m.a;
			if (b.quota)
				say(BROKER_QUOTA, b.quota);
			b.quota = 0;
			if (b.agrees)
				b.leased -= m.b;
			say(BROKER_IPC, b.agrees);
			break;
		}
	}
	return NULL;
}

/* --- */

static bool export(uint64_t charge)
{
	struct worker_msg m = { .type = WORKER_IPC_EXPORT };

	return control_export(&worker_, &m, -1, charge);
}

int main(void)
{
	pthread_t t;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		abort();
	broker = fcntl(pair[0], F_DUPFD_CLOEXEC, 10);
	if (broker < 0 || dup2(pair[1], WORKER_FD_CONTROL) < 0 || control_start(&worker_) ||
	    pthread_create(&t, NULL, serve, NULL))
		abort();

	ok(lease_charge(&worker_, 8 * MIB) && !b.leased, "without a quota nothing is leased");
	b.quota = 64 * MIB;
	ok(!export(8 * MIB) && stats.memory == 8 * MIB,
	   "an export is refused just as a first quota comes, which cannot cover it");
	ok(!export(8 * MIB) && b.exports == 1, "the next one does not go out");
	ok(!b.lies, "so that nothing is said to be leased that is not");
	ok(!lease_charge(&worker_, 100 * MIB) && stats.memory == 8 * MIB,
	   "and nothing is charged that the quota does not allow");
	b.grants = 16 * MIB;
	b.agrees = true;
	ok(export(8 * MIB) && !stats.memory, "it does once it can be covered");
	ok(b.exports == 2 && !b.leased && !b.lies, "and what was leased has gone with it");
	ok(!stats.quota_refusals, "nobody has been told of refusals that were no client's");
	lease_refused(&worker_, MIB);
	ok(stats.quota_refusals == 1, "but for one that was");
	shutdown(broker, SHUT_RDWR);
	pthread_join(t, NULL);
	return tap_done();
}
