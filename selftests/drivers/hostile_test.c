// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-back against a frontend that lies: this program is the frontend of several devices, over xenstore, gntalloc
 * and evtchn, without vgpu-front. Each violation must close its device for good, and nothing else.
 *
 * Usage: hostile_test		in a pod with devices 0 .. 9, the modules xen-gntalloc, xen-gntdev, xen-evtchn, and no vgpu-front
 *	  hostile_test hog	device 0 takes all the memory that it gets and keeps it, until killed
 *	  hostile_test modest	device 0 opens one session
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>

#include "kselftest.h"

#include "idm.h"
#include "xen/io/vgpuif.h"

#define MIB	(1024 * 1024ull)
#define SLOTS	64		/* of a page with 32-byte entries after a 64-byte header, rounded down to a power of two */

enum { INITIALISING = 1, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED };

/* The page that DEFINE_RING_TYPES() describes. */
struct ring {
	_Atomic uint32_t req_prod, req_event, rsp_prod, rsp_event;
	uint8_t pad[48];
	union {
		struct vgpuif_request req;
		struct vgpuif_response rsp;
	} slot[SLOTS];
};

struct device {
	int number;
	char back[128];
	struct ring *ring;
	uint32_t ref;
	xenevtchn_port_or_error_t port;
	uint32_t req_prod, rsp_cons;
};

static struct xs_handle *xs;
static xenevtchn_handle *evtchn;
static xengntshr_handle *gntshr;
static xengnttab_handle *gnttab;
static uint32_t backend;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void node_write(struct device *d, const char *name, uint32_t value)
{
	char path[128], text[16];

	snprintf(path, sizeof(path), "device/vgpu/%d/%s", d->number, name);
	snprintf(text, sizeof(text), "%u", value);
	xs_write(xs, XBT_NULL, path, text, strlen(text));
}

static int back_state(struct device *d)
{
	char path[160], *text;
	unsigned int len;
	int state;

	snprintf(path, sizeof(path), "%s/state", d->back);
	text = xs_read(xs, XBT_NULL, path, &len);
	state = text ? atoi(text) : 0;
	free(text);
	return state;
}

static bool back_reaches(struct device *d, int low, int high, double seconds)
{
	double end = now() + seconds;
	int state;

	do {
		state = back_state(d);
		if (state >= low && state <= high)
			return true;
		usleep(10000);
	} while (now() < end);
	ksft_print_msg("device %d: backend is in state %d, not %d .. %d\n", d->number, state, low, high);
	return false;
}

static void protocol_write(struct device *d, const char *protocol)
{
	char path[64];

	snprintf(path, sizeof(path), "device/vgpu/%d/protocol", d->number);
	xs_write(xs, XBT_NULL, path, protocol, strlen(protocol));
}

static bool offer(struct device *d, uint32_t ref, uint32_t port)
{
	protocol_write(d, "x86_64-abi");
	node_write(d, "version", 1);
	node_write(d, "ring-ref", ref);
	node_write(d, "event-channel", port);
	node_write(d, "state", INITIALISED);
	return back_reaches(d, CONNECTED, CONNECTED, 20);
}

static bool device_connect(struct device *d, int number)
{
	unsigned int len;
	char path[64], *text;

	memset(d, 0, sizeof(*d));
	d->number = number;
	snprintf(path, sizeof(path), "device/vgpu/%d/backend", number);
	text = xs_read(xs, XBT_NULL, path, &len);
	if (!text) {
		ksft_print_msg("device %d: %s cannot be read: %m\n", number, path);
		return false;
	}
	snprintf(d->back, sizeof(d->back), "%s", text);
	free(text);

	node_write(d, "state", INITIALISING);
	if (!back_reaches(d, INIT_WAIT, INIT_WAIT, 20))
		return false;
	d->ring = xengntshr_share_pages(gntshr, backend, 1, &d->ref, 1);
	d->port = xenevtchn_bind_unbound_port(evtchn, backend);
	if (!d->ring || d->port < 0) {
		ksft_print_msg("device %d: no %s to share: %m\n", number, d->ring ? "event channel" : "page");
		return false;
	}
	memset(d->ring, 0, 4096);
	d->ring->req_event = 1;
	d->ring->rsp_event = 1;
	if (!offer(d, d->ref, d->port))
		return false;
	node_write(d, "state", CONNECTED);
	return true;
}

static void push(struct device *d, const struct vgpuif_request *req)
{
	d->ring->slot[d->req_prod++ % SLOTS].req = *req;
	atomic_store(&d->ring->req_prod, d->req_prod);
	xenevtchn_notify(evtchn, d->port);
}

