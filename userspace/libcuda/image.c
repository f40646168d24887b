// SPDX-License-Identifier: Apache-2.0
#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "image.h"

#ifndef EM_CUDA
#define EM_CUDA	190
#endif

#define WRAPPER_MAGIC	0x466243b1u
#define FATBIN_MAGIC	0xba55ed50u

/* What the compiler emits around a fatbin. */
struct wrapper {
	uint32_t magic;
	uint32_t version;
	const void *data;
	const void *const *parts;	/* version 2: NULL-terminated array of fatbins, or NULL */
};

struct fatbin {
	uint32_t magic;
	uint16_t version;
	uint16_t header_size;
	uint64_t size;		/* of what follows the header */
};

static enum image_kind done(struct image *out, enum image_kind kind, const void *data, uint64_t size)
{
	*out = (struct image){ kind, data, size, false };
	return kind;
}

static enum image_kind fatbin(const void *p, size_t readable, struct image *out)
{
	struct fatbin h;
	uint64_t size;

	if (readable < sizeof(h))
		return IMAGE_NONE;
	memcpy(&h, p, sizeof(h));
	if (h.header_size < sizeof(h) || __builtin_add_overflow(h.size, h.header_size, &size) || size > IMAGE_MAX ||
	    size > readable)
		return IMAGE_NONE;
	return done(out, IMAGE_FATBIN, p, size);
}

/* A fatbin's members follow its header, each with one of its own. */
struct member {
	uint16_t kind, version;
	uint32_t header_size;
	uint64_t size;		/* of what follows the header */
	uint32_t unused[3];
	uint32_t sm;		/* 10 * major + minor */
	uint32_t unused2[2];
	uint64_t flags;
};
#define MEMBER_PACKED	0xa000ull	/* with LZ4 or zstd */
#define MEMBER_PTX	1u
#define MEMBER_ELF	2u
#define MEMBER_LEAST	64u

/* Grow *@end to cover @n entries of @entry bytes at @offset. @return false if that can't be. */
static bool cover(uint64_t *end, uint64_t offset, uint64_t n, uint64_t entry, size_t readable)
{
	uint64_t bytes;

	if (__builtin_mul_overflow(n, entry, &bytes) || __builtin_add_overflow(bytes, offset, &bytes) ||
	    bytes > IMAGE_MAX || bytes > readable)
		return false;
	if (bytes > *end)
		*end = bytes;
	return true;
}

static enum image_kind elf(const char *p, size_t readable, struct image *out)
{
	uint64_t end = sizeof(Elf64_Ehdr);
	Elf64_Ehdr h;

	if (readable < sizeof(h))
		return IMAGE_NONE;
	memcpy(&h, p, sizeof(h));
	if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB)
		return IMAGE_NONE;
	if (h.e_shnum && (h.e_shentsize != sizeof(Elf64_Shdr) || !cover(&end, h.e_shoff, h.e_shnum, sizeof(Elf64_Shdr),
									readable)))
		return IMAGE_NONE;
	if (h.e_phnum && (h.e_phentsize != sizeof(Elf64_Phdr) || !cover(&end, h.e_phoff, h.e_phnum, sizeof(Elf64_Phdr),
									readable)))
		return IMAGE_NONE;
	for (unsigned int i = 0; i < h.e_shnum; i++) {
		Elf64_Shdr s;

		memcpy(&s, p + h.e_shoff + i * sizeof(s), sizeof(s));
		if (s.sh_type != SHT_NOBITS && s.sh_type != SHT_NULL && !cover(&end, s.sh_offset, s.sh_size, 1, readable))
			return IMAGE_NONE;
	}
	for (unsigned int i = 0; i < h.e_phnum; i++) {
		Elf64_Phdr s;

		memcpy(&s, p + h.e_phoff + i * sizeof(s), sizeof(s));
		if (s.p_filesz && !cover(&end, s.p_offset, s.p_filesz, 1, readable))
			return IMAGE_NONE;
	}
	return done(out, IMAGE_ELF, p, end);
}

static enum image_kind text(const char *p, size_t readable, struct image *out)
{
	size_t max = readable < IMAGE_MAX ? readable : IMAGE_MAX, n = strnlen(p, max);

