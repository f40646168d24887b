// SPDX-License-Identifier: Apache-2.0
/* Texture and surface objects: every kind of shape, filter and border, against the guide's formulas on the CPU. */
#include <cmath>
#include <cstdint>
#include <vector>

#include <cuda_fp16.h>

#include "runtime.h"

enum { W = 13, H = 7, D = 5, N = 4096 };

struct texel { float v[4]; };

/* --- what the guide says ------------------------------------------------------------------------------------------- */

struct reference {
	std::vector<float> data;	/* one channel */
	int n[3], dims;
	cudaTextureAddressMode mode;
	bool linear, normalized;
	float border;

	float at(long x, long y, long z) const
	{
		long i[3] = { x, y, z };

		for (int d = 0; d < dims; d++) {
			if (i[d] >= 0 && i[d] < n[d])
				continue;
			if (mode == cudaAddressModeBorder)
				return border;
			if (mode == cudaAddressModeWrap && normalized)
				i[d] = ((i[d] % n[d]) + n[d]) % n[d];
			else
				i[d] = i[d] < 0 ? 0 : n[d] - 1;
		}
		return data[(i[2] * n[1] + i[1]) * n[0] + i[0]];
	}
	float operator()(float x, float y, float z) const
	{
		float c[3] = { x, y, z }, a[3] = { 0, 0, 0 };
		long first[3] = { 0, 0, 0 };
		double sum = 0;

		for (int d = 0; d < dims; d++) {
			if (normalized) {
				float whole = floorf(c[d]);

				if (mode == cudaAddressModeWrap)
					c[d] -= whole;
				else if (mode == cudaAddressModeMirror)
					c[d] = (long)whole % 2 == 0 ? c[d] - whole : 1 - (c[d] - whole);
				c[d] *= n[d];
			}
			if (linear) {
				first[d] = (long)floorf(c[d] - 0.5f);
				a[d] = floorf((c[d] - 0.5f - first[d]) * 256 + 0.5f) / 256;
			} else {
				first[d] = (long)floorf(c[d]);
			}
		}
		if (!linear)
			return at(first[0], first[1], first[2]);
		for (int k = 0; k < 1 << dims; k++) {
			double f = 1;
			long i[3];

			for (int d = 0; d < 3; d++) {
				i[d] = first[d] + (k >> d & 1);
				f *= k >> d & 1 ? a[d] : 1 - a[d];
			}
			if (f)
				sum += f * at(i[0], i[1], i[2]);
		}
		/* Not in the guide, but so on GPUs: a line is the lowest row, and half of what is filtered lies below it. */
		if (dims == 1 && mode == cudaAddressModeBorder)
			sum = (sum + border) / 2;
		return (float)sum;
	}
};

__global__ void fetch1(cudaTextureObject_t t, const float *c, float *out)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	out[i] = tex1D<float>(t, c[3 * i]);
}

__global__ void fetch2(cudaTextureObject_t t, const float *c, float *out)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	out[i] = tex2D<float>(t, c[3 * i], c[3 * i + 1]);
}

__global__ void fetch3(cudaTextureObject_t t, const float *c, float *out)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	out[i] = tex3D<float>(t, c[3 * i], c[3 * i + 1], c[3 * i + 2]);
}

static cudaTextureObject_t make(cudaArray_t array, cudaTextureAddressMode mode, bool linear, bool normalized,
				cudaTextureReadMode read = cudaReadModeElementType, float border = 0)
{
	cudaResourceDesc res = {};
	cudaTextureDesc tex = {};
	cudaTextureObject_t t;

	res.resType = cudaResourceTypeArray;
	res.res.array.array = array;
	for (int d = 0; d < 3; d++)
		tex.addressMode[d] = mode;
	tex.filterMode = linear ? cudaFilterModeLinear : cudaFilterModePoint;
	tex.readMode = read;
	tex.normalizedCoords = normalized;
	tex.borderColor[0] = border;
	CUDA(cudaCreateTextureObject(&t, &res, &tex, NULL));
	return t;
}

