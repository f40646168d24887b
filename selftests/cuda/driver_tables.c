// SPDX-License-Identifier: Apache-2.0
/*
 * The private tables, as NVIDIA's runtime and math libraries ask for them: which there are, what their slots say, and that
 * everything unknown is refused by a function that can be called. The integrity question is asked by every program with a
 * runtime, and by libcuda-integrity.
 *
 * Of ours only: of NVIDIA's own tables nobody promises anything.
 */
#include "driver.h"

typedef CUresult (*slot_fn)(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d);

static const struct {
	const char *name;
	unsigned char id[16];
	unsigned int bytes;	/* 0: no size in the first word */
} tables[] = {
	{ "CUDART_INTERFACE", { 0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9 }, 104 },
	{ "TOOLS_RUNTIME_CALLBACK_HOOKS", { 0xa0, 0x94, 0x79, 0x8c, 0x2e, 0x74, 0x2e, 0x74, 0x93, 0xf2, 0x08, 0x00, 0x20, 0x0c, 0x0a, 0x66 }, 56 },
	{ "TOOLS_TLS", { 0x42, 0xd8, 0x5a, 0x81, 0x23, 0xf6, 0xcb, 0x47, 0x82, 0x98, 0xf6, 0xe7, 0x8a, 0x3a, 0xec, 0xdc }, 32 },
	{ "CONTEXT_LOCAL_STORAGE", { 0xc6, 0x93, 0x33, 0x6e, 0x11, 0x21, 0xdf, 0x11, 0xa8, 0xc3, 0x68, 0xf3, 0x55, 0xd8, 0x95, 0x93 }, 0 },
	{ "CONTEXT_CHECKS", { 0x26, 0x3e, 0x88, 0x60, 0x7c, 0xd2, 0x61, 0x43, 0x92, 0xf6, 0xbb, 0xd5, 0x00, 0x6d, 0xfa, 0x7e }, 32 },
	{ "of cuBLAS, by contexts", { 0x21, 0x31, 0x8c, 0x60, 0x97, 0x14, 0x32, 0x48, 0x8c, 0xa6, 0x41, 0xff, 0x73, 0x24, 0xc8, 0xf2 }, 760 },
	{ "of cuFFT, by modules", { 0x6e, 0x16, 0x3f, 0xbe, 0xb9, 0x58, 0x44, 0x4d, 0x83, 0x5c, 0xe1, 0x82, 0xaf, 0xf1, 0x99, 0x1e }, 1024 },
	{ "of cuBLASLt on Hopper, by topology", { 0x17, 0x34, 0xdc, 0x26, 0x80, 0x0d, 0x47, 0x45, 0x87, 0x26, 0xc0, 0xf1, 0xe7, 0xdd, 0x8b, 0xca }, 1024 },
	{ "of CUPTI, which ends before slot 67", { 0x7c, 0xb6, 0x3f, 0x9b, 0x9c, 0xa4, 0x8e, 0x42, 0xa4, 0x84, 0xbe, 0xb6, 0x6e, 0x6a, 0xed, 0x7f }, 536 },
	{ "of nobody", { 1, 2, 3 }, 1024 },
};
enum { RUNTIME, HOOKS, TLS, STORAGE, CHECKS, CONTEXT, MODULE, TOPOLOGY, PROFILER, NOBODY, TABLES };

static const slot_fn *table[TABLES];
static CUcontext ctx;
static CUdevice dev;

static const char ptx[] = ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry one()\n{\n	ret;\n}\n"
			  ".visible .entry two()\n{\n	ret;\n}\n";

