// SPDX-License-Identifier: Apache-2.0
/*
 * What a worker gives up before it meets a client. A client can run code of its own on the GPU with this process's
 * address space in reach; so what this process may do, assume the client does.
 *
 * With the software GPU nothing is left but memory, threads, futexes, and the descriptors it holds. NVIDIA's driver
 * also needs its device nodes and some files, so that profile is wider; both refuse by default.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "linux/vgpu_back.h"
#include "worker.h"

/* ThreadSanitizer's runtime needs most of what is taken away here, so a worker that is tested under it stays as it is. */
#ifdef __SANITIZE_THREAD__
#define UNCONFINED	true
#else
#define UNCONFINED	false
#endif

#define ALLOW(name, ...) \
	do { \
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(name), ##__VA_ARGS__); \
		if (rc) \
			return rc; \
	} while (0)
#define FORBID(action, name) \
	do { \
		rc = seccomp_rule_add(f, action, SCMP_SYS(name), 0); \
		if (rc && rc != -EDOM) \
			return rc; \
	} while (0)

/* What both profiles need. */
static int allow_common(scmp_filter_ctx f)
{
	int rc;

	ALLOW(futex, 0);
	ALLOW(read, 0);
	ALLOW(write, 0);
	ALLOW(pread64, 0);
	ALLOW(close, 0);
	ALLOW(recvmsg, 0);
	ALLOW(sendmsg, 0);
	ALLOW(recvfrom, 0);
	ALLOW(sendto, 0);
	ALLOW(shutdown, 0);
	ALLOW(poll, 0);
	ALLOW(ppoll, 0);
	ALLOW(fstat, 0);
	ALLOW(newfstatat, 1, SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
	ALLOW(lseek, 0);
	ALLOW(ftruncate, 0);
	ALLOW(brk, 0);
	ALLOW(munmap, 0);
	ALLOW(mremap, 0);
	ALLOW(madvise, 0);
	ALLOW(exit, 0);
	ALLOW(exit_group, 0);
	ALLOW(rt_sigaction, 0);
	ALLOW(rt_sigprocmask, 0);
	ALLOW(rt_sigreturn, 0);
	ALLOW(sigaltstack, 0);
	ALLOW(restart_syscall, 0);
	ALLOW(sched_yield, 0);
	ALLOW(sched_getaffinity, 0);
	/* A thread's own, and never up. */
	ALLOW(sched_setscheduler, 2, SCMP_A0(SCMP_CMP_EQ, 0, 0), SCMP_A1(SCMP_CMP_EQ, SCHED_BATCH, 0));
	ALLOW(setpriority, 2, SCMP_A0(SCMP_CMP_EQ, PRIO_PROCESS, 0), SCMP_A1(SCMP_CMP_EQ, 0, 0));
	ALLOW(getcpu, 0);
	ALLOW(getpid, 0);
	ALLOW(gettid, 0);
	ALLOW(clock_gettime, 0);
	ALLOW(clock_getres, 0);
	ALLOW(gettimeofday, 0);
	ALLOW(clock_nanosleep, 0);
	ALLOW(nanosleep, 0);
	ALLOW(getrandom, 0);
	ALLOW(set_robust_list, 0);
	ALLOW(rseq, 0);
	ALLOW(sysinfo, 0);
	ALLOW(membarrier, 0);
	ALLOW(tgkill, 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));	/* abort() */
	ALLOW(prctl, 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
	/* Limits may be read, and lowered: raising them takes a privilege that is gone. Others' are out of reach. */
	ALLOW(getrlimit, 0);
	ALLOW(prlimit64, 1, SCMP_A0(SCMP_CMP_EQ, 0, 0));
	/* Threads, not processes; the C library falls back to clone() when clone3() is not there. */
	ALLOW(clone, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM));
	rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (rc)
		return rc;
	return 0;
}

