// SPDX-License-Identifier: Apache-2.0
/* Arrays in the driver API: descriptions, copies of every direction, references of modules, tensor maps, mistakes. */
#include <stddef.h>
#include "driver.h"

/* References of modules are deprecated, and carried. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static CUDA_ARRAY3D_DESCRIPTOR desc3(size_t w, size_t h, size_t d, CUarray_format format, unsigned int channels,
				     unsigned int flags)
{
	return (CUDA_ARRAY3D_DESCRIPTOR){ .Width = w, .Height = h, .Depth = d, .Format = format, .NumChannels = channels,
					  .Flags = flags };
}

static void descriptions(void)
{
	CUDA_ARRAY3D_DESCRIPTOR d = desc3(20, 10, 6, CU_AD_FORMAT_HALF, 4, CUDA_ARRAY3D_SURFACE_LDST), got;
	CUDA_ARRAY_DESCRIPTOR flat = { 33, 0, CU_AD_FORMAT_SIGNED_INT16, 2 }, got_flat;
	CUDA_ARRAY_SPARSE_PROPERTIES sparse;
	CUDA_ARRAY_MEMORY_REQUIREMENTS needs;
	CUmipmappedArray mip;
	CUarray a, b, level, again;

	CU(cuArray3DCreate(&a, &d));
	CU(cuArray3DGetDescriptor(&got, a));
	ok(!memcmp(&got, &d, offsetof(CUDA_ARRAY3D_DESCRIPTOR, Flags) + sizeof(d.Flags)),
	   "an array of three dimensions is as it was described");
	CU(cuArrayCreate(&b, &flat));
	CU(cuArrayGetDescriptor(&got_flat, b));
	ok(got_flat.Width == 33 && !got_flat.Height && got_flat.Format == flat.Format && got_flat.NumChannels == 2,
	   "and one of one dimension");
	GIVES(cuArrayGetPlane(&level, a, 0), CUDA_ERROR_INVALID_VALUE, "a plane of what has none");
	GIVES(cuArrayGetSparseProperties(&sparse, a), CUDA_ERROR_INVALID_VALUE, "how sparse an array is that is not");
	GIVES(cuArrayGetMemoryRequirements(&needs, a, 0), CUDA_ERROR_INVALID_VALUE, "what memory one needs that has it");
	GIVES(cuArray3DGetDescriptor(NULL, a), CUDA_ERROR_INVALID_VALUE, "a description to nowhere");
	GIVES(cuArray3DGetDescriptor(&got, NULL), CUDA_ERROR_INVALID_HANDLE, "no array");
	CU(cuArrayDestroy(a));
	OURS(cuArray3DGetDescriptor(&got, a), CUDA_ERROR_INVALID_HANDLE, "a destroyed array");
	OURS(cuArrayDestroy(a), CUDA_ERROR_INVALID_HANDLE, "one destroyed twice");
	CU(cuArrayDestroy(b));

	d = desc3(16, 8, 0, CU_AD_FORMAT_FLOAT, 1, 0);
	CU(cuMipmappedArrayCreate(&mip, &d, 99));
	CU(cuMipmappedArrayGetLevel(&level, mip, 4));
	CU(cuMipmappedArrayGetLevel(&again, mip, 4));
	CU(cuArray3DGetDescriptor(&got, level));
	ok(got.Width == 1 && got.Height == 1 && level == again, "the fifth level is one texel, and always the same array");
	GIVES(cuMipmappedArrayGetLevel(&level, mip, 5), CUDA_ERROR_INVALID_VALUE, "a sixth there is not");
	OURS(cuArrayDestroy(again), CUDA_ERROR_INVALID_HANDLE, "a level by itself is not destroyed");
	OURS(cuArray3DGetDescriptor(&got, (CUarray)mip), CUDA_ERROR_INVALID_HANDLE, "a mipmap is no array");
	CU(cuMipmappedArrayDestroy(mip));
	OURS(cuArray3DGetDescriptor(&got, again), CUDA_ERROR_INVALID_HANDLE, "a level of a mipmap that is gone");
	OURS(cuMipmappedArrayDestroy(mip), CUDA_ERROR_INVALID_HANDLE, "a mipmap destroyed twice");
}

static void refused(void)
{
	static const struct {
		const char *what;
		size_t w, h, d;
		unsigned int format, channels, flags;
		CUresult want;
	} bad[] = {
		{ "no width", 0, 4, 0, CU_AD_FORMAT_FLOAT, 1, 0, CUDA_ERROR_INVALID_VALUE },
		{ "three channels", 4, 4, 0, CU_AD_FORMAT_FLOAT, 3, 0, CUDA_ERROR_INVALID_VALUE },
		{ "no format", 4, 4, 0, 0, 1, 0, CUDA_ERROR_INVALID_VALUE },
		{ "an unknown flag", 4, 4, 0, CU_AD_FORMAT_FLOAT, 1, 0x8000, CUDA_ERROR_INVALID_VALUE },
		{ "a cube with five faces", 4, 4, 5, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_CUBEMAP, CUDA_ERROR_INVALID_VALUE },
		{ "a cube that is none", 4, 5, 6, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_CUBEMAP, CUDA_ERROR_INVALID_VALUE },
		{ "no layers", 4, 4, 0, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_LAYERED, CUDA_ERROR_INVALID_VALUE },
		{ "depth without height", 4, 0, 4, CU_AD_FORMAT_FLOAT, 1, 0, CUDA_ERROR_INVALID_VALUE },
		{ "more than the device can", 1 << 24, 4, 0, CU_AD_FORMAT_FLOAT, 1, 0, CUDA_ERROR_INVALID_VALUE },
		{ "a sparse one", 4, 4, 0, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_SPARSE, CUDA_ERROR_NOT_SUPPORTED },
		{ "one larger than memory", 16384, 16384, 1024, CU_AD_FORMAT_FLOAT, 4, 0, CUDA_ERROR_OUT_OF_MEMORY },
	};
	CUDA_ARRAY3D_DESCRIPTOR d;
	CUarray a;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		/* The driver has sparse arrays; we do not carry them. */
		if (bad[i].flags & CUDA_ARRAY3D_SPARSE && on_driver())
			continue;
		d = desc3(bad[i].w, bad[i].h, bad[i].d, (CUarray_format)bad[i].format, bad[i].channels, bad[i].flags);
		GIVES(cuArray3DCreate(&a, &d), bad[i].want, bad[i].what);
	}
	GIVES(cuArray3DCreate(NULL, &d), CUDA_ERROR_INVALID_VALUE, "an array to nowhere");
	GIVES(cuArray3DCreate(&a, NULL), CUDA_ERROR_INVALID_VALUE, "an array of nothing");
}

