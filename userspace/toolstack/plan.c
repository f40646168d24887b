// SPDX-License-Identifier: Apache-2.0
/* From a configuration to libxenlight's own, with every check that needs no domain. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "light.h"

#define NAME_MAX_ 64

static char *copy(const char *s)
{
	return s && *s ? strdup(s) : NULL;
}

static int refuse(const struct vgpuxl_config *c, struct vgpuxl_error *e, const char *what, const char *value,
		  const char *advice)
{
	return vgpuxl_error_set(e, EINVAL, "cannot make domain \"%s\": %s%s%s: %s", c->name ? c->name : "", what,
				value ? " " : "", value ? value : "", advice);
}

static int check_file(const struct vgpuxl_config *c, const char *what, const char *path, struct vgpuxl_error *e)
{
	int err;

	if (!path || !*path || !access(path, R_OK))
		return 0;
	err = errno;
	return vgpuxl_error_set(e, err, "cannot make domain \"%s\": its %s %s: %s: give the path of a file in this domain",
				c->name, what, path, strerror(err));
}

static bool name_ok(const char *name)
{
	if (!name || !*name || strlen(name) > NAME_MAX_ || name[strspn(name, "0123456789")] == '\0')
		return false;
	for (; *name; name++)
		if ((unsigned char)*name <= ' ' || *name == '/' || *name == 0x7f)
			return false;
	return true;
}

static int check(const struct vgpuxl_config *c, struct vgpuxl_error *e)
{
	const char *type = c->type && *c->type ? c->type : "pvh";
	int ret;

	if (!c->name || !*c->name)
		return refuse(c, e, "it has no name", NULL, "give it one: name=\"pod1\"");
	if (!name_ok(c->name))
		return refuse(c, e, "its name is not allowed", NULL, "give at most 64 characters, no blanks, no '/', and not a "
			      "number alone");
	if (c->unknown)
		return refuse(c, e, "this library does not carry the key", c->unknown, "leave it out, or use 'xl create' (with "
			      "vgpu-xl in front of it, which honours vgpu= too)");
	if (strcmp(type, "pvh") && strcmp(type, "pv"))
		return refuse(c, e, "its type is", type, "give pvh, or pv for a domain without vgpu devices; 'xl create' with "
			      "vgpu-xl in front makes others");
	if (c->nentries && strcmp(type, "pvh"))
		return refuse(c, e, "a pv domain cannot have a vgpu", NULL, "vgpu-front needs memory that Xen translates: set "
			      "type=\"pvh\"");
	if (!c->kernel || !*c->kernel)
		return refuse(c, e, "it has no kernel", NULL, "give the path of one: kernel=\"/boot/vmlinuz-pod\"");
	if (c->maxvcpus && c->maxvcpus < (c->vcpus ? c->vcpus : 1))
		return refuse(c, e, "maxvcpus is less than vcpus", NULL, "raise it, or leave it out");
	if (!c->memory)
		return refuse(c, e, "it has no memory", NULL, "give MiB: memory=512");
	if (c->maxmem && c->maxmem < c->memory)
		return refuse(c, e, "maxmem is less than memory", NULL, "raise it, or leave it out");
	ret = check_file(c, "kernel", c->kernel, e);
	return ret ? ret : check_file(c, "ramdisk", c->ramdisk, e);
}

/* --- disks and networks -------------------------------------------------------------------------------------- */

#define BLOCK_SCRIPT "/etc/xen/scripts/vgpu-block"

