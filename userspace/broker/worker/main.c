// SPDX-License-Identifier: Apache-2.0
/* vgpu-worker is started by vgpu-broker and by nobody else: fd 3 is the broker, fd 4 the page of counters. */
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../log.h"
#include "worker.h"

#define POLL_NS	20000
#define LOOK_MS	1	/* while something waits for frees to be over */
/*
 * Queues of the GPU, as many as NVIDIA's driver takes: streams beyond these share one, where what waits keeps up what is behind
 * it. A client's streams are not alone here (watch.c, fence.c).
 */
#define CONNECTIONS	"32"

struct worker worker;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *fmt, ...)
{
	char text[WORKER_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	control_tell(WORKER_FAILED, 0, 0, text);
	_exit(1);
}

void worker_violation(struct worker *w, const char *fmt, ...)
{
	va_list ap;

	if (w->violation[0])
		return;
	va_start(ap, fmt);
	vsnprintf(w->violation, sizeof(w->violation), fmt, ap);
	va_end(ap);
}

/* Something only a broken or hostile client causes: counted, and told to the log, but not without end. */
void worker_complain(struct worker *w, const char *fmt, ...)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct log_bucket bucket;
	char text[WORKER_TEXT_MAX];
	uint64_t suppressed;
	va_list ap;
	bool tell;

	pthread_mutex_lock(&lock);
	stat_add(&w->stats->refused, 1);
	tell = log_allowed(&bucket, log_now_ns(), &suppressed);
	pthread_mutex_unlock(&lock);
	if (!tell)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	control_tell(WORKER_LOG, LOG_WARNING, 0, text);
}

/* --- replies ------------------------------------------------------------------------------------------------------- */

