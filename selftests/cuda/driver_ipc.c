// SPDX-License-Identifier: Apache-2.0
/* Memory and events of two processes: cuIpc…, exporter and importer, and what must not work. */
#include <time.h>

#include "driver.h"
#include "peer.h"
#include "quota.h"

/* add: word i of n at p gets i + by more; the value at @flag is not touched. */
static const char ptx[] = PTX_HEAD PTX_COUNT_UP("add");

#define N	(768u << 10)		/* words: 3 MiB */
#define BYTES	(N * 4ul)
/* The call's first form, which cuda.h hides behind the second. */
CUresult open_as_before(CUdeviceptr *p, CUipcMemHandle handle, unsigned int flags) __asm__("cuIpcOpenMemHandle");

#define FLAGS	CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS

static CUcontext ctx;
static CUfunction add;

static void cuda_start(void)
{
	CUmodule module;

	ctx = primary_context(NULL);
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&add, module, "add"));
}

static void launch(CUdeviceptr d, unsigned int by, CUstream s)
{
	void *params[] = { &d, &by };

	CU(cuLaunchKernel(add, N / 256, 1, 1, 256, 1, 1, 0, s, params, NULL));
}

/* Is word i of @d @times * i + @base? */
static bool holds(CUdeviceptr d, unsigned int times, unsigned int base)
{
	unsigned int *p = malloc(BYTES);
	bool good = true;

	CU(cuMemcpyDtoH(p, d, BYTES));
	for (unsigned int i = 0; i < N && good; i++) {
		good = p[i] == times * i + base;
		if (!good)
			printf("# word %u of %u is %u, not %u\n", i, N, p[i], times * i + base);
	}
	free(p);
	return good;
}

static bool is_soft(void)
{
	char name[64] = "";

	CU(cuDeviceGetName(name, sizeof(name), 0));
	return strstr(name, "software GPU");
}

/* --- memory --------------------------------------------------------------------------------------------------------- */

static void memory_owner(int sock)
{
	CUdeviceptr mine, before, after;
	CUipcMemHandle handle, again;
	unsigned int word = 0;

	cuda_start();
	CU(cuMemAlloc(&before, 4096));
	CU(cuMemAlloc(&mine, BYTES));
	CU(cuMemAlloc(&after, 4096));
	CU(cuMemsetD32(before, 0xb, 1024));
	CU(cuMemsetD32(mine, 7, N));
	CU(cuMemsetD32(after, 0xa, 1024));
	launch(mine, 0, NULL);
	CU(cuIpcGetMemHandle(&handle, mine));
	CU(cuIpcGetMemHandle(&again, mine));
	if (memcmp(&handle, &again, sizeof(handle)))
		bail("two handles for the same memory");
	launch(mine, 0, NULL);	/* also what is written after the export is seen */
	CU(cuCtxSynchronize());
	tell(sock, &handle, sizeof(handle));
	await(sock);
	if (!holds(mine, 3, 12))
		bail("the other process's work is not seen");
	CU(cuMemcpyDtoH(&word, before + 4092, 4));
	if (word != 0xb)
		bail("memory in front of it was touched");
	CU(cuMemcpyDtoH(&word, after, 4));
	if (word != 0xa)
		bail("memory behind it was touched");
	CU(cuMemFree(mine));
	CU(cuCtxSynchronize());
	step(sock);
	await(sock);
	step(sock);
}

