// SPDX-License-Identifier: Apache-2.0
/* vgpuctl attach, detach, set, disk-attach, disk-detach: what changes while a domain runs. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xenstore.h>

#include "vgpuctl.h"

#define DETACH_TIMEOUT_MS	10000
#define FRONTEND_TIMEOUT_MS	5000

/* @force: NULL for a command without it. @return false for an option that there is not, which has been told */
static bool take_options(int argc, char **argv, bool *force, bool *json)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' }, { "force", no_argument, NULL, 'f' }, { 0 }
	}, only_json[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, force ? "+fj" : "+j", force ? options : only_json, NULL)) != -1) {
		if (c == 'j')
			*json = true;
		else if (c == 'f')
			*force = true;
		else
			return false;
	}
	return true;
}

static int told(bool json, const char *what, uint32_t zone, uint32_t devid)
{
	if (json) {
		struct json_object *o = json_object_new_object();

		put_number(o, "zone", zone);
		put_number(o, "device", devid);
		return print_json(put_string(o, "result", what));
	}
	printf("vgpu %u %s domain %u\n", devid, what, zone);
	return 0;
}

/* "gpu=0 memory=64" is "gpu=0,memory=64". @return 0, or -E2BIG */
static int join_words(char **words, int n, char *out, size_t cap)
{
	size_t len = 0;

	*out = '\0';
	for (int i = 0; i < n; i++) {
		len += (size_t)snprintf(out + len, cap - len, "%s%s", i ? "," : "", words[i]);
		if (len >= cap)
			return -E2BIG;
	}
	return 0;
}

int attach_command(int argc, char **argv)
{
	struct vgpuxl_device device;
	struct vgpuxl_entry entry;
	struct vgpuxl_error e;
	struct xs_handle *xs;
	bool json = false;
	char text[512];
	uint32_t zone;
	int ret = 1;

	if (!take_options(argc, argv, NULL, &json))
		return 2;
	argc -= optind;
	argv += optind;
	if (argc < 1)
		return fail("attach: to which domain? vgpuctl attach DOMAIN [gpu=0,memory=4096]");
	if (join_words(argv + 1, argc - 1, text, sizeof(text)))
		return fail("attach: that is too long for a device");
	if (vgpuxl_entry_parse(text, &entry, &e) || vgpuxl_store_open(&xs, &e))
		return fail(e.text);
	ensure_daemon();
	if (vgpuxl_domain_find(xs, argv[0], &zone, &e) ||
	    (!strcmp(entry.backend, "0") && vgpuxl_backend_present(&e)) ||
	    vgpuxl_attach(xs, zone, &entry, &device, &e)) {
		fail(e.text);
	} else if (vgpuxl_wait_backend(xs, &device, BACKEND_TIMEOUT_MS, &e)) {
		vgpuxl_remove(xs, &device);
		fail(e.text);
	} else {
		ret = vgpuxl_wait_frontend(xs, &device, FRONTEND_TIMEOUT_MS, &e);
		if (ret == -ETIMEDOUT) {
			/* Paused, booting, or without the module yet: it may come. */
			fprintf(stderr, "vgpuctl: warning: %s\n", e.text);
			ret = 0;
		} else if (ret) {
			vgpuxl_remove(xs, &device);
			ret = fail(e.text);
		}
		if (!ret)
			told(json, "attached to", zone, device.devid);
	}
	vgpuxl_store_close(xs);
	return ret;
}

static bool device_number(const char *text, uint32_t *devid)
{
	char *end;
	long n = strtol(text, &end, 10);

	*devid = (uint32_t)n;
	return *text && !*end && n >= 0 && n <= 65535;
}

int detach_command(int argc, char **argv)
{
	bool force = false, json = false;
	struct vgpuxl_device device;
	struct vgpuxl_error e;
	struct xs_handle *xs;
	uint32_t zone, devid;
	int ret = 1;

	if (!take_options(argc, argv, &force, &json))
		return 2;
	if (argc - optind != 2)
		return fail("detach: which device? vgpuctl detach DOMAIN DEVICE (see 'vgpuctl list')");
	if (!device_number(argv[optind + 1], &devid))
		return fail("detach: the device is given by its number, see 'vgpuctl list'");
	if (vgpuxl_store_open(&xs, &e))
		return fail(e.text);
	if (vgpuxl_domain_find(xs, argv[optind], &zone, &e) || vgpuxl_device_find(xs, zone, devid, &device, &e) ||
	    vgpuxl_detach(xs, &device, DETACH_TIMEOUT_MS, force, &e))
		fail(e.text);
	else
		ret = told(json, "detached from", zone, device.devid);
	vgpuxl_store_close(xs);
	return ret;
}

