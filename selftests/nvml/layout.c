// SPDX-License-Identifier: Apache-2.0
/*
 * userspace/libnvml/nvml_abi.h against NVIDIA's own nvml.h. Their names clash, so this file is compiled twice: with
 * -DOURS=… it is the table of our numbers, without the test that compares them with NVIDIA's.
 */
#include <stddef.h>
#include <stdio.h>

#ifdef OURS
#include "nvml_abi.h"
#define ROW(ours, theirs) (unsigned long long)(ours),
#define NAME our_numbers
#else
#include "nvml.h"
#define ROW(ours, theirs) (unsigned long long)(theirs),
#define NAME their_numbers
#define NVML_UUID_TYPES
#endif
#define SAME(constant) ROW(constant, constant)

#define TABLE \
	ROW(sizeof(struct nvml_memory), sizeof(nvmlMemory_t)) \
	ROW(offsetof(struct nvml_memory, used), offsetof(nvmlMemory_t, used)) \
	ROW(sizeof(struct nvml_memory_v2), sizeof(nvmlMemory_v2_t)) \
	ROW(offsetof(struct nvml_memory_v2, reserved), offsetof(nvmlMemory_v2_t, reserved)) \
	ROW(offsetof(struct nvml_memory_v2, free), offsetof(nvmlMemory_v2_t, free)) \
	ROW(NVML_VERSION(struct nvml_memory_v2, 2), nvmlMemory_v2) \
	ROW(sizeof(struct nvml_process_v1), sizeof(nvmlProcessInfo_v1_t)) \
	ROW(sizeof(struct nvml_process), sizeof(nvmlProcessInfo_t)) \
	ROW(offsetof(struct nvml_process, memory), offsetof(nvmlProcessInfo_t, usedGpuMemory)) \
	ROW(offsetof(struct nvml_process, gpu_instance), offsetof(nvmlProcessInfo_t, gpuInstanceId)) \
	ROW(sizeof(struct nvml_pci), sizeof(nvmlPciInfo_t)) \
	ROW(offsetof(struct nvml_pci, domain), offsetof(nvmlPciInfo_t, domain)) \
	ROW(offsetof(struct nvml_pci, device_id), offsetof(nvmlPciInfo_t, pciDeviceId)) \
	ROW(offsetof(struct nvml_pci, bus_id), offsetof(nvmlPciInfo_t, busId)) \
	ROW(sizeof(struct nvml_pci_ext), sizeof(nvmlPciInfoExt_t)) \
	ROW(offsetof(struct nvml_pci_ext, device_id), offsetof(nvmlPciInfoExt_t, pciDeviceId)) \
	ROW(offsetof(struct nvml_pci_ext, base_class), offsetof(nvmlPciInfoExt_t, baseClass)) \
	ROW(offsetof(struct nvml_pci_ext, bus_id), offsetof(nvmlPciInfoExt_t, busId)) \
	ROW(NVML_VERSION(struct nvml_pci_ext, 1), nvmlPciInfoExt_v1) \
	ROW(sizeof(struct nvml_attributes), sizeof(nvmlDeviceAttributes_t)) \
	ROW(offsetof(struct nvml_attributes, memory_mib), offsetof(nvmlDeviceAttributes_t, memorySizeMB)) \
	ROW(sizeof(struct nvml_field), sizeof(nvmlFieldValue_t)) \
	ROW(offsetof(struct nvml_field, result), offsetof(nvmlFieldValue_t, nvmlReturn)) \
	ROW(offsetof(struct nvml_field, value), offsetof(nvmlFieldValue_t, value)) \
	ROW(sizeof(struct nvml_uuid), sizeof(nvmlUUID_t)) \
	ROW(offsetof(struct nvml_uuid, value), offsetof(nvmlUUID_t, value)) \
	ROW(NVML_VERSION(struct nvml_uuid, 1), nvmlUUID_v1) \
	SAME(NVML_SUCCESS) SAME(NVML_ERROR_UNINITIALIZED) SAME(NVML_ERROR_INVALID_ARGUMENT) SAME(NVML_ERROR_NOT_SUPPORTED) \
	SAME(NVML_ERROR_NO_PERMISSION) SAME(NVML_ERROR_NOT_FOUND) SAME(NVML_ERROR_INSUFFICIENT_SIZE) \
	SAME(NVML_ERROR_DRIVER_NOT_LOADED) SAME(NVML_ERROR_TIMEOUT) SAME(NVML_ERROR_GPU_IS_LOST) SAME(NVML_ERROR_MEMORY) \
	SAME(NVML_ERROR_ARGUMENT_VERSION_MISMATCH) SAME(NVML_ERROR_INVALID_STATE) SAME(NVML_ERROR_UNKNOWN) \
	SAME(NVML_INIT_FLAG_NO_GPUS) SAME(NVML_INIT_FLAG_NO_ATTACH) \
	SAME(NVML_BRAND_UNKNOWN) SAME(NVML_BRAND_QUADRO) SAME(NVML_BRAND_TESLA) SAME(NVML_BRAND_GEFORCE) \
	SAME(NVML_BRAND_TITAN) SAME(NVML_BRAND_NVIDIA_RTX) SAME(NVML_BRAND_NVIDIA) \
	SAME(NVML_COMPUTEMODE_DEFAULT) SAME(NVML_FEATURE_DISABLED) SAME(NVML_FEATURE_ENABLED) \
	SAME(NVML_CLOCK_GRAPHICS) SAME(NVML_CLOCK_SM) SAME(NVML_CLOCK_MEM) SAME(NVML_CLOCK_VIDEO) SAME(NVML_BUS_TYPE_PCI) \
	SAME(NVML_TOPOLOGY_INTERNAL) SAME(NVML_TOPOLOGY_SYSTEM) SAME(NVML_P2P_STATUS_OK) SAME(NVML_P2P_STATUS_NOT_SUPPORTED) \
	SAME(NVML_P2P_CAPS_INDEX_READ) SAME(NVML_P2P_CAPS_INDEX_WRITE) SAME(NVML_P2P_CAPS_INDEX_NVLINK) \
	SAME(NVML_P2P_CAPS_INDEX_ATOMICS) SAME(NVML_P2P_CAPS_INDEX_PCI) \
	SAME(NVML_UUID_TYPE_NONE) SAME(NVML_UUID_TYPE_ASCII) SAME(NVML_UUID_TYPE_BINARY) \
	SAME(NVML_DEVICE_ARCH_UNKNOWN) ROW(NVML_VALUE_NOT_AVAILABLE, NVML_VALUE_NOT_AVAILABLE)

extern const unsigned long long our_numbers[];
const unsigned long long NAME[] = { TABLE };

#ifndef OURS
int main(void)
{
	unsigned int n = sizeof(NAME) / sizeof(*NAME), wrong = 0;

	for (unsigned int i = 0; i < n; i++) {
		if (our_numbers[i] != their_numbers[i]) {
			printf("# row %u of the table: %llu, NVIDIA's is %llu\n", i, our_numbers[i], their_numbers[i]);
			wrong++;
		}
	}
	printf("%s 1 - %u sizes, offsets and constants are those of nvml.h\n1..1\n", wrong ? "not ok" : "ok", n);
	return wrong != 0;
}
#endif
