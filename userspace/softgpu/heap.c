// SPDX-License-Identifier: Apache-2.0
/*
 * Device memory (memory.h). The whole range is mapped once, so that nothing a kernel does can fault this process;
 * which pages are allocated stands in sg_heap_map alone.
 *
 * Space is handed out in pages. Blocks of up to BIN_PAGES pages are kept in bins of equal size when freed, larger
 * ones merge with their free neighbours and give their pages back to the system. Memory reads as zero when it is
 * allocated: a block that nothing can have written since it was last zero is not zeroed again.
 */
#include <string.h>
#include <sys/mman.h>

#include "share.h"

#define PAGE		(1ul << SG_PAGE_SHIFT)
#define PAGES		((uint32_t)(SG_HEAP_SIZE >> SG_PAGE_SHIFT))
#define BLOCKS		(4u << 20)
#define BIN_PAGES	256u		/* 1 MiB */
#define HUGE_PAGES	512u
#define DIRTY_MAX	(64ul << 20)	/* unused memory in bins that is not given back */
#define CLASSES		128

enum { BLOCK_NONE, BLOCK_LIVE, BLOCK_CACHED, BLOCK_FREE, BLOCK_RESERVED, BLOCK_HOLE };

/** struct block - a run of pages. Index 0 is no block. @next, @prev link it in its bin or class. */
struct block {
	uint32_t start, pages, next, prev;
	uint64_t size;
	uint64_t id;
	uint64_t epoch;		/* kernels started before it was allocated */
	struct sg_ctx *ctx;
	void *pool;		/* mempool.c: told when it is freed */
	uint8_t state, dirty, flags, device;
};

uint8_t *sg_heap_map;

static uint32_t *page_block;	/* for every page of a live block, and the first and last one of any other */
static struct block *blocks;
static uint32_t nblocks = 1, holes, spare;		/* never used before, and list of given back */
static uint32_t bin_clean[BIN_PAGES + 1], bin_dirty[BIN_PAGES + 1];
static uint32_t class_head[CLASSES];
static uint64_t class_map[2];
static uint64_t dirty_bytes, next_id;
static uint64_t used[SG_DEVICES_MAX], limit_bytes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t kernels_started;
static _Atomic uint32_t kernels_running;

static char *page_address(uint32_t page)
{
	return (char *)(SG_HEAP_BASE + ((uint64_t)page << SG_PAGE_SHIFT));
}

/* Free extents by size: four classes per power of two. */
static unsigned int class_of(uint32_t pages)
{
	unsigned int log = 31 - (unsigned int)__builtin_clz(pages);

	return log * 4 + (log >= 2 ? (pages >> (log - 2)) & 3 : 0);
}

static void class_add(uint32_t i)
{
	struct block *b = &blocks[i];
	unsigned int c = class_of(b->pages);

	b->state = BLOCK_FREE;
	b->prev = 0;
	b->next = class_head[c];
	if (b->next)
		blocks[b->next].prev = i;
	class_head[c] = i;
	class_map[c / 64] |= 1ull << (c % 64);
	page_block[b->start] = i;
	page_block[b->start + b->pages - 1] = i;
}

static void class_remove(uint32_t i)
{
	struct block *b = &blocks[i];
	unsigned int c = class_of(b->pages);

	if (b->next)
		blocks[b->next].prev = b->prev;
	if (b->prev)
		blocks[b->prev].next = b->next;
	else
		class_head[c] = b->next;
	if (!class_head[c])
		class_map[c / 64] &= ~(1ull << (c % 64));
}

static uint32_t block_new(void)
{
	uint32_t i = spare;

	if (i)
		spare = blocks[i].next;
	else if (nblocks < BLOCKS)
		i = nblocks++;
	return i;
}

static void block_drop(uint32_t i)
{
	blocks[i].state = BLOCK_NONE;
	blocks[i].next = spare;
	spare = i;
}

