// SPDX-License-Identifier: Apache-2.0
/*
 * Operations across the lanes of a warp. Each waits until all lanes of its member mask that still live are here;
 * lanes of the same fragment may name different masks (two halves of a warp that each shuffle among themselves).
 */

#include "ctl.h"
#include "lane.h"

/*
 * True when lanes may go on: those of whose members no one is missing, also of lanes that wait here, which would not run
 * until no one else can.
 */
static bool gathered(struct warp *w, const struct insn *in)
{
	const u32 *members = OPD(in->e);
	u32 here, ready = 0;

	if (!in->flags || w->force || w->mask == w->live) {
		w->force = false;
		return true;
	}
	here = warp_here(w, in);
	for (u32 m = here; m; m &= m - 1)
		if (!(members[__builtin_ctz(m)] & w->live & ~here))
			ready |= m & -m;
	if (ready && ready != w->mask)
		warp_regroup(w, in, ready);
	return ready != 0;
}

static const struct insn *wait(struct warp *w, const struct insn *in)
{
	return warp_wait(w, in, FR_SYNC, 0);
}

/* Lanes of the fragment that share lane @i's member mask. */
static u32 group_of(const struct warp *w, const u32 *members, unsigned int i)
{
	u32 g = 0;

	for (u32 m = w->mask; m; m &= m - 1) {
		unsigned int k = __builtin_ctz(m);

		if (members[k] == members[i])
			g |= 1u << k;
	}
	return g;
}

static u32 group(struct warp *w, const struct insn *in, unsigned int i)
{
	return in->flags ? group_of(w, OPD(in->e), i) : w->mask;
}

enum { UP, DOWN, BFLY, IDX };

static inline __attribute__((always_inline)) const struct insn *shuffle(struct warp *w, const struct insn *in, int mode)
{
	const u32 *a = OPD(in->a), *b = OPD(in->b), *c = OPD(in->c);
	u32 *d = OPD(in->d), *p = OPD(in->x), ok = 0, r[WARP];

	if (!gathered(w, in))
		return wait(w, in);
	for (s32 i = 0; i < WARP; i++) {
		s32 bval = b[i] & 31, cval = c[i] & 31, seg = c[i] >> 8 & 31;
		s32 max = (i & seg) | (cval & ~seg), min = i & seg, j;
		bool in_range;

		switch (mode) {
		case UP: j = i - bval; in_range = j >= max; break;
		case DOWN: j = i + bval; in_range = j <= max; break;
		case BFLY: j = i ^ bval; in_range = j <= max; break;
		default: j = min | (bval & ~seg); in_range = j <= max;
		}
		j = in_range ? j : i;
		ok |= (u32)in_range << i;
		r[i] = a[j & 31];
	}
	for (unsigned int i = 0; i < WARP; i++)
		d[i] = w->lm[i] ? r[i] : d[i];
	*p = (*p & ~w->mask) | (ok & w->mask);
	return in + 1;
}

HANDLER(shfl_up) { return shuffle(w, in, UP); }
HANDLER(shfl_down) { return shuffle(w, in, DOWN); }
HANDLER(shfl_bfly) { return shuffle(w, in, BFLY); }
HANDLER(shfl_idx) { return shuffle(w, in, IDX); }

static void set_bit(u32 *p, unsigned int i, bool v)
{
	*p = (*p & ~(1u << i)) | (u32)v << i;
}

enum { BALLOT, EVERY, ANY, UNI };

static const struct insn *vote(struct warp *w, const struct insn *in, int mode)
{
	u32 p, *d = OPD(in->d), done = 0;

	if (!gathered(w, in))
		return wait(w, in);
	p = *(u32 *)OPD(in->a);
	for (u32 m = w->mask; m; m = w->mask & ~done) {
		u32 g = group(w, in, __builtin_ctz(m)), yes = p & g;

		done |= g;
		for (u32 k = g; k; k &= k - 1) {
			unsigned int i = __builtin_ctz(k);

			if (mode == BALLOT)
				d[i] = yes;
			else
				set_bit(d, i, mode == EVERY ? yes == g : mode == ANY ? yes != 0 : !yes || yes == g);
		}
	}
	return in + 1;
}

HANDLER(vote_ballot) { return vote(w, in, BALLOT); }
HANDLER(vote_all) { return vote(w, in, EVERY); }
HANDLER(vote_any) { return vote(w, in, ANY); }
HANDLER(vote_uni) { return vote(w, in, UNI); }

static u64 lane_value(const void *a, unsigned int i, bool wide)
{
	return wide ? ((const u64 *)a)[i] : ((const u32 *)a)[i];
}

