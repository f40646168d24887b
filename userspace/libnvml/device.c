// SPDX-License-Identifier: Apache-2.0
/* Devices: finding them, and what they are. All of it is known since nvmlInit. */
#include <ctype.h>
#include <cuda.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "nvml.h"

#define DEVICE_GET(name, ...) \
	NVML_API int name(struct nvml_device *d, __VA_ARGS__); \
	NVML_API int name(struct nvml_device *d, __VA_ARGS__)

/* Most functions begin so: initialised, a device of ours, somewhere to write to. */
static int ready(const struct nvml_device *d, const void *out)
{
	int r = nvml_check(d);

	if (r)
		return r;
	return d && out ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

static int get_value(struct nvml_device *d, unsigned int *out, unsigned int value)
{
	int r = ready(d, out);

	if (!r)
		*out = value;
	return r;
}

static int get_attribute(struct nvml_device *d, unsigned int *out, unsigned int attribute, unsigned int divisor)
{
	int r = ready(d, out), value;

	if (r)
		return r;
	if (!nvml_attribute(d, attribute, &value) || value < 0)
		return NVML_ERROR_NOT_SUPPORTED;
	*out = value / divisor;
	return NVML_SUCCESS;
}

/* ---- Finding */

NVML_API int nvmlDeviceGetCount_v2(unsigned int *count);
NVML_API int nvmlDeviceGetCount_v2(unsigned int *count)
{
	int r = nvml_check(NULL);

	if (r)
		return r;
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = nvml.ndevices;
	return NVML_SUCCESS;
}

NVML_API int nvmlDeviceGetCount(unsigned int *count);
NVML_API int nvmlDeviceGetCount(unsigned int *count)
{
	return nvmlDeviceGetCount_v2(count);
}

NVML_API int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct nvml_device **d);
NVML_API int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct nvml_device **d)
{
	int r = nvml_check(NULL);

	if (r)
		return r;
	if (!d || index >= nvml.ndevices)
		return NVML_ERROR_INVALID_ARGUMENT;
	*d = &nvml.devices[index];
	return NVML_SUCCESS;
}

NVML_API int nvmlDeviceGetHandleByIndex(unsigned int index, struct nvml_device **d);
NVML_API int nvmlDeviceGetHandleByIndex(unsigned int index, struct nvml_device **d)
{
	return nvmlDeviceGetHandleByIndex_v2(index, d);
}

static int find(struct nvml_device **d, bool (*same)(const struct nvml_device *, const void *), const void *what)
{
	int r = nvml_check(NULL);

	if (r)
		return r;
	if (!d || !what)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (unsigned int i = 0; i < nvml.ndevices; i++) {
		if (same(&nvml.devices[i], what)) {
			*d = &nvml.devices[i];
			return NVML_SUCCESS;
		}
	}
	return NVML_ERROR_NOT_FOUND;
}

static bool same_uuid(const struct nvml_device *d, const void *what)
{
	return !strcasecmp(d->uuid, what);
}

static bool same_bytes(const struct nvml_device *d, const void *what)
{
	return !memcmp(d->props.uuid, what, sizeof(d->props.uuid));
}

/* "0000:3b:00.0", "00000000:3B:00.0", "3b:00.0": the same place. */
static bool same_place(const struct nvml_device *d, const void *what)
{
	unsigned int domain = 0, bus, slot;

	if (sscanf(what, "%x:%x:%x", &domain, &bus, &slot) != 3) {
		domain = 0;
		if (sscanf(what, "%x:%x", &bus, &slot) != 2)
			return false;
	}
	return domain == d->domain && bus == d->bus && slot == d->slot;
}

NVML_API int nvmlDeviceGetHandleByUUID(const char *uuid, struct nvml_device **d);
NVML_API int nvmlDeviceGetHandleByUUID(const char *uuid, struct nvml_device **d)
{
	return find(d, same_uuid, uuid);
}