static bool pull(struct device *d, struct vgpuif_response *rsp, double seconds)
{
	for (double end = now() + seconds; now() < end; usleep(1000)) {
		if (atomic_load(&d->ring->rsp_prod) == d->rsp_cons)
			continue;
		*rsp = d->ring->slot[d->rsp_cons++ % SLOTS].rsp;
		return true;
	}
	return false;
}

/* Status of the response, or 1 if there was none. */
static int transact(struct device *d, struct vgpuif_request *req, struct vgpuif_response *rsp)
{
	static uint16_t id;

	req->id = ++id;
	push(d, req);
	if (!pull(d, rsp, 20) || rsp->id != req->id || rsp->op != req->op)
		return 1;
	return rsp->status;
}

static struct vgpuif_request open_request(uint64_t arena, uint32_t port)
{
	return (struct vgpuif_request) {
		.op = VGPUIF_OP_OPEN,
		.u.open = { .event_channel = port, .request_size = 4096, .reply_size = 4096, .arena_size = arena },
	};
}

static int session_open(struct device *d, uint64_t arena, struct vgpuif_response *rsp)
{
	int port = xenevtchn_bind_unbound_port(evtchn, backend);
	struct vgpuif_request req = open_request(arena, port);
	int status = transact(d, &req, rsp);

	if (status)
		xenevtchn_unbind(evtchn, port);
	return status;
}

static int session_close(struct device *d, uint32_t session)
{
	struct vgpuif_request req = { .op = VGPUIF_OP_CLOSE, .u.close.session = session };
	struct vgpuif_response rsp;

	return transact(d, &req, &rsp);
}

/* --- what is no violation ----------------------------------------------------------------------------------------- */

static bool honest_session_works(struct device *d)
{
	struct vgpuif_directory *dir;
	struct idm_session *page0;
	struct vgpuif_response rsp;
	bool ok;

	if (session_open(d, MIB, &rsp) || rsp.nr_pages != 259 || rsp.arena_size != MIB || !rsp.session || rsp.reserved)
		return false;
	dir = xengnttab_map_grant_ref(gnttab, backend, rsp.directory, PROT_READ);
	ok = dir && dir->nr == 259;
	page0 = ok ? xengnttab_map_grant_ref(gnttab, backend, dir->refs[0], PROT_READ | PROT_WRITE) : NULL;
	ok = page0 && page0->state == IDM_STATE_NEW;
	/* The directory is lent for reading only. */
	if (ok && xengnttab_map_grant_ref(gnttab, backend, rsp.directory, PROT_READ | PROT_WRITE))
		ok = false;
	if (page0)
		xengnttab_unmap(gnttab, page0, 1);
	if (dir)
		xengnttab_unmap(gnttab, dir, 1);
	return ok && !session_close(d, rsp.session);
}

static bool impossible_event_channel_is_refused(struct device *d)
{
	struct vgpuif_request req = open_request(0, 999999);
	struct vgpuif_response rsp;

	return transact(d, &req, &rsp) == VGPUIF_BAD_EVTCHN && !rsp.session && !rsp.directory && honest_session_works(d);
}

static bool unknown_sessions_are_refused(struct device *d)
{
	struct vgpuif_request req = { .op = VGPUIF_OP_GROW, .u.grow = { .session = 12345, .arena_size = MIB } };
	struct vgpuif_response rsp;

	return transact(d, &req, &rsp) == VGPUIF_NO_SESSION && session_close(d, 12345) == VGPUIF_NO_SESSION &&
	       session_close(d, 0) == VGPUIF_NO_SESSION && honest_session_works(d);
}

static bool sessions_of_other_devices_are_out_of_reach(struct device *d, struct device *other)
{
	struct vgpuif_request req = { .op = VGPUIF_OP_GROW, .u.grow = { .arena_size = 2 * MIB } };
	struct vgpuif_response rsp, answer;

	if (session_open(other, MIB, &rsp))
		return false;
	req.u.grow.session = rsp.session;
	return transact(d, &req, &answer) == VGPUIF_NO_SESSION &&
	       session_close(d, rsp.session) == VGPUIF_NO_SESSION && !session_close(other, rsp.session);
}

static bool quota_of_memory_holds(struct device *d)
{
	struct vgpuif_response rsp, more;
	bool ok;

	if (session_open(d, 40 * MIB, &rsp))
		return false;
	ok = session_open(d, 40 * MIB, &more) == VGPUIF_NO_SPACE;
	return !session_close(d, rsp.session) && ok && honest_session_works(d);
}

