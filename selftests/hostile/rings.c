// SPDX-License-Identifier: Apache-2.0
/* Lies in the rings themselves: each ends the liar's session, with the lie in the reason. */
#include <stdlib.h>
#include <unistd.h>

#include "hostile.h"

struct lie {
	const char *what, *word;	/* what is done; what the reason must say */
	void (*tell)(struct raw *r);
	bool no_hello;
};

static void header_with(struct raw *r, struct idm_header h)
{
	raw_write(r, &h, sizeof(h));
	raw_align(r);
	raw_publish(r);
}

static void magic(struct raw *r)
{
	struct idm_header h = raw_header(r, IDM_GPU_GET_INFO, 0, 0);

	h.magic ^= 1;
	header_with(r, h);
}

static void version(struct raw *r)
{
	struct idm_header h = raw_header(r, IDM_GPU_GET_INFO, 0, 0);

	h.version++;
	header_with(r, h);
}

static void source(struct raw *r)
{
	struct idm_header h = raw_header(r, IDM_GPU_GET_INFO, 0, 0);

	h.src_zone = r->l.zone + 1;
	header_with(r, h);
}

static void source_is_driver_domain(struct raw *r)
{
	struct idm_header h = raw_header(r, IDM_GPU_GET_INFO, 0, 0);

	h.src_zone = r->l.own_zone;
	header_with(r, h);
}

static void destination(struct raw *r)
{
	struct idm_header h = raw_header(r, IDM_GPU_GET_INFO, 0, 0);

	h.dst_zone += 7;
	header_with(r, h);
}

static void too_long(struct raw *r)
{
	header_with(r, raw_header(r, IDM_GPU_GET_INFO, 0, IDM_PAYLOAD_MAX + 1));
}

static void very_long(struct raw *r)
{
	header_with(r, raw_header(r, IDM_GPU_GET_INFO, 0, UINT32_MAX));
}

static void wrapping_length(struct raw *r)
{
	header_with(r, raw_header(r, IDM_GPU_GET_INFO, 0, UINT32_MAX - sizeof(struct idm_header) + 1));
}

static void truncated(struct raw *r)
{
	header_with(r, raw_header(r, IDM_GPU_GET_INFO, 0, 4096));
}

static void half_a_header(struct raw *r)
{
	struct idm_header h = raw_header(r, IDM_GPU_GET_INFO, 0, 0);

	raw_write(r, &h, 16);
	raw_publish(r);
}

static void beyond_the_ring(struct raw *r)
{
	r->prod += r->l.request_size + IDM_ALIGN;
	raw_publish(r);
}

static void backwards(struct raw *r)
{
	r->prod -= IDM_ALIGN;
	raw_publish(r);
}

static void far_away(struct raw *r)
{
	r->prod += 0x80000000u;
	raw_publish(r);
}

static void crooked(struct raw *r)
{
	r->prod += 8;
	raw_publish(r);
}

static void noise(struct raw *r)
{
	unsigned char bytes[4096];
	size_t i;

	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = rand() >> 8;
	raw_write(r, bytes, sizeof(bytes));
	raw_publish(r);
}

static void unknown_type(struct raw *r)
{
	struct vgpu_call c = RAW_CALL;

	raw_send(r, 0xfff0, 0, &c, sizeof(c));
}

static void reply_as_request(struct raw *r)
{
	struct vgpu_call c = RAW_CALL;

	raw_send(r, IDM_RESPONSE_OK, 0, &c, sizeof(c));
}

static void no_call(struct raw *r)
{
	raw_send(r, VGPU_MSG_cuMemGetInfo_v2, 0, NULL, 0);
}

static void one_byte_short(struct raw *r)
{
	struct vgpu_rq_cuMemAlloc_v2 q = { .call = RAW_CALL };

	raw_send(r, VGPU_MSG_cuMemAlloc_v2, 0, &q, sizeof(q) - 1);
}

static void eight_bytes_long(struct raw *r)
{
	char q[sizeof(struct vgpu_rq_cuMemAlloc_v2) + 8] = { 0 };

	raw_send(r, VGPU_MSG_cuMemAlloc_v2, 0, q, sizeof(q));
}

