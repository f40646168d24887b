// SPDX-License-Identifier: Apache-2.0
/* Faults: the first one of a launch is described and ends it. */

#include <stdarg.h>
#include <stdio.h>

#include "exec.h"

static void describe(char *out, struct warp *w, const struct insn *in, unsigned int lane, const char *what)
{
	struct block *b = w->block;
	const uint32_t *tid = (const uint32_t *)w->base[BASE_WARP];
	char text[256];

	snprintf(text, sizeof(text), "kernel %s, block (%u,%u,%u), thread (%u,%u,%u), PTX line %u: %s",
		 b->launch->kernel->info.name, b->ctaid[0], b->ctaid[1], b->ctaid[2], tid[SW_TID_X * WARP + lane],
		 tid[SW_TID_Y * WARP + lane], tid[SW_TID_Z * WARP + lane], in ? in->line : 0, what);
	memcpy(out, text, sizeof(text));
}

void ptx_fault(struct warp *w, const struct insn *in, unsigned int lane, int code, const char *fmt, ...)
{
	struct launch *l = w->block->launch;
	char what[160];
	int none = 0;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (__atomic_compare_exchange_n(&l->error, &none, code, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) && l->fault)
		describe(l->fault, w, in, lane, what);
	__atomic_store_n(&l->stop, 1, __ATOMIC_SEQ_CST);
	longjmp(*w->block->fault, 1);
}

void fault_access(struct warp *w, const struct insn *in, unsigned int lane, uint64_t addr, unsigned int size,
		  const char *what)
{
	if (size && addr % size)
		ptx_fault(w, in, lane, FAULT_MISALIGNED, "%s of %u bytes at misaligned address 0x%llx", what, size,
			  (unsigned long long)addr);
	ptx_fault(w, in, lane, FAULT_ADDRESS, "%s of %u bytes at illegal address 0x%llx", what, size,
		  (unsigned long long)addr);
}
