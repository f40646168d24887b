// SPDX-License-Identifier: Apache-2.0
/* nvmlInit, nvmlShutdown, and the session with the broker. */
#include <cuda.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cuda_wire.h"
#include "nvml.h"

struct nvml nvml = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* The parent's session is not the child's. Like NVIDIA's library, a child starts anew with nvmlInit. */
static void in_child(void)
{
	pthread_mutex_init(&nvml.lock, NULL);
	if (nvml.client)
		idm_client_abandon(nvml.client);
	nvml.client = NULL;
}

static void at_load(void) __attribute__((constructor));
static void at_load(void)
{
	pthread_atfork(NULL, NULL, in_child);
}

static int session_open(void)
{
	/* A few hundred bytes travel: the smallest session there is. */
	struct idm_client_params params = {
		.table_hash = VGPU_TABLE_HASH, .request_size = IDM_RING_MIN, .reply_size = 4 * IDM_RING_MIN,
		.arena_size = 64 * 1024,
	};
	struct idm_error e = { 0 };
	static bool told;
	int err;

	if (nvml.client)
		return NVML_SUCCESS;
	err = idm_client_open(&nvml.client, &params, &e);
	if (!err)
		return NVML_SUCCESS;
	nvml.client = NULL;
	if (!told)
		fprintf(stderr, "vgpu: NVML finds no GPU: %s\n", e.text[0] ? e.text : strerror(-err));
	told = true;
	return err == -ENOENT || err == -ENODEV || err == -ENXIO || err == -ECONNREFUSED ? NVML_ERROR_DRIVER_NOT_LOADED :
	       err == -EACCES || err == -EPERM ? NVML_ERROR_NO_PERMISSION : NVML_ERROR_UNKNOWN;
}

static void session_close(void)
{
	if (nvml.client)
		idm_client_close(nvml.client);
	nvml.client = NULL;
}

static int ask(uint16_t type, const void *rq, size_t len, void *reply, size_t cap)
{
	struct iovec iov = { (void *)rq, len };
	struct idm_pending p = { .reply = reply, .reply_cap = cap };

	if (idm_call(nvml.client, type, &iov, 1, &p)) {
		/* The broker was restarted, say: the next question opens a new session. */
		session_close();
		return NVML_ERROR_GPU_IS_LOST;
	}
	return p.response.error || p.reply_len != cap ? NVML_ERROR_UNKNOWN : NVML_SUCCESS;
}

