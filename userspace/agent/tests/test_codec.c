// SPDX-License-Identifier: Apache-2.0
/* The codec by itself: what one end writes the other reads, and nothing else is read as anything. */
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "../internal.h"
#include "tap.h"

static int next(struct wire_queue *q, enum wire_sender sender, struct vgpu_agent_frame *f)
{
	const uint8_t *payload;
	const char *why = NULL;
	int got = wire_next_frame(q, sender, f, &payload, &why);

	return got < 0 && !why ? -2 : got;
}

/* One frame of this header alone, with as many bytes of payload as it says (up to what a frame may have). */
static int one(enum wire_sender sender, uint32_t length, uint32_t call, uint16_t type, uint16_t stream)
{
	struct vgpu_agent_frame f = { .length = length, .call = call, .type = type, .stream = stream };
	uint8_t *zeros = calloc(1, VGPU_AGENT_REQUEST_MAX);
	struct wire_queue q = { 0 };
	int got;

	wire_put(&q, &f, sizeof(f));
	wire_put(&q, zeros, length < VGPU_AGENT_REQUEST_MAX ? length : VGPU_AGENT_REQUEST_MAX);
	got = next(&q, sender, &f);
	wire_free(&q);
	free(zeros);
	return got;
}

static void round_trip(void)
{
	struct wire_queue q = { 0 };
	struct vgpu_agent_frame f;
	struct wire_reader r, nest;
	struct wire_attr a;
	const uint8_t *payload;
	const char *why, *text;
	uint32_t u32;
	uint64_t u64;
	size_t begun = wire_begin(&q, 7, VGPU_AGENT_CREATE, 0), inner;
	int cut;

	wire_string(&q, VGPU_AGENT_A_NAME, "a");
	inner = wire_nest(&q, VGPU_AGENT_A_MOUNT);
	wire_u64(&q, VGPU_AGENT_A_MOUNT_FLAGS, 1ull << 40);
	wire_nest_end(&q, inner);
	wire_u32(&q, VGPU_AGENT_A_FLAGS, 3);
	wire_end(&q, begun);
	ok(wire_next_frame(&q, WIRE_HOST, &f, &payload, &why) == 1 && f.call == 7 && f.type == VGPU_AGENT_CREATE, "a frame comes out as it went in");
	r = wire_reader(payload, f.length);
	ok(wire_next(&r, &a) == 1 && wire_get_string(&a, &text) && !strcmp(text, "a"), "a string");
	ok(wire_next(&r, &a) == 1 && a.type == VGPU_AGENT_A_MOUNT, "a nest");
	nest = wire_get_nest(&a);
	ok(wire_next(&nest, &a) == 1 && wire_get_u64(&a, &u64) && u64 == 1ull << 40 && !wire_get_u32(&a, &u32) && !wire_next(&nest, &a),
	   "what is in it, in its own type only");
	ok(wire_next(&r, &a) == 1 && wire_get_u32(&a, &u32) && u32 == 3 && !wire_next(&r, &a), "a number, and the end");
	for (cut = 0; cut < (int)q.len; cut++) {
		struct wire_queue part = { 0 };

		wire_put(&part, q.data + q.start, cut);
		if (next(&part, WIRE_HOST, &f))
			break;
		wire_free(&part);
	}
	ok(cut == (int)q.len, "of a part of a frame, however long, nothing is read");
	wire_free(&q);
}

static void limits(void)
{
	ok(one(WIRE_HOST, VGPU_AGENT_REQUEST_MAX, 1, VGPU_AGENT_CREATE, 0) == 1 && one(WIRE_HOST, VGPU_AGENT_REQUEST_MAX + 1, 1, VGPU_AGENT_CREATE, 0) == -1,
	   "a request has its limit");
	ok(one(WIRE_AGENT, 4096, 1, VGPU_AGENT_EVENT, 0) == 1 && one(WIRE_AGENT, 4097, 1, VGPU_AGENT_EVENT, 0) == -1,
	   "an event is no longer than 4 KiB");
	ok(one(WIRE_AGENT, VGPU_AGENT_ANSWER_MAX, 1, VGPU_AGENT_REPLY, 0) == 1 && one(WIRE_AGENT, VGPU_AGENT_ANSWER_MAX + 1, 1, VGPU_AGENT_REPLY, 0) == -1,
	   "an answer has its own");
	ok(one(WIRE_HOST, UINT32_MAX, 1, VGPU_AGENT_CREATE, 0) == -1 && one(WIRE_AGENT, UINT32_MAX, 1, VGPU_AGENT_DATA, 1) == -1,
	   "the largest length there is is refused before it is waited for");
	ok(one(WIRE_HOST, 0, 1, VGPU_AGENT_DATA, 0) == -1 && one(WIRE_HOST, VGPU_AGENT_DATA_MAX + 1, 1, VGPU_AGENT_DATA, 0) == -1, "data is 1 byte to 32 KiB");
	ok(one(WIRE_HOST, 4, 0, VGPU_AGENT_WAIT, 0) == -1, "call 0 is no call");
	ok(one(WIRE_AGENT, 0, 1, VGPU_AGENT_CREATE, 0) == -1 && one(WIRE_AGENT, 0, 1, VGPU_AGENT_CANCEL, 0) == -1, "an agent requests and cancels nothing");
	ok(one(WIRE_HOST, 0, 1, VGPU_AGENT_REPLY, 0) == -1 && one(WIRE_HOST, 0, 1, VGPU_AGENT_EVENT, 0) == -1, "a host answers nothing");
	ok(one(WIRE_HOST, 0, 1, 0, 0) == -1 && one(WIRE_HOST, 0, 1, VGPU_AGENT_REQUESTS_END, 0) == -1 && one(WIRE_HOST, 0, 1, 0xffff, 0) == -1,
	   "types that are none are refused");
	ok(one(WIRE_HOST, 1, 1, VGPU_AGENT_DATA, 1) == -1 && one(WIRE_AGENT, 1, 1, VGPU_AGENT_DATA, 0) == -1 && one(WIRE_AGENT, 1, 1, VGPU_AGENT_DATA, 3) == -1,
	   "streams have their direction");
	ok(one(WIRE_HOST, 4, 1, VGPU_AGENT_CREDIT, 1) == 1 && one(WIRE_HOST, 4, 1, VGPU_AGENT_CREDIT, 0) == -1 && one(WIRE_AGENT, 4, 1, VGPU_AGENT_CREDIT, 0) == 1,
	   "and credit the other one");
	ok(one(WIRE_HOST, 3, 1, VGPU_AGENT_CREDIT, 1) == -1 && one(WIRE_HOST, 5, 1, VGPU_AGENT_RESIZE, 0) == -1, "frames of a fixed length have that");
}

