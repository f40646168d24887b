/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One body for a function and its per-thread-default-stream variant.
 *
 *	BOTH(cuStreamQuery, (CUstream stream), (stream, ptds))
 *	{ ... `ptds` tells which of the two was called ... }
 *
 * exports cuStreamQuery and cuStreamQuery_ptsz; BOTH_DS() the same with the suffix _ptds, which functions without a
 * stream argument have. cuda.h declares the plain names only for its own callers; the variants are declared here.
 */
#ifndef SOFTGPU_BOTH_H
#define SOFTGPU_BOTH_H

#define SG_EXPORT __attribute__((visibility("default")))

#define SG_UNWRAP(...) __VA_ARGS__
#define BOTH(name, params, args)	BOTH_SUFFIX(name, _ptsz, SG_UNWRAP params, args)
#define BOTH_DS(name, params, args)	BOTH_SUFFIX(name, _ptds, SG_UNWRAP params, args)

#define BOTH_SUFFIX(name, suffix, params, args)							\
	static inline CUresult name##_do(params, bool ptds);					\
	SG_EXPORT CUresult name(params);							\
	SG_EXPORT CUresult name##suffix(params);						\
	CUresult name(params)									\
	{											\
		const bool ptds = false;							\
		return name##_do args;								\
	}											\
	CUresult name##suffix(params)								\
	{											\
		const bool ptds = true;								\
		return name##_do args;								\
	}											\
	static inline __attribute__((always_inline)) CUresult name##_do(params, bool ptds)

#endif /* SOFTGPU_BOTH_H */
