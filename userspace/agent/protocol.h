/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pod's agent (vgpu-init) and its host speak: frames over one byte stream, which is a libxenvchan in
 * production and a UNIX socket in tests. This header is the manual; Documentation/agent-protocol.rst tells the story.
 *
 * FRAMES
 *	12 bytes of header, then @length bytes. Everything is little endian. A frame that breaks one of the rules below ends
 *	the connection; what runs in the pod goes on running.
 *
 * CALLS
 *	The host opens a call with a request under a number that is not in use (never 0, never reused before the call has ended).
 *	The agent answers with any number of DATA, END and CREDIT frames, the EVENT frames that its request is said to have
 *	below (CREATE with ATTACH and DIAL one at most, EVENTS any number, others none), and then exactly one REPLY or ERROR, after
 *	which the number is free. The agent never opens a call. While a call is open the host may send DATA, END, CREDIT, RESIZE
 *	and CANCEL under its number; those that arrive after the agent has ended the call are ignored.
 *	The first request of a connection is HELLO; anything else is refused until it was answered.
 *
 * STREAMS AND CREDIT
 *	A call has up to three byte streams: 0 towards the pod, 1 and 2 towards the host. A sender may have VGPU_AGENT_WINDOW
 *	bytes on their way per stream when the call opens; every CREDIT allows so many more. Whoever consumes the bytes gives
 *	the credit. So a slow reader holds up its own stream only, and neither side ever buffers more than it has allowed.
 *	END closes a stream; no DATA follows on it.
 *
 * ATTRIBUTES
 *	The payload of requests, events, replies and errors is a sequence of attributes: type, zero, length, then the value.
 *	Integers are 4 or 8 bytes as the list says, strings end with their only NUL, nests hold attributes. Where the list says
 *	"many", order counts. The agent refuses a request with an attribute it does not know (ENOTSUP): a setting that would
 *	silently not apply is worse than none. The host ignores attributes of replies that it does not know.
 *
 * ERRORS
 *	VGPU_AGENT_ERROR carries A_CODE, a Linux errno of x86-64, and A_TEXT, one sentence for a person.
 */
#ifndef VGPU_AGENT_PROTOCOL_H
#define VGPU_AGENT_PROTOCOL_H

#include <stdint.h>

#define VGPU_AGENT_VERSION	1u
#define VGPU_AGENT_MAGIC	0x54474156u	/* "VAGT" */

#define VGPU_AGENT_REQUEST_MAX	(1u << 20)	/* payload of a request: a container's whole specification */
#define VGPU_AGENT_ANSWER_MAX	(256u << 10)	/* payload of an event, a reply, an error */
#define VGPU_AGENT_DATA_MAX	(32u << 10)	/* payload of DATA: one stream does not hold up the others for long */
#define VGPU_AGENT_WINDOW	(64u << 10)	/* credit of every stream of a new call */
#define VGPU_AGENT_CREDIT_MAX	(16u << 20)	/* credit that may be outstanding on one stream */
#define VGPU_AGENT_CALLS_MAX	256u		/* calls open at a time */
#define VGPU_AGENT_PROCESSES_MAX 1024u		/* processes the agent remembers, running or not yet deleted */
#define VGPU_AGENT_NAME_MAX	128u		/* characters of a process's name: letters, digits, "._-", no dot first */
#define VGPU_AGENT_STREAMS	3u

struct vgpu_agent_frame {
	uint32_t length;	/* of the payload */
	uint32_t call;
	uint16_t type;		/* enum vgpu_agent_frame_type */
	uint16_t stream;	/* DATA, END, CREDIT: 0 to 2; else 0 */
};

struct vgpu_agent_attr {
	uint16_t type;		/* enum vgpu_agent_attr_type */
	uint16_t zero;
	uint32_t length;	/* of the value; the next attribute follows without padding */
};

