// SPDX-License-Identifier: Apache-2.0
/*
 * A kernel at a random place (KASLR). For a PVH domain there is no decompressor that would move it, so whoever makes the
 * domain does: the domain is given a copy of the kernel, linked for another address.
 *
 * What must change when an x86-64 Linux kernel moves is told by vmlinux.relocs, which the kernel's build makes for the
 * decompressor (arch/x86/tools/relocs.c). Both the physical and the virtual address are moved, by the same distance: then
 * the entry code of PVH, which takes physical addresses from the link (pa(x) = x - __START_KERNEL_map), stays right.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xen/elfnote.h>

#include "kaslr.h"

#define START_KERNEL_MAP	0xffffffff80000000ull
#define KERNEL_IMAGE_SIZE	(1ull << 30)	/* mapped for the kernel from there on, with CONFIG_RANDOMIZE_BASE */
#define STEP			(2ull << 20)	/* the kernel is mapped by large pages */
#define NOTES_MAX		4096
#define ROOM			(16ull << 20)	/* behind kernel and ramdisk: what Xen's tools put there, first page tables */

struct file {
	const char *path;
	uint8_t *data;
	size_t size;
};

static int unusable(const struct file *kernel, struct vgpuxl_error *e, const char *why)
{
	return vgpuxl_error_set(e, ENOEXEC, "cannot give kernel %s a random address: %s: take vmlinux and vmlinux.relocs of one "
				"build, or say nokaslr on the kernel's command line", kernel->path, why);
}

static int file_map(struct file *f, int prot, struct vgpuxl_error *e)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC), error;
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		error = errno;
		if (fd >= 0)
			close(fd);
		return vgpuxl_error_set(e, error, "cannot read %s: %s", f->path, strerror(error));
	}
	f->size = st.st_size;
	f->data = f->size ? mmap(NULL, f->size, prot, MAP_PRIVATE, fd, 0) : MAP_FAILED;
	error = errno;
	close(fd);
	if (f->data != MAP_FAILED)
		return 0;
	f->data = NULL;
	return vgpuxl_error_set(e, f->size ? error : ENOEXEC, "cannot read %s: %s", f->path, f->size ? strerror(error) : "it is empty");
}

static void file_unmap(struct file *f)
{
	if (f->data)
		munmap(f->data, f->size);
}

static Elf64_Phdr *segments(const struct file *kernel, unsigned int *count)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)kernel->data;

	if (kernel->size < sizeof(*h) || memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != ELFCLASS64 ||
	    h->e_machine != EM_X86_64 || h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phoff % 8 || h->e_phoff > kernel->size ||
	    (kernel->size - h->e_phoff) / sizeof(Elf64_Phdr) < h->e_phnum)
		return NULL;
	*count = h->e_phnum;
	return (Elf64_Phdr *)(kernel->data + h->e_phoff);
}

/* Where the kernel's physical address @from lies in the file, for @width bytes; NULL if it does not. */
static void *place(const struct file *kernel, uint64_t from, uint64_t width)
{
	unsigned int count;
	Elf64_Phdr *p = segments(kernel, &count);

	for (unsigned int i = 0; i < count; i++, p++)
		if (p->p_type == PT_LOAD && from >= p->p_paddr && from - p->p_paddr < p->p_filesz &&
		    width <= p->p_filesz - (from - p->p_paddr) && p->p_offset <= kernel->size &&
		    p->p_filesz <= kernel->size - p->p_offset)
			return kernel->data + p->p_offset + (from - p->p_paddr);
	return NULL;
}

/*
 * Three lists of 32-bit virtual addresses, sign-extended, each behind a zero: 64-bit places; 32-bit places that are relative to
 * a per-CPU variable's fixed address, and change the other way; 32-bit places.
 */
