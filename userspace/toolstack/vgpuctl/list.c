// SPDX-License-Identifier: Apache-2.0
/* vgpuctl list and show: what xenstore knows and what the broker knows, as one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include "vgpuctl.h"

const char *json_text(struct json_object *o, const char *key)
{
	struct json_object *v = json_object_object_get(o, key);
	const char *text = v ? json_object_get_string(v) : NULL;

	return text ? text : "";
}

uint64_t json_u64(struct json_object *o, const char *key)
{
	return json_object_get_uint64(json_object_object_get(o, key));
}

/* --- gathering ------------------------------------------------------------------------------------------------------ */

static struct json_object *find_device(struct json_object *devices, const struct vgpuxl_device *d)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", d->devid);
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *o = json_object_array_get_idx(devices, i);

		if (json_u64(o, "zone") == d->zone && !strcmp(json_text(o, "device"), number) &&
		    !strcmp(json_text(o, "transport"), "xen"))
			return o;
	}
	return NULL;
}

static int add_from_store(struct xs_handle *xs, const struct vgpuxl_device *d, void *arg)
{
	struct json_object *devices = arg, *o = find_device(devices, d);
	char path[96], text[256];

	snprintf(path, sizeof(path), "/local/domain/%u/backend/vgpu/%u/%u", d->backend, d->zone, d->devid);
	if (!o) {
		struct vgpuxl_entry entry;
		struct vgpuxl_error e;

		if (vgpuxl_device_read(xs, d, &entry, &e))
			return 0;
		o = json_object_new_object();
		put_number(o, "zone", d->zone);
		snprintf(text, sizeof(text), "%u", d->devid);
		put_string(o, "device", text);
		put_string(o, "transport", "xen");
		put_string(o, "gpu", entry.gpu);
		put_number(o, "weight", entry.weight);
		put_number(o, "memory_quota", (uint64_t)entry.memory << 20);
		put_number(o, "sessions_max", entry.sessions);
		json_object_array_add(devices, o);
	}
	if (!vgpuxl_read(xs, XBT_NULL, text, sizeof(text), "/local/domain/%u/name", d->zone))
		strcpy(text, "(has gone)");
	put_string(o, "name", text);
	put_string(o, "state", vgpuxl_state_name(vgpuxl_read_long(xs, 0, "%s/state", path)));
	put_number(o, "backend", d->backend);
	return 0;
}

struct json_object *gather(bool quiet)
{
	struct json_object *all, *devices;
	struct vgpuxl_error e;
	struct xs_handle *xs;
	int err;

	all = broker_json("list --json\n", &err);
	/* On a machine with Xen the devices are worth an answer of their own; without it only the broker knows any. */
	if (vgpuxl_store_open(&xs, &e)) {
		if (!all && !quiet) {
			fail(e.text);
			no_broker(err);
		}
		return all;
	}
	if (!all) {
		if (!quiet)
			no_broker(err);
		all = json_object_new_object();
		json_object_object_add(all, "devices", json_object_new_array());
		json_object_object_add(all, "sessions", json_object_new_array());
	}
	devices = json_object_object_get(all, "devices");
	if (devices)
		vgpuxl_for_each(xs, add_from_store, devices);
	vgpuxl_store_close(xs);
	return all;
}

/* --- list ------------------------------------------------------------------------------------------------------------ */

/* Or is it xenstore alone, because the broker is in another domain or does not run? */
static bool broker_knows(struct json_object *device)
{
	return json_object_object_get(device, "sessions");
}

static const char *or_dash(const char *text)
{
	return *text ? text : "-";
}

static void memory_text(char *out, size_t cap, struct json_object *o)
{
	uint64_t quota = json_u64(o, "memory_quota");
	char total[24] = "-";

	if (quota)
		snprintf(total, sizeof(total), "%llu", (unsigned long long)quota >> 20);
	if (broker_knows(o))
		snprintf(out, cap, "%.1f/%s MiB", (double)json_u64(o, "memory_used") / (1 << 20), total);
	else
		snprintf(out, cap, "-/%s MiB", total);
}

