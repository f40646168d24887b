// SPDX-License-Identifier: Apache-2.0
/* Access to xenstore: connection, domains, reading nodes. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include "handles.h"
#include "vgpuxl.h"

int vgpuxl_store_open(struct xs_handle **xs, struct vgpuxl_error *e)
{
	handles_begin();
	*xs = xs_open(0);
	handles_end();
	if (*xs)
		return 0;
	if (errno == EACCES || errno == EPERM)
		return vgpuxl_error_set(e, errno, "cannot talk to xenstore: %s: run this as root", strerror(errno));
	return vgpuxl_error_set(e, errno ? errno : ENODEV, "cannot talk to xenstore: %s: this must be dom0 of a running "
				"Xen, with xenstored started (systemctl start xen)", strerror(errno));
}

void vgpuxl_store_close(struct xs_handle *xs)
{
	handles_begin();
	xs_close(xs);
	handles_end();
}

static bool read_path(struct xs_handle *xs, uint32_t t, char *buf, unsigned int size, const char *path)
{
	unsigned int len;
	char *value = xs_read(xs, t, path, &len);
	bool fits = value && len < size;

	buf[0] = '\0';
	if (fits) {
		memcpy(buf, value, len);
		buf[len] = '\0';
	}
	free(value);
	return fits;
}

bool vgpuxl_read(struct xs_handle *xs, uint32_t t, char *buf, unsigned int size, const char *fmt, ...)
{
	char path[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	return read_path(xs, t, buf, size, path);
}

long vgpuxl_read_long(struct xs_handle *xs, long otherwise, const char *fmt, ...)
{
	char path[512], text[32], *end;
	va_list args;
	long value;

	va_start(args, fmt);
	vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	if (!read_path(xs, XBT_NULL, text, sizeof(text), path) || !text[0])
		return otherwise;
	value = strtol(text, &end, 10);
	return *end ? otherwise : value;
}

static bool is_number(const char *s)
{
	return *s && strspn(s, "0123456789") == strlen(s);
}

int vgpuxl_domain_find(struct xs_handle *xs, const char *name, uint32_t *domid, struct vgpuxl_error *e)
{
	unsigned int n, found = 0;
	char **all, other[128];

	if (is_number(name) && strlen(name) < 6) {
		*domid = (uint32_t)strtoul(name, NULL, 10);
		/* Nobody introduces dom0 to itself. */
		if (!*domid || xs_is_domain_introduced(xs, *domid))
			return 0;
		return vgpuxl_error_set(e, ENOENT, "there is no domain %s: see 'xl list'", name);
	}
	all = xs_directory(xs, XBT_NULL, "/local/domain", &n);
	for (unsigned int i = 0; all && i < n; i++) {
		if (!vgpuxl_read(xs, XBT_NULL, other, sizeof(other), "/local/domain/%s/name", all[i]) ||
		    strcmp(other, name))
			continue;
		*domid = (uint32_t)strtoul(all[i], NULL, 10);
		found++;
	}
	free(all);
	if (found == 1)
		return 0;
	if (found)
		return vgpuxl_error_set(e, ENOTUNIQ, "%u domains are named \"%s\": give the number, see 'xl list'", found,
					name);
	return vgpuxl_error_set(e, ENOENT, "there is no domain \"%s\": see 'xl list'", name);
}
