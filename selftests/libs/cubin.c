// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel parameters as machine code describes them: in section .nv.info.<kernel> a record for each (format 4,
 * attribute 0x17: u32, u16 number, u16 offset, u32 whose upper 14 bits are the size).
 */
#include <elf.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "nullgpu.h"

#define FATBIN_MAGIC	0xba55ed50u
#define KIND_PTX	1
#define KIND_ELF	2
#define FLAG_LZ4	0x2000u
#define FLAG_ZSTD	0x8000u
#define ELF_MAX		(1u << 28)

struct fatbin {
	uint32_t magic;
	uint16_t version, header_size;
	uint64_t size;
};

struct entry {
	uint16_t kind, version;
	uint32_t header_size;
	uint64_t payload;
	uint32_t compressed, reserved;
	uint32_t minor, sm;
	uint64_t name;
	uint64_t flags;
	uint64_t zero;
	uint64_t size;
};

static void take_elf(struct null_image *image, const unsigned char *p, size_t size)
{
	image->elf = malloc(size);
	if (!image->elf)
		return;
	memcpy(image->elf, p, size);
	image->size = size;
}

static size_t elf_size(const unsigned char *p)
{
	Elf64_Ehdr h;
	size_t end;

	memcpy(&h, p, sizeof(h));
	end = h.e_shnum ? h.e_shoff + (size_t)h.e_shnum * sizeof(Elf64_Shdr) : sizeof(h);
	for (unsigned int i = 0; i < h.e_shnum; i++) {
		Elf64_Shdr s;

		memcpy(&s, p + h.e_shoff + i * sizeof(s), sizeof(s));
		if (s.sh_type != SHT_NOBITS && s.sh_offset + s.sh_size > end)
			end = s.sh_offset + s.sh_size;
	}
	return end;
}

/* An entry's bytes, unpacked, with a zero behind them. */
static unsigned char *unpack(const struct entry *e, const unsigned char *data, size_t *size)
{
	bool packed = e->flags & (FLAG_LZ4 | FLAG_ZSTD);
	uint64_t room = packed ? e->size : e->payload;
	unsigned char *out = room && room <= ELF_MAX ? calloc(1, room + 1) : NULL;
	size_t n = 0;

	if (!out)
		return NULL;
	if (!packed) {
		memcpy(out, data, room);
		n = room;
	} else if (e->flags & FLAG_ZSTD) {
		n = ZSTD_decompress(out, room, data, e->compressed);
		if (ZSTD_isError(n))
			n = 0;
	} else {
		int got = LZ4_decompress_safe((const char *)data, (char *)out, e->compressed, room);

		n = got > 0 ? got : 0;
	}
	*size = n;
	return out;
}

/* The newest machine code that this GPU could run, or else the newest PTX. */
static void take_fatbin(struct null_image *image, const unsigned char *p)
{
	const unsigned char *best = NULL;
	uint32_t sm = 0, cc = null_capability();
	struct fatbin f;
	struct entry e;
	bool elf = false;
	size_t size;

	memcpy(&f, p, sizeof(f));
	for (uint64_t at = f.header_size, end = at + f.size, n; at + sizeof(e) <= end; at += n) {
		bool is_elf;

		memcpy(&e, p + at, sizeof(e));
		if (e.header_size < sizeof(e) || __builtin_add_overflow(e.payload, e.header_size, &n) || n > end - at ||
		    e.compressed > e.payload)
			break;
		is_elf = e.kind == KIND_ELF && e.sm / 10 == cc / 10;
		if ((is_elf || (e.kind == KIND_PTX && !elf)) && e.sm <= cc && (e.sm >= sm || is_elf > elf)) {
			best = p + at;
			sm = e.sm;
			elf = is_elf;
		}
	}
	if (!best)
		return;
	memcpy(&e, best, sizeof(e));
	if (elf) {
		image->elf = unpack(&e, best + e.header_size, &image->size);
		return;
	}
	image->ptx = (char *)unpack(&e, best + e.header_size, &size);
}

