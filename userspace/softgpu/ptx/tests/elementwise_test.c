// SPDX-License-Identifier: Apache-2.0
/* Every family of arithmetic, as nvcc compiles it from CUDA C, element by element against the host. */

#include <fenv.h>
#include <math.h>

#include "harness.h"

typedef unsigned int uint;
typedef unsigned long long ull;
typedef long long ll;

#define COMMON                                                                          \
	FUNC uint switched(uint a, uint b, uint c)                                      \
	{                                                                               \
		switch (a & 7) {                                                        \
		case 0: return b;                                                       \
		case 1: return c * 3;                                                   \
		case 2: return b ^ c;                                                   \
		case 3: return b / 7;                                                   \
		case 4: return c % 11;                                                  \
		case 5: return b & c;                                                   \
		default: return a;                                                      \
		}                                                                       \
	}                                                                               \
	FUNC ull wide(ull a, ull b, ull c)                                              \
	{                                                                               \
		unsigned __int128 x = a;                                                \
		x = x * b + c;                                                          \
		x /= b | 1;                                                             \
		x = (x << (c & 63)) + (x >> (a & 63));                                  \
		return (ull)x ^ (ull)(x >> 64);                                         \
	}                                                                               \
	FUNC uint looped(uint a, uint b)                                                \
	{                                                                               \
		uint n = 0, v = b;                                                      \
		for (uint i = 0; i < (a & 31); i++) {                                   \
			if (v & 1)                                                      \
				v = v * 3 + 1;                                          \
			else                                                            \
				v >>= 1;                                                \
			if (v % 13 == 5)                                                \
				continue;                                               \
			if (v == 1)                                                     \
				break;                                                  \
			n += v;                                                         \
		}                                                                       \
		return n;                                                               \
	}
#define STRING2(...) #__VA_ARGS__
#define STRING(...) STRING2(__VA_ARGS__)

static const char prologue[] =
	"#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n"
	"typedef unsigned int uint; typedef unsigned long long ull; typedef long long ll;\n"
	"#define FUNC static __device__\n";
static const char common[] = STRING(COMMON);

#define FUNC static
COMMON

static uint brev32(uint v)
{
	uint r = 0;

	for (int i = 0; i < 32; i++)
		r |= (v >> i & 1) << (31 - i);
	return r;
}

static uint perm(uint a, uint b, uint s)
{
	uint64_t v = (uint64_t)b << 32 | a;
	uint r = 0;

	for (int i = 0; i < 4; i++)
		r |= (uint)(v >> (s >> 4 * i & 7) * 8 & 0xff) << 8 * i;
	return r;
}

static uint dp4(uint a, uint b, uint c)
{
	for (int i = 0; i < 32; i += 8)
		c += (a >> i & 0xff) * (b >> i & 0xff);
	return c;
}

static uint sdp4(int a, int b, int c)
{
	uint r = c;

	for (int i = 0; i < 32; i += 8)
		r += (uint)((int8_t)(a >> i) * (int8_t)(b >> i));
	return r;
}

static uint vsad(uint a, uint b, bool sum)
{
	uint r = 0;

	for (int i = 0; i < 32; i += 8) {
		int d = (int)(a >> i & 0xff) - (int)(b >> i & 0xff);

		d = d < 0 ? -d : d;
		r += sum ? (uint)d : (uint)d << i;
	}
	return r;
}

static uint vadd(uint a, uint b, int width)
{
	uint r = 0, m = (1u << width) - 1;

	for (int i = 0; i < 32; i += width)
		r |= (((a >> i & m) + (b >> i & m)) & m) << i;
	return r;
}

static uint vminmax(uint a, uint b, bool max)
{
	uint r = 0;

	for (int i = 0; i < 32; i += 16) {
		uint x = a >> i & 0xffff, y = b >> i & 0xffff;

		if (max)
			r |= (x > y ? x : y) << i;
		else
			r |= ((int16_t)x < (int16_t)y ? x : y) << i;
	}
	return r;
}

static float rounded(int mode, volatile float a, volatile float b, int op)
{
	volatile float r;

	fesetround(mode);
	r = op == 0 ? a * b : op == 1 ? a + b : a / b;
	fesetround(FE_TONEAREST);
	return r;
}

static double drounded(int mode, volatile double a, volatile double b)
{
	volatile double r;

	fesetround(mode);
	r = a + b;
	fesetround(FE_TONEAREST);
	return r;
}

static float conv(int mode, volatile int a)
{
	volatile float r;

	fesetround(mode);
	r = (float)a;
	fesetround(FE_TONEAREST);
	return r;
}

static int to_int(double v)
{
	return v != v ? 0 : v >= 2147483647.0 ? INT32_MAX : v <= -2147483648.0 ? INT32_MIN : (int)v;
}

static uint to_uint(double v)
{
	return v != v || v <= 0 ? 0 : v >= 4294967295.0 ? UINT32_MAX : (uint)v;
}

static ll to_ll(double v)
{
	return v != v ? INT64_MIN : v >= 0x1p63 ? INT64_MAX : v <= -0x1p63 ? INT64_MIN : (ll)v;
}

static float sat(float v)
{
	return v > 0 ? v < 1 ? v : 1 : 0;
}

