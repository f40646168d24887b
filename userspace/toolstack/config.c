// SPDX-License-Identifier: Apache-2.0
/* A domain's configuration file, parsed by the library xl itself uses. */
#include <errno.h>
#include <libxlutil.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vgpuxl.h"

#define FILE_MAX (1 << 20)	/* far above any domain's configuration; keeps a wrong path from eating memory */

/* The file's text, and @extra behind it: what xl hands to its parser. */
static int read_text(const char *path, const char *extra, char **out, size_t *len, struct vgpuxl_error *e)
{
	FILE *in = fopen(path, "re");
	char *text = NULL;
	FILE *mem;
	int c, ret = 0;

	if (!in)
		return vgpuxl_error_set(e, errno, "cannot read the configuration %s: %s", path, strerror(errno));
	mem = open_memstream(&text, len);
	if (!mem) {
		fclose(in);
		return vgpuxl_error_set(e, ENOMEM, "cannot read %s: out of memory", path);
	}
	for (long n = 0; (c = getc(in)) != EOF && !ret; n++) {
		putc(c, mem);
		if (n > FILE_MAX)
			ret = vgpuxl_error_set(e, EFBIG, "%s is longer than 1 MiB: not a domain's configuration", path);
	}
	if (!ret && ferror(in))
		ret = vgpuxl_error_set(e, EIO, "cannot read the configuration %s: is it a file?", path);
	if (extra)
		fprintf(mem, "\n%s\n", extra);
	fclose(in);
	fclose(mem);
	if (ret)
		free(text);
	else
		*out = text;
	return ret;
}

static int read_entries(XLU_Config *xlu, const char *path, struct vgpuxl_config *config, struct vgpuxl_error *e)
{
	XLU_ConfigList *list;
	int n, ret;

	ret = xlu_cfg_get_list(xlu, "vgpu", &list, &n, 1);
	if (ret == ESRCH)
		return 0;
	if (ret)
		return vgpuxl_error_set(e, EINVAL, "%s: vgpu is not a list: write vgpu = [ \"gpu=0,memory=4096\" ]", path);

	config->entries = calloc(n ? n : 1, sizeof(*config->entries));
	if (!config->entries)
		return vgpuxl_error_set(e, ENOMEM, "cannot read %s: out of memory", path);
	for (int i = 0; i < n; i++) {
		const char *text = xlu_cfg_get_listitem(list, i);
		struct vgpuxl_error why;

		if (!text)
			return vgpuxl_error_set(e, EINVAL, "%s: vgpu[%d] is not a string: write vgpu = "
						"[ \"gpu=0,memory=4096\" ]", path, i);
		if (vgpuxl_entry_parse(text, &config->entries[i], &why))
			return vgpuxl_error_set(e, why.err, "%s: %s", path, why.text);
		config->nentries++;
	}
	return 0;
}

/* --- the other keys ------------------------------------------------------------------------------------------ */

static const struct {
	const char *key;
	enum { STRING, NUMBER, ACTION, LIST, HERE } kind;
	size_t offset, count;	/* count: of a list */
	long min, max;
} keys[] = {
#define AT(field) offsetof(struct vgpuxl_config, field)
	{ "name", STRING, AT(name), 0, 0, 0 },
	{ "uuid", STRING, AT(uuid), 0, 0, 0 },
	{ "builder", STRING, AT(type), 0, 0, 0 },
	{ "type", STRING, AT(type), 0, 0, 0 },
	{ "kernel", STRING, AT(kernel), 0, 0, 0 },
	{ "ramdisk", STRING, AT(ramdisk), 0, 0, 0 },
	{ "tsc_mode", STRING, AT(tsc_mode), 0, 0, 0 },
	{ "memory", NUMBER, AT(memory), 0, 1, 16 << 20 },
	{ "maxmem", NUMBER, AT(maxmem), 0, 1, 16 << 20 },
	{ "vcpus", NUMBER, AT(vcpus), 0, 1, 512 },
	{ "maxvcpus", NUMBER, AT(maxvcpus), 0, 1, 512 },
	{ "max_grant_frames", NUMBER, AT(max_grant_frames), 0, 1, 1 << 20 },
	{ "max_maptrack_frames", NUMBER, AT(max_maptrack_frames), 0, 1, 1 << 20 },
	{ "on_poweroff", ACTION, AT(on_poweroff), 0, 0, 0 },
	{ "on_reboot", ACTION, AT(on_reboot), 0, 0, 0 },
	{ "on_crash", ACTION, AT(on_crash), 0, 0, 0 },
	{ "on_watchdog", ACTION, AT(on_watchdog), 0, 0, 0 },
	{ "disk", LIST, AT(disks), AT(ndisks), 0, 0 },
	{ "vif", LIST, AT(vifs), AT(nvifs), 0, 0 },
	{ "p9", LIST, AT(p9s), AT(np9s), 0, 0 },
	/* Read by hand. */
	{ "vgpu", HERE, 0, 0, 0, 0 }, { "extra", HERE, 0, 0, 0, 0 }, { "root", HERE, 0, 0, 0, 0 },
	{ "cmdline", HERE, 0, 0, 0, 0 },
};

