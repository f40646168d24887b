// SPDX-License-Identifier: Apache-2.0
/* Special registers by name. One that does not exist on a CPU reads as zero. */

#include "ast.h"
#include "exec.h"

#define W(n, i)	{ n, SK_WARP, i, 0 }
#define B(n, i)	{ n, SK_BLOCK, i, 0 }
#define T(n, i, w) { n, SK_TIME, i, w }

const struct special ptx_specials[] = {
	W("%tid.x", SW_TID_X), W("%tid.y", SW_TID_Y), W("%tid.z", SW_TID_Z), B("%laneid", SB_LANEID),
	W("%warpid", SW_WARPID), B("%lanemask_eq", SB_EQ), B("%lanemask_le", SB_LE), B("%lanemask_lt", SB_LT),
	B("%lanemask_ge", SB_GE), B("%lanemask_gt", SB_GT),
	B("%tid.w", SB_ZERO), B("%ntid.w", SB_ONE), B("%ctaid.w", SB_ZERO), B("%nctaid.w", SB_ONE),
	B("%ntid.x", SB_NTID_X), B("%ntid.y", SB_NTID_Y), B("%ntid.z", SB_NTID_Z),
	B("%ctaid.x", SB_CTAID_X), B("%ctaid.y", SB_CTAID_Y), B("%ctaid.z", SB_CTAID_Z),
	B("%nctaid.x", SB_NCTAID_X), B("%nctaid.y", SB_NCTAID_Y), B("%nctaid.z", SB_NCTAID_Z),
	B("%nwarpid", SB_NWARPID), B("%smid", SB_SMID), B("%nsmid", SB_NSMID),
	{ "%gridid", SK_BLOCK, SB_GRIDID, 1 },
	B("%dynamic_smem_size", SB_DYN_SIZE), B("%total_smem_size", SB_TOTAL_SIZE),
	B("%aggr_smem_size", SB_TOTAL_SIZE), B("%reserved_smem_offset_begin", SB_ZERO),
	B("%reserved_smem_offset_end", SB_ZERO), B("%reserved_smem_offset_cap", SB_ZERO),
	B("%clusterid.x", SB_CTAID_X), B("%clusterid.y", SB_CTAID_Y), B("%clusterid.z", SB_CTAID_Z),
	B("%nclusterid.x", SB_NCTAID_X), B("%nclusterid.y", SB_NCTAID_Y), B("%nclusterid.z", SB_NCTAID_Z),
	B("%cluster_ctaid.x", SB_ZERO), B("%cluster_ctaid.y", SB_ZERO), B("%cluster_ctaid.z", SB_ZERO),
	B("%cluster_nctaid.x", SB_ONE), B("%cluster_nctaid.y", SB_ONE), B("%cluster_nctaid.z", SB_ONE),
	B("%cluster_ctarank", SB_ZERO), B("%cluster_nctarank", SB_ONE),
	B("%envreg1", SB_ENVREG1), B("%envreg2", SB_ENVREG2),
	B("%current_graph_exec", SB_ZERO),
	T("%clock", 0, 0), T("%clock_hi", 1, 0), T("%clock64", 0, 1), T("%globaltimer", 2, 1),
	T("%globaltimer_lo", 2, 0), T("%globaltimer_hi", 3, 0),
	B("%is_explicit_cluster", SB_ZERO),
};

#define COUNT (sizeof(ptx_specials) / sizeof(ptx_specials[0]))

uint32_t special_find(const char *name)
{
	for (uint32_t i = 0; i < COUNT; i++)
		if (!strcmp(name, ptx_specials[i].name))
			return i;
	if (!strncmp(name, "%envreg", 7) || !strncmp(name, "%pm", 3) || !strncmp(name, "%reserved_smem_offset_", 22))
		return special_find("%tid.w");
	return SPECIAL_NONE;
}
