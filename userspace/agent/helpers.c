// SPDX-License-Identifier: Apache-2.0
/* Text as people and the OCI write it, into what goes on the wire. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cap-ng.h>
#include <json-c/json.h>
#include <seccomp.h>

#include "internal.h"

static const struct {
	const char *name;
	uint64_t set, clear, propagation;
} options[] = {
	{ "defaults", 0, 0, 0 },
	{ "ro", MS_RDONLY, 0, 0 }, { "rw", 0, MS_RDONLY, 0 },
	{ "nosuid", MS_NOSUID, 0, 0 }, { "suid", 0, MS_NOSUID, 0 },
	{ "nodev", MS_NODEV, 0, 0 }, { "dev", 0, MS_NODEV, 0 },
	{ "noexec", MS_NOEXEC, 0, 0 }, { "exec", 0, MS_NOEXEC, 0 },
	{ "sync", MS_SYNCHRONOUS, 0, 0 }, { "async", 0, MS_SYNCHRONOUS, 0 },
	{ "dirsync", MS_DIRSYNC, 0, 0 }, { "remount", MS_REMOUNT, 0, 0 },
	{ "noatime", MS_NOATIME, 0, 0 }, { "atime", 0, MS_NOATIME, 0 },
	{ "nodiratime", MS_NODIRATIME, 0, 0 }, { "diratime", 0, MS_NODIRATIME, 0 },
	{ "relatime", MS_RELATIME, 0, 0 }, { "norelatime", 0, MS_RELATIME, 0 },
	{ "strictatime", MS_STRICTATIME, 0, 0 }, { "nostrictatime", 0, MS_STRICTATIME, 0 },
	{ "bind", MS_BIND, MS_REC, 0 }, { "rbind", MS_BIND | MS_REC, 0, 0 },
	{ "private", 0, 0, MS_PRIVATE }, { "rprivate", 0, 0, MS_PRIVATE | MS_REC },
	{ "slave", 0, 0, MS_SLAVE }, { "rslave", 0, 0, MS_SLAVE | MS_REC },
	{ "shared", 0, 0, MS_SHARED }, { "rshared", 0, 0, MS_SHARED | MS_REC },
	{ "unbindable", 0, 0, MS_UNBINDABLE }, { "runbindable", 0, 0, MS_UNBINDABLE | MS_REC },
};

/* The same for all mounts below as well. */
static const struct {
	const char *name;
	uint64_t set, clear;
} recursive[] = {
	{ "rro", MOUNT_ATTR_RDONLY, 0 }, { "rrw", 0, MOUNT_ATTR_RDONLY },
	{ "rnosuid", MOUNT_ATTR_NOSUID, 0 }, { "rsuid", 0, MOUNT_ATTR_NOSUID },
	{ "rnodev", MOUNT_ATTR_NODEV, 0 }, { "rdev", 0, MOUNT_ATTR_NODEV },
	{ "rnoexec", MOUNT_ATTR_NOEXEC, 0 }, { "rexec", 0, MOUNT_ATTR_NOEXEC },
	{ "rnodiratime", MOUNT_ATTR_NODIRATIME, 0 }, { "rdiratime", 0, MOUNT_ATTR_NODIRATIME },
	{ "rnosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0 }, { "rsymfollow", 0, MOUNT_ATTR_NOSYMFOLLOW },
	/* One setting of several values: the old one goes first. */
	{ "rrelatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
	{ "rnorelatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
	{ "rnoatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME }, { "ratime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
	{ "rstrictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
	{ "rnostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
};

static bool is(const char *name, const char *text, size_t len)
{
	return strlen(name) == len && !strncmp(name, text, len);
}

static bool plain_option(const char *text, size_t len, struct vgpu_agent_mount *m)
{
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (is(options[i].name, text, len)) {
			m->flags = (m->flags | options[i].set) & ~options[i].clear;
			m->propagation = options[i].propagation ?: m->propagation;
			return true;
		}
	return false;
}

static bool recursive_option(const char *text, size_t len, struct vgpu_agent_mount *m)
{
	for (size_t i = 0; i < sizeof(recursive) / sizeof(recursive[0]); i++)
		if (is(recursive[i].name, text, len)) {
			m->recursive_set = (m->recursive_set & ~recursive[i].clear) | recursive[i].set;
			/* What is to be cleared is cleared first: only the clock's setting needs both. */
			m->recursive_clear = (m->recursive_clear & ~recursive[i].set) | recursive[i].clear;
			return true;
		}
	return false;
}

int vgpu_agent_mount_options(const char *text, struct vgpu_agent_mount *m, char *data, size_t size, struct vgpu_agent_error *e)
{
	size_t used = 0;

	data[0] = 0;
	while (*text) {
		size_t len = strcspn(text, ",");

		if (len && !plain_option(text, len, m) && !recursive_option(text, len, m)) {
			if (used + len + 2 > size)
				return set_error(e, E2BIG, "the mount's options are too long: %.100s", text);
			used += snprintf(data + used, size - used, "%s%.*s", used ? "," : "", (int)len, text);
		}
		text += len + (text[len] == ',');
	}
	m->data = data[0] ? data : NULL;
	/* Linux drops what it does not know of a bind mount without a word: "readonly" would leave it writable. */
	if (m->data && m->flags & MS_BIND)
		return set_error(e, EINVAL, "a bind mount has no option %.200s: leave it out, or write it as mount(8) and OCI "
				 "do (ro, nosuid, rro …)", data);
	return 0;
}

uint64_t vgpu_agent_capability(const char *name)
{
	char lower[64];
	size_t i;
	int bit;

	if (!strcasecmp(name, "all"))
		return (2ull << CAP_LAST_CAP) - 1;
	if (!strncasecmp(name, "cap_", 4))
		name += 4;
	for (i = 0; name[i] && i + 1 < sizeof(lower); i++)
		lower[i] = tolower((unsigned char)name[i]);
	lower[i] = 0;
	bit = capng_name_to_capability(lower);
	return bit < 0 ? 0 : 1ull << bit;
}

/* ---- seccomp */

static const char *string_of(struct json_object *o, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) && json_object_is_type(value, json_type_string) ?
		       json_object_get_string(value) : NULL;
}

static int64_t number_of(struct json_object *o, const char *key, int64_t otherwise)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) ? json_object_get_int64(value) : otherwise;
}

static int action_of(const char *name, int64_t error, uint32_t *action)
{
	static const struct { const char *name; uint32_t action; } actions[] = {
		{ "SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD }, { "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD },
		{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS }, { "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
		{ "SCMP_ACT_LOG", SCMP_ACT_LOG }, { "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
	};

	if (!name)
		return -1;
	if (!strcmp(name, "SCMP_ACT_ERRNO")) {
		*action = SCMP_ACT_ERRNO(error & 0xffff);
		return 0;
	}
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if (!strcmp(name, actions[i].name)) {
			*action = actions[i].action;
			return 0;
		}
	return -1;
}

static int compare_of(const char *op)
{
	static const char *const names[] = { "", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
					     "SCMP_CMP_MASKED_EQ" };

	for (int i = 1; op && i < 8; i++)
		if (!strcmp(op, names[i]))
			return i;
	return 0;
}

static int add_rule(scmp_filter_ctx ctx, struct json_object *rule, uint32_t otherwise, struct vgpu_agent_error *e)
{
	struct scmp_arg_cmp compare[6];
	struct json_object *names, *args = NULL;
	unsigned int count = 0;
	uint32_t action;

	if (action_of(string_of(rule, "action"), number_of(rule, "errnoRet", EPERM), &action))
		return set_error(e, EINVAL, "the seccomp profile has an action that is not supported: %.60s", string_of(rule, "action") ?: "(none)");
	if (!json_object_object_get_ex(rule, "names", &names) || !json_object_is_type(names, json_type_array))
		return set_error(e, EINVAL, "a rule of the seccomp profile has no \"names\"");
	if (action == otherwise)
		return 0;
	if (json_object_object_get_ex(rule, "args", &args) && json_object_is_type(args, json_type_array))
		for (size_t i = 0; i < json_object_array_length(args) && count < 6; i++) {
			struct json_object *arg = json_object_array_get_idx(args, i);
			int op = compare_of(string_of(arg, "op"));
			uint64_t value = number_of(arg, "value", 0), two = number_of(arg, "valueTwo", 0);
			int64_t index = number_of(arg, "index", -1);

			if (!op || index < 0 || index > 5)
				return set_error(e, EINVAL, "a rule of the seccomp profile compares in a way that is not supported");
			compare[count++] = (struct scmp_arg_cmp){ .arg = index, .op = op, .datum_a = value, .datum_b = two };
		}
	for (size_t i = 0; i < json_object_array_length(names); i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(names, i));
		int number = seccomp_syscall_resolve_name(name), result;

		if (number == __NR_SCMP_ERROR)
			continue;	/* of another architecture or a newer kernel: nobody can call it here */
		result = seccomp_rule_add_array(ctx, action, number, count, compare);
		if (result && result != -EEXIST)
			return set_error(e, -result, "the seccomp profile's rule for %.60s is refused: %s", name, strerror(-result));
	}
	return 0;
}

static int export_filter(scmp_filter_ctx ctx, void **filter, size_t *len, struct vgpu_agent_error *e)
{
	int fd = memfd_create("seccomp", MFD_CLOEXEC), result;
	struct stat st;

	*filter = NULL;
	if (fd < 0)
		return set_error(e, errno, "cannot make a file for the filter: %s", strerror(errno));
	result = seccomp_export_bpf(ctx, fd);
	if (!result && !fstat(fd, &st)) {
		*len = st.st_size;
		*filter = malloc(st.st_size ?: 1);
		if (*filter && pread(fd, *filter, st.st_size, 0) != st.st_size) {
			free(*filter);
			*filter = NULL;
		}
	}
	close(fd);
	return *filter ? 0 : set_error(e, result ? -result : EIO, "cannot compile the seccomp profile: %s", strerror(result ? -result : EIO));
}

int vgpu_agent_seccomp(const char *json, void **filter, size_t *len, struct vgpu_agent_error *e)
{
	struct json_object *root = json_tokener_parse(json), *profile = root, *inner, *rules;
	scmp_filter_ctx ctx = NULL;
	uint32_t otherwise;
	int result = -1;

	*filter = NULL;
	if (!root || !json_object_is_type(root, json_type_object)) {
		set_error(e, EINVAL, "the seccomp profile is no JSON object");
		goto out;
	}
	/* A whole config.json does as well. */
	if (json_object_object_get_ex(root, "linux", &inner) && json_object_object_get_ex(inner, "seccomp", &inner))
		profile = inner;
	if (action_of(string_of(profile, "defaultAction"), number_of(profile, "defaultErrnoRet", EPERM), &otherwise)) {
		set_error(e, EINVAL, "the seccomp profile's defaultAction is not supported: %.60s", string_of(profile, "defaultAction") ?: "(none)");
		goto out;
	}
	ctx = seccomp_init(otherwise);
	if (!ctx) {
		set_error(e, ENOMEM, "libseccomp cannot make a filter");
		goto out;
	}
	/* The daemon decides about no_new_privs. */
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	result = 0;
	if (json_object_object_get_ex(profile, "syscalls", &rules) && json_object_is_type(rules, json_type_array))
		for (size_t i = 0; !result && i < json_object_array_length(rules); i++)
			result = add_rule(ctx, json_object_array_get_idx(rules, i), otherwise, e);
	if (!result)
		result = export_filter(ctx, filter, len, e);
out:
	if (ctx)
		seccomp_release(ctx);
	if (root)
		json_object_put(root);
	return result;
}
