// SPDX-License-Identifier: Apache-2.0
// Two threads hand one stream back and forth: what one thread launched before it let go comes before what the
// other launches then. Nothing waits for the GPU in between, so only the order of the messages can hold it.
#include <pthread.h>

#include "runtime.h"

#define LANES 64

__global__ void step(unsigned int *x, unsigned int factor, unsigned int term)
{
	x[threadIdx.x] = x[threadIdx.x] * factor + term;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static long turn, turns;
static cudaStream_t stream;
static unsigned int *device, *pinned;

static void *play(void *arg)
{
	long me = (long)arg;

	for (;;) {
		pthread_mutex_lock(&lock);
		while (turn < turns && turn % 2 != me)
			pthread_cond_wait(&turn_changed, &lock);
		if (turn >= turns) {
			pthread_mutex_unlock(&lock);
			return NULL;
		}
		step<<<1, LANES, 0, stream>>>(device, me ? 3 : 5, (unsigned int)turn);
		CUDA(cudaGetLastError());
		if (turn % 16 == 15)
			/* Through the host and back, in the stream's order, started by whoever has the turn. */
			CUDA(cudaMemcpyAsync(pinned + LANES * (turn / 16 % 8), device, LANES * sizeof(*device),
					     cudaMemcpyDeviceToHost, stream));
		if (turn % 16 == 0 && turn)
			CUDA(cudaMemcpyAsync(device, pinned + LANES * ((turn - 1) / 16 % 8), LANES * sizeof(*device),
					     cudaMemcpyHostToDevice, stream));
		turn++;
		pthread_cond_broadcast(&turn_changed);
		pthread_mutex_unlock(&lock);
	}
}

int main(int argc, char **argv)
{
	unsigned int host[LANES], want;
	pthread_t threads[2];
	int wrong = 0;

	turns = size_arg(argc, argv, 400);
	show_device("one stream handed between two threads");
	CUDA(cudaStreamCreate(&stream));
	CUDA(cudaMalloc(&device, sizeof(host)));
	CUDA(cudaMallocHost(&pinned, 8 * sizeof(host)));
	for (int i = 0; i < LANES; i++)
		host[i] = (unsigned int)i;
	CUDA(cudaMemcpy(device, host, sizeof(host), cudaMemcpyHostToDevice));
	for (long i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, play, (void *)i))
			bail("cannot start a thread");
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CUDA(cudaMemcpyAsync(pinned, device, sizeof(host), cudaMemcpyDeviceToHost, stream));
	CUDA(cudaStreamSynchronize(stream));
	for (int i = 0; i < LANES; i++) {
		unsigned int saved = 0;

		want = (unsigned int)i;
		for (long t = 0; t < turns; t++) {
			want = want * (t % 2 ? 3 : 5) + (unsigned int)t;
			/* The copy back at t overwrites the step of t. */
			if (t % 16 == 15)
				saved = want;
			if (t % 16 == 0 && t)
				want = saved;
		}
		wrong += pinned[i] != want;
	}
	ok(!wrong, "%ld turns, %d of %d lanes wrong", turns, wrong, LANES);
	CUDA(cudaStreamDestroy(stream));
	CUDA(cudaFreeHost(pinned));
	CUDA(cudaFree(device));
	return tap_done();
}
