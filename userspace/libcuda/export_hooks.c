// SPDX-License-Identifier: Apache-2.0
/* The shim's side of export_tables.h. */
#include <string.h>

#include "export_tables.h"
#include "shim.h"

struct context_value **tables_values(CUcontext ctx)
{
	struct object *o;

	if (session_check() != CUDA_SUCCESS)
		return NULL;
	if (!ctx || ctx == (CUcontext)(intptr_t)-1)
		ctx = (CUcontext)context_top(thread_self());
	o = object_get(ctx, VGPU_H_CTX);
	return o ? &o->context->values : NULL;
}

CUresult tables_primary(CUcontext *ctx, CUdevice dev)
{
	CUresult r = session_check();
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	o = context_primary(dev);
	if (!o)
		return CUDA_ERROR_INVALID_DEVICE;
	*ctx = (CUcontext)o;
	return CUDA_SUCCESS;
}

unsigned int tables_devices(struct integrity_device devices[INTEGRITY_DEVICES])
{
	unsigned int n = shim.ndevices < INTEGRITY_DEVICES ? shim.ndevices : INTEGRITY_DEVICES;

	for (unsigned int i = 0; i < n; i++) {
		const struct vgpu_props_reply *p = &shim.devices[i].props;

		memcpy(devices[i].uuid, p->uuid, sizeof(devices[i].uuid));
		devices[i].pci_domain = p->attributes[CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID];
		devices[i].pci_bus = p->attributes[CU_DEVICE_ATTRIBUTE_PCI_BUS_ID];
		devices[i].pci_device = p->attributes[CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID];
	}
	return n;
}