int light_parse_disk(struct light *l, const char *spec, libxl_device_disk *disk, struct vgpuxl_error *e)
{
	char *report = NULL;
	size_t len = 0;
	FILE *mem = open_memstream(&report, &len);
	XLU_Config *xlu = mem ? xlu_cfg_init(mem, "disk") : NULL;
	int ret = 0;

	libxl_device_disk_init(disk);
	if (!xlu) {
		ret = vgpuxl_error_set(e, ENOMEM, "disk \"%s\": out of memory", spec);
	} else if (xlu_disk_parse(xlu, 1, &spec, disk)) {
		fflush(mem);
		report[strcspn(report, "\n")] = '\0';
		ret = vgpuxl_error_set(e, EINVAL, "disk \"%s\" is not understood: %s: write format=raw,vdev=xvda,access=ro,"
				       "target=/path (see xl-disk-configuration(5))", spec, report);
	} else if (disk->pdev_path && !disk->backend_domname && access(disk->pdev_path, R_OK)) {
		ret = vgpuxl_error_set(e, errno, "disk \"%s\": %s: %s: give an existing file or block device as target=", spec,
				       disk->pdev_path, strerror(errno));
	}
	if (xlu)
		xlu_cfg_destroy(xlu);
	if (mem)
		fclose(mem);
	free(report);
	/* One that needs no shell, where it is installed. */
	if (!ret && !disk->script && disk->format == LIBXL_DISK_FORMAT_RAW && !access(BLOCK_SCRIPT, X_OK)) {
		disk->script = strdup(BLOCK_SCRIPT);
		if (disk->backend == LIBXL_DISK_BACKEND_UNKNOWN)
			disk->backend = LIBXL_DISK_BACKEND_PHY;
	}
	return ret;
}

static bool parse_mac(const char *text, libxl_mac *mac)
{
	unsigned int b[6];
	int end = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6 || text[end])
		return false;
	for (int i = 0; i < 6; i++)
		(*mac)[i] = (uint8_t)b[i];
	return true;
}

static int vif_key(struct light *l, const char *spec, const char *key, const char *value, libxl_device_nic *nic,
		   struct vgpuxl_error *e)
{
	const struct {
		const char *key;
		char **field;
	} strings[] = {
		{ "bridge", &nic->bridge }, { "ip", &nic->ip }, { "script", &nic->script }, { "vifname", &nic->ifname },
		{ "gatewaydev", &nic->gatewaydev }, { "backend", &nic->backend_domname },
	};

	for (size_t i = 0; i < sizeof(strings) / sizeof(*strings); i++) {
		if (strcmp(key, strings[i].key))
			continue;
		free(*strings[i].field);
		*strings[i].field = strdup(value);
		return 0;
	}
	if (!strcmp(key, "mac")) {
		if (!parse_mac(value, &nic->mac))
			return vgpuxl_error_set(e, EINVAL, "vif \"%s\": mac=%s is not allowed: give six bytes, 00:16:3e:xx:xx:xx",
						spec, value);
	} else if (!strcmp(key, "mtu")) {
		nic->mtu = atoi(value);
		if (nic->mtu < 68 || nic->mtu > 65535)
			return vgpuxl_error_set(e, EINVAL, "vif \"%s\": mtu=%s is not allowed: give 68 to 65535", spec, value);
	} else if (!strcmp(key, "rate")) {
		XLU_Config *xlu = xlu_cfg_init(stderr, "vif");
		int ret = xlu ? xlu_vif_parse_rate(xlu, value, nic) : ENOMEM;

		if (xlu)
			xlu_cfg_destroy(xlu);
		if (ret)
			return vgpuxl_error_set(e, EINVAL, "vif \"%s\": rate=%s is not allowed: write 10Mb/s or 1MB/s@20ms", spec,
						value);
	} else if (strcmp(key, "type") || strcmp(value, "vif")) {
		return vgpuxl_error_set(e, EINVAL, "vif \"%s\": there is no key \"%s\" here: the keys are mac, bridge, ip, script, "
					"vifname, gatewaydev, rate, mtu and backend", spec, key);
	}
	return 0;
}