static void filters(void)
{
	static const char *const names[] = { "wrap", "clamp", "mirror", "border" };
	std::vector<float> coords(3 * N), got(N);
	float *d_coords, *d_out;

	CUDA(cudaMalloc(&d_coords, coords.size() * 4));
	CUDA(cudaMalloc(&d_out, N * 4));
	for (int dims = 1; dims <= 3; dims++) {
		cudaChannelFormatDesc desc = cudaCreateChannelDesc<float>();
		cudaExtent extent = make_cudaExtent(W, dims > 1 ? H : 0, dims > 2 ? D : 0);
		cudaMemcpy3DParms copy = {};
		reference r;
		cudaArray_t array;

		r.dims = dims;
		r.n[0] = W;
		r.n[1] = dims > 1 ? H : 1;
		r.n[2] = dims > 2 ? D : 1;
		for (int i = 0; i < r.n[0] * r.n[1] * r.n[2]; i++)
			r.data.push_back((float)((i * 7919) % 1009) / 16);
		CUDA(cudaMalloc3DArray(&array, &desc, extent));
		copy.srcPtr = make_cudaPitchedPtr(r.data.data(), W * 4, W, r.n[1]);
		copy.dstArray = array;
		copy.extent = make_cudaExtent(r.n[0], r.n[1], r.n[2]);
		copy.kind = cudaMemcpyHostToDevice;
		CUDA(cudaMemcpy3D(&copy));
		for (int k = 0; k < 16; k++) {
			bool linear = k & 1, normalized = k & 2;
			cudaTextureObject_t t;
			double worst = 0;

			r.mode = (cudaTextureAddressMode)(k >> 2);
			r.linear = linear;
			r.normalized = normalized;
			r.border = 3;
			for (int i = 0; i < N; i++)
				for (int d = 0; d < 3; d++) {
					float u = (float)((i * 131 + d * 977) % 2003) / 2003;

					coords[3 * i + d] = normalized ? u * 5 - 2 : (u * 1.6f - 0.3f) * r.n[d];
				}
			CUDA(cudaMemcpy(d_coords, coords.data(), coords.size() * 4, cudaMemcpyHostToDevice));
			t = make(array, r.mode, linear, normalized, cudaReadModeElementType, r.border);
			if (dims == 1)
				fetch1<<<N / 128, 128>>>(t, d_coords, d_out);
			else if (dims == 2)
				fetch2<<<N / 128, 128>>>(t, d_coords, d_out);
			else
				fetch3<<<N / 128, 128>>>(t, d_coords, d_out);
			CUDA(cudaMemcpy(got.data(), d_out, N * 4, cudaMemcpyDeviceToHost));
			CUDA(cudaDestroyTextureObject(t));
			for (int i = 0; i < N; i++)
				worst = fmax(worst, fabs(got[i] - r(coords[3 * i], coords[3 * i + 1], coords[3 * i + 2])));
			/* Half a step of a weight may fall either way. */
			ok(worst <= (linear ? 64.0 / 128 : 0), "%d dimensions, %s, %s, %s coordinates: off by %g at most", dims,
			   names[k >> 2], linear ? "linear" : "nearest", normalized ? "normalised" : "plain", worst);
		}
		CUDA(cudaFreeArray(array));
	}
	CUDA(cudaFree(d_coords));
	CUDA(cudaFree(d_out));
}

/* --- elements ------------------------------------------------------------------------------------------------------ */

__global__ void integers(cudaTextureObject_t u, cudaTextureObject_t s, int4 *out)
{
	int i = threadIdx.x;
	uchar4 a = tex2D<uchar4>(u, i % 4, i / 4);
	short2 b = tex2D<short2>(s, i % 4, i / 4);

	out[2 * i] = make_int4(a.x, a.y, a.z, a.w);
	out[2 * i + 1] = make_int4(b.x, b.y, 0, 0);
}

__global__ void fractions(cudaTextureObject_t u, cudaTextureObject_t s, cudaTextureObject_t h, float4 *out)
{
	int i = threadIdx.x;
	float4 a = tex2D<float4>(u, i % 4, i / 4);
	float2 b = tex2D<float2>(s, i % 4, i / 4);
	float c = tex2D<float>(h, i % 4, i / 4);

	out[2 * i] = a;
	out[2 * i + 1] = make_float4(b.x, b.y, c, 0);
}