/* Give block @i, all zero, back to the free extents and merge it with its neighbours. */
static void extent_put(uint32_t i)
{
	struct block *b = &blocks[i];
	uint32_t n;

	n = b->start ? page_block[b->start - 1] : 0;
	if (n && blocks[n].state == BLOCK_FREE && blocks[n].start + blocks[n].pages == b->start) {
		class_remove(n);
		b->start = blocks[n].start;
		b->pages += blocks[n].pages;
		block_drop(n);
	}
	n = b->start + b->pages < PAGES ? page_block[b->start + b->pages] : 0;
	if (n && blocks[n].state == BLOCK_FREE && blocks[n].start == b->start + b->pages) {
		class_remove(n);
		b->pages += blocks[n].pages;
		block_drop(n);
	}
	class_add(i);
}

/* Cut [start, start + pages) out of extent @i, which has been taken off its list. */
static uint32_t extent_cut(uint32_t i, uint32_t start, uint32_t pages)
{
	struct block *b = &blocks[i];
	uint32_t front = start - b->start, back = b->pages - front - pages, n;

	if (front) {
		n = block_new();
		if (!n) {
			class_add(i);
			return 0;
		}
		blocks[n] = (struct block){ .start = b->start, .pages = front };
		b->start = start;
		b->pages -= front;
		class_add(n);
	}
	if (back) {
		n = block_new();
		if (!n) {
			extent_put(i);
			return 0;
		}
		blocks[n] = (struct block){ .start = start + pages, .pages = back };
		b->pages = pages;
		class_add(n);
	}
	return i;
}

static uint32_t extent_fit(uint32_t i, uint32_t pages, uint32_t align)
{
	uint32_t start = (blocks[i].start + align - 1) & ~(align - 1);

	if (start - blocks[i].start + (uint64_t)pages > blocks[i].pages)
		return 0;
	class_remove(i);
	return extent_cut(i, start, pages);
}

static uint32_t extent_get(uint32_t pages, uint32_t align)
{
	unsigned int c = class_of(pages);
	uint32_t i, r;

	for (; c < CLASSES; c++) {
		if (!(class_map[c / 64] >> (c % 64) & 1))
			continue;
		/* In higher classes without alignment the first fits; otherwise look along the list. */
		for (i = class_head[c]; i; i = blocks[i].next) {
			r = extent_fit(i, pages, align);
			if (r)
				return r;
		}
	}
	return 0;
}

/* The extent that begins at @start, if there is one of so many pages. */
static uint32_t extent_at(uint32_t start, uint32_t pages)
{
	uint32_t i = start < PAGES ? page_block[start] : 0;

	if (!i || blocks[i].state != BLOCK_FREE || blocks[i].start != start || blocks[i].pages < pages)
		return 0;
	class_remove(i);
	return extent_cut(i, start, pages);
}

/* A shared block's pages become private again, and zero: what other processes have is theirs. */
static void make_private(struct block *b)
{
	void *at = page_address(b->start);
	size_t bytes = (size_t)b->pages << SG_PAGE_SHIFT;

	mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	madvise(at, bytes, MADV_HUGEPAGE);
	madvise(at, bytes, MADV_DONTDUMP);
}

/*
 * Addresses that were reserved once: nothing is mapped there, as with NVIDIA's driver, and a program may put memory of its
 * own there. They are the heap's again where it has not.
 */
