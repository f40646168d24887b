// SPDX-License-Identifier: Apache-2.0
/* vgpuctl watch: the broker's events, one a line, through the broker's restarts too. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "vgpuctl.h"

#define LINE_MAX_	4096
#define RETRY_MS	1000

static void print_event(const char *line, bool json)
{
	struct json_object *o;
	char stamp[32];
	struct tm tm;
	time_t t;

	if (json) {
		puts(line);
		fflush(stdout);
		return;
	}
	o = json_tokener_parse(line);
	if (!o)
		return;
	t = (time_t)(json_u64(o, "time_ms") / 1000);
	strftime(stamp, sizeof(stamp), "%T", localtime_r(&t, &tm));
	printf("%s %-16s", stamp, json_text(o, "event"));
	if (json_object_object_get(o, "zone"))
		printf(" zone %s", json_text(o, "zone"));
	if (json_object_object_get(o, "device"))
		printf(" device %s", json_text(o, "device"));
	if (json_object_object_get(o, "session"))
		printf(" session %s", json_text(o, "session"));
	if (*json_text(o, "text"))
		printf(": %s", json_text(o, "text"));
	putchar('\n');
	fflush(stdout);
	json_object_put(o);
}

static void own_event(const char *event, const char *text, bool json)
{
	struct json_object *o = json_object_new_object();
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	put_number(o, "time_ms", (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
	put_string(o, "event", event);
	put_string(o, "text", text);
	print_event(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN), json);
	json_object_put(o);
}

/* Until it ends or has told @left events. @return how many */
static long follow_events(int fd, bool json, long left)
{
	struct timeval none = { 0 };
	FILE *in = fdopen(fd, "r");
	char line[LINE_MAX_];
	long told = 0;

	if (!in) {
		close(fd);
		return 0;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	while ((!left || told < left) && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\n")] = '\0';
		print_event(line, json);
		told++;
	}
	fclose(in);
	return told;
}

int watch_command(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' }, { "count", required_argument, NULL, 'n' }, { 0 }
	};
	bool json = false, known = false;
	long count = 0, told = 0;
	int c;

	while ((c = getopt_long(argc, argv, "jn:", options, NULL)) != -1) {
		if (c == 'j')
			json = true;
		else if (c != 'n')
			return 2;
		else if (atol(optarg) < 1)
			return fail("watch: -n wants how many events, 1 or more");
		else
			count = atol(optarg);
	}
	for (;;) {
		int fd = broker_ask("watch\n");

		if (fd < 0 && !known)
			return no_broker(-fd);
		if (fd >= 0) {
			if (known)
				own_event("broker-back", "the broker answers again", json);
			known = true;
			told += follow_events(fd, json, count ? count - told : 0);
			if (count && told >= count)
				return 0;
			own_event("broker-gone", "the broker has closed the connection; waiting for it to come back", json);
		}
		do
			poll(NULL, 0, RETRY_MS);
		while ((fd = broker_ask("stats\n")) < 0);
		close(fd);
	}
}