static int relocate(const struct file *kernel, const struct file *relocs, uint64_t distance, struct vgpuxl_error *e)
{
	enum { WIDE, INVERSE, NARROW, LISTS } list = WIDE;
	const int32_t *r = (const int32_t *)relocs->data;
	size_t n = relocs->size / sizeof(*r);

	if (!n || relocs->size % sizeof(*r) || r[0])
		return unusable(kernel, e, "its .relocs is no list of relocations");
	for (size_t i = 1; i < n; i++) {
		void *at;
		uint32_t narrow;
		uint64_t wide;

		if (!r[i]) {
			if (++list == LISTS)
				return unusable(kernel, e, "its .relocs has more than three lists");
			continue;
		}
		at = place(kernel, (uint64_t)(int64_t)r[i] - START_KERNEL_MAP, list == WIDE ? sizeof(wide) : sizeof(narrow));
		if (!at)
			return unusable(kernel, e, "its .relocs names places that are not in it");
		if (list == WIDE) {
			memcpy(&wide, at, sizeof(wide));
			wide += distance;
			memcpy(at, &wide, sizeof(wide));
		} else {
			memcpy(&narrow, at, sizeof(narrow));
			narrow += list == INVERSE ? -(uint32_t)distance : (uint32_t)distance;
			memcpy(at, &narrow, sizeof(narrow));
		}
	}
	return list == NARROW ? 0 : unusable(kernel, e, "its .relocs ends early");
}

/*
 * Where Xen's tools find the entry point of PVH. The relocations leave that out, since what is in the kernel's memory can be
 * read by everybody at /sys/kernel/notes: a changed copy behind the kernel's end is for the tools, and is not loaded.
 */
static int move_entry(const struct file *kernel, uint64_t distance, struct file *notes, struct vgpuxl_error *e)
{
	unsigned int count;
	Elf64_Phdr *p = segments(kernel, &count);
	const size_t head = sizeof(Elf64_Nhdr);

	while (count && p->p_type != PT_NOTE)
		p++, count--;
	if (!count || p->p_offset > kernel->size || p->p_filesz > kernel->size - p->p_offset || p->p_filesz > NOTES_MAX)
		return unusable(kernel, e, "it has no notes for Xen");
	memcpy(notes->data, kernel->data + p->p_offset, p->p_filesz);
	notes->size = p->p_filesz;
	p->p_offset = kernel->size;
	for (size_t at = 0; notes->size - at >= head;) {
		Elf64_Nhdr n;
		size_t name, desc;
		uint32_t entry;

		memcpy(&n, notes->data + at, head);
		name = at + head;
		if (n.n_namesz > NOTES_MAX || n.n_descsz > NOTES_MAX)
			break;
		desc = name + (n.n_namesz + 3) / 4 * 4;
		at = desc + (n.n_descsz + 3) / 4 * 4;
		if (at > notes->size)
			break;
		if (n.n_type != XEN_ELFNOTE_PHYS32_ENTRY || n.n_namesz != 4 || memcmp(notes->data + name, "Xen", 4) ||
		    n.n_descsz < sizeof(entry))
			continue;
		memcpy(&entry, notes->data + desc, sizeof(entry));
		entry += distance;
		memcpy(notes->data + desc, &entry, sizeof(entry));
		return 0;
	}
	return unusable(kernel, e, "its notes do not tell Xen an entry point for PVH");
}

static void move_segments(const struct file *kernel, uint64_t distance)
{
	unsigned int count;
	Elf64_Phdr *p = segments(kernel, &count);

	((Elf64_Ehdr *)kernel->data)->e_entry += distance;
	for (unsigned int i = 0; i < count; i++, p++) {
		p->p_paddr += distance;
		/* Per-CPU variables have addresses of their own, from 0 on. */
		if (p->p_vaddr >= START_KERNEL_MAP)
			p->p_vaddr += distance;
	}
}