static bool quota_of_sessions_holds(struct device *d)
{
	struct vgpuif_response rsp[64];
	int n = 0, status = 0;
	bool ok;

	while (n < 64 && !(status = session_open(d, 0, &rsp[n])))
		n++;
	ok = n == 40 && status == VGPUIF_NO_SPACE;
	if (!ok)
		ksft_print_msg("%d sessions, then status %d\n", n, status);
	while (n)
		ok = !session_close(d, rsp[--n].session) && ok;
	return ok && honest_session_works(d);
}

/* A page that stays mapped after CLOSE keeps its session's memory charged, until it is unmapped. */
static bool mapped_pages_stay_charged(struct device *d)
{
	struct vgpuif_response rsp, more;
	struct vgpuif_directory *dir;
	bool ok;

	if (session_open(d, 40 * MIB, &rsp))
		return false;
	dir = xengnttab_map_grant_ref(gnttab, backend, rsp.directory, PROT_READ);
	if (!dir || session_close(d, rsp.session))
		return false;
	ok = session_open(d, 40 * MIB, &more) == VGPUIF_NO_SPACE && dir->nr == VGPUIF_DIRECTORY_REFS;
	xengnttab_unmap(gnttab, dir, 1);
	usleep(2500000);
	return ok && !session_open(d, 40 * MIB, &more) && !session_close(d, more.session);
}

static bool storm_without_requests_is_survived(struct device *d)
{
	for (int i = 0; i < 5000; i++)
		xenevtchn_notify(evtchn, d->port);
	return honest_session_works(d);
}

static bool toggling_states_is_survived(int number)
{
	struct device d;

	if (!device_connect(&d, number))
		return false;
	for (int i = 0; i < 40; i++) {
		node_write(&d, "state", i % 2 ? CLOSING : CLOSED);
		if (i % 3)
			usleep(3000);
		node_write(&d, "state", INITIALISING);
		if (i % 5)
			usleep(2000);
		node_write(&d, "state", INITIALISED);
		if (i % 4)
			usleep(4000);
	}
	/* If the last offer was taken back before it was seen, the backend is still waiting for one, in InitWait. */
	node_write(&d, "state", CLOSED);
	usleep(1000000);
	return device_connect(&d, number) && honest_session_works(&d);
}

/* An offer like the one before, but for what @spoil writes. */
static bool offer_is_refused(int number, void (*spoil)(struct device *d))
{
	struct device d;

	if (!device_connect(&d, number))
		return false;
	node_write(&d, "state", CLOSED);
	if (!back_reaches(&d, CLOSED, CLOSED, 20))
		return false;
	node_write(&d, "state", INITIALISING);
	if (!back_reaches(&d, INIT_WAIT, INIT_WAIT, 20))
		return false;
	spoil(&d);
	node_write(&d, "state", INITIALISED);
	if (!back_reaches(&d, CLOSING, CLOSED, 20))
		return false;
	node_write(&d, "state", CLOSED);
	return back_reaches(&d, CLOSED, CLOSED, 20) && device_connect(&d, number) && honest_session_works(&d);
}

static void impossible_ring(struct device *d)
{
	node_write(d, "ring-ref", 7777777);
}

static bool impossible_ring_is_refused(int number)
{
	return offer_is_refused(number, impossible_ring);
}

/* What it says would colour whatever comes after it in the driver domain's log, which dom0.sh looks at. */
static void strange_protocol(struct device *d)
{
	protocol_write(d, "\033[31mred-abi\033[7m");
}

static bool strange_protocol_is_refused(int number)
{
	return offer_is_refused(number, strange_protocol);
}

/* Each is told to the log: not for ever. 32 is MAX_BAD_OFFERS of vgpu-back/xenbus.c. */
static bool offers_without_end_close_the_device(int number)
{
	struct device d;
	int n;

	if (!device_connect(&d, number))
		return false;
	node_write(&d, "state", CLOSED);
	for (n = 0; n < 40; n++) {
		if (!back_reaches(&d, CLOSED, CLOSED, 20))
			return false;
		node_write(&d, "state", INITIALISING);
		if (!back_reaches(&d, INIT_WAIT, INIT_WAIT, n < 32 ? 20 : 1))
			break;
		node_write(&d, "ring-ref", 7777777);
		node_write(&d, "state", INITIALISED);
		if (!back_reaches(&d, CLOSING, CLOSED, 20))
			return false;
		node_write(&d, "state", CLOSED);
	}
	if (n != 32)
		ksft_print_msg("%d offers were looked at\n", n);
	return n == 32;
}