static cudaArray_t filled(const void *data, cudaChannelFormatDesc desc, size_t row, size_t rows, unsigned int flags = 0)
{
	cudaArray_t array;

	CUDA(cudaMallocArray(&array, &desc, row * 8 / (desc.x + desc.y + desc.z + desc.w), rows, flags));
	CUDA(cudaMemcpy2DToArray(array, 0, 0, data, row, row, rows, cudaMemcpyHostToDevice));
	return array;
}

static void elements(void)
{
	unsigned char u[16][4];
	short s[16][2];
	__half h[16];
	int got[16][8], wrong = 0;
	float real[16][8], *d;
	cudaArray_t au, as, ah;
	cudaTextureObject_t t[3];

	for (int i = 0; i < 16; i++) {
		for (int k = 0; k < 4; k++)
			u[i][k] = (unsigned char)(i * 16 + k * 5);
		s[i][0] = (short)(i * 4000 - 32768);
		s[i][1] = (short)(-i * 1234);
		h[i] = __float2half(i * 0.37f - 2);
	}
	au = filled(u, cudaCreateChannelDesc<uchar4>(), 16, 4);
	as = filled(s, cudaCreateChannelDesc<short2>(), 16, 4);
	ah = filled(h, cudaCreateChannelDescHalf(), 8, 4);
	CUDA(cudaMalloc(&d, sizeof(got)));
	t[0] = make(au, cudaAddressModeClamp, false, false);
	t[1] = make(as, cudaAddressModeClamp, false, false);
	integers<<<1, 16>>>(t[0], t[1], (int4 *)d);
	CUDA(cudaMemcpy(got, d, sizeof(got), cudaMemcpyDeviceToHost));
	for (int i = 0; i < 16; i++) {
		for (int k = 0; k < 4; k++)
			wrong += got[i][k] != u[i][k];
		wrong += got[i][4] != s[i][0] || got[i][5] != s[i][1];
	}
	ok(!wrong, "four unsigned bytes and two signed shorts as integers: %d wrong", wrong);
	CUDA(cudaDestroyTextureObject(t[0]));
	CUDA(cudaDestroyTextureObject(t[1]));

	t[0] = make(au, cudaAddressModeClamp, false, false, cudaReadModeNormalizedFloat);
	t[1] = make(as, cudaAddressModeClamp, false, false, cudaReadModeNormalizedFloat);
	t[2] = make(ah, cudaAddressModeClamp, false, false);
	fractions<<<1, 16>>>(t[0], t[1], t[2], (float4 *)d);
	CUDA(cudaMemcpy(real, d, sizeof(real), cudaMemcpyDeviceToHost));
	wrong = 0;
	for (int i = 0; i < 16; i++) {
		for (int k = 0; k < 4; k++)
			wrong += fabs(real[i][k] - u[i][k] / 255.0) > 1e-6;
		wrong += fabs(real[i][4] - fmax(s[i][0] / 32767.0, -1)) > 1e-6;
		wrong += fabs(real[i][5] - s[i][1] / 32767.0) > 1e-6;
		wrong += real[i][6] != __half2float(h[i]);
	}
	ok(!wrong, "the same as fractions of one, and halves: %d wrong", wrong);
	for (int i = 0; i < 3; i++)
		CUDA(cudaDestroyTextureObject(t[i]));
	CUDA(cudaFreeArray(au));
	CUDA(cudaFreeArray(as));
	CUDA(cudaFreeArray(ah));
	CUDA(cudaFree(d));
}

/* --- linear memory, layers, cubes, mipmaps, gathers ----------------------------------------------------------------- */

__global__ void lines(cudaTextureObject_t linear, cudaTextureObject_t pitched, float *out, int n)
{
	int i = threadIdx.x;

	out[i] = tex1Dfetch<float>(linear, i - 2);
	out[n + i] = tex2D<float>(pitched, i % 8 + 0.5f, i / 8 + 0.5f);
}

