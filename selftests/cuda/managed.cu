// SPDX-License-Identifier: Apache-2.0
/* Variables and memory that host and device share by one address. */
#include "runtime.h"

__managed__ int counter = 41;
__managed__ double table[1000];
__managed__ int *linked;
__device__ int plain;

__global__ void step(int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		table[i] = table[i] * 2 + 1;
	if (i == 0) {
		counter++;
		if (linked)
			*linked = counter;
	}
}

/* What the program wrote does not become part of a graph, which sees what it has written when it is launched. */
static void captured(cudaStream_t stream)
{
	int before = counter;
	cudaGraphExec_t exec;
	cudaGraph_t graph;
	size_t nodes = 0;

	linked = NULL;
	counter = 1;
	CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
	step<<<1, 1, 0, stream>>>(0);
	CUDA(cudaStreamEndCapture(stream, &graph));
	CUDA(cudaGraphGetNodes(graph, NULL, &nodes));
	ok(nodes == 1, "a kernel captured after variables were written is alone in its graph: %zu nodes", nodes);
	counter = 7;
	CUDA(cudaGraphInstantiate(&exec, graph, 0));
	CUDA(cudaGraphLaunch(exec, stream));
	CUDA(cudaStreamSynchronize(stream));
	ok(counter == 8, "the graph sees what they are when it is launched: %d", counter);
	CUDA(cudaGraphExecDestroy(exec));
	CUDA(cudaGraphDestroy(graph));

	CUDA(cudaStreamBeginCapture(cudaStreamPerThread, cudaStreamCaptureModeRelaxed));
	step<<<1, 1, 0, cudaStreamPerThread>>>(0);
	step<<<1, 1, 0, stream>>>(0);
	CUDA(cudaStreamSynchronize(stream));
	GIVES(cudaStreamEndCapture(cudaStreamPerThread, &graph), cudaSuccess,
	      "waiting for another stream does a capture no harm");
	CUDA(cudaGraphDestroy(graph));
	CUDA(cudaStreamSynchronize(stream));
	ok(counter == 9, "and after it the values are there: %d", counter);
	counter = before;
}

int main(void)
{
	cudaPointerAttributes attributes;
	cudaStream_t stream;
	int *shared, wrong = 0, n = 1000;

	ok(counter == 41, "a managed variable has its first value: %d", counter);
	counter = 99;
	for (int i = 0; i < n; i++)
		table[i] = i;
	step<<<4, 256>>>(n);
	CUDA(cudaDeviceSynchronize());
	for (int i = 0; i < n; i++)
		wrong += table[i] != i * 2.0 + 1;
	ok(counter == 100 && !wrong, "kernel and program see each other's values: %d, %d wrong", counter, wrong);

	CUDA(cudaMallocManaged(&shared, sizeof(int)));
	linked = shared;
	counter += 5;
	CUDA(cudaStreamCreate(&stream));
	step<<<4, 256, 0, stream>>>(n);
	step<<<4, 256, 0, stream>>>(n);
	CUDA(cudaStreamSynchronize(stream));
	ok(*shared == 107 && counter == 107, "an address in a managed variable: %d, %d", *shared, counter);
	wrong = 0;
	for (int i = 0; i < n; i++)
		wrong += table[i] != ((i * 2.0 + 1) * 2 + 1) * 2 + 1;
	ok(!wrong, "after three steps: %d wrong", wrong);

	captured(stream);

	CUDA(cudaPointerGetAttributes(&attributes, table));
	ok(attributes.type == cudaMemoryTypeManaged, "a managed variable is called managed memory");
	CUDA(cudaMemset(table, 0, sizeof(table)));
	CUDA(cudaDeviceSynchronize());
	ok(table[0] == 0 && table[999] == 0, "cudaMemset of a managed variable");
	table[7] = 7;
	CUDA(cudaMemcpyToSymbol(plain, &counter, sizeof(counter)));
	n = 0;
	CUDA(cudaMemcpyFromSymbol(&n, plain, sizeof(n)));
	ok(n == 107 && table[7] == 7, "what the program wrote stays when it waits for something else");
	CUDA(cudaFree(shared));
	CUDA(cudaStreamDestroy(stream));
	return tap_done();
}
