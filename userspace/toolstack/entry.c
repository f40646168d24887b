// SPDX-License-Identifier: Apache-2.0
/* One device's description: "gpu=0,memory=4096,weight=1,sessions=64,backend=0". */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vgpuxl.h"

#define KEYS "gpu, memory, weight, sessions and backend"

static const struct {
	const char *name;
	unsigned int bit;
} keys[] = {
	{ "memory", VGPUXL_SET_MEMORY }, { "weight", VGPUXL_SET_WEIGHT }, { "sessions", VGPUXL_SET_SESSIONS },
	{ "gpu", 8u }, { "backend", 16u },
};

int vgpuxl_error_set(struct vgpuxl_error *e, int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	e->err = err;
	vsnprintf(e->text, sizeof(e->text), fmt, args);
	va_end(args);
	return -err;
}

/* A plain decimal number in [min, max]: no sign, no blanks, no other base, no overflow. */
static bool number(const char *value, uint32_t min, uint32_t max, uint32_t *out)
{
	uint64_t n = 0;

	if (!*value)
		return false;
	for (; *value; value++) {
		if (*value < '0' || *value > '9')
			return false;
		n = n * 10 + (unsigned int)(*value - '0');
		if (n > max)
			return false;
	}
	if (n < min)
		return false;
	*out = (uint32_t)n;
	return true;
}

/* Indices or UUIDs joined by '+': 0, 0+1, GPU-1b2c..., MIG-... */
static bool gpu_list(const char *value)
{
	size_t part = 0;

	if (strlen(value) >= VGPUXL_GPU_MAX)
		return false;
	for (; *value; value++) {
		if (*value == '+') {
			if (!part)
				return false;
			part = 0;
		} else if (isalnum((unsigned char)*value) || *value == '-' || *value == '/' || *value == '_') {
			part++;
		} else {
			return false;
		}
	}
	return part > 0;
}

static int refuse(struct vgpuxl_error *e, const char *text, const char *key, const char *value, const char *allowed)
{
	return vgpuxl_error_set(e, EINVAL, "vgpu entry \"%s\": %s=%s is not allowed: %s", text, key, value, allowed);
}

static int set(const char *text, const char *key, const char *value, struct vgpuxl_entry *entry,
	       struct vgpuxl_error *e)
{
	if (!strcmp(key, "gpu")) {
		if (!gpu_list(value))
			return refuse(e, text, key, value, "give GPU indices or UUIDs joined by '+', for example 0 or "
				      "0+1 or GPU-8a3f..., at most 127 characters");
		strcpy(entry->gpu, value);
	} else if (!strcmp(key, "memory")) {
		if (!number(value, 0, VGPUXL_MEMORY_MAX, &entry->memory))
			return refuse(e, text, key, value, "give MiB of device memory as a number from 1 to 16777216, "
				      "or 0 for no quota");
	} else if (!strcmp(key, "weight")) {
		if (!number(value, 1, VGPUXL_WEIGHT_MAX, &entry->weight))
			return refuse(e, text, key, value, "give a number from 1 to 10000");
	} else if (!strcmp(key, "sessions")) {
		if (!number(value, 1, VGPUXL_SESSIONS_MAX, &entry->sessions))
			return refuse(e, text, key, value, "give a number from 1 to 1024");
	} else if (!strcmp(key, "backend")) {
		if (!*value || strlen(value) >= sizeof(entry->backend) || strchr(value, '/'))
			return refuse(e, text, key, value, "give the driver domain's name or number");
		strcpy(entry->backend, value);
	} else {
		return vgpuxl_error_set(e, EINVAL, "vgpu entry \"%s\": there is no key \"%s\": the keys are " KEYS,
					text, key);
	}
	return 0;
}

static char *trim(char *s)
{
	size_t len;

	while (isspace((unsigned char)*s))
		s++;
	len = strlen(s);
	while (len && isspace((unsigned char)s[len - 1]))
		s[--len] = '\0';
	return s;
}

static int parse(const char *text, struct vgpuxl_entry *entry, unsigned int *seen, struct vgpuxl_error *e)
{
	char *copy, *rest, *item;
	int ret = 0;

	*seen = 0;
	*entry = (struct vgpuxl_entry){ .gpu = "0", .weight = 1, .sessions = VGPUXL_SESSIONS_DEFAULT, .backend = "0" };
	rest = copy = strdup(text);
	if (!copy)
		return vgpuxl_error_set(e, ENOMEM, "vgpu entry \"%s\": out of memory", text);

	while (!ret && (item = strsep(&rest, ","))) {
		char *key = trim(item), *value = strchr(item, '=');

		if (!value) {
			/* An empty entry is a device with every default. A stray comma is a slip. */
			if (!*key && !rest && item == copy)
				break;
			ret = vgpuxl_error_set(e, EINVAL, "vgpu entry \"%s\": \"%s\" is not key=value: the keys are " KEYS,
					       text, key);
			break;
		}
		*value++ = '\0';
		key = trim(key);
		value = trim(value);
		for (unsigned int i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
			if (strcmp(key, keys[i].name))
				continue;
			if (*seen & keys[i].bit)
				ret = vgpuxl_error_set(e, EINVAL, "vgpu entry \"%s\": %s is given twice: say it once",
						       text, key);
			*seen |= keys[i].bit;
		}
		if (!ret)
			ret = set(text, key, value, entry, e);
	}
	free(copy);
	return ret;
}

int vgpuxl_entry_parse(const char *text, struct vgpuxl_entry *entry, struct vgpuxl_error *e)
{
	unsigned int seen;

	return parse(text, entry, &seen, e);
}

int vgpuxl_change_parse(const char *text, struct vgpuxl_entry *entry, unsigned int *which, struct vgpuxl_error *e)
{
	int ret = parse(text, entry, which, e);

	if (ret)
		return ret;
	if (*which & ~(VGPUXL_SET_MEMORY | VGPUXL_SET_WEIGHT | VGPUXL_SET_SESSIONS))
		return vgpuxl_error_set(e, EINVAL, "change \"%s\": gpu and backend cannot change while a device lives: detach it "
					"and attach another one", text);
	if (!*which)
		return vgpuxl_error_set(e, EINVAL, "nothing to change: give memory=MiB, weight=N or sessions=N");
	return 0;
}

void vgpuxl_entry_print(const struct vgpuxl_entry *entry, char *buf, unsigned int size)
{
	snprintf(buf, size, "gpu=%s,memory=%u,weight=%u,sessions=%u,backend=%s", entry->gpu, entry->memory, entry->weight,
		 entry->sessions, entry->backend);
}