int light_parse_vif(struct light *l, const char *spec, libxl_device_nic *nic, struct vgpuxl_error *e)
{
	char *text = strdup(spec), *rest = text, *item;
	int ret = text ? 0 : vgpuxl_error_set(e, ENOMEM, "vif \"%s\": out of memory", spec);

	libxl_device_nic_init(nic);
	nic->nictype = LIBXL_NIC_TYPE_VIF;
	while (!ret && (item = strsep(&rest, ","))) {
		char *value = strchr(item, '=');

		item += strspn(item, " \t");
		if (!*item && !rest)
			break;
		if (!value) {
			ret = vgpuxl_error_set(e, EINVAL, "vif \"%s\": \"%s\" is not key=value: write mac=00:16:3e:00:00:01,"
					       "bridge=xenbr0", spec, item);
			break;
		}
		*value++ = '\0';
		ret = vif_key(l, spec, item, value, nic, e);
	}
	free(text);
	return ret;
}

/* What QEMU, which serves it, knows. */
static bool p9_model_ok(const char *model)
{
	static const char *const models[] = { "none", "passthrough", "mapped-xattr", "mapped-file" };

	for (size_t i = 0; i < sizeof(models) / sizeof(*models); i++)
		if (!strcmp(model, models[i]))
			return true;
	return false;
}

static int p9_key(const char *spec, const char *key, const char *value, libxl_device_p9 *p9, struct vgpuxl_error *e)
{
	const struct {
		const char *key;
		char **field;
	} keys[] = { { "tag", &p9->tag }, { "path", &p9->path }, { "security_model", &p9->security_model } };

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (strcmp(key, keys[i].key))
			continue;
		if (*keys[i].field || !*value)
			return vgpuxl_error_set(e, EINVAL, "p9 \"%s\": give %s= once, and with a value", spec, key);
		*keys[i].field = strdup(value);
		return *keys[i].field ? 0 : vgpuxl_error_set(e, ENOMEM, "p9 \"%s\": out of memory", spec);
	}
	return vgpuxl_error_set(e, EINVAL, "p9 \"%s\": there is no key \"%s\" here: the keys are tag, path and security_model", spec,
				key);
}

