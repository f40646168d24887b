// SPDX-License-Identifier: Apache-2.0
/* A heap for tests of the PTX half alone: the address range of the real one, allocations never shared or reused. */

#include <pthread.h>
#include <sys/mman.h>

#include "../../memory.h"
#include "../texture.h"

uint8_t *sg_heap_map;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t next = SG_HEAP_BASE;
static struct {
	uint64_t base, size;
} list[65536];
static unsigned int n;

static void __attribute__((constructor)) start(void)
{
	sg_heap_map = mmap(NULL, SG_HEAP_SIZE >> SG_PAGE_SHIFT, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	mmap((void *)SG_HEAP_BASE, SG_HEAP_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

uint64_t sg_heap_alloc(size_t size, size_t align)
{
	uint64_t at = 0, bytes = (size + 4095) & ~4095ull;

	pthread_mutex_lock(&lock);
	if (bytes < 1ull << 32 && next + bytes + (1 << 20) < SG_HEAP_BASE + SG_HEAP_SIZE && n < 65536) {
		at = (next + 65535) & ~65535ull;
		next = at + bytes + 8192;
		mprotect((void *)at, bytes, PROT_READ | PROT_WRITE);
		for (uint64_t i = 0; i < bytes; i += 4096)
			sg_heap_map[(at + i - SG_HEAP_BASE) >> SG_PAGE_SHIFT] = 1;
		list[n].base = at;
		list[n++].size = bytes;
	}
	pthread_mutex_unlock(&lock);
	return at;
}

size_t sg_heap_free(uint64_t addr)
{
	size_t size = 0;

	pthread_mutex_lock(&lock);
	for (unsigned int i = n; i--;)
		if (list[i].base == addr) {
			size = list[i].size;
			for (uint64_t k = 0; k < size; k += 4096)
				sg_heap_map[(addr + k - SG_HEAP_BASE) >> SG_PAGE_SHIFT] = 0;
			mmap((void *)addr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
			if (addr + size + 8192 == next)
				next = addr;
			list[i] = list[--n];
			break;
		}
	pthread_mutex_unlock(&lock);
	return size;
}

bool sg_heap_lookup(uint64_t addr, uint64_t *base, size_t *size)
{
	for (unsigned int i = 0; i < n; i++)
		if (addr - list[i].base < list[i].size) {
			*base = list[i].base;
			*size = list[i].size;
			return true;
		}
	return false;
}

bool sg_host_ok(uint64_t addr, size_t len)
{
	return false;
}

const struct ptx_texture *sg_texture_find(uint64_t handle, bool surface)
{
	return NULL;
}
