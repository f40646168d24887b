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

int main(int argc, char **argv)
{
	if (!begin(argc > 1 ? argv[1] : NULL))
		return tap_failed;
	ok(make_root(), "a container's root");
	memcpy(more, mounts, sizeof(mounts));
	bind_options();
	ok(!vgpu_agent_shutdown(pod, 20000, false, &e), "the pod ends");
	vgpu_agent_close(pod);
	waitpid(daemon_pid, NULL, 0);
	remove_folder();
	return tap_done();
}
