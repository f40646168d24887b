/* SPDX-License-Identifier: Apache-2.0 */
/* vgpu-agentctl: a host's command line into a pod. */
#ifndef AGENTCTL_H
#define AGENTCTL_H

#include "vgpuagent.h"

#define EXIT_USAGE	2
#define EXIT_FAILED	125	/* not the program in the pod, but the way there */

extern const char *address;
extern bool lost_signal;	/* -k */

/* Connects, or says why not and exits. */
struct vgpu_agent *open_pod(void);
/* "vgpu-agentctl: what: why", and the exit status. When the pod is lost and -k was given: dies of SIGUSR2. */
int failed(const char *what, const struct vgpu_agent_error *e);
int usage_of(const char *command);
/* A growing list of strings that ends with NULL. */
void add(const char ***list, const char *value);
int write_all(int fd, const void *data, size_t len);
/* A name or a number; -1: neither. */
int signal_number(const char *text);

int command_run(int argc, char **argv);
int command_attach(int argc, char **argv);
int command_copy(int argc, char **argv);
int command_hub(int argc, char **argv);
int command_dial(int argc, char **argv);
int command_info(int argc, char **argv);
int command_list(int argc, char **argv);
int command_start(int argc, char **argv);
int command_wait(int argc, char **argv);
int command_signal(int argc, char **argv);
int command_delete(int argc, char **argv);
int command_update(int argc, char **argv);
int command_stats(int argc, char **argv);
int command_events(int argc, char **argv);
int command_mount(int argc, char **argv);
int command_unmount(int argc, char **argv);
int command_time(int argc, char **argv);
int command_network(int argc, char **argv);
int command_shutdown(int argc, char **argv);

#endif /* AGENTCTL_H */
