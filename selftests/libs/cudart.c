// SPDX-License-Identifier: Apache-2.0
/* The runtime itself, as a program without kernels of its own uses it. Linked twice: static and shared. */
#include "libs.h"


int main(int argc, char **argv)
{
	long n = size_arg(argc, argv, 4);
	static char host[1 << 16];
	struct cudaPointerAttributes a;
	struct cudaDeviceProp prop;
	cudaStream_t stream;
	cudaEvent_t start, end;
	int count;
	size_t unused, total;
	void *dev, *pinned;

	GOOD(cudaGetDeviceCount(&count));
	GOOD(cudaGetDeviceProperties(&prop, 0));
	printf("# %s %d.%d\n", prop.name, prop.major, prop.minor);
	GOOD(cudaSetDevice(0));
	GOOD(cudaMemGetInfo(&unused, &total));
	GOOD(cudaMalloc(&dev, sizeof(host)));
	GOOD(cudaMallocHost(&pinned, sizeof(host)));
	GOOD(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	GOOD(cudaEventCreate(&start));
	GOOD(cudaEventCreateWithFlags(&end, cudaEventDisableTiming));
	GOOD(cudaPointerGetAttributes(&a, dev));
	ok(a.type == cudaMemoryTypeDevice, "the address is device memory");
	GOOD(cudaMemcpy(dev, host, sizeof(host), cudaMemcpyHostToDevice));
	GOOD(cudaMemset(dev, 0, sizeof(host)));
	for (long i = 0; i < n; i++) {
		QUIET(cudaMemcpyAsync(dev, pinned, sizeof(host), cudaMemcpyHostToDevice, stream));
		QUIET(cudaMemsetAsync(dev, 0, 4096, stream));
		QUIET(cudaEventRecord(end, stream));
		QUIET(cudaStreamWaitEvent(stream, end, 0));
		QUIET(cudaPointerGetAttributes(&a, dev));
		QUIET(cudaGetLastError());
	}
	GOOD(cudaStreamQuery(stream));
	GOOD(cudaEventQuery(end));
	GOOD(cudaStreamSynchronize(stream));
	GOOD(cudaEventRecord(start, stream));
	GOOD(cudaEventSynchronize(start));
	GOOD(cudaMemcpy(host, dev, sizeof(host), cudaMemcpyDeviceToHost));
	GOOD(cudaDeviceSynchronize());
	GOOD(cudaEventDestroy(start));
	GOOD(cudaEventDestroy(end));
	GOOD(cudaStreamDestroy(stream));
	GOOD(cudaFreeHost(pinned));
	GOOD(cudaFree(dev));
	return tap_done();
}
