// SPDX-License-Identifier: Apache-2.0
/* Texture references: everything that can be set of them and asked back, and what a kernel then reads. */
#define __CUDA_API_VERSION_INTERNAL
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include "driver.h"

static const char ptx[] =
	".version 8.0\n.target sm_75\n.address_size 64\n"
	".global .texref picture;\n"
	".visible .entry read(.param .u64 out)\n{\n"
	"	.reg .b64 %rd<3>;\n	.reg .b32 %r<3>;\n	.reg .f32 %f<8>;\n"
	"	ld.param.u64 %rd1, [out];\n	mov.u32 %r1, %tid.x;\n	cvt.rn.f32.u32 %f1, %r1;\n"
	"	tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [picture, {%f1, %f1}];\n"
	"	mul.wide.u32 %rd2, %r1, 4;\n	add.u64 %rd2, %rd1, %rd2;\n	st.global.f32 [%rd2], %f4;\n	ret;\n}\n";

static CUdevice dev;

static void settings(CUtexref ref)
{
	float bias = 9, low = 9, high = 9;
	CUfilter_mode filter = (CUfilter_mode)9;
	int aniso = 9, channels = 9;
	unsigned int flags = 9;
	CUarray_format format;

	CU(cuTexRefSetFormat(ref, CU_AD_FORMAT_UNSIGNED_INT8, 4));
	CU(cuTexRefGetFormat(&format, &channels, ref));
	ok(format == CU_AD_FORMAT_UNSIGNED_INT8 && channels == 4, "a format, of %d channels", channels);
	GIVES(cuTexRefSetFormat(ref, CU_AD_FORMAT_FLOAT, 3), CUDA_ERROR_INVALID_VALUE, "three channels");
	CU(cuTexRefSetFlags(ref, CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES));
	CU(cuTexRefGetFlags(&flags, ref));
	ok(flags == (CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES), "flags: %#x", flags);
	CU(cuTexRefSetFlags(ref, 0));
	CU(cuTexRefSetMipmapFilterMode(ref, CU_TR_FILTER_MODE_LINEAR));
	CU(cuTexRefGetMipmapFilterMode(&filter, ref));
	ok(filter == CU_TR_FILTER_MODE_LINEAR, "how levels are mixed");
	CU(cuTexRefSetMipmapLevelBias(ref, 0.5f));
	CU(cuTexRefGetMipmapLevelBias(&bias, ref));
	CU(cuTexRefSetMipmapLevelClamp(ref, 0.25f, 1.5f));
	CU(cuTexRefGetMipmapLevelClamp(&low, &high, ref));
	CU(cuTexRefSetMaxAnisotropy(ref, 4));
	CU(cuTexRefGetMaxAnisotropy(&aniso, ref));
	ok(bias == 0.5f && low == 0.25f && high == 1.5f && aniso == 4, "bias %g, levels %g to %g, anisotropy %d", bias, low, high, aniso);
	CU(cuTexRefSetMipmapLevelBias(ref, 0));
	CU(cuTexRefSetMipmapLevelClamp(ref, 0, 0));
	CU(cuTexRefSetMipmapFilterMode(ref, CU_TR_FILTER_MODE_POINT));
	CU(cuTexRefSetMaxAnisotropy(ref, 0));
}

