// SPDX-License-Identifier: Apache-2.0
/* Initialisation, and what a device says about itself. What comes from outside (environment, CPUs) is read here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "softgpu.h"

int sg_devices;
uint64_t sg_device_memory;
unsigned int sg_cpus = 1;

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static bool forked;
static int attributes[CU_DEVICE_ATTRIBUTE_MAX];

bool sg_contexts_init(void);

static unsigned long number(const char *name, unsigned long fallback, unsigned long min, unsigned long max)
{
	const char *text = getenv(name);
	unsigned long v;
	char *end;

	if (!text || !*text)
		return fallback;
	v = strtoul(text, &end, 10);
	if (*end || v < min || v > max) {
		fprintf(stderr, "softgpu: %s=%s is not a number from %lu to %lu; using %lu\n", name, text, min, max, fallback);
		return fallback;
	}
	return v;
}

#define A(name) attributes[CU_DEVICE_ATTRIBUTE_##name]

static void fill_attributes(void)
{
	A(MAX_THREADS_PER_BLOCK) = A(MAX_BLOCK_DIM_X) = A(MAX_BLOCK_DIM_Y) = 1024;
	A(MAX_BLOCK_DIM_Z) = 64;
	A(MAX_GRID_DIM_X) = 2147483647;
	A(MAX_GRID_DIM_Y) = A(MAX_GRID_DIM_Z) = 65535;
	A(MAX_SHARED_MEMORY_PER_BLOCK) = SG_SHARED_DEFAULT;
	A(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) = SG_SHARED_OPTIN;
	A(MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) = SG_SHARED_SM;
	A(RESERVED_SHARED_MEMORY_PER_BLOCK) = SG_SHARED_RESERVED;
	A(TOTAL_CONSTANT_MEMORY) = 65536;
	A(WARP_SIZE) = 32;
	A(MAX_PITCH) = SG_MAX_PITCH;
	A(MAX_REGISTERS_PER_BLOCK) = A(MAX_REGISTERS_PER_MULTIPROCESSOR) = SG_REGISTERS;
	A(CLOCK_RATE) = 1000000;
	A(MEMORY_CLOCK_RATE) = 1000000;
	A(GLOBAL_MEMORY_BUS_WIDTH) = 128;
	A(L2_CACHE_SIZE) = 4 << 20;
	A(TEXTURE_ALIGNMENT) = A(SURFACE_ALIGNMENT) = 512;
	A(TEXTURE_PITCH_ALIGNMENT) = 32;
	A(GPU_OVERLAP) = 1;
	A(ASYNC_ENGINE_COUNT) = 2;
	A(CONCURRENT_KERNELS) = 1;
	A(MULTIPROCESSOR_COUNT) = (int)sg_cpus;
	A(MAX_THREADS_PER_MULTIPROCESSOR) = SG_THREADS_SM;
	A(MAX_BLOCKS_PER_MULTIPROCESSOR) = SG_BLOCKS_SM;
	A(CAN_MAP_HOST_MEMORY) = 1;
	A(UNIFIED_ADDRESSING) = A(MANAGED_MEMORY) = 1;
	A(COMPUTE_CAPABILITY_MAJOR) = SG_CC_MAJOR;
	A(COMPUTE_CAPABILITY_MINOR) = SG_CC_MINOR;
	A(STREAM_PRIORITIES_SUPPORTED) = 1;
	A(GLOBAL_L1_CACHE_SUPPORTED) = A(LOCAL_L1_CACHE_SUPPORTED) = 1;
	A(SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO) = 1;
	A(HOST_NATIVE_ATOMIC_SUPPORTED) = 1;
	A(COMPUTE_PREEMPTION_SUPPORTED) = 1;
	A(CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM) = 1;
	A(HOST_REGISTER_SUPPORTED) = 1;
	A(READ_ONLY_HOST_REGISTER_SUPPORTED) = 1;
	A(COOPERATIVE_LAUNCH) = 1;
	A(MEMORY_POOLS_SUPPORTED) = 1;
	A(IPC_EVENT_SUPPORTED) = 1;
	A(HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED) = 1;
	A(MEMPOOL_SUPPORTED_HANDLE_TYPES) = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	A(VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) = 1;
	A(HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) = A(HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) = 1;
	A(CAN_USE_64_BIT_STREAM_MEM_OPS) = A(CAN_USE_STREAM_WAIT_VALUE_NOR) = 1;
	A(MEM_SYNC_DOMAIN_COUNT) = 1;
	A(NUMA_ID) = A(HOST_NUMA_ID) = -1;
	/* array.c and texture.c hold to these. */
	A(MAXIMUM_TEXTURE1D_WIDTH) = A(MAXIMUM_TEXTURE2D_WIDTH) = A(MAXIMUM_SURFACE2D_WIDTH) = 131072;
	A(MAXIMUM_SURFACE1D_WIDTH) = A(MAXIMUM_TEXTURE2D_LINEAR_WIDTH) = 131072;
	A(MAXIMUM_TEXTURE2D_HEIGHT) = A(MAXIMUM_SURFACE2D_HEIGHT) = 65536;
	A(MAXIMUM_TEXTURE2D_LINEAR_HEIGHT) = 65000;
	A(MAXIMUM_TEXTURE2D_LINEAR_PITCH) = 2097120;
	A(MAXIMUM_TEXTURE1D_LINEAR_WIDTH) = 1 << 28;
	A(MAXIMUM_TEXTURE1D_MIPMAPPED_WIDTH) = A(MAXIMUM_TEXTURE2D_MIPMAPPED_WIDTH) = 32768;
	A(MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT) = 32768;
	A(MAXIMUM_TEXTURE2D_GATHER_WIDTH) = A(MAXIMUM_TEXTURE2D_GATHER_HEIGHT) = 32768;
	A(MAXIMUM_TEXTURE3D_WIDTH) = A(MAXIMUM_TEXTURE3D_HEIGHT) = A(MAXIMUM_TEXTURE3D_DEPTH) = 16384;
	A(MAXIMUM_SURFACE3D_WIDTH) = A(MAXIMUM_SURFACE3D_HEIGHT) = A(MAXIMUM_SURFACE3D_DEPTH) = 16384;
	A(MAXIMUM_TEXTURE1D_LAYERED_WIDTH) = A(MAXIMUM_TEXTURE2D_LAYERED_WIDTH) = 32768;
	A(MAXIMUM_TEXTURE2D_LAYERED_HEIGHT) = A(MAXIMUM_SURFACE1D_LAYERED_WIDTH) = 32768;
	A(MAXIMUM_SURFACE2D_LAYERED_WIDTH) = A(MAXIMUM_SURFACE2D_LAYERED_HEIGHT) = 32768;
	A(MAXIMUM_TEXTURE1D_LAYERED_LAYERS) = A(MAXIMUM_TEXTURE2D_LAYERED_LAYERS) = 2048;
	A(MAXIMUM_SURFACE1D_LAYERED_LAYERS) = A(MAXIMUM_SURFACE2D_LAYERED_LAYERS) = 2048;
	A(MAXIMUM_TEXTURECUBEMAP_WIDTH) = A(MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH) = 32768;
	A(MAXIMUM_SURFACECUBEMAP_WIDTH) = A(MAXIMUM_SURFACECUBEMAP_LAYERED_WIDTH) = 32768;
	A(MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS) = A(MAXIMUM_SURFACECUBEMAP_LAYERED_LAYERS) = 2046;
	A(GPU_PCI_DEVICE_ID) = 0x00015853;	/* Xen's vendor */
	A(GPU_PCI_SUBSYSTEM_ID) = 0x00015853;
}