static int p9_check(const char *spec, const libxl_device_p9 *p9, struct vgpuxl_error *e)
{
	struct stat st;

	if (!p9->tag || !p9->path)
		return vgpuxl_error_set(e, EINVAL, "p9 \"%s\" has no %s: write tag=NAME,security_model=none,path=/folder", spec,
					p9->tag ? "path" : "tag");
	if (!p9_model_ok(p9->security_model))
		return vgpuxl_error_set(e, EINVAL, "p9 \"%s\": security_model=%s is not allowed: give none, passthrough, mapped-xattr "
					"or mapped-file", spec, p9->security_model);
	if (stat(p9->path, &st))
		return vgpuxl_error_set(e, errno, "p9 \"%s\": %s: %s: give an existing folder as path=", spec, p9->path,
					strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return vgpuxl_error_set(e, ENOTDIR, "p9 \"%s\": %s is no folder: give one as path=", spec, p9->path);
	return 0;
}

static int parse_p9(const char *spec, libxl_device_p9 *p9, struct vgpuxl_error *e)
{
	char *text = strdup(spec), *rest = text, *item;
	int ret = text ? 0 : vgpuxl_error_set(e, ENOMEM, "p9 \"%s\": out of memory", spec);

	libxl_device_p9_init(p9);
	while (!ret && (item = strsep(&rest, ","))) {
		char *value = strchr(item, '=');

		item += strspn(item, " \t");
		if (!value)
			ret = vgpuxl_error_set(e, EINVAL, "p9 \"%s\": \"%s\" is not key=value: write tag=NAME,security_model=none,"
					       "path=/folder", spec, item);
		else
			*value++ = '\0';
		if (!ret)
			ret = p9_key(spec, item, value, p9, e);
	}
	free(text);
	if (!ret && !p9->security_model && !(p9->security_model = strdup("none")))
		ret = vgpuxl_error_set(e, ENOMEM, "p9 \"%s\": out of memory", spec);
	return ret ? ret : p9_check(spec, p9, e);
}

static int devices(struct light *l, const struct vgpuxl_config *c, libxl_domain_config *d, struct vgpuxl_error *e)
{
	int ret = 0;

	d->disks = calloc(c->ndisks + 1, sizeof(*d->disks));
	d->nics = calloc(c->nvifs + 1, sizeof(*d->nics));
	d->p9s = calloc(c->np9s + 1, sizeof(*d->p9s));
	if (!d->disks || !d->nics || !d->p9s)
		return vgpuxl_error_set(e, ENOMEM, "cannot make domain \"%s\": out of memory", c->name);
	for (unsigned int i = 0; !ret && i < c->ndisks; i++)
		ret = light_parse_disk(l, c->disks[i], &d->disks[d->num_disks++], e);
	for (unsigned int i = 0; !ret && i < c->nvifs; i++) {
		ret = light_parse_vif(l, c->vifs[i], &d->nics[d->num_nics], e);
		d->nics[d->num_nics].devid = d->num_nics;
		d->num_nics++;
	}
	for (unsigned int i = 0; !ret && i < c->np9s; i++) {
		ret = parse_p9(c->p9s[i], &d->p9s[d->num_p9s], e);
		d->p9s[d->num_p9s].devid = d->num_p9s;
		d->num_p9s++;
	}
	return ret;
}

/* --- the rest ------------------------------------------------------------------------------------------------- */

static libxl_action_on_shutdown action(enum vgpuxl_action a, libxl_action_on_shutdown otherwise)
{
	static const libxl_action_on_shutdown known[] = {
		[VGPUXL_ACTION_DESTROY] = LIBXL_ACTION_ON_SHUTDOWN_DESTROY,
		[VGPUXL_ACTION_RESTART] = LIBXL_ACTION_ON_SHUTDOWN_RESTART,
		[VGPUXL_ACTION_RESTART_RENAME] = LIBXL_ACTION_ON_SHUTDOWN_RESTART_RENAME,
		[VGPUXL_ACTION_PRESERVE] = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE,
		[VGPUXL_ACTION_COREDUMP_DESTROY] = LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_DESTROY,
		[VGPUXL_ACTION_COREDUMP_RESTART] = LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_RESTART,
	};

	return a > VGPUXL_ACTION_DEFAULT && a < sizeof(known) / sizeof(*known) ? known[a] : otherwise;
}

static int translate(struct light *l, const struct vgpuxl_config *c, libxl_domain_config *d, struct vgpuxl_error *e)
{
	bool pv = c->type && !strcmp(c->type, "pv");
	uint32_t vcpus = c->vcpus ? c->vcpus : 1;
	libxl_domain_build_info *b = &d->b_info;

	d->c_info.type = pv ? LIBXL_DOMAIN_TYPE_PV : LIBXL_DOMAIN_TYPE_PVH;
	d->c_info.name = copy(c->name);
	if (c->uuid && *c->uuid) {
		if (libxl_uuid_from_string(&d->c_info.uuid, c->uuid))
			return refuse(c, e, "its uuid is not one:", c->uuid, "write 8-4-4-4-12 hexadecimal digits, or leave it out");
	} else {
		libxl_uuid_generate(&d->c_info.uuid);
	}
	libxl_domain_build_info_init_type(b, d->c_info.type);
	b->kernel = copy(c->kernel);
	b->ramdisk = copy(c->ramdisk);
	b->cmdline = copy(c->cmdline);
	b->target_memkb = c->memory * 1024ull;
	b->max_memkb = (c->maxmem ? c->maxmem : c->memory) * 1024ull;
	b->max_vcpus = (int)(c->maxvcpus ? c->maxvcpus : vcpus);
	if (libxl_cpu_bitmap_alloc(l->ctx, &b->avail_vcpus, b->max_vcpus))
		return vgpuxl_error_set(e, ENOMEM, "cannot make domain \"%s\": out of memory", c->name);
	libxl_bitmap_set_none(&b->avail_vcpus);
	for (uint32_t i = 0; i < vcpus; i++)
		libxl_bitmap_set(&b->avail_vcpus, (int)i);
	if (c->tsc_mode && libxl_tsc_mode_from_string(c->tsc_mode, &b->tsc_mode))
		return refuse(c, e, "its tsc_mode is", c->tsc_mode, "give default, native, always_emulate or native_paravirt");
	if (c->max_grant_frames)
		b->max_grant_frames = c->max_grant_frames;
	if (c->max_maptrack_frames)
		b->max_maptrack_frames = c->max_maptrack_frames;
	d->on_poweroff = action(c->on_poweroff, LIBXL_ACTION_ON_SHUTDOWN_DESTROY);
	d->on_reboot = action(c->on_reboot, LIBXL_ACTION_ON_SHUTDOWN_RESTART);
	d->on_crash = action(c->on_crash, LIBXL_ACTION_ON_SHUTDOWN_DESTROY);
	d->on_watchdog = action(c->on_watchdog, LIBXL_ACTION_ON_SHUTDOWN_DESTROY);
	d->on_soft_reset = LIBXL_ACTION_ON_SHUTDOWN_DESTROY;
	return devices(l, c, d, e);
}

static struct vgpuxl_plan *plan_new(const struct vgpuxl_entry *entries, unsigned int n)
{
	struct vgpuxl_plan *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	libxl_domain_config_init(&p->d);
	p->entries = calloc(n ? n : 1, sizeof(*entries));
	if (!p->entries) {
		vgpuxl_plan_free(p);
		return NULL;
	}
	if (n)
		memcpy(p->entries, entries, n * sizeof(*entries));
	p->n = n;
	return p;
}

void vgpuxl_plan_free(struct vgpuxl_plan *plan)
{
	if (!plan)
		return;
	libxl_domain_config_dispose(&plan->d);
	free(plan->entries);
	free(plan);
}

const char *vgpuxl_plan_name(const struct vgpuxl_plan *plan)
{
	return plan->d.c_info.name;
}

unsigned int vgpuxl_plan_devices(const struct vgpuxl_plan *plan)
{
	return plan->n;
}

int vgpuxl_plan_config(const struct vgpuxl_config *config, struct vgpuxl_plan **plan, struct vgpuxl_error *e)
{
	struct vgpuxl_plan *p;
	struct light l;
	int ret = check(config, e);

	if (ret)
		return ret;
	p = plan_new(config->entries, config->nentries);
	if (!p)
		return vgpuxl_error_set(e, ENOMEM, "cannot make domain \"%s\": out of memory", config->name);
	ret = light_open(&l, e);
	if (!ret) {
		ret = translate(&l, config, &p->d, e);
		light_close(&l);
	}
	if (ret)
		vgpuxl_plan_free(p);
	else
		*plan = p;
	return ret;
}

int vgpuxl_plan_json(const char *json, const struct vgpuxl_entry *entries, unsigned int n, struct vgpuxl_plan **plan,
		     struct vgpuxl_error *e)
{
	struct vgpuxl_plan *p = plan_new(entries, n);
	struct light l;
	int rc, ret;

	if (!p)
		return vgpuxl_error_set(e, ENOMEM, "cannot read a domain's configuration: out of memory");
	ret = light_open(&l, e);
	if (!ret) {
		rc = libxl_domain_config_from_json(l.ctx, &p->d, json);
		if (rc)
			ret = light_error(&l, e, rc, "xl and libxenlight must be of the same release of Xen",
					  "cannot read a domain's configuration in libxenlight's own form");
		light_close(&l);
	}
	if (!ret && (!p->d.c_info.name || !*p->d.c_info.name))
		ret = vgpuxl_error_set(e, EINVAL, "the domain has no name: give it one: name=\"pod1\"");
	if (!ret && n && p->d.c_info.type != LIBXL_DOMAIN_TYPE_PVH && p->d.c_info.type != LIBXL_DOMAIN_TYPE_HVM)
		ret = vgpuxl_error_set(e, EINVAL, "domain \"%s\" asks for a vgpu and is of type pv: vgpu-front needs memory that Xen "
				       "translates: set type=\"pvh\"", p->d.c_info.name);
	if (ret)
		vgpuxl_plan_free(p);
	else
		*plan = p;
	return ret;
}
