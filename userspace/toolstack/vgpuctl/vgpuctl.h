/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of vgpuctl. */
#ifndef VGPUCTL_H
#define VGPUCTL_H

#include <json-c/json.h>
#include <stddef.h>

#include "vgpuxl.h"

struct xs_handle;

/* Probing a device takes milliseconds; the rest is for a driver domain that is just loading the module. */
#define BACKEND_TIMEOUT_MS 10000

/* main.c */
int fail(const char *text);	/* print it as ours; @return 1 */
/** Take options off the front of @argv: --json sets *@json. @return the first other argument's index, or -1 (told) */
int json_only(int argc, char **argv, bool *json);
/** Print @o as JSON and let go of it. @return 0 */
int print_json(struct json_object *o);
struct json_object *put_string(struct json_object *o, const char *key, const char *value);
struct json_object *put_number(struct json_object *o, const char *key, uint64_t value);
char *join_lines(char **lines, int n);

/* broker.c: the broker's control socket */
/** Connect and send @line. @return the descriptor or -errno */
int broker_ask(const char *line);
/** Everything it answers. @return 0 or -errno; free *@text */
int broker_text(const char *line, char **text);
struct json_object *broker_json(const char *line, int *err);
int no_broker(int err);		/* tells what to do; @return 1 */

/* follow.c: what stays behind; shared with vgpu-xl. @self: the program's name for messages */
extern const char *self_name;
void ensure_daemon(void);
int daemon_serve(int lock, bool foreground);
/** Follow the domain until it is gone for good: here, or in a process of its own. @return an exit status */
int follow(struct vgpuxl_plan *plan, uint32_t domid, bool foreground);

/* commands; argv[0] is the command's name. @return the exit status */
int create_command(int argc, char **argv);
int check_command(int argc, char **argv);
int destroy_command(int argc, char **argv);
int shutdown_command(int argc, char **argv);
int wait_command(int argc, char **argv);
int attach_command(int argc, char **argv);
int detach_command(int argc, char **argv);
int set_command(int argc, char **argv);
int disk_attach_command(int argc, char **argv);
int disk_detach_command(int argc, char **argv);
int list_command(int argc, char **argv);
int show_command(int argc, char **argv);
int stats_command(int argc, char **argv);
int top_command(int argc, char **argv);
int watch_command(int argc, char **argv);

/* list.c */
/** Devices and sessions as xenstore and the broker know them. @return NULL when neither answers (told) */
struct json_object *gather(bool quiet);
const char *json_text(struct json_object *o, const char *key);
uint64_t json_u64(struct json_object *o, const char *key);

#endif /* VGPUCTL_H */
