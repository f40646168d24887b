/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libnvidia-ml.so.1 for a zone: what there is to know about its devices comes from the broker through a session of its own.
 * No table of functions is kept by hand here: nvml.tbl names them all, gen.py makes the refusing ones.
 *
 *	session.c	nvmlInit, the session, fork
 *	system.c	versions, error texts, processes' names
 *	device.c	handles, identity, attributes
 *	memory.c	memory and processes
 *	internal.c	the private table nvidia-smi asks for
 *	refuse.c	all the rest
 *
 * The session that nvmlInit opens ends at once: programs call nvmlInit to count devices and stay for days. Asking for
 * memory or processes opens one that stays until nvmlShutdown; the first question for peers one that ends at once.
 */
#ifndef LIBNVML_NVML_H
#define LIBNVML_NVML_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "libidm.h"
#include "nvml_abi.h"
#include "wire.h"

struct nvml_device {
	unsigned int index;
	struct vgpu_props_reply props;
	char uuid[41];			/* GPU-8-4-4-4-12 */
	unsigned int domain, bus, slot;
	uint8_t peers[VGPU_DEVICES_MAX];	/* what it can do with each other one: 1 << CUdevice_P2PAttribute */
};

/** struct nvml - the process's state. All but the devices, which never change once there but for @peers, under @lock. */
extern struct nvml {
	pthread_mutex_t lock;
	unsigned int inits;
	bool peers_known;
	unsigned int ndevices;
	struct nvml_device devices[VGPU_DEVICES_MAX];
	struct vgpu_info_reply info;
	struct idm_client *client;
} nvml;

/** @return NVML_SUCCESS if nvmlInit() was called and @d (NULL: none needed) is one of its devices. */
int nvml_check(const struct nvml_device *d);

/** Does cuDeviceGetP2PAttribute() say that between the two there is @attribute? @return enum nvml_return */
int nvml_peer(const struct nvml_device *d, const struct nvml_device *other, unsigned int attribute, bool *yes);

/** All sessions of the zone's device, @cap of them in @list. @return enum nvml_return; the counts are in *@z. */
int nvml_zone(struct vgpu_zone_reply *z, struct vgpu_zone_session *list, unsigned int cap);

/** What @copy makes of each process that uses @d, @size bytes each. @*count: room for so many; how many there are. */
int nvml_processes(struct nvml_device *d, unsigned int *count, void *out, size_t size,
		   void (*copy)(void *to, const struct vgpu_zone_session *s));

/** An attribute of the device (CUdevice_attribute). @return false if the driver did not say. */
bool nvml_attribute(const struct nvml_device *d, unsigned int attribute, int *value);

NVML_API int nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length);

/** Copy a string to the caller. @return NVML_SUCCESS, _INVALID_ARGUMENT, _INSUFFICIENT_SIZE */
int nvml_string(char *out, unsigned int length, const char *text);

/** A function without a device behind it here: NVML_ERROR_NOT_SUPPORTED, named once if VGPU_TRACE is set. */
int nvml_refuse(const char *name, int *told);

#endif /* LIBNVML_NVML_H */