static int allow_soft(scmp_filter_ctx f)
{
	int rc;

	/* No memory becomes code; and what is no file's counts against RLIMIT_DATA, which shared memory and stacks do not. */
	ALLOW(mmap, 2, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
	      SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS | MAP_GROWSDOWN, 0));
	ALLOW(mmap, 2, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
	      SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_TYPE | MAP_GROWSDOWN, MAP_PRIVATE));
	ALLOW(mprotect, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	ALLOW(dup, 0);
	ALLOW(ioctl, 1, SCMP_A1(SCMP_CMP_EQ, VGPU_BACK_IOC_INFO, 0));
	ALLOW(ioctl, 1, SCMP_A1(SCMP_CMP_EQ, VGPU_BACK_IOC_KICK, 0));
	ALLOW(ioctl, 1, SCMP_A1(SCMP_CMP_EQ, VGPU_BACK_IOC_WAIT, 0));
	ALLOW(ioctl, 1, SCMP_A1(SCMP_CMP_EQ, VGPU_BACK_IOC_END, 0));
	return 0;
}

/*
 * Workers have one user, so none may have the kernel send signals to another: as owner of a descriptor, by FIOSETOWN and
 * SIOCSPGRP (all commands of that type are refused, each rule says where one of the others differs), or by F_SETOWN.
 */
#define IOCTL_TYPE_SOCKET	0x89u

static int allow_ioctl(scmp_filter_ctx f)
{
	int rc;

	for (unsigned int bit = 0; bit < 8; bit++) {
		scmp_datum_t mask = 1u << (bit + _IOC_TYPESHIFT);

		ALLOW(ioctl, 1, SCMP_A1(SCMP_CMP_MASKED_EQ, mask, ~(IOCTL_TYPE_SOCKET << _IOC_TYPESHIFT) & mask));
	}
	return 0;
}

static int allow_fcntl(scmp_filter_ctx f)
{
	static const int commands[] = {
		F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK,
		F_OFD_SETLK, F_OFD_SETLKW, F_ADD_SEALS, F_GET_SEALS,
	};
	int rc;

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		ALLOW(fcntl, 1, SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)commands[i], 0));
	return 0;
}

/* What libcuda.so.1 was seen to need for the calls carried here. It opens device nodes when contexts are made. */
static int allow_nvidia(scmp_filter_ctx f)
{
	int rc;

	ALLOW(mmap, 0);
	ALLOW(mprotect, 0);
	rc = allow_ioctl(f);
	if (rc)
		return rc;
	ALLOW(openat, 0);
	ALLOW(open, 0);
	ALLOW(access, 0);
	ALLOW(faccessat, 0);
	ALLOW(faccessat2, 0);
	ALLOW(stat, 0);
	ALLOW(lstat, 0);
	ALLOW(newfstatat, 0);
	ALLOW(statx, 0);
	ALLOW(statfs, 0);
	ALLOW(fstatfs, 0);
	ALLOW(readlink, 0);
	ALLOW(readlinkat, 0);
	ALLOW(getdents64, 0);
	ALLOW(getcwd, 0);
	rc = allow_fcntl(f);
	if (rc)
		return rc;
	ALLOW(dup, 0);
	ALLOW(dup2, 0);
	ALLOW(dup3, 0);
	ALLOW(pipe, 0);
	ALLOW(pipe2, 0);
	ALLOW(eventfd2, 0);
	ALLOW(epoll_create1, 0);
	ALLOW(epoll_ctl, 0);
	ALLOW(epoll_wait, 0);
	ALLOW(epoll_pwait, 0);
	ALLOW(timerfd_create, 0);
	ALLOW(timerfd_settime, 0);
	ALLOW(memfd_create, 0);
	ALLOW(pwrite64, 0);
	ALLOW(readv, 0);
	ALLOW(writev, 0);
	ALLOW(select, 0);
	ALLOW(pselect6, 0);
	ALLOW(mlock, 0);
	ALLOW(mlock2, 0);
	ALLOW(munlock, 0);
	ALLOW(mincore, 0);
	ALLOW(msync, 0);
	ALLOW(fadvise64, 0);
	ALLOW(fallocate, 0);
	ALLOW(get_mempolicy, 0);
	ALLOW(set_mempolicy, 0);
	ALLOW(mbind, 0);
	ALLOW(sched_setaffinity, 0);
	ALLOW(sched_getscheduler, 0);
	ALLOW(sched_getparam, 0);
	ALLOW(sched_get_priority_max, 0);
	ALLOW(sched_get_priority_min, 0);
	ALLOW(getuid, 0);
	ALLOW(geteuid, 0);
	ALLOW(getgid, 0);
	ALLOW(getegid, 0);
	ALLOW(getppid, 0);
	ALLOW(uname, 0);
	ALLOW(times, 0);
	ALLOW(getrusage, 0);
	ALLOW(umask, 0);
	ALLOW(prctl, 1, SCMP_A0(SCMP_CMP_EQ, PR_GET_NAME, 0));
	return 0;
}