static void posted_and_short(struct raw *r)
{
	struct vgpu_call c = RAW_CALL;

	raw_send(r, VGPU_MSG_cuMemFree_v2, IDM_FLAG_POSTED, &c, sizeof(c));
}

static void inline_copy_longer_than_the_message(struct raw *r)
{
	struct vgpu_copy_h2d c = { .call = RAW_CALL, .src = { VGPU_DATA_INLINE, 1 << 20 } };

	raw_send(r, VGPU_MSG_cuMemcpyHtoD_v2, 0, &c, sizeof(c));
}

static void inline_copy_of_nearly_2_64(struct raw *r)
{
	struct vgpu_copy_h2d c = { .call = RAW_CALL, .src = { VGPU_DATA_INLINE, UINT64_MAX - 3 } };

	raw_send(r, VGPU_MSG_cuMemcpyHtoD_v2, 0, &c, sizeof(c));
}

static void inline_image_longer_than_the_message(struct raw *r)
{
	struct vgpu_load l = { .call = RAW_CALL, .handle = VGPU_HANDLE(1, VGPU_H_MODULE, 9),
			       .image = { VGPU_DATA_INLINE, UINT64_MAX - 6 } };

	raw_send(r, VGPU_MSG_cuModuleLoadData, 0, &l, sizeof(l));
}

static void too_big_a_reply(struct raw *r)
{
	struct vgpu_copy_d2h c = { .call = RAW_CALL, .dst = { VGPU_DATA_INLINE, 1ull << 40 } };

	raw_send(r, VGPU_MSG_cuMemcpyDtoH_v2, 0, &c, sizeof(c));
}

static void launch_that_lies_about_its_attributes(struct raw *r)
{
	struct vgpu_launch l = { .call = RAW_CALL, .nattrs = 0x40000000, .grid = { 1, 1, 1 }, .block = { 1, 1, 1 } };

	raw_send(r, VGPU_MSG_cuLaunchKernel, IDM_FLAG_POSTED, &l, sizeof(l));
}

static void launch_that_lies_about_its_parameters(struct raw *r)
{
	struct vgpu_launch l = { .call = RAW_CALL, .param_bytes = 4096, .grid = { 1, 1, 1 }, .block = { 1, 1, 1 } };

	raw_send(r, VGPU_MSG_cuLaunchKernel, IDM_FLAG_POSTED, &l, sizeof(l));
}

static void name_longer_than_the_message(struct raw *r)
{
	struct vgpu_get_kernel k = { .call = RAW_CALL, .name_len = 5000 };

	raw_send(r, VGPU_MSG_cuModuleGetFunction, 0, &k, sizeof(k));
}

static void hello_again(struct raw *r)
{
	struct vgpu_hello h = { .table_hash = VGPU_TABLE_HASH, .arena_base = IDM_ARENA_SLOT(2) };

	raw_send(r, IDM_HELLO, 0, &h, sizeof(h));
}

static void more_arena_than_there_is(struct raw *r)
{
	struct vgpu_arena_grown g = { .arena_size = 1ull << 45 };

	raw_send(r, IDM_ARENA_GROWN, 0, &g, sizeof(g));
}

static void no_hello(struct raw *r)
{
	struct vgpu_call c = RAW_CALL;

	raw_send(r, IDM_GPU_GET_INFO, 0, &c, sizeof(c));
}

static void other_table(struct raw *r)
{
	struct vgpu_hello h = { .table_hash = VGPU_TABLE_HASH ^ 1, .arena_base = IDM_ARENA_SLOT(1) };

	raw_send(r, IDM_HELLO, 0, &h, sizeof(h));
}

static void arena_over_the_heap(struct raw *r)
{
	struct vgpu_hello h = { .table_hash = VGPU_TABLE_HASH, .arena_base = 0x7f0000000000ull };

	raw_send(r, IDM_HELLO, 0, &h, sizeof(h));
}