/* --- set ------------------------------------------------------------------------------------------------------- */

/* A device that the broker serves on this machine, without Xen: local:NAME. */
static int set_local(const char *name, const struct vgpuxl_entry *entry, unsigned int which)
{
	char line[200], *text = NULL;
	int n, ret;

	n = snprintf(line, sizeof(line), "set %.63s", name);
	if (which & VGPUXL_SET_MEMORY)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " memory=%u", entry->memory);
	if (which & VGPUXL_SET_WEIGHT)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " weight=%u", entry->weight);
	if (which & VGPUXL_SET_SESSIONS)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " sessions=%u", entry->sessions);
	snprintf(line + n, sizeof(line) - (size_t)n, "\n");
	ret = broker_text(line, &text);
	if (ret)
		return no_broker(-ret);
	ret = strcmp(text, "ok\n");
	if (ret) {
		text[strcspn(text, "\n")] = '\0';
		fail(text);
	}
	free(text);
	return ret ? 1 : 0;
}

static int set_zone(const char *name, uint32_t devid, const struct vgpuxl_entry *entry, unsigned int which)
{
	struct vgpuxl_device device;
	struct vgpuxl_error e;
	struct xs_handle *xs;
	uint32_t zone;
	int ret;

	if (vgpuxl_store_open(&xs, &e))
		return fail(e.text);
	ret = vgpuxl_domain_find(xs, name, &zone, &e);
	if (!ret)
		ret = vgpuxl_device_find(xs, zone, devid, &device, &e);
	if (!ret)
		ret = vgpuxl_device_set(xs, &device, entry, which, &e);
	vgpuxl_store_close(xs);
	return ret ? fail(e.text) : 0;
}

int set_command(int argc, char **argv)
{
	struct vgpuxl_entry entry;
	struct vgpuxl_error e;
	bool json = false;
	unsigned int which;
	uint32_t devid = 0;
	char change[512] = "";
	int first, ret;

	if (!take_options(argc, argv, NULL, &json))
		return 2;
	first = optind + 1;
	if (first < argc && !strchr(argv[first], '=')) {
		if (!device_number(argv[first], &devid))
			return fail("set: the device is given by its number, see 'vgpuctl list'");
		first++;
	}
	if (optind >= argc || first >= argc)
		return fail("set: what? vgpuctl set DOMAIN [DEVICE] memory=MiB,weight=N,sessions=N");
	if (join_words(argv + first, argc - first, change, sizeof(change)))
		return fail("set: that is too long for a change");
	if (vgpuxl_change_parse(change, &entry, &which, &e))
		return fail(e.text);
	if (!strncmp(argv[optind], "local:", 6))
		ret = set_local(argv[optind] + 6, &entry, which);
	else
		ret = set_zone(argv[optind], devid, &entry, which);
	if (ret)
		return ret;
	if (json)
		return print_json(put_string(json_object_new_object(), "result", "set"));
	printf("vgpu %u of %s: %s\n", devid, argv[optind], change);
	return 0;
}

/* --- disks ------------------------------------------------------------------------------------------------------ */

static int for_domain(const char *name, uint32_t *domid)
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

int disk_attach_command(int argc, char **argv)
{
	struct vgpuxl_error e;
	bool json = false;
	uint32_t domid;

	if (!take_options(argc, argv, NULL, &json))
		return 2;
	if (argc - optind != 2)
		return fail("disk-attach: what to which domain? vgpuctl disk-attach DOMAIN format=raw,vdev=xvdb,access=ro,"
			    "target=/file");
	if (for_domain(argv[optind], &domid))
		return 1;
	if (vgpuxl_disk_attach(domid, argv[optind + 1], &e))
		return fail(e.text);
	if (json)
		return print_json(put_string(put_number(json_object_new_object(), "domain", domid), "result", "attached"));
	printf("disk attached to domain %u\n", domid);
	return 0;
}

int disk_detach_command(int argc, char **argv)
{
	bool json = false, force = false;
	struct vgpuxl_error e;
	uint32_t domid;

	if (!take_options(argc, argv, &force, &json))
		return 2;
	if (argc - optind != 2)
		return fail("disk-detach: which disk of which domain? vgpuctl disk-detach DOMAIN xvdb");
	if (for_domain(argv[optind], &domid))
		return 1;
	if (vgpuxl_disk_detach(domid, argv[optind + 1], force, &e))
		return fail(e.text);
	if (json)
		return print_json(put_string(put_number(json_object_new_object(), "domain", domid), "result", "detached"));
	printf("disk %s detached from domain %u\n", argv[optind + 1], domid);
	return 0;
}