static void memories(void)
{
	enum { COUNT = 64 };
	float host[COUNT], got[2 * COUNT], *d, *out, *pitched;
	cudaResourceDesc res = {};
	cudaTextureDesc tex = {};
	cudaTextureObject_t t, p;
	size_t pitch;
	int wrong = 0;

	for (int i = 0; i < COUNT; i++)
		host[i] = i * 1.5f;
	CUDA(cudaMalloc(&d, sizeof(host)));
	CUDA(cudaMalloc(&out, sizeof(got)));
	CUDA(cudaMallocPitch(&pitched, &pitch, 8 * 4, 8));
	CUDA(cudaMemcpy(d, host, sizeof(host), cudaMemcpyHostToDevice));
	CUDA(cudaMemcpy2D(pitched, pitch, host, 32, 32, 8, cudaMemcpyHostToDevice));
	res.resType = cudaResourceTypeLinear;
	res.res.linear.devPtr = d;
	res.res.linear.desc = cudaCreateChannelDesc<float>();
	res.res.linear.sizeInBytes = (COUNT - 8) * 4;
	CUDA(cudaCreateTextureObject(&t, &res, &tex, NULL));
	res.resType = cudaResourceTypePitch2D;
	res.res.pitch2D.devPtr = pitched;
	res.res.pitch2D.desc = cudaCreateChannelDesc<float>();
	res.res.pitch2D.width = res.res.pitch2D.height = 8;
	res.res.pitch2D.pitchInBytes = pitch;
	CUDA(cudaCreateTextureObject(&p, &res, &tex, NULL));
	lines<<<1, COUNT>>>(t, p, out, COUNT);
	CUDA(cudaMemcpy(got, out, sizeof(got), cudaMemcpyDeviceToHost));
	for (int i = 0; i < COUNT; i++) {
		wrong += got[i] != (i < 2 || i - 2 >= COUNT - 8 ? 0 : host[i - 2]);
		wrong += got[COUNT + i] != host[i];
	}
	ok(!wrong, "textures of linear memory, zero outside, and of pitched memory: %d wrong", wrong);
	CUDA(cudaDestroyTextureObject(t));
	CUDA(cudaDestroyTextureObject(p));
	CUDA(cudaFree(d));
	CUDA(cudaFree(out));
	CUDA(cudaFree(pitched));
}

__global__ void layered(cudaTextureObject_t a1, cudaTextureObject_t a2, cudaTextureObject_t cube, cudaTextureObject_t gather,
			float4 *out)
{
	int l = threadIdx.x;
	float x = l < 2 ? (l ? -1.0f : 1.0f) : 0.1f, y = l / 2 == 1 ? (l % 2 ? -1.0f : 1.0f) : 0.1f;
	float z = l / 2 == 2 ? (l % 2 ? -1.0f : 1.0f) : 0.1f;

	out[l] = make_float4(tex1DLayered<float>(a1, 2.5f, l), tex2DLayered<float>(a2, 1.5f, 1.5f, l),
			     texCubemap<float>(cube, x, y, z), 0);
	if (!l) {
		float4 g = tex2Dgather<float4>(gather, 1.0f, 1.0f, 0);

		out[6] = g;
	}
}

static cudaArray_t stack(int w, int h, int layers, unsigned int flags, int base)
{
	cudaChannelFormatDesc desc = cudaCreateChannelDesc<float>();
	std::vector<float> data;
	cudaMemcpy3DParms copy = {};
	cudaArray_t array;

	for (int l = 0; l < layers; l++)
		for (int i = 0; i < w * (h ? h : 1); i++)
			data.push_back((float)(base + l * 100 + i));
	CUDA(cudaMalloc3DArray(&array, &desc, make_cudaExtent(w, h, layers), flags));
	copy.srcPtr = make_cudaPitchedPtr(data.data(), w * 4, w, h ? h : 1);
	copy.dstArray = array;
	copy.extent = make_cudaExtent(w, h ? h : 1, layers ? layers : 1);
	copy.kind = cudaMemcpyHostToDevice;
	CUDA(cudaMemcpy3D(&copy));
	return array;
}