	if (!n || n == max)
		return IMAGE_NONE;
	for (size_t i = 0; i < n && i < 64; i++)
		if (((unsigned char)p[i] < ' ' && !strchr("\t\n\r\f\v", p[i])) || (unsigned char)p[i] >= 0x7f)
			return IMAGE_NONE;
	return done(out, IMAGE_PTX, p, n + 1);
}

static enum image_kind measure(const void *code, size_t readable, bool inner, struct image *out)
{
	uint32_t magic;

	if (readable < sizeof(magic))
		return IMAGE_NONE;
	/* Text may be shorter than a magic number: look at one byte after the other. */
	for (unsigned int i = 0; i < sizeof(magic); i++)
		if (!((const char *)code)[i])
			return IMAGE_NONE;
	memcpy(&magic, code, sizeof(magic));
	if (magic == FATBIN_MAGIC)
		return fatbin(code, readable, out);
	if (!memcmp(code, ELFMAG, SELFMAG))
		return elf(code, readable, out);
	if (magic == WRAPPER_MAGIC && !inner) {
		struct wrapper w;

		if (readable < sizeof(w))
			return IMAGE_NONE;
		memcpy(&w, code, sizeof(w));
		if ((w.version != 1 && w.version != 2) || !w.data || measure(w.data, SIZE_MAX, true, out) == IMAGE_NONE)
			return IMAGE_NONE;
		/* Separate compilation whose parts nobody has linked: the fatbin proper is empty. */
		out->parts = w.version == 2 && w.parts && w.parts[0];
		if (out->parts && out->kind == IMAGE_FATBIN && out->size <= sizeof(struct fatbin))
			out->kind = IMAGE_NEEDS_LINKER;
		return out->kind;
	}
	return text(code, readable, out);
}

enum image_kind image_measure(const void *code, size_t readable, struct image *out)
{
	*out = (struct image){ IMAGE_NONE, NULL, 0, false };
	return measure(code, readable, false, out);
}

/* From 9.0 on code may be for one architecture alone (sm_100a), which is not looked into here. */
static bool runs(uint32_t sm, const struct image_device *d)
{
	int minor = sm % 10;

	return (int)(sm / 10) == d->major && (d->major < 9 ? minor <= d->minor : minor == d->minor);
}

/* The next of a fatbin's members, from @at = 0. @return false behind the last, and where there is none whole. */
static bool next_member(const struct image *image, uint64_t *at, struct member *m)
{
	const char *p = image->data;
	struct fatbin h;

	memcpy(&h, p, sizeof(h));
	if (!*at)
		*at = h.header_size;
	if (image->size < *at || image->size - *at < MEMBER_LEAST)
		return false;
	memcpy(m, p + *at, sizeof(*m));
	if (m->header_size < MEMBER_LEAST || m->header_size > image->size - *at ||
	    m->size > image->size - *at - m->header_size)
		return false;
	*at += m->header_size + m->size;
	return true;
}

static bool member_for(const struct image *image, const struct image_device *d)
{
	struct member m;
	uint64_t at = 0;

	while (next_member(image, &at, &m))
		if (d->ptx_only ? m.kind == MEMBER_PTX && m.sm <= (uint32_t)(10 * d->major + d->minor) :
				  m.kind == MEMBER_ELF && runs(m.sm, d))
			return true;
	return false;
}

/* Where CUDA's ELF keeps the architecture changed with CUDA 13. */
static bool elf_for(const struct image *image, const struct image_device *d)
{
	Elf64_Ehdr h;

	memcpy(&h, image->data, sizeof(h));
	return !d->ptx_only && h.e_machine == EM_CUDA && h.e_type == ET_EXEC && runs(h.e_ident[EI_ABIVERSION] >= 8 ? h.e_flags >> 8 & 0xff : h.e_flags & 0xff, d);
}

bool image_for(const struct image *image, const struct image_device *device)
{
	switch (image->kind) {
	case IMAGE_FATBIN:
		return member_for(image, device);
	case IMAGE_ELF:
		return elf_for(image, device);
	default:
		return false;
	}
}

bool image_may_print(const struct image *image)
{
	struct member m;
	uint64_t at = 0;

	if (image->size > IMAGE_PRINTS_MAX)
		return false;
	while (image->kind == IMAGE_FATBIN && next_member(image, &at, &m))
		if (m.flags & MEMBER_PACKED)
			return true;
	return memmem(image->data, image->size, "vprintf", 7);
}
