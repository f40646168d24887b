// SPDX-License-Identifier: Apache-2.0
/* The victim, and main(). */
#include <inttypes.h>
#include <unistd.h>

#include "isolation.h"

#define VICTIM_GEN 0x5eed5e
#define LAUNCHES 3

static void fill(char *buf, size_t size)
{
	for (size_t i = 0; i < size; i++)
		buf[i] = SECRET[i % SECRET_LEN];
}

static int victim(void)
{
	const uint64_t ctx = VGPU_PRIMARY_CTX(0);
	char page[4096], got[4096], line[64], *arena;
	uint64_t count = 0, wrong = 0;
	bool has_all = true;
	struct own own;
	int ret;

	session_open();
	own_create(&own, VICTIM_GEN, VICTIM_BYTES);
	fill(page, sizeof(page));
	for (uint64_t off = 0; off < VICTIM_BYTES; off += sizeof(page))
		if (copy_in(own.memory + off, page, sizeof(page)))
			bail("cannot write the secret");
	arena = idm_arena_alloc(client, 65536);
	if (!arena)
		bail("cannot allocate arena");
	fill(arena, 65536);
	for (int i = 0; i < LAUNCHES; i++)
		if (launch(ctx, i % 2 ? own.handle[KERNEL] : own.handle[FUNCTION], own.handle[STREAM]))
			bail("cannot launch");

	for (int k = 0; k < KINDS; k++) {
		if (own.handle[k])
			printf("handle %s %#" PRIx64 "\n", kinds[k].name, own.handle[k]);
		has_all = has_all && own.handle[k];
	}
	if (has_all)
		printf("# handles of all kinds\n");
	tokens_tell(own.memory, VICTIM_GEN);
	printf("address %#" PRIx64 "\naddress %#" PRIx64 "\narena %#" PRIx64 "\nready\n", own.memory, own.counter,
	       (uint64_t)(uintptr_t)arena);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		bail("nobody told the victim to check");

	for (uint64_t off = 0; off < VICTIM_BYTES; off += sizeof(page)) {
		if (copy_out(got, own.memory + off, sizeof(got)))
			bail("cannot read the secret back");
		wrong += !!memcmp(got, page, sizeof(page));
	}
	ok(!wrong, "device memory is unharmed, %" PRIu64 " pages wrong", wrong);
	for (size_t i = 0; i < 65536; i++)
		wrong += arena[i] != SECRET[i % SECRET_LEN];
	ok(!wrong, "the arena is unharmed");
	ok(!ask(VGPU_MSG_cuStreamSynchronize, ctx, NULL, 0, 1, &own.handle[STREAM]), "the stream works");
	ok(!ask(VGPU_MSG_cuEventRecord, ctx, NULL, 0, 2, (uint64_t[]){ own.handle[EVENT], own.handle[STREAM] }) &&
	   !ask(VGPU_MSG_cuEventSynchronize, ctx, NULL, 0, 1, &own.handle[EVENT]), "the event works");
	ret = copy_out(&count, own.counter, sizeof(count));
	ok(!ret && count == (LAUNCHES + 1) / 2,
	   "nobody else launched the function: %" PRIu64, count);
	ok(!launch(ctx, own.handle[FUNCTION], own.handle[STREAM]) && !launch(ctx, own.handle[KERNEL], own.handle[STREAM]),
	   "function and kernel can be launched");
	ok(!ask(VGPU_MSG_cuCtxSynchronize, own.handle[CTX], NULL, 0, 0, NULL), "the context works");
	ok(!ask(VGPU_MSG_cuCtxSynchronize, ctx, NULL, 0, 0, NULL), "all work ends");
	probes_work(&own, false);
	probes_work(&own, true);
	ok(!ask(VGPU_MSG_cuMemFree_v2, ctx, NULL, 0, 1, &own.memory), "the memory can be freed");
	idm_client_close(client);
	return tap_done();
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "victim"))
		return victim();
	if (argc >= 2 && !strcmp(argv[1], "attacker"))
		return attacker(argc == 3 && !strcmp(argv[2], "neighbour"));
	if (argc == 2 && !strcmp(argv[1], "scavenger"))
		return scavenger();
	fprintf(stderr, "usage: isolation victim | attacker [neighbour] | scavenger\n");
	return 2;
}
