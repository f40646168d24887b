// SPDX-License-Identifier: Apache-2.0
/* vgpuctl create, check, destroy, shutdown, wait: a domain's life. Made entirely, or nothing has happened. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xenstore.h>

#include "vgpuctl.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static int read_config(int argc, char **argv, const char *command, struct vgpuxl_config *config)
{
	struct vgpuxl_error e;
	char *extra;
	int ret;

	if (optind >= argc) {
		fprintf(stderr, "vgpuctl: %s: which configuration? vgpuctl %s POD.cfg\n", command, command);
		return -EINVAL;
	}
	extra = join_lines(argv + optind + 1, argc - optind - 1);
	ret = vgpuxl_config_read(argv[optind], extra, config, &e);
	free(extra);
	if (ret)
		fail(e.text);
	return ret;
}

static void tell(const struct vgpuxl_plan *plan, uint32_t domid, bool paused, bool json)
{
	unsigned int n = vgpuxl_plan_devices(plan);

	if (json) {
		struct json_object *o = json_object_new_object();

		put_number(o, "domain", domid);
		put_string(o, "name", vgpuxl_plan_name(plan));
		put_number(o, "devices", n);
		json_object_object_add(o, "paused", json_object_new_boolean(paused));
		print_json(o);
	} else {
		printf("domain %u (%s) has %u vgpu device%s%s\n", domid, vgpuxl_plan_name(plan), n, n == 1 ? "" : "s",
		       paused ? " and is paused" : "");
	}
	fflush(stdout);
}

int create_command(int argc, char **argv)
{
	static const struct option options[] = {
		{ "paused", no_argument, NULL, 'p' },	  { "no-follow", no_argument, NULL, 'e' },
		{ "foreground", no_argument, NULL, 'F' }, { "json", no_argument, NULL, 'j' }, { 0 }
	};
	bool paused = false, alone = false, foreground = false, json = false;
	struct sigaction sa = { .sa_handler = on_signal };
	struct vgpuxl_config config;
	struct vgpuxl_plan *plan;
	struct vgpuxl_error e, undo;
	uint32_t domid;
	int c, ret;

	while ((c = getopt_long(argc, argv, "+peFj", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			paused = true;
			break;
		case 'e':
			alone = true;
			break;
		case 'F':
			foreground = true;
			break;
		case 'j':
			json = true;
			break;
		default:
			return 2;
		}
	}
	if (read_config(argc, argv, "create", &config))
		return 1;
	ret = vgpuxl_plan_config(&config, &plan, &e);
	if (ret) {
		vgpuxl_config_free(&config);
		return fail(e.text);
	}
	if (config.nentries)
		ensure_daemon();
	vgpuxl_config_free(&config);

	/* From here on an interrupted step ends, then everything is undone. */
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	ret = vgpuxl_create_plan(plan, &domid, &e);
	if (ret) {
		fail(e.text);
	} else {
		if (!interrupted && !paused)
			ret = vgpuxl_unpause(domid, &e);
		if (ret)
			fail(e.text);
		if (ret || interrupted) {
			fprintf(stderr, "vgpuctl: undoing: domain %u (%s) is destroyed\n", domid, vgpuxl_plan_name(plan));
			if (vgpuxl_destroy(domid, &undo))
				fail(undo.text);
			ret = 1;
		}
	}
	if (!ret) {
		tell(plan, domid, paused, json);
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		if (!alone)
			ret = follow(plan, domid, foreground);
	}
	vgpuxl_plan_free(plan);
	return ret ? 1 : 0;
}

static struct json_object *entry_json(const struct vgpuxl_entry *d)
{
	struct json_object *o = json_object_new_object();

	put_string(o, "gpu", d->gpu);
	put_number(o, "memory", d->memory);
	put_number(o, "weight", d->weight);
	put_number(o, "sessions", d->sessions);
	return put_string(o, "backend", d->backend);
}

