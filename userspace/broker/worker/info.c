// SPDX-License-Identifier: Apache-2.0
/* What the session's devices are: one snapshot each, from which the shim answers all questions. */
#include <stdio.h>
#include <string.h>

#include "worker.h"

/* What a driver says when it has no context to ask; all GPUs of the last years have six levels. */
#define PRIORITY_LOW	0
#define PRIORITY_HIGH	(-5)

void worker_hand_get_info(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_call *q = m->payload;
	struct vgpu_info_reply rp = { .devices = w->ndevices };
	CUresult r;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	r = D.cuDriverGetVersion(&rp.driver_version);
	memcpy(rp.driver, w->driver_version, sizeof(rp.driver));
	worker_reply(w, &m->header, q, 0, r, &rp, sizeof(rp));
}

static void priorities(struct worker *w, int device, struct vgpu_props_reply *rp)
{
	CUcontext ctx, before = NULL;

	rp->priority_low = PRIORITY_LOW;
	rp->priority_high = PRIORITY_HIGH;
	/* On a real GPU a context takes a quarter of a second to make: not for two numbers. */
	if (!w->soft || D.cuDevicePrimaryCtxRetain(&ctx, device) != CUDA_SUCCESS)
		return;
	D.cuCtxGetCurrent(&before);
	if (D.cuCtxSetCurrent(ctx) == CUDA_SUCCESS)
		D.cuCtxGetStreamPriorityRange(&rp->priority_low, &rp->priority_high);
	D.cuCtxSetCurrent(before);
	D.cuDevicePrimaryCtxRelease_v2(device);
}

void worker_hand_get_props(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_props_request *q = m->payload;
	struct vgpu_props_reply rp = { 0 };
	size_t total = 0;
	CUresult r;
	int dev, i;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	if (q->device >= w->ndevices) {
		worker_reply(w, &m->header, &q->call, 0, CUDA_ERROR_INVALID_DEVICE, NULL, 0);
		return;
	}
	dev = w->ordinals[q->device];
	r = D.cuDeviceGetName(rp.name, sizeof(rp.name), dev);
	if (r == CUDA_SUCCESS)
		r = (D.cuDeviceGetUuid_v2 ? D.cuDeviceGetUuid_v2 : D.cuDeviceGetUuid)((CUuuid *)rp.uuid, dev);
	if (r == CUDA_SUCCESS)
		r = D.cuDeviceTotalMem_v2(&total, dev);
	if (r == CUDA_SUCCESS)
		r = D.cuDeviceGetPCIBusId(rp.pci_bus_id, sizeof(rp.pci_bus_id), dev);
	if (r == CUDA_SUCCESS) {
		rp.total_mem = lease_quota(w) && lease_quota(w) < total ? lease_quota(w) : total;
		rp.nattributes = VGPU_ATTRIBUTES_MAX;
		rp.ptx_only = w->ptx_only;
		rp.attribute_result[0] = CUDA_ERROR_INVALID_VALUE;
		for (i = 1; i < VGPU_ATTRIBUTES_MAX; i++)
			rp.attribute_result[i] = D.cuDeviceGetAttribute(&rp.attributes[i], i, dev);
		priorities(w, dev, &rp);
	}
	worker_reply(w, &m->header, &q->call, 0, r, &rp, sizeof(rp));
}

/* What the zone calls them stays: others' memory is known by that. */
void worker_hand_visible(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_visible *q = m->payload;
	int ordinals[VGPU_DEVICES_MAX];
	bool ok = !w->chosen && !w->handles.used;
	uint32_t taken = 0;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	for (uint32_t i = 0; i < w->ndevices; i++)
		ok = ok && !w->primary[i];
	ok = ok && q->count && q->count <= w->ndevices;
	for (uint32_t i = 0; ok && i < q->count; i++) {
		ok = q->device[i] < w->ndevices && !(taken >> q->device[i] & 1);
		if (ok) {
			taken |= 1u << q->device[i];
			ordinals[i] = w->ordinals[q->device[i]];
		}
	}
	if (ok) {
		memcpy(w->ordinals, ordinals, q->count * sizeof(ordinals[0]));
		memcpy(w->numbers, q->device, q->count * sizeof(w->numbers[0]));
		w->ndevices = q->count;
		w->chosen = true;
	}
	worker_reply(w, &m->header, &q->call, 0, ok ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE, NULL, 0);
}

void worker_hand_thread_new(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_call *q = m->payload;
	uint32_t type;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	latch_take(&w->latches, q->thread, &type);
	worker_reply(w, &m->header, q, 0, CUDA_SUCCESS, NULL, 0);
}

void worker_hand_get_zone(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_zone_request *q = m->payload;
	struct vgpu_zone_reply rp;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	/* Without a broker nobody knows the other sessions. */
	if (lease_zone(q->first, &rp))
		worker_reply(w, &m->header, &q->call, 0, 0, &rp, sizeof(rp));
	else
		worker_reply(w, &m->header, &q->call, 0, CUDA_ERROR_SYSTEM_NOT_READY, NULL, 0);
}

void worker_hand_atomics(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_atomics *q = m->payload;
	CUatomicOperation operations[VGPU_ATOMICS_MAX];
	struct vgpu_atomics_reply rp = { 0 };
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err && (!q->count || q->count > VGPU_ATOMICS_MAX))
		r = CUDA_ERROR_INVALID_VALUE;
	else if (!err) {
		for (uint32_t i = 0; i < q->count; i++)
			operations[i] = q->operations[i];
		if (q->peer == VGPU_ATOMICS_HOST && D.cuDeviceGetHostAtomicCapabilities)
			r = D.cuDeviceGetHostAtomicCapabilities(rp.capabilities, operations, q->count,
								worker_device(w, q->device));
		else if (q->peer != VGPU_ATOMICS_HOST && D.cuDeviceGetP2PAtomicCapabilities)
			r = D.cuDeviceGetP2PAtomicCapabilities(rp.capabilities, operations, q->count,
							       worker_device(w, q->device), worker_device(w, q->peer));
	}
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}