static void shapes(void)
{
	cudaArray_t a[4] = { stack(4, 0, 6, cudaArrayLayered, 1000), stack(4, 4, 6, cudaArrayLayered, 2000),
			     stack(1, 1, 6, cudaArrayCubemap, 3000), NULL };
	cudaChannelFormatDesc desc = cudaCreateChannelDesc<float>();
	float square[16], got[7][4];
	cudaTextureObject_t t[4];
	float4 *out;
	int wrong = 0;

	for (int i = 0; i < 16; i++)
		square[i] = (float)i;
	CUDA(cudaMallocArray(&a[3], &desc, 4, 4, cudaArrayTextureGather));
	CUDA(cudaMemcpy2DToArray(a[3], 0, 0, square, 16, 16, 4, cudaMemcpyHostToDevice));
	for (int i = 0; i < 4; i++)
		t[i] = make(a[i], cudaAddressModeClamp, false, i == 2);
	CUDA(cudaMalloc(&out, sizeof(got)));
	layered<<<1, 6>>>(t[0], t[1], t[2], t[3], out);
	CUDA(cudaMemcpy(got, out, sizeof(got), cudaMemcpyDeviceToHost));
	for (int l = 0; l < 6; l++)
		wrong += got[l][0] != 1002 + l * 100 || got[l][1] != 2005 + l * 100 || got[l][2] != 3000 + l * 100;
	ok(!wrong, "layers of one and of two dimensions, faces of a cube: %d wrong", wrong);
	ok(got[6][0] == 4 && got[6][1] == 5 && got[6][2] == 1 && got[6][3] == 0, "a gather: %g %g %g %g", got[6][0], got[6][1],
	   got[6][2], got[6][3]);
	for (int i = 0; i < 4; i++) {
		CUDA(cudaDestroyTextureObject(t[i]));
		CUDA(cudaFreeArray(a[i]));
	}
	CUDA(cudaFree(out));
}

__global__ void levels(cudaTextureObject_t t, float *out)
{
	int i = threadIdx.x;

	out[i] = tex2DLod<float>(t, 0.5f, 0.5f, i * 0.5f);
	out[8 + i] = tex2DGrad<float>(t, 0.5f, 0.5f, make_float2(exp2f(i) / 8, 0), make_float2(0, exp2f(i) / 8));
}

static void mipmaps(void)
{
	cudaChannelFormatDesc desc = cudaCreateChannelDesc<float>();
	cudaMipmappedArray_t mip;
	cudaResourceDesc res = {};
	cudaTextureDesc tex = {};
	cudaTextureObject_t t;
	float got[16], *out;
	int wrong = 0;

	CUDA(cudaMallocMipmappedArray(&mip, &desc, make_cudaExtent(8, 8, 0), 4));
	for (int l = 0; l < 4; l++) {
		int n = 8 >> l;
		std::vector<float> data(n * n, 10.0f * l);
		cudaArray_t level;
		cudaExtent extent;

		CUDA(cudaGetMipmappedArrayLevel(&level, mip, l));
		CUDA(cudaArrayGetInfo(NULL, &extent, NULL, level));
		wrong += (int)extent.width != n || (int)extent.height != n;
		CUDA(cudaMemcpy2DToArray(level, 0, 0, data.data(), n * 4, n * 4, n, cudaMemcpyHostToDevice));
	}
	ok(!wrong, "each level is half as large as the one before");
	res.resType = cudaResourceTypeMipmappedArray;
	res.res.mipmap.mipmap = mip;
	tex.normalizedCoords = 1;
	tex.filterMode = tex.mipmapFilterMode = cudaFilterModeLinear;
	tex.maxMipmapLevelClamp = 3;
	CUDA(cudaCreateTextureObject(&t, &res, &tex, NULL));
	CUDA(cudaMalloc(&out, sizeof(got)));
	levels<<<1, 8>>>(t, out);
	CUDA(cudaMemcpy(got, out, sizeof(got), cudaMemcpyDeviceToHost));
	wrong = 0;
	for (int i = 0; i < 8; i++) {
		wrong += fabs(got[i] - fmin(i * 5.0, 30)) > 0.1;
		wrong += fabs(got[8 + i] - fmin(i * 10.0, 30)) > 0.1;
	}
	ok(!wrong, "levels of detail, said and from gradients: %d wrong", wrong);
	CUDA(cudaDestroyTextureObject(t));
	CUDA(cudaFreeMipmappedArray(mip));
	CUDA(cudaFree(out));
}

/* --- surfaces ------------------------------------------------------------------------------------------------------ */

__global__ void rotate(cudaSurfaceObject_t in, cudaSurfaceObject_t out, int n)
{
	int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
	uchar4 v;

	if (x >= n || y >= n)
		return;
	surf2Dread(&v, in, x * 4, y);
	surf2Dwrite(make_uchar4(v.w, v.z, v.y, v.x), out, (n - 1 - y) * 4, x);
}

