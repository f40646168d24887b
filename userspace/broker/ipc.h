/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sessions of a device share with one another: memory and events of the driver, each behind a token of 256
 * random bits. A client holds the token, a worker asks with it, and only a worker of the same device, hence of the
 * same zone, is told the driver's own handle.
 *
 * Memory that was exported is charged here, once, and no longer to the session that allocated it: it goes back when the
 * last session that has it lets go or dies. Whoever that is, nobody's death frees quota for memory that is still there.
 */
#ifndef BROKER_IPC_H
#define BROKER_IPC_H

#include <stdbool.h>
#include <stdint.h>

#include "proto.h"

#define IPC_SESSION_MAX	1024u		/* objects that one session has exported */
#define IPC_DEVICE_MAX	2048u		/* that one device's sessions have, each perhaps with a descriptor */
#define IPC_HOLDERS_MAX	65536u		/* times that one object is open, in all sessions */
#define IPC_FILE_FREE	(64ull << 10)	/* bytes of a memfd that need no lease: an event's, a pool's */
#define IPC_FILE_MAX	(128ull << 30)

struct device;
struct ipc_entry;
struct worker;

struct ipc_registry {
	struct ipc_entry *entries;
	unsigned int count;
};

/**
 * Messages of a worker that has a session. @fd: what came along, -1: nothing; the caller closes it. The answer is sent.
 * @return 0, or -EINVAL for what no honest worker says
 */
int ipc_export(struct worker *w, const struct worker_msg *m, int fd);
int ipc_import(struct worker *w, const struct worker_msg *m);
int ipc_memory(struct worker *w, uint64_t bytes);
int ipc_drop(struct worker *w, uint64_t id);

/** The worker is dead; its session is still there. */
void ipc_worker_gone(struct worker *w);

#endif