/* Rows in memory as a picture. */
static void rows(CUtexref ref, CUfunction read)
{
	CUDA_ARRAY_DESCRIPTOR desc = { .Width = 8, .Height = 8, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
	float got[8], row[8];
	CUdeviceptr out, picture;
	void *params[] = { &out };
	size_t pitch;
	int wrong = 0;

	CU(cuMemAlloc_v2(&out, sizeof(got)));
	CU(cuMemAllocPitch_v2(&picture, &pitch, 32, 8, 4));
	for (int y = 0; y < 8; y++) {
		for (int x = 0; x < 8; x++)
			row[x] = (float)(y * 10 + x);
		CU(cuMemcpyHtoD_v2(picture + y * pitch, row, 32));
	}
	CU(cuTexRefSetFormat(ref, CU_AD_FORMAT_FLOAT, 1));
	CU(cuTexRefSetAddress2D_v3(ref, &desc, picture, pitch));
	CU(cuParamSetTexRef(read, CU_PARAM_TR_DEFAULT, ref));
	CU(cuLaunchKernel(read, 1, 1, 1, 8, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH_v2(got, out, sizeof(got)));
	for (int i = 0; i < 8; i++)
		wrong += got[i] != (float)(i * 11);
	ok(!wrong, "a kernel reads rows in memory as a picture: %d wrong", wrong);
	CU(cuTexRefSetAddress2D_v2(ref, &desc, picture + pitch - pitch, pitch));
	CU(cuLaunchKernel(read, 1, 1, 1, 8, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH_v2(got, out, sizeof(got)));
	ok(got[7] == 77, "also bound by the older form");
	GIVES(cuTexRefSetAddress2D_v3(ref, &desc, picture, 16), CUDA_ERROR_INVALID_VALUE, "a pitch that is too small");
	GIVES(cuTexRefSetAddress2D_v3(ref, &desc, picture + 1, pitch), CUDA_ERROR_INVALID_VALUE, "memory at an odd place");
	desc.Height = 1 << 30;
	GIVES(cuTexRefSetAddress2D_v3(ref, &desc, picture, pitch), CUDA_ERROR_INVALID_VALUE, "more rows than there are");
	CU(cuMemFree_v2(picture));
	CU(cuMemFree_v2(out));
}

/* An array of several levels. */
static void levels(CUtexref ref, CUfunction read)
{
	CUDA_ARRAY3D_DESCRIPTOR desc = { .Width = 8, .Height = 8, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
	CUDA_ARRAY_MEMORY_REQUIREMENTS needs;
	CUDA_ARRAY_SPARSE_PROPERTIES sparse;
	CUmipmappedArray mip, bound = NULL;
	CUdeviceptr out;
	void *params[] = { &out };
	float got[8], picture[64];
	CUarray first;
	CUDA_MEMCPY2D copy = { .srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = picture, .srcPitch = 32,
			       .dstMemoryType = CU_MEMORYTYPE_ARRAY, .WidthInBytes = 32, .Height = 8 };

	for (int i = 0; i < 64; i++)
		picture[i] = (float)i;
	CU(cuMemAlloc_v2(&out, sizeof(got)));
	CU(cuMipmappedArrayCreate(&mip, &desc, 3));
	CU(cuMipmappedArrayGetLevel(&first, mip, 0));
	ok(cuMipmappedArrayGetSparseProperties(&sparse, mip) != CUDA_SUCCESS &&
	   cuMipmappedArrayGetMemoryRequirements(&needs, mip, dev) != CUDA_SUCCESS, "which is all there, and needs no memory mapped");
	copy.dstArray = first;
	CU(cuMemcpy2D_v2(&copy));
	CU(cuTexRefSetFlags(ref, CU_TRSF_NORMALIZED_COORDINATES));
	CU(cuTexRefSetMipmappedArray(ref, mip, CU_TRSA_OVERRIDE_FORMAT));
	CU(cuTexRefGetMipmappedArray(&bound, ref));
	ok(bound == mip, "an array of levels is bound");
	CU(cuLaunchKernel(read, 1, 1, 1, 8, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH_v2(got, out, sizeof(got)));
	ok(got[0] == 0 && got[3] == 63 && got[7] == 63, "and its first level read: %g %g %g", got[0], got[3], got[7]);
	CU(cuMipmappedArrayDestroy(mip));
	CU(cuMemFree_v2(out));
}

int main(void)
{
	CUtexref ref, own;
	CUfunction read;
	CUmodule module;

	primary_context(&dev);
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&read, module, "read"));
	CU(cuModuleGetTexRef(&ref, module, "picture"));
	CU(cuTexRefCreate(&own));
	settings(own);
	CU(cuTexRefDestroy(own));
	settings(ref);
	rows(ref, read);
	levels(ref, read);
	CU(cuModuleUnload(module));
	OURS(cuTexRefGetFlags(&(unsigned int){ 0 }, ref), CUDA_ERROR_INVALID_VALUE, "a reference ends with its module");
	return tap_done();
}