static void lines(CUstream stream)
{
	enum { W = 131072, BYTES = W * 16 };
	CUDA_ARRAY_DESCRIPTOR d = { W, 0, CU_AD_FORMAT_FLOAT, 4 };
	unsigned char *in = malloc(BYTES), *out = calloc(1, BYTES), *pinned;
	CUdeviceptr mem;
	CUarray a, b;

	CU(cuMemHostAlloc((void **)&pinned, BYTES, 0));
	for (int i = 0; i < BYTES; i++)
		in[i] = pinned[i] = (unsigned char)(i * 7 ^ i >> 9);
	CU(cuArrayCreate(&a, &d));
	CU(cuArrayCreate(&b, &d));
	CU(cuMemAlloc(&mem, BYTES));
	CU(cuMemcpyHtoA(a, 0, in, BYTES));
	CU(cuMemcpyAtoD(mem, a, 0, BYTES));
	CU(cuMemcpyDtoA(b, 16, mem, BYTES - 16));
	CU(cuMemcpyAtoA(b, 0, a, BYTES - 16, 16));
	CU(cuMemcpyAtoH(out, b, 0, BYTES));
	ok(!memcmp(out, in + BYTES - 16, 16) && !memcmp(out + 16, in, BYTES - 16),
	   "a line of 2 MiB from host, device and array to each of them");
	memset(out, 0, BYTES);
	CU(cuMemcpyHtoAAsync(a, 32, pinned, 4096, stream));
	CU(cuMemcpyAtoHAsync(pinned, a, 0, BYTES, stream));
	CU(cuMemcpyAtoHAsync(out, a, 32, 4096, stream));
	CU(cuStreamSynchronize(stream));
	ok(!memcmp(out, in, 4096) && !memcmp(pinned + 32, in, 4096) && !memcmp(pinned + 4128, in + 4128, BYTES - 4128),
	   "the same in a stream");
	GIVES(cuMemcpyHtoA(a, BYTES - 16, in, 32), CUDA_ERROR_INVALID_VALUE, "past the end of an array");
	OURS(cuMemcpyHtoA(a, 8, in, 16), CUDA_ERROR_INVALID_VALUE, "from the middle of an element");
	OURS(cuMemcpyHtoA(NULL, 0, in, 16), CUDA_ERROR_INVALID_HANDLE, "a copy to no array");
	GIVES(cuMemcpyDtoA(a, 0, mem + BYTES - 16, 32), CUDA_ERROR_INVALID_VALUE, "from past the end of memory");
	CU(cuMemFree(mem));
	CU(cuArrayDestroy(a));
	OURS(cuMemcpyAtoH(out, a, 0, 16), CUDA_ERROR_INVALID_HANDLE, "a copy from a destroyed array");
	CU(cuArrayDestroy(b));
	CU(cuMemFreeHost(pinned));
	free(in);
	free(out);
}