/* A child has none of the threads. As with a GPU it has to be a new program to use one. */
static void in_child(void)
{
	forked = sg_devices > 0;
	sg_devices = 0;
}

CUresult cuInit(unsigned int flags)
{
	CUresult e = CUDA_SUCCESS;
	unsigned long devices, mib;
	long n;

	if (flags)
		return CUDA_ERROR_INVALID_VALUE;
	if (forked)
		return CUDA_ERROR_NOT_INITIALIZED;
	pthread_mutex_lock(&init_lock);
	if (sg_devices)
		goto out;
	n = sysconf(_SC_NPROCESSORS_ONLN);
	sg_cpus = n > 0 ? (unsigned int)n : 1;
	devices = number("SOFTGPU_DEVICES", 1, 0, SG_DEVICES_MAX);
	if (!devices) {
		e = CUDA_ERROR_NO_DEVICE;
		goto out;
	}
	mib = number("SOFTGPU_MEMORY", 4096, 1, (SG_HEAP_SIZE >> 20) - 1024);
	if (mib * devices > (SG_HEAP_SIZE >> 20) - 1024)
		mib = ((SG_HEAP_SIZE >> 20) - 1024) / devices;
	sg_device_memory = (uint64_t)mib << 20;
	ptx_set_threads((unsigned int)number("SOFTGPU_THREADS", sg_cpus, 1, 1024));
	fill_attributes();
	sg_pack_init();
	sg_queue_init();
	sg_events_init();
	sg_vmm_init();
	if (!sg_tables_init() || !sg_heap_init((int)devices, sg_device_memory)) {
		fprintf(stderr, "softgpu: cannot reserve %llu GiB of addresses at %#llx for device memory: is there a limit on "
			"virtual memory (ulimit -v)?\n", SG_HEAP_SIZE >> 30, SG_HEAP_BASE);
		e = CUDA_ERROR_OUT_OF_MEMORY;
		goto out;
	}
	sg_devices = (int)devices;
	if (!sg_contexts_init() || pthread_atfork(NULL, NULL, in_child)) {
		sg_devices = 0;
		e = CUDA_ERROR_OUT_OF_MEMORY;
	}
out:
	pthread_mutex_unlock(&init_lock);
	return e;
}

