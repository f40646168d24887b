// SPDX-License-Identifier: Apache-2.0
/*
 * What CUDA's environment variables do: CUDA_VISIBLE_DEVICES, with as many devices as there are, in processes of their
 * own, and CUDA_LAUNCH_BLOCKING.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <sys/wait.h>

#include "driver.h"

static const char *self;

/* --- what a process sees --- */

static int show(void)
{
	static const unsigned char integrity_id[16] =
		"\xd4\x08\x20\x55\xbd\xe6\x70\x4b\x8d\x34\xba\x12\x3c\x66\xe1\xf2";
	CUresult (**integrity)(uint32_t version, uint64_t seconds, uint8_t *result);
	uint8_t answer[16];
	int n = 0;
	CUresult r = cuInit(0);

	if (r != CUDA_SUCCESS) {
		/* The runtime asks whether this is a driver whether there is a device or not. */
		CU(cuGetExportTable((const void **)&integrity, (const CUuuid *)integrity_id));
		CU(integrity[1](13002, 0, answer));
		printf("%s", cu_name(r));
		return 0;
	}
	CU(cuDeviceGetCount(&n));
	for (int i = 0; i < n; i++) {
		CUdevice dev = -1, on = -1, again = -1;
		char bus[32];
		CUcontext ctx;
		CUdeviceptr p;
		CUuuid u;

		CU(cuDeviceGet(&dev, i));
		CU(cuDeviceGetUuid_v2(&u, dev));
		CU(cuDeviceGetPCIBusId(bus, sizeof(bus), dev));
		CU(cuDeviceGetByPCIBusId(&again, bus));
		CU(cuDevicePrimaryCtxRetain(&ctx, dev));
		CU(cuCtxSetCurrent(ctx));
		CU(cuMemAlloc_v2(&p, 4096));
		CU(cuPointerGetAttribute(&on, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p));
		CU(cuMemsetD8_v2(p, 1, 4096));
		CU(cuCtxSynchronize());
		if (dev != i || again != i || on != i)
			bail("device %d is %d, %d by its bus, %d by its memory", i, dev, again, on);
		for (int k = 0; k < 16; k++)
			printf("%02x", (unsigned char)u.bytes[k]);
		printf(" ");
	}
	if (cuDeviceGet(&(CUdevice){ 0 }, n) != CUDA_ERROR_INVALID_DEVICE)
		bail("there are more than %d", n);
	return 0;
}

/* Another process's memory, by its token. */
static int open_token(const char *hex)
{
	CUipcMemHandle h;
	CUdeviceptr p = 0;
	CUresult r;
	char got = 0;
	int on = -1;

	primary_context(NULL);
	for (size_t i = 0; i < sizeof(h); i++) {
		unsigned int byte = 0;

		sscanf(hex + 2 * i, "%2x", &byte);
		((unsigned char *)&h)[i] = byte;
	}
	r = cuIpcOpenMemHandle_v2(&p, h, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
	if (r == CUDA_SUCCESS) {
		CU(cuPointerGetAttribute(&on, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p));
		CU(cuMemcpyDtoH_v2(&got, p, 1));
	}
	printf("%s, device %d, %d", cu_name(r), on, got);
	return 0;
}

static int blocking(void)
{
	static const char ptx[] =
		".version 7.0\n.target sm_75\n.address_size 64\n"
		".visible .entry count(.param .u32 rounds)\n"
		"{\n"
		"	.reg .b32 %r<3>;\n"
		"	.reg .pred %p<2>;\n"
		"	.shared .align 4 .b32 left;\n"
		"	ld.param.u32 %r1, [rounds];\n"
		"again:\n"
		"	st.volatile.shared.u32 [left], %r1;\n"	/* no compiler may do without the loop */
		"	add.u32 %r1, %r1, -1;\n"
		"	setp.ne.u32 %p1, %r1, 0;\n"
		"	@%p1 bra again;\n"
		"	ret;\n"
		"}\n"
		PTX_ADD;
	unsigned int rounds = 3000000;
	CUdeviceptr nowhere = 64;
	void *args[] = { &rounds }, *bad[] = { &nowhere, &rounds };
	CUfunction count, add;
	CUresult idle, failed;
	CUmodule module;
	CUstream s;

	primary_context(NULL);
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&count, module, "count"));
	CU(cuModuleGetFunction(&add, module, "add"));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuLaunchKernel(count, 1, 1, 1, 1, 1, 1, 0, s, args, NULL));
	idle = cuStreamQuery(s);
	failed = cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, s, bad, NULL);
	printf("%s, %s", cu_name(idle), cu_name(failed));
	return 0;
}

/* --- the processes --- */

