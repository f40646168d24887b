// SPDX-License-Identifier: Apache-2.0
/* cuDNN: a convolution in its three directions, batch normalisation, activation, softmax. */
#include <cudnn.h>

#include "libs.h"

#define WORKSPACE (256u << 20)

int main(int argc, char **argv)
{
	long n = size_arg(argc, argv, 4);
	const float one = 1, zero = 0;
	cudnnConvolutionFwdAlgoPerf_t fwd;
	cudnnConvolutionBwdDataAlgoPerf_t bwd;
	cudnnConvolutionBwdFilterAlgoPerf_t flt;
	cudnnConvolutionDescriptor_t conv;
	cudnnActivationDescriptor_t relu;
	cudnnTensorDescriptor_t x, y, stats;
	cudnnFilterDescriptor_t w;
	cudnnHandle_t h;
	cudaStream_t stream;
	char *dx, *dy, *dw, *ds, *workspace;
	int found;

	GOOD(cudnnCreate(&h));
	GOOD(cudaStreamCreate(&stream));
	GOOD(cudnnSetStream(h, stream));
	GOOD(cudnnCreateTensorDescriptor(&x));
	GOOD(cudnnCreateTensorDescriptor(&y));
	GOOD(cudnnCreateTensorDescriptor(&stats));
	GOOD(cudnnCreateFilterDescriptor(&w));
	GOOD(cudnnCreateConvolutionDescriptor(&conv));
	GOOD(cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, CUDNN_DATA_HALF, 8, 64, 56, 56));
	GOOD(cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NHWC, CUDNN_DATA_HALF, 8, 64, 56, 56));
	GOOD(cudnnSetFilter4dDescriptor(w, CUDNN_DATA_HALF, CUDNN_TENSOR_NHWC, 64, 64, 3, 3));
	GOOD(cudnnSetConvolution2dDescriptor(conv, 1, 1, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
	GOOD(cudnnSetConvolutionMathType(conv, CUDNN_TENSOR_OP_MATH));
	dx = device_memory(8 * 64 * 56 * 56 * 2);
	dy = device_memory(8 * 64 * 56 * 56 * 2);
	dw = device_memory(64 * 64 * 3 * 3 * 4);
	ds = device_memory(1 << 16);
	workspace = device_memory(WORKSPACE);
	GOOD(cudnnGetConvolutionForwardAlgorithm_v7(h, x, w, conv, y, 1, &found, &fwd));
	GOOD(cudnnGetConvolutionBackwardDataAlgorithm_v7(h, w, y, conv, x, 1, &found, &bwd));
	GOOD(cudnnGetConvolutionBackwardFilterAlgorithm_v7(h, x, y, conv, w, 1, &found, &flt));
	for (long i = 0; i < n; i++) {
		QUIET(cudnnConvolutionForward(h, &one, x, dx, w, dw, conv, fwd.algo, workspace, WORKSPACE, &zero, y, dy));
		QUIET(cudnnConvolutionBackwardData(h, &one, w, dw, y, dy, conv, bwd.algo, workspace, WORKSPACE, &zero, x, dx));
		QUIET(cudnnConvolutionBackwardFilter(h, &one, x, dx, y, dy, conv, flt.algo, workspace, WORKSPACE, &zero, w,
						     dw));
	}
	ok(1, "%ld convolutions in three directions", n);
	GOOD(cudnnDeriveBNTensorDescriptor(stats, x, CUDNN_BATCHNORM_SPATIAL_PERSISTENT));
	GOOD(cudnnBatchNormalizationForwardTraining(h, CUDNN_BATCHNORM_SPATIAL_PERSISTENT, &one, &zero, x, dx, y, dy, stats,
						    ds, ds + 4096, 0.1, ds + 8192, ds + 12288, 1e-5, ds + 16384, ds + 20480));
	GOOD(cudnnCreateActivationDescriptor(&relu));
	GOOD(cudnnSetActivationDescriptor(relu, CUDNN_ACTIVATION_RELU, CUDNN_NOT_PROPAGATE_NAN, 0));
	GOOD(cudnnActivationForward(h, relu, &one, x, dx, &zero, y, dy));
	GOOD(cudnnSoftmaxForward(h, CUDNN_SOFTMAX_ACCURATE, CUDNN_SOFTMAX_MODE_CHANNEL, &one, x, dx, &zero, y, dy));
	GOOD(cudaStreamSynchronize(stream));
	GOOD(cudnnDestroy(h));
	return tap_done();
}
