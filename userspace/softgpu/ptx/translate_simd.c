// SPDX-License-Identifier: Apache-2.0
/* Packed integers (vadd4 and its kin), bit masks, sign extension. */

#include <stdio.h>

#include "translate.h"

static void tr_packed(struct tr *t, struct mods *m)
{
	const char *op = t->s->part[0];
	size_t n = strlen(op);
	uint32_t a, b, c;
	struct insn *in;
	char key[16];

	need_ops(t, 3, 4);
	if (m->nt != 3)
		t_error(t, "'%s' needs three types", op);
	a = src(t, op_at(t, 1), T_B32);
	b = src(t, op_at(t, 2), T_B32);
	c = t->s->nops > 3 ? src(t, op_at(t, 3), T_B32) : const_slot(t, 0, 4);
	snprintf(key, sizeof(key), "%.*s", (int)n - 1, op);
	in = put_op(t, key, dst(t, op_at(t, 0), T_B32), a, b, c);
	in->x = op[n - 1] - '0';
	in->flags = (uint32_t)is_signed(m->t[0]) | is_signed(m->t[1]) << 1 | is_signed(m->t[2]) << 2 | has(t, "sat") << 3 |
		    (t->s->nparts > 4 && has(t, "add")) << 4;
}

/* vadd and its kin on whole registers. Parts of registers (%r1.b0) the parser refuses. */
static void tr_video(struct tr *t, struct mods *m)
{
	const char *last = t->s->part[t->s->nparts - 1];
	uint32_t a, b, c;
	struct insn *in;
	char key[32];

	need_ops(t, 3, 4);
	if (m->nt != 3)
		t_error(t, "'%s' needs three types", t->s->part[0]);
	a = src(t, op_at(t, 1), T_B32);
	b = src(t, op_at(t, 2), T_B32);
	c = t->s->nops > 3 ? src(t, op_at(t, 3), T_B32) : const_slot(t, 0, 4);
	in = put_op(t, KEY(key, "video.%s", t->s->part[0]), dst(t, op_at(t, 0), T_B32), a, b, c);
	in->flags = (uint32_t)is_signed(m->t[0]) | is_signed(m->t[1]) << 1 | is_signed(m->t[2]) << 2 | has(t, "sat") << 3 |
		    has(t, "clamp") << 5;
	if (t->s->nops > 3)
		in->x = !strcmp(last, "add") ? 1 : !strcmp(last, "min") ? 2 : !strcmp(last, "max") ? 3 : 0;
	if (t->s->nops > 3 && !in->x)
		t_error(t, "'%s' with a third source needs .add, .min or .max", t->s->part[0]);
}

static void tr_bmsk(struct tr *t, struct mods *m)
{
	uint32_t a, b;
	char key[32];

	need_ops(t, 3, 3);
	a = src(t, op_at(t, 1), T_B32);
	b = src(t, op_at(t, 2), T_U32);
	if (t->s->part[0][0] == 'b')
		KEY(key, "bmsk.%s", has(t, "wrap") ? "wrap" : "clamp");
	else
		KEY(key, "szext.%s.%s", has(t, "wrap") ? "wrap" : "clamp", m->nt ? type_name(m->t[0]) : "");
	put_op(t, key, dst(t, op_at(t, 0), T_B32), a, b, 0);
}

/* cvt to and from pairs of 8-bit floats and to TF32. @return false if it is another cvt */
bool cvt_small(struct tr *t, const struct mods *m)
{
	const char *to = t->s->nparts > 2 ? t->s->part[t->s->nparts - 2] : "", *from = t->s->part[t->s->nparts - 1];
	bool out = !strcmp(to, "e4m3x2") || !strcmp(to, "e5m2x2"), in = !strcmp(from, "e4m3x2") || !strcmp(from, "e5m2x2");
	enum ptx_type dt = out ? T_B16 : T_B32, st = in ? T_B16 : T_B32;
	uint32_t a, b = 0;
	char key[32];

	if (!strcmp(to, "tf32") && !strcmp(from, "f32"))
		KEY(key, "cvt.%s.tf32", has(t, "rna") ? "rna" : "rn");
	else if (out || in)
		KEY(key, "cvt.%s.%s", to, from);
	else
		return false;
	if (out && !strcmp(from, "f32")) {
		need_ops(t, 3, 3);
		b = src(t, op_at(t, 2), T_F32);
		a = src(t, op_at(t, 1), T_F32);
	} else {
		need_ops(t, 2, 2);
		a = src(t, op_at(t, 1), st);
	}
	put_op(t, key, dst(t, op_at(t, 0), dt), a, b, 0)->flags = m->flags;
	return true;
}

const struct tr_op tr_simd[] = {
	{ "vadd2", tr_packed }, { "vadd4", tr_packed }, { "vsub2", tr_packed }, { "vsub4", tr_packed },
	{ "vavrg2", tr_packed }, { "vavrg4", tr_packed }, { "vabsdiff2", tr_packed }, { "vabsdiff4", tr_packed },
	{ "vmin2", tr_packed }, { "vmin4", tr_packed }, { "vmax2", tr_packed }, { "vmax4", tr_packed },
	{ "vadd", tr_video }, { "vsub", tr_video }, { "vabsdiff", tr_video }, { "vmin", tr_video }, { "vmax", tr_video },
	{ "vshl", tr_video }, { "vshr", tr_video }, { "bmsk", tr_bmsk }, { "szext", tr_bmsk }, { NULL },
};