/* --- violations --------------------------------------------------------------------------------------------------- */

/* The backend closes, its session is gone, and nothing brings the device back. */
static bool closed_for_good(struct device *d)
{
	struct vgpuif_response rsp;

	if (!back_reaches(d, CLOSING, CLOSED, 20) || pull(d, &rsp, 0.3))
		return false;
	node_write(d, "state", CLOSED);
	if (!back_reaches(d, CLOSED, CLOSED, 20))
		return false;
	node_write(d, "state", INITIALISING);
	usleep(300000);
	node_write(d, "state", INITIALISED);
	usleep(300000);
	return back_state(d) == CLOSED;
}

static bool violation(int number, const struct vgpuif_request *req, uint32_t skip)
{
	struct vgpuif_response rsp;
	struct device d;

	if (!device_connect(&d, number) || session_open(&d, MIB, &rsp))
		return false;
	d.req_prod += skip;
	push(&d, req);
	return closed_for_good(&d);
}

static bool producer_out_of_range(int number)
{
	struct vgpuif_request req = { .op = VGPUIF_OP_CLOSE };

	return violation(number, &req, SLOTS + 5);
}

static bool unknown_operation(int number)
{
	struct vgpuif_request req = { .op = 77 };

	return violation(number, &req, 0);
}

static bool padding_not_zero(int number)
{
	struct vgpuif_request req = { .op = VGPUIF_OP_CLOSE };

	req.u.raw[20] = 1;
	return violation(number, &req, 0);
}

static bool impossible_sizes(int number)
{
	struct vgpuif_request req = open_request(0, 1);

	req.u.open.request_size = 5000;
	return violation(number, &req, 0);
}

static bool arena_too_long(int number)
{
	struct vgpuif_request req = open_request(~0ull << 12, 1);

	return violation(number, &req, 0);
}

/* --- other uses --------------------------------------------------------------------------------------------------- */

static void hog(struct device *d)
{
	struct vgpuif_response rsp;
	uint64_t size = 8 * MIB, all = 0;
	int n = 0;

	for (;;) {
		if (!session_open(d, size, &rsp)) {
			all += size;
			n++;
		} else if (size) {
			size = size > 16384 ? size / 2 : 0;
		} else {
			break;
		}
	}
	ksft_print_msg("%d sessions have %llu KiB of arenas\n", n, (unsigned long long)all >> 10);
	puts("ok - full");
	for (;;)
		pause();
}

#define RUN(test)	ksft_test_result((test), #test "\n")

int main(int argc, char **argv)
{
	struct device d, other;
	unsigned int len;
	char *text;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	xs = xs_open(0);
	evtchn = xenevtchn_open(NULL, 0);
	gntshr = xengntshr_open(NULL, 0);
	gnttab = xengnttab_open(NULL, 0);
	if (!xs || !evtchn || !gntshr || !gnttab)
		ksft_exit_skip("no xenstore, evtchn, gntalloc or gntdev: run this in a pod that has their modules\n");
	text = xs_read(xs, XBT_NULL, "device/vgpu/0/backend-id", &len);
	if (!text)
		ksft_exit_skip("no vgpu device 0\n");
	backend = atoi(text);
	if (argc > 1) {
		if (!device_connect(&d, 0))
			ksft_exit_fail_msg("the backend does not connect\n");
		if (!strcmp(argv[1], "hog"))
			hog(&d);
		return !honest_session_works(&d);
	}
	ksft_set_plan(18);

	if (!device_connect(&d, 0) || !device_connect(&other, 1))
		ksft_exit_fail_msg("the backend does not connect\n");
	RUN(honest_session_works(&d));
	RUN(impossible_event_channel_is_refused(&d));
	RUN(unknown_sessions_are_refused(&d));
	RUN(sessions_of_other_devices_are_out_of_reach(&d, &other));
	RUN(quota_of_memory_holds(&d));
	RUN(quota_of_sessions_holds(&d));
	RUN(mapped_pages_stay_charged(&d));
	RUN(storm_without_requests_is_survived(&d));
	RUN(toggling_states_is_survived(2));
	RUN(impossible_ring_is_refused(3));
	RUN(strange_protocol_is_refused(3));
	RUN(offers_without_end_close_the_device(9));
	RUN(producer_out_of_range(4));
	RUN(unknown_operation(5));
	RUN(padding_not_zero(6));
	RUN(impossible_sizes(7));
	RUN(arena_too_long(8));
	RUN(honest_session_works(&d) && honest_session_works(&other));
	ksft_finished();
}
