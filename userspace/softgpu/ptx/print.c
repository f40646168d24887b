// SPDX-License-Identifier: Apache-2.0
/*
 * printf and assert of kernels. The compiler lays the arguments out in the thread's local memory, each aligned to
 * its size (4 or 8 bytes); the format is walked once to know which is which.
 */

#include <pthread.h>
#include <stdio.h>

#include "exec.h"

#define MAX_TEXT 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct text {
	char s[MAX_TEXT];
	size_t n;
};

static void add(struct text *t, const char *s, size_t n)
{
	if (n > sizeof(t->s) - 1 - t->n)
		n = sizeof(t->s) - 1 - t->n;
	memcpy(t->s + t->n, s, n);
	t->n += n;
}

static size_t copy_string(struct warp *w, const struct insn *in, unsigned int lane, uint64_t addr, char *out, size_t cap)
{
	size_t n = 0;

	for (; n + 1 < cap; n++) {
		const char *c = generic_pointer(w, lane, addr + n, 1, false);

		if (!c)
			fault_access(w, in, lane, addr + n, 1, "string read");
		if (!*c)
			break;
		out[n] = *c;
	}
	out[n] = 0;
	return n;
}

struct args {
	struct warp *w;
	const struct insn *in;
	unsigned int lane;
	uint64_t at;
};

static uint64_t next_arg(struct args *a, unsigned int size)
{
	uint64_t v = 0;
	const void *p;

	a->at = (a->at + size - 1) & ~(uint64_t)(size - 1);
	p = generic_pointer(a->w, a->lane, a->at, size, false);
	if (!p)
		fault_access(a->w, a->in, a->lane, a->at, size, "printf argument read");
	memcpy(&v, p, size);
	a->at += size;
	return v;
}

static int clamp_width(uint64_t v)
{
	int i = (int)v;

	return i > 512 ? 512 : i < -512 ? -512 : i;
}

/* One conversion, from after '%'. @return what follows it. */
static const char *convert(struct text *t, struct args *a, const char *f)
{
	const char *start = f;
	char spec[80], out[1200];
	size_t n = 1;
	unsigned int longs = 0;
	bool star_done = false;
	int len = 0;

	spec[0] = '%';
	for (; *f && strchr("-+ #0123456789.*", *f); f++) {
		if (*f == '*') {
			if (n > 40)
				break;
			n += snprintf(spec + n, sizeof(spec) - n, "%d", clamp_width(next_arg(a, 4)));
			star_done = true;
		} else if (n < 20 || (star_done && n < 50)) {
			spec[n++] = *f;
		}
	}
	spec[n] = 0;
	/* a width read from the text is limited as well */
	unsigned int digits = 0;

	for (size_t i = 1; i < n; i++) {
		digits = spec[i] >= '0' && spec[i] <= '9' ? digits + 1 : 0;
		if (digits > 3) {
			add(t, "%", 1);
			return start;
		}
	}
	for (; *f == 'l' || *f == 'h' || *f == 'z' || *f == 'j' || *f == 't'; f++)
		longs += *f == 'l' || *f == 'z' || *f == 'j' || *f == 't' ? 1 : 0;
	switch (*f) {
	case 'd': case 'i': {
		long long v = longs ? (long long)next_arg(a, 8) : (int32_t)next_arg(a, 4);

		memcpy(spec + n, "lld", 4);
		len = snprintf(out, sizeof(out), spec, v);
		break;
	}
	case 'u': case 'x': case 'X': case 'o': {
		unsigned long long v = next_arg(a, longs ? 8 : 4);

		memcpy(spec + n, "ll", 2);
		spec[n + 2] = *f;
		spec[n + 3] = 0;
		len = snprintf(out, sizeof(out), spec, v);
		break;
	}
	case 'c':
		memcpy(spec + n, "c", 2);
		len = snprintf(out, sizeof(out), spec, (int)next_arg(a, 4));
		break;
	case 'p':
		memcpy(spec + n, "p", 2);
		len = snprintf(out, sizeof(out), spec, (void *)(uintptr_t)next_arg(a, 8));
		break;
	case 'f': case 'F': case 'e': case 'E': case 'g': case 'G': case 'a': case 'A': {
		uint64_t bits = next_arg(a, 8);
		double v;

		memcpy(&v, &bits, 8);
		spec[n] = *f;
		spec[n + 1] = 0;
		len = snprintf(out, sizeof(out), spec, v);
		break;
	}
	case 's': {
		char str[1024];
		uint64_t addr = next_arg(a, 8);

		if (addr)
			copy_string(a->w, a->in, a->lane, addr, str, sizeof(str));
		else
			strcpy(str, "(null)");
		memcpy(spec + n, "s", 2);
		len = snprintf(out, sizeof(out), spec, str);
		break;
	}
	case '%':
		add(t, "%", 1);
		return f + 1;
	default:	/* not a conversion: shown as it stands */
		add(t, "%", 1);
		return start;
	}
	if (len > 0)
		add(t, out, (size_t)len < sizeof(out) ? (size_t)len : sizeof(out) - 1);
	return f + 1;
}

static void emit(struct warp *w, const char *s, size_t n)
{
	const struct ptx_launch *r = w->block->launch->request;

	if (!r->print)
		return;
	pthread_mutex_lock(&lock);
	r->print(r->opaque, s, n);
	pthread_mutex_unlock(&lock);
}

void print_format(struct warp *w, const struct insn *in, unsigned int lane, uint64_t format, uint64_t buffer)
{
	struct args a = { w, in, lane, buffer };
	char fmt[2048];
	struct text t;

	t.n = 0;
	copy_string(w, in, lane, format, fmt, sizeof(fmt));
	for (const char *f = fmt; *f;) {
		size_t n = strcspn(f, "%");

		add(&t, f, n);
		f += n;
		if (*f)
			f = convert(&t, &a, f + 1);
	}
	t.s[t.n] = 0;
	emit(w, t.s, t.n);
}

void print_assert(struct warp *w, const struct insn *in, unsigned int lane, uint64_t message, uint64_t file,
		  uint32_t line, uint64_t function)
{
	const uint32_t *tid = (const uint32_t *)w->base[BASE_WARP], *c = w->block->ctaid;
	char msg[512], name[512], func[512], out[1800];
	int n;

	copy_string(w, in, lane, message, msg, sizeof(msg));
	copy_string(w, in, lane, file, name, sizeof(name));
	copy_string(w, in, lane, function, func, sizeof(func));
	n = snprintf(out, sizeof(out), "%s:%u: %s: block: [%u,%u,%u], thread: [%u,%u,%u] Assertion `%s` failed.\n", name,
		     line, func, c[0], c[1], c[2], tid[SW_TID_X * WARP + lane], tid[SW_TID_Y * WARP + lane],
		     tid[SW_TID_Z * WARP + lane], msg);
	emit(w, out, n < (int)sizeof(out) ? n : (int)sizeof(out) - 1);
}
