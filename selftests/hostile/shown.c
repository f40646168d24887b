// SPDX-License-Identifier: Apache-2.0
/* Host memory that is mapped (VGPU_VMM_HOST): where it may not be, and more of it than there is. */
#include "hostile.h"

#define PAGE		4096ull
#define RESERVED	(64ull << 20)
#define SHOWN_MOST	4096u

static struct raw r;

static int vmm(uint16_t type, uint64_t address, uint64_t size, uint64_t offset, uint64_t flags)
{
	struct vgpu_vmm q = { .call = RAW_CALL, .address = address, .size = size, .offset = offset, .flags = flags };

	return raw_result(&r, type, &q, sizeof(q));
}

static int show(uint64_t address, uint64_t size, uint64_t offset)
{
	return vmm(VGPU_MSG_cuMemMap, address, size, offset, VGPU_VMM_HOST);
}

static int unshow(uint64_t address, uint64_t size)
{
	return vmm(VGPU_MSG_cuMemUnmap, address, size, 0, VGPU_VMM_HOST);
}

static uint64_t reserve(void)
{
	struct vgpu_vmm q = { .call = RAW_CALL, .size = RESERVED };
	struct vgpu_vmm_reply at = { 0 };
	struct idm_response rp;

	return raw_call(&r, VGPU_MSG_cuMemAddressReserve, &q, sizeof(q), &rp, &at, sizeof(at)) == 1 && !rp.cu_result ? at.value : 0;
}

/* Parts of the arena at addresses that were reserved: there, and nowhere else, and nothing but the arena. */
void attack_shown(void)
{
	struct vgpu_vmm create = { .call = RAW_CALL, .handle = MINE(MEMALLOC, 40), .size = 2ull << 20 };
	struct vgpu_vmm map = { .call = RAW_CALL, .handle = MINE(MEMALLOC, 40), .size = 2ull << 20 };
	struct vgpu_rq_cuMemFree_v2 free_mine = { .call = RAW_CALL };
	uint64_t at, other, size, mine;
	const int bad = CUDA_ERROR_INVALID_VALUE;
	unsigned int n = 0;
	bool good;

	if (!raw_open(&r, true) || !raw_use_arena(&r) || !raw_context(&r)) {
		report(false, "a session with an arena");
		return;
	}
	at = reserve();
	other = reserve();
	size = r.l.arena_size;
	mine = free_mine.dptr = raw_alloc(&r, PAGE);
	good = at && other && mine && size >= 2 * PAGE;
	good = good && show(at, 0, 0) == bad && show(at, size + PAGE, 0) == bad && show(at, PAGE, size) == bad &&
	       show(at, PAGE, 0 - PAGE) == bad && show(at, 0 - PAGE, PAGE) == bad && show(at, PAGE, PAGE / 2) == bad &&
	       show(at, PAGE / 2, 0) == bad && show(at + 64, PAGE, 0) == bad;
	report(good, "a part of the arena that there is not is not mapped");
	good = show(at - PAGE, PAGE, 0) == bad && show(at + RESERVED - PAGE, 2 * PAGE, 0) == bad && show(mine, PAGE, 0) == bad &&
	       show((uintptr_t)&good & ~(PAGE - 1), PAGE, 0) == bad && show(0, PAGE, 0) == bad && show(IDM_SLOT(0), PAGE, 0) == bad &&
	       show(neighbour_memory(), PAGE, 0) == bad;
	report(good, "nor is any where nothing was reserved");
	good = !show(at, 2 * PAGE, 0) && show(at, PAGE, 0) == bad && show(at + PAGE, PAGE, 0) == bad &&
	       unshow(at, PAGE) == bad && unshow(at + PAGE, PAGE) == bad && unshow(at, 3 * PAGE) == bad && unshow(other, PAGE) == bad &&
	       vmm(VGPU_MSG_cuMemUnmap, at, 2 * PAGE, 0, 0) == bad && vmm(VGPU_MSG_cuMemSetAccess, at, 2 * PAGE, 0, 3) == bad &&
	       vmm(VGPU_MSG_cuMemAddressFree, at, RESERVED, 0, 0) == bad;
	map.address = at + (2ull << 20);
	good = good && !raw_result(&r, VGPU_MSG_cuMemCreate, &create, sizeof(create)) && raw_result(&r, VGPU_MSG_cuMemMap, &map, sizeof(map)) == bad;
	map.address = other;
	good = good && !raw_result(&r, VGPU_MSG_cuMemMap, &map, sizeof(map)) && show(other + (2ull << 20), PAGE, 0) == CUDA_ERROR_NOT_SUPPORTED &&
	       unshow(other, 2ull << 20) == bad && !vmm(VGPU_MSG_cuMemUnmap, other, 2ull << 20, 0, 0);
	report(good, "a mapping is what it was when it was made, and beside the other kind there is none");
	while (n < SHOWN_MOST && !show(other + n * size, size, 0))
		n++;
	report(n && n < RESERVED / size && n < SHOWN_MOST, "one arena cannot be mapped without end: %u times", n);
	while (n && !unshow(other + (n - 1) * size, size))
		n--;
	good = !n && !unshow(at, 2 * PAGE) && unshow(at, 2 * PAGE) == bad && !vmm(VGPU_MSG_cuMemAddressFree, at, RESERVED, 0, 0) &&
	       show(at, PAGE, 0) == bad && !vmm(VGPU_MSG_cuMemAddressFree, other, RESERVED, 0, 0) &&
	       !raw_result(&r, VGPU_MSG_cuMemRelease, &create, sizeof(create)) && !raw_result(&r, VGPU_MSG_cuMemFree_v2, &free_mine, sizeof(free_mine));
	report(good, "unmapped, all of that can go");
	report(neighbour_well(), "the neighbour notices nothing");
	raw_close(&r);
}