static void age_text(char *out, size_t cap, uint64_t ms)
{
	uint64_t s = ms / 1000;

	if (s < 60)
		snprintf(out, cap, "%llus", (unsigned long long)s);
	else if (s < 3600)
		snprintf(out, cap, "%llum%02llus", (unsigned long long)s / 60, (unsigned long long)s % 60);
	else
		snprintf(out, cap, "%lluh%02llum", (unsigned long long)s / 3600, (unsigned long long)s / 60 % 60);
}

static void device_row(struct json_object *o)
{
	char memory[48], sessions[32], served[24] = "-";

	memory_text(memory, sizeof(memory), o);
	if (broker_knows(o)) {
		snprintf(sessions, sizeof(sessions), "%llu/%llu", (unsigned long long)json_u64(o, "sessions"),
			 (unsigned long long)json_u64(o, "sessions_max"));
		snprintf(served, sizeof(served), "%llu", (unsigned long long)json_u64(o, "served"));
	} else {
		snprintf(sessions, sizeof(sessions), "-/%llu", (unsigned long long)json_u64(o, "sessions_max"));
	}
	printf("%5llu %-16s %-8s %-10s %6llu %18s %9s %8s  %s\n", (unsigned long long)json_u64(o, "zone"),
	       or_dash(json_text(o, "name")), json_text(o, "device"), json_text(o, "gpu"),
	       (unsigned long long)json_u64(o, "weight"), memory, sessions, served, or_dash(json_text(o, "state")));
}

static void session_row(struct json_object *o)
{
	char age[24];

	age_text(age, sizeof(age), json_u64(o, "age_ms"));
	printf("%5llu %-8s %-8llu %-8s %-8llu %-18.18s %10llu %10.1f MiB %8llu %7s\n", (unsigned long long)json_u64(o, "zone"),
	       json_text(o, "device"), (unsigned long long)json_u64(o, "session"), json_text(o, "state"),
	       (unsigned long long)json_u64(o, "worker"), *json_text(o, "program") ? json_text(o, "program") : "-",
	       (unsigned long long)json_u64(o, "calls"), (double)json_u64(o, "memory_used") / (1 << 20),
	       (unsigned long long)json_u64(o, "handles"), age);
}

/* Only what one of @names means: numbers and names of domains, local:NAME. A session is its device's. */
static void only(struct json_object *all, char **names, int n)
{
	struct json_object *devices = json_object_object_get(all, "devices");
	struct json_object *sessions = json_object_object_get(all, "sessions");
	struct json_object *some = json_object_new_array(), *theirs = json_object_new_array();

	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *d = json_object_array_get_idx(devices, i);
		bool take = false;

		for (int k = 0; k < n; k++) {
			char *end;
			unsigned long number = strtoul(names[k], &end, 10);

			take |= !strncmp(names[k], "local:", 6) ?
				!strcmp(json_text(d, "transport"), "local") && !strcmp(json_text(d, "device"), names[k] + 6) :
				(*names[k] && !*end && json_u64(d, "zone") == number) || !strcmp(json_text(d, "name"), names[k]);
		}
		if (!take)
			continue;
		json_object_array_add(some, json_object_get(d));
		for (size_t k = 0; k < json_object_array_length(sessions); k++) {
			struct json_object *s = json_object_array_get_idx(sessions, k);

			if (json_u64(s, "zone") == json_u64(d, "zone") && !strcmp(json_text(s, "device"), json_text(d, "device")))
				json_object_array_add(theirs, json_object_get(s));
		}
	}
	json_object_object_add(all, "devices", some);
	json_object_object_add(all, "sessions", theirs);
}

