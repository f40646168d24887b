// SPDX-License-Identifier: Apache-2.0
/* Handlers by key. Which of the two builds of the arithmetic is used depends on the CPU. */

#include <pthread.h>
#include <stdlib.h>

#include "ctl.h"

#define TABLES(S)                                                                       \
	extern const struct ptx_op ptx_ops_int##S[], ptx_ops_bits##S[], ptx_ops_cmp##S[], ptx_ops_float##S[], \
		ptx_ops_double##S[], ptx_ops_cvt##S[], ptx_ops_round##S[], ptx_ops_mem##S[];
TABLES(_base)
TABLES(_avx2)

#define LIST(S) { ptx_ops_int##S, ptx_ops_bits##S, ptx_ops_cmp##S, ptx_ops_float##S, ptx_ops_double##S, ptx_ops_cvt##S, \
	ptx_ops_round##S, ptx_ops_mem##S, ptx_ops_lanes, ptx_ops_atom, ptx_ops_async, ptx_ops_simd, ptx_ops_mma, ptx_ops_fp8, \
	ptx_ops_tex, NULL }

static const struct ptx_op *const base[] = LIST(_base), *const avx2[] = LIST(_avx2);

#define HASH 4096
static const struct ptx_op *hash[HASH];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static unsigned int hash_of(const char *s)
{
	unsigned int h = 5381;

	while (*s)
		h = h * 33 ^ (unsigned char)*s++;
	return h ^ h >> 15;
}

static void fill(void)
{
	/* what ptx.mk lets the compiler use */
	bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
		    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt") &&
		    __builtin_cpu_supports("popcnt") && !getenv("SOFTGPU_NO_AVX");

	for (const struct ptx_op *const *t = wide ? avx2 : base; *t; t++)
		for (const struct ptx_op *o = *t; o->key; o++) {
			unsigned int h = hash_of(o->key) % HASH;

			while (hash[h] && strcmp(hash[h]->key, o->key))
				h = (h + 1) % HASH;
			if (!hash[h])
				hash[h] = o;	/* the first of a name wins */
		}
}

handler_fn *ptx_op_find(const char *key)
{
	pthread_once(&once, fill);
	for (unsigned int h = hash_of(key) % HASH; hash[h]; h = (h + 1) % HASH)
		if (!strcmp(hash[h]->key, key))
			return hash[h]->fn;
	return NULL;
}