/* Before cuInit, as the runtime asks. */
static void found(void)
{
	const unsigned char absent[16] = { 0xf8, 0xcf, 0xf9, 0x51, 0x21, 0x46, 0x8b, 0x4e, 0xb9, 0xe2, 0xfb, 0x46, 0x9e, 0x7c, 0x0d, 0xd9 };
	const void *p = NULL;

	for (int i = 0; i < TABLES; i++) {
		CUresult r = cuGetExportTable((const void **)&table[i], (const CUuuid *)tables[i].id);

		ok(r == CUDA_SUCCESS && table[i] && (!tables[i].bytes || (uintptr_t)table[i][0] == tables[i].bytes), "the table %s is there: %u bytes",
		   tables[i].name, tables[i].bytes);
	}
	ok(cuGetExportTable(&p, (const CUuuid *)absent) != CUDA_SUCCESS, "the one whose absence runtimes rely on is not");
	GIVES(cuGetExportTable(NULL, (const CUuuid *)absent), CUDA_ERROR_INVALID_VALUE, "a table to nowhere");
}

static void unknown_slots(void)
{
	int wrong = 0;

	for (int i = 1; i < 128; i++)
		wrong += table[NOBODY][i](0, 0, 0, 0) != CUDA_ERROR_NOT_SUPPORTED;
	ok(!wrong, "every slot of a table of nobody says that it is not supported");
	GIVES(table[TOPOLOGY][4](0, 0, 0, 0), CUDA_ERROR_NOT_SUPPORTED, "the one that cuBLASLt calls on Hopper");
	GIVES(table[CONTEXT][94](0, 0, 0, 0), CUDA_ERROR_NOT_SUPPORTED, "the last one of cuBLAS's");
}

static void contexts(void)
{
	CUcontext got = NULL, own;
	unsigned long long id = 0, want = 1, zero = 7;
	void *object[3] = { NULL };
	unsigned int result = 7, flags;
	uintptr_t more;
	int active = 7;
	CUstream s;

	GIVES(table[RUNTIME][2]((uintptr_t)&got, dev, 0, 0), CUDA_SUCCESS, "the runtime is told the primary context");
	CU(cuDevicePrimaryCtxGetState(dev, &flags, &active));
	ok(got && !active, "which is not active by that");
	ok(table[RUNTIME][2]((uintptr_t)&got, 99, 0, 0) != CUDA_SUCCESS, "not that of no device");
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	ok(got == ctx, "it is that one");
	CU(cuCtxSetCurrent(ctx));
	got = NULL;
	table[TLS][2]((uintptr_t)&got, 0, 0, 0);
	ok(got == ctx, "the current context, as libraries ask for it");
	GIVES(table[CHECKS][2]((uintptr_t)ctx, (uintptr_t)&result, (uintptr_t)&more, 0), CUDA_SUCCESS, "a context is checked");
	ok(!result && !table[CHECKS][3](0, 0, 0, 0), "and is well");
	CU(cuCtxGetId(ctx, &want));
	table[CONTEXT][4]((uintptr_t)ctx, (uintptr_t)&id, 0, 0);
	ok(id == want, "a context's number: %llu", id);
	id = 0;
	table[CONTEXT][4]((uintptr_t)-1, (uintptr_t)&id, 0, 0);
	ok(id == want, "that of the current one");
	CU(cuStreamCreate(&s, 0));
	table[CONTEXT][51]((uintptr_t)ctx, (uintptr_t)s, (uintptr_t)&object[0], 0);
	table[CONTEXT][51]((uintptr_t)ctx, (uintptr_t)s, (uintptr_t)&object[1], 0);
	table[CONTEXT][51]((uintptr_t)ctx, 0, (uintptr_t)&object[2], 0);
	ok(object[0] && object[0] == object[1] && object[2] && object[2] != object[0], "a stream stands for the same thing each time");
	ok(table[CONTEXT][51]((uintptr_t)ctx, (uintptr_t)-1, (uintptr_t)&object[0], 0) == CUDA_ERROR_INVALID_HANDLE, "but not what is none");
	GIVES(table[CONTEXT][39]((uintptr_t)ctx, (uintptr_t)object[1], (uintptr_t)&zero, 0), CUDA_SUCCESS, "its number");
	CU(cuStreamDestroy(s));
	CU(cuCtxCreate(&own, NULL, 0, dev));
	got = NULL;
	table[TLS][2]((uintptr_t)&got, 0, 0, 0);
	ok(got == own, "a context of the program's own");
	CU(cuCtxDestroy(own));
}