__global__ void borders(cudaSurfaceObject_t s, float *out)
{
	out[0] = surf1Dread<float>(s, -4, cudaBoundaryModeClamp);
	out[1] = surf1Dread<float>(s, 400, cudaBoundaryModeClamp);
	out[2] = surf1Dread<float>(s, 400, cudaBoundaryModeZero);
	surf1Dwrite(99.0f, s, 400, cudaBoundaryModeZero);
	surf1Dwrite(7.0f, s, 4);
	out[3] = surf1Dread<float>(s, 4);
}

static cudaSurfaceObject_t surface(cudaArray_t array)
{
	cudaResourceDesc res = {};
	cudaSurfaceObject_t s;

	res.resType = cudaResourceTypeArray;
	res.res.array.array = array;
	CUDA(cudaCreateSurfaceObject(&s, &res));
	return s;
}

static void surfaces(void)
{
	enum { SIDE = 50 };
	static unsigned char in[SIDE][SIDE][4], out[SIDE][SIDE][4];
	float line[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, got[4], *d;
	cudaArray_t a, b, c;
	cudaSurfaceObject_t sa, sb, sc;
	cudaChannelFormatDesc desc = cudaCreateChannelDesc<float>();
	int wrong = 0;

	for (int i = 0; i < SIDE * SIDE * 4; i++)
		((unsigned char *)in)[i] = (unsigned char)(i * 31 >> 3);
	a = filled(in, cudaCreateChannelDesc<uchar4>(), SIDE * 4, SIDE, cudaArraySurfaceLoadStore);
	b = filled(out, cudaCreateChannelDesc<uchar4>(), SIDE * 4, SIDE, cudaArraySurfaceLoadStore);
	sa = surface(a);
	sb = surface(b);
	rotate<<<dim3(4, 4), dim3(16, 16)>>>(sa, sb, SIDE);
	CUDA(cudaMemcpy2DFromArray(out, SIDE * 4, b, 0, 0, SIDE * 4, SIDE, cudaMemcpyDeviceToHost));
	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++)
			for (int k = 0; k < 4; k++)
				wrong += out[x][SIDE - 1 - y][k] != in[y][x][3 - k];
	ok(!wrong, "a picture turned by way of two surfaces: %d wrong", wrong);

	CUDA(cudaMallocArray(&c, &desc, 8, 0, cudaArraySurfaceLoadStore));
	CUDA(cudaMemcpy2DToArray(c, 0, 0, line, 32, 32, 1, cudaMemcpyHostToDevice));
	sc = surface(c);
	CUDA(cudaMalloc(&d, sizeof(got)));
	borders<<<1, 1>>>(sc, d);
	CUDA(cudaMemcpy(got, d, sizeof(got), cudaMemcpyDeviceToHost));
	ok(got[0] == 1 && got[1] == 8 && got[2] == 0 && got[3] == 7, "the borders of a surface: %g %g %g %g", got[0], got[1],
	   got[2], got[3]);
	CUDA(cudaDestroySurfaceObject(sa));
	CUDA(cudaDestroySurfaceObject(sb));
	CUDA(cudaDestroySurfaceObject(sc));
	CUDA(cudaFree(d));
	CUDA(cudaFreeArray(a));
	CUDA(cudaFreeArray(b));
	CUDA(cudaFreeArray(c));
}

__global__ void outside(cudaSurfaceObject_t s)
{
	surf1Dwrite(1.0f, s, 4000);
}

static void mistakes(void)
{
	cudaChannelFormatDesc desc = cudaCreateChannelDesc<float>();
	cudaArray_t a;
	cudaSurfaceObject_t s;

	CUDA(cudaMallocArray(&a, &desc, 8, 0, cudaArraySurfaceLoadStore));
	s = surface(a);
	outside<<<1, 1>>>(s);
	ok(cudaDeviceSynchronize() != cudaSuccess, "a write outside a surface is a fault");
}

int main(void)
{
	filters();
	elements();
	memories();
	shapes();
	mipmaps();
	surfaces();
	mistakes();
	return tap_done();
}
