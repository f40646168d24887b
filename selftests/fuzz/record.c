// SPDX-License-Identifier: Apache-2.0
/*
 * Linked into a worker of its own (--wrap=idm_server_recv), this writes down what real programs send: to standard error,
 * which is a file, "VGRQ", the process number and a struct record before each payload. selftests/fuzz/seeds reads it.
 */
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "libidm.h"
#include "record.h"

int __real_idm_server_recv(struct idm_server *s, struct idm_message *m, int timeout_ms, struct idm_error *e);
int __wrap_idm_server_recv(struct idm_server *s, struct idm_message *m, int timeout_ms, struct idm_error *e);

int __wrap_idm_server_recv(struct idm_server *s, struct idm_message *m, int timeout_ms, struct idm_error *e)
{
	int rc = __real_idm_server_recv(s, m, timeout_ms, e);

	if (rc == 1) {
		struct { char magic[4]; uint32_t pid; struct record r; } head = {
			{ 'V', 'G', 'R', 'Q' }, getpid(), { m->header.type, m->header.flags, m->header.payload_len } };
		struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)m->payload, m->header.payload_len } };

		if (writev(2, iov, 2) < 0)
			return rc;
	}
	return rc;
}
