// SPDX-License-Identifier: Apache-2.0
//
// What a training loop in eager mode does, step after step: memory from a caching allocator that asks the driver for
// nothing once it is warm, a batch in pinned memory that is used again when its event is complete, a copy in a stream of
// its own, many small kernels, questions whether the stream captures before each allocation, and one number read back.
// A step may cost one round trip, for that number: selftests/run-local counts.
//
// steady [STEPS]
#include <unistd.h>

#include "runtime.h"

#define N	4096
#define LAYERS	8
#define BATCHES	3
#define CACHED	64

/* --- a caching allocator, as frameworks have one --- */

static struct block {
	void *at;
	size_t size;
	bool used;
} cache[CACHED];
static int asked;	/* the driver for memory */

static void *get(size_t size, cudaStream_t stream)
{
	cudaStreamCaptureStatus capturing;
	int device;

	CUDA(cudaGetDevice(&device));
	CUDA(cudaStreamIsCapturing(stream, &capturing));
	for (int i = 0; i < CACHED; i++) {
		struct block *b = &cache[i];

		if (b->at && (b->used || b->size != size))
			continue;
		if (!b->at) {
			CUDA(cudaMalloc(&b->at, size));
			b->size = size;
			asked++;
		}
		b->used = true;
		return b->at;
	}
	bail("the cache is too small");
}

static void put(void *at)
{
	for (int i = 0; i < CACHED; i++)
		if (cache[i].at == at)
			cache[i].used = false;
}

/* --- the model: whole numbers, so that the host can say exactly what must come out --- */

#define UINT	unsigned int

__global__ void forward(UINT *out, const UINT *in, const UINT *weight)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	out[i] = in[i] * weight[i] + (in[i] >> 7);
}

__global__ void backward(UINT *gradient, UINT *out, const UINT *in, const UINT *weight)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	gradient[i] += out[i] * in[i];
	out[i] = out[i] * weight[i] + 1;
}

__global__ void update(UINT *weight, const UINT *gradient)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	weight[i] = weight[i] * 3 - gradient[i];
}

__global__ void loss_of(UINT *loss, const UINT *out)
{
	atomicAdd(loss, out[blockIdx.x * blockDim.x + threadIdx.x]);
}

#define LAUNCH(kernel, stream, ...) do {			\
	kernel<<<N / 128, 128, 0, stream>>>(__VA_ARGS__);	\
	CUDA(cudaGetLastError());				\
} while (0)

/* The GPU may say so a moment later than it is. */
static bool is_over(cudaEvent_t e)
{
	cudaError_t err = cudaErrorNotReady;

	for (int i = 0; i < 10000 && err == cudaErrorNotReady; i++) {
		err = cudaEventQuery(e);
		if (err == cudaErrorNotReady)
			usleep(1000);
	}
	return err == cudaSuccess;
}

static UINT host_weight[LAYERS][N];

/* One step, on the host: what the loss must be. */
static UINT expected(const UINT *batch)
{
	static UINT x[LAYERS + 1][N];
	UINT loss = 0;

	for (int i = 0; i < N; i++) {
		UINT out;

		x[0][i] = batch[i];
		for (int l = 0; l < LAYERS; l++)
			x[l + 1][i] = x[l][i] * host_weight[l][i] + (x[l][i] >> 7);
		loss += x[LAYERS][i];
		out = x[LAYERS][i];
		for (int l = LAYERS; l-- > 0;) {
			UINT gradient = out * x[l][i];

			out = out * host_weight[l][i] + 1;
			host_weight[l][i] = host_weight[l][i] * 3 - gradient;
		}
	}
	return loss;
}

int main(int argc, char **argv)
{
	int steps = (int)size_arg(argc, argv, 10), wrong = 0, reused = 0;
	UINT *weight[LAYERS], *gradient[LAYERS], *batch[BATCHES], *loss, state = 1;
	cudaEvent_t copied[BATCHES], ready;
	cudaStream_t compute, copies;

	show_device("a steady training loop");
	CUDA(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking));
	CUDA(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking));
	CUDA(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming));
	CUDA(cudaHostAlloc(&loss, sizeof(*loss), cudaHostAllocDefault));
	for (int b = 0; b < BATCHES; b++) {
		CUDA(cudaHostAlloc(&batch[b], N * sizeof(UINT), cudaHostAllocDefault));
		CUDA(cudaEventCreateWithFlags(&copied[b], cudaEventDisableTiming));
	}
	for (int l = 0; l < LAYERS; l++) {
		CUDA(cudaMalloc(&weight[l], N * sizeof(UINT)));
		CUDA(cudaMalloc(&gradient[l], N * sizeof(UINT)));
		for (int i = 0; i < N; i++)
			host_weight[l][i] = noise(&state);
		CUDA(cudaMemcpy(weight[l], host_weight[l], sizeof(host_weight[l]), cudaMemcpyHostToDevice));
	}
	CUDA(cudaDeviceSynchronize());

	for (int s = 0; s < steps; s++) {
		UINT *x[LAYERS + 1], *on_host = batch[s % BATCHES], *sum;

		/* The pinned batch is free when its copy of some steps ago is over. */
		if (s >= BATCHES)
			reused += is_over(copied[s % BATCHES]);
		for (int i = 0; i < N; i++)
			on_host[i] = noise(&state);
		x[0] = (UINT *)get(N * sizeof(UINT), copies);
		CUDA(cudaMemcpyAsync(x[0], on_host, N * sizeof(UINT), cudaMemcpyHostToDevice, copies));
		CUDA(cudaEventRecord(copied[s % BATCHES], copies));
		CUDA(cudaEventRecord(ready, copies));
		CUDA(cudaStreamWaitEvent(compute, ready, 0));
		for (int l = 0; l < LAYERS; l++) {
			x[l + 1] = (UINT *)get(N * sizeof(UINT), compute);
			LAUNCH(forward, compute, x[l + 1], x[l], weight[l]);
		}
		sum = (UINT *)get(sizeof(UINT), compute);
		CUDA(cudaMemsetAsync(sum, 0, sizeof(UINT), compute));
		LAUNCH(loss_of, compute, sum, x[LAYERS]);
		for (int l = LAYERS; l-- > 0;) {
			CUDA(cudaMemsetAsync(gradient[l], 0, N * sizeof(UINT), compute));
			LAUNCH(backward, compute, gradient[l], x[LAYERS], x[l], weight[l]);
			LAUNCH(update, compute, weight[l], gradient[l]);
		}
		/* loss.item() */
		CUDA(cudaMemcpyAsync(loss, sum, sizeof(UINT), cudaMemcpyDeviceToHost, compute));
		CUDA(cudaStreamSynchronize(compute));
		wrong += *loss != expected(on_host);
		put(sum);
		for (int l = 0; l <= LAYERS; l++)
			put(x[l]);
	}
	ok(!wrong, "%d steps, %d with a wrong loss", steps, wrong);
	ok(asked == LAYERS + 2, "the driver was asked for memory %d times, all in the first step", asked);
	ok(steps <= BATCHES || reused == steps - BATCHES, "batches were free again in time: %d", reused);
	return tap_done();
}
