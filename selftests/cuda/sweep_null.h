/* SPDX-License-Identifier: Apache-2.0 */
/* For driver_sweep.c: which arguments may be NULL (or 0, of addresses), from CUDA's documentation. Others may not. */
#ifndef SELFTESTS_SWEEP_NULL_H
#define SELFTESTS_SWEEP_NULL_H

#define ARG(n)		(1u << ((n) - 1))

/* Also for the forms _ptsz and _ptds. */
static const struct {
	const char *name;
	unsigned int arguments;
} nulls[] = {
	{ "cuCtxCreate_v4", ARG(2) },
	{ "cuCtxPopCurrent", ARG(1) },
	{ "cuCtxPopCurrent_v2", ARG(1) },
	{ "cuCtxSetCurrent", ARG(1) },
	{ "cuCtxGetDevice_v2", ARG(2) },
	{ "cuCtxGetId", ARG(1) },
	{ "cuCtxGetApiVersion", ARG(1) },
	{ "cuCtxSynchronize_v2", ARG(1) },
	{ "cuCtxGetStreamPriorityRange", ARG(1) | ARG(2) },
	{ "cuMemcpyPeer", ARG(2) | ARG(4) },
	{ "cuMemcpyPeerAsync", ARG(2) | ARG(4) },
	{ "cuMemFree_v2", ARG(1) },
	{ "cuMemFreeAsync", ARG(1) },
	{ "cuMemFreeHost", ARG(1) },
	{ "cuMemGetAddressRange_v2", ARG(1) | ARG(2) },
	{ "cuDeviceRegisterAsyncNotification", ARG(3) },
	{ "cuMemcpyBatchAsync", ARG(8) },
	{ "cuStreamGetCtx_v2", ARG(3) },
	{ "cuStreamGetCaptureInfo", ARG(3) },
	{ "cuStreamGetCaptureInfo_v2", ARG(3) | ARG(4) | ARG(5) | ARG(6) },
	{ "cuStreamGetCaptureInfo_v3", ARG(3) | ARG(4) | ARG(5) | ARG(6) | ARG(7) },
	{ "cuLaunchKernel", ARG(10) | ARG(11) },	/* the kernel has no parameters */
	{ "cuLaunchCooperativeKernel", ARG(10) },
	{ "cuLaunchHostFunc", ARG(3) },
	{ "cuLinkComplete", ARG(3) },
	{ "cuGraphGetNodes", ARG(2) },
	{ "cuGraphGetRootNodes", ARG(2) },
	{ "cuGraphGetEdges_v2", ARG(4) },
	{ "cuGraphNodeGetDependencies", ARG(2) },
	{ "cuGraphNodeGetDependencies_v2", ARG(3) },
	{ "cuGraphNodeGetDependentNodes", ARG(2) },
	{ "cuGraphNodeGetDependentNodes_v2", ARG(3) },
	{ "cuGraphInstantiate", ARG(3) | ARG(4) },	/* where to say what is wrong, of old */
	{ "cuGraphInstantiate_v2", ARG(3) | ARG(4) },
	{ "cuGraphExecUpdate", ARG(3) },
	{ "cuUserObjectCreate", ARG(2) },
	{ "cuGraphConditionalHandleCreate", ARG(3) },
	{ "cuOccupancyMaxPotentialBlockSize", ARG(4) },
	{ "cuOccupancyMaxPotentialBlockSizeWithFlags", ARG(4) },
	{ "cuTexRefSetArray", ARG(2) },
	{ "cuTexRefSetAddress_v2", ARG(1) | ARG(3) },
	{ "cuCtxGetDevResource", ARG(1) },
	{ "cuLogsRegisterCallback", ARG(2) | ARG(3) },
};

/* Numbers that are none, where the answer may be another than CUDA_ERROR_INVALID_VALUE. */
static const struct {
	const char *name;
	CUresult answer;
} numbers[] = {
	{ "cuCtxCreate_v3", CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY },	/* the parameters before it are there */
	{ "cuDeviceGetP2PAttribute", CUDA_ERROR_INVALID_DEVICE },	/* of one device, which is both */
	{ "cuLinkAddFile", CUDA_ERROR_FILE_NOT_FOUND },
	{ "cuLinkAddFile_v2", CUDA_ERROR_FILE_NOT_FOUND },
	{ "cuDeviceGetDevResource", CUDA_ERROR_INVALID_RESOURCE_TYPE },
	{ "cuCtxGetDevResource", CUDA_ERROR_INVALID_RESOURCE_TYPE },
	{ "cuGreenCtxGetDevResource", CUDA_ERROR_INVALID_RESOURCE_TYPE },
	{ "cuGraphDebugDotPrint", CUDA_ERROR_OPERATING_SYSTEM },	/* there is no such folder */
};

/* What needs no current context, up to a *. */
static const char *const contextless[] = {
	/* A device, or a context of the program's choice, is an argument. */
	"cuDevice*", "cuCtxCreate*", "cuCtxDestroy*", "cuCtxGetApiVersion", "cuCtxGetCurrent", "cuCtxGetDevResource",
	"cuCtxGetDevice_v2", "cuCtxGetId", "cuCtxPushCurrent*", "cuCtxRecordEvent", "cuCtxSetCurrent",
	"cuCtxSynchronize_v2", "cuCtxWaitEvent", "cuCtxFromGreenCtx", "cuGreenCtx*",
	/* Nothing is done but told, of an object that has its context. */
	"cuEventQuery", "cuEventSynchronize", "cuStreamQuery", "cuStreamGet*", "cuStreamIsCapturing",
	"cuFuncGet*", "cuFuncIsLoaded", "cuFuncLoad", "cuKernelGetAttribute", "cuKernelGetLibrary", "cuKernelGetName", "cuLibraryGetKernel*",
	"cuLibraryEnumerateKernels", "cuModuleEnumerateFunctions", "cuModuleGetFunction", "cuMemGetAddressRange_v2",
	"cuMemGetAllocationPropertiesFromHandle",
	"cuPointerGetAttribute",
	/* Of the process or of a device: libraries, pools, physical memory, graphs. */
	"cuLibraryUnload", "cuMemPool*", "cuMemRelease", "cuMemGetDefaultMemPool", "cuMemGetMemPool", "cuMemSetMemPool",
	"cuGraphConditionalHandleCreate", "cuGraphDebugDotPrint", "cuGraphExecUpdate*", "cuGraphGet*",
	"cuGraphInstantiate*", "cuGraphExecGetFlags", "cuGraphNodeGet*", "cuUserObjectCreate",
	"cuLogs*", "cuThreadExchangeStreamCaptureMode",
	/* Noted for the next launch. */
	"cuFuncSetBlockShape", "cuFuncSetSharedSize", "cuParamSet*",
	/* Their flag is for captures, and there is none. */
	"cuEventRecordWithFlags", "cuStreamWaitEvent",
	/* Nothing to copy. */
	"cuMemcpyBatchAsync", "cuMemcpyBatchAsync_v2",
	/* It ends in the context that it was made in. */
	"cuMemFree_v2", "cuModuleUnload", "cuStreamDestroy*", "cuEventDestroy*", "cuLinkDestroy", "cuGraphDestroy",
	"cuGraphExecDestroy",
};

#endif