static void uuid_text(char out[41], const uint8_t u[16])
{
	snprintf(out, 41, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
		 u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

static int load_devices(void)
{
	struct vgpu_call call = { .thread = 1 };
	int r = ask(IDM_GPU_GET_INFO, &call, sizeof(call), &nvml.info, sizeof(nvml.info));

	if (r)
		return r;
	nvml.info.driver[sizeof(nvml.info.driver) - 1] = '\0';
	nvml.ndevices = 0;
	nvml.peers_known = false;
	for (unsigned int i = 0; i < nvml.info.devices && i < VGPU_DEVICES_MAX; i++) {
		struct vgpu_props_request rq = { .call = call, .device = i };
		struct nvml_device *d = &nvml.devices[i];

		r = ask(IDM_GPU_GET_PROPS, &rq, sizeof(rq), &d->props, sizeof(d->props));
		if (r)
			return r;
		d->index = i;
		d->props.name[sizeof(d->props.name) - 1] = '\0';
		d->props.pci_bus_id[sizeof(d->props.pci_bus_id) - 1] = '\0';
		if (sscanf(d->props.pci_bus_id, "%x:%x:%x", &d->domain, &d->bus, &d->slot) != 3)
			d->domain = d->bus = d->slot = 0;
		uuid_text(d->uuid, d->props.uuid);
		nvml.ndevices = i + 1;
	}
	return NVML_SUCCESS;
}

NVML_API int nvmlInitWithFlags(unsigned int flags);
NVML_API int nvmlInitWithFlags(unsigned int flags)
{
	int r = NVML_SUCCESS;

	pthread_mutex_lock(&nvml.lock);
	if (!nvml.inits) {
		r = session_open();
		if (!r)
			r = load_devices();
		session_close();
		if (r == NVML_ERROR_DRIVER_NOT_LOADED && flags & NVML_INIT_FLAG_NO_GPUS) {
			nvml.ndevices = 0;
			r = NVML_SUCCESS;
		}
	}
	nvml.inits += !r;
	pthread_mutex_unlock(&nvml.lock);
	return r;
}

NVML_API int nvmlInit_v2(void);
NVML_API int nvmlInit_v2(void)
{
	return nvmlInitWithFlags(0);
}

NVML_API int nvmlInit(void);
NVML_API int nvmlInit(void)
{
	return nvmlInitWithFlags(0);
}

NVML_API int nvmlShutdown(void);
NVML_API int nvmlShutdown(void)
{
	int r = NVML_SUCCESS;

	pthread_mutex_lock(&nvml.lock);
	if (!nvml.inits)
		r = NVML_ERROR_UNINITIALIZED;
	else if (!--nvml.inits)
		session_close();
	pthread_mutex_unlock(&nvml.lock);
	return r;
}

int nvml_check(const struct nvml_device *d)
{
	if (!__atomic_load_n(&nvml.inits, __ATOMIC_ACQUIRE))
		return NVML_ERROR_UNINITIALIZED;
	if (d && (d < nvml.devices || d >= nvml.devices + nvml.ndevices ||
		  ((const char *)d - (const char *)nvml.devices) % sizeof(*d)))
		return NVML_ERROR_INVALID_ARGUMENT;
	return NVML_SUCCESS;
}

int nvml_zone(struct vgpu_zone_reply *z, struct vgpu_zone_session *list, unsigned int cap)
{
	struct vgpu_zone_request rq = { .call.thread = 1 };
	int r;

	pthread_mutex_lock(&nvml.lock);
	r = session_open();
	for (;;) {
		if (!r)
			r = ask(IDM_GPU_GET_ZONE, &rq, sizeof(rq), z, sizeof(*z));
		if (r || z->count > VGPU_ZONE_SESSIONS)
			break;
		for (unsigned int i = 0; i < z->count && rq.first + i < cap; i++)
			list[rq.first + i] = z->session[i];
		rq.first += z->count;
		if (!z->count || rq.first >= z->sessions || rq.first >= cap)
			break;
	}
	pthread_mutex_unlock(&nvml.lock);
	/* What was copied, should the number have changed meanwhile. */
	if (!r)
		z->count = rq.first < cap ? rq.first : cap;
	return r;
}

/* What the driver does not know of two devices, they have not. */
static int load_peer(struct nvml_device *d, unsigned int other)
{
	struct vgpu_rq_cuDeviceGetP2PAttribute rq = { .call.thread = 1, .srcDevice = d->index, .dstDevice = other };
	struct vgpu_rp_cuDeviceGetP2PAttribute rp;
	unsigned int a;

	d->peers[other] = 0;
	for (a = CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED; a <= CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED; a++) {
		int r;

		rq.attrib = a;
		r = ask(VGPU_MSG_cuDeviceGetP2PAttribute, &rq, sizeof(rq), &rp, sizeof(rp));
		if (r == NVML_ERROR_GPU_IS_LOST)
			return r;
		if (!r && rp.value)
			d->peers[other] |= 1u << a;
	}
	return NVML_SUCCESS;
}

/* All of them: who asks about two devices asks about all. */
static int load_peers(void)
{
	int r = session_open();

	for (unsigned int i = 0; i < nvml.ndevices; i++)
		for (unsigned int j = 0; j < nvml.ndevices && !r; j++)
			if (i != j)
				r = load_peer(&nvml.devices[i], j);
	nvml.peers_known = !r;
	return r;
}

int nvml_peer(const struct nvml_device *d, const struct nvml_device *other, unsigned int attribute, bool *yes)
{
	int r = NVML_SUCCESS;

	pthread_mutex_lock(&nvml.lock);
	if (!nvml.peers_known) {
		bool stays = nvml.client;

		r = load_peers();
		if (!stays)
			session_close();
	}
	if (!r)
		*yes = d->peers[other->index] >> attribute & 1;
	pthread_mutex_unlock(&nvml.lock);
	return r;
}

bool nvml_attribute(const struct nvml_device *d, unsigned int attribute, int *value)
{
	if (attribute >= VGPU_ATTRIBUTES_MAX || attribute >= d->props.nattributes || d->props.attribute_result[attribute])
		return false;
	*value = d->props.attributes[attribute];
	return true;
}
