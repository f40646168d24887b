// SPDX-License-Identifier: Apache-2.0
/*
 * NVRTC in front of NVRTC.
 *
 * Programs that compile kernels at run time (PyTorch's special functions, CuPy) ask NVRTC for machine code of the
 * device they find, which the software GPU has no use for, or for an architecture that their NVRTC does not know yet.
 * This library takes NVRTC's place by its name (LD_PRELOAD) and asks the real one, $SOFTGPU_NVRTC, for PTX of the
 * highest architecture that it knows and that is not above the one asked for. That is handed out as machine code, too.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct nvrtc_program *program;
typedef void *any_fn(void *, void *, void *, void *, void *, void *);

#define EXPORT __attribute__((visibility("default")))
#define NVRTC_ERROR_INTERNAL 11

EXPORT int nvrtcCompileProgram(program p, int n, const char *const *options);
EXPORT int nvrtcGetCUBINSize(program p, size_t *size);
EXPORT int nvrtcGetCUBIN(program p, char *code);

static void *real(const char *name)
{
	static void *library;
	const char *path = getenv("SOFTGPU_NVRTC");
	void *f;

	if (!library && path)
		library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
	f = library ? dlsym(library, name) : NULL;
	if (!f)
		fprintf(stderr, "softgpu: %s: SOFTGPU_NVRTC=%s does not lead to it\n", name, path ? path : "");
	return f;
}

/* Everything else goes through. None takes more than six arguments, and none a floating-point one. */
#define FORWARD(name)                                                                                     \
	EXPORT void *name(void *a, void *b, void *c, void *d, void *e, void *f);                          \
	void *name(void *a, void *b, void *c, void *d, void *e, void *f)                                  \
	{                                                                                                 \
		any_fn *next = (any_fn *)real(#name);                                                     \
		return next ? next(a, b, c, d, e, f) : (void *)NVRTC_ERROR_INTERNAL;                      \
	}

FORWARD(nvrtcVersion)
FORWARD(nvrtcGetNumSupportedArchs)
FORWARD(nvrtcGetSupportedArchs)
FORWARD(nvrtcCreateProgram)
FORWARD(nvrtcDestroyProgram)
FORWARD(nvrtcGetPTXSize)
FORWARD(nvrtcGetPTX)
FORWARD(nvrtcGetNVVMSize)
FORWARD(nvrtcGetNVVM)
FORWARD(nvrtcGetLTOIRSize)
FORWARD(nvrtcGetLTOIR)
FORWARD(nvrtcGetOptiXIRSize)
FORWARD(nvrtcGetOptiXIR)
FORWARD(nvrtcGetProgramLogSize)
FORWARD(nvrtcGetProgramLog)
FORWARD(nvrtcAddNameExpression)
FORWARD(nvrtcGetLoweredName)
FORWARD(nvrtcGetPCHHeapSize)
FORWARD(nvrtcSetPCHHeapSize)
FORWARD(nvrtcGetPCHCreateStatus)
FORWARD(nvrtcGetPCHHeapSizeRequired)
FORWARD(nvrtcSetFlowCallback)

/* Its failure must be a text. */
EXPORT const char *nvrtcGetErrorString(int result);
const char *nvrtcGetErrorString(int result)
{
	const char *(*next)(int) = (const char *(*)(int))real("nvrtcGetErrorString");

	return next ? next(result) : "NVRTC is missing (SOFTGPU_NVRTC)";
}

static int best_arch(int asked)
{
	int (*count)(int *) = (int (*)(int *))real("nvrtcGetNumSupportedArchs");
	int (*list)(int *) = (int (*)(int *))real("nvrtcGetSupportedArchs");
	int n = 0, best = 0, *archs;

	if (!count || !list || count(&n) || n <= 0)
		return asked;
	archs = calloc((size_t)n, sizeof(*archs));
	if (archs && !list(archs))
		for (int i = 0; i < n; i++)
			if (archs[i] <= asked && archs[i] > best)
				best = archs[i];
	free(archs);
	return best ? best : asked;
}

int nvrtcCompileProgram(program p, int n, const char *const *options)
{
	int (*next)(program, int, const char *const *) =
		(int (*)(program, int, const char *const *))real("nvrtcCompileProgram");
	const char **own = calloc((size_t)n + 1, sizeof(*own));
	char arch[64];
	int result;

	if (!next || !own) {
		free(own);
		return NVRTC_ERROR_INTERNAL;
	}
	for (int i = 0; i < n; i++) {
		const char *at = strstr(options[i], "sm_"), *number;
		size_t before;

		own[i] = options[i];
		if (!at)
			at = strstr(options[i], "compute_");
		if (!at)
			continue;
		before = (size_t)(at - options[i]);
		number = strchr(at, '_') + 1;
		/* --gpu-architecture=sm_90, -arch=sm_90, or sm_90 alone behind either */
		if (before < 24 && (strstr(options[i], "arch") || !before)) {
			snprintf(arch, sizeof(arch), "%.*scompute_%d", (int)before, options[i], best_arch(atoi(number)));
			own[i] = arch;
		}
	}
	result = next(p, n, own);
	free(own);
	return result;
}

int nvrtcGetCUBINSize(program p, size_t *size)
{
	int (*next)(program, size_t *) = (int (*)(program, size_t *))real("nvrtcGetPTXSize");

	return next ? next(p, size) : NVRTC_ERROR_INTERNAL;
}

int nvrtcGetCUBIN(program p, char *code)
{
	int (*next)(program, char *) = (int (*)(program, char *))real("nvrtcGetPTX");

	return next ? next(p, code) : NVRTC_ERROR_INTERNAL;
}