static const char *const actions[] = {
	[VGPUXL_ACTION_DESTROY] = "destroy",
	[VGPUXL_ACTION_RESTART] = "restart",
	[VGPUXL_ACTION_RESTART_RENAME] = "rename-restart",
	[VGPUXL_ACTION_PRESERVE] = "preserve",
	[VGPUXL_ACTION_COREDUMP_DESTROY] = "coredump-destroy",
	[VGPUXL_ACTION_COREDUMP_RESTART] = "coredump-restart",
};

static int read_list(XLU_Config *xlu, const char *path, const char *key, const char ***out, unsigned int *count,
		     struct vgpuxl_error *e)
{
	XLU_ConfigList *list;
	int n, ret = xlu_cfg_get_list(xlu, key, &list, &n, 1);

	if (ret == ESRCH)
		return 0;
	if (ret)
		return vgpuxl_error_set(e, EINVAL, "%s: %s is not a list: write %s = [ \"...\" ]", path, key, key);
	*out = calloc(n ? n : 1, sizeof(**out));
	for (int i = 0; *out && i < n; i++) {
		const char *text = xlu_cfg_get_listitem(list, i);

		if (!text)
			return vgpuxl_error_set(e, EINVAL, "%s: %s[%d] is not a string: write %s = [ \"...\" ]", path, key, i,
						key);
		(*out)[i] = strdup(text);
		*count = i + 1;
	}
	return *out ? 0 : vgpuxl_error_set(e, ENOMEM, "cannot read %s: out of memory", path);
}

static int read_key(XLU_Config *xlu, const char *path, unsigned int k, struct vgpuxl_config *config,
		    struct vgpuxl_error *e)
{
	void *field = (char *)config + keys[k].offset;
	const char *key = keys[k].key, *text;
	long number;
	int ret;

	switch (keys[k].kind) {
	case STRING:
		ret = xlu_cfg_get_string(xlu, key, &text, 1);
		if (!ret) {
			free(*(char **)field);
			*(char **)field = strdup(text);
		}
		break;
	case NUMBER:
		ret = xlu_cfg_get_long(xlu, key, &number, 1);
		if (ret == EINVAL || ret == ERANGE || (!ret && (number < keys[k].min || number > keys[k].max)))
			return vgpuxl_error_set(e, EINVAL, "%s: %s is not allowed: give a number from %ld to %ld", path, key,
						keys[k].min, keys[k].max);
		if (!ret)
			*(uint32_t *)field = (uint32_t)number;
		break;
	case ACTION:
		ret = xlu_cfg_get_string(xlu, key, &text, 1);
		if (ret)
			break;
		for (unsigned int a = VGPUXL_ACTION_DESTROY; a < sizeof(actions) / sizeof(*actions); a++) {
			if (strcmp(text, actions[a]))
				continue;
			*(enum vgpuxl_action *)field = a;
			return 0;
		}
		return vgpuxl_error_set(e, EINVAL, "%s: %s=%s is not allowed: give destroy, restart, rename-restart, preserve, "
					"coredump-destroy or coredump-restart", path, key, text);
	case LIST:
		return read_list(xlu, path, key, field, (unsigned int *)((char *)config + keys[k].count), e);
	default:
		return 0;
	}
	if (ret == EINVAL)
		return vgpuxl_error_set(e, EINVAL, "%s: %s is not a string: write %s = \"...\"", path, key, key);
	return 0;
}

/* As xl does: cmdline= alone, else root= and extra=. */
static int read_cmdline(XLU_Config *xlu, const char *path, struct vgpuxl_config *config, struct vgpuxl_error *e)
{
	static const char *const names[] = { "cmdline", "root", "extra" };
	const char *all, *root, *extra, *found[3] = { NULL };
	char *text = NULL;
	int n;

	for (unsigned int i = 0; i < 3; i++)
		if (xlu_cfg_get_string(xlu, names[i], &found[i], 1) == EINVAL)
			return vgpuxl_error_set(e, EINVAL, "%s: %s is not a string: write %s = \"...\"", path, names[i], names[i]);
	all = found[0];
	root = found[1];
	extra = found[2];
	if (all)
		n = asprintf(&text, "%s", all);
	else if (root)
		n = asprintf(&text, "root=%s%s%s", root, extra ? " " : "", extra ? extra : "");
	else if (extra)
		n = asprintf(&text, "%s", extra);
	else
		return 0;
	if (n < 0)
		return vgpuxl_error_set(e, ENOMEM, "cannot read %s: out of memory", path);
	config->cmdline = text;
	return 0;
}

