// SPDX-License-Identifier: Apache-2.0
/* What the operations in a stream do, on whichever thread executes the stream. */
#include <string.h>

#include "share.h"

void sg_do_copy(const struct sg_copy2d *c)
{
	for (size_t z = 0; z < c->depth; z++) {
		char *dst = c->dst + z * c->dst_slice;
		const char *src = c->src + z * c->src_slice;

		if (c->dst_pitch == c->width && c->src_pitch == c->width) {
			memmove(dst, src, c->width * c->height);
			continue;
		}
		for (size_t y = 0; y < c->height; y++)
			memmove(dst + y * c->dst_pitch, src + y * c->src_pitch, c->width);
	}
}

static void set_row(char *dst, size_t n, uint32_t value, uint32_t element)
{
	switch (element) {
	case 1:
		memset(dst, (int)value, n);
		break;
	case 2:
		for (size_t i = 0; i < n; i++)
			((uint16_t *)dst)[i] = (uint16_t)value;
		break;
	default:
		for (size_t i = 0; i < n; i++)
			((uint32_t *)dst)[i] = value;
		break;
	}
}

void sg_do_set(const struct sg_set *set)
{
	uint32_t element = set->element, value = set->value;
	size_t width = set->width;

	/* All bytes alike: memset is several times faster. */
	if (element == 2 && (value & 0xff) == (value >> 8 & 0xff)) {
		element = 1;
		width *= 2;
	} else if (element == 4 && value == (value & 0xff) * 0x01010101u) {
		element = 1;
		width *= 4;
	}
	for (size_t y = 0; y < set->height; y++)
		set_row(set->dst + y * set->pitch, width, value, element);
}

static uint64_t allocate(void *ctx, uint64_t size)
{
	return sg_kernel_malloc(ctx, size);
}

static bool release(void *ctx, uint64_t addr)
{
	return sg_kernel_free(ctx, addr);
}

static void launch(struct sg_stream *s, struct sg_op *op)
{
	char fault[256] = "";
	struct ptx_launch l = {
		.grid = { op->u.launch.grid[0], op->u.launch.grid[1], op->u.launch.grid[2] },
		.block = { op->u.launch.block[0], op->u.launch.block[1], op->u.launch.block[2] },
		.dynamic_shared = op->u.launch.shared,
		.cooperative = op->u.launch.cooperative,
		.params = op + 1,
		.print = sg_print,
		.allocate = allocate,
		.release = release,
		.opaque = s->ctx,
	};
	int err;

	sg_heap_kernel_begin();
	err = ptx_launch(op->u.launch.kernel, &l, fault);
	sg_heap_kernel_end();
	if (err)
		sg_ctx_fault(s->ctx, (CUresult)err, fault);
}

static void record(struct sg_op *op)
{
	struct sg_event *ev = op->u.event.event;

	if (unlikely(ev->shared)) {
		sg_shared_event_reached(ev, op->u.event.generation);
		sg_object_put(&sg_event_table, ev);
		return;
	}
	pthread_mutex_lock(&ev->lock);
	/* Recorded anew meanwhile: that record's time counts. */
	if (ev->generation == op->u.event.generation)
		atomic_store_explicit(&ev->time, sg_now(), memory_order_relaxed);
	pthread_mutex_unlock(&ev->lock);
	sg_object_put(&sg_event_table, ev);
}

static bool poll_done(const struct sg_op *op)
{
	uint64_t value = op->u.write.value, now;
	bool wide = op->u.write.size == 8;

	now = wide ? __atomic_load_n((uint64_t *)op->u.write.addr, __ATOMIC_ACQUIRE) :
		     __atomic_load_n((uint32_t *)op->u.write.addr, __ATOMIC_ACQUIRE);
	switch (op->u.write.condition & 3) {
	case CU_STREAM_WAIT_VALUE_GEQ:	/* cyclic */
		return wide ? (int64_t)(now - value) >= 0 : (int32_t)(uint32_t)(now - value) >= 0;
	case CU_STREAM_WAIT_VALUE_EQ:
		return now == value;
	case CU_STREAM_WAIT_VALUE_AND:
		return now & value;
	default:
		return wide ? ~(now | value) != 0 : (uint32_t)~(now | value) != 0;
	}
}

/* A stream that waits for a value in memory: what changes it, a copy, a kernel or the program, does not tell. */
static void poll_value(struct sg_stream *s, const struct sg_op *op)
{
	struct timespec nap = { .tv_nsec = 20000 };

	while (!poll_done(op) && !atomic_load(&s->ctx->fault))
		nanosleep(&nap, NULL);
}

void sg_execute(struct sg_stream *s, struct sg_op *op)
{
	int fault = atomic_load_explicit(&s->ctx->fault, memory_order_relaxed);

	if (unlikely(fault) && op->type > SG_OP_CALLBACK && op->type != SG_OP_AWAIT)
		return;
	switch (op->type) {
	case SG_OP_LAUNCH:
		launch(s, op);
		break;
	case SG_OP_COPY:
		sg_do_copy(&op->u.copy);
		break;
	case SG_OP_SET:
		sg_do_set(&op->u.set);
		break;
	case SG_OP_EVENT:
		record(op);
		break;
	case SG_OP_FREE:
		sg_heap_free_id(op->u.free.addr, op->u.free.id);
		break;
	case SG_OP_WRITE:
		if (op->u.write.size == 4)
			__atomic_store_n((uint32_t *)op->u.write.addr, (uint32_t)op->u.write.value, __ATOMIC_RELEASE);
		else
			__atomic_store_n((uint64_t *)op->u.write.addr, op->u.write.value, __ATOMIC_RELEASE);
		break;
	case SG_OP_CALL:
	case SG_OP_RELEASE:
		op->u.call.fn(s, op->u.call.arg);
		break;
	case SG_OP_POLL:
		poll_value(s, op);
		break;
	case SG_OP_AWAIT:
		sg_shared_event_await(s, op);
		break;
	case SG_OP_HOST:
	case SG_OP_CALLBACK:
		sg_print_flush();
		sg_tls.in_callback = true;
		if (op->type == SG_OP_HOST)
			op->u.host.fn(op->u.host.data);
		else
			op->u.host.callback(op->u.host.handle, (CUresult)fault, op->u.host.data);
		sg_tls.in_callback = false;
		break;
	}
}
