# SPDX-License-Identifier: Apache-2.0
"""For exercised: the errors that cuda.h documents and no test provokes, and why not.

{error: {reason: calls}}. A call may have *. That nobody has written the test yet is no reason.
"""

UNPROVOKED = {
    "CUDA_ERROR_INVALID_CONTEXT": {
        "a device is all that they need (driver_nocontext calls them without a context)":
            "cuDeviceComputeCapability cuDeviceGet cuDeviceGetAttribute cuDeviceGetCount cuDeviceGetName cuDeviceGetProperties "
            "cuDeviceTotalMem",
        "of a function or module the shim knows what it is, whichever context is current (driver_nocontext)":
            "cuFuncGetAttribute cuFuncGetModule cuModuleGetFunction cuFuncSetBlockShape cuFuncSetSharedSize cuParamSet*",
        "an address or an event says whose it is (driver_nocontext)":
            "cuPointer* cuMemGetAddressRange cuMemFreeHost cuMemHostUnregister cuEventDestroy",
    },
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": {
        "the handle of a green context that has ended is none any more: CUDA_ERROR_INVALID_CONTEXT":
            "cuGreenCtxDestroy cuGreenCtxGetId",
    },
    "CUDA_ERROR_INVALID_DEVICE": {
        "without any device it is CUDA_ERROR_NO_DEVICE": "cuInit",
        "a resource names no device": "cuDevSmResourceSplitByCount",
        "an address names no device": "cuPointer* cuMemRangeGetAttribute*",
    },
    "CUDA_ERROR_INVALID_VALUE": {
        "there is nothing that could be wrong with its arguments": "cuCtxGetStreamPriorityRange cuMemGetAddressRange",
        "what is no function is CUDA_ERROR_INVALID_HANDLE": "cuFuncLoad",
        "only the launch knows how much is too much": "cuFuncSetSharedSize",
        "CUDA_ERROR_NOT_SUPPORTED, whatever it is given: Windows only": "cuDeviceGetLuid",
    },
    "CUDA_ERROR_NOT_FOUND": {
        "a kernel is found with its library and its module, or there is no handle of it":
            "cuFuncGetModule cuKernelGetFunction cuKernelGetLibrary",
    },
    "CUDA_ERROR_NOT_PERMITTED": {
        "in a notification's function, which is never called: an allocation beyond the budget fails":
            "cuDeviceRegisterAsyncNotification cuDeviceUnregisterAsyncNotification",
    },
    "CUDA_ERROR_NOT_SUPPORTED": {
        "here there is such a thing on every device":
            "cuDeviceRegisterAsyncNotification cuDeviceUnregisterAsyncNotification cuMemAllocManaged cuStreamAttachMemAsync",
        "every version and every form of a call can be had": "cuGetProcAddress",
        "a stream of a green context has an ordinary context as well": "cuStreamGetCtx",
        "where it is not supported there is nothing of which to ask":
            "cuMemAddressFree cuMemGetAllocationPropertiesFromHandle cuMemRelease cuMemRetainAllocationHandle",
    },
    "CUDA_ERROR_OUT_OF_MEMORY": {
        "only told, of what is there": "cuStreamGetDevice cuStreamGetFlags cuStreamGetPriority",
        "what the process itself keeps of it is a few words, and the driver has no part in it":
            "cuMemHostRegister cuMemHostUnregister",
    },
    "CUDA_ERROR_FUNCTION_NOT_LOADED": {
        "looking a function up has loaded it": "cuFuncGetAttribute",
    },
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": {
        "of an installation in the driver domain, where the broker says so and starts no worker": "cuInit",
    },
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": {
        "the same": "cuInit",
    },
}