NVML_API int nvmlDeviceGetHandleByUUIDV(const struct nvml_uuid *uuid, struct nvml_device **d);
NVML_API int nvmlDeviceGetHandleByUUIDV(const struct nvml_uuid *uuid, struct nvml_device **d)
{
	char text[sizeof(uuid->value.text) + 1] = "";

	if (!uuid)
		return find(d, same_uuid, NULL);
	if (uuid->version != NVML_VERSION(struct nvml_uuid, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (uuid->type == NVML_UUID_TYPE_BINARY)
		return find(d, same_bytes, uuid->value.bytes);
	if (uuid->type != NVML_UUID_TYPE_ASCII)
		return NVML_ERROR_INVALID_ARGUMENT;
	memcpy(text, uuid->value.text, sizeof(uuid->value.text));
	return find(d, same_uuid, text);
}

NVML_API int nvmlDeviceGetHandleByPciBusId_v2(const char *place, struct nvml_device **d);
NVML_API int nvmlDeviceGetHandleByPciBusId_v2(const char *place, struct nvml_device **d)
{
	return find(d, same_place, place);
}

NVML_API int nvmlDeviceGetHandleByPciBusId(const char *place, struct nvml_device **d);
NVML_API int nvmlDeviceGetHandleByPciBusId(const char *place, struct nvml_device **d)
{
	return find(d, same_place, place);
}

/* ---- Identity */

DEVICE_GET(nvmlDeviceGetName, char *name, unsigned int length)
{
	int r = ready(d, name);

	return r ? r : nvml_string(name, length, d->props.name);
}

DEVICE_GET(nvmlDeviceGetUUID, char *uuid, unsigned int length)
{
	int r = ready(d, uuid);

	return r ? r : nvml_string(uuid, length, d->uuid);
}

DEVICE_GET(nvmlDeviceGetIndex, unsigned int *index)
{
	return get_value(d, index, d ? d->index : 0);
}

/* Of /dev/nvidiaN, which a pod has not. Tools want a number. */
DEVICE_GET(nvmlDeviceGetMinorNumber, unsigned int *minor)
{
	return get_value(d, minor, d ? d->index : 0);
}

DEVICE_GET(nvmlDeviceGetBoardId, unsigned int *id)
{
	return get_value(d, id, d ? d->domain << 16 | d->bus << 8 | d->slot : 0);
}

DEVICE_GET(nvmlDeviceGetMultiGpuBoard, unsigned int *multi)
{
	return get_value(d, multi, 0);
}

DEVICE_GET(nvmlDeviceGetBrand, unsigned int *brand)
{
	static const struct { const char *word; unsigned int brand; } words[] = {
		{ "Tesla", NVML_BRAND_TESLA }, { "GeForce", NVML_BRAND_GEFORCE }, { "TITAN", NVML_BRAND_TITAN },
		{ "Quadro", NVML_BRAND_QUADRO }, { "RTX", NVML_BRAND_NVIDIA_RTX }, { "NVIDIA", NVML_BRAND_NVIDIA },
	};

	for (unsigned int i = 0; d && i < sizeof(words) / sizeof(*words); i++)
		if (!nvml_check(d) && strstr(d->props.name, words[i].word))
			return get_value(d, brand, words[i].brand);
	return get_value(d, brand, NVML_BRAND_UNKNOWN);
}

static void pci_fill(const struct nvml_device *d, struct nvml_pci_ext *p)
{
	p->domain = d->domain;
	p->bus = d->bus;
	p->device = d->slot;
	p->device_id = 0x10de;	/* NVIDIA; which device, CUDA does not tell */
	p->subsystem_id = 0;
	p->base_class = 3;	/* display controller */
	p->sub_class = 2;	/* 3D */
	snprintf(p->bus_id, sizeof(p->bus_id), "%08X:%02X:%02X.0", d->domain, d->bus, d->slot);
}

static void pci_legacy(char out[16], const struct nvml_device *d)
{
	snprintf(out, 16, "%04X:%02X:%02X.0", d->domain & 0xffff, d->bus & 0xff, d->slot & 0xff);
}

DEVICE_GET(nvmlDeviceGetPciInfo_v3, struct nvml_pci *pci)
{
	struct nvml_pci_ext p;
	int r = ready(d, pci);

	if (r)
		return r;
	pci_fill(d, &p);
	*pci = (struct nvml_pci){ .domain = p.domain, .bus = p.bus, .device = p.device, .device_id = p.device_id };
	pci_legacy(pci->legacy, d);
	memcpy(pci->bus_id, p.bus_id, sizeof(pci->bus_id));
	return NVML_SUCCESS;
}

DEVICE_GET(nvmlDeviceGetPciInfo_v2, struct nvml_pci_v2 *pci)
{
	struct nvml_pci_ext p;
	int r = ready(d, pci);

	if (r)
		return r;
	pci_fill(d, &p);
	*pci = (struct nvml_pci_v2){ .domain = p.domain, .bus = p.bus, .device = p.device, .device_id = p.device_id };
	pci_legacy(pci->legacy, d);
	return NVML_SUCCESS;
}

DEVICE_GET(nvmlDeviceGetPciInfo, struct nvml_pci_v2 *pci)
{
	return nvmlDeviceGetPciInfo_v2(d, pci);
}

DEVICE_GET(nvmlDeviceGetPciInfoExt, struct nvml_pci_ext *pci)
{
	int r = ready(d, pci);

	if (r)
		return r;
	if (pci->version != NVML_VERSION(struct nvml_pci_ext, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	pci_fill(d, pci);
	return NVML_SUCCESS;
}

DEVICE_GET(nvmlDeviceGetBusType, unsigned int *type)
{
	return get_value(d, type, NVML_BUS_TYPE_PCI);
}

/* ---- What it can do */

DEVICE_GET(nvmlDeviceGetCudaComputeCapability, int *major, int *minor)
{
	int r = ready(d, major);

	if (r)
		return r;
	if (!minor)
		return NVML_ERROR_INVALID_ARGUMENT;
	return nvml_attribute(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, major) &&
	       nvml_attribute(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, minor) ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

DEVICE_GET(nvmlDeviceGetArchitecture, unsigned int *arch)
{
	int major = 0, minor = 0, r;
	unsigned int value;

	r = nvmlDeviceGetCudaComputeCapability(d, &major, &minor);
	if (r)
		return r;
	switch (major) {
	case 3: value = 2; break;
	case 5: value = 3; break;
	case 6: value = 4; break;
	case 7: value = minor == 5 ? 6 : 5; break;
	case 8: value = minor == 9 ? 8 : 7; break;
	case 9: value = 9; break;
	case 10: case 11: case 12: value = 10; break;
	default: value = NVML_DEVICE_ARCH_UNKNOWN;
	}
	return get_value(d, arch, value);
}

DEVICE_GET(nvmlDeviceGetAttributes_v2, struct nvml_attributes *a)
{
	unsigned int sms = 0, engines = 0;
	int r = ready(d, a);

	if (r)
		return r;
	get_attribute(d, &sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 1);
	get_attribute(d, &engines, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 1);
	*a = (struct nvml_attributes){
		.multiprocessors = sms, .copy_engines = engines, .memory_mib = d->props.total_mem >> 20,
	};
	return NVML_SUCCESS;
}

DEVICE_GET(nvmlDeviceGetAttributes, struct nvml_attributes *a)
{
	return nvmlDeviceGetAttributes_v2(d, a);
}

DEVICE_GET(nvmlDeviceGetMemoryBusWidth, unsigned int *width)
{
	return get_attribute(d, width, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 1);
}

DEVICE_GET(nvmlDeviceGetComputeMode, unsigned int *mode)
{
	return get_attribute(d, mode, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 1);
}

DEVICE_GET(nvmlDeviceGetMaxClockInfo, unsigned int type, unsigned int *mhz)
{
	switch (type) {
	case NVML_CLOCK_GRAPHICS:
	case NVML_CLOCK_SM:
		return get_attribute(d, mhz, CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000);
	case NVML_CLOCK_MEM:
		return get_attribute(d, mhz, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1000);
	case NVML_CLOCK_VIDEO:
		return NVML_ERROR_NOT_SUPPORTED;
	}
	return NVML_ERROR_INVALID_ARGUMENT;
}

DEVICE_GET(nvmlDeviceGetEccMode, unsigned int *current, unsigned int *pending)
{
	int r = get_attribute(d, current, CU_DEVICE_ATTRIBUTE_ECC_ENABLED, 1);

	return r ? r : get_value(d, pending, *current);
}

DEVICE_GET(nvmlDeviceGetDisplayMode, unsigned int *state)
{
	return get_value(d, state, NVML_FEATURE_DISABLED);
}

DEVICE_GET(nvmlDeviceGetDisplayActive, unsigned int *state)
{
	return get_value(d, state, NVML_FEATURE_DISABLED);
}

/* The broker keeps the driver loaded: what the mode is for. */
DEVICE_GET(nvmlDeviceGetPersistenceMode, unsigned int *state)
{
	return get_value(d, state, NVML_FEATURE_ENABLED);
}

/* A MIG instance is a device like another here; instances are the administrator's business. */
DEVICE_GET(nvmlDeviceIsMigDeviceHandle, unsigned int *mig)
{
	return get_value(d, mig, 0);
}

DEVICE_GET(nvmlDeviceGetMaxMigDeviceCount, unsigned int *count)
{
	return get_value(d, count, 0);
}

/* ---- Two of them */

static int two(struct nvml_device *a, struct nvml_device *b, const void *out)
{
	int r = ready(a, out);

	return r ? r : ready(b, out);
}

DEVICE_GET(nvmlDeviceGetTopologyCommonAncestor, struct nvml_device *other, unsigned int *level)
{
	int r = two(d, other, level);

	if (!r)
		*level = d == other ? NVML_TOPOLOGY_INTERNAL : NVML_TOPOLOGY_SYSTEM;
	return r;
}

/* What may be done between two devices is what CUDA tells; which links they have is not shown. */
DEVICE_GET(nvmlDeviceGetP2PStatus, struct nvml_device *other, unsigned int index, unsigned int *status)
{
	int r = two(d, other, status);
	bool yes = false;

	if (!r && index > NVML_P2P_CAPS_INDEX_PCI)
		r = NVML_ERROR_INVALID_ARGUMENT;
	if (r)
		return r;
	if (d == other)
		yes = true;
	else if (index == NVML_P2P_CAPS_INDEX_READ || index == NVML_P2P_CAPS_INDEX_WRITE)
		r = nvml_peer(d, other, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, &yes);
	else if (index == NVML_P2P_CAPS_INDEX_ATOMICS)
		r = nvml_peer(d, other, CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, &yes);
	if (!r)
		*status = yes ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED;
	return r;
}

DEVICE_GET(nvmlDeviceOnSameBoard, struct nvml_device *other, int *same)
{
	int r = two(d, other, same);

	if (!r)
		*same = d == other;
	return r;
}

DEVICE_GET(nvmlDeviceGetFieldValues, int count, struct nvml_field *values)
{
	int r = ready(d, values);

	if (r)
		return r;
	if (count < 0)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (int i = 0; i < count; i++)
		values[i].result = NVML_ERROR_NOT_SUPPORTED;
	return NVML_SUCCESS;
}
