// SPDX-License-Identifier: Apache-2.0
#include "hostile.h"

#define BYTES 32768

static struct idm_client *client;
static uint64_t memory, stream = VGPU_HANDLE(0xabcdef, VGPU_H_STREAM, 40), event = VGPU_HANDLE(0xabcdef, VGPU_H_EVENT, 41);
static unsigned char pattern[BYTES];

uint64_t neighbour_stream(void)
{
	return stream;
}

uint64_t neighbour_event(void)
{
	return event;
}

uint64_t neighbour_memory(void)
{
	return memory;
}

static bool call(uint16_t type, const void *a, size_t alen, const void *b, size_t blen, void *reply, size_t cap)
{
	struct iovec iov[2] = { { (void *)a, alen }, { (void *)b, blen } };
	struct idm_pending p = { .reply = reply, .reply_cap = cap };

	if (idm_call(client, type, iov, b ? 2 : 1, &p)) {
		printf("# the neighbour's session is over: %s\n", idm_client_ended(client));
		return false;
	}
	if (!p.response.error && !p.response.latched)
		return true;
	printf("# the neighbour's call %#x failed: error %u, CUresult %d, latched %d\n", type, p.response.error,
	       p.response.cu_result, p.response.latched);
	return false;
}

static bool alloc(uint64_t size, uint64_t *out)
{
	struct vgpu_rq_cuMemAlloc_v2 q = { .call = RAW_CALL, .bytesize = size };
	struct vgpu_rp_cuMemAlloc_v2 rp;

	if (!call(VGPU_MSG_cuMemAlloc_v2, &q, sizeof(q), NULL, 0, &rp, sizeof(rp)))
		return false;
	*out = rp.dptr;
	return true;
}

static bool post(uint16_t type, const void *q, size_t len)
{
	struct iovec iov = { (void *)q, len };

	return !idm_post(client, type, &iov, 1);
}

bool neighbour_open(void)
{
	struct idm_client_params p = { .table_hash = VGPU_TABLE_HASH };
	struct vgpu_rq_cuDevicePrimaryCtxRetain retain = { .dev = 0 };
	struct vgpu_rq_cuStreamCreate s = { .call = RAW_CALL, .phStream = stream };
	struct vgpu_rq_cuEventCreate e = { .call = RAW_CALL, .phEvent = event };
	struct vgpu_copy_h2d c = { .call = RAW_CALL, .src = { VGPU_DATA_INLINE, BYTES } };
	struct idm_error err = { 0 };
	size_t i;

	if (idm_client_open(&client, &p, &err)) {
		printf("# the neighbour gets no session: %s\n", err.text);
		return false;
	}
	for (i = 0; i < BYTES; i++)
		pattern[i] = i * 7 + i / 256;
	if (!call(VGPU_MSG_cuDevicePrimaryCtxRetain, &retain, sizeof(retain), NULL, 0, NULL, 0) ||
	    !alloc(BYTES, &memory) || !post(VGPU_MSG_cuStreamCreate, &s, sizeof(s)) ||
	    !post(VGPU_MSG_cuEventCreate, &e, sizeof(e)))
		return false;
	c.dst = memory;
	return call(VGPU_MSG_cuMemcpyHtoD_v2, &c, sizeof(c), pattern, BYTES, NULL, 0) && neighbour_well();
}

/* Its data is there, its handles work, and it can get memory. */
bool neighbour_well(void)
{
	static unsigned char back[BYTES];
	struct vgpu_copy_d2h c = { .call = RAW_CALL, .src = memory, .dst = { VGPU_DATA_INLINE, BYTES } };
	struct vgpu_rq_cuEventRecord rec = { .call = RAW_CALL, .hEvent = event, .hStream = stream };
	struct vgpu_rq_cuEventSynchronize wait = { .call = RAW_CALL, .hEvent = event };
	struct vgpu_rq_cuMemFree_v2 f = { .call = RAW_CALL };

	if (!call(VGPU_MSG_cuMemcpyDtoH_v2, &c, sizeof(c), NULL, 0, back, sizeof(back)))
		return false;
	if (memcmp(back, pattern, BYTES)) {
		printf("# the neighbour's memory has changed\n");
		return false;
	}
	return alloc(4096, &f.dptr) && post(VGPU_MSG_cuMemFree_v2, &f, sizeof(f)) &&
	       post(VGPU_MSG_cuEventRecord, &rec, sizeof(rec)) &&
	       call(VGPU_MSG_cuEventSynchronize, &wait, sizeof(wait), NULL, 0, NULL, 0);
}
