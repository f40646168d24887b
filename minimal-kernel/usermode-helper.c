// SPDX-License-Identifier: Apache-2.0
/*
 * /sbin/usermode-helper: the only program the pod's kernel ever starts by itself (CONFIG_STATIC_USERMODEHELPER).
 *
 * The kernel keeps the name it would have run in argv[0]. Two are answered, both from `xl shutdown` and `xl reboot`
 * by way of drivers/xen/manage.c: PID 1 is told, and shuts the pod down in order. Everything else (loading a module, a
 * core pattern with a pipe, hot-plug helpers) is refused: nothing in a pod needs it, and each was once a way out of a
 * container.
 */
#include <signal.h>
#include <string.h>

int main(int argc, char **argv)
{
	const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;

	name = name ? name + 1 : "";
	if (!strcmp(name, "poweroff"))
		return kill(1, SIGPWR) ? 1 : 0;
	if (!strcmp(name, "reboot"))
		return kill(1, SIGINT) ? 1 : 0;
	return 1;
}
