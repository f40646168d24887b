// SPDX-License-Identifier: Apache-2.0
/*
 * Which devices a cgroup may use: cgroup v2 asks a BPF program. It allows what one of the rules names and nothing else, so
 * that a process which may make device nodes gains nothing by that.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <linux/bpf.h>
#include <unistd.h>

#include "init.h"

#define RULES_MAX	64
#define RULE_INSNS	8
#define ALL		(BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)

struct rule {
	int type;		/* BPF_DEVCG_DEV_…, -1: any */
	int access;
	long major, minor;	/* -1: any */
};

/* "c 1:3 rwm"; "*" for any number, "a" for any type. */
static bool parse(const char *text, struct rule *r)
{
	char type, major[16], minor[16], access[8], rest;

	if (sscanf(text, "%c %15[0-9*]:%15[0-9*] %7[rwm] %c", &type, major, minor, access, &rest) != 4)
		return false;
	r->type = type == 'c' ? BPF_DEVCG_DEV_CHAR : type == 'b' ? BPF_DEVCG_DEV_BLOCK : -1;
	if (r->type < 0 && type != 'a')
		return false;
	r->major = r->minor = -1;
	if (strcmp(major, "*") && sscanf(major, "%ld%c", &r->major, &rest) != 1)
		return false;
	if (strcmp(minor, "*") && sscanf(minor, "%ld%c", &r->minor, &rest) != 1)
		return false;
	r->access = (strchr(access, 'r') ? BPF_DEVCG_ACC_READ : 0) | (strchr(access, 'w') ? BPF_DEVCG_ACC_WRITE : 0) |
		    (strchr(access, 'm') ? BPF_DEVCG_ACC_MKNOD : 0);
	return true;
}

struct program {
	struct bpf_insn insns[RULES_MAX * RULE_INSNS + 8];
	int count;
};

static void emit(struct program *p, uint8_t code, int dst, int src, int off, int imm)
{
	p->insns[p->count++] = (struct bpf_insn){ .code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm };
}

/* Registers: 2 type, 3 access, 4 major, 5 minor; a rule that does not fit jumps to the next one. */
static void emit_rule(struct program *p, const struct rule *r)
{
	int first = p->count;

	if (r->type >= 0)
		emit(p, BPF_JMP | BPF_JNE | BPF_K, 2, 0, 0, r->type);
	if (r->access != ALL) {
		emit(p, BPF_ALU64 | BPF_MOV | BPF_X, 6, 3, 0, 0);
		emit(p, BPF_ALU64 | BPF_AND | BPF_K, 6, 0, 0, ~r->access);
		emit(p, BPF_JMP | BPF_JNE | BPF_K, 6, 0, 0, 0);
	}
	if (r->major >= 0)
		emit(p, BPF_JMP | BPF_JNE | BPF_K, 4, 0, 0, r->major);
	if (r->minor >= 0)
		emit(p, BPF_JMP | BPF_JNE | BPF_K, 5, 0, 0, r->minor);
	emit(p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
	emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	for (int i = first; i < p->count; i++)
		if (p->insns[i].code == (BPF_JMP | BPF_JNE | BPF_K))
			p->insns[i].off = p->count - i - 1;
}

static int load(const struct program *p)
{
	static const char licence[] = "Dual MIT/GPL";
	union bpf_attr attr = { 0 };

	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (uintptr_t)p->insns;
	attr.insn_cnt = p->count;
	attr.license = (uintptr_t)licence;
	return syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

static int attach(int program, const char *cgroup)
{
	union bpf_attr attr = { 0 };
	int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC), result;

	if (fd < 0)
		return -1;
	attr.target_fd = fd;
	attr.attach_bpf_fd = program;
	attr.attach_type = BPF_CGROUP_DEVICE;
	result = syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr));
	close(fd);
	return result;
}

int devices_allow(const char *cgroup, const struct list *rules, struct failure *f)
{
	struct program p = { .count = 0 };
	int program, result;

	if (rules->count > RULES_MAX)
		return refuse(f, E2BIG, "%zu rules for devices, %d are possible", rules->count, RULES_MAX);
	emit(&p, BPF_LDX | BPF_MEM | BPF_W, 2, 1, offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
	emit(&p, BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0);
	emit(&p, BPF_ALU64 | BPF_RSH | BPF_K, 3, 0, 0, 16);
	emit(&p, BPF_ALU64 | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
	emit(&p, BPF_LDX | BPF_MEM | BPF_W, 4, 1, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
	emit(&p, BPF_LDX | BPF_MEM | BPF_W, 5, 1, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
	for (size_t i = 0; i < rules->count; i++) {
		const char *text = *LIST_ITEM(rules, const char *, i);
		struct rule r;

		if (!parse(text, &r))
			return refuse(f, EINVAL, "%.60s: not a rule for devices, as \"c 1:3 rwm\"", text);
		emit_rule(&p, &r);
	}
	emit(&p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	emit(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	program = load(&p);
	if (program < 0)
		return fail(f, "the kernel does not take the program that limits devices");
	result = attach(program, cgroup);
	close(program);
	return result ? fail(f, "cannot limit the devices of the cgroup %.150s", cgroup) : 0;
}