/* No honest driver library does this: whoever tries has taken the process over. */
static int forbid(scmp_filter_ctx f)
{
	int rc;

	FORBID(SCMP_ACT_KILL_PROCESS, execve);
	FORBID(SCMP_ACT_KILL_PROCESS, execveat);
	FORBID(SCMP_ACT_KILL_PROCESS, fork);
	FORBID(SCMP_ACT_KILL_PROCESS, vfork);
	FORBID(SCMP_ACT_KILL_PROCESS, ptrace);
	FORBID(SCMP_ACT_KILL_PROCESS, process_vm_readv);
	FORBID(SCMP_ACT_KILL_PROCESS, process_vm_writev);
	FORBID(SCMP_ACT_KILL_PROCESS, setuid);
	FORBID(SCMP_ACT_KILL_PROCESS, setresuid);
	FORBID(SCMP_ACT_KILL_PROCESS, setgid);
	FORBID(SCMP_ACT_KILL_PROCESS, setresgid);
	FORBID(SCMP_ACT_KILL_PROCESS, unshare);
	FORBID(SCMP_ACT_KILL_PROCESS, setns);
	FORBID(SCMP_ACT_KILL_PROCESS, mount);
	FORBID(SCMP_ACT_KILL_PROCESS, chroot);
	FORBID(SCMP_ACT_KILL_PROCESS, pivot_root);
	FORBID(SCMP_ACT_KILL_PROCESS, bpf);
	FORBID(SCMP_ACT_KILL_PROCESS, init_module);
	FORBID(SCMP_ACT_KILL_PROCESS, finit_module);
	FORBID(SCMP_ACT_KILL_PROCESS, kexec_load);
	FORBID(SCMP_ACT_KILL_PROCESS, perf_event_open);
	FORBID(SCMP_ACT_KILL_PROCESS, userfaultfd);
	FORBID(SCMP_ACT_KILL_PROCESS, keyctl);
	FORBID(SCMP_ACT_KILL_PROCESS, add_key);
	return 0;
}

int sandbox_filter(bool soft)
{
	scmp_filter_ctx f;
	int rc;

	if (UNCONFINED)
		return 0;
	f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!f)
		return -ENOMEM;
	/* For all threads: the driver library may have started some. */
	rc = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!rc)
		rc = allow_common(f);
	if (!rc)
		rc = soft ? allow_soft(f) : allow_nvidia(f);
	if (!rc)
		rc = forbid(f);
	if (!rc)
		rc = seccomp_load(f);
	seccomp_release(f);
	return rc;
}

static int limit(int what, rlim_t value)
{
	struct rlimit rl = { value, value };

	return setrlimit(what, &rl) ? -errno : 0;
}

int sandbox_drop(const struct sandbox *s, char *what, size_t len)
{
	if (UNCONFINED)
		return 0;
	/* NVIDIA's driver opens many; the software GPU gets one from the broker for whatever can be exported. */
	if (limit(RLIMIT_CORE, 0) || limit(RLIMIT_NOFILE, 4096) || limit(RLIMIT_FSIZE, 16 << 20)) {
		snprintf(what, len, "setrlimit");
		return -errno;
	}
	/* Writing beyond the limit is an error, not the end. */
	signal(SIGXFSZ, SIG_IGN);
	if (s->empty && s->soft && (chroot(s->empty) || chdir("/"))) {
		snprintf(what, len, "chroot to %s", s->empty);
		return -errno;
	}
	if (s->drop) {
		for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
		if (setgroups(0, NULL) || setresgid(s->gid, s->gid, s->gid) || setresuid(s->uid, s->uid, s->uid)) {
			snprintf(what, len, "becoming user %u, group %u", s->uid, s->gid);
			return -errno;
		}
		if (!setuid(0)) {
			snprintf(what, len, "giving up root");
			return -EPERM;
		}
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		snprintf(what, len, "PR_SET_NO_NEW_PRIVS");
		return -errno;
	}
	/* Another worker of the same user must not look in. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return 0;
}

int sandbox_limit_memory(uint64_t bytes)
{
	return UNCONFINED ? 0 : limit(RLIMIT_DATA, bytes);
}
