/* SPDX-License-Identifier: Apache-2.0 */
/* A PVH guest that does nothing but triple-fault: what QEMU's emulation makes of others now and then. */
	.section .note.Xen, "a", @note
	.long	4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.long	start

	.text
	.code32
	.globl	start
start:	lidt	nothing
	int3

	.data
nothing:
	.word	0
	.long	0