static void boxes(CUstream stream)
{
	enum { W = 24, H = 10, D = 6 };
	CUDA_ARRAY3D_DESCRIPTOR d = desc3(W, H, D, CU_AD_FORMAT_UNSIGNED_INT16, 2, 0);
	static unsigned int in[D][H][W], out[D][H][W];
	unsigned int *all = &in[0][0][0];
	CUDA_MEMCPY3D c = { .srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = in, .srcPitch = W * 4, .srcHeight = H,
			    .dstMemoryType = CU_MEMORYTYPE_ARRAY, .WidthInBytes = W * 4, .Height = H, .Depth = D };
	CUDA_MEMCPY3D_BATCH_OP op = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM, .extent = { W, H, D } };
	CUDA_MEMCPY2D row = { .srcMemoryType = CU_MEMORYTYPE_ARRAY, .srcXInBytes = 8, .srcY = 2,
			      .dstMemoryType = CU_MEMORYTYPE_HOST, .dstHost = out, .dstPitch = W * 4, .WidthInBytes = 16,
			      .Height = 3 };
	CUdeviceptr mem, linear;
	size_t pitch;
	CUcontext ctx;
	CUarray a;
	int wrong = 0;

	for (int i = 0; i < W * H * D; i++)
		all[i] = (unsigned int)i * 2654435761u;
	CU(cuArray3DCreate(&a, &d));
	CU(cuMemAllocPitch(&mem, &pitch, W * 4, H * D, 4));
	c.dstArray = a;
	CU(cuMemcpy3D(&c));
	/* A box from the array's middle into pitched memory, from there to the host. */
	c = (CUDA_MEMCPY3D){ .srcMemoryType = CU_MEMORYTYPE_ARRAY, .srcArray = a, .srcXInBytes = 8, .srcY = 1, .srcZ = 2,
			     .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = mem, .dstPitch = pitch, .dstHeight = H,
			     .dstXInBytes = 4, .dstZ = 1, .WidthInBytes = 40, .Height = 7, .Depth = 3 };
	CU(cuMemcpy3DAsync(&c, stream));
	c = (CUDA_MEMCPY3D){ .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = mem, .srcPitch = pitch, .srcHeight = H,
			     .srcXInBytes = 4, .srcZ = 1, .dstMemoryType = CU_MEMORYTYPE_HOST, .dstHost = out,
			     .dstPitch = W * 4, .dstHeight = H, .WidthInBytes = 40, .Height = 7, .Depth = 3 };
	CU(cuMemcpy3DAsync(&c, stream));
	CU(cuStreamSynchronize(stream));
	for (int z = 0; z < 3; z++)
		for (int y = 0; y < 7; y++)
			for (int x = 0; x < 10; x++)
				wrong += out[z][y][x] != in[z + 2][y + 1][x + 2];
	ok(!wrong, "a box out of an array by way of pitched memory: %d wrong", wrong);
	row.srcArray = a;
	CU(cuMemcpy2D(&row));
	ok(out[0][0][0] == in[0][2][2] && out[0][2][3] == in[0][4][5], "a window of two dimensions out of the first slice");

	CU(cuMemAlloc(&linear, sizeof(in)));
	CU(cuCtxGetCurrent(&ctx));
	CUDA_MEMCPY3D_PEER peer = { .srcMemoryType = CU_MEMORYTYPE_ARRAY, .srcArray = a, .srcContext = ctx,
				    .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = linear, .dstContext = ctx,
				    .dstPitch = W * 4, .dstHeight = H, .WidthInBytes = W * 4, .Height = H, .Depth = D };

	CU(cuMemcpy3DPeer(&peer));
	memset(out, 0, sizeof(out));
	CU(cuMemcpyDtoH(out, linear, sizeof(out)));
	ok(!memcmp(in, out, sizeof(in)), "a copy between peers takes arrays, too");

	for (int i = 0; i < W * H * D; i++)
		all[i] ^= 0x55aa55aa;
	op.src.type = CU_MEMCPY_OPERAND_TYPE_POINTER;
	op.src.op.ptr.ptr = (CUdeviceptr)(uintptr_t)in;
	op.dst.type = CU_MEMCPY_OPERAND_TYPE_ARRAY;
	op.dst.op.array.array = a;
	CU(cuMemcpy3DBatchAsync(1, &op, 0, stream));
	op.dst = op.src;
	op.src = (CUmemcpy3DOperand){ .type = CU_MEMCPY_OPERAND_TYPE_ARRAY, .op.array.array = a };
	op.dst.op.ptr.ptr = (CUdeviceptr)(uintptr_t)out;
	CU(cuMemcpy3DBatchAsync(1, &op, 0, stream));
	CU(cuStreamSynchronize(stream));
	ok(!memcmp(in, out, sizeof(in)), "a batch of boxes, counted in elements");
	op.extent.width = W + 1;
	GIVES(cuMemcpy3DBatchAsync(1, &op, 0, stream), CUDA_ERROR_INVALID_VALUE, "a batch with a box that sticks out");
	GIVES(cuMemcpy3DBatchAsync(1, NULL, 0, stream), CUDA_ERROR_INVALID_VALUE, "a batch of nothing");

	c.srcMemoryType = CU_MEMORYTYPE_ARRAY;
	c.srcArray = a;
	c.srcZ = 4;
	GIVES(cuMemcpy3D(&c), CUDA_ERROR_INVALID_VALUE, "a box that sticks out of its array");
	c.srcLOD = 1;
	GIVES(cuMemcpy3D(&c), CUDA_ERROR_INVALID_VALUE, "a level of detail");
	CU(cuMemFree(mem));
	CU(cuMemFree(linear));
	CU(cuArrayDestroy(a));
}

