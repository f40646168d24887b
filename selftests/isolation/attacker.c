// SPDX-License-Identifier: Apache-2.0
/* Everything that can be tried with another session's handles and addresses. */
#include <inttypes.h>

#include "isolation.h"

#define ATTACKER_GEN 0xa77ac
#define ADDRESSES_MAX 8
#define GUESSES 400

static struct own own;
static int attempts, got_through, died;

static void expect_refusal(int ret, const char *what, uint64_t value)
{
	attempts++;
	if (ret < 0)
		died++;
	if (ret)
		return;
	got_through++;
	printf("# %s with %#" PRIx64 " was carried out\n", what, value);
}

/* What no table entry says: calls with payloads of their own, and the context that every call names. */
static void special_probes(enum kind kind, uint64_t h)
{
	const uint64_t ctx = VGPU_PRIMARY_CTX(0);
	char reply[512];

	switch (kind) {
	case STREAM:
		expect_refusal(launch(ctx, own.handle[FUNCTION], h), "a launch in the stream", h);
		break;
	case FUNCTION:
	case KERNEL:
		expect_refusal(launch(ctx, h, 0), "a launch", h);
		break;
	case MODULE:
	case LIBRARY:
		expect_refusal(get_named(VGPU_MSG_cuModuleGetGlobal_v2, h, 0, "count", reply, sizeof(reply)),
			       "the address of a variable", h);
		expect_refusal(get_named(VGPU_MSG_cuModuleGetFunction, h,
					 VGPU_HANDLE(ATTACKER_GEN, kind == MODULE ? VGPU_H_FUNCTION : VGPU_H_KERNEL, 999),
					 "bump", reply, sizeof(reply)), "a function", h);
		break;
	case CTX:
		expect_refusal(ask(VGPU_MSG_cuCtxSynchronize, h, NULL, 0, 0, NULL), "synchronising the context", h);
		expect_refusal(ask(VGPU_MSG_cuStreamQuery, h, NULL, 0, 1, &own.handle[STREAM]), "a call in the context", h);
		break;
	default:
		break;
	}
}

static void try_calls(enum kind kind, uint64_t h)
{
	for (size_t i = 0; i < nprobes && !died; i++)
		if (probes[i].kind == kind)
			expect_refusal(probe_run(&own, &probes[i], h), "a call", h);
}

static void try_handle(enum kind kind, uint64_t h)
{
	try_calls(kind, h);
	if (!died)
		special_probes(kind, h);
}

static void handles(enum kind kind, uint64_t h)
{
	const uint32_t gen = VGPU_HANDLE_GEN(h), index = VGPU_HANDLE_INDEX(h);
	const unsigned int type = kinds[kind].type;

	got_through = 0;
	try_handle(kind, h);
	ok(!got_through && !died, "the victim's %s, replayed", kinds[kind].name);
	try_handle(kind, VGPU_HANDLE((gen + 1) & 0xffffff, type, index));
	try_handle(kind, VGPU_HANDLE((gen - 1) & 0xffffff, type, index));
	try_handle(kind, VGPU_HANDLE(ATTACKER_GEN, type, index + 50));
	ok(!got_through && !died, "the same %s, off by a generation", kinds[kind].name);
	for (unsigned int other = 0; other <= VGPU_H_TYPES; other++)
		if (other != type)
			try_handle(kind, VGPU_HANDLE(ATTACKER_GEN, other, 100 + kind));
	/* Functions and kernels may be launched alike, modules, libraries and kernels be asked for what is in them. */
	for (int other = 0; other < KINDS; other++) {
		bool alike = (kind == FUNCTION || kind == KERNEL) ? other == FUNCTION || other == KERNEL :
			     ((kind == MODULE || kind == LIBRARY) &&
			      (other == MODULE || other == LIBRARY || other == KERNEL)) ||
			     /* The worker goes by what the handle is. */
			     (kind == TEXOBJ && other == SURFOBJ) || (kind == SURFOBJ && other == TEXOBJ);

		if (!own.handle[other])
			continue;
		if (other != (int)kind && !alike)
			try_handle(kind, own.handle[other]);
		else if (other != (int)kind && kind != FUNCTION && kind != TEXOBJ && kind != SURFOBJ)
			try_calls(kind, own.handle[other]);
	}
	ok(!got_through && !died, "one's own object of another type as a %s", kinds[kind].name);
	for (uint32_t i = 0; i < 40; i++) {
		/* The primary context's handle is the same in every session and names each session's own. */
		if (kind == CTX && i == 1)
			continue;
		/* Stream 0, 1 and 2 are CUDA's own names for default streams. */
		try_handle(kind, VGPU_HANDLE(0, type, i));
	}
	try_handle(kind, UINT64_MAX);
	try_handle(kind, VGPU_HANDLE(gen, type, VGPU_HANDLES_MAX));
	try_handle(kind, VGPU_HANDLE(gen, type, UINT32_MAX));
	for (uint64_t i = 0, x = 88172645463325252ull; i < GUESSES / KINDS; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		try_handle(kind, VGPU_HANDLE(x & 0xffffff, type, x >> 40 & 0xff));
	}
	ok(!got_through && !died, "guessed %s handles", kinds[kind].name);
}

