/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of vgpuctl. */
#ifndef VGPUCTL_H
#define VGPUCTL_H

#include "vgpuxl.h"

/* Probing a device takes milliseconds; the rest is for a driver domain that is just loading the module. */
#define BACKEND_TIMEOUT_MS 10000

/* vgpuctl.c */
int fail(const char *text);
char *join_lines(char **lines, int n);
void ensure_daemon(void);

/* create.c, show.c: commands; argv[0] is the command's name. @return the exit status. */
int create_command(int argc, char **argv);
int list_command(int argc, char **argv);
int stats_command(int argc, char **argv);

#endif /* VGPUCTL_H */