enum vgpu_agent_frame_type {
	/*
	 * Requests. "→" names the attributes of the reply.
	 *
	 * HELLO	MAGIC VERSION → VERSION BUILD BOOT_ID KERNEL PHASE* TROUBLE*. The host names its newest version, the
	 *		agent answers with the one both will speak. BOOT_ID differs after every start of the agent.
	 * CREATE	NAME and the specification below, FLAGS. Makes a process and everything around it, up to the point before its
	 *		program is executed. Without flags → PID when that point is reached.
	 *		RUN	execute the program as well
	 *		ATTACH	keep the call open as ATTACH does; an EVENT with PID says that the program runs; → as WAIT
	 *		DELETE	forget the process when it has ended and that was reported (or nobody wanted to know)
	 *		KILL	kill it if this call is cancelled or the connection ends before it has ended
	 * START	NAME. Execute the program of a created process. → PID
	 * ATTACH	NAME FLAGS. Streams 0, 1 and 2 become the process's standard streams (a terminal has no stream 2).
	 *		→ as WAIT, after everything it wrote was sent. One call at a time holds them; STEAL takes them over,
	 *		and the call that had them ends with ESTALE. Without a call a process that writes enough waits.
	 * WAIT		NAME → EXIT, when the process has ended.
	 * SIGNAL	NAME SIGNAL FLAGS. ALL: to every process of its cgroup or, without one, its process group.
	 * LIST		→ PROCESS*
	 * DELETE	NAME. Forget a process that has ended, and what was made for it. EBUSY: it has not, or a call has its streams
	 *		and not yet all that it wrote. KILL ends it first, and such a call with it.
	 * UPDATE	NAME CGROUP*. Change limits while it runs.
	 * STATS	[NAME] → STAT*. Without a name: the whole pod.
	 * EVENTS	Stays open; EVENT for every process that ended (NAME EXIT) or met its memory limit (NAME OOM).
	 * PUT		PATH [NAME] FILE_TYPE MODE UID GID [MTIME] [TARGET]. Makes a file (of stream 0, whole or not at all), a
	 *		directory or a symbolic link, below the root of process NAME or of the pod. PARENTS: makes missing parents.
	 * GET		PATH [NAME] → FILE_TYPE MODE SIZE UID GID MTIME. The file's bytes on stream 1.
	 * DIAL		ADDRESS PORT. Streams 0 and 1 are a TCP connection from within the pod's network. An EVENT without attributes
	 *		says that it is made; → nothing when both directions have ended.
	 * TIME		TIME_NS. Set the pod's clock (ns since 1970).
	 * NETWORK	the network attributes below. What is named is set, what is not stays.
	 * MOUNT	MOUNT*, in the pod itself.
	 * UNMOUNT	PATH
	 * SHUTDOWN	TIMEOUT_MS FLAGS. SIGTERM, so long time, SIGKILL; → nothing; then the pod is switched off (REBOOT: restarted).
	 */
	VGPU_AGENT_HELLO = 1,
	VGPU_AGENT_CREATE,
	VGPU_AGENT_START,
	VGPU_AGENT_ATTACH,
	VGPU_AGENT_WAIT,
	VGPU_AGENT_SIGNAL,
	VGPU_AGENT_LIST,
	VGPU_AGENT_DELETE,
	VGPU_AGENT_UPDATE,
	VGPU_AGENT_STATS,
	VGPU_AGENT_EVENTS,
	VGPU_AGENT_PUT,
	VGPU_AGENT_GET,
	VGPU_AGENT_DIAL,
	VGPU_AGENT_TIME,
	VGPU_AGENT_NETWORK,
	VGPU_AGENT_MOUNT,
	VGPU_AGENT_UNMOUNT,
	VGPU_AGENT_SHUTDOWN,
	VGPU_AGENT_REQUESTS_END,

	/* Within an open call, from both sides. */
	VGPU_AGENT_DATA = 0x40,		/* bytes, at least one */
	VGPU_AGENT_END,			/* no payload */
	VGPU_AGENT_CREDIT,		/* uint32_t: so many bytes more, at least one */

	/* Within an open call, from the host. */
	VGPU_AGENT_RESIZE = 0x50,	/* two uint16_t: rows, columns */
	VGPU_AGENT_CANCEL,		/* no payload. The agent answers with REPLY or, if it did not come to that, ERROR ECANCELED. */

	/* From the agent. */
	VGPU_AGENT_EVENT = 0x60,
	VGPU_AGENT_REPLY,
	VGPU_AGENT_ERROR,
};

/* A_FLAGS */
#define VGPU_AGENT_F_RUN	0x001u
#define VGPU_AGENT_F_ATTACH	0x002u
#define VGPU_AGENT_F_DELETE	0x004u
#define VGPU_AGENT_F_KILL	0x008u
#define VGPU_AGENT_F_STEAL	0x010u
#define VGPU_AGENT_F_ALL	0x020u
#define VGPU_AGENT_F_PARENTS	0x040u
#define VGPU_AGENT_F_REBOOT	0x080u

