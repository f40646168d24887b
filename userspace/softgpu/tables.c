// SPDX-License-Identifier: Apache-2.0
/* The software GPU's side of libcuda/export_tables.h: what NVIDIA's runtime asks in private. */
#include <stdlib.h>

#include "softgpu.h"

#include "../libcuda/export_tables.h"

struct context_value **tables_values(CUcontext ctx)
{
	struct sg_ctx *c = sg_tls.top;

	if (ctx && ctx != (CUcontext)(intptr_t)-1)
		c = sg_object_check(&sg_ctx_table, ctx);
	return c ? &c->values : NULL;
}

void sg_values_drop(struct sg_ctx *c)
{
	values_end((CUcontext)c, values_take(&c->values));
}

CUresult tables_primary(CUcontext *ctx, CUdevice dev)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*ctx = (CUcontext)sg_primary(dev);
	return *ctx ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

unsigned int tables_devices(struct integrity_device devices[INTEGRITY_DEVICES])
{
	for (int i = 0; i < sg_devices; i++) {
		CUuuid uuid;

		cuDeviceGetUuid_v2(&uuid, i);
		__builtin_memcpy(devices[i].uuid, uuid.bytes, sizeof(devices[i].uuid));
		cuDeviceGetAttribute(&devices[i].pci_domain, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, i);
		cuDeviceGetAttribute(&devices[i].pci_bus, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, i);
		cuDeviceGetAttribute(&devices[i].pci_device, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, i);
	}
	return (unsigned int)sg_devices;
}
