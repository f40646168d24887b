// SPDX-License-Identifier: Apache-2.0
/* Versions, error texts, names of processes. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nvml.h"

/* The library that speaks is of the API of CUDA 13.0, whose driver branch is 580. */
#define NVML_VERSION_TEXT	"13.580.0"

int nvml_string(char *out, unsigned int length, const char *text)
{
	size_t n = strlen(text) + 1;

	if (!out)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (n > length)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	memcpy(out, text, n);
	return NVML_SUCCESS;
}

int nvml_refuse(const char *name, int *told)
{
	if (!__atomic_exchange_n(told, 1, __ATOMIC_RELAXED) && getenv("VGPU_TRACE"))
		fprintf(stderr, "vgpu: %s is not supported\n", name);
	return nvml_check(NULL) ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_NOT_SUPPORTED;
}

NVML_API const char *nvmlErrorString(int result);
NVML_API const char *nvmlErrorString(int result)
{
	static const char *const texts[] = {
		[NVML_SUCCESS] = "Success",
		[NVML_ERROR_UNINITIALIZED] = "nvmlInit has not been called",
		[NVML_ERROR_INVALID_ARGUMENT] = "An argument is invalid",
		[NVML_ERROR_NOT_SUPPORTED] = "Not supported on this GPU",
		[NVML_ERROR_NO_PERMISSION] = "No permission",
		[NVML_ERROR_ALREADY_INITIALIZED] = "Already initialized",
		[NVML_ERROR_NOT_FOUND] = "Not found",
		[NVML_ERROR_INSUFFICIENT_SIZE] = "The buffer is too small",
		[NVML_ERROR_INSUFFICIENT_POWER] = "Insufficient external power",
		[NVML_ERROR_DRIVER_NOT_LOADED] = "No vgpu device or broker",
		[NVML_ERROR_TIMEOUT] = "Timeout",
		[NVML_ERROR_IRQ_ISSUE] = "Interrupt request issue",
		[NVML_ERROR_LIBRARY_NOT_FOUND] = "The NVML library was not found",
		[NVML_ERROR_FUNCTION_NOT_FOUND] = "The function was not found",
		[NVML_ERROR_CORRUPTED_INFOROM] = "The infoROM is corrupted",
		[NVML_ERROR_GPU_IS_LOST] = "The session with the GPU's broker was lost",
		[NVML_ERROR_RESET_REQUIRED] = "The GPU needs a reset",
		[NVML_ERROR_OPERATING_SYSTEM] = "The operating system has blocked the request",
		[NVML_ERROR_LIB_RM_VERSION_MISMATCH] = "Driver and library versions do not match",
		[NVML_ERROR_IN_USE] = "In use",
		[NVML_ERROR_MEMORY] = "Out of memory",
		[NVML_ERROR_NO_DATA] = "No data",
		[NVML_ERROR_VGPU_ECC_NOT_SUPPORTED] = "Not available while ECC is enabled",
		[NVML_ERROR_INSUFFICIENT_RESOURCES] = "Insufficient resources",
		[NVML_ERROR_FREQ_NOT_SUPPORTED] = "The frequency is not supported",
		[NVML_ERROR_ARGUMENT_VERSION_MISMATCH] = "The structure's version is not supported",
		[NVML_ERROR_DEPRECATED] = "Deprecated",
		[NVML_ERROR_NOT_READY] = "Not ready",
		[NVML_ERROR_GPU_NOT_FOUND] = "No GPU was found",
		[NVML_ERROR_INVALID_STATE] = "Invalid state",
	};

	if (result >= 0 && result < (int)(sizeof(texts) / sizeof(*texts)) && texts[result])
		return texts[result];
	return "Unknown error";
}

NVML_API int nvmlSystemGetDriverVersion(char *version, unsigned int length);
NVML_API int nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
	int r = nvml_check(NULL);

	return r ? r : nvml_string(version, length, nvml.info.driver);
}

NVML_API int nvmlSystemGetNVMLVersion(char *version, unsigned int length);
NVML_API int nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
	return nvml_string(version, length, NVML_VERSION_TEXT);
}

NVML_API int nvmlSystemGetCudaDriverVersion_v2(int *version);
NVML_API int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	int r = nvml_check(NULL);

	if (!version)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!r)
		*version = nvml.info.driver_version;
	return r;
}

NVML_API int nvmlSystemGetCudaDriverVersion(int *version);
NVML_API int nvmlSystemGetCudaDriverVersion(int *version)
{
	return nvmlSystemGetCudaDriverVersion_v2(version);
}

/* The processes are this pod's own. */
NVML_API int nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
	char path[64], text[1024];
	int r = nvml_check(NULL), fd;
	ssize_t n;

	if (r)
		return r;
	if (!name || !length)
		return NVML_ERROR_INVALID_ARGUMENT;
	snprintf(path, sizeof(path), "/proc/%u/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NVML_ERROR_NOT_FOUND;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return NVML_ERROR_NOT_FOUND;
	text[n] = '\0';		/* the first word */
	/* Documented to cut a name that is too long. */
	snprintf(name, length, "%s", text);
	return NVML_SUCCESS;
}

/* No S-class units, host interface cards or devices the administrator left out. */
static int none(unsigned int *count)
{
	int r = nvml_check(NULL);

	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!r)
		*count = 0;
	return r;
}

NVML_API int nvmlUnitGetCount(unsigned int *count);
NVML_API int nvmlUnitGetCount(unsigned int *count)
{
	return none(count);
}

NVML_API int nvmlSystemGetHicVersion(unsigned int *count, void *entries);
NVML_API int nvmlSystemGetHicVersion(unsigned int *count, void *entries)
{
	return none(count);
}

NVML_API int nvmlGetExcludedDeviceCount(unsigned int *count);
NVML_API int nvmlGetExcludedDeviceCount(unsigned int *count)
{
	return none(count);
}

NVML_API int nvmlGetBlacklistDeviceCount(unsigned int *count);
NVML_API int nvmlGetBlacklistDeviceCount(unsigned int *count)
{
	return none(count);
}
