// SPDX-License-Identifier: Apache-2.0
/*
 * Every entry point that works here, with one wrong argument at a time: handles that are NULL, of another type,
 * destroyed, invented or a little off; devices that are none; addresses that are nobody's; pointers that are NULL; what
 * an enumeration has not; flags that there are none of; sizes beyond all memory. Each must be refused as CUDA refuses
 * it: with an error of the class, never with success, a crash or a wait. And after each the session works as before.
 * Which entry points there are and what they take is generated from the call table, so a new call is swept from its
 * first day.
 *
 * Not for NVIDIA's own library: that follows what it is given.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sweep.h"
#include "sweep_null.h"

static struct objects gone;
static CUdeviceptr freed;
static int wrongs, said;
static bool on_software;
static const char *only;	/* the call that is asked for */

/* --- what CUDA allows --------------------------------------------------------------------------------------------- */

/* Is @name the call that is listed as @listed, or a form of it for per-thread streams? */
static bool same_call(const char *listed, const char *name)
{
	size_t n = strlen(listed);

	return !strncmp(listed, name, n) && (!name[n] || !strcmp(name + n, "_ptsz") || !strcmp(name + n, "_ptds"));
}

static bool may_be_null(const char *name, unsigned int i)
{
	for (size_t k = 0; k < sizeof(nulls) / sizeof(nulls[0]); k++)
		if (same_call(nulls[k].name, name))
			return nulls[k].arguments & 1u << i;
	return false;
}

/* Of what is not the argument in question the sweep gives blank structures, and files and images that are none. */
static bool refused(CUresult r, char kind)
{
	switch (r) {
	case CUDA_ERROR_INVALID_VALUE:
	case CUDA_ERROR_INVALID_HANDLE:
	case CUDA_ERROR_INVALID_CONTEXT:
	case CUDA_ERROR_CONTEXT_IS_DESTROYED:
		return true;
	case CUDA_ERROR_INVALID_DEVICE:
		return kind == 'v' || kind == 'p' || kind == 'l';
	case CUDA_ERROR_NOT_FOUND:
		return kind == 'd' || kind == 'p' || kind == 'c' || kind == 'l';
	case CUDA_ERROR_INVALID_IMAGE:
	case CUDA_ERROR_FILE_NOT_FOUND:
	case CUDA_ERROR_NOT_SUPPORTED:
	case CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED:
	case CUDA_ERROR_INVALID_RESOURCE_TYPE:
		return kind == 'p' || kind == 'c' || kind == 'l';
	default:
		return false;
	}
}

/* What an enumeration has not, or flags, or sizes: CUDA_ERROR_INVALID_VALUE, or what sweep_null.h lists. */
static bool refused_number(const char *name, char kind, CUresult r)
{
	if (kind == 's' && r == CUDA_ERROR_OUT_OF_MEMORY)
		return true;
	for (size_t k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++)
		if (same_call(numbers[k].name, name))
			return r == numbers[k].answer || r == CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_ERROR_INVALID_VALUE;
}

static bool host_too(const char *name)
{
	return !strncmp(name, "cuMemcpy_", 9) || !strcmp(name, "cuMemcpy") || !strncmp(name, "cuMemcpyAsync", 13);
}

/* --- calling -------------------------------------------------------------------------------------------------------- */

static void wrong(const struct entry *e, unsigned int i, uint64_t value, const char *what, bool null)
{
	CUstreamCaptureStatus status;
	uint64_t a[MOST];
	char text[160];
	CUresult r, after;
	bool right;

	arguments(e, a);
	a[i] = value;
	snprintf(text, sizeof(text), "%s, argument %u %s", e->name, i + 1, what);
	now = text;
	alarm(60);
	r = e->call(a);
	right = strchr("ebws", e->kinds[i]) ? refused_number(e->name, e->kinds[i], r) : refused(r, e->kinds[i]);
	/* What a number means to it NVIDIA's driver says, or not: the session has to outlive it, which is looked at below. */
	if (!right && strchr("ebws", e->kinds[i]) && !on_software) {
		printf("# %s, as the driver has it: %s\n", text, cu_name(r));
		right = true;
	}
	if (!right && !(null && r == CUDA_SUCCESS && may_be_null(e->name, i))) {
		printf("# %s: %s\n", text, cu_name(r));
		wrongs++;
	}
	if (cuStreamIsCapturing((CUstream)good.of['S'], &status) == CUDA_SUCCESS && status)
		cuStreamEndCapture((CUstream)good.of['S'], (CUgraph *)buffers[0]);
	/* What was right after all may be under way. */
	if (r == CUDA_SUCCESS)
		cuCtxSynchronize_v2(NULL);
	after = works();
	if (after != CUDA_SUCCESS) {
		bail("%s: %s, and then %s", text, cu_name(r), cu_name(after));
	}
	alarm(0);
	now = "nothing";
}

