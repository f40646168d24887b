/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program has advised about managed memory. Here as on the software GPU managed memory is coherent where it is, so
 * advice moves nothing; but CUDA says that what was advised can be asked for. Knows nothing of sessions: the software GPU
 * uses it too.
 */
#ifndef VGPU_ADVICE_H
#define VGPU_ADVICE_H

#ifndef __CUDA_API_VERSION_INTERNAL
#define __CUDA_API_VERSION_INTERNAL	/* as all the others read it */
#endif
#include <cuda.h>
#include <stdint.h>

/** cuMemAdvise for [base, base + n), which is managed memory. @devices: how many there are */
CUresult advice_set(uint64_t base, uint64_t n, CUmem_advise advice, CUmemLocation where, int devices);

/** It was prefetched to @where. */
CUresult advice_prefetched(uint64_t base, uint64_t n, CUmemLocation where, int devices);

/** Is that a place that memory can be advised or prefetched to? */
CUresult advice_location(CUmemLocation where, int devices);

/** The place that the calls of old name by a device, or by CU_DEVICE_CPU. */
CUmemLocation advice_device(CUdevice device);

/** What those calls say of a device that there is not, which is another thing than the newer ones do; else @r. */
CUresult advice_old_error(CUresult r, CUdevice device, int devices);

/** cuMemRangeGetAttribute */
CUresult advice_get(void *data, size_t size, CUmem_range_attribute attribute, uint64_t base, uint64_t n);

/** The memory is gone. */
void advice_forget(uint64_t base, uint64_t n);

#endif