static int result_of(int idm_error)
{
	switch (idm_error) {
	case IDM_ERROR_INVALID_HANDLE:
		return CUDA_ERROR_INVALID_HANDLE;
	case IDM_ERROR_PERMISSION_DENIED:
		return CUDA_ERROR_NOT_PERMITTED;
	case IDM_ERROR_OUT_OF_MEMORY:
		return CUDA_ERROR_OUT_OF_MEMORY;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

/* The answer only gives a chunk back, or is looked at who knows when. */
static bool unread(const struct idm_header *hdr, const struct vgpu_call *call)
{
	return call && call->reserved == VGPU_CALL_UNREAD &&
	       (hdr->type == VGPU_MSG_cuMemcpyHtoD_v2 || hdr->type == VGPU_MSG_cuMemcpy2D_v2 || hdr->type == VGPU_MSG_image_part ||
		hdr->type == VGPU_MSG_cuModuleLoadData);
}

void worker_reply_always(struct worker *w, const struct idm_header *hdr, const struct vgpu_call *call, int idm_error,
			 int cu_result, const void *results, size_t len)
{
	struct idm_response r = { .error = idm_error, .cu_result = cu_result };

	if (idm_error == IDM_ERROR_INVALID_MESSAGE) {
		const struct worker_call *c = worker_call_find(hdr->type);

		worker_violation(w, "a message %s of the wrong length (%u bytes)", c ? c->name : "?", hdr->payload_len);
		return;
	}
	if (idm_error)
		r.cu_result = result_of(idm_error);
	else if (cu_result)
		r.error = IDM_ERROR_CUDA_ERROR;
	if (hdr->flags & IDM_FLAG_POSTED) {
		if (r.error)
			latch_set(&w->latches, call->thread, r.cu_result, hdr->type);
		return;
	}
	if (!unread(hdr, call))
		r.latched = latch_take(&w->latches, call->thread, &r.latched_type);
	else if (r.error && (hdr->type == VGPU_MSG_cuMemcpyHtoD_v2 || hdr->type == VGPU_MSG_cuMemcpy2D_v2))
		latch_set(&w->latches, call->thread, r.cu_result, hdr->type);	/* as if there were no answer */
	if (idm_server_reply(w->server, hdr->seq, &r, results, len) != -EMSGSIZE)
		return;
	/* The client made its reply ring too small for what it asks. */
	r.error = IDM_ERROR_INVALID_SIZE;
	r.cu_result = CUDA_ERROR_INVALID_VALUE;
	idm_server_reply(w->server, hdr->seq, &r, NULL, 0);
}

void worker_reply(struct worker *w, const struct idm_header *hdr, const struct vgpu_call *call, int idm_error,
		  int cu_result, const void *results, size_t len)
{
	bool ok = !idm_error && !cu_result;

	if (park_taken)
		return;
	worker_reply_always(w, hdr, call, idm_error, cu_result, ok ? results : NULL, ok ? len : 0);
}

/* --- the session --------------------------------------------------------------------------------------------------- */

static void __attribute__((noreturn)) end(struct worker *w, const char *reason, bool violation)
{
	/* libidm begins with the zone, which the broker says anyway. */
	if (!strncmp(reason, "zone ", 5) && strstr(reason, ": "))
		reason = strstr(reason, ": ") + 2;
	/* The broker first: it kills this process as soon as the client, which is told next, has closed the session. */
	control_tell(WORKER_ENDED, violation, 0, reason);
	if (*reason)
		idm_server_end(w->server, reason);
	/* Whatever the driver holds goes with the process; tidying up could only take time. */
	_exit(0);
}

static void dispatch(struct worker *w, const struct idm_message *m)
{
	const struct worker_call *c = worker_call_find(m->header.type);

	if (!c) {
		worker_violation(w, "a message of unknown type %#x", m->header.type);
		return;
	}
	if (m->header.payload_len < sizeof(struct vgpu_call)) {
		worker_violation(w, "a message %s of the wrong length (%u bytes)", c->name, m->header.payload_len);
		return;
	}
	block_heard(w, ((const struct vgpu_call *)m->payload)->thread);
	park_begin(m);
	c->fn(w, m);
	if (!block_replaced())
		park_end();
}

void worker_serve(struct worker *w)
{
	struct idm_message m;
	struct idm_error e = { 0 };
	bool soon;
	int ret;

	for (;;) {
		/* With young waits, look at the ring and at them in turn. */
		if (w->young && !idm_server_ready(w->server) && fence_poll(w) == 0)
			continue;
		if (park_next(&m)) {
			dispatch(w, &m);
			if (w->violation[0])
				end(w, w->violation, true);
			continue;
		}
		soon = fence_start_frees(w) || park_waiting();
		ret = idm_server_recv(w->server, &m, soon ? LOOK_MS : -1, &e);
		if (ret == -EPIPE)
			end(w, "", false);
		if (ret < 0)
			end(w, e.text, true);
		if (ret == 0)
			continue;
		if (!w->stats->calls) {
			snprintf(w->stats->program, sizeof(w->stats->program), "%s",
				 idm_server_program(w->server, &w->stats->client_pid));
		}
		stat_add(&w->stats->calls, 1);
		dispatch(w, &m);
		if (block_replaced())
			return;
		__atomic_store_n(&w->stats->handles, w->handles.used, __ATOMIC_RELAXED);
		if (w->violation[0])
			end(w, w->violation, true);
		if (w->young)
			fence_poll(w);
	}
}

/* --- before it ------------------------------------------------------------------------------------------------------ */

/* The configured GPUs, "0+1" or "GPU-<uuid>", as the driver's ordinals. */
static bool parse_uuid(const char *text, unsigned char out[16])
{
	unsigned int n = 0;

	if (!strncmp(text, "GPU-", 4) || !strncmp(text, "MIG-", 4))
		text += 4;
	while (*text && n < 32) {
		int v;

		if (*text == '-') {
			text++;
			continue;
		}
		if (*text >= '0' && *text <= '9')
			v = *text - '0';
		else if (*text >= 'a' && *text <= 'f')
			v = *text - 'a' + 10;
		else if (*text >= 'A' && *text <= 'F')
			v = *text - 'A' + 10;
		else
			return false;
		out[n / 2] = n % 2 ? out[n / 2] | v : v << 4;
		n++;
		text++;
	}
	return n == 32 && !*text;
}

static const char *find_gpus(struct worker *w)
{
	static char why[200];
	char list[WORKER_GPU_MAX], *save = NULL, *item;
	int count = 0, dev;

	D.cuDeviceGetCount(&count);
	strcpy(list, w->assign.gpu);
	for (item = strtok_r(list, "+", &save); item; item = strtok_r(NULL, "+", &save)) {
		unsigned char want[16], have[16];
		char *tail;
		long index = strtol(item, &tail, 10);

		dev = -1;
		if (*item && !*tail) {
			dev = index >= 0 && index < count ? (int)index : -1;
		} else if (parse_uuid(item, want)) {
			for (dev = count - 1; dev >= 0; dev--) {
				CUresult r = D.cuDeviceGetUuid_v2 ? D.cuDeviceGetUuid_v2((CUuuid *)have, dev) :
								    D.cuDeviceGetUuid((CUuuid *)have, dev);

				if (r == CUDA_SUCCESS && !memcmp(want, have, 16))
					break;
			}
		}
		if (dev < 0 || w->ndevices == VGPU_DEVICES_MAX) {
			snprintf(why, sizeof(why), "the device's gpu '%.60s' is not there: the driver shows %d (0 to %d)", item,
				 count, count - 1);
			return why;
		}
		w->numbers[w->ndevices] = w->ndevices;
		w->ordinals[w->ndevices++] = dev;
	}
	return w->ndevices ? NULL : "the device has no GPU configured";
}

static void load_driver(const char *path)
{
	void *dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const char *missing = NULL;

	if (!dl)
		fail("cannot load the CUDA driver library: %s", dlerror());
	worker_driver_load(dl);
	ipc_init(dl);
	worker.ptx_only = dlsym(dl, "softgpu_share_host");	/* it is the software GPU */
#define NEED(name) \
	do { \
		if (!D.name && !missing) \
			missing = #name; \
	} while (0)
	NEED(cuInit);
	NEED(cuDriverGetVersion);
	NEED(cuDeviceGetCount);
	NEED(cuDeviceGetName);
	NEED(cuDeviceGetUuid);
	NEED(cuDeviceGetPCIBusId);
	NEED(cuDeviceTotalMem_v2);
	NEED(cuDeviceGetAttribute);
	NEED(cuDevicePrimaryCtxRetain);
	NEED(cuDevicePrimaryCtxRelease_v2);
	NEED(cuDevicePrimaryCtxReset_v2);
	NEED(cuCtxCreate_v2);
	NEED(cuCtxDestroy_v2);
	NEED(cuCtxSetCurrent);
	NEED(cuCtxGetCurrent);
	NEED(cuCtxPopCurrent_v2);
	NEED(cuCtxSynchronize);
	NEED(cuCtxGetStreamPriorityRange);
	NEED(cuModuleLoadDataEx);
	NEED(cuModuleGetFunction);
	NEED(cuModuleGetGlobal_v2);
	NEED(cuModuleUnload);
	NEED(cuLibraryLoadData);
	NEED(cuLibraryGetKernel);
	NEED(cuLibraryGetGlobal);
	NEED(cuLibraryUnload);
	NEED(cuKernelGetFunction);
	NEED(cuKernelGetAttribute);
	NEED(cuFuncGetAttribute);
	NEED(cuMemAlloc_v2);
	NEED(cuMemAllocPitch_v2);
	NEED(cuMemFree_v2);
	NEED(cuMemGetInfo_v2);
	NEED(cuMemcpyHtoD_v2);
	NEED(cuMemcpyHtoDAsync_v2);
	NEED(cuMemcpyDtoH_v2);
	NEED(cuMemcpyDtoHAsync_v2);
	NEED(cuMemcpyDtoDAsync_v2);
	NEED(cuMemcpy2D_v2);
	NEED(cuMemcpy2DUnaligned_v2);
	NEED(cuMemcpy2DAsync_v2);
	NEED(cuMemsetD8Async);
	NEED(cuMemsetD16Async);
	NEED(cuMemsetD32Async);
	NEED(cuMemsetD2D8Async);
	NEED(cuMemsetD2D16Async);
	NEED(cuMemsetD2D32Async);
	NEED(cuStreamCreate);
	NEED(cuStreamDestroy_v2);
	NEED(cuStreamQuery);
	NEED(cuStreamSynchronize);
	NEED(cuEventCreate);
	NEED(cuEventDestroy_v2);
	NEED(cuEventQuery);
	NEED(cuEventRecord);
	NEED(cuEventSynchronize);
	NEED(cuLaunchKernel);
	NEED(cuLaunchKernelEx);
	if (missing)
		fail("%s is no CUDA driver library, or too old a one: it has no %s", path, missing);
}

static void init_driver(const char *path)
{
	CUresult r = D.cuInit(0);

	if (r != CUDA_SUCCESS)
		fail("%s: cuInit failed: CUresult %d%s", path, r,
		     r == CUDA_ERROR_NO_DEVICE ? " (no GPU; is NVIDIA's kernel driver loaded?)" : "");
}

/* Read while there are files to read. The software GPU has a number of its own. */
static void read_version(struct worker *w)
{
	FILE *f = w->soft ? NULL : fopen("/sys/module/nvidia/version", "re");

	if (w->soft)
		snprintf(w->driver_version, sizeof(w->driver_version), "0.1.0");
	if (!f)
		return;
	if (!fgets(w->driver_version, sizeof(w->driver_version), f))
		w->driver_version[0] = '\0';
	w->driver_version[strcspn(w->driver_version, "\n")] = '\0';
	fclose(f);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "driver", required_argument, NULL, 'd' }, { "profile", required_argument, NULL, 'p' },
		{ "uid", required_argument, NULL, 'u' },    { "gid", required_argument, NULL, 'g' },
		{ "empty", required_argument, NULL, 'e' },  { 0 }
	};
	struct sandbox box = { .soft = true };
	struct idm_server_params params = { 0 };
	struct worker *w = &worker;
	struct idm_error e = { 0 };
	const char *driver = NULL, *why;
	char what[128];
	int c, rc;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			driver = optarg;
			break;
		case 'p':
			box.soft = !strcmp(optarg, "soft");
			break;
		case 'u':
			box.uid = strtoul(optarg, NULL, 10);
			box.drop = true;
			break;
		case 'g':
			box.gid = strtoul(optarg, NULL, 10);
			break;
		case 'e':
			box.empty = optarg;
			break;
		default:
			return 2;
		}
	}
	w->stats = mmap(NULL, sizeof(*w->stats), PROT_READ | PROT_WRITE, MAP_SHARED, WORKER_FD_STATS, 0);
	if (!driver || w->stats == MAP_FAILED) {
		fprintf(stderr, "vgpu-worker: is started by vgpu-broker, not by hand\n");
		return 2;
	}
	close(WORKER_FD_STATS);
	w->soft = box.soft;
	latch_init(&w->latches);
	w->ranges.gone = ipc_forget;
	/* With a single CPU, or a GPU made of CPUs, polling only keeps what is waited for from running. */
	w->poll_ns = !w->soft && sysconf(_SC_NPROCESSORS_ONLN) > 1 ? POLL_NS : 0;
	rc = output_init();
	if (rc)
		fail("cannot redirect standard output: %s", strerror(-rc));

	/* Not fatal: of device memory where a client has memory of its own it takes no notice and asks for other. */
	if (!w->soft && place_mappings())
		control_tell(WORKER_LOG, LOG_WARNING, 0, "device memory may lie where clients have their own");
	if (!w->soft)
		setenv("CUDA_DEVICE_MAX_CONNECTIONS", CONNECTIONS, 0);
	read_version(w);
	load_driver(driver);
	/* NVIDIA's library opens device nodes, and is to do so as the user it will stay. */
	if (box.soft)
		init_driver(driver);
	rc = sandbox_drop(&box, what, sizeof(what));
	if (rc)
		fail("%s: %s", what, strerror(-rc));
	if (!box.soft)
		init_driver(driver);
	rc = sandbox_filter(box.soft);
	if (rc)
		fail("seccomp: %s", strerror(-rc));

	control_tell(WORKER_READY, 0, 0, NULL);
	if (control_wait_assign(w, &params.fd, &params.life))
		return 0;
	params.kind = w->assign.kind;
	params.zone = w->assign.zone;
	params.own_zone = w->assign.own_zone;
	params.request_size = w->assign.request_size;
	params.reply_size = w->assign.reply_size;
	params.arena_size = w->assign.arena_size;
	params.table_hash = VGPU_TABLE_HASH;
	params.arena_mapped = arena_mapped;
	params.opaque = w;
	if (w->assign.data_limit && sandbox_limit_memory(w->assign.data_limit))
		control_tell(WORKER_LOG, LOG_WARNING, 0, "the worker's memory cannot be limited");
	why = find_gpus(w);
	if (idm_server_open(&w->server, &params, &e)) {
		control_tell(WORKER_ENDED, 0, 0, e.text);
		return 0;
	}
	if (why)
		end(w, why, false);
	if (control_start(w))
		end(w, "its worker cannot start a thread", false);
	block_serve(w);
}
