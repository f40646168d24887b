// SPDX-License-Identifier: Apache-2.0
/*
 * Linked into a worker of its own (--wrap=idm_server_recv), this writes down what real programs send: to standard error,
 * which is a file, "VGRQ", the process number and a struct record before each payload. selftests/fuzz/seeds reads it.
 */
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "libidm.h"
#include "record.h"

int __real_idm_server_recv(struct idm_server *s, struct idm_message *m, int timeout_ms, struct idm_error *e);
int __wrap_idm_server_recv(struct idm_server *s, struct idm_message *m, int timeout_ms, struct idm_error *e);

int __wrap_idm_server_recv(struct idm_server *s, struct idm_message *m, int timeout_ms, struct idm_error *e)
{
	int rc = __real_idm_server_recv(s, m, timeout_ms, e);

	if (rc == 1) {
		/* By one write(): other workers write too, and the sandbox has no writev() for the software GPU. */
		static struct {
			char magic[4];
			uint32_t pid;
			struct record r;
			char payload[IDM_PAYLOAD_MAX];
		} one;

		memcpy(one.magic, "VGRQ", 4);
		one.pid = getpid();
		one.r = (struct record){ m->header.type, m->header.flags, m->header.payload_len };
		memcpy(one.payload, m->payload, m->header.payload_len);
		if (write(2, &one, offsetof(__typeof__(one), payload) + m->header.payload_len) < 0)
			return rc;
	}
	return rc;
}
