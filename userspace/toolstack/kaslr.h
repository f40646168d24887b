/* SPDX-License-Identifier: Apache-2.0 */
/* A pod's kernel at a random address; see kaslr.c. */
#ifndef KASLR_H
#define KASLR_H

#include "vgpuxl.h"

/**
 * kaslr_kernel() - choose an address for a domain's kernel
 * @path:    the kernel; it can be moved if PATH.relocs is beside it, else it is taken as it is
 * @cmdline: the domain's; with the word nokaslr in it nothing is moved. May be NULL
 * @memory:  the domain's, in bytes
 * @ramdisk: size of its ramdisk, in bytes
 * @fd:      a copy of the kernel in memory, linked for its new address, the caller's to close; -1: take @path itself
 *
 * Return: 0, or -errno with @e complete (-ENOEXEC: kernel and relocations do not belong together).
 */
int kaslr_kernel(const char *path, const char *cmdline, uint64_t memory, uint64_t ramdisk, int *fd, struct vgpuxl_error *e);

/** kaslr_move() - the same with a @distance that is chosen: a multiple of 2 MiB */
int kaslr_move(const char *path, uint64_t distance, int *fd, struct vgpuxl_error *e);

#endif /* KASLR_H */
