// SPDX-License-Identifier: Apache-2.0
/*
 * The pod's settings: vgpu.KEY=VALUE on the kernel's command line or, where that has none, the key vm-data/vgpu/KEY of the
 * domain in xenstore. Documentation/agent-protocol.rst lists the keys.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xenstore.h>

#include "init.h"

static struct xs_handle *store;

void config_read(struct config *c)
{
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, c->cmdline, sizeof(c->cmdline) - 1);
	char *text;

	if (fd >= 0)
		close(fd);
	c->cmdline[n > 0 ? n : 0] = 0;
	c->cmdline[strcspn(c->cmdline, "\n")] = 0;
	if (is_pid1 && !access("/dev/xen/xenbus", F_OK))
		store = xs_open(0);
	c->agent_node = config_get(c, "agent");
	c->root = config_get(c, "root");
	c->overlay = config_get(c, "overlay");
	c->module = config_get(c, "module");
	c->hostname = config_get(c, "hostname");
	text = config_get(c, "modules");
	c->modules_open = text && !strcmp(text, "open");
	free(text);
	c->debugfs = strstr(c->cmdline, "debugfs=on");
}

char *config_get(const struct config *c, const char *key)
{
	char word[64], path[128], *value, *found;
	const char *at = c->cmdline;
	unsigned int len;
	size_t wordlen;

	wordlen = snprintf(word, sizeof(word), "vgpu.%s=", key);
	while ((at = strstr(at, word))) {
		if (at == c->cmdline || at[-1] == ' ')
			return strndup(at + wordlen, strcspn(at + wordlen, " "));
		at += wordlen;
	}
	if (!store)
		return NULL;
	snprintf(path, sizeof(path), "vm-data/vgpu/%s", key);
	value = xs_read(store, XBT_NULL, path, &len);
	/* xenstore's values are bytes; a NUL ends ours. */
	found = value ? strndup(value, len) : NULL;
	free(value);
	return found;
}
