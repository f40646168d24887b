// SPDX-License-Identifier: Apache-2.0
/* A kernel is moved as its relocations say, or refused with a message that says why. A small kernel, made here. TAP. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xen/elfnote.h>

#include "kaslr.h"

#define TEXT		0x1000000ull	/* physical; its bytes are at TEXT_FILE */
#define TEXT_FILE	0x1000
#define PERCPU		0x1200000ull
#define PERCPU_FILE	0x2000
#define NOTES_FILE	(TEXT_FILE + 0x700)
#define SIZE		0x3000
#define VIRTUAL(x)	((int32_t)(0xffffffff80000000ull + (x)))
#define MOVE		(6ull << 20)

static unsigned int tests, failures;
static char kernel_path[64], relocs_path[80];
static struct vgpuxl_error e;

static void ok(bool good, const char *what)
{
	tests++;
	failures += !good;
	printf("%sok %u - %s\n", good ? "" : "not ", tests, what);
	if (!good)
		printf("# %s\n", e.text);
}

static void write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, data, len) != (ssize_t)len || close(fd)) {
		perror(path);
		exit(1);
	}
}

struct image {
	Elf64_Ehdr h;
	Elf64_Phdr p[3];
	uint8_t rest[SIZE - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr)];
};

static struct image image;
/* A string for Xen, a word of somebody else's with the number of the entry point, the entry point. */
static const uint32_t notes[] = { 4, 6, 6, 0x6e6558, 0x756e696c, 0x78, 4, 4, XEN_ELFNOTE_PHYS32_ENTRY, 0x554e47, 7,
				  4, 8, XEN_ELFNOTE_PHYS32_ENTRY, 0x6e6558, 0x1000510, 0 };
#define ENTRY_NOTE	15

static void *at(struct image *i, uint64_t offset)
{
	return (uint8_t *)i + offset;
}

static void make_kernel(void)
{
	memset(&image, 0, sizeof(image));
	memcpy(image.h.e_ident, ELFMAG, SELFMAG);
	image.h.e_ident[EI_CLASS] = ELFCLASS64;
	image.h.e_machine = EM_X86_64;
	image.h.e_entry = TEXT;
	image.h.e_phoff = sizeof(image.h);
	image.h.e_phentsize = sizeof(Elf64_Phdr);
	image.h.e_phnum = 3;
	image.p[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_offset = TEXT_FILE, .p_paddr = TEXT, .p_vaddr = VIRTUAL(TEXT),
				   .p_filesz = 0x800, .p_memsz = 0x1000 };
	image.p[1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_offset = PERCPU_FILE, .p_paddr = PERCPU, .p_vaddr = 0,
				   .p_filesz = 0x800, .p_memsz = 0x800 };
	image.p[2] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = NOTES_FILE, .p_paddr = TEXT + 0x700, .p_vaddr = VIRTUAL(TEXT + 0x700),
				   .p_filesz = sizeof(notes), .p_memsz = sizeof(notes) };
	memcpy(at(&image, NOTES_FILE), notes, sizeof(notes));
	*(uint64_t *)at(&image, TEXT_FILE + 8) = 0xffffffff81000123ull;
	*(uint32_t *)at(&image, TEXT_FILE + 0x20) = 0x81000456u;
	*(uint32_t *)at(&image, TEXT_FILE + 0x24) = 0x00abcdefu;
	*(uint64_t *)at(&image, PERCPU_FILE + 0x10) = 0xffffffff81000789ull;
	*(uint64_t *)at(&image, TEXT_FILE + 0x30) = 0x1122334455667788ull;	/* nothing says that it changes */
	write_file(kernel_path, &image, sizeof(image));
}

static const int32_t good[] = { 0, VIRTUAL(TEXT + 8), VIRTUAL(PERCPU + 0x10), 0, VIRTUAL(TEXT + 0x24), 0, VIRTUAL(TEXT + 0x20) };