CUresult cuDriverGetVersion(int *version)
{
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	*version = SG_DRIVER_VERSION;
	return CUDA_SUCCESS;
}

static CUresult device_check(const void *out, CUdevice dev)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	return dev >= 0 && dev < sg_devices ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetCount(int *count)
{
	CUresult e = device_check(count, 0);

	if (!e)
		*count = sg_devices;
	return e;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	CUresult e = device_check(device, ordinal);

	if (!e)
		*device = ordinal;
	return e;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
	CUresult e = device_check(name, dev);

	if (e)
		return e;
	if (len <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(name, (size_t)len, "xen-vgpu software GPU");
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
	CUresult e = device_check(uuid, dev);

	if (e)
		return e;
	memcpy(uuid->bytes, "xen-vgpu\x00soft\x80\x00\x00", 16);
	/* Shaped as a version 8 (own use) UUID, told apart by the last byte. */
	uuid->bytes[6] = (char)0x80;
	uuid->bytes[8] = (char)0x80;
	uuid->bytes[15] = (char)dev;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev)
{
	return cuDeviceGetUuid_v2(uuid, dev);
}

CUresult cuDeviceGetLuid(char *luid, unsigned int *mask, CUdevice dev)
{
	CUresult e = device_check(luid, dev);

	return e ? e : CUDA_ERROR_NOT_SUPPORTED;	/* Windows only */
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
	CUresult e = device_check(bytes, dev);

	if (!e)
		*bytes = sg_device_memory;
	return e;
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
	CUresult e = device_check(pi, dev);

	if (e)
		return e;
	if (attrib <= 0 || attrib >= CU_DEVICE_ATTRIBUTE_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	*pi = attrib == CU_DEVICE_ATTRIBUTE_PCI_BUS_ID ? dev + 1 : attributes[attrib];
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetProperties(CUdevprop *p, CUdevice dev)
{
	CUresult e = device_check(p, dev);

	if (e)
		return e;
	*p = (CUdevprop){
		.maxThreadsPerBlock = A(MAX_THREADS_PER_BLOCK),
		.maxThreadsDim = { A(MAX_BLOCK_DIM_X), A(MAX_BLOCK_DIM_Y), A(MAX_BLOCK_DIM_Z) },
		.maxGridSize = { A(MAX_GRID_DIM_X), A(MAX_GRID_DIM_Y), A(MAX_GRID_DIM_Z) },
		.sharedMemPerBlock = SG_SHARED_DEFAULT,
		.totalConstantMemory = A(TOTAL_CONSTANT_MEMORY),
		.SIMDWidth = 32,
		.memPitch = A(MAX_PITCH),
		.regsPerBlock = SG_REGISTERS,
		.clockRate = A(CLOCK_RATE),
		.textureAlign = A(TEXTURE_ALIGNMENT),
	};
	return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice dev)
{
	CUresult e = device_check(major && minor ? major : NULL, dev);

	if (e)
		return e;
	*major = SG_CC_MAJOR;
	*minor = SG_CC_MINOR;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *id, int len, CUdevice dev)
{
	CUresult e = device_check(id, dev);

	if (e)
		return e;
	if (len < 13)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(id, (size_t)len, "0000:%02X:00.0", (unsigned int)dev + 1);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *dev, const char *id)
{
	unsigned int domain = 0, bus, device, function = 0;
	CUresult e = device_check(dev && id ? dev : NULL, 0);

	if (e)
		return e;
	if (sscanf(id, "%x:%x:%x.%x", &domain, &bus, &device, &function) < 3) {
		domain = 0;
		if (sscanf(id, "%x:%x.%x", &bus, &device, &function) < 2)
			return CUDA_ERROR_INVALID_VALUE;
	}
	if (domain || device || function || !bus || bus > (unsigned int)sg_devices)
		return CUDA_ERROR_INVALID_DEVICE;
	*dev = (CUdevice)bus - 1;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetExecAffinitySupport(int *pi, CUexecAffinityType type, CUdevice dev)
{
	CUresult e = device_check(pi, dev);

	if (!e && type != CU_EXEC_AFFINITY_TYPE_SM_COUNT)
		e = CUDA_ERROR_INVALID_VALUE;
	if (!e)
		*pi = 0;
	return e;
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice dev, CUdevice peer)
{
	CUresult e = device_check(can, dev);

	if (!e)
		e = device_check(can, peer);
	if (!e)
		*can = dev != peer;	/* one memory for all */
	return e;
}

CUresult cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attrib, CUdevice src, CUdevice dst)
{
	CUresult e = device_check(value, src);

	if (!e)
		e = device_check(value, dst);
	if (e)
		return e;
	if (src == dst)
		return CUDA_ERROR_INVALID_DEVICE;
	switch ((int)attrib) {
	case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
		*value = 0;
		return CUDA_SUCCESS;
	case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
	case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
	case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
	case CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED:
		*value = attrib != CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode)
{
	const char *text = getenv("CUDA_MODULE_LOADING");

	if (!mode)
		return CUDA_ERROR_INVALID_VALUE;
	*mode = text && !strcmp(text, "EAGER") ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING;
	return CUDA_SUCCESS;
}

/* --- atomics ---------------------------------------------------------------------------------------------------------- */

/* Host and devices are one memory with the CPU's atomics: whatever a kernel can do to its own, it can do to the others. */
static CUresult atomics(unsigned int *capabilities, const CUatomicOperation *operations, unsigned int count)
{
	const unsigned int scalar = CU_ATOMIC_CAPABILITY_REDUCTION | CU_ATOMIC_CAPABILITY_SCALAR_32 |
				    CU_ATOMIC_CAPABILITY_SCALAR_64;

	if (!capabilities || !operations || !count)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < count; i++) {
		if (operations[i] >= CU_ATOMIC_OPERATION_MAX)
			return CUDA_ERROR_INVALID_VALUE;
		capabilities[i] = scalar | CU_ATOMIC_CAPABILITY_UNSIGNED;
		if (operations[i] <= CU_ATOMIC_OPERATION_INTEGER_MAX)
			capabilities[i] |= CU_ATOMIC_CAPABILITY_SIGNED;
		if (operations[i] >= CU_ATOMIC_OPERATION_FLOAT_ADD)
			capabilities[i] = scalar;
	}
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetHostAtomicCapabilities(unsigned int *capabilities, const CUatomicOperation *operations,
					   unsigned int count, CUdevice dev)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	return dev < 0 || dev >= sg_devices ? CUDA_ERROR_INVALID_DEVICE : atomics(capabilities, operations, count);
}

CUresult cuDeviceGetP2PAtomicCapabilities(unsigned int *capabilities, const CUatomicOperation *operations,
					  unsigned int count, CUdevice src, CUdevice dst)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (src < 0 || src >= sg_devices || dst < 0 || dst >= sg_devices || src == dst)
		return CUDA_ERROR_INVALID_DEVICE;
	return atomics(capabilities, operations, count);
}

/* No device of others writes into this memory behind the host's back. */
CUresult cuFlushGPUDirectRDMAWrites(CUflushGPUDirectRDMAWritesTarget target, CUflushGPUDirectRDMAWritesScope scope)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (target != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX ||
	    (scope != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER && scope != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_ALL_DEVICES))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuCtxGetExecAffinity(CUexecAffinityParam *param, CUexecAffinityType type)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!param || type != CU_EXEC_AFFINITY_TYPE_SM_COUNT)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
}
