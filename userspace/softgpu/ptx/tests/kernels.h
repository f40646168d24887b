/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels everybody writes first, in CUDA C; tested by basic_test.c and timed by bench.c. */
#ifndef SOFTGPU_PTX_TESTS_KERNELS_H
#define SOFTGPU_PTX_TESTS_KERNELS_H

static const char source[] =
"extern \"C\" __global__ void vadd(const float *a, const float *b, float *c, int n)\n"
"{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) c[i] = a[i] + b[i]; }\n"
"extern \"C\" __global__ void saxpy(int n, float a, const float *x, float *y)\n"
"{ for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = a * x[i] + y[i]; }\n"
"#define T 16\n"
"extern \"C\" __global__ void matmul(const float *a, const float *b, float *c, int n)\n"
"{ __shared__ float s[T][T], t[T][T]; int x = blockIdx.x * T + threadIdx.x, y = blockIdx.y * T + threadIdx.y; float v = 0;\n"
"  for (int k = 0; k < n; k += T) { s[threadIdx.y][threadIdx.x] = a[y * n + k + threadIdx.x];\n"
"  t[threadIdx.y][threadIdx.x] = b[(k + threadIdx.y) * n + x]; __syncthreads();\n"
"  for (int i = 0; i < T; i++) v += s[threadIdx.y][i] * t[i][threadIdx.x]; __syncthreads(); } c[y * n + x] = v; }\n"
"extern \"C\" __global__ void reduce(const float *in, float *out, int n)\n"
"{ __shared__ float s[32]; float v = 0; for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) v += in[i];\n"
"  for (int o = 16; o; o >>= 1) v += __shfl_down_sync(~0u, v, o);\n"
"  if (threadIdx.x % 32 == 0) s[threadIdx.x / 32] = v; __syncthreads();\n"
"  if (threadIdx.x < 32) { v = threadIdx.x < blockDim.x / 32 ? s[threadIdx.x] : 0;\n"
"  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o); if (!threadIdx.x) atomicAdd(out, v); } }\n"
"extern \"C\" __global__ void histogram(const unsigned char *in, unsigned *bins, int n)\n"
"{ __shared__ unsigned h[256]; for (int i = threadIdx.x; i < 256; i += blockDim.x) h[i] = 0; __syncthreads();\n"
"  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&h[in[i]], 1);\n"
"  __syncthreads(); for (int i = threadIdx.x; i < 256; i += blockDim.x) atomicAdd(&bins[i], h[i]); }\n"
"extern \"C\" __global__ void mandel(int *out, int w, int h, int iters)\n"
"{ int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y; if (x >= w || y >= h) return;\n"
"  float cr = -2.0f + 3.0f * x / w, ci = -1.5f + 3.0f * y / h, zr = 0, zi = 0; int k = 0;\n"
"  for (; k < iters && zr * zr + zi * zi < 4.0f; k++) { float t = zr * zr - zi * zi + cr; zi = 2.0f * zr * zi + ci; zr = t; }\n"
"  out[y * w + x] = k; }\n"
"extern \"C\" __global__ void transpose(const float *in, float *out, int w, int h)\n"
"{ __shared__ float t[32][33]; int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;\n"
"  for (int j = 0; j < 32; j += 8) if (x < w && y + j < h) t[threadIdx.y + j][threadIdx.x] = in[(y + j) * w + x]; __syncthreads();\n"
"  x = blockIdx.y * 32 + threadIdx.x; y = blockIdx.x * 32 + threadIdx.y;\n"
"  for (int j = 0; j < 32; j += 8) if (x < h && y + j < w) out[(y + j) * h + x] = t[threadIdx.x][threadIdx.y + j]; }\n"
"extern \"C\" __global__ void softmax(const float *in, float *out, int n)\n"
"{ __shared__ float s[256]; const float *row = in + blockIdx.x * n; float m = -1e30f; for (int i = threadIdx.x; i < n; i += blockDim.x) m = fmaxf(m, row[i]);\n"
"  s[threadIdx.x] = m; __syncthreads(); for (int o = blockDim.x / 2; o; o >>= 1) { if (threadIdx.x < o) s[threadIdx.x] = fmaxf(s[threadIdx.x], s[threadIdx.x + o]); __syncthreads(); }\n"
"  m = s[0]; __syncthreads(); float v = 0; for (int i = threadIdx.x; i < n; i += blockDim.x) v += expf(row[i] - m); s[threadIdx.x] = v; __syncthreads();\n"
"  for (int o = blockDim.x / 2; o; o >>= 1) { if (threadIdx.x < o) s[threadIdx.x] += s[threadIdx.x + o]; __syncthreads(); }\n"
"  for (int i = threadIdx.x; i < n; i += blockDim.x) out[blockIdx.x * n + i] = expf(row[i] - m) / s[0]; }\n";

#endif /* SOFTGPU_PTX_TESTS_KERNELS_H */