int check_command(int argc, char **argv)
{
	struct vgpuxl_config config;
	bool json = false;

	if (json_only(argc, argv, &json) < 0)
		return 2;
	if (read_config(argc, argv, "check", &config))
		return 1;
	if (json) {
		struct json_object *o = json_object_new_object(), *list = json_object_new_array();

		put_string(o, "name", config.name ? config.name : "");
		for (unsigned int i = 0; i < config.nentries; i++)
			json_object_array_add(list, entry_json(&config.entries[i]));
		json_object_object_add(o, "vgpu", list);
		if (config.unknown)
			put_string(o, "not_carried", config.unknown);
		print_json(o);
	} else {
		printf("%s: %u vgpu device%s\n", config.name ? config.name : "(no name)", config.nentries,
		       config.nentries == 1 ? "" : "s");
		for (unsigned int i = 0; i < config.nentries; i++) {
			const struct vgpuxl_entry *d = &config.entries[i];

			printf("  %u: gpu %s, memory %u MiB%s, weight %u, sessions %u, backend %s\n", i, d->gpu, d->memory,
			       d->memory ? "" : " (no quota)", d->weight, d->sessions, d->backend);
		}
		if (config.unknown)
			printf("  'vgpuctl create' does not carry the key %s: use 'xl create', with vgpu-xl in front of it\n",
			       config.unknown);
	}
	vgpuxl_config_free(&config);
	return 0;
}

static int find(const char *name, uint32_t *domid)
{
	struct vgpuxl_error e;
	struct xs_handle *xs;
	int ret = vgpuxl_store_open(&xs, &e);

	if (!ret) {
		ret = vgpuxl_domain_find(xs, name, domid, &e);
		vgpuxl_store_close(xs);
	}
	return ret ? fail(e.text) : 0;
}

int destroy_command(int argc, char **argv)
{
	struct vgpuxl_error e;
	bool json = false;
	uint32_t domid;
	int i = json_only(argc, argv, &json);

	if (i < 0)
		return 2;
	if (argc - i != 1)
		return fail("destroy: which domain? vgpuctl destroy DOMAIN");
	if (find(argv[i], &domid))
		return 1;
	if (vgpuxl_destroy(domid, &e))
		return fail(e.text);
	if (json)
		return print_json(put_number(json_object_new_object(), "destroyed", domid));
	printf("domain %u (%s) is destroyed\n", domid, argv[i]);
	return 0;
}

int shutdown_command(int argc, char **argv)
{
	static const struct option options[] = {
		{ "reboot", no_argument, NULL, 'r' }, { "json", no_argument, NULL, 'j' }, { 0 }
	};
	bool reboot = false, json = false;
	struct vgpuxl_error e;
	uint32_t domid;
	int c;

	while ((c = getopt_long(argc, argv, "+rj", options, NULL)) != -1) {
		if (c == 'r')
			reboot = true;
		else if (c == 'j')
			json = true;
		else
			return 2;
	}
	if (argc - optind != 1)
		return fail("shutdown: which domain? vgpuctl shutdown [-r] DOMAIN");
	if (find(argv[optind], &domid))
		return 1;
	if (vgpuxl_shutdown(domid, reboot, &e))
		return fail(e.text);
	if (json)
		return print_json(put_string(put_number(json_object_new_object(), "domain", domid), "asked_to",
					     reboot ? "reboot" : "power off"));
	return 0;
}

int wait_command(int argc, char **argv)
{
	static const struct option options[] = {
		{ "timeout", required_argument, NULL, 't' }, { "json", no_argument, NULL, 'j' }, { 0 }
	};
	enum vgpuxl_reason reason;
	struct vgpuxl_error e;
	int c, timeout = -1, ret;
	bool json = false;
	uint32_t domid;

	while ((c = getopt_long(argc, argv, "+t:j", options, NULL)) != -1) {
		if (c == 'j')
			json = true;
		else if (c != 't')
			return 2;
		else if (*optarg < '0' || *optarg > '9' || strtoul(optarg, NULL, 10) > INT_MAX / 1000)
			return fail("wait: --timeout wants seconds");
		else
			timeout = atoi(optarg) * 1000;
	}
	if (argc - optind != 1)
		return fail("wait: for which domain? vgpuctl wait [--timeout S] DOMAIN");
	if (find(argv[optind], &domid))
		return 1;
	ret = vgpuxl_wait(domid, timeout, -1, &reason, &e);
	if (ret)
		return fail(e.text);
	if (json)
		return print_json(put_string(put_number(json_object_new_object(), "domain", domid), "reason",
					     vgpuxl_reason_name(reason)));
	puts(vgpuxl_reason_name(reason));
	return 0;
}
