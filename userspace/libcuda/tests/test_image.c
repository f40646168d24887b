// SPDX-License-Identifier: Apache-2.0
/* Image sizes: right for what compilers emit, and never a byte beyond what is readable for anything else. */
#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../image.h"
#include "tap.h"

struct wrapper {
	uint32_t magic, version;
	const void *data;
	const void *const *parts;
};

struct fatbin {
	uint32_t magic;
	uint16_t version, header_size;
	uint64_t size;
	char body[48];
};

static struct fatbin fatbin = { 0xba55ed50, 1, 16, 48, "" };

static bool is(const void *p, size_t readable, enum image_kind kind, const void *data, size_t size)
{
	struct image i;

	return image_measure(p, readable, &i) == kind && (kind == IMAGE_NONE || (i.data == data && i.size == size));
}

static void fatbins(void)
{
	struct fatbin f = fatbin, empty = { 0xba55ed50, 1, 16, 0, "" };
	const void *parts[] = { &fatbin, NULL };
	struct wrapper w = { 0x466243b1, 1, &f, NULL };

	ok(is(&f, sizeof(f), IMAGE_FATBIN, &f, 64), "a fatbin is header and body");
	ok(is(&w, sizeof(w), IMAGE_FATBIN, &f, 64), "a wrapper of version 1 stands for its fatbin");
	w.version = 2;
	ok(is(&w, sizeof(w), IMAGE_FATBIN, &f, 64), "so does one of version 2");
	w.parts = parts;
	ok(is(&w, sizeof(w), IMAGE_FATBIN, &f, 64), "with its parts linked too");
	{
		struct image i;

		image_measure(&w, sizeof(w), &i);
		ok(i.parts, "and it is known that there are parts");
	}
	w.data = &empty;
	{
		struct image i;

		ok(image_measure(&w, sizeof(w), &i) == IMAGE_NEEDS_LINKER, "parts that nobody linked are told apart");
	}
	w.data = NULL;
	ok(is(&w, sizeof(w), IMAGE_NONE, NULL, 0), "a wrapper of nothing is none");
	w.data = &w;
	ok(is(&w, sizeof(w), IMAGE_NONE, NULL, 0), "a wrapper of itself is none");
	w.data = &f;
	w.version = 3;
	ok(is(&w, sizeof(w), IMAGE_NONE, NULL, 0), "a wrapper of an unknown version is none");
	f.size = UINT64_MAX - 8;
	ok(is(&f, SIZE_MAX, IMAGE_NONE, NULL, 0), "a size that wraps is none");
	f.size = 1ull << 40;
	ok(is(&f, SIZE_MAX, IMAGE_NONE, NULL, 0), "a size beyond reason is none");
	f.size = 49;
	ok(is(&f, sizeof(f), IMAGE_NONE, NULL, 0), "a size beyond the buffer is none");
	f = fatbin;
	f.header_size = 8;
	ok(is(&f, sizeof(f), IMAGE_NONE, NULL, 0), "a header shorter than itself is none");
}

static struct {
	Elf64_Ehdr h;
	char text[100];
	Elf64_Shdr s[3];
} elf;

static void elfs(void)
{
	memcpy(elf.h.e_ident, ELFMAG, SELFMAG);
	elf.h.e_ident[EI_CLASS] = ELFCLASS64;
	elf.h.e_ident[EI_DATA] = ELFDATA2LSB;
	elf.h.e_shoff = offsetof(__typeof__(elf), s);
	elf.h.e_shnum = 3;
	elf.h.e_shentsize = sizeof(Elf64_Shdr);
	elf.s[1] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_offset = 64, .sh_size = 100 };
	elf.s[2] = (Elf64_Shdr){ .sh_type = SHT_NOBITS, .sh_offset = 64, .sh_size = 1 << 30 };
	ok(is(&elf, sizeof(elf), IMAGE_ELF, &elf, sizeof(elf)), "an ELF file reaches to its last header");
	ok(is(&elf, sizeof(elf) - 1, IMAGE_NONE, NULL, 0), "one that is cut short is none");
	elf.h.e_shentsize = 1;
	ok(is(&elf, sizeof(elf), IMAGE_NONE, NULL, 0), "one with odd headers is none");
	elf.h.e_shentsize = sizeof(Elf64_Shdr);
	elf.s[1].sh_offset = UINT64_MAX - 4;
	ok(is(&elf, sizeof(elf), IMAGE_NONE, NULL, 0), "one with a section that wraps is none");
	elf.s[1].sh_offset = 64;
	elf.h.e_ident[EI_CLASS] = ELFCLASS32;
	ok(is(&elf, sizeof(elf), IMAGE_NONE, NULL, 0), "one of 32 bits is none");
	elf.h.e_ident[EI_CLASS] = ELFCLASS64;
}

