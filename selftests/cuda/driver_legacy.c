// SPDX-License-Identifier: Apache-2.0
/* Calls of earlier times, and others that few programs make: parameters one by one, counted contexts, the log. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include "driver.h"

static const char ptx[] =
	".version 7.0\n"
	".target sm_75\n"
	".address_size 64\n"
	".visible .entry put(.param .u64 where, .param .u32 a, .param .f32 b)\n"
	"{\n"
	"	.reg .b64 %rd<4>;\n"
	"	.reg .b32 %r<3>;\n"
	"	.reg .f32 %f<3>;\n"
	"	ld.param.u64 %rd1, [where];\n"
	"	ld.param.u32 %r1, [a];\n"
	"	ld.param.f32 %f1, [b];\n"
	"	mov.u32 %r2, %ctaid.y;\n"
	"	mul.wide.u32 %rd2, %r2, 8;\n"
	"	add.s64 %rd3, %rd1, %rd2;\n"
	"	st.global.u32 [%rd3], %r1;\n"
	"	st.global.f32 [%rd3+4], %f1;\n"
	"	ret;\n"
	"}\n";

struct pair {
	unsigned int a;
	float b;
};

static int messages;

static void CUDA_CB message(void *data, CUlogLevel level, char *text, size_t length)
{
	messages += data == &messages && level == CU_LOG_LEVEL_ERROR && strlen(text) == length;
}

static void notification(CUasyncNotificationInfo *info, void *data, CUasyncCallbackHandle handle)
{
	(void)info;
	(void)data;
	(void)handle;
}

int main(void)
{
	CUatomicOperation operations[] = { CU_ATOMIC_OPERATION_CAS, CU_ATOMIC_OPERATION_INTEGER_ADD };
	CUDA_LAUNCH_PARAMS list = { .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1,
				    .blockDimZ = 1 };
	unsigned int capabilities[2] = { 99, 99 };
	CUasyncCallbackHandle handle;
	CUlogsCallbackHandle logs;
	struct pair out[3] = { 0 };
	CUcontext ctx, attached, own;
	CUlogIterator now;
	CUdeviceptr d;
	CUfunction put;
	CUmodule module;
	CUstream stream;
	char text[512];
	size_t size;
	CUdevice dev;
	unsigned int seven = 7;
	float half = 0.5f;
	void *params[] = { &d, &seven, &half };

	ctx = primary_context(&dev);
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&put, module, "put"));
	CU(cuMemAlloc(&d, sizeof(out)));

	OURS(cuLaunch(put), CUDA_ERROR_INVALID_VALUE, "a launch without the shape of a block");
	CU(cuFuncSetBlockShape(put, 1, 1, 1));
	CU(cuFuncSetSharedSize(put, 0));
	CU(cuParamSetSize(put, 16));
	CU(cuParamSetv(put, 0, &d, sizeof(d)));
	CU(cuParamSeti(put, 8, 42));
	CU(cuParamSetf(put, 12, 1.25f));
	CU(cuLaunchGrid(put, 1, 2));
	CU(cuMemcpyDtoH(out, d, sizeof(out)));
	ok(out[0].a == 42 && out[1].a == 42 && out[1].b == 1.25f, "parameters set one by one arrive: %u, %g", out[1].a, out[1].b);
	CU(cuParamSeti(put, 8, 43));
	CU(cuLaunchGridAsync(put, 1, 1, stream));
	CU(cuStreamSynchronize(stream));
	CU(cuMemcpyDtoH(out, d, sizeof(out)));
	ok(out[0].a == 43 && out[1].a == 42, "also in a stream");
	GIVES(cuFuncSetBlockShape(put, 0, 1, 1), CUDA_ERROR_INVALID_VALUE, "a block of nothing");
	GIVES(cuParamSetSize(put, 1 << 20), CUDA_ERROR_INVALID_VALUE, "more parameters than there can be");
	OURS(cuParamSeti(put, -4, 0), CUDA_ERROR_INVALID_VALUE, "a parameter before the first");
	OURS(cuParamSetf(put, -4, 0), CUDA_ERROR_INVALID_VALUE, "a number there");
	GIVES(cuLaunchGrid(put, 0, 1), CUDA_ERROR_INVALID_VALUE, "a grid of nothing");
	OURS(cuFuncSetSharedSize((CUfunction)stream, 0), CUDA_ERROR_INVALID_HANDLE, "no function");

	list.function = put;
	list.hStream = stream;
	list.kernelParams = params;
	CU(cuLaunchCooperativeKernelMultiDevice(&list, 1, 0));
	CU(cuStreamSynchronize(stream));
	CU(cuMemcpyDtoH(out, d, sizeof(out)));
	ok(out[0].a == 7 && out[0].b == 0.5f, "a cooperative launch on a list of one device");
	GIVES(cuLaunchCooperativeKernelMultiDevice(&list, 99, 0), CUDA_ERROR_INVALID_VALUE, "more devices than there are");
	list.gridDimX = 1 << 30;
	GIVES(cuLaunchCooperativeKernelMultiDevice(&list, 1, 0), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "more blocks than fit");
	list.gridDimX = 1;
	list.hStream = NULL;
	OURS(cuLaunchCooperativeKernelMultiDevice(&list, 1, 0), CUDA_ERROR_INVALID_VALUE, "a default stream");

	CU(cuCtxAttach(&attached, 0));
	ok(attached == ctx, "attaching gives the current context");
	GIVES(cuCtxAttach(&attached, 1), CUDA_ERROR_INVALID_VALUE, "flags, of which there are none");
	CU(cuCtxDetach(ctx));
	CU(cuCtxSynchronize());
	CU(cuCtxCreate(&own, NULL, 0, dev));
	GIVES(cuCtxDetach(ctx), CUDA_ERROR_INVALID_CONTEXT, "detaching from a context that is not current");
	CU(cuCtxDetach(own));
	CU(cuCtxSetCurrent(ctx));
	GIVES(cuCtxDetach(own), CUDA_ERROR_INVALID_CONTEXT, "the last count ends the context");

	CU(cuDeviceGetHostAtomicCapabilities(capabilities, operations, 2, dev));
	ok(capabilities[0] != 99 && capabilities[1] != 99, "what the host's memory can do atomically is told");
	GIVES(cuDeviceGetHostAtomicCapabilities(NULL, operations, 2, dev), CUDA_ERROR_INVALID_VALUE, "to nowhere");
	GIVES(cuDeviceGetHostAtomicCapabilities(capabilities, operations, 2, 99), CUDA_ERROR_INVALID_DEVICE, "of no device");

	CU(cuDeviceRegisterAsyncNotification(dev, notification, NULL, &handle));
	CU(cuDeviceUnregisterAsyncNotification(dev, handle));
	OURS(cuDeviceUnregisterAsyncNotification(dev, handle), CUDA_ERROR_INVALID_VALUE, "not registered any more");
	GIVES(cuDeviceRegisterAsyncNotification(dev, NULL, NULL, &handle), CUDA_ERROR_INVALID_VALUE, "no function to call");

	/* A line of the log comes with what no driver of ours supports. */
	CU(cuLogsRegisterCallback(message, &messages, &logs));
	CU(cuLogsCurrent(&now, 0));
	size = sizeof(text);
	CU(cuLogsDumpToMemory(&now, text, &size, 0));
	ok(size == 0 && !text[0], "nothing new in the log");
	OURS(cuLogsCurrent(&now, 1), CUDA_ERROR_INVALID_VALUE, "flags for the log");
	GIVES(cuLogsDumpToMemory(NULL, NULL, &size, 0), CUDA_ERROR_INVALID_VALUE, "a log to nowhere");
	GIVES(cuLogsDumpToFile(NULL, "/no such folder/log", 0), CUDA_ERROR_INVALID_VALUE, "to a file that can't be");
	CU(cuLogsUnregisterCallback(logs));
	OURS(cuLogsUnregisterCallback(logs), CUDA_ERROR_INVALID_VALUE, "unregistering twice");
	ok(messages == 0 || on_driver(), "no message without an error");
	CU(cuMemFree(d));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