static int dropped;
static const char key_a, key_b;

static void drop(CUcontext c, const void *key, void *value)
{
	dropped += c == ctx && (key == &key_a || key == &key_b) && (value == &dropped || !value);
}

static void resets(void *data)
{
	*(CUresult *)data = cuDevicePrimaryCtxReset(dev);
}

static void storage(void)
{
	const slot_fn put = table[STORAGE][0], del = table[STORAGE][1], get = table[STORAGE][2];
	CUresult refused = CUDA_SUCCESS;
	void *value = NULL;

	GIVES(get((uintptr_t)&value, (uintptr_t)ctx, (uintptr_t)&key_a, 0), CUDA_ERROR_INVALID_HANDLE, "nothing is stored yet");
	CU(put(0, (uintptr_t)&key_a, (uintptr_t)&dropped, (uintptr_t)drop));
	CU(put((uintptr_t)ctx, (uintptr_t)&key_b, 0, (uintptr_t)drop));
	CU(get((uintptr_t)&value, (uintptr_t)ctx, (uintptr_t)&key_a, 0));
	ok(value == &dropped, "what is stored in the current context is that context's");
	CU(del((uintptr_t)ctx, (uintptr_t)&key_b, 0, 0));
	GIVES(get((uintptr_t)&value, 0, (uintptr_t)&key_b, 0), CUDA_ERROR_INVALID_HANDLE, "what is deleted is gone");
	GIVES(del((uintptr_t)ctx, (uintptr_t)&key_b, 0, 0), CUDA_ERROR_INVALID_HANDLE, "once");
	ok(!dropped, "deleting calls nobody");
	CU(cuLaunchHostFunc(NULL, resets, &refused));
	CU(cuCtxSynchronize());
	CU(get((uintptr_t)&value, (uintptr_t)ctx, (uintptr_t)&key_a, 0));
	ok(refused == CUDA_ERROR_NOT_PERMITTED && !dropped && value == &dropped,
	   "nor does a reset that is refused: %s", cu_name(refused));
	CU(cuDevicePrimaryCtxReset(dev));
	ok(dropped == 1, "but the end of the context does: %d", dropped);
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	GIVES(get((uintptr_t)&value, (uintptr_t)ctx, (uintptr_t)&key_a, 0), CUDA_ERROR_INVALID_HANDLE, "begun anew it is empty");
}

static int told;

static void each(void *arg, CUfunction f, CUmodule m)
{
	const char *name = "";

	cuFuncGetName(&name, f);
	told += arg == &told && m && (!strcmp(name, "one") || !strcmp(name, "two"));
}

static void modules(void)
{
	void **p = NULL;
	CUmodule m;
	size_t n = 0;

	CU(cuModuleLoadData(&m, ptx));
	ok(table[MODULE][7]((uintptr_t)ctx, (uintptr_t)m, (uintptr_t)each, (uintptr_t)&told) == 2 && told == 2, "the functions of a module are told");
	CU(cuModuleUnload(m));
	CU(table[RUNTIME][1]((uintptr_t)&m, (uintptr_t)ptx, 0, 0));
	CU(cuModuleUnload(m));
	ok(true, "a module is loaded by the runtime's slot");
	table[HOOKS][2]((uintptr_t)&p, (uintptr_t)&n, 0, 0);
	ok(p && n == 1024, "room for hooks");
	table[HOOKS][6]((uintptr_t)&p, (uintptr_t)&n, 0, 0);
	ok(p && n == 14, "and for others");
}

int main(void)
{
	found();
	CU(cuInit(0));
	CU(cuDeviceGet(&dev, 0));
	unknown_slots();
	contexts();
	storage();
	modules();
	return tap_done();
}