static const struct insn *match(struct warp *w, const struct insn *in, bool all, bool wide)
{
	u32 *d = OPD(in->d), *p = OPD(in->x), r[WARP];
	const void *a = OPD(in->a);

	if (!gathered(w, in))
		return wait(w, in);
	for (u32 m = w->mask; m; m &= m - 1) {
		unsigned int i = __builtin_ctz(m);
		u32 g = group(w, in, i), same = 0;

		for (u32 k = g; k; k &= k - 1)
			if (lane_value(a, __builtin_ctz(k), wide) == lane_value(a, i, wide))
				same |= k & -k;
		if (all) {
			set_bit(p, i, same == g);
			same = same == g ? g : 0;
		}
		r[i] = same;
	}
	for (u32 m = w->mask; m; m &= m - 1)
		d[__builtin_ctz(m)] = r[__builtin_ctz(m)];
	return in + 1;
}

HANDLER(match_any32) { return match(w, in, false, false); }
HANDLER(match_any64) { return match(w, in, false, true); }
HANDLER(match_all32) { return match(w, in, true, false); }
HANDLER(match_all64) { return match(w, in, true, true); }

#define REDUX(name, T, EXPR)                                                            \
	HANDLER(name)                                                                   \
	{                                                                               \
		const T *a = OPD(in->a);                                                \
		T *d = OPD(in->d);                                                      \
		u32 done = 0;                                                           \
		if (!gathered(w, in))                                                   \
			return wait(w, in);                                             \
		for (u32 m = w->mask; m; m = w->mask & ~done) {                         \
			u32 g = group(w, in, __builtin_ctz(m));                         \
			T x = a[__builtin_ctz(g)], y;                                   \
			for (u32 k = g & (g - 1); k; k &= k - 1) {                      \
				y = a[__builtin_ctz(k)];                                \
				x = (EXPR);                                             \
			}                                                               \
			for (u32 k = g; k; k &= k - 1)                                  \
				d[__builtin_ctz(k)] = x;                                \
			done |= g;                                                      \
		}                                                                       \
		return in + 1;                                                          \
	}
REDUX(redux_add, u32, x + y)
REDUX(redux_and, u32, x & y)
REDUX(redux_or, u32, x | y)
REDUX(redux_xor, u32, x ^ y)
REDUX(redux_min_u32, u32, y < x ? y : x)
REDUX(redux_max_u32, u32, y > x ? y : x)
REDUX(redux_min_s32, s32, y < x ? y : x)
REDUX(redux_max_s32, s32, y > x ? y : x)

HANDLER(activemask)
{
	u32 *d = OPD(in->d);

	for (unsigned int i = 0; i < WARP; i++)
		d[i] = w->lm[i] ? w->mask : d[i];
	return in + 1;
}

HANDLER(elect)
{
	u32 *d = OPD(in->d), *p = OPD(in->x);

	if (!gathered(w, in))
		return wait(w, in);
	for (u32 m = w->mask; m; m &= m - 1) {
		unsigned int i = __builtin_ctz(m), leader = __builtin_ctz(group(w, in, i));

		d[i] = leader;
		set_bit(p, i, i == leader);
	}
	return in + 1;
}

/* Fragments may stand at different bar.warp.sync: what counts is that all members stand at one. */
HANDLER(bar_warp_sync)
{
	u32 here = w->mask, need = 0;
	const u32 *members = OPD(in->a);

	if (w->force || w->mask == w->live) {
		w->force = false;
		return in + 1;
	}
	for (u32 m = w->mask; m; m &= m - 1)
		need |= members[__builtin_ctz(m)];
	for (u32 i = 0; i < w->nfrag; i++)
		if (w->frags[i].state == FR_SYNC && w->frags[i].pc->fn == bar_warp_sync)
			here |= w->frags[i].mask;
	if (need & w->live & ~here)
		return wait(w, in);
	for (u32 i = 0; i < w->nfrag; i++)
		if (w->frags[i].state == FR_SYNC && w->frags[i].pc->fn == bar_warp_sync && (w->frags[i].mask & need)) {
			w->frags[i].state = FR_RUN;
			w->frags[i].pc++;
		}
	if (!w->nfrag)
		return in + 1;
	warp_account(w, in);
	return warp_next(w, in + 1);
}

const struct ptx_op ptx_ops_lanes[] = {
	{ "shfl.up", shfl_up }, { "shfl.down", shfl_down }, { "shfl.bfly", shfl_bfly }, { "shfl.idx", shfl_idx },
	{ "vote.ballot", vote_ballot }, { "vote.all", vote_all }, { "vote.any", vote_any }, { "vote.uni", vote_uni },
	{ "match.any.b32", match_any32 }, { "match.any.b64", match_any64 }, { "match.all.b32", match_all32 },
	{ "match.all.b64", match_all64 }, { "redux.add.b32", redux_add }, { "redux.and.b32", redux_and },
	{ "redux.or.b32", redux_or }, { "redux.xor.b32", redux_xor }, { "redux.min.u32", redux_min_u32 },
	{ "redux.max.u32", redux_max_u32 }, { "redux.min.s32", redux_min_s32 }, { "redux.max.s32", redux_max_s32 },
	{ "activemask", activemask }, { "elect", elect }, { "bar.warp.sync", bar_warp_sync }, { NULL },
};