static void sweep_handle(const struct entry *e, unsigned int i)
{
	char k = e->kinds[i];
	uint64_t right = (uintptr_t)good.of[(int)k];

	if (k != 'S')
		wrong(e, i, 0, "NULL", true);
	wrong(e, i, (uintptr_t)good.of[k == 'E' ? 'A' : 'E'], "of another type", false);
	wrong(e, i, 0xdeadbeef0, "invented", false);
	wrong(e, i, right + 8, "8 bytes off", false);
	wrong(e, i, right + 1, "a byte off", false);
	wrong(e, i, 5, "a small number", false);
	if (gone.of[(int)k])
		wrong(e, i, (uintptr_t)gone.of[(int)k], "destroyed", false);
}

static void sweep(const struct entry *e)
{
	int before = wrongs;
	unsigned int swept = 0;

	for (unsigned int i = 0; i < e->n; i++) {
		char k = e->kinds[i];

		swept += k != '-';
		if (strchr(KINDS, k)) {
			sweep_handle(e, i);
		} else if (k == 'v') {
			wrong(e, i, (uint32_t)-1, "device -1", false);
			wrong(e, i, 99, "device 99", false);
		} else if (k == 'd') {
			wrong(e, i, 0, "0", true);
			/* What is nobody's may be host memory, which is read and written as the program says. */
			if (!host_too(e->name)) {
				wrong(e, i, 0x123456789000, "nobody's", false);
				wrong(e, i, memory + OBJECT_BYTES, "past the end", false);
			}
			wrong(e, i, freed, "freed", false);
			if (strstr(e->name, "D16") || strstr(e->name, "D32") || strstr(e->name, "Value"))
				wrong(e, i, memory + 1, "misaligned", false);
		} else if (k == 'p' || k == 'l' || k == 'c' || k == 'f') {
			wrong(e, i, 0, "NULL", true);
		} else if (k == 'e') {
			wrong(e, i, 0x7fff, "none of the enumeration", false);
			wrong(e, i, (uint32_t)-1, "-1", false);
		} else if (k == 's') {
			wrong(e, i, 1ull << 62, "beyond all memory", false);
			wrong(e, i, ~0ull, "the largest there is", false);
		} else if (k == 'b' || k == 'w') {
			wrong(e, i, 1u << 27, "with bit 27", false);
			if (k == 'w')
				wrong(e, i, 1ull << 40, "with bit 40", false);
		}
	}
	if (swept)
		ok(wrongs == before, "%s refuses what is wrong", e->name);
}

/* --- before cuInit, and after the end -------------------------------------------------------------------------------- */

