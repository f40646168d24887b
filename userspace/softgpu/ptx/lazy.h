/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large modules: a function is read and translated when it is asked for.
 *
 * Libraries carry thousands of kernels in one module and a program uses a few of them. Such a module is only divided
 * into pieces when it is loaded; a kernel becomes a module of its own (a unit), made of what stands between the
 * functions, the kernel, and the functions it names. Its variables are the loaded module's.
 */
#ifndef SOFTGPU_PTX_LAZY_H
#define SOFTGPU_PTX_LAZY_H

#include "ast.h"

/* Smaller texts are translated as a whole when they are loaded, so that what is wrong in them is told then. */
#define LAZY_TEXT	(192u << 10)

struct piece {
	const char *start, *end;
	const char *body, *name;	/* of a function, else NULL */
	size_t name_len;
	uint32_t line;
	bool entry, wanted;
};

/** Divide @text. @return pieces in @arena, NULL if a block does not end or memory is short. */
struct piece *scan_pieces(struct arena *arena, const char *text, size_t len, uint32_t *count);
bool scan_word(const char *p, const char *end, const char *name, size_t len);

/* parse.c: one piece; parse_begin() once before. p->fail must be set. */
void parse_begin(struct parser *p);
void parse_piece(struct parser *p, const char *start, const char *end, uint32_t line);
void parse_end(struct parser *p);

#endif /* SOFTGPU_PTX_LAZY_H */
