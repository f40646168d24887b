// SPDX-License-Identifier: Apache-2.0
/* Devices: everything from the snapshot taken when the session was opened. */
#include <stdio.h>
#include <string.h>

#include "capability.h"
#include "shim.h"

static CUresult device(CUdevice dev, const struct vgpu_props_reply **props)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (dev < 0 || (uint32_t)dev >= shim.ndevices)
		return CUDA_ERROR_INVALID_DEVICE;
	*props = &shim.devices[dev].props;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetCount(int *count)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	*count = shim.ndevices;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGet(CUdevice *dev, int ordinal)
{
	const struct vgpu_props_reply *p;
	CUresult r = device(ordinal, &p);

	if (r != CUDA_SUCCESS)
		return r;
	if (!dev)
		return CUDA_ERROR_INVALID_VALUE;
	*dev = ordinal;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetName(char *name, int len, CUdevice dev)
{
	const struct vgpu_props_reply *p;
	CUresult r = device(dev, &p);

	if (r != CUDA_SUCCESS)
		return r;
	if (!name || len <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(name, len, "%s", p->name);
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
	const struct vgpu_props_reply *p;
	CUresult r = device(dev, &p);

	if (r != CUDA_SUCCESS)
		return r;
	if (!uuid)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(uuid->bytes, p->uuid, sizeof(p->uuid));
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetUuid(CUuuid *uuid, CUdevice dev)
{
	return cuDeviceGetUuid_v2(uuid, dev);
}

/* A LUID is Windows' name for an adapter. */
VGPU_EXPORT CUresult CUDAAPI cuDeviceGetLuid(char *luid, unsigned int *deviceNodeMask, CUdevice dev)
{
	const struct vgpu_props_reply *p;
	CUresult r = device(dev, &p);

	return r == CUDA_SUCCESS ? CUDA_ERROR_NOT_SUPPORTED : r;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
	const struct vgpu_props_reply *p;
	CUresult r = device(dev, &p);

	if (r != CUDA_SUCCESS)
		return r;
	if (!bytes)
		return CUDA_ERROR_INVALID_VALUE;
	*bytes = p->total_mem;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
	const struct vgpu_props_reply *p;
	CUresult r = device(dev, &p);

	if (r != CUDA_SUCCESS)
		return r;
	if (!pi || (uint32_t)attrib >= p->nattributes)
		return CUDA_ERROR_INVALID_VALUE;
	if (p->attribute_result[attrib])
		return p->attribute_result[attrib];
	*pi = capability(attrib, p->attributes[attrib]);
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetProperties(CUdevprop *prop, CUdevice dev)
{
	const struct vgpu_props_reply *p;
	CUresult r = device(dev, &p);

	if (r != CUDA_SUCCESS)
		return r;
	if (!prop)
		return CUDA_ERROR_INVALID_VALUE;
	*prop = (CUdevprop){
		.maxThreadsPerBlock = p->attributes[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK],
		.maxThreadsDim = { p->attributes[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X],
				   p->attributes[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y],
				   p->attributes[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z] },
		.maxGridSize = { p->attributes[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X],
				 p->attributes[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y],
				 p->attributes[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z] },
		.sharedMemPerBlock = p->attributes[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK],
		.totalConstantMemory = p->attributes[CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY],
		.SIMDWidth = p->attributes[CU_DEVICE_ATTRIBUTE_WARP_SIZE],
		.memPitch = p->attributes[CU_DEVICE_ATTRIBUTE_MAX_PITCH],
		.regsPerBlock = p->attributes[CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK],
		.clockRate = p->attributes[CU_DEVICE_ATTRIBUTE_CLOCK_RATE],
		.textureAlign = p->attributes[CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT],
	};
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceComputeCapability(int *major, int *minor, CUdevice dev)
{
	const struct vgpu_props_reply *p;
	CUresult r = device(dev, &p);

	if (r != CUDA_SUCCESS)
		return r;
	if (!major || !minor)
		return CUDA_ERROR_INVALID_VALUE;
	*major = p->attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR];
	*minor = p->attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR];
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetPCIBusId(char *pciBusId, int len, CUdevice dev)
{
	const struct vgpu_props_reply *p;
	CUresult r = device(dev, &p);

	if (r != CUDA_SUCCESS)
		return r;
	if (!pciBusId || len < 13)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(pciBusId, len, "%s", p->pci_bus_id);
	return CUDA_SUCCESS;
}

/* "[domain]:[bus]:[device].[function]", "[domain]:[bus]:[device]" or "[bus]:[device].[function]" */
VGPU_EXPORT CUresult CUDAAPI cuDeviceGetByPCIBusId(CUdevice *dev, const char *pciBusId)
{
	unsigned int domain = 0, bus, slot, fn;
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!dev || !pciBusId)
		return CUDA_ERROR_INVALID_VALUE;
	if (sscanf(pciBusId, "%x:%x:%x", &domain, &bus, &slot) != 3) {
		domain = 0;
		if (sscanf(pciBusId, "%x:%x.%x", &bus, &slot, &fn) < 2)
			return CUDA_ERROR_INVALID_VALUE;
	}
	for (uint32_t i = 0; i < shim.ndevices; i++) {
		const int *a = shim.devices[i].props.attributes;

		if ((unsigned int)a[CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID] == domain &&
		    (unsigned int)a[CU_DEVICE_ATTRIBUTE_PCI_BUS_ID] == bus &&
		    (unsigned int)a[CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID] == slot) {
			*dev = i;
			return CUDA_SUCCESS;
		}
	}
	return CUDA_ERROR_INVALID_DEVICE;
}

/* --- atomics across the bus ----------------------------------------------------------------------------------------- */

static CUresult atomics(unsigned int *capabilities, const CUatomicOperation *operations, unsigned int count, CUdevice dev,
			uint32_t peer)
{
	struct vgpu_atomics rq = { .device = dev, .peer = peer };
	struct vgpu_atomics_reply reply;
	CUresult r = call_begin(&rq.call, false);

	if (r != CUDA_SUCCESS)
		return r;
	if (dev < 0 || (uint32_t)dev >= shim.ndevices || (peer != VGPU_ATOMICS_HOST && peer >= shim.ndevices))
		return CUDA_ERROR_INVALID_DEVICE;
	if (!capabilities || !operations || !count)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int done = 0; r == CUDA_SUCCESS && done < count; done += rq.count) {
		rq.count = count - done < VGPU_ATOMICS_MAX ? count - done : VGPU_ATOMICS_MAX;
		for (unsigned int i = 0; i < rq.count; i++)
			rq.operations[i] = operations[done + i];
		r = call_reply(VGPU_MSG_cuDeviceGetP2PAtomicCapabilities, &rq, sizeof(rq), &reply, sizeof(reply));
		for (unsigned int i = 0; r == CUDA_SUCCESS && i < rq.count; i++)
			capabilities[done + i] = reply.capabilities[i];
	}
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetHostAtomicCapabilities(unsigned int *capabilities,
							       const CUatomicOperation *operations, unsigned int count,
							       CUdevice dev)
{
	return atomics(capabilities, operations, count, dev, VGPU_ATOMICS_HOST);
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetP2PAtomicCapabilities(unsigned int *capabilities,
							      const CUatomicOperation *operations, unsigned int count,
							      CUdevice srcDevice, CUdevice dstDevice)
{
	if (dstDevice < 0)
		return session_check() == CUDA_SUCCESS ? CUDA_ERROR_INVALID_DEVICE : session_check();
	return atomics(capabilities, operations, count, srcDevice, dstDevice);
}