static bool holds_secret(const char *buf, size_t size)
{
	/* Any alignment: the secret repeats, so half of it must appear in any 64 bytes. */
	return memmem(buf, size, SECRET, SECRET_LEN / 2) || memmem(buf, size, SECRET + SECRET_LEN / 2, SECRET_LEN / 2);
}

static void addresses(const uint64_t *list, int n)
{
	char buf[64];
	int ret, leaked = 0;

	got_through = 0;
	for (int i = 0; i < n && !died; i++) {
		ret = copy_out(buf, list[i], sizeof(buf));
		died += ret < 0;
		/* This session's own memory may lie at the same address; what it holds must be its own. */
		leaked += !ret && holds_secret(buf, sizeof(buf));
		memset(buf, 0x66, sizeof(buf));
		died += copy_in(list[i], buf, sizeof(buf)) < 0;
		died += ask(VGPU_MSG_cuMemsetD8_v2, VGPU_PRIMARY_CTX(0), NULL, 0, 3, (uint64_t[]){ list[i], 0, 64 }) < 0;
		expect_refusal(ask(VGPU_MSG_cuMemFree_v2, VGPU_PRIMARY_CTX(0), NULL, 0, 1, (uint64_t[]){ list[i] + 64 }),
			       "freeing", list[i] + 64);
	}
	ok(!leaked && !got_through && !died, "%d addresses of the victim read, written, set and freed: none of it reached", n);
}

/* Device memory and arena of a fresh session hold nothing of anybody's. */
static void residue(uint64_t bytes)
{
	const uint64_t ctx = VGPU_PRIMARY_CTX(0), chunk = 256 << 10;
	char *arena = idm_arena_base(client), *window;
	uint64_t memory;

	ok(!holds_secret(arena, idm_arena_size(client)), "a new arena holds nothing of another session's");
	window = idm_arena_alloc(client, chunk);
	if (!window || ask(VGPU_MSG_cuMemAlloc_v2, ctx, &memory, sizeof(memory), 1, &bytes)) {
		ok(false, "%" PRIu64 " MiB to look through", bytes >> 20);
		return;
	}
	int found = 0, failed = 0;
	for (uint64_t off = 0; off < bytes; off += chunk) {
		struct vgpu_copy_d2h c = { .call = { .ctx = ctx, .thread = 1 }, .src = memory + off,
					   .dst = { (uint64_t)(window - arena), chunk } };

		failed += ask_payload(VGPU_MSG_cuMemcpyDtoH_v2, &c, sizeof(c), NULL, 0, NULL, 0) != 0;
		found += holds_secret(window, chunk);
	}
	ok(!found && !failed, "%" PRIu64 " MiB of new device memory hold nothing of another session's", bytes >> 20);
	ask(VGPU_MSG_cuMemFree_v2, ctx, NULL, 0, 1, &memory);
	idm_arena_free(client, window);
}

int attacker(bool neighbour)
{
	uint64_t victims[KINDS] = { 0 }, list[ADDRESSES_MAX], value;
	struct token tokens[TOKENS] = { 0 };
	int naddresses = 0;
	char line[256], name[32];

	while (fgets(line, sizeof(line), stdin) && strcmp(line, "ready\n")) {
		if (token_heard(line, tokens))
			continue;
		if (sscanf(line, "handle %31s %" SCNx64, name, &value) == 2) {
			for (int k = 0; k < KINDS; k++)
				if (!strcmp(name, kinds[k].name))
					victims[k] = value;
		} else if ((sscanf(line, "address %" SCNx64, &value) == 1 || sscanf(line, "arena %" SCNx64, &value) == 1) &&
			   naddresses < ADDRESSES_MAX) {
			list[naddresses++] = value;
		}
	}
	for (int k = 0; k < POOL; k++)
		if (!victims[k])
			bail("the victim has told no %s", kinds[k].name);
	if (naddresses < 2)
		bail("the victim has told no addresses");

	session_open();
	residue(4 << 20);
	addresses(list, naddresses);
	own_create(&own, ATTACKER_GEN, 1 << 20);
	probes_work(&own, false);
	tokens_try(tokens, neighbour);
	for (int k = 0; k < KINDS && !died; k++)
		if (victims[k])
			handles(k, victims[k]);
	addresses(list, naddresses);

	/* The same number is free for one's own use: it names something else here. */
	ok(!ask(VGPU_MSG_cuStreamCreate, VGPU_PRIMARY_CTX(0), NULL, 0, 2, (uint64_t[]){ victims[STREAM] + 200, 0 }) &&
	   !ask(VGPU_MSG_cuStreamDestroy_v2, VGPU_PRIMARY_CTX(0), NULL, 0, 1, (uint64_t[]){ victims[STREAM] + 200 }),
	   "a number of the victim's generation names this session's own object here");
	ok(!died, "after %d attempts this session is still served", attempts);
	probes_work(&own, true);
	idm_client_close(client);
	return tap_done();
}

int scavenger(void)
{
	session_open();
	residue(32 << 20);
	idm_client_close(client);
	return tap_done();
}
