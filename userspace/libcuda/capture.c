// SPDX-License-Identifier: Apache-2.0
/*
 * Stream capture. The driver keeps the graph; here only the number of captures is known, so that the question whether a
 * stream captures, which libraries ask before every operation, costs nothing while none does.
 */
#include "capture.h"
#include "shim_gen.h"

unsigned int captures;

static CUresult none(CUstream s, CUstreamCaptureStatus *status)
{
	CUresult r = session_check();
	uint64_t wire;

	if (r != CUDA_SUCCESS)
		return r;
	if (!stream_handle(s, &wire))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!status)
		return CUDA_ERROR_INVALID_VALUE;
	*status = CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}

bool capture_asks(uint64_t stream)
{
	CUstream s = stream <= 2 ? (CUstream)(uintptr_t)stream : (CUstream)&objects[VGPU_HANDLE_INDEX(stream)];
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

	return call_cuStreamIsCapturing(s, &status) == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if ((unsigned int)mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_INVALID_VALUE;
	r = call_cuStreamBeginCapture_v2(hStream, mode);
	if (r == CUDA_SUCCESS)
		__atomic_add_fetch(&captures, 1, __ATOMIC_RELAXED);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamBeginCapture(CUstream hStream)
{
	return cuStreamBeginCapture_v2(hStream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

VGPU_EXPORT CUresult CUDAAPI cuStreamEndCapture(CUstream hStream, CUgraph *phGraph)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (phGraph)
		*phGraph = NULL;
	r = call_cuStreamEndCapture(hStream, phGraph);
	if ((r == CUDA_SUCCESS || r == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED || r == CUDA_ERROR_STREAM_CAPTURE_UNJOINED) &&
	    __atomic_load_n(&captures, __ATOMIC_RELAXED))
		__atomic_sub_fetch(&captures, 1, __ATOMIC_RELAXED);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *captureStatus)
{
	if (!__atomic_load_n(&captures, __ATOMIC_RELAXED))
		return none(hStream, captureStatus);
	return call_cuStreamIsCapturing(hStream, captureStatus);
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetCaptureInfo(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
						    cuuint64_t *id_out)
{
	if (!__atomic_load_n(&captures, __ATOMIC_RELAXED))
		return none(hStream, captureStatus_out);
	return call_cuStreamGetCaptureInfo(hStream, captureStatus_out, id_out);
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
						       cuuint64_t *id_out, CUgraph *graph_out,
						       const CUgraphNode **dependencies_out,
						       const CUgraphEdgeData **edgeData_out,
						       size_t *numDependencies_out)
{
	CUresult r = cuStreamGetCaptureInfo(hStream, captureStatus_out, id_out);

	if (r == CUDA_SUCCESS && *captureStatus_out == CU_STREAM_CAPTURE_STATUS_ACTIVE &&
	    (graph_out || dependencies_out || edgeData_out || numDependencies_out))
		return REFUSE("the graph of a capture that is under way", "graphs");
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
						       cuuint64_t *id_out, CUgraph *graph_out,
						       const CUgraphNode **dependencies_out,
						       size_t *numDependencies_out)
{
	return cuStreamGetCaptureInfo_v3(hStream, captureStatus_out, id_out, graph_out, dependencies_out, NULL,
					 numDependencies_out);
}

VGPU_EXPORT CUresult CUDAAPI cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
	CUresult r = session_check();
	CUstreamCaptureMode old;

	if (r != CUDA_SUCCESS)
		return r;
	if (!mode || (unsigned int)*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_INVALID_VALUE;
	old = thread_self()->capture_mode;
	thread_self()->capture_mode = *mode;
	*mode = old;
	return CUDA_SUCCESS;
}
