// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-block: who may have a disk that another has. On a xenstore of this file's own, with this machine's loop devices; needs root.
 * TAP.
 */
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <unistd.h>

#define LOCK_DIR	"/run/vgpu-block-test"
#define main		block_main
int block_main(int argc, char **argv);
#define usleep(us)	((void)(us))	/* nobody takes a loop device over here */
#include "block/block.c"
#undef main
#undef usleep

/* ---- As much of a xenstore as block.c uses; its processes share it. */

#define NODES_MAX 128

static struct node {
	char path[128], value[600];
} *nodes;

static struct node *find(const char *path)
{
	for (int i = 0; i < NODES_MAX; i++)
		if (!strcmp(nodes[i].path, path))
			return &nodes[i];
	return NULL;
}

static void set(const char *path, const char *value)
{
	struct node *n = find(path);

	n = n ? n : find("");
	snprintf(n->path, sizeof(n->path), "%s", path);
	snprintf(n->value, sizeof(n->value), "%s", value);
}

struct xs_handle *xs_open(unsigned long flags)
{
	return (struct xs_handle *)nodes;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
	struct node *n = find(path);

	errno = ENOENT;
	*len = n ? (unsigned int)strlen(n->value) : 0;
	return n ? strdup(n->value) : NULL;
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned int len)
{
	set(path, data);
	return true;
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	for (int i = 0; i < NODES_MAX; i++)
		if (!strncmp(nodes[i].path, path, strlen(path)))
			nodes[i].path[0] = 0;
	return true;
}

char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *count)
{
	char **list = calloc(NODES_MAX, sizeof(*list));
	size_t len = strlen(path);

	*count = 0;
	for (int i = 0; i < NODES_MAX; i++) {
		char name[128];
		unsigned int j = 0;

		if (strncmp(nodes[i].path, path, len) || nodes[i].path[len] != '/')
			continue;
		snprintf(name, sizeof(name), "%s", nodes[i].path + len + 1);
		name[strcspn(name, "/")] = 0;
		while (j < *count && strcmp(list[j], name))
			j++;
		if (j == *count)
			list[(*count)++] = strdup(name);
	}
	return list;
}

/* ---- */

static int count, failed;

static void ok(bool good, const char *what)
{
	failed += !good;
	printf("%sok %d - %s\n", good ? "" : "not ", ++count, what);
	fflush(stdout);
}

static const char *backend(int domid)
{
	static char path[4][64];
	static unsigned int turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[0]), "/local/domain/0/backend/vbd/%d/51712", domid);
	return path[turn];
}

static const char *node(int domid, const char *key)
{
	static char path[4][96];
	static unsigned int turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[0]), "%s/%s", backend(domid), key);
	return path[turn];
}

static const char *value(int domid, const char *key)
{
	struct node *n = find(node(domid, key));

	return n ? n->value : "";
}

static pid_t script(int domid, const char *command)
{
	pid_t pid = fork();

	if (!pid) {
		char *argv[] = { "vgpu-block", (char *)command, NULL };

		/* What goes wrong on purpose is no message of this test. */
		if (!freopen("/dev/null", "w", stderr))
			_exit(3);
		setenv("XENBUS_PATH", backend(domid), 1);
		_exit(block_main(2, argv));
	}
	return pid;
}

