// SPDX-License-Identifier: Apache-2.0
/*
 * PTX from elsewhere for images that hold machine code only.
 *
 * A pack is one file with the PTX of many modules and an index by kernel name. When an image has no PTX of its own and
 * $SOFTGPU_PTX names a pack, the image loads all the same, and each of its kernels is looked up in the pack when it is
 * asked for. scripts/torch-pack makes such a file from two builds of one library.
 *
 *	header, members[], names[] sorted by name, strings, payloads (LZ4)
 *
 * The file is mapped when the library starts; offsets are checked where they are used.
 */
#include <fcntl.h>
#include <lz4.h>
#include <pthread.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "softgpu.h"

#define PACK_MAGIC "SGPTX01\n"

struct pack_header {
	char magic[8];
	uint32_t members, names;
	uint64_t members_at, names_at, strings_at, strings_len;
};

struct pack_member {
	uint64_t at;
	uint32_t packed, len;
};

/* @name: as the image calls the kernel; @own: as the member does */
struct pack_name {
	uint32_t name, own, member, reserved;
};

static struct {
	const char *base;
	size_t size;
	struct pack_header h;
	const struct pack_member *members;
	const struct pack_name *names;
	const char *strings;
	char **text;			/* of each member that was used; kept */
	pthread_mutex_t lock;
} pack = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool range_ok(uint64_t at, uint64_t count, uint64_t each)
{
	return at % 8 == 0 && at <= pack.size && count <= (pack.size - at) / each;
}

void sg_pack_init(void)
{
	const char *name = getenv("SOFTGPU_PTX");
	struct stat st;
	int fd;

	if (!name || !*name || pack.base)
		return;
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || (size_t)st.st_size < sizeof(pack.h)) {
		fprintf(stderr, "softgpu: SOFTGPU_PTX=%s: cannot be read (%m)\n", name);
		goto out;
	}
	pack.size = (size_t)st.st_size;
	pack.base = mmap(NULL, pack.size, PROT_READ, MAP_SHARED, fd, 0);
	if (pack.base == MAP_FAILED) {
		fprintf(stderr, "softgpu: SOFTGPU_PTX=%s: cannot be mapped (%m)\n", name);
		pack.base = NULL;
		goto out;
	}
	memcpy(&pack.h, pack.base, sizeof(pack.h));
	pack.text = calloc(pack.h.members ? pack.h.members : 1, sizeof(*pack.text));
	if (memcmp(pack.h.magic, PACK_MAGIC, 8) || !pack.text ||
	    !range_ok(pack.h.members_at, pack.h.members, sizeof(struct pack_member)) ||
	    !range_ok(pack.h.names_at, pack.h.names, sizeof(struct pack_name)) ||
	    !range_ok(pack.h.strings_at, pack.h.strings_len, 1) || !pack.h.strings_len ||
	    pack.base[pack.h.strings_at + pack.h.strings_len - 1]) {
		fprintf(stderr, "softgpu: SOFTGPU_PTX=%s: not a pack that this version reads: make it again\n", name);
		munmap((void *)pack.base, pack.size);
		pack.base = NULL;
		goto out;
	}
	pack.members = (const void *)(pack.base + pack.h.members_at);
	pack.names = (const void *)(pack.base + pack.h.names_at);
	pack.strings = pack.base + pack.h.strings_at;
out:
	if (fd >= 0)
		close(fd);
}

bool sg_pack_present(void)
{
	return pack.base != NULL;
}

static const char *string_at(uint32_t at)
{
	return at < pack.h.strings_len ? pack.strings + at : "";
}

static const struct pack_name *find(const char *name)
{
	uint32_t low = 0, high = pack.h.names;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		int c = strcmp(name, string_at(pack.names[mid].name));

		if (!c)
			return pack.names[mid].member < pack.h.members ? &pack.names[mid] : NULL;
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

static CUresult member_text(uint32_t i, const char **text, size_t *len)
{
	const struct pack_member *m = &pack.members[i];
	CUresult e = CUDA_SUCCESS;
	char *p;

	pthread_mutex_lock(&pack.lock);
	if (!pack.text[i]) {
		e = CUDA_ERROR_INVALID_IMAGE;
		p = m->at <= pack.size && m->packed <= pack.size - m->at && m->len && m->len <= SG_IMAGE_MAX ?
		    malloc((size_t)m->len + 1) : NULL;
		if (p && LZ4_decompress_safe(pack.base + m->at, p, (int)m->packed, (int)m->len) == (int)m->len) {
			p[m->len] = 0;
			pack.text[i] = p;
			e = CUDA_SUCCESS;
		} else {
			free(p);
		}
	}
	*text = pack.text[i];
	pthread_mutex_unlock(&pack.lock);
	*len = e ? 0 : strnlen(*text, m->len);
	return e;
}

CUresult sg_pack_find(struct sg_instance *in, const char *name, struct ptx_log *log, const struct ptx_kernel **out)
{
	const struct pack_name *n = find(name);
	struct sg_part *part;
	const char *text;
	size_t len;
	CUresult e;

	if (!n)
		return CUDA_ERROR_NO_BINARY_FOR_GPU;
	for (part = in->parts; part && part->member != n->member; part = part->next)
		;
	if (!part) {
		e = member_text(n->member, &text, &len);
		part = e ? NULL : calloc(1, sizeof(*part));
		if (!part)
			return e ? e : CUDA_ERROR_OUT_OF_MEMORY;
		e = (CUresult)ptx_module_load(text, len, log, &part->ptx);
		if (e) {
			free(part);
			return e;
		}
		part->member = n->member;
		part->next = in->parts;
		in->parts = part;
	}
	return (CUresult)ptx_module_find(part->ptx, string_at(n->own), log, out);
}

void sg_pack_forget(struct sg_instance *in)
{
	while (in->parts) {
		struct sg_part *part = in->parts;

		in->parts = part->next;
		ptx_module_free(part->ptx);
		free(part);
	}
}