/* How far the kernel may go at most: it, the @ramdisk and ROOM end within @memory, all in bytes. */
static int farthest(const struct file *kernel, uint64_t memory, uint64_t ramdisk, uint64_t *distance, struct vgpuxl_error *e)
{
	unsigned int count;
	Elf64_Phdr *p = segments(kernel, &count);
	uint64_t end = 0, limit = memory < KERNEL_IMAGE_SIZE ? memory : KERNEL_IMAGE_SIZE;

	if (!p)
		return unusable(kernel, e, "it is no ELF file for x86-64 (a bzImage cannot be moved)");
	for (unsigned int i = 0; i < count; i++, p++)
		if (p->p_type == PT_LOAD) {
			if (p->p_paddr > KERNEL_IMAGE_SIZE || p->p_memsz > KERNEL_IMAGE_SIZE)
				return unusable(kernel, e, "a segment of it lies outside of a kernel's gigabyte");
			if (p->p_paddr + p->p_memsz > end)
				end = p->p_paddr + p->p_memsz;
		}
	*distance = ramdisk < limit && limit - ramdisk > end + ROOM ? (limit - ramdisk - end - ROOM) / STEP * STEP : 0;
	return 0;
}

static int random_step(uint64_t farthest_distance, uint64_t *distance, struct vgpuxl_error *e)
{
	uint64_t choice;

	if (getrandom(&choice, sizeof(choice), 0) != sizeof(choice))
		return vgpuxl_error_set(e, errno, "cannot choose a kernel's address: getrandom: %s", strerror(errno));
	*distance = choice % (farthest_distance / STEP + 1) * STEP;
	return 0;
}

static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = text ? strstr(text, word) : NULL; at; at = strstr(at + 1, word))
		if ((at == text || at[-1] == ' ') && (!at[len] || at[len] == ' '))
			return true;
	return false;
}

static bool write_out(int fd, const struct file *f)
{
	for (size_t done = 0; done < f->size;) {
		ssize_t n = write(fd, f->data + done, f->size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

static int copy_out(const struct file *kernel, const struct file *notes, int *fd, struct vgpuxl_error *e)
{
	int error;

	*fd = memfd_create("kernel", MFD_CLOEXEC);
	if (*fd >= 0 && write_out(*fd, kernel) && write_out(*fd, notes))
		return 0;
	error = errno ?: EIO;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	return vgpuxl_error_set(e, error, "cannot copy kernel %s to memory: %s", kernel->path, strerror(error));
}

int kaslr_move(const char *path, uint64_t distance, int *fd, struct vgpuxl_error *e)
{
	uint8_t notes_copy[NOTES_MAX];
	struct file kernel = { .path = path }, relocs, notes = { .data = notes_copy };
	char relocs_path[4096];
	unsigned int count;
	int ret;

	*fd = -1;
	snprintf(relocs_path, sizeof(relocs_path), "%s.relocs", path);
	relocs = (struct file){ .path = relocs_path };
	ret = file_map(&kernel, PROT_READ | PROT_WRITE, e);
	if (!ret)
		ret = file_map(&relocs, PROT_READ, e);
	if (!ret && !segments(&kernel, &count))
		ret = unusable(&kernel, e, "it is no ELF file for x86-64 (a bzImage cannot be moved)");
	if (!ret)
		ret = relocate(&kernel, &relocs, distance, e);
	if (!ret)
		ret = move_entry(&kernel, distance, &notes, e);
	if (!ret) {
		move_segments(&kernel, distance);
		ret = copy_out(&kernel, &notes, fd, e);
	}
	file_unmap(&kernel);
	file_unmap(&relocs);
	return ret;
}

int kaslr_kernel(const char *path, const char *cmdline, uint64_t memory, uint64_t ramdisk, int *fd, struct vgpuxl_error *e)
{
	struct file kernel = { .path = path };
	char relocs[4096];
	uint64_t distance = 0;
	int ret;

	*fd = -1;
	snprintf(relocs, sizeof(relocs), "%s.relocs", path);
	if (has_word(cmdline, "nokaslr") || access(relocs, F_OK))
		return 0;
	ret = file_map(&kernel, PROT_READ, e);
	if (!ret)
		ret = farthest(&kernel, memory, ramdisk, &distance, e);
	file_unmap(&kernel);
	if (!ret)
		ret = random_step(distance, &distance, e);
	if (!ret && distance)
		ret = kaslr_move(path, distance, fd, e);
	return ret;
}
