// SPDX-License-Identifier: Apache-2.0
/*
 * vgpuctl top: zones and sessions, alive. Rates are differences between two answers of the broker; the broker only
 * reads counters that the workers keep anyway.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "vgpuctl.h"

#define ROWS_MAX 1024

/* What a row was in the answer before: by zone, device and, for sessions, number. */
struct sample {
	uint64_t zone, session;		/* session: 0 for a device */
	char device[64];
	uint64_t calls, launches, gpu_ns;
	bool gpu_known;
	double calls_s, launches_s, gpu;
	struct json_object *o;
};

static struct sample before[ROWS_MAX], now[ROWS_MAX];
static unsigned int nbefore, nnow;
static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	stop = 1;
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void take(struct json_object *list, bool sessions, double since)
{
	for (size_t i = 0; list && i < json_object_array_length(list) && nnow < ROWS_MAX; i++) {
		struct sample *s = &now[nnow++];
		struct json_object *gpu;

		*s = (struct sample){ .o = json_object_array_get_idx(list, i) };
		s->zone = json_u64(s->o, "zone");
		s->session = sessions ? json_u64(s->o, "session") : 0;
		snprintf(s->device, sizeof(s->device), "%s", json_text(s->o, "device"));
		s->calls = json_u64(s->o, "calls");
		s->launches = json_u64(s->o, "launches");
		gpu = json_object_object_get(s->o, "gpu_ns");
		s->gpu_known = gpu;
		s->gpu_ns = gpu ? json_object_get_uint64(gpu) : 0;
		for (unsigned int k = 0; k < nbefore; k++) {
			const struct sample *b = &before[k];

			if (b->zone != s->zone || b->session != s->session || strcmp(b->device, s->device) || since <= 0)
				continue;
			s->calls_s = s->calls > b->calls ? (double)(s->calls - b->calls) / since : 0;
			s->launches_s = s->launches > b->launches ? (double)(s->launches - b->launches) / since : 0;
			s->gpu = s->gpu_ns > b->gpu_ns ? (double)(s->gpu_ns - b->gpu_ns) / since / 1e9 * 100 : 0;
		}
	}
}

static const char *gpu_text(const struct sample *s, char *buf, size_t cap)
{
	if (s->gpu_known)
		snprintf(buf, cap, "%.1f", s->gpu);
	else
		snprintf(buf, cap, "-");
	return buf;
}

static void print(unsigned int rows, bool bold)
{
	const char *on = bold ? "\033[7m" : "", *off = bold ? "\033[0m" : "";
	char gpu[16], total[16], clock[16];
	time_t t = time(NULL);
	unsigned int line = 4;
	double calls = 0;
	struct tm tm;

	for (unsigned int i = 0; i < nnow; i++)
		calls += now[i].session ? 0 : now[i].calls_s;
	strftime(clock, sizeof(clock), "%T", localtime_r(&t, &tm));
	printf("vgpuctl top  %s  %.0f calls/s\n\n", clock, calls);
	printf("%s%5s %-14s %-8s %6s %8s %7s %10s %10s %8s %8s %6s %8s%s\n", on, "ZONE", "NAME", "DEVICE", "WEIGHT", "SESSIONS",
	       "WAITING", "CALLS/s", "LAUNCH/s", "MEM/MiB", "QUOTA", "GPU%", "REFUSED", off);
	for (unsigned int i = 0; i < nnow && line < rows; i++) {
		const struct sample *s = &now[i];
		uint64_t quota = json_u64(s->o, "memory_quota");

		if (s->session)
			continue;
		snprintf(total, sizeof(total), quota ? "%llu" : "-", (unsigned long long)quota >> 20);
		printf("%5llu %-14.14s %-8.8s %6llu %8llu %7llu %10.0f %10.0f %8.1f %8s %6s %8llu\n", (unsigned long long)s->zone,
		       json_text(s->o, "name"), s->device, (unsigned long long)json_u64(s->o, "weight"),
		       (unsigned long long)json_u64(s->o, "sessions"), (unsigned long long)json_u64(s->o, "waiting"), s->calls_s,
		       s->launches_s, (double)json_u64(s->o, "memory_used") / (1 << 20), total, gpu_text(s, gpu, sizeof(gpu)),
		       (unsigned long long)(json_u64(s->o, "refused") + json_u64(s->o, "quota_refusals")));
		line++;
	}
	printf("\n%s%5s %-8s %-8s %-8s %-20s %10s %10s %8s %8s %6s%s\n", on, "ZONE", "DEVICE", "SESSION", "STATE", "PROGRAM",
	       "CALLS/s", "LAUNCH/s", "MEM/MiB", "HANDLES", "GPU%", off);
	line += 2;
	for (unsigned int i = 0; i < nnow && line < rows; i++) {
		const struct sample *s = &now[i];
		const char *program = json_text(s->o, "program");

		if (!s->session)
			continue;
		printf("%5llu %-8.8s %-8llu %-8s %-20.20s %10.0f %10.0f %8.1f %8llu %6s\n", (unsigned long long)s->zone, s->device,
		       (unsigned long long)s->session, json_text(s->o, "state"), *program ? program : "-", s->calls_s,
		       s->launches_s, (double)json_u64(s->o, "memory_used") / (1 << 20),
		       (unsigned long long)json_u64(s->o, "handles"), gpu_text(s, gpu, sizeof(gpu)));
		line++;
	}
	fflush(stdout);
}

