/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of NVML's binary interface that this library answers: constants and layouts, as programs were compiled
 * against them. selftests/nvml/layout.c holds them against NVIDIA's own nvml.h where that is at hand.
 *
 * Every function returns one of enum nvml_return. Strings are written with their NUL into the caller's buffer of
 * `length` bytes, or not at all (NVML_ERROR_INSUFFICIENT_SIZE). Sizes of memory are bytes.
 */
#ifndef NVML_ABI_H
#define NVML_ABI_H

#define NVML_API __attribute__((visibility("default")))

enum nvml_return {
	NVML_SUCCESS = 0, NVML_ERROR_UNINITIALIZED = 1, NVML_ERROR_INVALID_ARGUMENT = 2, NVML_ERROR_NOT_SUPPORTED = 3,
	NVML_ERROR_NO_PERMISSION = 4, NVML_ERROR_ALREADY_INITIALIZED = 5, NVML_ERROR_NOT_FOUND = 6,
	NVML_ERROR_INSUFFICIENT_SIZE = 7, NVML_ERROR_INSUFFICIENT_POWER = 8, NVML_ERROR_DRIVER_NOT_LOADED = 9,
	NVML_ERROR_TIMEOUT = 10, NVML_ERROR_IRQ_ISSUE = 11, NVML_ERROR_LIBRARY_NOT_FOUND = 12,
	NVML_ERROR_FUNCTION_NOT_FOUND = 13, NVML_ERROR_CORRUPTED_INFOROM = 14, NVML_ERROR_GPU_IS_LOST = 15,
	NVML_ERROR_RESET_REQUIRED = 16, NVML_ERROR_OPERATING_SYSTEM = 17, NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18,
	NVML_ERROR_IN_USE = 19, NVML_ERROR_MEMORY = 20, NVML_ERROR_NO_DATA = 21, NVML_ERROR_VGPU_ECC_NOT_SUPPORTED = 22,
	NVML_ERROR_INSUFFICIENT_RESOURCES = 23, NVML_ERROR_FREQ_NOT_SUPPORTED = 24,
	NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25, NVML_ERROR_DEPRECATED = 26, NVML_ERROR_NOT_READY = 27,
	NVML_ERROR_GPU_NOT_FOUND = 28, NVML_ERROR_INVALID_STATE = 29, NVML_ERROR_UNKNOWN = 999
};

enum { NVML_INIT_FLAG_NO_GPUS = 1, NVML_INIT_FLAG_NO_ATTACH = 2 };
enum { NVML_BRAND_UNKNOWN = 0, NVML_BRAND_QUADRO = 1, NVML_BRAND_TESLA = 2, NVML_BRAND_GEFORCE = 5, NVML_BRAND_TITAN = 6,
       NVML_BRAND_NVIDIA_RTX = 13, NVML_BRAND_NVIDIA = 14 };
enum { NVML_COMPUTEMODE_DEFAULT = 0 };
enum { NVML_FEATURE_DISABLED = 0, NVML_FEATURE_ENABLED = 1 };
enum { NVML_CLOCK_GRAPHICS = 0, NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2, NVML_CLOCK_VIDEO = 3 };
enum { NVML_BUS_TYPE_PCI = 1 };
enum { NVML_TOPOLOGY_INTERNAL = 0, NVML_TOPOLOGY_SYSTEM = 50 };
enum { NVML_P2P_STATUS_OK = 0, NVML_P2P_STATUS_NOT_SUPPORTED = 5 };
enum { NVML_P2P_CAPS_INDEX_READ = 0, NVML_P2P_CAPS_INDEX_WRITE = 1, NVML_P2P_CAPS_INDEX_NVLINK = 2,
       NVML_P2P_CAPS_INDEX_ATOMICS = 3, NVML_P2P_CAPS_INDEX_PCI = 4 };
enum { NVML_UUID_TYPE_NONE = 0, NVML_UUID_TYPE_ASCII = 1, NVML_UUID_TYPE_BINARY = 2 };
#define NVML_DEVICE_ARCH_UNKNOWN	0xffffffffu
#define NVML_NO_INSTANCE		0xffffffffu	/* no MIG: GPU and compute instance of a process */
#define NVML_VALUE_NOT_AVAILABLE	(-1ull)

/* A versioned structure starts with its size and version; callers set it, we refuse what we do not know. */
#define NVML_VERSION(type, n)	((unsigned int)(sizeof(type) | (unsigned int)(n) << 24))

struct nvml_device;
typedef struct nvml_device *nvml_device_t;

struct nvml_pci_v2 {
	char legacy[16];	/* 0000:00:00.0 */
	unsigned int domain, bus, device;
	unsigned int device_id;		/* device << 16 | vendor */
	unsigned int subsystem_id;
	unsigned int reserved[4];
};
struct nvml_pci {
	char legacy[16];
	unsigned int domain, bus, device, device_id, subsystem_id;
	char bus_id[32];	/* 00000000:00:00.0 */
};
struct nvml_pci_ext {
	unsigned int version;
	unsigned int domain, bus, device, device_id, subsystem_id, base_class, sub_class;
	char bus_id[32];
};
struct nvml_memory { unsigned long long total, free, used; };
struct nvml_memory_v2 { unsigned int version; unsigned long long total, reserved, free, used; };
struct nvml_process_v1 { unsigned int pid; unsigned long long memory; };
struct nvml_process { unsigned int pid; unsigned long long memory; unsigned int gpu_instance, compute_instance; };
struct nvml_attributes {
	unsigned int multiprocessors, copy_engines, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
	unsigned long long memory_mib;
};
struct nvml_field {
	unsigned int field, scope;
	long long timestamp, latency;
	int type, result;
	unsigned long long value;
};
struct nvml_uuid { unsigned int version, type; union { char text[41]; unsigned char bytes[16]; } value; };

#endif /* NVML_ABI_H */
