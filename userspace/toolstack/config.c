// SPDX-License-Identifier: Apache-2.0
/* A domain's configuration file, parsed by the library xl itself uses. */
#include <errno.h>
#include <libxlutil.h>
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
		config->n++;
	}
	return 0;
}

static void get_string(XLU_Config *xlu, const char *key, char *out, size_t size)
{
	const char *value;

	if (!xlu_cfg_get_string(xlu, key, &value, 1))
		snprintf(out, size, "%s", value);
}

int vgpuxl_config_read(const char *path, const char *extra, struct vgpuxl_config *config, struct vgpuxl_error *e)
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
		get_string(xlu, "name", config->name, sizeof(config->name));
		get_string(xlu, "type", config->type, sizeof(config->type));
		if (!config->type[0])
			get_string(xlu, "builder", config->type, sizeof(config->type));
		ret = read_entries(xlu, path, config, e);
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

void vgpuxl_config_free(struct vgpuxl_config *config)
{
	free(config->entries);
	memset(config, 0, sizeof(*config));
}