static bool ended_well(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

static pid_t begin_add(int domid, const char *file, const char *mode)
{
	char text[64];

	snprintf(text, sizeof(text), "%d", domid);
	set(node(domid, "frontend-id"), text);
	set(node(domid, "params"), file);
	set(node(domid, "mode"), mode);
	snprintf(text, sizeof(text), "/local/domain/%d/vm", domid);
	if (!find(text)) {
		char vm[64];

		snprintf(vm, sizeof(vm), "/vm/%d", domid);
		set(text, vm);
	}
	return script(domid, "add");
}

static bool added(int domid, const char *file, const char *mode)
{
	return ended_well(begin_add(domid, file, mode));
}

static bool refused(int domid, const char *file, const char *mode, const char *text)
{
	bool good = !added(domid, file, mode) && strstr(value(domid, "hotplug-error"), text) && !*value(domid, "physical-device") &&
		    strstr(value(domid, "hotplug-error"), file);

	if (!good)
		printf("# %s\n", value(domid, "hotplug-error"));
	return good;
}

static void removed(int domid)
{
	ended_well(script(domid, "remove"));
	xs_rm(NULL, XBT_NULL, backend(domid));
}

static void sharing(const char *file, const char *other_name)
{
	pid_t one, two;

	ok(added(1, file, "w"), "a domain gets a disk to write");
	ok(refused(2, file, "w", "is mounted in a guest domain (1"), "then no other does");
	ok(refused(2, other_name, "w", "and so cannot be mounted now"), "by another name of it, either");
	ok(refused(2, file, "r", "is mounted read-write in a guest domain (1"), "nor to read it");
	ok(added(2, file, "w!"), "unless it is said with an exclamation mark");
	removed(2);
	removed(1);
	ok(added(1, file, "r") && added(2, file, "r"), "two domains read one disk");
	ok(refused(3, file, "w", "is mounted in a guest domain"), "which nobody may write meanwhile");
	removed(1);
	ok(refused(3, file, "w", "is mounted in a guest domain (2"), "until the last has gone");
	removed(2);
	ok(added(3, file, "w"), "then it may");
	set("/local/domain/4/vm", "/vm/3");
	ok(added(4, file, "w"), "as may the same machine again");
	removed(4);
	set("/local/domain/5/target", "3");
	ok(added(5, file, "w"), "and its device model");
	removed(5);
	xs_rm(NULL, XBT_NULL, "/local/domain/5/target");
	xs_rm(NULL, XBT_NULL, "/local/domain/3");
	ok(added(6, file, "w"), "what a domain left that is gone is in nobody's way");
	removed(6);
	removed(3);

	one = begin_add(7, file, "w");
	two = begin_add(8, file, "w");
	ok(ended_well(one) + ended_well(two) == 1, "of two that come at once one gets it");
	removed(7);
	removed(8);
}

int main(void)
{
	char folder[] = "/tmp/vgpu-block.XXXXXX", file[64], other[64], where[64], command[512];

	if (geteuid() || access("/dev/loop-control", R_OK | W_OK)) {
		printf("1..0 # SKIP needs root and loop devices\n");
		return 0;
	}
	nodes = mmap(NULL, NODES_MAX * sizeof(*nodes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (nodes == MAP_FAILED || !mkdtemp(folder))
		return 1;
	snprintf(file, sizeof(file), "%s/disk", folder);
	snprintf(other, sizeof(other), "%s/other", folder);
	snprintf(where, sizeof(where), "%s/where", folder);
	snprintf(command, sizeof(command), "truncate -s 4M %s && ln %s %s && mkfs.ext2 -q -F %s && mkdir %s", file, file, other, file, where);
	if (system(command))
		return 1;
	sharing(file, other);

	snprintf(command, sizeof(command), "mount -o loop,ro %s %s", file, where);
	if (!system(command)) {
		ok(refused(1, file, "w", "in the privileged domain"), "what this domain has mounted nobody writes");
		ok(added(1, file, "r"), "who reads may have it as long as it is mounted to read");
		removed(1);
		snprintf(command, sizeof(command), "mount -o remount,rw %s 2>/dev/null || { umount %s && mount -o loop %s %s; }", where, where, file, where);
		ok(!system(command) && refused(1, file, "r", "is mounted read-write in the privileged domain"), "and not longer");
		umount(where);
	} else {
		printf("# ext2 is not mounted here\n");
	}
	snprintf(command, sizeof(command), "rm -rf %s " LOCK_DIR, folder);
	ok(!system(command) && !find("/local/domain/0/backend/vbd"), "nothing is left");
	printf("1..%d\n", count);
	return failed != 0;
}