enum vgpu_agent_attr_type {
	/* General. u32 unless another type is named. */
	VGPU_AGENT_A_MAGIC = 1,
	VGPU_AGENT_A_VERSION,
	VGPU_AGENT_A_BUILD,		/* string: what the agent calls itself */
	VGPU_AGENT_A_BOOT_ID,		/* u64 */
	VGPU_AGENT_A_KERNEL,		/* string: `uname -r` */
	VGPU_AGENT_A_PHASE,		/* many; nest of LABEL TIME_NS: when a phase of the start was done, since the kernel's */
	VGPU_AGENT_A_TROUBLE,		/* many; string: what went wrong at the start and did not prevent it */
	VGPU_AGENT_A_FLAGS,
	VGPU_AGENT_A_CODE,
	VGPU_AGENT_A_TEXT,		/* string */
	VGPU_AGENT_A_NAME,		/* string: a process */
	VGPU_AGENT_A_LABEL,		/* string */
	VGPU_AGENT_A_PID,		/* in the pod's own PID namespace */
	VGPU_AGENT_A_SIGNAL,
	VGPU_AGENT_A_TIME_NS,		/* u64 */
	VGPU_AGENT_A_TIMEOUT_MS,
	VGPU_AGENT_A_EXIT,		/* nest of EXIT_CODE EXIT_SIGNAL EXIT_TIME [OOM] */
	VGPU_AGENT_A_EXIT_CODE,		/* 0 to 255 */
	VGPU_AGENT_A_EXIT_SIGNAL,	/* 0, or what ended it; EXIT_CODE is 128 + this then */
	VGPU_AGENT_A_EXIT_TIME,		/* u64: ns since 1970 */
	VGPU_AGENT_A_OOM,		/* times the kernel killed for want of memory within its limit */
	VGPU_AGENT_A_PROCESS,		/* many; nest of NAME STATE PID START_TIME [EXIT] */
	VGPU_AGENT_A_STATE,		/* enum vgpu_agent_state */
	VGPU_AGENT_A_START_TIME,	/* u64: ns since 1970; 0 before the start */
	VGPU_AGENT_A_STAT,		/* many; nest of LABEL VALUE, as cgroup v2 names them: "memory.current", "cpu.usage_usec" … */
	VGPU_AGENT_A_VALUE,		/* u64 */

	/* Files, addresses. */
	VGPU_AGENT_A_PATH = 0x40,	/* string, absolute */
	VGPU_AGENT_A_FILE_TYPE,		/* enum vgpu_agent_file_type */
	VGPU_AGENT_A_MODE,		/* permission bits */
	VGPU_AGENT_A_UID,
	VGPU_AGENT_A_GID,
	VGPU_AGENT_A_MTIME,		/* u64: ns since 1970 */
	VGPU_AGENT_A_SIZE,		/* u64: bytes */
	VGPU_AGENT_A_TARGET,		/* string: a symbolic link's contents */
	VGPU_AGENT_A_ADDRESS,		/* string: IPv4, IPv6 or "localhost" */
	VGPU_AGENT_A_PORT,

	/* Network. */
	VGPU_AGENT_A_HOSTNAME = 0x60,	/* string */
	VGPU_AGENT_A_INTERFACE,		/* many; nest of LABEL [MAC] [MTU] [NET_ADDRESS*]: is brought up */
	VGPU_AGENT_A_MAC,		/* string */
	VGPU_AGENT_A_MTU,
	VGPU_AGENT_A_NET_ADDRESS,	/* many; string: ADDRESS/PREFIX */
	VGPU_AGENT_A_ROUTE,		/* many; nest of LABEL (interface) NET_ADDRESS (destination; none: default) [GATEWAY] */
	VGPU_AGENT_A_GATEWAY,		/* string */
	VGPU_AGENT_A_NAMESERVER,	/* many; string. These three make resolv.conf. */
	VGPU_AGENT_A_SEARCH,		/* many; string */
	VGPU_AGENT_A_RESOLV_OPTION,	/* many; string */