/* What works without it, or needs nothing of the driver. */
static bool needs_no_init(const char *name)
{
	static const char *const names[] = { "cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString", "cuGetProcAddress",
					     "cuGetProcAddress_v2", "cuGetExportTable", "cuModuleGetLoadingMode" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return !strncmp(name, "cuLogs", 6);
}

static void without_driver(const struct entry *e, CUresult wanted, const char *when)
{
	uint64_t a[MOST];
	CUresult r;

	if (needs_no_init(e->name))
		return;
	arguments(e, a);
	now = e->name;
	alarm(60);
	r = e->call(a);
	alarm(0);
	if (r != wanted) {
		printf("# %s, %s: %s\n", e->name, when, cu_name(r));
		wrongs++;
	}
}

static void uninitialised(const struct entry *e) { without_driver(e, CUDA_ERROR_NOT_INITIALIZED, "before cuInit"); }
static void deinitialised(const struct entry *e) { without_driver(e, CUDA_ERROR_DEINITIALIZED, "after the library's end"); }
static void cut_off(const struct entry *e) { without_driver(e, CUDA_ERROR_UNKNOWN, "after the session's end"); }

/* --- without a context -------------------------------------------------------------------------------------------- */

static bool needs_no_context(const char *name)
{
	for (size_t k = 0; k < sizeof(contextless) / sizeof(contextless[0]); k++) {
		size_t n = strlen(contextless[k]);

		if (contextless[k][n - 1] == '*' ? !strncmp(contextless[k], name, n - 1) :
						   same_call(contextless[k], name))
			return true;
	}
	return needs_no_init(name);
}

/* Everything is right but that no context is current; what the blank structures lack may be said first. */
static void no_context(const struct entry *e)
{
	uint64_t a[MOST];
	CUresult r;

	if (needs_no_context(e->name) || (only && strcmp(e->name, only)))
		return;
	arguments(e, a);
	now = e->name;
	alarm(60);
	r = e->call(a);
	alarm(0);
	said += r == CUDA_ERROR_INVALID_CONTEXT;
	if (r != CUDA_ERROR_INVALID_CONTEXT &&
	    (strchr(e->kinds, 'p') ? !refused(r, 'p') : r != CUDA_ERROR_INVALID_VALUE)) {
		printf("# %s, without a context: %s\n", e->name, cu_name(r));
		wrongs++;
	}
}

/* --- what a context takes with it ----------------------------------------------------------------------------------- */

#define ENDED	"SEMFAITUXYJ"	/* the objects that end with their context; others belong to the device or the process */

static bool takes(const struct entry *e, const char *kinds)
{
	return e->kinds[strcspn(e->kinds, kinds)];
}

/* In a context that is current and no more active nothing can be done. */
static void without_context(const struct entry *e)
{
	uint64_t a[MOST];
	CUresult r;

	if (!takes(e, ENDED "d"))
		return;
	arguments(e, a);
	now = e->name;
	alarm(60);
	r = e->call(a);
	alarm(0);
	if (!refused(r, 'd')) {
		printf("# %s, after the reset: %s\n", e->name, cu_name(r));
		wrongs++;
	}
}

/* With another context, or the same one begun anew, the handles of what has ended are still none. */
static void with_another(const struct entry *e, const char *what)
{
	for (unsigned int i = 0; i < e->n; i++)
		if (strchr(ENDED, e->kinds[i]))
			wrong(e, i, (uintptr_t)gone.of[(int)e->kinds[i]], what, false);
}

static void after_reset(const struct entry *e) { with_another(e, "of before the reset"); }
static void after_end(const struct entry *e) { with_another(e, "of a context that has ended"); }

static void endings(CUdevice dev)
{
	CUcontext own, other;
	int before = wrongs;

	/* NVIDIA's driver resets no context that has green ones. */
	object_end('R', good.of['R']);
	CU(cuDevicePrimaryCtxReset_v2(dev));
	each(without_context);
	ok(wrongs == before, "after cuDevicePrimaryCtxReset nothing can be done with what there was");

	gone = good;
	CU(cuDevicePrimaryCtxRetain(&other, dev));
	ok(other == context, "the primary context begins anew, as the same one");
	CU(cuMemAlloc_v2(&memory, OBJECT_BYTES));
	objects_make(&good, dev);
	before = wrongs;
	each(after_reset);
	ok(wrongs == before, "and knows nothing of what there was before");

	CU(cuCtxCreate_v2(&own, 0, dev));
	gone = good;
	objects_make(&gone, dev);
	CU(cuCtxDestroy_v2(own));
	CU(cuCtxGetCurrent(&other));
	ok(other == context, "a context that is destroyed is current no more");
	before = wrongs;
	each(after_end);
	ok(wrongs == before, "what was in it is gone");
}

/* --- after the end -------------------------------------------------------------------------------------------------- */

/* Without the socket that says who is there, the session ends for both sides. Not in a pod, where a device does that. */
static void cut(void)
{
	int before = wrongs;
	struct stat st;

	if (in_pod())
		return;
	for (int fd = 3; fd < 1024; fd++)
		if (!fstat(fd, &st) && S_ISSOCK(st.st_mode))
			shutdown(fd, SHUT_RDWR);
	alarm(60);
	while (cuCtxSynchronize() != CUDA_ERROR_UNKNOWN)
		;
	each(cut_off);
	ok(wrongs == before, "nothing works in a session that has ended");
}

static bool complete;

/* Behind the destructors of all libraries: what is registered before any of them has begun comes after they have ended. */
static void at_end(int status, void *unused)
{
	int before = wrongs;

	(void)unused;
	if (status || !complete)
		return;
	each(deinitialised);
	ok(wrongs == before, "nothing works after libcuda.so.1 has ended");
	_exit(tap_done());
}

static void register_end(void)
{
	on_exit(at_end, NULL);
}

static void (*const first[])(void) __attribute__((section(".preinit_array"), used)) = { register_end };

int main(int argc, char **argv)
{
	CUdevice dev;

	only = argc > 1 ? argv[1] : NULL;
	sweep_begin();
	each(uninitialised);
	ok(!wrongs, "nothing works before cuInit");
	context = primary_context(&dev);
	CU(cuMemAlloc_v2(&memory, OBJECT_BYTES));
	CU(cuMemAlloc_v2(&freed, OBJECT_BYTES));
	objects_make(&good, dev);
	gone = good;
	for (const char *k = KINDS; *k; k++)
		gone.of[(int)*k] = object_make(&gone, *k);
	/* The last first: what has no end of its own, but for descriptors, goes with what it belongs to. */
	for (size_t k = strlen(KINDS); k--;)
		object_end(KINDS[k], gone.of[(int)KINDS[k]]);
	gone.of['D'] = NULL;
	CU(cuMemFree_v2(freed));

	on_software = ON_SOFTWARE();
	CU(cuCtxSetCurrent(NULL));
	each(no_context);
	ok(!wrongs && (only || said > 200), "without a context nothing works that needs one: %d say so", said);
	CU(cuCtxSetCurrent(context));

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
		if (!only || !strcmp(only, entries[i].name))
			sweep(&entries[i]);
	endings(dev);
	cut();
	complete = true;
	return 0;	/* tap_done() is at_end()'s */
}
