// SPDX-License-Identifier: Apache-2.0
/*
 * Finding PTX in an image. Formats: a wrapper (what nvcc's host code passes) that points to a fatbin; a fatbin, whose
 * members are PTX or ELF, plain or compressed with zstd or LZ4; PTX text.
 *
 * Nothing an image says about itself is used before it is compared with the room there really is.
 */
#include <lz4.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "softgpu.h"

#define WRAPPER_MAGIC	0x466243b1u
#define FATBIN_MAGIC	0xba55ed50u
#define FATBIN_MAX	(1ull << 32)

enum { MEMBER_PTX = 1, MEMBER_ELF = 2 };
#define MEMBER_LZ4	0x2000ull
#define MEMBER_ZSTD	0x8000ull
#define MEMBER_HEADER	64

struct wrapper {
	uint32_t magic, version;
	const void *data;
	const void *prelinked;
};

struct fatbin {
	uint32_t magic;
	uint16_t version, header;
	uint64_t size;
};

struct member {
	uint16_t kind, version;
	uint32_t header;
	uint64_t payload;
	uint32_t compressed;
	uint32_t options;
	uint32_t unknown;
	uint32_t sm;
	uint32_t bits, name;
	uint64_t flags;
	uint64_t unknown2;
	uint64_t uncompressed;
};
_Static_assert(sizeof(struct member) == MEMBER_HEADER, "fatbin member header");
_Static_assert(offsetof(struct member, sm) == 28 && offsetof(struct member, flags) == 40 &&
	       offsetof(struct member, uncompressed) == 56, "fatbin member header");

static void say(struct ptx_log *log, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct ptx_log *log, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (!log || !log->text || log->len + 1 >= log->cap)
		return;
	va_start(ap, fmt);
	n = vsnprintf(log->text + log->len, log->cap - log->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		log->len = (size_t)n < log->cap - log->len ? log->len + (size_t)n : log->cap - 1;
}

static CUresult text_copy(const char *p, size_t max, char **text, size_t *len)
{
	size_t n = strnlen(p, max);

	*text = malloc(n + 1);
	if (!*text)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(*text, p, n);
	(*text)[n] = 0;
	*len = n;
	return CUDA_SUCCESS;
}

/* The text of member @m, whose payload of m->payload bytes at @p is known to be there. */
static CUresult unpack(const struct member *m, const char *p, char **text, size_t *len, struct ptx_log *log)
{
	size_t packed = m->payload, room = m->uncompressed;
	bool ok;

	if (!(m->flags & (MEMBER_LZ4 | MEMBER_ZSTD)))
		return text_copy(p, packed, text, len);
	if (m->compressed) {
		if (m->compressed > m->payload)
			goto bad;
		packed = m->compressed;
	}
	if (!room || room > SG_IMAGE_MAX)
		goto bad;
	*text = malloc(room + 1);
	if (!*text)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (m->flags & MEMBER_ZSTD) {
		/* Padding may follow the frame. */
		size_t frame = ZSTD_findFrameCompressedSize(p, packed);

		ok = !ZSTD_isError(frame) && ZSTD_decompress(*text, room, p, frame) == room;
	} else {
		ok = packed <= LZ4_MAX_INPUT_SIZE && room <= LZ4_MAX_INPUT_SIZE &&
		     LZ4_decompress_safe(p, *text, (int)packed, (int)room) == (int)room;
	}
	if (!ok) {
		free(*text);
		*text = NULL;
		goto bad;
	}
	(*text)[room] = 0;
	*len = strlen(*text);
	return CUDA_SUCCESS;
bad:
	say(log, "fatbin: the compressed PTX for sm_%u is damaged (%zu bytes, said to become %zu)\n", m->sm, packed, room);
	return CUDA_ERROR_INVALID_IMAGE;
}

/* The PTX for the highest architecture this device still runs. */
static CUresult from_fatbin(const char *p, size_t size, char **text, size_t *len, struct ptx_log *log)
{
	struct fatbin fat;
	struct member m, best = { 0 };
	const char *best_payload = NULL;
	unsigned int elves = 0, newer = 0;
	uint64_t off, end;

	if (size < sizeof(fat))
		goto bad;
	memcpy(&fat, p, sizeof(fat));
	if (fat.header < sizeof(fat) || fat.size > FATBIN_MAX || fat.header > size || fat.size > size - fat.header)
		goto bad;
	end = fat.header + fat.size;
	for (off = fat.header; off < end; off += m.header + m.payload) {
		if (end - off < MEMBER_HEADER)
			goto bad;
		memcpy(&m, p + off, sizeof(m));
		if (m.header < MEMBER_HEADER || m.header > end - off || m.payload > end - off - m.header)
			goto bad;
		if (m.kind == MEMBER_ELF)
			elves++;
		if (m.kind != MEMBER_PTX)
			continue;
		if (m.sm > SG_CC_MAJOR * 10 + SG_CC_MINOR) {
			newer++;
			continue;
		}
		if (!best_payload || m.sm > best.sm) {
			best = m;
			best_payload = p + off + m.header;
		}
	}
	if (best_payload)
		return unpack(&best, best_payload, text, len, log);
	say(log, "the image has no PTX that this device runs (%u machine code members, %u for newer devices): compile with "
	    "-gencode arch=compute_75,code=compute_75 or the like\n", elves, newer);
	return CUDA_ERROR_NO_BINARY_FOR_GPU;
bad:
	say(log, "the fatbin is damaged or cut short\n");
	return CUDA_ERROR_INVALID_IMAGE;
}

CUresult sg_image_ptx(const void *image, size_t size, char **text, size_t *len, struct ptx_log *log)
{
	uint32_t magic = 0;
	size_t max = size < SG_IMAGE_MAX ? size : SG_IMAGE_MAX;

	*text = NULL;
	/* A text may be shorter than a magic number. */
	if (strnlen(image, max < 4 ? max : 4) == 4)
		memcpy(&magic, image, 4);
	else if (size != SIZE_MAX && size >= 4)
		memcpy(&magic, image, 4);

	if (magic == WRAPPER_MAGIC) {
		struct wrapper w;

		if (size < sizeof(w))
			return CUDA_ERROR_INVALID_IMAGE;
		memcpy(&w, image, sizeof(w));
		if (!w.data)
			return CUDA_ERROR_INVALID_IMAGE;
		memcpy(&magic, w.data, 4);
		if (magic != FATBIN_MAGIC)
			return CUDA_ERROR_INVALID_IMAGE;
		return from_fatbin(w.data, SIZE_MAX, text, len, log);
	}
	if (magic == FATBIN_MAGIC)
		return from_fatbin(image, size, text, len, log);
	if (magic == 0x464c457fu) {
		say(log, "the image is machine code (ELF); this device runs PTX only\n");
		return CUDA_ERROR_NO_BINARY_FOR_GPU;
	}
	max = strnlen(image, max);
	if (!memmem(image, max, ".version", 8)) {
		say(log, "the image is neither fatbin nor PTX text\n");
		return CUDA_ERROR_INVALID_IMAGE;
	}
	return text_copy(image, max, text, len);
}
