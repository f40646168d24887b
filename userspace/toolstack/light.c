// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handles.h"
#include "light.h"

#define SCRIPT_SAYS "script: "	/* libxenlight's word before a script's hotplug-error */

/*
 * The first error is the cause, those after it only say what could not be done because of it. But that a hotplug script has
 * failed is said before what it had to say.
 */
static void take_message(xentoollog_logger *logger, xentoollog_level level, int errnoval, const char *context,
			 const char *format, va_list al)
{
	struct light *l = (struct light *)logger;
	const char *debug = getenv("VGPUXL_DEBUG");
	char text[sizeof(l->text)];
	size_t len;

	if (debug && *debug) {
		va_list copy;

		va_copy(copy, al);
		fprintf(stderr, "libxenlight: ");
		vfprintf(stderr, format, copy);
		fputc('\n', stderr);
		va_end(copy);
	}
	if (level < XTL_ERROR)
		return;
	vsnprintf(text, sizeof(text), format, al);
	if (l->text[0] && (!strstr(text, SCRIPT_SAYS) || strstr(l->text, SCRIPT_SAYS)))
		return;
	memcpy(l->text, text, sizeof(text));
	len = strlen(l->text);
	if (errnoval > 0 && len < sizeof(l->text) - 3)
		snprintf(l->text + len, sizeof(l->text) - len, ": %s", strerror(errnoval));
	for (char *p = l->text; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
}

static void no_progress(xentoollog_logger *logger, const char *context, const char *what, int percent,
			unsigned long done, unsigned long total)
{
}

/* Its children are its own, and it reaps only them: the program around us may have others. */
static const libxl_childproc_hooks hooks = { .chldowner = libxl_sigchld_owner_libxl_always_selective_reap };

int light_open(struct light *l, struct vgpuxl_error *e)
{
	int rc;

	*l = (struct light){ .logger = { .vmessage = take_message, .progress = no_progress } };
	handles_begin();
	rc = libxl_ctx_alloc(&l->ctx, LIBXL_VERSION, 0, &l->logger);
	handles_end();
	if (rc) {
		l->ctx = NULL;
		return vgpuxl_error_set(e, geteuid() ? EPERM : ENODEV, "cannot reach Xen%s%s: %s", l->text[0] ? ": " : "",
					l->text, geteuid() ? "run this as root" :
					"this must be dom0 of a running Xen, with xenstored started (systemctl start xen)");
	}
	libxl_childproc_setmode(l->ctx, &hooks, NULL);
	return 0;
}

void light_close(struct light *l)
{
	handles_begin();
	if (l->ctx)
		libxl_ctx_free(l->ctx);
	handles_end();
	l->ctx = NULL;
}

static int errno_of(int rc)
{
	switch (rc) {
	case ERROR_NOMEM:
		return ENOMEM;
	case ERROR_INVAL:
		return EINVAL;
	case ERROR_TIMEDOUT:
		return ETIMEDOUT;
	case ERROR_DOMAIN_NOTFOUND:
	case ERROR_DEVICE_EXISTS:
		return rc == ERROR_DEVICE_EXISTS ? EEXIST : ENOENT;
	case ERROR_NOTFOUND:
		return ENOENT;
	default:
		return EIO;
	}
}

int light_error(struct light *l, struct vgpuxl_error *e, int rc, const char *advice, const char *fmt, ...)
{
	char what[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return vgpuxl_error_set(e, errno_of(rc), "%s: %s (libxenlight's error %d)%s%s", what,
				l->text[0] ? l->text : "no reason was given", rc, advice ? ": " : "", advice ? advice : "");
}

bool light_script_failed(const struct light *l)
{
	return strstr(l->text, SCRIPT_SAYS);
}

int light_info(struct light *l, uint32_t domid, libxl_dominfo *info, struct vgpuxl_error *e)
{
	int rc;

	libxl_dominfo_init(info);
	rc = libxl_domain_info(l->ctx, info, domid);
	if (rc == ERROR_DOMAIN_NOTFOUND)
		return vgpuxl_error_set(e, ENOENT, "there is no domain %u: see 'xl list'", domid);
	if (rc)
		return light_error(l, e, rc, NULL, "cannot ask Xen about domain %u", domid);
	return 0;
}