/* --- objects and references ---------------------------------------------------------------------------------------- */

static const char ptx[] =
	".version 8.0\n.target sm_75\n.address_size 64\n"
	".global .texref picture;\n.global .surfref canvas;\n"
	".visible .entry read(.param .u64 out)\n{\n"
	"	.reg .b64 %rd<3>;\n	.reg .b32 %r<3>;\n	.reg .f32 %f<8>;\n"
	"	ld.param.u64 %rd1, [out];\n	mov.u32 %r1, %tid.x;\n	cvt.rn.f32.u32 %f1, %r1;\n"
	"	tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [picture, {%f1, %f1}];\n"
	"	mul.wide.u32 %rd2, %r1, 4;\n	add.u64 %rd2, %rd1, %rd2;\n	st.global.f32 [%rd2], %f4;\n"
	"	shl.b32 %r2, %r1, 2;\n	sust.b.2d.b32.trap [canvas, {%r2, %r1}], {%r1};\n	ret;\n}\n";

static void references(void)
{
	CUDA_ARRAY3D_DESCRIPTOR d = desc3(8, 8, 0, CU_AD_FORMAT_FLOAT, 1, 0), c = d;
	float picture[64], got[8], color[4] = { 1, 2, 3, 4 }, back[4] = { 0 };
	unsigned int canvas[64] = { 0 }, flags = 9;
	CUaddress_mode mode;
	CUfilter_mode filter;
	CUarray_format format;
	CUarray a, b, bound;
	CUtexref ref, again, own;
	CUsurfref surf, none;
	CUmodule module;
	CUfunction f;
	CUdeviceptr out, linear, at;
	CUDA_MEMCPY2D copy = { .srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = picture, .srcPitch = 32,
			       .dstMemoryType = CU_MEMORYTYPE_ARRAY, .WidthInBytes = 32, .Height = 8 };
	void *params[] = { &out };
	int wrong = 0, channels;
	size_t offset = 1;

	for (int i = 0; i < 64; i++)
		picture[i] = (float)(i * i);
	c.Format = CU_AD_FORMAT_UNSIGNED_INT32;
	c.Flags = CUDA_ARRAY3D_SURFACE_LDST;
	CU(cuArray3DCreate(&a, &d));
	CU(cuArray3DCreate(&b, &c));
	copy.dstArray = a;
	CU(cuMemcpy2D(&copy));
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&f, module, "read"));
	CU(cuModuleGetTexRef(&ref, module, "picture"));
	CU(cuModuleGetTexRef(&again, module, "picture"));
	ok(ref == again, "a reference asked for twice is the same one");
	CU(cuModuleGetSurfRef(&surf, module, "canvas"));
	GIVES(cuModuleGetTexRef(&again, module, "read"), CUDA_ERROR_NOT_FOUND, "a kernel is no reference");
	GIVES(cuModuleGetSurfRef(&none, module, "nothing"), CUDA_ERROR_NOT_FOUND, "nor what is not there");
	CU(cuTexRefSetArray(ref, a, CU_TRSA_OVERRIDE_FORMAT));
	CU(cuSurfRefSetArray(surf, b, 0));
	CU(cuTexRefGetArray(&bound, ref));
	ok(bound == a, "it says which array is bound");
	CU(cuSurfRefGetArray(&bound, surf));
	ok(bound == b, "and so does that of a surface");
	CU(cuMemAlloc(&out, sizeof(got)));
	CU(cuLaunchKernel(f, 1, 1, 1, 8, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH(got, out, sizeof(got)));
	copy = (CUDA_MEMCPY2D){ .srcMemoryType = CU_MEMORYTYPE_ARRAY, .srcArray = b, .dstMemoryType = CU_MEMORYTYPE_HOST,
				.dstHost = canvas, .dstPitch = 32, .WidthInBytes = 32, .Height = 8 };
	CU(cuMemcpy2D(&copy));
	for (int i = 0; i < 8; i++)
		wrong += got[i] != picture[i * 9] || canvas[i * 9] != (unsigned int)i;
	ok(!wrong, "a kernel reads the one and writes the other: %d wrong", wrong);

	CU(cuTexRefSetAddressMode(ref, 1, CU_TR_ADDRESS_MODE_BORDER));
	CU(cuTexRefGetAddressMode(&mode, ref, 1));
	CU(cuTexRefSetFilterMode(ref, CU_TR_FILTER_MODE_LINEAR));
	CU(cuTexRefGetFilterMode(&filter, ref));
	CU(cuTexRefSetBorderColor(ref, color));
	CU(cuTexRefGetBorderColor(back, ref));
	CU(cuTexRefGetFormat(&format, &channels, ref));
	CU(cuTexRefGetFlags(&flags, ref));
	ok(mode == CU_TR_ADDRESS_MODE_BORDER && filter == CU_TR_FILTER_MODE_LINEAR && !memcmp(color, back, sizeof(color)) &&
	   format == CU_AD_FORMAT_FLOAT && channels == 1 && !flags, "what was set is what is told");
	CU(cuLaunchKernel(f, 1, 1, 1, 8, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH(got, out, sizeof(got)));
	ok(got[4] == (picture[27] + picture[28] + picture[35] + picture[36]) / 4, "the next launch filters: %g", got[4]);

	CU(cuMemAlloc(&linear, 4096));
	CU(cuTexRefSetAddress(&offset, ref, linear, 4096));
	CU(cuTexRefGetAddress(&at, ref));
	ok(at == linear && !offset, "memory without dimensions can be bound");
	GIVES(cuTexRefGetArray(&bound, ref), CUDA_ERROR_INVALID_VALUE, "then there is no array");
	OURS(cuTexRefSetAddress(&offset, ref, linear, 1 << 20), CUDA_ERROR_INVALID_VALUE, "but not more than there is");
	GIVES(cuTexRefSetAddressMode(ref, 3, CU_TR_ADDRESS_MODE_CLAMP), CUDA_ERROR_INVALID_VALUE, "a fourth dimension");
	OURS(cuTexRefDestroy(ref), CUDA_ERROR_INVALID_VALUE, "a module's reference goes with the module");
	CU(cuTexRefCreate(&own));
	CU(cuTexRefDestroy(own));
	CU(cuModuleUnload(module));
	if (!on_driver())
		ok(cuTexRefSetFlags(ref, 0) != CUDA_SUCCESS, "after which it is gone");
	CU(cuMemFree(linear));
	CU(cuMemFree(out));
	CU(cuArrayDestroy(a));
	CU(cuArrayDestroy(b));
}

static void objects(void)
{
	CUDA_ARRAY3D_DESCRIPTOR d = desc3(8, 8, 4, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_LAYERED);
	CUDA_RESOURCE_DESC res = { .resType = CU_RESOURCE_TYPE_ARRAY }, got_res;
	CUDA_RESOURCE_VIEW_DESC view = { .format = CU_RES_VIEW_FORMAT_FLOAT_1X32, .width = 8, .height = 8, .depth = 4,
						     .firstLayer = 1, .lastLayer = 2 }, got_view;
	CUDA_TEXTURE_DESC tex = { .maxAnisotropy = 2, .borderColor = { 1, 2, 3, 4 } }, got_tex;
	CUtexObject t, u;
	CUsurfObject s;
	CUdeviceptr mem;
	CUarray a;

	CU(cuArray3DCreate(&a, &d));
	res.res.array.hArray = a;
	CU(cuTexObjectCreate(&t, &res, &tex, &view));
	CU(cuTexObjectGetResourceDesc(&got_res, t));
	CU(cuTexObjectGetTextureDesc(&got_tex, t));
	CU(cuTexObjectGetResourceViewDesc(&got_view, t));
	if (!on_driver())
		ok(got_res.res.array.hArray == a && !memcmp(&got_tex, &tex, sizeof(tex)) && got_view.lastLayer == 2,
		   "a texture tells what it was made of");
	CU(cuTexObjectCreate(&u, &res, &tex, NULL));
	OURS(cuTexObjectGetResourceViewDesc(&got_view, u), CUDA_ERROR_INVALID_VALUE, "a view of what was made without");
	GIVES(cuTexObjectCreate(NULL, &res, &tex, NULL), CUDA_ERROR_INVALID_VALUE, "a texture to nowhere");
	GIVES(cuTexObjectCreate(&s, NULL, &tex, NULL), CUDA_ERROR_INVALID_VALUE, "a texture of nothing");
	GIVES(cuTexObjectCreate(&s, &res, NULL, NULL), CUDA_ERROR_INVALID_VALUE, "a texture without a description");
	view.lastLayer = 4;
	if (ON_SOFTWARE())
		GIVES(cuTexObjectCreate(&s, &res, &tex, &view), CUDA_ERROR_INVALID_VALUE, "a view of more layers than there are");
	tex.addressMode[0] = 9;
	GIVES(cuTexObjectCreate(&s, &res, &tex, NULL), CUDA_ERROR_INVALID_VALUE, "an unknown address mode");
	tex.addressMode[0] = 0;
	OURS(cuSurfObjectDestroy(t), CUDA_ERROR_INVALID_VALUE, "a texture is no surface");
	CU(cuTexObjectDestroy(t));
	CU(cuTexObjectDestroy(u));
	OURS(cuTexObjectDestroy(t), CUDA_ERROR_INVALID_VALUE, "a texture destroyed twice");
	OURS(cuTexObjectGetResourceDesc(&got_res, t), CUDA_ERROR_INVALID_VALUE, "what a destroyed texture was");
	CU(cuArrayDestroy(a));
	OURS(cuTexObjectCreate(&t, &res, &tex, NULL), CUDA_ERROR_INVALID_HANDLE, "a texture of a destroyed array");

	CU(cuMemAlloc(&mem, 4096));
	res = (CUDA_RESOURCE_DESC){ .resType = CU_RESOURCE_TYPE_LINEAR };
	res.res.linear.devPtr = mem;
	res.res.linear.format = CU_AD_FORMAT_FLOAT;
	res.res.linear.numChannels = 1;
	res.res.linear.sizeInBytes = 1 << 20;
	OURS(cuTexObjectCreate(&t, &res, &tex, NULL), CUDA_ERROR_INVALID_VALUE, "a texture past the end of memory");
	res.res.linear.sizeInBytes = 2048;
	res.res.linear.devPtr = mem + 4;
	GIVES(cuTexObjectCreate(&t, &res, &tex, NULL), CUDA_ERROR_INVALID_VALUE, "one that is not aligned");
	CU(cuMemFree(mem));
}

static void tensors(void)
{
	CUtensorMap map __attribute__((aligned(64))), other __attribute__((aligned(64)));
	cuuint64_t dim[2] = { 64, 32 }, stride[1] = { 256 };
	cuuint32_t box[2] = { 16, 8 }, step[2] = { 1, 1 };
	unsigned int wrong = 0;
	CUdeviceptr mem;

#define ENCODE(m, address) cuTensorMapEncodeTiled(m, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, (void *)(uintptr_t)(address), dim, \
		stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE, \
		CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
	CU(cuMemAlloc(&mem, 64 * 32 * 4));
	CU(ENCODE(&map, mem));
	CU(ENCODE(&other, mem));
	ok(!memcmp(&map, &other, sizeof(map)), "a tensor map is made of its arguments alone");
	CU(cuTensorMapReplaceAddress(&other, (void *)(uintptr_t)(mem + 1024)));
	ok(memcmp(&map, &other, sizeof(map)), "another address is another map");
	CU(ENCODE(&map, mem + 1024));
	ok(!memcmp(&map, &other, sizeof(map)), "the one that it would have been made with");
	GIVES(ENCODE(&map, mem + 4), CUDA_ERROR_INVALID_VALUE, "an address that is not aligned");
	box[0] = 257;
	GIVES(ENCODE(&map, mem), CUDA_ERROR_INVALID_VALUE, "a box that is too wide");
	box[0] = 3;
	GIVES(ENCODE(&map, mem), CUDA_ERROR_INVALID_VALUE, "a row of 12 bytes");
	box[0] = 16;
	stride[0] = 100;
	GIVES(ENCODE(&map, mem), CUDA_ERROR_INVALID_VALUE, "a stride of 100 bytes");
	GIVES(ENCODE(NULL, mem), CUDA_ERROR_INVALID_VALUE, "a map to nowhere");
	stride[0] = 256;
	/* More than anybody keeps in mind, and what was told is what would be told. */
	for (unsigned int i = 0; i < 1000; i++) {
		CU(ENCODE(&map, mem + i % 500 * 16));
		CU(cuTensorMapReplaceAddress(&other, (void *)(uintptr_t)(mem + i % 500 * 16)));
		wrong += memcmp(&map, &other, sizeof(map)) != 0;
	}
	ok(!wrong, "each of 500 addresses has its own map: %u wrong", wrong);
	/* selftests/run-local sees, by VGPU_TRACE, that nobody is asked. */
	CU(ENCODE(&map, mem));
	for (int i = 0; i < 100; i++)
		CU(ENCODE(&other, mem));
	ok(!memcmp(&map, &other, sizeof(map)), "the same map a hundred times");
	CU(cuMemFree(mem));
}

int main(void)
{
	CUDA_ARRAY3D_DESCRIPTOR d = desc3(64, 64, 0, CU_AD_FORMAT_FLOAT, 1, 0), got;
	CUDA_RESOURCE_DESC res = { .resType = CU_RESOURCE_TYPE_ARRAY };
	CUDA_TEXTURE_DESC tex = { .filterMode = CU_TR_FILTER_MODE_POINT };
	size_t before, after, total;
	CUstream stream;
	CUtexObject t;
	CUcontext ctx;
	CUdevice dev;
	CUarray a;

	CU(cuInit(0));
	CU(cuDeviceGet(&dev, 0));
	GIVES(cuArray3DCreate(&a, &d), CUDA_ERROR_INVALID_CONTEXT, "an array without a context");
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	CU(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
	CU(cuMemGetInfo(&before, &total));
	descriptions();
	refused();
	lines(stream);
	boxes(stream);
	references();
	objects();
	tensors();
	CU(cuMemGetInfo(&after, &total));
	ok(before == after || on_driver(), "all memory is free again: %zu of %zu bytes", after, before);

	CU(cuArray3DCreate(&a, &d));
	CU(cuMemGetInfo(&after, &total));
	ok(after + 64 * 64 * 4 <= before, "an array counts as memory");
	res.res.array.hArray = a;
	CU(cuTexObjectCreate(&t, &res, &tex, NULL));
	CU(cuStreamDestroy(stream));
	CU(cuDevicePrimaryCtxReset(dev));
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	OURS(cuArray3DGetDescriptor(&got, a), CUDA_ERROR_INVALID_HANDLE, "an array after its context was reset");
	OURS(cuTexObjectDestroy(t), CUDA_ERROR_INVALID_VALUE, "a texture after that");
	CU(cuMemGetInfo(&after, &total));
	ok(before == after || on_driver(), "and its memory is free: %zu of %zu bytes", after, before);
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