/* Each row with its rates, as one line of JSON. */
static void print_sample(struct json_object *all)
{
	for (unsigned int i = 0; i < nnow; i++) {
		json_object_object_add(now[i].o, "calls_per_s", json_object_new_double(now[i].calls_s));
		json_object_object_add(now[i].o, "launches_per_s", json_object_new_double(now[i].launches_s));
		json_object_object_add(now[i].o, "gpu_percent", now[i].gpu_known ? json_object_new_double(now[i].gpu) : NULL);
	}
	puts(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PLAIN));
	fflush(stdout);
}

/* @return true if the user wants to leave */
static bool pause_for(double left, bool live)
{
	struct pollfd pfd = { .fd = 0, .events = POLLIN };
	char key;

	if (!live) {
		poll(NULL, 0, (int)(left * 1000));
		return false;
	}
	return poll(&pfd, 1, (int)(left * 1000)) > 0 && (read(0, &key, 1) <= 0 || key == 'q' || key == 3);
}

static int run(double delay, long turns, bool json, bool live)
{
	double last = 0;

	for (long turn = 0; !stop; turn++) {
		struct json_object *all = gather(turn > 0);
		struct winsize size = { .ws_row = 0 };
		double at = seconds();

		if (!all)
			return 1;
		nnow = 0;
		take(json_object_object_get(all, "devices"), false, at - last);
		take(json_object_object_get(all, "sessions"), true, at - last);
		last = at;
		/* The first answer has no rates yet: it only counts as a beginning. */
		if (turn) {
			if (live) {
				ioctl(1, TIOCGWINSZ, &size);
				fputs("\033[H\033[J", stdout);
			}
			if (json)
				print_sample(all);
			else
				print(live && size.ws_row ? size.ws_row : ROWS_MAX, live);
		}
		memcpy(before, now, sizeof(before));
		nbefore = nnow;
		json_object_put(all);
		if (turns && turn >= turns)
			break;
		if (pause_for(turn ? delay : delay < 1 ? delay : 1, live))
			break;
	}
	return 0;
}

int top_command(int argc, char **argv)
{
	static const struct option options[] = {
		{ "once", no_argument, NULL, 'o' },	    { "batch", no_argument, NULL, 'b' },
		{ "delay", required_argument, NULL, 'd' },  { "count", required_argument, NULL, 'n' },
		{ "json", no_argument, NULL, 'j' },	    { 0 }
	};
	struct sigaction sa = { .sa_handler = on_signal };
	bool json = false, batch = false, live;
	struct termios old, raw;
	double delay = 2;
	long turns = 0;
	int c, ret;

	while ((c = getopt_long(argc, argv, "obd:n:j", options, NULL)) != -1) {
		switch (c) {
		case 'o':
			turns = 1;
			batch = true;
			break;
		case 'b':
			batch = true;
			break;
		case 'd':
			delay = atof(optarg);
			if (delay < 0.1 || delay > 3600)
				return fail("top: -d wants seconds, 0.1 to 3600");
			break;
		case 'n':
			turns = atol(optarg);
			if (turns < 1)
				return fail("top: -n wants how many times, 1 or more");
			break;
		case 'j':
			json = batch = true;
			break;
		default:
			return 2;
		}
	}
	live = !batch && isatty(0) && isatty(1) && !tcgetattr(0, &old);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (live) {
		raw = old;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(0, TCSANOW, &raw);
		fputs("\033[?1049h\033[?25l", stdout);	/* a screen of its own, no cursor */
	}
	ret = run(delay, turns, json, live);
	if (live) {
		fputs("\033[?25h\033[?1049l", stdout);
		fflush(stdout);
		tcsetattr(0, TCSANOW, &old);
	}
	return ret;
}