static const char *end_of_value(const char *p)
{
	int depth = 0;

	for (; *p; p++) {
		if (*p == '"' || *p == '\'') {
			char quote = *p;

			for (p++; *p && *p != quote; p++)
				if (*p == '\\' && p[1])
					p++;
			if (!*p)
				break;
		} else if (*p == '#') {
			p += strcspn(p, "\n");
			p--;
		} else if (*p == '[') {
			depth++;
		} else if (*p == ']') {
			depth--;
		} else if ((*p == '\n' || *p == ';') && depth <= 0) {
			break;
		}
	}
	return p;
}

/* The first key that nobody here reads: libxlutil does not tell which there are. The text has been parsed by it. */
static const char *find_unknown(const char *p)
{
	while (*p) {
		size_t len;
		bool known = false;

		p += strspn(p, " \t\r\n;");
		len = strcspn(p, " \t=+\n#;");
		for (unsigned int k = 0; k < sizeof(keys) / sizeof(*keys); k++)
			known |= strlen(keys[k].key) == len && !strncmp(p, keys[k].key, len);
		if (len && !known)
			return strndup(p, len);
		p = end_of_value(p + len);
	}
	return NULL;
}

/* For whom xl reads the rest. */
static int read_devices(XLU_Config *xlu, const char *path, const char *text, struct vgpuxl_config *config,
			struct vgpuxl_error *e)
{
	const char *name;

	if (!xlu_cfg_get_string(xlu, "name", &name, 1))
		config->name = strdup(name);
	return read_entries(xlu, path, config, e);
}

static int read_all(XLU_Config *xlu, const char *path, const char *text, struct vgpuxl_config *config,
		    struct vgpuxl_error *e)
{
	int ret = 0;

	for (unsigned int k = 0; !ret && k < sizeof(keys) / sizeof(*keys); k++)
		ret = read_key(xlu, path, k, config, e);
	if (!ret)
		ret = read_cmdline(xlu, path, config, e);
	if (!ret)
		ret = read_entries(xlu, path, config, e);
	if (!ret)
		config->unknown = find_unknown(text);
	/* xl's default, which is not ours. */
	if (!ret && !config->type)
		config->type = strdup("pv");
	return ret;
}

static int read_config(const char *path, const char *extra, struct vgpuxl_config *config, struct vgpuxl_error *e,
		       int (*read)(XLU_Config *xlu, const char *path, const char *text, struct vgpuxl_config *config,
				   struct vgpuxl_error *e))
{
	size_t len, report_len;
	char *text = NULL, *report = NULL;
	XLU_Config *xlu;
	FILE *mem;
	int ret;

	memset(config, 0, sizeof(*config));
	ret = read_text(path, extra, &text, &len, e);
	if (ret)
		return ret;
	mem = open_memstream(&report, &report_len);
	xlu = mem ? xlu_cfg_init(mem, path) : NULL;
	if (!xlu) {
		ret = vgpuxl_error_set(e, ENOMEM, "cannot read %s: out of memory", path);
	} else if (xlu_cfg_readdata(xlu, text, (int)len)) {
		fflush(mem);
		report[strcspn(report, "\n")] = '\0';
		ret = vgpuxl_error_set(e, EINVAL, "%s is not a domain's configuration: %s", path, report);
	} else {
		ret = read(xlu, path, text, config, e);
	}
	if (xlu)
		xlu_cfg_destroy(xlu);
	if (mem)
		fclose(mem);
	free(report);
	free(text);
	if (ret)
		vgpuxl_config_free(config);
	return ret;
}

int vgpuxl_config_read(const char *path, const char *extra, struct vgpuxl_config *config, struct vgpuxl_error *e)
{
	return read_config(path, extra, config, e, read_all);
}

int vgpuxl_config_read_devices(const char *path, const char *extra, struct vgpuxl_config *config, struct vgpuxl_error *e)
{
	return read_config(path, extra, config, e, read_devices);
}

void vgpuxl_config_free(struct vgpuxl_config *config)
{
	for (unsigned int k = 0; k < sizeof(keys) / sizeof(*keys); k++) {
		void *field = (char *)config + keys[k].offset;

		if (keys[k].kind == STRING) {
			free(*(char **)field);
			*(char **)field = NULL;		/* type and builder share theirs */
		} else if (keys[k].kind == LIST) {
			unsigned int n = *(unsigned int *)((char *)config + keys[k].count);
			char **list = *(char ***)field;

			for (unsigned int i = 0; i < n; i++)
				free(list[i]);
			free(list);
		}
	}
	free((char *)config->cmdline);
	free((char *)config->unknown);
	free(config->entries);
	memset(config, 0, sizeof(*config));
}