static void moves(void)
{
	struct image now;
	uint32_t told[sizeof(notes) / 4];
	int fd;

	make_kernel();
	write_file(relocs_path, good, sizeof(good));
	ok(!kaslr_move(kernel_path, MOVE, &fd, &e) && fd >= 0, "a kernel with its relocations is moved");
	if (fd < 0 || pread(fd, &now, sizeof(now), 0) != sizeof(now) ||
	    pread(fd, told, sizeof(told), now.p[2].p_offset) != sizeof(told))
		exit(1);
	close(fd);
	ok(now.h.e_entry == TEXT + MOVE && now.p[0].p_paddr == TEXT + MOVE && now.p[0].p_vaddr == image.p[0].p_vaddr + MOVE,
	   "entry point and segments have moved");
	ok(now.p[1].p_paddr == PERCPU + MOVE && !now.p[1].p_vaddr, "but for the addresses of per-CPU variables");
	ok(*(uint64_t *)at(&now, TEXT_FILE + 8) == 0xffffffff81000123ull + MOVE &&
	   *(uint64_t *)at(&now, PERCPU_FILE + 0x10) == 0xffffffff81000789ull + MOVE, "64-bit addresses have moved");
	ok(*(uint32_t *)at(&now, TEXT_FILE + 0x20) == 0x81000456u + MOVE, "32-bit addresses have moved");
	ok(*(uint32_t *)at(&now, TEXT_FILE + 0x24) == 0x00abcdefu - MOVE, "what is relative to the kernel has moved the other way");
	ok(!memcmp(at(&now, NOTES_FILE), notes, sizeof(notes)), "the notes that are loaded do not tell how far");
	ok(told[ENTRY_NOTE] == notes[ENTRY_NOTE] + MOVE, "those for Xen's tools have the new entry point");
	told[ENTRY_NOTE] = notes[ENTRY_NOTE];
	ok(!memcmp(told, notes, sizeof(notes)), "and are otherwise the same");
	ok(*(uint64_t *)at(&now, TEXT_FILE + 0x30) == 0x1122334455667788ull, "the rest is what it was");
	ok(pread(open(kernel_path, O_RDONLY | O_CLOEXEC), &now, sizeof(now), 0) == sizeof(now) && !memcmp(&now, &image, sizeof(now)),
	   "and so is the file");
}

static void refuses(const char *what, const void *relocs, size_t len, const char *word)
{
	int fd;

	write_file(relocs_path, relocs, len);
	ok(kaslr_move(kernel_path, MOVE, &fd, &e) == -ENOEXEC && fd < 0 && strstr(e.text, word) && strstr(e.text, "nokaslr"), what);
}

