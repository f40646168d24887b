// SPDX-License-Identifier: Apache-2.0
/* Handle tables: reserved address ranges of fixed-size slots. */
#include <string.h>
#include <sys/mman.h>

#include "array.h"
#include "graph.h"

#define TABLE(name, bytes, n, m, fresh)                                                                     \
	struct sg_table name = { .magic = (m), .size = (bytes), .max = (n), .reuse_after = (fresh),          \
				 .lock = PTHREAD_MUTEX_INITIALIZER }

/* A destroyed context may still be current in other threads, which are to be told: its slot is the last resort. */
TABLE(sg_ctx_table, 1024, 4096, 0x58544343, 4096);
TABLE(sg_stream_table, 512, 65536, 0x5254534d, 256);
TABLE(sg_event_table, 128, 1u << 20, 0x544e5645, 256);
TABLE(sg_library_table, 512, 65536, 0x5242494c, 256);
TABLE(sg_kernel_table, 256, 1u << 20, 0x4e52454b, 1024);
TABLE(sg_array_table, 256, 1u << 18, 0x59525241, 256);
TABLE(sg_mipmap_table, 512, 16384, 0x4d50494d, 64);
TABLE(sg_texture_table, 2048, 1u << 18, 0x52545854, 64);
TABLE(sg_texref_table, 512, 16384, 0x46455254, 64);
TABLE(sg_pool_table, 256, 4096, 0x4c4f4f50, 64);
TABLE(sg_graph_table, 128, 1u << 18, 0x48505247, 256);
TABLE(sg_node_table, 512, 1u << 20, 0x45444f4e, 4096);
TABLE(sg_exec_table, 128, 1u << 18, 0x43455845, 256);
TABLE(sg_green_table, 256, 4096, 0x4e524745, 64);
TABLE(sg_desc_table, 256, 65536, 0x43534544, 64);
TABLE(sg_user_table, 64, 1u << 20, 0x52455355, 256);

_Static_assert(sizeof(struct sg_ctx) <= 1024, "sg_ctx outgrew its slot");
_Static_assert(sizeof(struct sg_stream) <= 512, "sg_stream outgrew its slot");
_Static_assert(sizeof(struct sg_event) <= 128, "sg_event outgrew its slot");
_Static_assert(sizeof(struct sg_library) <= 512, "sg_library outgrew its slot");
_Static_assert(sizeof(struct sg_node) <= 512, "sg_node outgrew its slot");
_Static_assert(sizeof(struct sg_graph) <= 128, "sg_graph outgrew its slot");
_Static_assert(sizeof(struct sg_exec) <= 128, "sg_exec outgrew its slot");
_Static_assert(sizeof(struct sg_array) <= 256, "sg_array outgrew its slot");
_Static_assert(sizeof(struct sg_mipmap) <= 512, "sg_mipmap outgrew its slot");
_Static_assert(sizeof(struct sg_kernel) <= 256, "sg_kernel outgrew its slot");

static bool table_init(struct sg_table *t)
{
	void *p;

	if (t->base)
		return true;
	p = mmap(NULL, (size_t)t->size * t->max, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return false;
	t->base = p;
	return true;
}

bool sg_tables_init(void)
{
	return table_init(&sg_ctx_table) && table_init(&sg_stream_table) && table_init(&sg_event_table) &&
	       table_init(&sg_library_table) && table_init(&sg_kernel_table) && table_init(&sg_pool_table) &&
	       table_init(&sg_graph_table) && table_init(&sg_node_table) && table_init(&sg_exec_table) &&
	       table_init(&sg_user_table) &&
	       table_init(&sg_array_table) && table_init(&sg_mipmap_table) && table_init(&sg_texture_table) &&
	       table_init(&sg_texref_table) &&
	       table_init(&sg_green_table) && table_init(&sg_desc_table);
}

void *sg_object_new(struct sg_table *t)
{
	struct sg_object *o = NULL;
	uint32_t used;

	pthread_mutex_lock(&t->lock);
	used = atomic_load_explicit(&t->used, memory_order_relaxed);
	/* A slot is reused only after many others, so that a stale handle is usually seen to be stale. */
	if (t->free_head && used >= t->reuse_after) {
		o = t->free_head;
		t->free_head = o->next_free;
		if (!t->free_head)
			t->free_tail = NULL;
	} else if (used < t->max) {
		o = (struct sg_object *)(t->base + (size_t)used * t->size);
		atomic_store_explicit(&t->used, used + 1, memory_order_release);
	}
	pthread_mutex_unlock(&t->lock);
	if (!o)
		return NULL;
	/* sg_queue_sync_all() looks at slots whether or not they are taken. */
	atomic_store_explicit(&o->live, 0, memory_order_relaxed);
	memset((char *)o + sizeof(*o), 0, t->size - sizeof(*o));
	o->next_free = NULL;
	atomic_store_explicit(&o->refs, 1, memory_order_relaxed);
	return o;
}

void sg_object_put(struct sg_table *t, void *object)
{
	struct sg_object *o = object;

	if (atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (t->destroy)
		t->destroy(o);
	pthread_mutex_lock(&t->lock);
	o->next_free = NULL;
	if (t->free_tail)
		t->free_tail->next_free = o;
	else
		t->free_head = o;
	t->free_tail = o;
	pthread_mutex_unlock(&t->lock);
}
