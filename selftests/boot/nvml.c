// SPDX-License-Identifier: Apache-2.0
/* What a monitoring tool does first, with the library as the pod's image has it: how many GPUs, and how large is the first? */
#include <dlfcn.h>
#include <stdio.h>

struct memory {
	unsigned long long total, free, used;
};

int main(void)
{
	void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW), *device;
	int (*init)(void), (*count)(unsigned int *), (*get)(unsigned int, void **), (*info)(void *, struct memory *);
	struct memory memory;
	unsigned int n;

	if (!library) {
		printf("%s\n", dlerror());
		return 1;
	}
	*(void **)&init = dlsym(library, "nvmlInit_v2");
	*(void **)&count = dlsym(library, "nvmlDeviceGetCount_v2");
	*(void **)&get = dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
	*(void **)&info = dlsym(library, "nvmlDeviceGetMemoryInfo");
	if (!init || !count || !get || !info || init() || count(&n) || get(0, &device) || info(device, &memory))
		return 1;
	printf("%u GPU of %llu MiB\n", n, memory.total >> 20);
	return 0;
}