static void tables(struct json_object *all)
{
	struct json_object *devices = json_object_object_get(all, "devices");
	struct json_object *sessions = json_object_object_get(all, "sessions");

	printf("%5s %-16s %-8s %-10s %6s %18s %9s %8s  %s\n", "ZONE", "NAME", "DEVICE", "GPU", "WEIGHT", "MEMORY", "SESSIONS",
	       "SERVED", "BACKEND");
	for (size_t i = 0; i < json_object_array_length(devices); i++)
		device_row(json_object_array_get_idx(devices, i));
	if (!json_object_array_length(devices))
		puts("no vgpu devices");
	printf("\n%5s %-8s %-8s %-8s %-8s %-18s %10s %14s %8s %7s\n", "ZONE", "DEVICE", "SESSION", "STATE", "WORKER", "PROGRAM",
	       "CALLS", "MEMORY", "HANDLES", "AGE");
	for (size_t i = 0; i < json_object_array_length(sessions); i++)
		session_row(json_object_array_get_idx(sessions, i));
}

int list_command(int argc, char **argv)
{
	struct json_object *all;
	bool json = false;
	int i = json_only(argc, argv, &json);

	if (i < 0)
		return 2;
	all = gather(false);
	if (!all)
		return 1;
	if (i < argc)
		only(all, argv + i, argc - i);
	if (json)
		return print_json(all);
	tables(all);
	json_object_put(all);
	return 0;
}

/* --- show ------------------------------------------------------------------------------------------------------------ */

static void field(const char *name, const char *value)
{
	printf("    %-18s %s\n", name, value);
}

static void show_fields(struct json_object *o)
{
	json_object_object_foreach(o, key, value) {
		char text[64];
		size_t len = strlen(key);

		if (!strcmp(key, "zone") || !strcmp(key, "device") || !strcmp(key, "session"))
			continue;
		if (value && (!strncmp(key, "memory_", 7) || !strncmp(key, "host_memory_", 12))) {
			snprintf(text, sizeof(text), "%.1f MiB", (double)json_object_get_uint64(value) / (1 << 20));
			field(key, !strcmp(key, "memory_quota") && !json_object_get_uint64(value) ? "none" : text);
		} else if (len > 3 && !strcmp(key + len - 3, "_ns") && value) {
			snprintf(text, sizeof(text), "%.3f s", (double)json_object_get_uint64(value) / 1e9);
			field(key, text);
		} else if (len > 3 && !strcmp(key + len - 3, "_ms") && value) {
			snprintf(text, sizeof(text), "%.3f s", (double)json_object_get_uint64(value) / 1e3);
			field(key, text);
		} else {
			field(key, value ? json_object_get_string(value) : "unknown");
		}
	}
}

int show_command(int argc, char **argv)
{
	struct json_object *all, *devices, *sessions;
	bool json = false;
	struct vgpuxl_error e;
	struct xs_handle *xs;
	uint32_t zone = 0;
	int i = json_only(argc, argv, &json), ret = 0;

	if (i < 0)
		return 2;
	if (argc - i != 1)
		return fail("show: which zone? vgpuctl show DOMAIN (or local:NAME)");
	if (strncmp(argv[i], "local:", 6) && !vgpuxl_store_open(&xs, &e)) {
		ret = vgpuxl_domain_find(xs, argv[i], &zone, &e);
		vgpuxl_store_close(xs);
		if (ret)
			return fail(e.text);
	}
	all = gather(false);
	if (!all)
		return 1;
	only(all, argv + i, 1);
	devices = json_object_object_get(all, "devices");
	sessions = json_object_object_get(all, "sessions");
	if (!json_object_array_length(devices)) {
		fprintf(stderr, "vgpuctl: %s has no vgpu device: see 'vgpuctl list'\n", argv[i]);
		json_object_put(all);
		return 1;
	}
	if (json)
		return print_json(all);
	for (size_t k = 0; k < json_object_array_length(devices); k++) {
		struct json_object *o = json_object_array_get_idx(devices, k);

		printf("zone %llu, device %s\n", (unsigned long long)json_u64(o, "zone"), json_text(o, "device"));
		show_fields(o);
	}
	for (size_t k = 0; k < json_object_array_length(sessions); k++) {
		struct json_object *o = json_object_array_get_idx(sessions, k);

		printf("session %llu on device %s\n", (unsigned long long)json_u64(o, "session"), json_text(o, "device"));
		show_fields(o);
	}
	json_object_put(all);
	return 0;
}