static const char *run(const char *name, const char *value, const char *what, const char *arg)
{
	static char out[4096];
	size_t n = 0;
	int fds[2];
	pid_t pid;

	if (pipe(fds) || (pid = fork()) < 0)
		bail("no process");
	if (!pid) {
		setenv(name, value, 1);
		dup2(fds[1], 1);
		close(fds[0]);
		close(fds[1]);
		execl(self, self, what, arg, NULL);
		_exit(126);
	}
	close(fds[1]);
	for (ssize_t got; (got = read(fds[0], out + n, sizeof(out) - 1 - n)) > 0; n += got)
		;
	close(fds[0]);
	out[n] = '\0';
	waitpid(pid, NULL, 0);
	return out;
}

static void sees(const char *value, const char *want)
{
	const char *got = run("CUDA_VISIBLE_DEVICES", value, "show", NULL);

	ok(!strcmp(got, want), "CUDA_VISIBLE_DEVICES=%s", value);
	if (strcmp(got, want))
		printf("# %s\n# wanted %s\n", got, want);
}

static void uuid_of(int dev, char *hex, char *name)
{
	CUuuid u;

	CU(cuDeviceGetUuid_v2(&u, dev));
	strcpy(name, "GPU-");
	for (int k = 0; k < 16; k++) {
		sprintf(hex + 2 * k, "%02x", (unsigned char)u.bytes[k]);
		sprintf(name + strlen(name), "%02x%s", (unsigned char)u.bytes[k],
			k == 3 || k == 5 || k == 7 || k == 9 ? "-" : "");
	}
	strcat(hex, " ");
}

static void shared(void)
{
	char hex[2 * sizeof(CUipcMemHandle) + 1];
	CUipcMemHandle h;
	CUcontext ctx;
	CUdeviceptr p;
	const char *got;

	CU(cuDevicePrimaryCtxRetain(&ctx, 1));
	CU(cuCtxSetCurrent(ctx));
	CU(cuMemAlloc_v2(&p, 2 << 20));
	CU(cuMemsetD8_v2(p, 42, 2 << 20));
	CU(cuIpcGetMemHandle(&h, p));
	CU(cuCtxSynchronize());
	for (size_t i = 0; i < sizeof(h); i++)
		sprintf(hex + 2 * i, "%02x", ((unsigned char *)&h)[i]);
	got = run("CUDA_VISIBLE_DEVICES", "1", "open", hex);
	ok(!strcmp(got, "CUDA_SUCCESS, device 0, 42"), "who sees the second device only finds its memory there: %s", got);
	got = run("CUDA_VISIBLE_DEVICES", "1,0", "open", hex);
	ok(!strcmp(got, "CUDA_SUCCESS, device 0, 42"), "and who sees it first: %s", got);
	got = run("CUDA_VISIBLE_DEVICES", "0", "open", hex);
	ok(!strncmp(got, "CUDA_ERROR_", 11), "who does not see it can't open it: %s", got);
	CU(cuMemFree_v2(p));
}

int main(int argc, char **argv)
{
	char hex[2][40], name[2][48], both[96];
	const char *got;
	int n = 0;

	self = argv[0];
	if (argc > 1 && !strcmp(argv[1], "show"))
		return show();
	if (argc > 2 && !strcmp(argv[1], "open"))
		return open_token(argv[2]);
	if (argc > 1 && !strcmp(argv[1], "blocking"))
		return blocking();
	unsetenv("CUDA_VISIBLE_DEVICES");
	CU(cuInit(0));
	CU(cuDeviceGetCount(&n));
	printf("# %d devices\n", n);
	uuid_of(0, hex[0], name[0]);
	sees("0", hex[0]);
	sees(name[0], hex[0]);
	sees("", "CUDA_ERROR_NO_DEVICE");
	sees("-1", "CUDA_ERROR_NO_DEVICE");
	sees("0,0", "CUDA_ERROR_NO_DEVICE");
	sees("99", "CUDA_ERROR_NO_DEVICE");
	sees("0,99", hex[0]);
	if (n == 2) {
		uuid_of(1, hex[1], name[1]);
		sees("1", hex[1]);
		sees(name[1], hex[1]);
		snprintf(both, sizeof(both), "%s%s", hex[1], hex[0]);
		sees("1,0", both);
		snprintf(both, sizeof(both), "%s,%s", name[1], name[0]);
		got = run("CUDA_VISIBLE_DEVICES", both, "show", NULL);
		ok(!strncmp(got, hex[1], 32) && strstr(got, hex[0]), "both by name: %s", got);
		shared();
	}
	got = run("CUDA_LAUNCH_BLOCKING", "1", "blocking", NULL);
	ok(!strcmp(got, "CUDA_SUCCESS, CUDA_ERROR_ILLEGAL_ADDRESS"), "with CUDA_LAUNCH_BLOCKING a launch has run: %s", got);
	got = run("CUDA_LAUNCH_BLOCKING", "0", "blocking", NULL);
	ok(!strcmp(got, "CUDA_ERROR_NOT_READY, CUDA_SUCCESS"), "else it has not: %s", got);
	return tap_done();
}
