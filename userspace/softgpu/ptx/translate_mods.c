// SPDX-License-Identifier: Apache-2.0
/* The parts of an opcode: types, state space, flags; a word that no instruction has is an error. */

#include "translate.h"

/* Every modifier that some instruction has. An instruction asks for those it knows with has(). */
static const char *const words[] = {
	"rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi", "ftz", "sat", "approx", "full", "lo", "hi", "wide", "cc",
	"global", "const", "shared", "shared::cta", "local", "param", "param::entry", "param::func", "generic",
	"v2", "v4", "v8", "volatile", "relaxed", "acquire", "release", "acq_rel", "sc", "weak", "mmio", "cta", "gpu", "sys",
	"cluster", "nc", "cg", "ca", "cs", "lu", "cv", "wb", "wt", "L1::evict_normal", "L1::evict_unchanged",
	"L1::evict_first", "L1::evict_last", "L1::no_allocate", "L2::64B", "L2::128B", "L2::256B", "L2::cache_hint",
	"L2::evict_last", "L2::evict_normal", "L2::evict_first", "L2::evict_unchanged", "fractional", "range", "cvt",
	"L1", "L2", "level", "sync", "aligned", "uni", "eq", "ne", "lt", "le", "gt", "ge", "ls", "hs", "equ", "neu", "ltu", "leu",
	"gtu", "geu", "num", "nan", "and", "or", "xor", "popc", "up", "down", "bfly", "idx", "all", "any", "ballot", "add",
	"exch", "cas", "min", "max", "inc", "dec", "to", "NaN", "xorsign", "abs", "relu", "noftz", "f4e", "b4e", "rc8", "ecl",
	"ecr", "rc16", "l", "r", "wrap", "clamp", "shiftamt", "finite", "infinite", "number", "notanumber", "normal",
	"subnormal", "arrive", "red", "warp", "gl", "proxy", "alias", "async", "commit_group", "wait_group", "wait_all",
	"unified", "wait", "launch_dependents", "bulk", "bulk_group", "read", "shared::cluster", "mbarrier", "init", "inval",
	"expect_tx", "complete_tx", "test_wait", "try_wait", "parity", "noComplete", "noinc", "pending_count", "arrive_drop",
	"mbarrier::complete_tx::bytes", "prefetch", "no_complete", "s16x2", "u16x2", "f32x2", "tf32", "e4m3x2", "e5m2x2", "satfinite", "row", "col", "load", "store", "mma",
	"a", "b", "c", "d", "x1", "x2", "x4", "trans", "b16", "acquire::cluster", "mbarrier_init",
	"async::generic", "param::kernel", "1d", "2d", "3d", "a1d", "a2d", "cube", "acube", "grad", "g", "p", "trap", "zero",
	"width", "height", "channel_data_type", "channel_order", "normalized_coords", "array_size", "num_mipmap_levels",
	"num_samples", "memory_layout", "base", "depth",
};

struct mods mods_of(struct tr *t)
{
	static const struct {
		const char *word;
		uint32_t flag;
	} flags[] = {
		{ "rz", F_RZ }, { "rm", F_RM }, { "rp", F_RP }, { "rna", F_RNA }, { "rni", F_RINT }, { "sat", F_SAT },
		{ "rzi", F_RZ | F_RINT }, { "rmi", F_RM | F_RINT }, { "rpi", F_RP | F_RINT }, { "ftz", F_FTZ },
		{ "NaN", F_NANP }, { "abs", F_ABS }, { "xorsign", F_XORSIGN }, { "relu", F_RELU },
	};
	struct mods m = { 0 };
	char buf[96];

	for (unsigned int i = 1; i < t->s->nparts; i++) {
		const char *w = t->s->part[i];
		enum ptx_type type = type_of(w, strlen(w));
		unsigned int k;

		if (type) {
			if (m.nt == 4)
				t_error(t, "too many types in '%s'", opcode_text(t, buf));
			m.t[m.nt++] = type;
			continue;
		}
		if (w[0] == 'm' && w[1] >= '0' && w[1] <= '9')
			continue;	/* the shape of a matrix */
		for (k = 0; k < sizeof(words) / sizeof(words[0]); k++)
			if (!strcmp(words[k], w))
				break;
		if (k == sizeof(words) / sizeof(words[0]))
			t_error(t, "unknown modifier .%s in '%s'", w, opcode_text(t, buf));
		for (k = 0; k < sizeof(flags) / sizeof(flags[0]); k++)
			if (!strcmp(flags[k].word, w))
				m.flags |= flags[k].flag;
		if (w[0] == 'v' && w[1] >= '2' && w[1] <= '8' && !w[2])
			m.vec = w[1] - '0';
		else if (!strcmp(w, "global"))
			m.space = SP_GLOBAL;
		else if (!strcmp(w, "const"))
			m.space = SP_CONST;
		else if (!strncmp(w, "shared", 6))
			m.space = SP_SHARED;
		else if (!strcmp(w, "local"))
			m.space = SP_LOCAL;
		else if (!strncmp(w, "param", 5))
			m.space = SP_PARAM;
	}
	return m;
}
