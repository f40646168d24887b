// SPDX-License-Identifier: Apache-2.0
/* What vgpu= may say, and that everything else is refused with a message that names it. TAP. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vgpuxl.h"

static unsigned int tests, failures;

static void ok(bool good, const char *what, const char *detail)
{
	tests++;
	failures += !good;
	printf("%sok %u - %s\n", good ? "" : "not ", tests, what);
	if (!good)
		printf("# %s\n", detail);
}

static void accepts(const char *text, const char *gpu, uint32_t memory, uint32_t weight, uint32_t sessions,
		    const char *backend)
{
	struct vgpuxl_entry d;
	struct vgpuxl_error e = { 0 };
	char what[256];
	bool good = !vgpuxl_entry_parse(text, &d, &e) && !strcmp(d.gpu, gpu) && d.memory == memory &&
		    d.weight == weight && d.sessions == sessions && !strcmp(d.backend, backend);

	snprintf(what, sizeof(what), "accepts \"%s\"", text);
	ok(good, what, e.text);
}

/* @mention: words the message must contain, separated by '|'. */
static void refuses(const char *text, const char *mention)
{
	char what[320], words[128], *word, *rest = words;
	struct vgpuxl_entry d;
	struct vgpuxl_error e = { 0 };
	bool good = vgpuxl_entry_parse(text, &d, &e) < 0;

	snprintf(words, sizeof(words), "%s", mention);
	while ((word = strsep(&rest, "|")))
		good = good && strstr(e.text, word);
	snprintf(what, sizeof(what), "refuses \"%.100s\" and says why", text);
	ok(good, what, e.text);
}

static void entries(void)
{
	char longest[256];

	accepts("", "0", 0, 1, 64, "0");
	accepts("gpu=0,memory=4096,weight=1,sessions=64", "0", 4096, 1, 64, "0");
	accepts(" gpu = 0+1 , memory = 1 ", "0+1", 1, 1, 64, "0");
	accepts("gpu=GPU-8a3f0c11-7d1a-4f0e-9a50-2f0c31b0e7aa", "GPU-8a3f0c11-7d1a-4f0e-9a50-2f0c31b0e7aa", 0, 1, 64, "0");
	accepts("gpu=MIG-GPU-1/2/0", "MIG-GPU-1/2/0", 0, 1, 64, "0");
	accepts("backend=gpudom,memory=16777216,weight=10000,sessions=1024", "0", 16777216, 10000, 1024, "gpudom");

	refuses("gpu", "gpu|key=value");
	refuses("gpu=", "gpu=|indices");
	refuses("gpu=0+", "gpu=0+");
	refuses("gpu=+0", "gpu=+0");
	refuses("gpu=0;rm", "gpu=0;rm");
	refuses("memory=", "memory=|16777216");
	refuses("memory=4G", "memory=4G|MiB");
	refuses("memory=-1", "memory=-1");
	refuses("memory=16777217", "memory=16777217");
	refuses("memory=18446744073709551617", "memory=18446744073709551617");
	refuses("memory=0x10", "memory=0x10");
	refuses("weight=0", "weight=0|10000");
	refuses("weight=1.5", "weight=1.5");
	refuses("sessions=0", "sessions=0|1024");
	refuses("sessions=1025", "sessions=1025");
	refuses("backend=", "backend=");
	refuses("backend=a/b", "backend=a/b");
	refuses("colour=red", "colour|gpu, memory, weight, sessions and backend");
	refuses("gpu=0,", "key=value");
	refuses(",gpu=0", "key=value");
	refuses("gpu=0,gpu=1", "gpu|twice");
	refuses("weight==1", "weight");

	memset(longest, 'a', sizeof(longest));
	memcpy(longest, "gpu=", 4);
	longest[4 + VGPUXL_GPU_MAX - 1] = '\0';
	accepts(longest, longest + 4, 0, 1, 64, "0");
	longest[4 + VGPUXL_GPU_MAX - 1] = 'a';
	longest[4 + VGPUXL_GPU_MAX] = '\0';
	refuses(longest, "127");
}

static int read_config(const char *text, const char *extra, struct vgpuxl_config *config, struct vgpuxl_error *e)
{
	char path[] = "/tmp/vgpu-config-XXXXXX";
	int fd = mkstemp(path), ret;

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	close(fd);
	ret = vgpuxl_config_read(path, extra, config, e);
	unlink(path);
	return ret;
}

