// SPDX-License-Identifier: Apache-2.0
/* Two processes and the runtime: cudaIpc…, and a memory pool by descriptor. */
#include "runtime.h"
#include "peer.h"

#define N (1 << 18)
#define BYTES (N * sizeof(int))

static __global__ void add(int *p, int by)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	p[i] += i + by;
}

static bool holds(const int *device, int times, int base)
{
	int *p = (int *)malloc(BYTES);
	bool good = true;

	CUDA(cudaMemcpy(p, device, BYTES, cudaMemcpyDeviceToHost));
	for (int i = 0; i < N && good; i++)
		good = p[i] == times * i + base;
	free(p);
	return good;
}

struct message {
	cudaIpcMemHandle_t memory;
	cudaIpcEventHandle_t done;
	cudaMemPoolPtrExportData pointer;
};

static void owner(int sock)
{
	cudaMemPoolProps props = {};
	cudaMemPool_t pool;
	cudaStream_t stream;
	cudaEvent_t done;
	message m;
	int *plain, *pooled, fd = -1;

	CUDA(cudaStreamCreate(&stream));
	CUDA(cudaMalloc(&plain, BYTES));
	props.allocType = cudaMemAllocationTypePinned;
	props.handleTypes = cudaMemHandleTypePosixFileDescriptor;
	props.location.type = cudaMemLocationTypeDevice;
	CUDA(cudaMemPoolCreate(&pool, &props));
	CUDA(cudaMallocFromPoolAsync(&pooled, BYTES, pool, stream));
	CUDA(cudaMemsetAsync(plain, 0, BYTES, stream));
	CUDA(cudaMemsetAsync(pooled, 0, BYTES, stream));
	add<<<N / 256, 256, 0, stream>>>(plain, 3);
	add<<<N / 256, 256, 0, stream>>>(pooled, 5);
	CUDA(cudaEventCreateWithFlags(&done, cudaEventInterprocess | cudaEventDisableTiming));
	CUDA(cudaEventRecord(done, stream));
	CUDA(cudaIpcGetMemHandle(&m.memory, plain));
	CUDA(cudaIpcGetEventHandle(&m.done, done));
	CUDA(cudaMemPoolExportToShareableHandle(&fd, pool, cudaMemHandleTypePosixFileDescriptor, 0));
	CUDA(cudaMemPoolExportPointer(&m.pointer, pooled));
	tell_fd(sock, fd, &m, sizeof(m));
	close(fd);
	await(sock);
	if (!holds(plain, 2, 4) || !holds(pooled, 2, 7))
		bail("what the other process has written is not seen");
	CUDA(cudaFree(plain));
	CUDA(cudaFreeAsync(pooled, stream));
	CUDA(cudaStreamSynchronize(stream));
	step(sock);
}

int main(void)
{
	int *plain, *pooled, fd, sock;
	cudaMemPool_t pool;
	cudaEvent_t done;
	cudaStream_t stream;
	message m;
	pid_t pid;

	peers_init();
	CUDA(cudaStreamCreate(&stream));
	sock = peer_start(owner, &pid);
	fd = hear_fd(sock, &m, sizeof(m));
	CUDA(cudaIpcOpenMemHandle((void **)&plain, m.memory, cudaIpcMemLazyEnablePeerAccess));
	CUDA(cudaIpcOpenEventHandle(&done, m.done));
	CUDA(cudaMemPoolImportFromShareableHandle(&pool, (void *)(intptr_t)fd, cudaMemHandleTypePosixFileDescriptor, 0));
	close(fd);
	CUDA(cudaMemPoolImportPointer((void **)&pooled, pool, &m.pointer));
	CUDA(cudaStreamWaitEvent(stream, done, 0));
	add<<<N / 256, 256, 0, stream>>>(plain, 1);
	add<<<N / 256, 256, 0, stream>>>(pooled, 2);
	CUDA(cudaStreamSynchronize(stream));
	ok(holds(plain, 2, 4), "memory of another process, behind its event");
	ok(holds(pooled, 2, 7), "memory of another process's pool");
	step(sock);
	ok(peer_done(sock), "which sees what we have done");
	CUDA(cudaEventDestroy(done));
	CUDA(cudaIpcCloseMemHandle(plain));
	CUDA(cudaFreeAsync(pooled, stream));
	CUDA(cudaStreamSynchronize(stream));
	CUDA(cudaMemPoolDestroy(pool));
	CUDA(cudaStreamDestroy(stream));
	return tap_done();
}