static const struct lie lies[] = {
	{ "a wrong magic", "magic", magic, false },
	{ "a wrong version", "version", version, false },
	{ "a forged source zone", "forged source zone", source, false },
	{ "the driver domain as source zone", "forged source zone", source_is_driver_domain, false },
	{ "another destination zone", "a message for zone", destination, false },
	{ "a payload longer than any may be", "length", too_long, false },
	{ "a payload of 4 GiB", "length", very_long, false },
	{ "a payload length that wraps", "length", wrapping_length, false },
	{ "a message that ends before its payload", "length", truncated, false },
	{ "half a header", "", half_a_header, false },
	{ "an index beyond the ring", "outside the ring", beyond_the_ring, false },
	{ "an index that goes back", "outside the ring", backwards, false },
	{ "an index half a world away", "outside the ring", far_away, false },
	{ "an index that is not aligned", "outside the ring", crooked, false },
	{ "random bytes", "magic", noise, false },
	{ "a message of unknown type", "unknown type", unknown_type, false },
	{ "a reply as a request", "unknown type", reply_as_request, false },
	{ "a call without its start", "wrong length", no_call, false },
	{ "a call one byte short", "wrong length", one_byte_short, false },
	{ "a call eight bytes too long", "wrong length", eight_bytes_long, false },
	{ "a posted call that is too short", "wrong length", posted_and_short, false },
	{ "a copy of more bytes than came", "wrong length", inline_copy_longer_than_the_message, false },
	{ "a copy whose length wraps", "wrong length", inline_copy_of_nearly_2_64, false },
	{ "an image whose length wraps", "wrong length", inline_image_longer_than_the_message, false },
	{ "a copy of a terabyte into the reply", "wrong length", too_big_a_reply, false },
	{ "a launch with a billion attributes", "wrong length", launch_that_lies_about_its_attributes, false },
	{ "a launch without the parameters it claims", "wrong length", launch_that_lies_about_its_parameters, false },
	{ "a name longer than its message", "wrong length", name_longer_than_the_message, false },
	{ "a second IDM_HELLO", "IDM_HELLO", hello_again, false },
	{ "more arena than was lent", "arena", more_arena_than_there_is, false },
	{ "a call before IDM_HELLO", "before IDM_HELLO", no_hello, true },
	{ "another call table", "different builds", other_table, true },
	{ "an arena where the worker's heap may be", "arena", arena_over_the_heap, true },
};

/* A client that never reads its replies blocks the worker that serves it, and nobody else. */
static void deaf(void)
{
	struct vgpu_call c = RAW_CALL;
	struct raw r;
	bool good;
	int i;

	if (!raw_open(&r, true)) {
		report(false, "a session for a client that never reads");
		return;
	}
	for (i = 0; i < 600; i++) {
		struct idm_header h = raw_header(&r, IDM_GPU_GET_PROPS, 0, sizeof(struct vgpu_props_request));
		struct vgpu_props_request q = { .call = c };

		raw_write(&r, &h, sizeof(h));
		raw_write(&r, &q, sizeof(q));
		raw_align(&r);
	}
	raw_publish(&r);
	usleep(100000);
	good = neighbour_well();
	raw_close(&r);
	report(good, "a client that never reads its replies holds up nobody else");
}

/* The consumer's index of the reply ring is the client's to write. */
static void impossible_consumer(void)
{
	struct vgpu_props_request q = { .call = RAW_CALL };
	bool good = true;
	struct raw r;
	int i;

	for (i = 0; i < 4 && good; i++) {
		static const uint32_t lie[] = { 0x80000000u, 7, UINT32_MAX, 1 << 20 };

		good = raw_open(&r, true);
		if (!good)
			break;
		__atomic_store_n(&r.page->reply.cons, lie[i], __ATOMIC_SEQ_CST);
		raw_send(&r, IDM_GPU_GET_PROPS, 0, &q, sizeof(q));
		raw_send(&r, IDM_GPU_GET_PROPS, 0, &q, sizeof(q));
		usleep(20000);
		raw_close(&r);
		good = neighbour_well();
	}
	report(good, "a reply ring whose reader claims to be where it cannot be");
}

void attack_rings(void)
{
	size_t i;

	for (i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct raw r;
		bool good = raw_open(&r, !lies[i].no_hello);

		if (good) {
			lies[i].tell(&r);
			good = raw_ended(&r, lies[i].word);
			raw_close(&r);
		}
		report(good, "%s ends the session, and the reason says so", lies[i].what);
	}
	deaf();
	impossible_consumer();
}