static void memory(void)
{
	unsigned int type = 0, word = 0, ten = 10;
	CUdeviceptr theirs = 0, again = 0, base = 0, ours;
	size_t size = 0;
	CUipcMemHandle handle;
	pid_t pid;
	int sock = peer_start(memory_owner, &pid);

	hear(sock, &handle, sizeof(handle));
	CU(cuIpcOpenMemHandle(&theirs, handle, FLAGS));
	ok(holds(theirs, 2, 7), "memory of another process holds what it wrote, before and after the export");
	CU(cuMemGetAddressRange(&base, &size, theirs + 100));
	ok(base == theirs && size >= BYTES, "its range is known: %zu bytes", size);
	CU(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, theirs));
	ok(type == CU_MEMORYTYPE_DEVICE, "it is device memory");
	CU(open_as_before(&again, handle, FLAGS));
	ok(again == theirs, "opened again it is where it was");
	GIVES(cuMemFree(theirs), CUDA_ERROR_INVALID_VALUE, "it cannot be freed");
	GIVES(cuIpcCloseMemHandle(theirs + 256), CUDA_ERROR_INVALID_VALUE, "nor closed by another address");
	CU(cuIpcCloseMemHandle(theirs));

	/* By kernel, by copies in both directions, by fill. */
	launch(theirs, 0, NULL);
	CU(cuMemAlloc(&ours, BYTES));
	CU(cuMemcpyDtoD(ours, theirs, BYTES));
	ok(holds(ours, 3, 7), "a copy between devices, after a kernel");
	CU(cuMemsetD32(theirs, 0, N));
	CU(cuMemcpy(theirs, ours, BYTES));
	CU(cuMemcpyHtoD(theirs, &ten, 4));
	CU(cuMemcpyDtoH(&word, theirs, 4));
	ok(word == 10, "a copy from and to the host: %u", word);
	word = 7;
	CU(cuMemcpyHtoD(theirs, &word, 4));
	{
		/* Five more in each word. */
		unsigned int *p = malloc(BYTES);

		CU(cuMemcpyDtoH(p, theirs, BYTES));
		for (unsigned int i = 0; i < N; i++)
			p[i] += 5;
		CU(cuMemcpyHtoD(theirs, p, BYTES));
		free(p);
	}
	CU(cuCtxSynchronize());
	step(sock);
	await(sock);
	ok(holds(theirs, 3, 12), "what the other process has freed stays here");
	if (!counts_apart())
		ok(free_memory() + 2 * BYTES <= baseline, "and counts until nobody has it");
	GIVES(cuIpcOpenMemHandle(&again, handle, FLAGS), CUDA_SUCCESS, "whoever has it may open it again");
	CU(cuIpcCloseMemHandle(again));
	CU(cuIpcCloseMemHandle(theirs));
	GIVES(cuIpcCloseMemHandle(theirs), CUDA_ERROR_INVALID_VALUE, "closed is closed");
	GIVES(cuMemcpyDtoH(&word, theirs, 4), CUDA_ERROR_INVALID_VALUE, "and not to be read");
	GIVES(cuIpcOpenMemHandle(&again, handle, FLAGS), CUDA_ERROR_INVALID_VALUE, "nor to be opened");
	CU(cuMemFree(ours));
	step(sock);
	ok(peer_done(sock), "the other process saw all of it");
	ok(free_again(), "all memory is free again");
}

/* --- memory that is in use when it is exported ------------------------------------------------------------------------ */

#define LAUNCHES 24

static void busy_owner(int sock)
{
	CUipcMemHandle handle;
	CUstream stream[2];
	CUdeviceptr mine;

	cuda_start();
	for (int i = 0; i < 2; i++)
		CU(cuStreamCreate(&stream[i], CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&mine, BYTES));
	CU(cuMemsetD32(mine, 7, N));
	CU(cuCtxSynchronize());
	for (int i = 0; i < LAUNCHES; i++)
		launch(mine, 0, stream[0]);
	CU(cuIpcGetMemHandle(&handle, mine));
	tell(sock, &handle, sizeof(handle));
	CU(cuStreamSynchronize(stream[0]));
	if (!holds(mine, LAUNCHES, 7))
		bail("what kernels wrote during the export is lost");
	step(sock);
	await(sock);
	step(sock);
}

static void busy(void)
{
	CUdeviceptr theirs;
	CUipcMemHandle handle;
	pid_t pid;
	int sock = peer_start(busy_owner, &pid);

	hear(sock, &handle, sizeof(handle));
	CU(cuIpcOpenMemHandle(&theirs, handle, FLAGS));
	await(sock);
	ok(holds(theirs, LAUNCHES, 7), "memory that kernels wrote to while it was exported holds what all of them wrote");
	CU(cuIpcCloseMemHandle(theirs));
	step(sock);
	ok(peer_done(sock), "on both sides");
}