/* To 11 (or 8) bits of significand and back, to nearest even. */
static float small(double v, int bits, int emin, double max)
{
	int e;
	double q;

	if (v != v || isinf(v) || v == 0)
		return v;
	frexp(v, &e);
	e = e - 1 < emin ? emin : e - 1;
	q = ldexp(rint(ldexp(v, bits - 1 - e)), e - bits + 1);
	return fabs(q) > max ? copysign(INFINITY, v) : q;
}

static float half_of(double v)
{
	return small(v, 11, -14, 65504);
}

static float half(float v)
{
	return small(v, 11, -14, 65504);
}

static float bhalf(float v)
{
	return small(v, 8, -126, 0x1.fep127f);
}

#define X(R, T, name, cuda, host, tol) static R host_##name(T a, T b, T c) { return host; }
#include "elementwise.h"
#undef X

#define X(R, T, name, cuda, host, tol)                                                  \
	"extern \"C\" __global__ void k_" #name "(" #R " *r, const " #T " *x, const " #T " *y, const " #T " *z, int n) {" \
	" int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return; " #T " a = x[i], b = y[i], c = z[i]; r[i] = (" #R ")(" #cuda "); }\n"
static const char kernels[] =
#include "elementwise.h"
	;
#undef X

#define N 1500

static uint64_t rnd(void)
{
	return (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^ random();
}

static uint64_t make_int(unsigned int i)
{
	static const int64_t special[] = { 0, 1, -1, 2, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 31, 32, 33, 63, 64, 255,
					   256, 65535, 65536 };

	return rnd() % 8 ? rnd() >> rnd() % 60 : (uint64_t)special[rnd() % (sizeof(special) / 8)];
}

static double make_float(unsigned int i)
{
	static const double special[] = { 0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, INFINITY, -INFINITY, NAN, 1e-40, -1e-42, 1e30,
					  -1e30, 65504, 65520, 0x1p31, -0x1p31, 0x1p-24 };

	if (!(rnd() % 6))
		return special[rnd() % (sizeof(special) / 8)];
	return ((double)(rnd() % 2000001) - 1000000) / (rnd() % 3 ? 30000.0 : 1000.0);
}

#define MAKE(T) (T)((T)0.5 != 0 ? make_float(0) : (T)make_int(0))

static bool close_enough(double got, double want, double tol)
{
	if (want != want || got != got)
		return got != got && want != want;
	if (got == want)
		return true;
	return fabs(got - want) <= tol * fmax(fabs(want), tol < 1e-12 ? 1e-290 : 1e-30) || (tol && fabs(want) < 1e-37);
}

#define X(R, T, name, cuda, host, tol)                                                  \
	static void run_##name(struct ptx_module *m, const char *arch)                  \
	{                                                                               \
		R *r = dev(N * sizeof(R));                                              \
		T *x = dev(N * sizeof(T)), *y = dev(N * sizeof(T)), *z = dev(N * sizeof(T)); \
		int bad = 0, ret, first = -1;                                           \
		for (int i = 0; i < N; i++) {                                           \
			x[i] = MAKE(T);                                                 \
			y[i] = MAKE(T);                                                 \
			z[i] = MAKE(T);                                                 \
		}                                                                       \
		ret = launch(m, "k_" #name, (struct launch_args){ { (N + 95) / 96 }, { 96 } }, \
			     ARGS(P(r), P(x), P(y), P(z), N));                          \
		for (int i = 0; i < N; i++) {                                           \
			R want = host_##name(x[i], y[i], z[i]);                         \
			bool same = (R)0.5 != 0 ? close_enough((double)r[i], (double)want, tol) : r[i] == want; \
			if (!same && first < 0)                                         \
				first = i;                                              \
			bad += !same;                                                   \
		}                                                                       \
		ok(!ret && !bad, "compute_%s: %s", arch, #name);                        \
		if (ret)                                                                \
			printf("# %d %s\n", ret, fault_text);                           \
		else if (bad && (R)0.5 != 0)                                            \
			printf("# %d wrong: a=%g b=%g c=%g: %.17g, not %.17g\n", bad, (double)x[first], (double)y[first], \
			       (double)z[first], (double)r[first], (double)host_##name(x[first], y[first], z[first])); \
		else if (bad)                                                           \
			printf("# %d wrong: a=%llx (%g) b=%llx (%g) c=%llx: %llx, not %llx\n", bad, (ull)(ll)x[first], (double)x[first], \
			       (ull)(ll)y[first], (double)y[first], (ull)(ll)z[first], (ull)(ll)r[first],                 \
			       (ull)(ll)host_##name(x[first], y[first], z[first]));     \
	}
#include "elementwise.h"
#undef X

static const struct {
	void (*run)(struct ptx_module *, const char *);
} all[] = {
#define X(R, T, name, cuda, host, tol) { run_##name },
#include "elementwise.h"
#undef X
};

int main(void)
{
	static const char *const archs[] = { "75", "90", "120" };
	static char text[200000];

	snprintf(text, sizeof(text), "%s%s\n%s", prologue, common, kernels);
	for (unsigned int i = 0; i < 3; i++) {
		char *ptx = nvcc(text, archs[i], "");
		struct ptx_module *m;

		if (!ptx) {
			skip("no nvcc");
			continue;
		}
		m = load(archs[i], ptx);
		for (unsigned int k = 0; m && k < sizeof(all) / sizeof(all[0]); k++)
			all[k].run(m, archs[i]);
		ptx_module_free(m);
		free(ptx);
	}
	return done();
}
