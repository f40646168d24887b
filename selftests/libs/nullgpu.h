/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The null GPU: a CUDA driver library that accepts everything and computes nothing. NVIDIA's libraries run on it from
 * their creation to the last launch, so that what the shim makes of their calls can be counted and tested without a GPU.
 *
 *	nullgpu.c	the driver API, as far as a worker calls it
 *	gen_null.py	makes the answers to all other calls of it: yes
 *	device.c	what it says it is
 *	cubin.c, ptx.c	the one thing it reads: names and parameters of kernels, in the code it is given
 */
#ifndef NULLGPU_H
#define NULLGPU_H

#ifndef __CUDA_API_VERSION_INTERNAL
#define __CUDA_API_VERSION_INTERNAL
#endif
#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NULL_PARAMS	256

/* device.c: compute capability, from VGPU_WORKER_NULLGPU_CC (9.0 unless it says otherwise), times ten. */
int null_capability(void);
bool null_attribute(int attribute, int *value);

struct null_param {
	uint32_t offset, size;
};

/** struct null_image - a module: machine code for this GPU, as an ELF file, or else PTX text; or neither. */
struct null_image {
	unsigned char *elf;
	size_t size;
	char *ptx;
};

/** A handle that nothing lies behind, a new one each time. */
void *null_handle(void);

/* cubin.c */
void null_image_open(struct null_image *image, const void *code);
void null_image_close(struct null_image *image);
/** @return the number of parameters of kernel @name, 0 if nothing is known of it. */
unsigned int null_params(const struct null_image *image, const char *name, struct null_param params[NULL_PARAMS]);

/** Up to @most names of kernels, not terminated. @return how many, or how many there are if @names is NULL. */
unsigned int null_kernels(const struct null_image *image, const char **names, size_t *lengths, unsigned int most);

/* ptx.c: the same for text */
unsigned int null_ptx_kernels(const char *text, const char **names, size_t *lengths, unsigned int most);
unsigned int null_ptx_params(const char *text, const char *kernel, struct null_param params[NULL_PARAMS]);

#endif