static void bad(void)
{
	const int32_t outside[] = { 0, VIRTUAL(TEXT + 0x7fc), 0, 0 }, far[] = { 0, 4096, 0, 0 }, behind[] = { 0, 0, 0, VIRTUAL(TEXT + 0x7fd) };
	const int32_t early[] = { 0, VIRTUAL(TEXT), 0 }, many[] = { 0, 0, 0, 0 }, headless[] = { VIRTUAL(TEXT), 0, 0 };
	int fd;

	make_kernel();
	refuses("a place that reaches out of its segment is refused", outside, sizeof(outside), "not in it");
	refuses("so is a 32-bit one", behind, sizeof(behind), "not in it");
	refuses("so is one that is no kernel's address", far, sizeof(far), "not in it");
	refuses("a file that ends early is refused", early, sizeof(early), "ends early");
	refuses("so is one with too many lists", many, sizeof(many), "three lists");
	refuses("so is one without its first zero", headless, sizeof(headless), "no list");
	refuses("so is one of odd length", good, sizeof(good) - 1, "no list");
	write_file(relocs_path, good, sizeof(good));
	image.p[0].p_offset = ~0ull - 0x100;
	write_file(kernel_path, &image, sizeof(image));
	ok(kaslr_move(kernel_path, MOVE, &fd, &e) == -ENOEXEC && fd < 0, "a segment beyond the file is refused");
	make_kernel();
	*(uint32_t *)at(&image, NOTES_FILE + 4 * 13) = 1;
	write_file(kernel_path, &image, sizeof(image));
	ok(kaslr_move(kernel_path, MOVE, &fd, &e) == -ENOEXEC && strstr(e.text, "entry point"), "a kernel without an entry point for PVH is refused");
	make_kernel();
	*(uint32_t *)at(&image, NOTES_FILE) = 0xfffffff0u;
	write_file(kernel_path, &image, sizeof(image));
	ok(kaslr_move(kernel_path, MOVE, &fd, &e) == -ENOEXEC && strstr(e.text, "entry point"), "so is one whose notes make no sense");
	make_kernel();
	image.h.e_phoff = SIZE - 8;
	write_file(kernel_path, &image, sizeof(image));
	ok(kaslr_move(kernel_path, MOVE, &fd, &e) == -ENOEXEC && strstr(e.text, "no ELF"), "so are headers beyond it");
	write_file(kernel_path, "MZ", 2);
	ok(kaslr_move(kernel_path, MOVE, &fd, &e) == -ENOEXEC && strstr(e.text, "bzImage"), "so is what is no ELF file");
}

/* What was chosen for @memory MiB, over many tries; -1: it was not moved. */
static void chosen(uint64_t memory, uint64_t ramdisk, const char *cmdline, long long *least, long long *most)
{
	*least = 1ll << 40;
	*most = -2;
	for (int i = 0; i < 400; i++) {
		long long distance = -1;
		Elf64_Ehdr h;
		int fd;

		if (kaslr_kernel(kernel_path, cmdline, memory << 20, ramdisk << 20, &fd, &e))
			return;
		if (fd >= 0) {
			if (pread(fd, &h, sizeof(h), 0) == sizeof(h))
				distance = h.e_entry - TEXT;
			close(fd);
		}
		*least = distance < *least ? distance : *least;
		*most = distance > *most ? distance : *most;
	}
}

static void choices(void)
{
	long long least, most;

	make_kernel();
	write_file(relocs_path, good, sizeof(good));
	/* The kernel ends at 18 MiB and a page: 64 - 18 - 16 - 1. */
	chosen(64, 0, "quiet", &least, &most);
	ok(least == -1 && most == 28ll << 20, "any place that leaves room in the domain's memory, sometimes the old one");
	chosen(64, 20, NULL, &least, &most);
	ok(least == -1 && most == 8ll << 20, "a ramdisk is left room, too");
	chosen(32, 0, NULL, &least, &most);
	ok(least == -1 && most == -1, "with little memory it stays where it is");
	chosen(1 << 20, 0, NULL, &least, &most);
	ok(most > 512ll << 20 && most <= (1024 - 34) << 20, "with much memory it stays within the kernel's gigabyte");
	chosen(64, 0, "console=hvc0 nokaslr quiet", &least, &most);
	ok(least == -1 && most == -1, "nokaslr leaves it where it is");
	chosen(64, 0, "nokaslrx xnokaslr", &least, &most);
	ok(most > 0, "a word like it does not");
	unlink(relocs_path);
	chosen(64, 0, "quiet", &least, &most);
	ok(least == -1 && most == -1, "a kernel without relocations beside it is taken as it is");
}

int main(void)
{
	char dir[] = "/tmp/kaslr.XXXXXX";

	if (!mkdtemp(dir))
		return 1;
	snprintf(kernel_path, sizeof(kernel_path), "%s/vmlinux", dir);
	snprintf(relocs_path, sizeof(relocs_path), "%s.relocs", kernel_path);
	moves();
	bad();
	choices();
	unlink(kernel_path);
	rmdir(dir);
	printf("1..%u\n", tests);
	return failures ? 1 : 0;
}
