// SPDX-License-Identifier: Apache-2.0
/* vgpuxl_attach() and domains that end just then: on a xenstore of this file's own, whose domains end when a test wants it. TAP. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include "vgpuxl.h"

/* ---- As much of a xenstore as device.c and store.c use */

#define NODES_MAX 256

struct nodes {
	struct {
		char path[128], value[128];
	} node[NODES_MAX];
	unsigned int count;
};

static struct nodes store, before;
static bool conflict;
static unsigned int ends_at_write;	/* the first write of a transaction ends this domain */

static int find(const char *path)
{
	for (unsigned int i = 0; i < store.count; i++)
		if (!strcmp(store.node[i].path, path))
			return (int)i;
	return -1;
}

static void put(struct nodes *in, const char *path, const char *value, unsigned int len)
{
	unsigned int i;

	for (i = 0; i < in->count && strcmp(in->node[i].path, path); i++)
		;
	if (i == NODES_MAX)
		abort();
	snprintf(in->node[i].path, sizeof(in->node[i].path), "%s", path);
	snprintf(in->node[i].value, sizeof(in->node[i].value), "%.*s", (int)len, value);
	in->count += i == in->count;
}

static void drop(struct nodes *in, const char *path)
{
	size_t len = strlen(path);
	unsigned int kept = 0;

	for (unsigned int i = 0; i < in->count; i++)
		if (strncmp(in->node[i].path, path, len) || (in->node[i].path[len] && in->node[i].path[len] != '/'))
			in->node[kept++] = in->node[i];
	in->count = kept;
}

xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
	before = store;
	conflict = false;
	return 1;
}

bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abort)
{
	if (abort || conflict)
		store = before;
	if (!abort && conflict)
		errno = EAGAIN;
	return abort || !conflict;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
	int i = find(path);

	if (i < 0) {
		errno = ENOENT;
		return NULL;
	}
	*len = (unsigned int)strlen(store.node[i].value);
	return strdup(store.node[i].value);
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned int len)
{
	char home[32];

	if (ends_at_write) {
		snprintf(home, sizeof(home), "/local/domain/%u", ends_at_write);
		drop(&before, home);
		conflict = true;
		ends_at_write = 0;
	}
	put(&store, path, data, len);
	return true;
}

bool xs_mkdir(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	put(&store, path, "", 0);
	return true;
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	drop(&store, path);
	return true;
}

bool xs_set_permissions(struct xs_handle *h, xs_transaction_t t, const char *path, struct xs_permissions *perms, unsigned int n)
{
	return find(path) >= 0;
}

char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *n)
{
	*n = 0;
	return find(path) < 0 ? NULL : malloc(1);
}

bool xs_is_domain_introduced(struct xs_handle *h, unsigned int domid)
{
	return true;	/* xenstored has not heard of its end yet */
}

/* What an attachment does not use. */
struct xs_handle *xs_open(unsigned long flags) { return NULL; }
void xs_close(struct xs_handle *h) { }
bool xs_watch(struct xs_handle *h, const char *path, const char *token) { return false; }
bool xs_unwatch(struct xs_handle *h, const char *path, const char *token) { return false; }
char **xs_check_watch(struct xs_handle *h) { return NULL; }
int xs_fileno(struct xs_handle *h) { return -1; }

/* ---- Tests */

static unsigned int tests, failures;

static void ok(bool good, const char *what)
{
	tests++;
	failures += !good;
	printf("%sok %u - %s\n", good ? "" : "not ", tests, what);
}

static void domain(unsigned int id)
{
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u", id);
	put(&store, path, "", 0);
	snprintf(path, sizeof(path), "/local/domain/%u/name", id);
	put(&store, path, "pod", 3);
}

static bool nothing_of(unsigned int id)
{
	char path[64], text[32];
	bool none = true;

	snprintf(path, sizeof(path), "/local/domain/%u/", id);
	snprintf(text, sizeof(text), "/vgpu/%u/", id);
	for (unsigned int i = 0; i < store.count; i++)
		if (!strncmp(store.node[i].path, path, strlen(path)) || strstr(store.node[i].path, text)) {
			printf("# %s\n", store.node[i].path);
			none = false;
		}
	return none;
}

int main(void)
{
	struct vgpuxl_entry entry = { .gpu = "0", .memory = 64, .weight = 1, .sessions = 4, .backend = "0" };
	struct vgpuxl_device device = { 0 };
	struct vgpuxl_error e = { 0 };

	domain(7);
	ok(!vgpuxl_attach(NULL, 7, &entry, &device, &e) && !device.devid && find("/local/domain/7/device/vgpu/0/state") >= 0 &&
	   find("/local/domain/0/backend/vgpu/7/0/state") >= 0, "a device is attached: both directories are there");
	ok(!vgpuxl_attach(NULL, 7, &entry, &device, &e) && device.devid == 1, "a second one gets the next number");

	ok(vgpuxl_attach(NULL, 8, &entry, &device, &e) && e.err == ENOENT && strstr(e.text, "domain 8"), "none to a domain that has just gone");
	ok(nothing_of(8), "of which nothing is left behind");

	domain(9);
	ends_at_write = 9;
	ok(vgpuxl_attach(NULL, 9, &entry, &device, &e) && e.err == ENOENT && strstr(e.text, "domain 9"), "nor to one that goes meanwhile");
	ok(nothing_of(9), "of which nothing is left behind either");

	snprintf(entry.backend, sizeof(entry.backend), "5");
	ok(vgpuxl_attach(NULL, 7, &entry, &device, &e) && e.err == ENOENT && strstr(e.text, "driver domain"), "nor is a driver domain that has just gone used");
	ok(nothing_of(5), "or written to");
	domain(5);
	ok(!vgpuxl_attach(NULL, 7, &entry, &device, &e) && device.backend == 5, "one that is there is");
	printf("1..%u\n", tests);
	return failures != 0;
}
