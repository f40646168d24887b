// SPDX-License-Identifier: Apache-2.0
/*
 * Images that cannot be loaded, and every call that loads or links one: each says why not. NVIDIA's driver may look into a
 * library, or what is to be linked, later than when it is given.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <fcntl.h>

#include "driver.h"

#define HEAD(version)	".version " version "\n.target sm_75\n.address_size 64\n"
#define NOTHING		".visible .entry nothing()\n{\n	ret;\n}\n"

static char path[] = "/tmp/driver_refused.XXXXXX";

static void write_file(const void *image, size_t size)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	if (fd < 0 || write(fd, image, size) != (ssize_t)size)
		bail("%s: cannot be written", path);
	close(fd);
}

static void loads(const void *image, size_t size, CUresult why, const char *what)
{
	CUlibrary library;
	CUmodule module;

	printf("# %s\n", what);
	write_file(image, size);
	GIVES(cuModuleLoad(&module, path), why, "a module from a file");
	GIVES(cuModuleLoadData(&module, image), why, "a module");
	GIVES(cuModuleLoadDataEx(&module, image, 0, NULL, NULL), why, "a module with options");
	OURS(cuModuleLoadFatBinary(&module, image), why, "a module of old");
	OURS(cuLibraryLoadData(&library, image, NULL, NULL, 0, NULL, NULL, 0), why, "a library");
	OURS(cuLibraryLoadFromFile(&library, path, NULL, NULL, 0, NULL, NULL, 0), why, "a library from a file");
}

static void links(const void *image, size_t size, CUjitInputType type, CUresult why, const char *what)
{
	CUlinkState link;

	if (native("what is said to inputs of a link"))
		return;
	printf("# %s\n", what);
	write_file(image, size);
	CU(cuLinkCreate_v2(0, NULL, NULL, &link));
	GIVES(cuLinkAddData_v2(link, type, (void *)(uintptr_t)image, size, "it", 0, NULL, NULL), why, "an input of a link");
	GIVES(cuLinkAddFile_v2(link, type, path, 0, NULL, NULL), why, "one from a file");
	CU(cuLinkDestroy(link));
}

int main(void)
{
	static const char wrong[] = HEAD("7.0") ".visible .entry f()\n{\n	this is not PTX;\n}\n";
	static const char later[] = HEAD("99.0") NOTHING;
	static const char large[] = HEAD("7.0") ".visible .global .align 4 .b8 large[4000000000];\n" NOTHING;
	static const char none[] = "no image at all, whatever it may be taken for, and as long as a header of any kind would be";
	/* A fatbin of one cubin, for a GPU that there is none of. */
	const struct {
		uint32_t magic;
		uint16_t version, header;
		uint64_t size;
		uint16_t kind, member_version;
		uint32_t member_header;
		uint64_t member_size;
		uint32_t compressed, options, unused, sm, bits, name;
		uint64_t flags, unused2, uncompressed;
		char text[64];
	} other = { .magic = 0xba55ed50, .version = 1, .header = 16, .size = sizeof(other) - 16, .kind = 2, .member_version = 0x101,
		    .member_header = 64, .member_size = 64, .sm = 30, .flags = 0x11, .text = "\177ELF\2\1\1" };
	CUdevice dev;
	int fd = mkstemp(path);

	if (fd < 0)
		bail("%s: cannot be made", path);
	close(fd);
	primary_context(&dev);
	loads(wrong, sizeof(wrong), CUDA_ERROR_INVALID_PTX, "PTX with an error");
	loads(later, sizeof(later), CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "PTX of a version that is not yet");
	if (!native("what is no image")) {
		loads(none, sizeof(none), CUDA_ERROR_INVALID_IMAGE, "no image");
		loads(&other, sizeof(other), CUDA_ERROR_NO_BINARY_FOR_GPU, "code for another GPU");
	}
	if (ON_SOFTWARE())
		loads(large, sizeof(large), CUDA_ERROR_OUT_OF_MEMORY, "a variable larger than memory");
	links(wrong, sizeof(wrong), CU_JIT_INPUT_PTX, CUDA_ERROR_INVALID_PTX, "PTX with an error");
	links(later, sizeof(later), CU_JIT_INPUT_PTX, CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "PTX of a version that is not yet");
	links(none, sizeof(none), CU_JIT_INPUT_FATBINARY, CUDA_ERROR_INVALID_IMAGE, "no image");
	links(&other, sizeof(other), CU_JIT_INPUT_FATBINARY, CUDA_ERROR_NO_BINARY_FOR_GPU, "code for another GPU");
	unlink(path);
	CU(cuDevicePrimaryCtxRelease_v2(dev));
	return tap_done();
}
