// SPDX-License-Identifier: Apache-2.0
/* Where a PVH domain starts: the registers are as Xen's docs/misc/pvh.pandoc says, %ebx is the address of struct hvm_start_info. */
#include <cpuid.h>

#include "move.h"

#define RDRAND_TRIES	10

/* Told by join when it links this. */
extern char kernel_start[], kernel_end[], kernel_entry[];
extern const int32_t relocs[], relocs_end[];

uint32_t enter(const struct hvm_start_info *info);

__asm__(".pushsection .head, \"ax\"\n"
	".globl _start\n"
	"_start:\n"
	"	cld\n"
	"	movl	$stack_end, %esp\n"
	"	pushl	%ebx\n"
	"	call	enter\n"
	"	popl	%ebx\n"
	"	jmp	*%eax\n"
	".popsection\n"
	".pushsection .rodata\n"
	".balign	4\n"
	".globl relocs, relocs_end\n"
	"relocs:\n"
	"	.incbin	\"" RELOCS "\"\n"
	"relocs_end:\n"
	".popsection\n"
	".pushsection .bss\n"
	"	.skip	4096\n"
	"stack_end:\n"
	".popsection\n");

/* The processor's random numbers if it has any, and the time, as the kernel's own decompressor takes them. */
static uint32_t random_number(void)
{
	uint32_t a, b, c = 0, d, n = 0;
	unsigned char good = 0;

	__asm__ volatile("rdtsc" : "=a"(a), "=d"(d));
	n = (a ^ d) * 0x9e3779b1u;
	if (__get_cpuid(1, &a, &b, &c, &d) && c & bit_RDRND)
		for (int i = 0; i < RDRAND_TRIES && !good; i++)
			__asm__ volatile("rdrand %0; setc %1" : "=r"(a), "=qm"(good) : : "cc");
	return good ? n ^ a : n;
}

uint32_t enter(const struct hvm_start_info *info)
{
	struct moving k = { (uint32_t)kernel_start, (uint32_t)kernel_end, (uint32_t)kernel_entry, relocs, relocs_end,
			    random_number() };

	return move_kernel(&k, info);
}
