// SPDX-License-Identifier: Apache-2.0
/*
 * A container's root: what is mounted in it is as it was asked for or refused, and what an image has at the places where something
 * is to be mounted or made is not trusted; as test_agent.c, without Xen. Needs root.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "pod.h"
#include "tap.h"
#include "vgpuagent.h"

/* The usual mounts and one more. */
static struct vgpu_agent_mount more[5];
#define WITH_MORE CONTAINER, .mounts = more, .mount_count = 5

static const char *in_folder(const char *name)
{
	static char path[4][192];
	static unsigned int turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[0]), "%s/%s", folder, name);
	return path[turn];
}

static const char *in_root(const char *name)
{
	static char path[4][192];
	static unsigned int turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[0]), "%s/%s", root, name);
	return path[turn];
}

/* ---- Options of bind mounts */

static int bind_tree(const char *options)
{
	static char data[256];

	more[4] = (struct vgpu_agent_mount){ .source = in_folder("tree"), .path = "/tree" };
	return vgpu_agent_mount_options(options, &more[4], data, sizeof(data), &e);
}

static int agentctl(const char *arguments)
{
	char command[1024];
	int status;

	vgpu_agent_close(pod);
	snprintf(command, sizeof(command), "build/bin/vgpu-agentctl -w 5000 -a %s %s </dev/null >%s/said 2>&1", sock, arguments, folder);
	status = system(command);
	connect_pod();
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void bind_options(void)
{
	struct vgpu_agent_mount tree[] = {
		{ .source = "tmpfs", .path = in_folder("tree"), .type = "tmpfs" },
		{ .source = "tmpfs", .path = in_folder("tree/below"), .type = "tmpfs" },
	};
	static const char *const none[] = { "rbind,readonly", "rbind,r0", "bind,nosuid,nodev,rnosuidd", "rbind,size=1m" };
	char command[512];

	ok(!vgpu_agent_mount(pod, tree, 2, &e), "a tree of two mounts");
	ok(!bind_tree("rbind,rro") && sh("touch /tree/x; touch /tree/below/x; ls /tree/below", WITH_MORE) == 0 && said("") && !strstr(output, "x") &&
	   strstr(errors, "/tree/x") && strstr(errors, "/tree/below/x"), "rro makes it read-only with all below it");
	ok(!bind_tree("rbind,ro") && sh("touch /tree/below/ok && touch /tree/no", WITH_MORE) != 0 && strstr(errors, "/tree/no"), "ro the mount itself, as everywhere");
	ok(!bind_tree("rbind,rnosuid,rnodev,rnoexec,rnoatime") && sh("grep /tree /proc/self/mounts", WITH_MORE) == 0 &&
	   said("/tree/below tmpfs rw,nosuid,nodev,noexec,noatime"), "rnosuid, rnodev, rnoexec and rnoatime likewise");
	ok(!bind_tree("rbind,rnosuid,rro,rsuid,rrw") && sh("touch /tree/below/ok", WITH_MORE) == 0, "the last word counts");
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		ok(bind_tree(none[i]) && e.code == EINVAL && strstr(e.text, strrchr(none[i], ',') + 1), "a bind mount with %s is refused", none[i]);
	more[4] = (struct vgpu_agent_mount){ .source = in_folder("tree"), .path = "/tree", .flags = MS_BIND | MS_REC, .data = "rro" };
	ok(sh("true", WITH_MORE) == -1 && e.code == EINVAL && strstr(e.text, "/tree") && strstr(e.text, "rro"), "by the agent as well (%s)", e.text);
	ok(vgpu_agent_mount(pod, &more[4], 1, &e) == -1 && e.code == EINVAL, "also in the pod itself");
	more[4] = (struct vgpu_agent_mount){ .source = in_folder("tree"), .path = "/tree", .flags = MS_BIND | MS_REC, .recursive_set = 1ull << 40 };
	ok(sh("true", WITH_MORE) == -1 && strstr(e.text, "/tree"), "a recursive flag that there is not is an error");

	snprintf(command, sizeof(command), "run --root %s --mount /usr:/usr --mount %s:/tree::ro sh -c 'touch /tree/no'", root, in_folder("tree"));
	ok(agentctl(command) == 1, "vgpu-agentctl run --mount A:B::ro binds, and read-only");
	snprintf(command, sizeof(command), "run --root %s --mount /usr:/usr --mount %s:/tree::bind sh -c 'touch /tree/yes && ! ls /tree/below | grep .'", root, in_folder("tree"));
	ok(agentctl(command) == 0, "with ::bind not what is mounted below");
	snprintf(command, sizeof(command), "run --root %s --mount /usr:/usr --mount %s:/tree::readonly true", root, in_folder("tree"));
	ok(agentctl(command) != 0, "and a word that it does not know is refused");
	vgpu_agent_unmount(pod, in_folder("tree/below"), NULL);
	vgpu_agent_unmount(pod, in_folder("tree"), NULL);
}

/* ---- Links of an image at mount points */

static void mount_on_links(void)
{
	char target[300];

	ok(!symlink("/run/deep", in_root("link")) && !symlink("../a/../b/c", in_root("link2")) && !symlink("link", in_root("link3")) &&
	   !symlink("/loop", in_root("loop")) && !symlink("../run/resolve/stub", in_root("etc/resolv.conf")) &&
	   !symlink("../../../../../../tmp/vgpu-agent-escaped", in_root("out")), "an image with links that lead nowhere");
	more[4] = (struct vgpu_agent_mount){ .source = "tmpfs", .path = "/link/x", .type = "tmpfs" };
	ok(sh("grep -c /run/deep/x /proc/self/mounts", WITH_MORE) == 0 && said("1"), "something is mounted below one: where it leads, in the image");
	more[4].path = "/link2";
	ok(sh("grep -c ' /b/c ' /proc/self/mounts", WITH_MORE) == 0 && said("1"), "or on one that is relative");
	more[4].path = "/link3/y/z";
	ok(sh("grep -c /run/deep/y/z /proc/self/mounts", WITH_MORE) == 0 && said("1"), "or on one that leads to another");
	more[4] = (struct vgpu_agent_mount){ .source = "/etc/hostname", .path = "/etc/resolv.conf", .flags = MS_BIND };
	ok(sh("cmp /etc/resolv.conf /run/resolve/stub && grep -c /run/resolve/stub /proc/self/mounts", WITH_MORE) == 0 && said("1"), "a file as well, as resolv.conf is");
	more[4].path = "/out";
	snprintf(target, sizeof(target), "%s", in_root("tmp/vgpu-agent-escaped"));
	ok(sh("test -s /out", CONTAINER, .mounts = (const struct vgpu_agent_mount[]){ mounts[0], mounts[1], more[4] }, .mount_count = 3) == 0 &&
	   access("/tmp/vgpu-agent-escaped", F_OK) && !access(target, F_OK), "none leads out of it");
	more[4].path = "/loop/x";
	ok(sh("true", WITH_MORE) == -1 && e.code == ELOOP && strstr(e.text, "/loop/x"), "one that leads to itself is an error");
	more[4].path = "/loop";
	ok(sh("true", WITH_MORE) == -1 && e.code == ELOOP, "for a file, too");
	ok(sh("pwd", CONTAINER, .cwd = "/link/cwd") == 0 && said("/run/deep/cwd"), "a working directory likewise");
	unlink(in_root("loop"));
}

/* ---- What an image has at the places of devices */

static bool has_pipe(uint32_t mode, uint32_t uid, const char *seen)
{
	struct vgpu_agent_device pipe = { "/dev/pipe", 'p', 0, 0, mode, uid, 0 };

	return sh("[ -p /dev/pipe ] && stat -c %a:%u /dev/pipe", .root = root, .mounts = mounts, .mount_count = 4, .devices = &pipe, .device_count = 1) == 0 && said(seen);
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_mode & 07777;
}

static void devices(void)
{
	char victim[192];
	int fd;

	snprintf(victim, sizeof(victim), "%s/victim", folder);
	fd = open(victim, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	unlink(in_root("dev/null"));
	ok(!symlink(victim, in_root("dev/null")) && sh("true", CONTAINER) == -1 && e.code == EEXIST && strstr(e.text, "/dev/null") && mode_of(victim) == 0600,
	   "a link at the place of a device is refused, and what it leads to stays as it is (%s)", e.text);
	unlink(in_root("dev/null"));
	fd = open(in_root("dev/null"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	ok(sh("true", CONTAINER) == -1 && e.code == EEXIST && mode_of(in_root("dev/null")) == 0600, "so is a file");
	unlink(in_root("dev/null"));
	mknod(in_root("dev/null"), S_IFCHR | 0600, makedev(1, 5));
	ok(sh("true", CONTAINER) == -1 && e.code == EEXIST, "or another device");
	unlink(in_root("dev/null"));
	mknod(in_root("dev/null"), S_IFCHR | 0600, makedev(1, 3));
	ok(sh("stat -c %a /dev/null", CONTAINER) == 0 && said("666"), "that device itself is taken, and gets its mode");
	ok(has_pipe(0620, 7, "620:7"), "a FIFO is made");
	ok(has_pipe(0640, 8, "640:8"), "and found again");
}

static void working_directory(void)
{
	ok(sh("pwd; stat -c %a /work/of/it; touch /work/of/it/x 2>&1; umask", CONTAINER, .cwd = "/work/of/it", .readonly_root = true,
	      .umask = VGPU_AGENT_UMASK | 0137) == 0 && said("/work/of/it\n755\n") && said("Read-only") && said("0137"),
	   "a read-only root gets the working directory that it does not have, whatever the umask");
	ok(sh("true", CONTAINER, .cwd = "/proc/no/such", .readonly_root = true) == -1 && strstr(e.text, "/proc/no/such"), "one that cannot be made is named");
}

/* While anything is renamed the kernel wants to be asked again about a path with "..". In memory renaming is fastest. */
static void renamed_meanwhile(void)
{
	char busy[] = "/dev/shm/agent-test.XXXXXX", a[64], b[64];
	struct vgpu_agent_file file;
	int refused = 0, fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	pid_t pid;

	ok(mkdtemp(busy), "a directory in memory");
	snprintf(a, sizeof(a), "%s/a", busy);
	snprintf(b, sizeof(b), "%s/b", busy);
	mkdir(a, 0700);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (!rename(a, b) && !rename(b, a))
			;
		_exit(1);
	}
	for (int i = 0; i < 3000; i++)
		refused += vgpu_agent_get(pod, NULL, "/usr/lib/../../usr/bin/../../etc/hostname", &file, fd, &e) != 0;
	ok(!refused && waitpid(pid, NULL, WNOHANG) == 0, "a path that goes up is followed while other files are renamed (%d of 3000 are not%s%s)",
	   refused, refused ? ": " : "", refused ? e.text : "");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd);
	rmdir(a);
	rmdir(b);
	rmdir(busy);
}

int main(int argc, char **argv)
{
	if (!begin(argc > 1 ? argv[1] : NULL))
		return tap_failed;
	ok(make_root(), "a container's root");
	memcpy(more, mounts, sizeof(mounts));
	bind_options();
	mount_on_links();
	devices();
	working_directory();
	renamed_meanwhile();
	ok(!vgpu_agent_shutdown(pod, 20000, false, &e), "the pod ends");
	vgpu_agent_close(pod);
	waitpid(daemon_pid, NULL, 0);
	remove_folder();
	return tap_done();
}