static void attributes(void)
{
	struct vgpu_agent_attr head = { .type = 1, .length = 4 };
	uint8_t bytes[16] = { 0 };
	struct wire_reader r;
	struct wire_attr a;
	const char *text;

	memcpy(bytes, &head, sizeof(head));
	for (unsigned int len = 1; len < 12; len++) {
		uint8_t *exact = malloc(len);	/* for the sanitizer: not a byte more */

		memcpy(exact, bytes, len);
		r = wire_reader(exact, len);
		if (wire_next(&r, &a) != -1) {
			ok(0, "an attribute cut off after %u bytes", len);
			free(exact);
			return;
		}
		free(exact);
	}
	ok(1, "an attribute that is cut off is malformed, wherever");
	head.length = UINT32_MAX;
	memcpy(bytes, &head, sizeof(head));
	r = wire_reader(bytes, sizeof(bytes));
	ok(wire_next(&r, &a) == -1, "and one that is longer than anything");
	head = (struct vgpu_agent_attr){ .type = 1, .zero = 1 };
	memcpy(bytes, &head, sizeof(head));
	r = wire_reader(bytes, sizeof(head));
	ok(wire_next(&r, &a) == -1, "what must be zero is zero");
	a = (struct wire_attr){ .length = 3, .value = (const uint8_t *)"abc" };
	ok(!wire_get_string(&a, &text), "a string without its end is none");
	a = (struct wire_attr){ .length = 4, .value = (const uint8_t *)"a\0c" };
	ok(!wire_get_string(&a, &text), "nor is one with two");
	a = (struct wire_attr){ .length = 0, .value = bytes };
	ok(!wire_get_string(&a, &text), "nor is nothing");
	ok(wire_name_ok("pod-1_a.b") && !wire_name_ok("") && !wire_name_ok(".x") && !wire_name_ok("a/b") && !wire_name_ok("a\nb"), "names are files' names");
}

static void writing(void)
{
	static char big[VGPU_AGENT_REQUEST_MAX + 2];
	struct wire_queue q = { 0 };
	size_t begun;

	memset(big, 'x', sizeof(big) - 1);
	wire_credit(&q, 1, 0, 5);
	begun = wire_begin(&q, 1, VGPU_AGENT_CREATE, 0);
	wire_string(&q, VGPU_AGENT_A_ARG, big);
	wire_end(&q, begun);
	ok(q.failed, "more than a frame holds is not written");
	wire_abandon(&q, begun);
	ok(!q.failed && q.len == sizeof(struct vgpu_agent_frame) + 4, "and what was before it is unharmed");
	wire_free(&q);
}

/* What an agent says is for a terminal, which must not act upon it. */
static bool becomes(const char *text, const char *harmless)
{
	char buf[64];

	copy_text(buf, sizeof(buf), text);
	if (strcmp(buf, harmless))
		printf("# %s\n", buf);
	return !strcmp(buf, harmless);
}

static void texts(void)
{
	char small[6];

	ok(becomes("\x1b[31mred\x07\x7f\r\n", "?[31mred????"), "control characters of a text are not passed on");
	ok(becomes("\xc2\x9b" "31mred\xc2\x80\xc2\x9f\x9b", "??31mred?????"), "nor those that are two bytes, or one that is none of UTF-8");
	ok(becomes("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xc2\xa0", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xc2\xa0"), "characters of other languages are");
	ok(becomes("\xc1\x9b\xe0\x82\x9b\xf0\x80\x82\x9b", "?????????") && becomes("\xed\xa0\x80\xf4\x90\x80\x80\xff", "????????"), "one that is written longer than need be, or that there is not, is none");
	ok(becomes("a\xe2\x82", "a??") && becomes("\xf0\x9f\x98", "???"), "nor half of one at the end");
	copy_text(small, sizeof(small), "abc\xe2\x82\xac");
	ok(!strcmp(small, "abc"), "none is cut in two where the room ends");
}

int main(void)
{
	round_trip();
	limits();
	attributes();
	writing();
	texts();
	return tap_done();
}