static void holes_fill(void)
{
	uint32_t *at = &holes, i;

	while ((i = *at)) {
		struct block *b = &blocks[i];
		void *want = page_address(b->start);
		void *got = mmap(want, (size_t)b->pages << SG_PAGE_SHIFT, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

		if (got != want) {
			if (got != MAP_FAILED)
				munmap(got, (size_t)b->pages << SG_PAGE_SHIFT);
			at = &b->next;
			continue;
		}
		*at = b->next;
		madvise(want, (size_t)b->pages << SG_PAGE_SHIFT, MADV_HUGEPAGE);
		madvise(want, (size_t)b->pages << SG_PAGE_SHIFT, MADV_DONTDUMP);
		extent_put(i);
	}
}

/* Make @b's pages zero by handing them back to the system. */
static void give_back(struct block *b)
{
	madvise(page_address(b->start), (size_t)b->pages << SG_PAGE_SHIFT, MADV_DONTNEED);
}

static void bins_flush(void)
{
	for (uint32_t n = 1; n <= BIN_PAGES; n++) {
		while (bin_clean[n]) {
			uint32_t i = bin_clean[n];

			bin_clean[n] = blocks[i].next;
			extent_put(i);
		}
		while (bin_dirty[n]) {
			uint32_t i = bin_dirty[n];

			bin_dirty[n] = blocks[i].next;
			give_back(&blocks[i]);
			extent_put(i);
		}
	}
	dirty_bytes = 0;
}

bool sg_heap_init(int devices, uint64_t limit)
{
	uint32_t i;

	if (sg_heap_map)
		return true;
	if (mmap((void *)SG_HEAP_BASE, SG_HEAP_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != (void *)SG_HEAP_BASE)
		return false;
	madvise((void *)SG_HEAP_BASE, SG_HEAP_SIZE, MADV_HUGEPAGE);
	madvise((void *)SG_HEAP_BASE, SG_HEAP_SIZE, MADV_DONTDUMP);
	page_block = mmap(NULL, PAGES * sizeof(*page_block) + (size_t)BLOCKS * sizeof(*blocks) + PAGES,
			  PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (page_block == MAP_FAILED)
		return false;
	blocks = (struct block *)(page_block + PAGES);
	limit_bytes = limit;
	i = block_new();
	/* Neither first nor last page is ever used, so that an access beside an allocation has room to be refused. */
	blocks[i] = (struct block){ .start = 1, .pages = PAGES - 2 };
	class_add(i);
	sg_heap_map = (uint8_t *)(blocks + BLOCKS);
	return true;
}

uint64_t sg_heap_alloc_on(int device, struct sg_ctx *ctx, size_t size, size_t align, unsigned int flags)
{
	uint32_t pages, i, align_pages = 1;
	struct block *b;
	bool zero = false;

	if (!size || size > SG_HEAP_SIZE || align > ((size_t)HUGE_PAGES << SG_PAGE_SHIFT))
		return 0;
	pages = (uint32_t)((size + PAGE - 1) >> SG_PAGE_SHIFT);
	if (align > PAGE)
		align_pages = (uint32_t)(align >> SG_PAGE_SHIFT);
	if (pages >= HUGE_PAGES)
		align_pages = HUGE_PAGES;

	pthread_mutex_lock(&lock);
	if (((uint64_t)pages << SG_PAGE_SHIFT) > limit_bytes - used[device]) {
		pthread_mutex_unlock(&lock);
		return 0;
	}
	i = 0;
	if (pages <= BIN_PAGES && align_pages == 1) {
		if ((i = bin_clean[pages])) {
			bin_clean[pages] = blocks[i].next;
		} else if ((i = bin_dirty[pages])) {
			bin_dirty[pages] = blocks[i].next;
			dirty_bytes -= (uint64_t)pages << SG_PAGE_SHIFT;
			zero = true;
		}
	}
	if (!i && !(i = extent_get(pages, align_pages))) {
		bins_flush();
		holes_fill();
		i = extent_get(pages, align_pages);
		if (!i) {
			pthread_mutex_unlock(&lock);
			return 0;
		}
	}
	used[device] += (uint64_t)pages << SG_PAGE_SHIFT;
	b = &blocks[i];
	b->size = size;
	b->state = BLOCK_LIVE;
	b->device = (uint8_t)device;
	b->flags = (uint8_t)flags;
	b->dirty = !!(flags & (SG_ALLOC_WRITTEN | SG_ALLOC_MANAGED));
	b->ctx = ctx;
	b->pool = NULL;
	b->id = ++next_id;
	b->epoch = atomic_load(&kernels_running) ? UINT64_MAX : atomic_load(&kernels_started);
	for (uint32_t p = 0; p < pages; p++)
		page_block[b->start + p] = i;
	if (zero)
		memset(page_address(b->start), 0, (size_t)pages << SG_PAGE_SHIFT);
	atomic_thread_fence(memory_order_release);
	memset(sg_heap_map + b->start, 1, pages);
	pthread_mutex_unlock(&lock);
	return (uint64_t)page_address(b->start);
}

/* The block whose pages include @addr; valid as long as the caller's allocation is. */
static struct block *find(uint64_t addr)
{
	uint64_t off = addr - SG_HEAP_BASE;

	if (off >= SG_HEAP_SIZE || !sg_heap_map || !sg_heap_map[off >> SG_PAGE_SHIFT])
		return NULL;
	return &blocks[page_block[off >> SG_PAGE_SHIFT]];
}

static size_t free_locked(uint64_t addr)
{
	struct block *b = find(addr);
	size_t size, bytes;
	uint32_t i;
	bool dirty;

	if (!b || b->state != BLOCK_LIVE || (uint64_t)page_address(b->start) != addr)
		return 0;
	i = (uint32_t)(b - blocks);
	size = b->size;
	bytes = (size_t)b->pages << SG_PAGE_SHIFT;
	memset(sg_heap_map + b->start, 0, b->pages);
	if (!(b->flags & SG_ALLOC_IMPORTED))
		used[b->device] -= bytes;
	if (b->pool)
		used[b->device] += sg_pool_freed(b->pool, bytes);
	b->pool = NULL;
	dirty = b->dirty || b->epoch != atomic_load(&kernels_started);
	if (b->flags & (SG_ALLOC_SHARED | SG_ALLOC_IMPORTED)) {
		make_private(b);
		sg_ipc_freed(addr);
		dirty = false;
	}
	if (b->pages <= BIN_PAGES) {
		if (dirty && dirty_bytes + bytes > DIRTY_MAX) {
			give_back(b);
			dirty = false;
		}
		b->state = BLOCK_CACHED;
		b->next = dirty ? bin_dirty[b->pages] : bin_clean[b->pages];
		*(dirty ? &bin_dirty[b->pages] : &bin_clean[b->pages]) = i;
		if (dirty)
			dirty_bytes += bytes;
	} else {
		if (dirty)
			give_back(b);
		extent_put(i);
	}
	return size;
}

size_t sg_heap_free(uint64_t addr)
{
	size_t size;

	pthread_mutex_lock(&lock);
	size = free_locked(addr);
	pthread_mutex_unlock(&lock);
	return size;
}

uint64_t sg_heap_freeing(uint64_t addr)
{
	uint64_t id = 0;
	struct block *b;

	pthread_mutex_lock(&lock);
	b = find(addr);
	if (b && b->state == BLOCK_LIVE && (uint64_t)page_address(b->start) == addr && !(b->flags & SG_ALLOC_FREEING)) {
		b->flags |= SG_ALLOC_FREEING;
		id = b->id;
	}
	pthread_mutex_unlock(&lock);
	return id;
}

void sg_heap_free_id(uint64_t addr, uint64_t id)
{
	struct block *b;

	pthread_mutex_lock(&lock);
	b = find(addr);
	if (b && b->id == id)
		free_locked(addr);
	pthread_mutex_unlock(&lock);
}

/* --- memory of several processes ------------------------------------------------------------------------------------ */

CUresult sg_heap_share(uint64_t addr, int fd)
{
	CUresult e = CUDA_ERROR_INVALID_VALUE;
	struct block *b;

	pthread_mutex_lock(&lock);
	b = find(addr);
	if (b && b->state == BLOCK_LIVE && (uint64_t)page_address(b->start) == addr &&
	    !(b->flags & (SG_ALLOC_SHARED | SG_ALLOC_IMPORTED | SG_ALLOC_MANAGED))) {
		/* Also if it fails half-way: some of its pages are the file's then. */
		b->flags |= SG_ALLOC_SHARED;
		e = sg_move_to_file((void *)addr, (size_t)b->pages << SG_PAGE_SHIFT, fd) ? CUDA_SUCCESS :
			CUDA_ERROR_OUT_OF_MEMORY;
	}
	pthread_mutex_unlock(&lock);
	return e;
}

uint64_t sg_heap_import(int device, struct sg_ctx *ctx, size_t size, int fd, unsigned int flags)
{
	const size_t huge = (size_t)HUGE_PAGES << SG_PAGE_SHIFT;
	uint64_t at = sg_heap_reserve(size, size >= huge ? huge : PAGE, 0);
	struct block *b;

	if (!at)
		return 0;
	b = &blocks[page_block[(at - SG_HEAP_BASE) >> SG_PAGE_SHIFT]];
	if (mmap((void *)at, (size_t)b->pages << SG_PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED) {
		sg_heap_unreserve(at);
		return 0;
	}
	pthread_mutex_lock(&lock);
	b->state = BLOCK_LIVE;
	b->device = (uint8_t)device;
	b->flags = (uint8_t)(flags | SG_ALLOC_IMPORTED);
	b->ctx = ctx;
	b->pool = NULL;
	atomic_thread_fence(memory_order_release);
	memset(sg_heap_map + b->start, 1, b->pages);
	pthread_mutex_unlock(&lock);
	return at;
}

/* Addresses without memory: vmm.c maps some there, and says which pages may be used. */
uint64_t sg_heap_reserve(size_t size, size_t align, uint64_t hint)
{
	uint32_t pages, i = 0;
	struct block *b;

	if (!size || size > SG_HEAP_SIZE || align > SG_HEAP_SIZE / 2)
		return 0;
	pages = (uint32_t)((size + PAGE - 1) >> SG_PAGE_SHIFT);
	pthread_mutex_lock(&lock);
	holes_fill();
	if (sg_in_heap(hint) && !(hint & (align - 1)))
		i = extent_at((uint32_t)((hint - SG_HEAP_BASE) >> SG_PAGE_SHIFT), pages);
	if (!i)
		i = extent_get(pages, (uint32_t)(align >> SG_PAGE_SHIFT));
	if (!i) {
		bins_flush();
		i = extent_get(pages, (uint32_t)(align >> SG_PAGE_SHIFT));
	}
	if (!i) {
		pthread_mutex_unlock(&lock);
		return 0;
	}
	b = &blocks[i];
	b->size = size;
	b->state = BLOCK_RESERVED;
	b->device = 0;
	b->flags = 0;
	b->dirty = 1;
	b->ctx = NULL;
	b->id = ++next_id;
	for (uint32_t p = 0; p < pages; p++)
		page_block[b->start + p] = i;
	pthread_mutex_unlock(&lock);
	return (uint64_t)page_address(b->start);
}

void sg_heap_unreserve(uint64_t addr)
{
	uint32_t i = page_block[(addr - SG_HEAP_BASE) >> SG_PAGE_SHIFT];
	struct block *b = &blocks[i];

	pthread_mutex_lock(&lock);
	munmap(page_address(b->start), (size_t)b->pages << SG_PAGE_SHIFT);
	b->state = BLOCK_HOLE;
	b->next = holes;
	holes = i;
	pthread_mutex_unlock(&lock);
}

bool sg_heap_hole(uint64_t addr, size_t size)
{
	uint64_t off = addr - SG_HEAP_BASE;
	struct block *b;
	bool hole;

	if (off >= SG_HEAP_SIZE || !sg_heap_map)
		return false;
	pthread_mutex_lock(&lock);
	b = &blocks[page_block[off >> SG_PAGE_SHIFT]];
	off -= (uint64_t)b->start << SG_PAGE_SHIFT;
	hole = b->state == BLOCK_HOLE && off < (uint64_t)b->pages << SG_PAGE_SHIFT &&
	       size <= ((uint64_t)b->pages << SG_PAGE_SHIFT) - off;
	pthread_mutex_unlock(&lock);
	return hole;
}

void sg_heap_access(uint64_t addr, size_t size, bool allowed)
{
	memset(sg_heap_map + ((addr - SG_HEAP_BASE) >> SG_PAGE_SHIFT), allowed, size >> SG_PAGE_SHIFT);
}

void sg_heap_free_ctx(struct sg_ctx *ctx)
{
	pthread_mutex_lock(&lock);
	for (uint32_t i = 1; i < nblocks; i++)
		if (blocks[i].state == BLOCK_LIVE && blocks[i].ctx == ctx)
			free_locked((uint64_t)page_address(blocks[i].start));
	pthread_mutex_unlock(&lock);
}

void sg_heap_set_pool(uint64_t addr, void *pool)
{
	find(addr)->pool = pool;
}

void sg_heap_set_sync(uint64_t addr, bool on)
{
	struct block *b = find(addr);

	if (b && on)
		b->flags |= SG_ALLOC_SYNC;
	else if (b)
		b->flags &= (uint8_t)~SG_ALLOC_SYNC;
}

void sg_heap_hold(int device, int64_t bytes)
{
	pthread_mutex_lock(&lock);
	used[device] += (uint64_t)bytes;
	pthread_mutex_unlock(&lock);
}

/* For ptx/: module variables, on the device of the calling thread's context. */
uint64_t sg_heap_alloc(size_t size, size_t align)
{
	return sg_heap_alloc_on(sg_tls.ctx ? sg_tls.ctx->device : 0, NULL, size, align, SG_ALLOC_WRITTEN);
}

bool sg_heap_info(uint64_t addr, struct sg_allocation *a)
{
	struct block *b = find(addr);

	if (!b || (b->state != BLOCK_LIVE && b->state != BLOCK_RESERVED))
		return false;
	a->base = (uint64_t)page_address(b->start);
	a->size = b->size;
	a->id = b->id;
	a->ctx = b->ctx;
	a->pool = b->state == BLOCK_LIVE ? b->pool : NULL;
	a->reserved = b->state == BLOCK_RESERVED;
	a->flags = b->flags;
	a->device = b->device;
	return addr - a->base < a->size;
}

bool sg_heap_lookup(uint64_t addr, uint64_t *base, size_t *size)
{
	struct sg_allocation a;

	if (!sg_heap_info(addr, &a))
		return false;
	*base = a.base;
	*size = a.size;
	return true;
}

bool sg_heap_range(uint64_t addr, size_t len, bool write)
{
	struct block *b = find(addr);
	uint64_t off;

	if (!b)
		return false;
	if (b->state == BLOCK_HOLE)
		return sg_host_range(addr, len);
	off = addr - (uint64_t)page_address(b->start);
	/* Reserved addresses may go on where others end. */
	if (b->state == BLOCK_RESERVED && off < b->size && len > b->size - off) {
		if (!sg_heap_range(addr + (b->size - off), len - (b->size - off), write))
			return false;
		len = b->size - off;
	}
	if (off > b->size || len > b->size - off)
		return false;
	/* Of reserved addresses only some may have memory. */
	if (b->state == BLOCK_RESERVED && len &&
	    memchr(sg_heap_map + ((addr - SG_HEAP_BASE) >> SG_PAGE_SHIFT), 0,
		   ((addr + len - 1 - SG_HEAP_BASE) >> SG_PAGE_SHIFT) - ((addr - SG_HEAP_BASE) >> SG_PAGE_SHIFT) + 1))
		return false;
	if (write && !b->dirty)
		b->dirty = 1;
	return true;
}

void sg_heap_usage(int device, uint64_t *free, uint64_t *total)
{
	pthread_mutex_lock(&lock);
	*total = limit_bytes;
	*free = limit_bytes - used[device];
	pthread_mutex_unlock(&lock);
}

void sg_heap_kernel_begin(void)
{
	atomic_fetch_add(&kernels_running, 1);
	atomic_fetch_add(&kernels_started, 1);
}

void sg_heap_kernel_end(void)
{
	atomic_fetch_sub(&kernels_running, 1);
}
