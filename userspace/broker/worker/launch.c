// SPDX-License-Identifier: Apache-2.0
/* Launches. Parameters are one packed block, as the client laid it out; nothing in it is looked at. */
#include <string.h>

#include "launch_attributes.h"
#include "worker.h"

static void *launchable(struct worker *w, uint64_t h)
{
	return worker_handle(w, h, VGPU_HANDLE_TYPE(h) == VGPU_H_KERNEL ? VGPU_H_KERNEL : VGPU_H_FUNCTION);
}

/*
 * The client's launch attributes, as far as they are known to hold nothing but numbers. Events in them are handles.
 * @return 0, an IDM_ERROR_*, or -1 with *@r
 */
static int attributes(struct worker *w, const CUlaunchAttribute *in, unsigned int n, CUlaunchAttribute *out,
		      CUresult *r)
{
	struct handle *e;
	unsigned int i;

	for (i = 0; i < n; i++) {
		memcpy(&out[i], &in[i], sizeof(out[i]));
		switch ((int)out[i].id) {
		case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
			e = object_find(w, (uint64_t)(uintptr_t)out[i].value.programmaticEvent.event, VGPU_H_EVENT);
			if (!e)
				return IDM_ERROR_INVALID_HANDLE;
			out[i].value.programmaticEvent.event = e->object;
			break;
		case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
			e = object_find(w, (uint64_t)(uintptr_t)out[i].value.launchCompletionEvent.event, VGPU_H_EVENT);
			if (!e)
				return IDM_ERROR_INVALID_HANDLE;
			out[i].value.launchCompletionEvent.event = e->object;
			break;
		default:
			if (!launch_attribute_is_plain(out[i].id)) {
				*r = CUDA_ERROR_NOT_SUPPORTED;
				return -1;
			}
		}
	}
	return 0;
}

void worker_hand_cuStreamSetAttribute(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuStreamSetAttribute *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *stream;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_stream(w, &q->call, q->hStream, &stream);
	/* Those of a stream, which are numbers. In the same union others hold handles. */
	if (!err && D.cuStreamSetAttribute &&
	    (q->attr == CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW || q->attr == CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY ||
	     q->attr == CU_LAUNCH_ATTRIBUTE_PRIORITY || q->attr == CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP ||
	     q->attr == CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN))
		r = D.cuStreamSetAttribute(stream, (CUstreamAttrID)q->attr, (CUstreamAttrValue *)&q->param);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* The configuration that a struct vgpu_launch describes. @return 0, IDM_ERROR_*, or -1 with *@r */
static int config(struct worker *w, const struct vgpu_launch *q, CUlaunchConfig *c, CUlaunchAttribute *attrs,
		  CUresult *r)
{
	void *stream;
	int err;

	err = worker_stream(w, &q->call, q->stream, &stream);
	if (err)
		return err;
	*c = (CUlaunchConfig){
		.gridDimX = q->grid[0], .gridDimY = q->grid[1], .gridDimZ = q->grid[2],
		.blockDimX = q->block[0], .blockDimY = q->block[1], .blockDimZ = q->block[2],
		.sharedMemBytes = q->shared, .hStream = stream, .attrs = attrs, .numAttrs = q->nattrs,
	};
	err = attributes(w, (const CUlaunchAttribute *)(q + 1), q->nattrs, attrs, r);
	if (err)
		return err;
	if (q->cooperative) {
		attrs[c->numAttrs] = (CUlaunchAttribute){ .id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE };
		attrs[c->numAttrs++].value.cooperative = 1;
	}
	return 0;
}

static bool lengths_ok(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_launch *q = m->payload;

	if (!payload_has(w, m, sizeof(*q)))
		return false;
	if (q->nattrs <= VGPU_LAUNCH_ATTRS_MAX && q->param_bytes <= VGPU_PARAM_BYTES_MAX &&
	    payload_ends(m, sizeof(*q) + q->nattrs * sizeof(CUlaunchAttribute), q->param_bytes))
		return true;
	worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
	return false;
}

_Static_assert(sizeof(CUlaunchAttribute) == 72, "the size that the wire format is made for");

void worker_hand_launch(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_launch *q = m->payload;
	CUlaunchAttribute attrs[VGPU_LAUNCH_ATTRS_MAX + 1];
	void *extra[5], *params, *f;
	CUresult r = CUDA_SUCCESS;
	CUlaunchConfig c;
	size_t bytes;
	int err;

	if (!lengths_ok(w, m))
		return;
	err = worker_enter(w, &q->call);
	if (err)
		goto out;
	f = launchable(w, q->function);
	if (!f) {
		err = IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	err = config(w, q, &c, attrs, &r);
	if (err)
		goto out;
	params = (char *)(q + 1) + q->nattrs * sizeof(CUlaunchAttribute);
	bytes = q->param_bytes;
	extra[0] = CU_LAUNCH_PARAM_BUFFER_POINTER;
	extra[1] = params;
	extra[2] = CU_LAUNCH_PARAM_BUFFER_SIZE;
	extra[3] = &bytes;
	extra[4] = CU_LAUNCH_PARAM_END;
	if (c.numAttrs)
		r = D.cuLaunchKernelEx(&c, f, NULL, bytes ? extra : NULL);
	else
		r = D.cuLaunchKernel(f, c.gridDimX, c.gridDimY, c.gridDimZ, c.blockDimX, c.blockDimY, c.blockDimZ,
				     c.sharedMemBytes, c.hStream, NULL, bytes ? extra : NULL);
	stat_add(&w->stats->launches, 1);
out:
	worker_reply(w, &m->header, &q->call, err < 0 ? 0 : err, r, NULL, 0);
}

static void clusters(struct worker *w, const struct idm_message *m,
		     CUresult (*fn)(int *out, CUfunction f, const CUlaunchConfig *c))
{
	const struct vgpu_launch *q = m->payload;
	CUlaunchAttribute attrs[VGPU_LAUNCH_ATTRS_MAX + 1];
	struct vgpu_clusters_reply rp = { 0 };
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUlaunchConfig c;
	void *f;
	int err;

	if (!lengths_ok(w, m))
		return;
	err = worker_enter(w, &q->call);
	if (err)
		goto out;
	f = launchable(w, q->function);
	if (!f) {
		err = IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	err = config(w, q, &c, attrs, &r);
	if (!err && fn)
		r = fn(&rp.value, f, &c);
out:
	worker_reply(w, &m->header, &q->call, err < 0 ? 0 : err, r, &rp, sizeof(rp));
}

void worker_hand_max_potential_cluster(struct worker *w, const struct idm_message *m)
{
	clusters(w, m, D.cuOccupancyMaxPotentialClusterSize);
}

void worker_hand_max_active_clusters(struct worker *w, const struct idm_message *m)
{
	clusters(w, m, D.cuOccupancyMaxActiveClusters);
}