/* --- handles that are none ------------------------------------------------------------------------------------------ */

static void idle_owner(int sock)
{
	CUdeviceptr mine;
	CUipcMemHandle handle;

	cuda_start();
	CU(cuMemAlloc(&mine, BYTES));
	launch(mine, 0, NULL);
	CU(cuCtxSynchronize());
	CU(cuIpcGetMemHandle(&handle, mine));
	tell(sock, &handle, sizeof(handle));
	await(sock);
	step(sock);
}

static void wrong_handles(void)
{
	CUipcEventHandle event_handle;
	CUipcMemHandle handle, bad;
	CUdeviceptr p, host, managed, mine;
	CUevent plain, shared, opened;
	int refused = 0, tried = 0;
	CUstream stream;
	void *pinned;
	pid_t pid;
	int sock = peer_start(idle_owner, &pid);

	hear(sock, &handle, sizeof(handle));
	for (unsigned int bit = 0; bit < sizeof(handle) * 8; bit += 3) {
		bad = handle;
		bad.reserved[bit / 8] ^= 1 << bit % 8;
		tried++;
		refused += cuIpcOpenMemHandle(&p, bad, FLAGS) == CUDA_ERROR_INVALID_VALUE;
	}
	ok(refused == tried, "a handle with one bit wrong: %d of %d refused", refused, tried);
	for (tried = refused = 0; tried < 64; tried++) {
		bad = handle;
		for (size_t i = tried % 2 ? 0 : 16; i < sizeof(bad); i++)
			bad.reserved[i] = (char)rand();
		refused += cuIpcOpenMemHandle(&p, bad, FLAGS) == CUDA_ERROR_INVALID_VALUE;
	}
	ok(refused == tried, "a handle that was made up: %d of %d refused", refused, tried);
	memset(&bad, 0, sizeof(bad));
	GIVES(cuIpcOpenMemHandle(&p, bad, FLAGS), CUDA_ERROR_INVALID_VALUE, "a handle that is all zero");
	GIVES(cuIpcOpenMemHandle(NULL, handle, FLAGS), CUDA_ERROR_INVALID_VALUE, "nowhere to put the address");
	GIVES(cuIpcOpenMemHandle(&p, handle, 0), CUDA_ERROR_INVALID_VALUE, "flags 0");
	memcpy(&event_handle, &handle, sizeof(handle));
	GIVES(cuIpcOpenEventHandle(&opened, event_handle), CUDA_ERROR_INVALID_HANDLE, "memory's handle as an event's");

	CU(cuMemAlloc(&mine, 1 << 20));
	GIVES(cuIpcGetMemHandle(NULL, mine), CUDA_ERROR_INVALID_VALUE, "nowhere to put the handle");
	CU(cuIpcGetMemHandle(&bad, mine));
	GIVES(cuIpcOpenMemHandle(&p, bad, FLAGS), CUDA_ERROR_INVALID_CONTEXT, "a process opens what it has itself");
	GIVES(cuIpcCloseMemHandle(mine), CUDA_ERROR_INVALID_VALUE, "and closes what it has not opened");
	CU(cuMemFree(mine));
	GIVES(cuIpcOpenMemHandle(&p, bad, FLAGS), CUDA_ERROR_INVALID_VALUE, "the handle of memory that is gone");
	GIVES(cuIpcGetMemHandle(&bad, mine), CUDA_ERROR_INVALID_VALUE, "memory that is gone");
	CU(cuMemAllocHost(&pinned, 4096));
	GIVES(cuIpcGetMemHandle(&bad, (CUdeviceptr)pinned), CUDA_ERROR_INVALID_VALUE, "host memory");
	CU(cuMemHostGetDevicePointer(&host, pinned, 0));
	CU(cuMemFreeHost(pinned));
	CU(cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL));
	GIVES(cuIpcGetMemHandle(&bad, managed), CUDA_ERROR_INVALID_VALUE, "managed memory");
	CU(cuMemFree(managed));
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuMemAllocAsync(&mine, 4096, stream));
	GIVES(cuIpcGetMemHandle(&bad, mine), CUDA_ERROR_INVALID_VALUE, "memory of a pool");
	CU(cuMemFreeAsync(mine, stream));
	CU(cuStreamSynchronize(stream));
	CU(cuStreamDestroy(stream));

	GIVES(cuEventCreate(&shared, CU_EVENT_INTERPROCESS), CUDA_ERROR_INVALID_VALUE, "an interprocess event with timing");
	CU(cuEventCreate(&plain, CU_EVENT_DISABLE_TIMING));
	GIVES(cuIpcGetEventHandle(&event_handle, plain), CUDA_ERROR_INVALID_HANDLE, "an event that is no interprocess one");
	CU(cuEventCreate(&shared, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
	GIVES(cuIpcGetEventHandle(NULL, shared), CUDA_ERROR_INVALID_VALUE, "nowhere to put the event's handle");
	CU(cuIpcGetEventHandle(&event_handle, shared));
	GIVES(cuIpcOpenEventHandle(&opened, event_handle), CUDA_ERROR_INVALID_CONTEXT, "a process opens its own event");
	GIVES(cuIpcOpenEventHandle(NULL, event_handle), CUDA_ERROR_INVALID_VALUE, "nowhere to put the event");
	event_handle.reserved[40] ^= 4;
	GIVES(cuIpcOpenEventHandle(&opened, event_handle), CUDA_ERROR_INVALID_HANDLE, "an event's handle with a bit wrong");
	event_handle.reserved[40] ^= 4;
	CU(cuEventDestroy(shared));
	GIVES(cuIpcOpenEventHandle(&opened, event_handle), CUDA_ERROR_INVALID_HANDLE, "the handle of an event that is gone");
	CU(cuEventDestroy(plain));
	step(sock);
	ok(peer_done(sock), "the owner has noticed nothing");
}

/* --- events --------------------------------------------------------------------------------------------------------- */

struct exported {
	CUipcMemHandle memory;
	CUipcEventHandle produced, consumed;
};

/* What is behind a wait for a word in memory is not done until somebody writes it. */
static void producer(int sock)
{
	CUevent produced, consumed;
	CUstream work, other;
	CUdeviceptr data, gate;
	struct exported x;
	unsigned int one = 1;

	cuda_start();
	CU(cuMemAlloc(&data, BYTES));
	CU(cuMemAlloc(&gate, 4096));
	CU(cuStreamCreate(&work, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	CU(cuEventCreate(&produced, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
	CU(cuEventCreate(&consumed, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
	CU(cuIpcGetMemHandle(&x.memory, data));
	CU(cuIpcGetEventHandle(&x.produced, produced));
	CU(cuIpcGetEventHandle(&x.consumed, consumed));

	for (unsigned int round = 0; round < 3; round++) {
		CU(cuMemsetD32(gate, 0, 1024));
		CU(cuCtxSynchronize());
		CU(cuStreamWaitValue32(work, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
		CU(cuMemsetD32Async(data, 100 * round, N, work));
		launch(data, 0, work);
		CU(cuEventRecord(produced, work));
		if (!round)
			tell(sock, &x, sizeof(x));
		else
			step(sock);
		await(sock);
		CU(cuStreamWriteValue32(other, gate, one, 0));
		await(sock);
		/* The consumer has recorded `consumed` in a stream that is not done yet: its work must be seen behind it. */
		CU(cuStreamWaitEvent(work, consumed, 0));
		launch(data, 1, work);
		step(sock);
		CU(cuEventSynchronize(consumed));
		CU(cuStreamSynchronize(work));
		if (!holds(data, 3, 100 * round + 6))
			bail("round %u: the work of the two is not in order", round);
	}
	step(sock);
	await(sock);
	step(sock);
}

static void events(void)
{
	int not_ready = 0, ready = 0, in_order = 0, busy = 0;
	CUevent produced, consumed;
	CUdeviceptr theirs, ours, gate;
	CUstream stream, other;
	struct exported x;
	pid_t pid;
	int sock = peer_start(producer, &pid);

	CU(cuMemAlloc(&ours, BYTES));
	CU(cuMemAlloc(&gate, 4096));
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	for (unsigned int round = 0; round < 3; round++) {
		if (!round) {
			hear(sock, &x, sizeof(x));
			CU(cuIpcOpenMemHandle(&theirs, x.memory, FLAGS));
			CU(cuIpcOpenEventHandle(&produced, x.produced));
			CU(cuIpcOpenEventHandle(&consumed, x.consumed));
		} else {
			await(sock);
		}
		not_ready += cuEventQuery(produced) == CUDA_ERROR_NOT_READY;
		CU(cuMemsetD32(ours, 0, N));
		CU(cuMemsetD32(gate, 0, 1024));
		CU(cuCtxSynchronize());
		CU(cuStreamWaitEvent(stream, produced, 0));
		CU(cuMemcpyDtoDAsync(ours, theirs, BYTES, stream));
		not_ready += cuStreamQuery(stream) == CUDA_ERROR_NOT_READY;
		step(sock);	/* the gate opens */
		CU(cuEventSynchronize(produced));
		ready += cuEventQuery(produced) == CUDA_SUCCESS;
		CU(cuStreamSynchronize(stream));
		in_order += holds(ours, 1, 100 * round);

		CU(cuStreamWaitValue32(stream, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
		launch(theirs, 5, stream);
		CU(cuEventRecord(consumed, stream));
		busy += cuEventQuery(consumed) == CUDA_ERROR_NOT_READY;
		step(sock);	/* they may wait for it now */
		await(sock);
		CU(cuStreamWriteValue32(other, gate, 1, 0));
	}
	ok(not_ready == 6, "an event of another process is not complete before its work is: %d of 6", not_ready);
	ok(ready == 3, "afterwards it is: %d of 3", ready);
	ok(in_order == 3, "a stream that waits for it sees the work before it: %d of 3", in_order);
	ok(busy == 3, "and one that we record is not complete before our work is: %d of 3", busy);
	await(sock);
	step(sock);
	ok(peer_done(sock), "nor does the other process go on before");
	CU(cuEventDestroy(produced));
	CU(cuEventDestroy(consumed));
	CU(cuIpcCloseMemHandle(theirs));
	CU(cuMemFree(ours));
	CU(cuMemFree(gate));
	CU(cuStreamDestroy(stream));
	CU(cuStreamDestroy(other));
	ok(free_again(), "all memory is free again");
}

/* The handle of what its owner, now dead, had: refused once its end has been noticed. */
static CUresult open_at_last(CUipcMemHandle handle)
{
	CUdeviceptr p;
	CUresult r;

	for (int i = 0; i < 3000; i++) {
		r = cuIpcOpenMemHandle(&p, handle, FLAGS);
		if (r != CUDA_SUCCESS)
			break;
		CU(cuIpcCloseMemHandle(p));
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return r;
}

/* --- the exporter dies ---------------------------------------------------------------------------------------------- */

static void short_lived(int sock)
{
	CUdeviceptr mine, gate;
	CUstream stream;
	CUevent never;
	struct exported x = { 0 };

	cuda_start();
	CU(cuMemAlloc(&mine, BYTES));
	CU(cuMemAlloc(&gate, 4096));
	CU(cuMemsetD32(gate, 0, 1024));
	CU(cuMemsetD32(mine, 3, N));
	launch(mine, 0, NULL);
	CU(cuCtxSynchronize());
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuEventCreate(&never, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
	CU(cuIpcGetMemHandle(&x.memory, mine));
	CU(cuIpcGetEventHandle(&x.produced, never));
	CU(cuStreamWaitValue32(stream, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
	CU(cuEventRecord(never, stream));
	tell(sock, &x, sizeof(x));
	await(sock);
}

static void death(void)
{
	CUdeviceptr theirs, again;
	CUevent never = NULL;
	struct exported x;
	CUresult r;
	pid_t pid;
	char c;
	int sock = peer_start(short_lived, &pid);

	hear(sock, &x, sizeof(x));
	CU(cuIpcOpenMemHandle(&theirs, x.memory, FLAGS));
	CU(cuIpcOpenEventHandle(&never, x.produced));
	GIVES(cuEventQuery(never), CUDA_ERROR_NOT_READY, "an event of a process that will die");
	kill(pid, SIGKILL);
	ok(recv(sock, &c, 1, 0) <= 0, "the exporter is killed");
	close(sock);
	if (is_soft())
		GIVES(cuEventSynchronize(never), CUDA_ERROR_EXTERNAL_DEVICE, "what it was to complete never will be");
	ok(holds(theirs, 1, 3), "its memory stays");
	launch(theirs, 1, NULL);
	ok(holds(theirs, 2, 4), "and can be worked on");
	if (!counts_apart())
		ok(free_memory() + BYTES <= baseline, "it counts, although its owner is gone");
	GIVES(cuIpcOpenMemHandle(&again, x.memory, FLAGS), CUDA_SUCCESS, "opened again it is there still");
	CU(cuIpcCloseMemHandle(again));
	CU(cuIpcCloseMemHandle(theirs));
	CU(cuEventDestroy(never));
	r = open_at_last(x.memory);
	ok(r == CUDA_ERROR_INVALID_VALUE || r == CUDA_ERROR_INVALID_HANDLE, "a handle that its owner took along: %s", cu_name(r));
	GIVES(cuIpcOpenEventHandle(&never, x.produced), CUDA_ERROR_INVALID_HANDLE, "an event that its owner took along");
	ok(free_again(), "all memory is free again");
}

/* --- the importer's context ends ---------------------------------------------------------------------------------------- */

static void reset(void)
{
	CUipcMemHandle handle;
	CUdeviceptr theirs;
	pid_t pid;
	int sock = peer_start(idle_owner, &pid);

	hear(sock, &handle, sizeof(handle));
	CU(cuIpcOpenMemHandle(&theirs, handle, FLAGS));
	CU(cuDevicePrimaryCtxReset(0));
	cuda_start();
	GIVES(cuIpcCloseMemHandle(theirs), CUDA_ERROR_INVALID_VALUE, "a context's end closes what it had opened");
	CU(cuIpcOpenMemHandle(&theirs, handle, FLAGS));
	ok(holds(theirs, 1, 0), "which the next one can open");
	CU(cuIpcCloseMemHandle(theirs));
	step(sock);
	ok(peer_done(sock), "the owner has noticed nothing");
	ok(free_again(), "all memory is free again");
}

/* --- fork() --------------------------------------------------------------------------------------------------------- */

static void forked(void)
{
	CUipcMemHandle handle;
	CUdeviceptr mine, p;
	int status;
	pid_t pid;

	CU(cuMemAlloc(&mine, 4096));
	CU(cuIpcGetMemHandle(&handle, mine));
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(cuIpcOpenMemHandle(&p, handle, FLAGS) == CUDA_ERROR_NOT_INITIALIZED ? 0 : 1);
	waitpid(pid, &status, 0);
	ok(WIFEXITED(status) && !WEXITSTATUS(status), "a child of fork() has no part in its parent's memory");
	CU(cuMemFree(mine));
}

int main(void)
{
	int value = 0;

	peers_init();
	cuda_start();
	CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED, 0));
	ok(value == 1, "the device has interprocess memory and events");
	baseline = free_memory();
	busy();
	events();
	if (!native("handles of what is gone or never was, and who counts what")) {
		memory();
		wrong_handles();
		death();
		reset();
	}
	forked();
	return tap_done();
}
