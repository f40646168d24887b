// SPDX-License-Identifier: Apache-2.0
/* In the child: who the process is and what it may. */
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <unistd.h>

#include "init.h"

static bool number(const char *text, uint32_t *value)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (!*text || *end || n >= UINT32_MAX || text[0] == '-')
		return false;
	*value = n;
	return true;
}

static void add_group(struct identity *id, gid_t gid)
{
	for (int i = 0; i < id->group_count; i++)
		if (id->groups[i] == gid)
			return;
	if (id->group_count < (int)(sizeof(id->groups) / sizeof(id->groups[0])))
		id->groups[id->group_count++] = gid;
}

/* Only files of the root are read, and no name service: this program is static and its root anybody's. */
static FILE *open_list(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	FILE *file = NULL;

	/* Nothing that would be waited for. */
	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode))
		file = fdopen(fd, "r");
	if (fd >= 0 && !file)
		close(fd);
	return file;
}

static int user_entry(const char *user, struct identity *id, char *name, size_t size)
{
	FILE *file = open_list("/etc/passwd");
	struct passwd *entry;
	uint32_t uid;
	bool by_number = number(user, &uid);

	if (by_number)
		id->uid = uid;
	while (file && (entry = fgetpwent(file)))
		if (by_number ? entry->pw_uid == uid : !strcmp(entry->pw_name, user)) {
			id->uid = entry->pw_uid;
			id->gid = entry->pw_gid;
			snprintf(name, size, "%s", entry->pw_name);
			fclose(file);
			return 0;
		}
	if (file)
		fclose(file);
	return by_number ? 0 : -1;
}

static int group_entries(const char *group, const char *user, struct identity *id)
{
	FILE *file = open_list("/etc/group");
	struct group *entry;
	uint32_t gid;
	bool found = group && number(group, &gid);

	if (found)
		id->gid = gid;
	while (file && (entry = fgetgrent(file))) {
		if (group && !found && !strcmp(entry->gr_name, group)) {
			id->gid = entry->gr_gid;
			found = true;
		}
		for (char **member = entry->gr_mem; !group && *user && *member; member++)
			if (!strcmp(*member, user))
				add_group(id, entry->gr_gid);
	}
	if (file)
		fclose(file);
	return group && !found ? -1 : 0;
}

/* As other runtimes have it: by the number alone, and "/" for whoever has none. */
static void look_up_home(struct identity *id)
{
	FILE *file = open_list("/etc/passwd");
	struct passwd *entry;

	strcpy(id->home, "/");
	while (file && (entry = fgetpwent(file)))
		if (entry->pw_uid == id->uid) {
			if (entry->pw_dir[0] == '/' && strlen(entry->pw_dir) < sizeof(id->home))
				strcpy(id->home, entry->pw_dir);
			break;
		}
	if (file)
		fclose(file);
}

int creds_look_up(const struct spec *s, struct identity *id, struct failure *f)
{
	char user[256] = "", name[256] = "", *group = NULL;

	memset(id, 0, sizeof(*id));
	id->uid = s->uid;
	id->gid = s->gid;
	for (size_t i = 0; i < s->groups.count; i++)
		add_group(id, *LIST_ITEM(&s->groups, uint32_t, i));
	if (!s->user) {
		look_up_home(id);
		return 0;
	}
	snprintf(user, sizeof(user), "%s", s->user);
	group = strchr(user, ':');
	if (group)
		*group++ = 0;
	if (user_entry(user, id, name, sizeof(name)))
		return refuse(f, ENOENT, "there is no user %s in the process's /etc/passwd", user);
	if (group_entries(group, name, id))
		return refuse(f, ENOENT, "there is no group %s in the process's /etc/group", group);
	look_up_home(id);
	return 0;
}

/* What programs expect, not what PID 1 has for itself: some close every descriptor that there may be. */
static int default_limits(struct failure *f)
{
	struct rlimit own, limit = { .rlim_cur = 1024, .rlim_max = 524288 };

	if (!getrlimit(RLIMIT_NOFILE, &own) && own.rlim_max < limit.rlim_max)
		limit.rlim_max = own.rlim_max;
	if (limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &limit) ? fail(f, "cannot limit its descriptors to %u", 1024) : 0;
}