void null_image_open(struct null_image *image, const void *code)
{
	uint32_t magic;

	*image = (struct null_image){ NULL, 0, NULL };
	memcpy(&magic, code, sizeof(magic));
	if (magic == FATBIN_MAGIC)
		take_fatbin(image, code);
	else if (!memcmp(code, ELFMAG, SELFMAG))
		take_elf(image, code, elf_size(code));
	else
		image->ptx = strdup(code);
}

void null_image_close(struct null_image *image)
{
	free(image->elf);
	free(image->ptx);
}

static unsigned int read_info(const unsigned char *p, size_t size, struct null_param params[NULL_PARAMS])
{
	unsigned int n = 0;

	for (size_t at = 0; at + 4 <= size;) {
		uint16_t value;

		memcpy(&value, p + at + 2, sizeof(value));
		if (p[at] != 4) {	/* other formats are one word */
			at += 4;
			continue;
		}
		if (p[at + 1] == 0x17 && value >= 12 && at + 16 <= size) {
			uint16_t ordinal, offset;
			uint32_t flags;

			memcpy(&ordinal, p + at + 8, sizeof(ordinal));
			memcpy(&offset, p + at + 10, sizeof(offset));
			memcpy(&flags, p + at + 12, sizeof(flags));
			if (ordinal < NULL_PARAMS) {
				params[ordinal] = (struct null_param){ offset, flags >> 18 };
				if (ordinal >= n)
					n = ordinal + 1;
			}
		}
		at += 4 + value;
	}
	return n;
}

/* Section @i: its name, if it describes a kernel; the description in *@out. */
static const char *kernel_section(const struct null_image *image, unsigned int i, Elf64_Shdr *out)
{
	static const char prefix[] = ".nv.info.";
	const unsigned char *p = image->elf;
	const char *section;
	Elf64_Shdr names;
	Elf64_Ehdr h;

	memcpy(&h, p, sizeof(h));
	memcpy(&names, p + h.e_shoff + h.e_shstrndx * sizeof(names), sizeof(names));
	memcpy(out, p + h.e_shoff + i * sizeof(*out), sizeof(*out));
	if (names.sh_offset > image->size || names.sh_size > image->size - names.sh_offset ||
	    out->sh_name >= names.sh_size || out->sh_offset > image->size || out->sh_size > image->size - out->sh_offset)
		return NULL;
	section = (const char *)p + names.sh_offset + out->sh_name;
	return strncmp(section, prefix, sizeof(prefix) - 1) ? NULL : section + sizeof(prefix) - 1;
}

static unsigned int sections(const struct null_image *image)
{
	Elf64_Ehdr h;

	if (!image->elf || image->size < sizeof(h))
		return 0;
	memcpy(&h, image->elf, sizeof(h));
	if (h.e_shoff > image->size || h.e_shnum > (image->size - h.e_shoff) / sizeof(Elf64_Shdr) ||
	    h.e_shstrndx >= h.e_shnum)
		return 0;
	return h.e_shnum;
}

unsigned int null_params(const struct null_image *image, const char *name, struct null_param params[NULL_PARAMS])
{
	Elf64_Shdr s;

	for (unsigned int i = 0; i < sections(image); i++) {
		const char *kernel = kernel_section(image, i, &s);

		if (kernel && !strcmp(kernel, name))
			return read_info(image->elf + s.sh_offset, s.sh_size, params);
	}
	return image->ptx ? null_ptx_params(image->ptx, name, params) : 0;
}

unsigned int null_kernels(const struct null_image *image, const char **names, size_t *lengths, unsigned int most)
{
	unsigned int n = 0;
	Elf64_Shdr s;

	if (image->ptx)
		return null_ptx_kernels(image->ptx, names, lengths, most);
	for (unsigned int i = 0; i < sections(image); i++) {
		const char *kernel = kernel_section(image, i, &s);

		if (!kernel || (names && n == most))
			continue;
		if (names) {
			names[n] = kernel;
			lengths[n] = strlen(kernel);
		}
		n++;
	}
	return n;
}