static void files(void)
{
	struct vgpuxl_config c;
	struct vgpuxl_error e = { 0 };

	ok(!read_config("name=\"pod\"\ntype=\"pvh\"\nmemory=256\nvgpu=[\"gpu=0,memory=64\",\"gpu=1\"]\n", NULL, &c, &e) &&
	   c.nentries == 2 && !strcmp(c.name, "pod") && !strcmp(c.type, "pvh") && c.entries[0].memory == 64 &&
	   !strcmp(c.entries[1].gpu, "1"), "two devices, name and type from a file", e.text);
	vgpuxl_config_free(&c);
	ok(!read_config("name=\"pod\"\n", NULL, &c, &e) && c.nentries == 0, "a file without vgpu= has no devices", e.text);
	vgpuxl_config_free(&c);
	ok(!read_config("name=\"pod\"\nvgpu=[]\n", NULL, &c, &e) && c.nentries == 0, "an empty list has no devices", e.text);
	vgpuxl_config_free(&c);
	ok(!read_config("name=\"pod\"\n", "name=\"other\"\nvgpu=[\"weight=3\"]\n", &c, &e) && c.nentries == 1 &&
	   !strcmp(c.name, "other") && c.entries[0].weight == 3, "key=value words come after the file", e.text);
	vgpuxl_config_free(&c);
	ok(!read_config("type='pvh' # comment with = in it\nname=\"pod\"; memory=64 ; vcpus=3\nextra='a=b c'\nroot=\"/dev/xvda\"\n"
			"disk=[ 'a', # one\n  \"b\" ]\nvif=['mac=00:16:3e:00:00:01']\non_crash=\"preserve\"\n", NULL, &c, &e) &&
	   !c.unknown && c.memory == 64 && c.vcpus == 3 && c.ndisks == 2 && c.nvifs == 1 && !strcmp(c.disks[1], "b") &&
	   !strcmp(c.cmdline, "root=/dev/xvda a=b c") && c.on_crash == VGPUXL_ACTION_PRESERVE, "the keys of a domain", e.text);
	vgpuxl_config_free(&c);
	ok(!read_config("name=\"pod\"\nx='[' # ]\npci=[\"03:00.0\"]\n", NULL, &c, &e) && c.unknown && !strcmp(c.unknown, "x"),
	   "a key that is not carried is told", e.text);
	vgpuxl_config_free(&c);
	ok(read_config("name=\"pod\"\nmemory=\"lots\"\n", NULL, &c, &e) < 0 && strstr(e.text, "memory"),
	   "a number that is none is refused", e.text);
	ok(read_config("name=\"pod\"\nvcpus=0\n", NULL, &c, &e) < 0 && strstr(e.text, "vcpus"), "and one out of range", e.text);
	ok(read_config("name=\"pod\"\non_reboot=\"explode\"\n", NULL, &c, &e) < 0 && strstr(e.text, "explode"),
	   "and an action that there is not", e.text);
	ok(read_config("name=[1]\n", NULL, &c, &e) < 0 && strstr(e.text, "name"), "and a name that is a list", e.text);
	ok(read_config("name=\"pod\"\nvgpu=[\"gpu=0\",\"memory=much\"]\n", NULL, &c, &e) < 0 &&
	   strstr(e.text, "memory=much"), "one bad entry refuses the file", e.text);
	ok(read_config("vgpu=\"gpu=0\"\n", NULL, &c, &e) < 0 && strstr(e.text, "not a list"),
	   "vgpu= must be a list", e.text);
	ok(read_config("vgpu=[[\"gpu=0\"]]\n", NULL, &c, &e) < 0 && strstr(e.text, "vgpu[0]"),
	   "a list in the list is refused", e.text);
	ok(read_config("name=\"pod\nvgpu=[\n", NULL, &c, &e) < 0 && strstr(e.text, "not a domain's configuration"),
	   "a broken file is refused", e.text);
	ok(vgpuxl_config_read("/nonexistent/pod.cfg", NULL, &c, &e) < 0 && strstr(e.text, "/nonexistent/pod.cfg"),
	   "a missing file is named", e.text);
	ok(vgpuxl_config_read("/", NULL, &c, &e) < 0, "a folder is no configuration", e.text);
}

static void changes(void)
{
	struct vgpuxl_entry d;
	struct vgpuxl_error e = { 0 };
	unsigned int which;
	char text[256];

	ok(!vgpuxl_change_parse("memory=64,weight=3", &d, &which, &e) && which == (VGPUXL_SET_MEMORY | VGPUXL_SET_WEIGHT) &&
	   d.memory == 64 && d.weight == 3, "a change names what changes", e.text);
	ok(vgpuxl_change_parse("gpu=1", &d, &which, &e) < 0 && strstr(e.text, "detach"), "a GPU does not change", e.text);
	ok(vgpuxl_change_parse("", &d, &which, &e) < 0 && strstr(e.text, "memory="), "no change is none", e.text);
	ok(vgpuxl_change_parse("memory=4G", &d, &which, &e) < 0 && strstr(e.text, "memory=4G"), "nor is a bad one", e.text);
	vgpuxl_entry_parse("gpu=0+1,memory=7,weight=2,sessions=3,backend=dom", &d, &e);
	vgpuxl_entry_print(&d, text, sizeof(text));
	ok(!strcmp(text, "gpu=0+1,memory=7,weight=2,sessions=3,backend=dom"), "an entry is printed as it is read", text);
}

int main(void)
{
	entries();
	changes();
	files();
	printf("1..%u\n", tests);
	return failures != 0;
}