int creds_limits(const struct spec *s, struct failure *f)
{
	char text[16];
	int fd;

	if (default_limits(f))
		return -1;
	for (size_t i = 0; i < s->rlimits.count; i++) {
		const struct spec_rlimit *r = LIST_ITEM(&s->rlimits, struct spec_rlimit, i);
		struct rlimit limit = { .rlim_cur = r->soft, .rlim_max = r->hard };

		if (r->resource >= RLIM_NLIMITS || setrlimit(r->resource, &limit))
			return fail(f, "cannot set resource limit %llu to %llu, %llu", (unsigned long long)r->resource,
				    (unsigned long long)r->soft, (unsigned long long)r->hard);
	}
	if (s->has_oom_score) {
		int len = snprintf(text, sizeof(text), "%d", s->oom_score_adj);

		fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, text, len) != len)
			return fail(f, "cannot set the OOM score to %d", s->oom_score_adj);
		close(fd);
	}
	umask(s->has_umask ? s->umask & 0777 : 022);
	return 0;
}

static int install_seccomp(const struct spec *s, struct failure *f)
{
	for (size_t i = 0; i < s->seccomp.count; i++) {
		const struct spec_bpf *bpf = LIST_ITEM(&s->seccomp, struct spec_bpf, i);
		struct sock_fprog program = { .len = bpf->len / sizeof(struct sock_filter) };

		/* The kernel wants it aligned, the wire has it anywhere. */
		program.filter = malloc(bpf->len);
		if (program.filter)
			memcpy(program.filter, bpf->code, bpf->len);
		if (!program.filter || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, s->seccomp_flags, &program))
			return fail(f, "cannot install its seccomp filter");
		free(program.filter);
	}
	return 0;
}

enum { BOUNDING, EFFECTIVE, INHERITABLE, PERMITTED, AMBIENT };

static int set_capabilities(const struct spec *s, struct failure *f)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	const uint64_t *set = s->capabilities;

	for (int i = 0; i < 2; i++) {
		data[i].effective = set[EFFECTIVE] >> 32 * i;
		data[i].permitted = set[PERMITTED] >> 32 * i;
		data[i].inheritable = set[INHERITABLE] >> 32 * i;
	}
	if (syscall(SYS_capset, &head, data))
		return fail(f, "cannot set its capabilities (permitted %#llx)", (unsigned long long)set[PERMITTED]);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int i = 0; i < 64; i++)
		if (set[AMBIENT] & 1ull << i && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0))
			return fail(f, "cannot raise the ambient capability %d", i);
	return 0;
}

int creds_drop(const struct spec *s, const struct identity *id, struct failure *f)
{
	if (s->has_capabilities)
		for (int i = 0; i < 64; i++)
			if (!(s->capabilities[BOUNDING] & 1ull << i) && prctl(PR_CAPBSET_READ, i) == 1 && prctl(PR_CAPBSET_DROP, i))
				return fail(f, "cannot drop capability %d", i);
	if (setgroups(id->group_count, id->groups) || setresgid(id->gid, id->gid, id->gid))
		return fail(f, "cannot become group %u", id->gid);
	if (s->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return fail(f, "cannot set no_new_privs");
	/* Without no_new_privs a filter needs the capability that is about to go; with it, it comes last. */
	if (!s->no_new_privs && install_seccomp(s, f))
		return -1;
	if (s->has_capabilities && prctl(PR_SET_KEEPCAPS, 1))
		return fail(f, "cannot keep capabilities");
	if (setresuid(id->uid, id->uid, id->uid))
		return fail(f, "cannot become user %u", id->uid);
	if (s->has_capabilities && set_capabilities(s, f))
		return -1;
	prctl(PR_SET_KEEPCAPS, 0);
	return s->no_new_privs ? install_seccomp(s, f) : 0;
}
