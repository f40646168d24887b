// SPDX-License-Identifier: Apache-2.0
/* Images: every form of PTX is found, and nothing that an image says about itself is believed. */
#include <lz4.h>
#include <string.h>
#include <zstd.h>

#include "../softgpu.h"
#include "tap.h"

static const char text75[] = "\n.version 9.0\n.target sm_75\n.address_size 64\n";
static const char text100[] = "\n.version 9.0\n.target sm_100\n.address_size 64\n";

static unsigned char image[1 << 16];
static size_t image_len;

static void put(const void *p, size_t n)
{
	memcpy(image + image_len, p, n);
	image_len += n;
}

static void begin(void)
{
	static const unsigned char header[16] = { 0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0 };

	image_len = 0;
	put(header, 16);
}

static void finish(void)
{
	uint64_t size = image_len - 16;

	memcpy(image + 8, &size, 8);
}

/* @said: bytes it claims to become, when compressed. */
static void member(unsigned int kind, unsigned int sm, uint64_t flags, const void *data, size_t n, uint64_t said)
{
	uint64_t padded = (n + 7) & ~7ul;
	uint32_t head[16] = { kind | 0x101u << 16, 64, (uint32_t)padded, (uint32_t)(padded >> 32) };

	head[4] = (uint32_t)n;
	head[7] = sm;
	memcpy(&head[10], &flags, 8);
	memcpy(&head[14], &said, 8);
	put(head, 64);
	memset(image + image_len, 0, padded);
	put(data, n);
	image_len += padded - n;
}

/* From a heap copy of exactly that size, so that ASan sees every byte read too far. */
static CUresult parse(size_t n, char **text)
{
	unsigned char *copy = malloc(n ? n : 1);
	struct ptx_log log = { .text = (char[512]){ "" }, .cap = 512 };
	size_t len = 0;
	CUresult e;

	memcpy(copy, image, n);
	e = sg_image_ptx(copy, n, text, &len, &log);
	if (!e && strlen(*text) != len)
		e = CUDA_ERROR_UNKNOWN;
	free(copy);
	return e;
}

static bool gives(const char *want)
{
	char *text;
	CUresult e = parse(image_len, &text);
	bool same = !e && !strcmp(text, want);

	free(text);
	return same;
}

static CUresult fails(void)
{
	char *text;
	CUresult e = parse(image_len, &text);

	free(text);
	return e;
}

static void forms(void)
{
	char zstd[512], lz4[512], padded[sizeof(text75) + 16] = "";
	size_t zn = ZSTD_compress(zstd, sizeof(zstd), text75, sizeof(text75), 3);
	int ln = LZ4_compress_default(text75, lz4, sizeof(text75), sizeof(lz4));

	memcpy(padded, text75, sizeof(text75));
	image_len = 0;
	put(text75, sizeof(text75));
	ok(gives(text75), "plain text");
	image_len--;
	ok(gives(text75), "plain text without its NUL");
	begin();
	member(2, 75, 0x11, "elf", 4, 0);
	member(1, 75, 0x11, padded, sizeof(padded), 0);
	finish();
	ok(gives(text75), "a fatbin with machine code and plain PTX, padded with NULs");
	begin();
	member(1, 75, 0x8011, zstd, zn, sizeof(text75));
	finish();
	ok(gives(text75), "zstd");
	begin();
	member(1, 75, 0x2011, lz4, (size_t)ln, sizeof(text75));
	finish();
	ok(gives(text75), "LZ4");
	begin();
	member(1, 75, 0x11, text75, sizeof(text75), 0);
	member(1, 100, 0x11, text100, sizeof(text100), 0);
	member(1, 130, 0x11, "newer", 6, 0);
	finish();
	ok(gives(text100), "the highest architecture that the device runs");
	begin();
	member(2, 75, 0x11, "elf", 4, 0);
	finish();
	ok(fails() == CUDA_ERROR_NO_BINARY_FOR_GPU, "machine code alone");
	begin();
	finish();
	ok(fails() == CUDA_ERROR_NO_BINARY_FOR_GPU, "an empty fatbin");
	image_len = 0;
	put("\x7f" "ELF garbage", 12);
	ok(fails() == CUDA_ERROR_NO_BINARY_FOR_GPU, "an ELF file");
	image_len = 0;
	put("hello", 6);
	ok(fails() == CUDA_ERROR_INVALID_IMAGE, "any other text");
}