	/* A process's specification (CREATE). Defaults in brackets. */
	VGPU_AGENT_A_ARG = 0x80,	/* many, at least one; string. The first is looked up in its PATH. */
	VGPU_AGENT_A_ENV,		/* many; string NAME=VALUE: its whole environment but for HOME [its user's in its root's
					 * passwd, or /] */
	VGPU_AGENT_A_CWD,		/* string, absolute [/] */
	VGPU_AGENT_A_USER,		/* string name or number [:name or number], looked up in its root's passwd and group */
	VGPU_AGENT_A_USER_ID,		/* [0] */
	VGPU_AGENT_A_GROUP_ID,		/* [0] */
	VGPU_AGENT_A_EXTRA_GROUP,	/* many */
	VGPU_AGENT_A_UMASK,		/* [022] */
	VGPU_AGENT_A_TTY,		/* rows << 16 | columns: a terminal instead of three pipes, of the devpts that it has at
					 * /dev/pts, or of the pod's; with a ROOT also bound to /dev/console */
	VGPU_AGENT_A_STDIN,		/* 0: its standard input is /dev/null [1] */
	VGPU_AGENT_A_CAPABILITIES,	/* five u64: bounding, effective, inheritable, permitted, ambient [as the agent's] */
	VGPU_AGENT_A_NO_NEW_PRIVS,	/* [0] */
	VGPU_AGENT_A_RLIMIT,		/* many; three u64: resource, soft, hard [the agent's; NOFILE 1024, 524288] */
	VGPU_AGENT_A_OOM_SCORE_ADJ,	/* int32 */
	VGPU_AGENT_A_SECCOMP,		/* bytes: an array of struct sock_filter; many are installed one after the other */
	VGPU_AGENT_A_SECCOMP_FLAGS,	/* SECCOMP_FILTER_FLAG_LOG, _TSYNC, _SPEC_ALLOW [0] */
	VGPU_AGENT_A_JOIN,		/* string: run within a running process's root, namespaces and cgroup; ESRCH if its first
					 * thread has ended */
	VGPU_AGENT_A_ROOT,		/* string: directory of the pod that becomes its root [the pod's root] */
	VGPU_AGENT_A_READONLY_ROOT,	/* [0] */
	VGPU_AGENT_A_NAMESPACES,	/* CLONE_NEW… that it gets of its own: NS, PID, UTS, IPC, CGROUP, NET [none; NS with ROOT] */
	VGPU_AGENT_A_PID_OF,		/* string: share that process's PID namespace */
	VGPU_AGENT_A_MOUNT,		/* many; nest of PATH [SOURCE] [FS_TYPE] [MOUNT_FLAGS] [MOUNT_DATA] [PROPAGATION]
					 * [MOUNT_RECURSIVE] */
	VGPU_AGENT_A_SOURCE,		/* string */
	VGPU_AGENT_A_FS_TYPE,		/* string */
	VGPU_AGENT_A_MOUNT_FLAGS,	/* u64: MS_… of Linux (MS_BIND, MS_REC, MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC …) */
	VGPU_AGENT_A_MOUNT_DATA,	/* string: what the file system understands; none with MS_BIND */
	VGPU_AGENT_A_PROPAGATION,	/* u64: MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, with or without MS_REC */
	VGPU_AGENT_A_MASKED_PATH,	/* many; string: hidden from it */
	VGPU_AGENT_A_READONLY_PATH,	/* many; string */
	VGPU_AGENT_A_SYSCTL,		/* many; string NAME=VALUE */
	VGPU_AGENT_A_DEVICE,		/* many; nest of PATH DEVICE_TYPE MAJOR MINOR MODE UID GID: made in its root */
	VGPU_AGENT_A_DEVICE_TYPE,	/* 'c', 'b' or 'p' */
	VGPU_AGENT_A_MAJOR,
	VGPU_AGENT_A_MINOR,
	VGPU_AGENT_A_CGROUP,		/* many; string FILE=VALUE as in cgroup v2: memory.max=…, cpu.max=…, pids.max=…; any: an own cgroup */
	VGPU_AGENT_A_STOP_SIGNAL,	/* what SHUTDOWN sends it [SIGTERM] */
	VGPU_AGENT_A_DEVICE_RULE,	/* many; string "c 1:3 rwm", "*" for any number, "a" for any type: it may use these devices
					 * and no others, but terminals if it has one; makes an own cgroup [all] */
	VGPU_AGENT_A_MOUNT_RECURSIVE,	/* two u64: MOUNT_ATTR_… to set and to clear on the mount and all below it */
};

enum vgpu_agent_state {
	VGPU_AGENT_CREATING = 1,	/* being set up */
	VGPU_AGENT_CREATED,		/* waits for START */
	VGPU_AGENT_RUNNING,
	VGPU_AGENT_EXITED,
};

enum vgpu_agent_file_type {
	VGPU_AGENT_FILE = 1,
	VGPU_AGENT_DIRECTORY,
	VGPU_AGENT_SYMLINK,
};

_Static_assert(sizeof(struct vgpu_agent_frame) == 12, "as on the wire");
_Static_assert(sizeof(struct vgpu_agent_attr) == 8, "as on the wire");

#endif /* VGPU_AGENT_PROTOCOL_H */