static void texts(void)
{
	static const char ptx[] = "\n//\n.version 9.0\n.target sm_75\n";

	ok(is(ptx, sizeof(ptx), IMAGE_PTX, ptx, sizeof(ptx)), "PTX reaches to its NUL");
	ok(is(ptx, sizeof(ptx) - 1, IMAGE_NONE, NULL, 0), "PTX without one is none");
	ok(is("", 1, IMAGE_NONE, NULL, 0), "no text is none");
	ok(is("\x01\x02\x03\x04xyz", 8, IMAGE_NONE, NULL, 0), "what is no text is none");
}

/* What a device runs: machine code of its own generation, and no newer; PTX only if it takes nothing else. */
static void devices(void)
{
	static struct {
		struct { uint32_t magic; uint16_t version, header_size; uint64_t size; } h;
		struct {
			uint16_t kind, version;
			uint32_t header_size;
			uint64_t size;
			uint32_t unused[3], sm, unused2[2];
			uint64_t flags;
			char more[16], code[16];
		} m[2];
	} f = {
		.h = { 0xba55ed50, 1, 16, sizeof(f) - 16 },
		.m = { { .kind = 2, .header_size = 64, .size = 16, .sm = 86 }, { .kind = 1, .header_size = 64, .size = 16, .sm = 90 } },
	};
	const struct image_device ampere = { 8, 6, false }, older = { 8, 0, false }, hopper = { 9, 0, false },
				  soft = { 12, 0, true }, soft_older = { 8, 6, true };
	struct image image;

	ok(image_measure(&f, sizeof(f), &image) == IMAGE_FATBIN, "a fatbin of two members is one");
	ok(image_for(&image, &ampere), "machine code for just this device is for it");
	ok(!image_for(&image, &older), "for a newer one it is not");
	ok(!image_for(&image, &hopper), "PTX is for nobody who would have to compile it");
	ok(image_for(&image, &soft), "but for a device that takes nothing else");
	ok(!image_for(&image, &soft_older), "and not for one that it is too new for");
	ok(!image_may_print(&image), "what names no function that prints does not");
	memcpy(f.m[1].code, ", vprintf, (", 12);
	ok(image_may_print(&image), "what names it may");
	f.m[1].code[3] = '_';
	f.m[1].flags = 0x8000;
	ok(image_may_print(&image), "so may what is compressed");
	f.m[0].header_size = 0;
	ok(!image_may_print(&image), "if there is such a member");
	f.m[0].header_size = 64;
	f.m[0].size = UINT64_MAX - 63;
	ok(!image_for(&image, &ampere) && !image_for(&image, &soft), "members that wrap are for nobody");
	f.m[0].size = 16;
	f.m[0].header_size = 0;
	ok(!image_for(&image, &ampere) && !image_for(&image, &soft), "nor are members without a header");

	elf.h.e_machine = 190;
	elf.h.e_type = ET_REL;
	elf.h.e_ident[EI_ABIVERSION] = 8;
	elf.h.e_flags = 0x6005604;
	ok(image_measure(&elf, sizeof(elf), &image) == IMAGE_ELF && !image_for(&image, &ampere), "what is not linked is for nobody");
	elf.h.e_type = ET_EXEC;
	elf.h.e_flags = 0x6005604;
	ok(image_measure(&elf, sizeof(elf), &image) == IMAGE_ELF && image_for(&image, &ampere) && !image_for(&image, &hopper) &&
	   !image_for(&image, &soft), "a CUDA 13 cubin is for its device");
	elf.h.e_ident[EI_ABIVERSION] = 7;
	elf.h.e_flags = 0x00560556;
	ok(image_measure(&elf, sizeof(elf), &image) == IMAGE_ELF && image_for(&image, &ampere) && !image_for(&image, &hopper),
	   "an older one, too");
	ok(image_measure(".version 9.0", 13, &image) == IMAGE_PTX && !image_for(&image, &soft), "text is looked at first");
}

/* Damaged images at the very end of readable memory: a read beyond ends the test. */
static void damaged(void)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool inside = true;

	mprotect(p + page, page, PROT_NONE);
	srandom(2);
	for (int i = 0; i < 200000; i++) {
		const void *from = i & 1 ? (void *)&elf : (void *)&fatbin;
		size_t full = i & 1 ? sizeof(elf) : sizeof(fatbin), n = i % 7 ? full : random() % (full + 1);
		char *at = p + page - n;
		struct image image;

		memcpy(at, from, n);
		for (int k = random() % 6; k > 0 && n; k--)
			at[random() % n] = random();
		if (image_measure(at, n, &image) == IMAGE_NONE)
			continue;
		inside = inside && image.size <= n && image.data == at;
		image_for(&image, &(struct image_device){ 8, 6, i & 2 });
	}
	ok(inside, "200000 damaged images: nothing beyond the end was read or reported");
	munmap(p, 2 * page);
}

int main(void)
{
	fatbins();
	elfs();
	texts();
	devices();
	damaged();
	return done_testing();
}