static void lies(void)
{
	char zstd[4096], *zeros = calloc(1, 1 << 20);
	size_t zn = ZSTD_compress(zstd, sizeof(zstd), zeros, 1 << 20, 3);
	uint64_t huge;
	char *text;
	int wrong = 0;

	begin();
	member(1, 75, 0x11, text75, sizeof(text75), 0);
	finish();
	for (size_t n = 0; n < image_len; n++) {
		wrong += parse(n, &text) == CUDA_SUCCESS;
		free(text);
	}
	ok(!wrong, "cut short anywhere it is refused");
	huge = ~0ull - 4;
	memcpy(image + 8, &huge, 8);
	ok(fails() == CUDA_ERROR_INVALID_IMAGE, "a size that wraps around");
	finish();
	memcpy(image + 16 + 8, &huge, 8);
	ok(fails() == CUDA_ERROR_INVALID_IMAGE, "a payload size that wraps around");
	begin();
	member(1, 75, 0x11, text75, sizeof(text75), 0);
	finish();
	memset(image + 16 + 4, 0, 4);
	ok(fails() == CUDA_ERROR_INVALID_IMAGE, "a member header of no bytes");
	begin();
	member(1, 75, 0x8011, zstd, zn, 100);
	finish();
	ok(fails() == CUDA_ERROR_INVALID_IMAGE, "compressed data that becomes more than it says");
	begin();
	member(1, 75, 0x8011, zstd, zn, 2 << 20);
	finish();
	ok(fails() == CUDA_ERROR_INVALID_IMAGE, "or less");
	begin();
	member(1, 75, 0x8011, zstd, zn, 1ull << 40);
	finish();
	ok(fails() == CUDA_ERROR_INVALID_IMAGE, "or says it becomes a terabyte");
	begin();
	member(1, 75, 0x2011, zstd, zn, 1 << 20);
	finish();
	ok(fails() == CUDA_ERROR_INVALID_IMAGE, "zstd called LZ4");
	begin();
	member(1, 75, 0x8011, zstd, zn, 1 << 20);
	finish();
	memset(image + 16 + 16, 0xff, 4);
	ok(fails() == CUDA_ERROR_INVALID_IMAGE, "a compressed size beyond the payload");
	free(zeros);
}

static void mutations(void)
{
	char zstd[512], lz4[512];
	size_t zn = ZSTD_compress(zstd, sizeof(zstd), text75, sizeof(text75), 3);
	int ln = LZ4_compress_default(text75, lz4, sizeof(text75), sizeof(lz4));
	unsigned char original[4096];
	size_t len;
	char *text;
	int found = 0;

	begin();
	member(2, 75, 0x11, "elf", 4, 0);
	member(1, 75, 0x8011, zstd, zn, sizeof(text75));
	member(1, 80, 0x2011, lz4, (size_t)ln, sizeof(text75));
	finish();
	len = image_len;
	memcpy(original, image, len);
	srandom(7);
	for (int i = 0; i < 50000; i++) {
		memcpy(image, original, len);
		for (long n = 1 + random() % 4; n; n--)
			image[random() % (long)len] = (unsigned char)random();
		if (parse(len - (size_t)(random() % 3 ? 0 : random() % (long)len), &text) == CUDA_SUCCESS)
			found++;
		free(text);
	}
	ok(found > 0 && found < 50000, "50000 damaged images: %d still had text, none did harm", found);
}

int main(void)
{
	forms();
	lies();
	mutations();
	return tap_done();
}
