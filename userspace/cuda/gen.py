#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the shim's stubs, the worker's decoders, the resolver and the coverage page from the call table.

usage: gen.py --table cuda.tbl --wire wire.h --header CUDA_H --out DIR [--cc CC]

Needs Python 3.11 and a C preprocessor. The table says what is carried and how; C types come from cuda.h, read with
__CUDA_API_VERSION_INTERNAL so that the old forms of every call are declared too.
"""
import argparse
import collections
import hashlib
import os
import re
import subprocess
import sys

CARRIED = ("reply", "post", "wait")
CLASSES = CARRIED + ("via", "local", "refused", "foreign", "ptsz", "ptds")
HANDLES = ("ctx stream event module function library kernel mempool array mipmap texref texobj surfobj graph "
           "graphexec graphnode link memalloc greenctx userobj surfref resdesc").split()
# Why calls are refused.
REASONS = {
    "32-bit-abi": "the first form of a call, with sizes and addresses of 32 bits; programs use the later form",
    "external": "memory and semaphores of other drivers and devices: Vulkan, Direct3D, NvSci, dma-buf",
    "graphics": "OpenGL, EGL and VDPAU, which a pod has not",
    "multicast": "memory that the switch between several GPUs serves",
    "tools": "checkpoints and core dumps of the GPU's side of a process, which here is another process",
    "sparse-arrays": "memory mapped into parts of an array",
    "decompression": "the GPU's engine for compressed data",
    "removed": "CUDA 13's library exports it, its headers declare it no more",
}
# Every number comes as 64 bits. These keep all of them.
WIDE = ("size_t", "CUdeviceptr", "cuuint64_t", "unsigned long long")
PLAIN_KINDS = ("val", "skip", "stream", "hf", "out", "outz", "in", "out8", "in8")

HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n/* Generated from userspace/cuda/cuda.tbl by gen.py. */\n"


def fail(message):
    sys.exit("gen.py: " + message)


class Entry:
    """One line of the table."""

    def __init__(self, lineno, line):
        words = line.split()
        if len(words) < 4:
            fail(f"line {lineno}: expected: number class export version [arguments]")
        number, self.klass, self.name, version = words[:4]
        rest = words[4:]
        self.lineno = lineno
        self.number = None if number == "-" else int(number, 16)
        self.version = int(version)
        self.internal = self.name.startswith("@")
        self.foreign = self.klass == "foreign"
        self.key = self.name.lstrip("@")
        if self.klass not in CLASSES:
            fail(f"line {lineno}: {self.name}: unknown class {self.klass}")
        self.base = self.reason = self.wire = None
        self.shim = self.worker = self.tells = False
        self.kinds = []
        self.most = {}
        if self.klass in ("ptsz", "ptds"):
            self.base = rest[0]
        elif self.klass in ("refused", "foreign"):
            self.reason = rest[0]
            if self.reason not in REASONS:
                fail(f"line {lineno}: {self.name}: the reasons are {', '.join(REASONS)}")
        elif self.klass in CARRIED:
            for word in rest:
                if word == "shim":
                    self.shim = True
                elif word == "worker":
                    self.worker = True
                elif word == "tells":
                    self.tells = True
                elif word.startswith("wire:"):
                    self.wire = word[5:]
                elif re.fullmatch(r"max:\w+", word):
                    self.most[len(self.kinds)] = word[4:]
                    self.kinds.append("val")
                else:
                    self.kinds.append(word)
                    kind, _, handle = word.partition(":")
                    if not (word in PLAIN_KINDS or kind in ("h", "hz", "new", "del", "obj") and handle in HANDLES or
                            kind in ("in", "out") and handle.isdigit() or kind == "addr" and handle):
                        fail(f"line {lineno}: {self.name}: unknown argument kind {word}")
        elif rest:
            fail(f"line {lineno}: {self.name}: class {self.klass} has no arguments")

    @property
    def per_thread(self):
        return self.name.endswith(("_ptsz", "_ptds"))

    @property
    def generated(self):
        """Are the message's structures generated?"""
        return self.klass in CARRIED and not self.wire

    @property
    def handler(self):
        if self.wire:
            return "worker_hand_" + self.wire
        return ("worker_hand_" if self.worker else "do_") + self.key


def is_out(kind):
    return kind in ("out", "outz", "out8") or kind.startswith(("out:", "obj:"))


class Param:
    """One parameter of a prototype."""

    def __init__(self, text):
        match = re.fullmatch(r"(.*?)(\w+)", text.strip())
        self.type = match.group(1).strip()
        self.name = match.group(2)
        self.decl = f"{self.type}{'' if self.type.endswith('*') else ' '}{self.name}"

    @property
    def pointee(self):
        kind = self.type
        if not kind.endswith("*"):
            fail(f"parameter {self.decl} is no pointer")
        kind = kind[:-1].strip()
        return re.sub(r"^const\s+", "", kind)


def read_table(path):
    entries = []
    with open(path, encoding="utf-8") as table:
        text = table.read()
    for lineno, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if line:
            entries.append(Entry(lineno, line))
    names, numbers = {}, {}
    for entry in entries:
        if entry.name in names:
            fail(f"line {entry.lineno}: {entry.name} appears twice")
        names[entry.name] = entry
        if entry.number is not None:
            if entry.number in numbers:
                fail(f"line {entry.lineno}: number {entry.number:#x} is {numbers[entry.number]}'s")
            numbers[entry.number] = entry.name
    for entry in entries:
        if entry.base and entry.base not in names:
            fail(f"line {entry.lineno}: {entry.name}: no entry {entry.base}")
    return entries, names, text


def read_header(path, cc):
    """@return prototypes {name: [Param]} and the CUresult enumerators [(name, value)]."""
    source = f'#define __CUDA_API_VERSION_INTERNAL\n#include "{os.path.abspath(path)}"\n'
    text = subprocess.run(cc.split() + ["-E", "-P", "-xc", "-"], input=source, capture_output=True, text=True,
                          check=True).stdout
    text = re.sub(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)", "", text)
    text = re.sub(r"\s+", " ", text)
    prototypes = {}
    for match in re.finditer(r"CUresult (cu\w+)\(([^;{}]*)\);", text):
        params = match.group(2).strip()
        prototypes[match.group(1)] = [] if params in ("", "void") else [Param(p) for p in params.split(",")]
    for name in ("cuProfilerStart", "cuProfilerStop"):
        prototypes.setdefault(name, [])
    enum = re.search(r"typedef enum cudaError_enum \{(.*?)\} CUresult;", text).group(1)
    results = [(n, int(v)) for n, v in re.findall(r"(\w+) = (\d+)", enum)]
    return prototypes, results


def base_name(export):
    return re.sub(r"(_v\d+)?(_pts[z]|_ptds)?$", "", export)


# A comment of the header and the call that it is of. Its list of errors ends at an empty line, or with Doxygen's next command.
COMMENT = re.compile(r"/\*\*((?:[^*]|\*(?!/))*)\*/\s*(?:__CUDA_DEPRECATED\s+)?CUresult\s+CUDAAPI\s+(\w+)\s*\(")
RETURNS = re.compile(r"\\returns?\b(.*?)(?=\\\w|\n[\s*]*\n|\Z)", re.DOTALL)


class Documentation:
    """What the header's comments say: @errors {call: those documented for any form of it}."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as header:
            text = header.read()
        self.errors = collections.defaultdict(set)
        for comment, name in COMMENT.findall(text):
            for listed in RETURNS.findall(comment):
                self.errors[base_name(name)].update(re.findall(r"\bCUDA_ERROR_\w+", listed))
        renamed = re.findall(r"^#\s*define\s+(cu[A-Z]\w*)\s+(cu[A-Z]\w*)\s*$", text, re.MULTILINE)
        self._renamed = {base_name(to): base_name(of) for of, to in renamed}

    def call(self, export):
        """The call that @export is a form of, or that the header calls by its name."""
        base = base_name(export)
        return self._renamed.get(base, base)


def pairs(entry, prototypes):
    params = prototypes[entry.name]
    if len(params) != len(entry.kinds):
        fail(f"line {entry.lineno}: {entry.name} has {len(params)} parameters, the table describes "
             f"{len(entry.kinds)}: {', '.join(p.decl for p in params)}")
    return list(zip(entry.kinds, params))


def c_params(params):
    return ", ".join(p.decl for p in params) or "void"


def c_args(params):
    return ", ".join(p.name for p in params)


# --- what both sides must agree on -----------------------------------------------------------------------

def tokens(text):
    """C without comments and white space."""
    found = re.findall(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|[\w.]+|[^\s\w]', text, re.DOTALL)
    return " ".join(t for t in found if not t.startswith(("//", "/*")))


def table_hash(entries, prototypes, wire):
    """Calls that are carried, and the layout of their messages: the generated ones and those of wire.h."""
    carried = "".join(f"{e.number} {e.klass} {e.name} {e.wire} {e.kinds} {[p.decl for p in prototypes.get(e.name, [])]}\n"
                      for e in entries if e.klass in CARRIED)
    return int.from_bytes(hashlib.sha256((carried + tokens(wire)).encode()).digest()[:8], "little")


# --- cuda_wire.h ------------------------------------------------------------------------------------------

def request_fields(entry, prototypes):
    for kind, p in pairs(entry, prototypes):
        if is_out(kind) or kind == "skip":
            continue
        if kind == "in":
            yield f"\t{p.pointee} {p.name} __attribute__((aligned(8)));"
        elif kind.startswith("in:"):
            yield f"\t{p.pointee} {p.name}[{kind[3:]}] __attribute__((aligned(8)));"
        else:
            yield f"\tuint64_t {p.name};"


def reply_fields(entry, prototypes):
    for kind, p in pairs(entry, prototypes):
        if kind in ("out", "outz"):
            yield f"\t{p.pointee} {p.name} __attribute__((aligned(8)));"
        elif kind.startswith("out:"):
            yield f"\t{p.pointee} {p.name}[{kind[4:]}] __attribute__((aligned(8)));"
        elif kind == "out8" or kind.startswith("obj:"):
            yield f"\tuint64_t {p.name};"


def emit_wire(entries, prototypes, agreed):
    out = [HEAD, "#ifndef VGPU_CUDA_WIRE_GEN_H\n#define VGPU_CUDA_WIRE_GEN_H\n",
           "#ifndef __CUDA_API_VERSION_INTERNAL\n#define __CUDA_API_VERSION_INTERNAL\n#endif",
           "#include <cuda.h>\n\n#include \"wire.h\"\n",
           f"#define VGPU_TABLE_HASH\t{agreed:#018x}ull\n"]
    for e in entries:
        if e.klass in CARRIED:
            out.append(f"#define VGPU_MSG_{e.key}\t{e.number:#06x}")
    out.append("")
    for e in entries:
        if not e.generated:
            continue
        out.append(f"struct vgpu_rq_{e.key} {{\n\tstruct vgpu_call call;")
        out.extend(request_fields(e, prototypes))
        out.append("};")
        fields = list(reply_fields(e, prototypes))
        if fields:
            out.append(f"struct vgpu_rp_{e.key} {{")
            out.extend(fields)
            out.append("};")
    out.append("\n#endif")
    return "\n".join(out) + "\n"


# --- the shim ---------------------------------------------------------------------------------------------

# Calls that need no current context: they name a device, or what belongs to one or to the process.
NO_CONTEXT = ("cuDevice", "cuMemPool", "cuGreenCtx", "cuLibraryUnload", "cuLibraryGetKernelCount")
# These ask about events, which the runtime does in threads without a context: they do so in the event's own then.
OWN_CONTEXT = ("cuEventQuery", "cuEventSynchronize", "cuEventElapsedTime")
# Calls that end these do so in their own context, whichever is current.
ENDS = ("del:module", "del:link", "del:stream", "del:event", "del:graphexec")


def emit_marshaller(e, prototypes):
    """call_<name>() for entries whose export is by hand, else the export itself."""
    plist = pairs(e, prototypes)
    params = [p for _, p in plist]
    body = []
    ctx = "false" if e.name.startswith(NO_CONTEXT) or any(k.endswith(":ctx") for k in e.kinds) else "true"
    ends = [f"object_get({p.name}, VGPU_H_{k[4:].upper()})" for k, p in plist if k in ENDS]
    if e.name.startswith(OWN_CONTEXT):
        ends = [f"object_get({next(p.name for k, p in plist if k == 'h:event')}, VGPU_H_EVENT)"]
    has_reply = any(is_out(k) for k in e.kinds)
    body.append(f"\tstruct vgpu_rq_{e.key} rq;")
    if has_reply:
        body.append(f"\tstruct vgpu_rp_{e.key} rp;")
    if ends:
        body.append(f"\tCUresult r = call_begin_end(&rq.call, {ends[0]});")
    else:
        body.append(f"\tCUresult r = call_begin(&rq.call, {ctx});")
    created = [p for k, p in plist if k.startswith("new:")]
    if created:
        body.append("\tvoid *object;")
    body.append("\n\tif (r != CUDA_SUCCESS)\n\t\treturn r;")
    required = [p.name for k, p in plist if k in ("out", "in", "out8", "in8") or
                k.startswith(("new:", "obj:", "in:", "out:"))]
    if required:
        body.append("\tif (%s)\n\t\treturn CUDA_ERROR_INVALID_VALUE;" % " || ".join("!" + n for n in required))
    for i, (kind, p) in enumerate(plist):
        what, _, handle = kind.partition(":")
        if i in e.most:
            body.append(f"\tif ((uint64_t){p.name} > {e.most[i]})\n\t\treturn CUDA_ERROR_INVALID_VALUE;")
        if kind == "val" and p.type == "float":
            body.append(f"\trq.{p.name} = float_bits({p.name});")
        elif kind == "val" and p.type == "CUdevice":
            body.append(f"\tif ((unsigned int){p.name} >= shim.ndevices)\n\t\treturn CUDA_ERROR_INVALID_DEVICE;")
            body.append(f"\trq.{p.name} = (uint64_t){p.name};")
        elif kind == "val" or what == "addr":
            body.append(f"\trq.{p.name} = (uint64_t){p.name};")
        elif what == "in" and handle:
            body.append(f"\tmemcpy(rq.{p.name}, {p.name}, sizeof(rq.{p.name}));")
        elif kind == "in":
            body.append(f"\tmemset(&rq.{p.name}, 0, sizeof(rq.{p.name}));\n\trq.{p.name} = *{p.name};")
        elif kind == "in8":
            body.append(f"\tmemcpy(&rq.{p.name}, {p.name}, sizeof(rq.{p.name}));")
        elif kind == "stream":
            body.append(f"\tif (!stream_handle({p.name}, &rq.{p.name}))\n\t\treturn CUDA_ERROR_INVALID_HANDLE;")
        elif kind == "hf":
            body.append(f"\trq.{p.name} = object_launchable({p.name});")
            body.append(f"\tif (!rq.{p.name})\n\t\treturn CUDA_ERROR_INVALID_HANDLE;")
        elif what in ("h", "del"):
            error = {"ctx": "CUDA_ERROR_INVALID_CONTEXT", "mempool": "CUDA_ERROR_INVALID_VALUE",
                     "texref": "CUDA_ERROR_INVALID_VALUE", "surfref": "CUDA_ERROR_INVALID_VALUE"
                     }.get(handle, "CUDA_ERROR_INVALID_HANDLE")
            body.append(f"\trq.{p.name} = object_handle({p.name}, VGPU_H_{handle.upper()});")
            body.append(f"\tif (!rq.{p.name})\n\t\treturn {error};")
        elif what == "hz":
            body.append(f"\trq.{p.name} = {p.name} ? object_handle({p.name}, VGPU_H_{handle.upper()}) : 0;")
            error = "CUDA_ERROR_INVALID_CONTEXT" if handle == "ctx" else "CUDA_ERROR_INVALID_HANDLE"
            body.append(f"\tif ({p.name} && !rq.{p.name})\n\t\treturn {error};")
    for p in created:
        kind = next(k for k, q in plist if q is p)
        body.append(f"\tobject = object_new(VGPU_H_{kind[4:].upper()});")
        body.append("\tif (!object)\n\t\treturn CUDA_ERROR_OUT_OF_MEMORY;")
        body.append(f"\trq.{p.name} = object_wire(object);")
    if e.klass == "post":
        body.append(f"\tr = call_post(VGPU_MSG_{e.key}, &rq, sizeof(rq));")
    else:
        reply = "&rp, sizeof(rp)" if has_reply else "NULL, 0"
        body.append(f"\tr = call_reply(VGPU_MSG_{e.key}, &rq, sizeof(rq), {reply});")
    deleted = [p for k, p in plist if k.startswith("del:")]
    if deleted and e.klass == "post":
        # The worker lets go of it whatever the driver says.
        body.append(f"\tobject_delete({deleted[0].name});")
    elif deleted:
        body.append(f"\tif (r == CUDA_SUCCESS)\n\t\tobject_delete({deleted[0].name});")
    if created:
        body.append("\tif (r != CUDA_SUCCESS) {\n\t\tobject_delete(object);\n\t\treturn r;\n\t}")
        body.append("\t((struct object *)object)->ctx = context_current(thread_self());")
        body.append(f"\t*{created[0].name} = object;")
    elif has_reply:
        body.append("\tif (r != CUDA_SUCCESS)\n\t\treturn r;")
    for kind, p in plist:
        if kind == "out":
            body.append(f"\t*{p.name} = rp.{p.name};")
        elif kind == "out8" or kind.startswith("out:"):
            body.append(f"\tmemcpy({p.name}, &rp.{p.name}, sizeof(rp.{p.name}));")
        elif kind.startswith("obj:"):
            body.append(f"\t*{p.name} = object_by_handle(rp.{p.name});")
        elif kind == "outz":
            body.append(f"\tif ({p.name})\n\t\t*{p.name} = rp.{p.name};")
    body.append("\treturn r;")
    head = f"CUresult call_{e.name}" if e.shim else f"VGPU_EXPORT CUresult CUDAAPI {e.name}"
    return f"{head}({c_params(params)})\n{{\n" + "\n".join(body) + "\n}\n"


def emit_per_thread(e, base, prototypes):
    """The _ptsz or _ptds form of a carried or local call."""
    params = prototypes[e.name]
    streams = [p for p in params if p.type == "CUstream"]
    head = f"VGPU_EXPORT CUresult CUDAAPI {e.name}({c_params(params)})\n{{\n"
    if streams:
        args = ", ".join(f"stream_per_thread({p.name})" if p in streams else p.name for p in params)
        return head + f"\treturn {base.name}({args});\n}}\n"
    return head + (f"\tCUresult r;\n\n\tper_thread_begin();\n\tr = {base.name}({c_args(params)});\n"
                   "\tper_thread_end();\n\treturn r;\n}\n")


def emit_shim(entries, names, prototypes):
    out = [HEAD, '#include <string.h>\n\n#include "shim_gen.h"\n#include "shim.h"\n']
    for e in entries:
        if e.generated and not e.internal:
            out.append(emit_marshaller(e, prototypes))
        elif e.base and names[e.base].klass != "refused":
            out.append(emit_per_thread(e, names[e.base], prototypes))
    return "\n".join(out)


def emit_shim_header(entries, prototypes):
    out = [HEAD, "#ifndef VGPU_SHIM_GEN_H\n#define VGPU_SHIM_GEN_H\n",
           '#include <stdbool.h>\n\n#include "cuda_wire.h"\n']
    for e in entries:
        if e.generated and e.shim and not e.internal:
            out.append(f"CUresult call_{e.name}({c_params(prototypes[e.name])});")
    out.append("\n/** Is an asynchronous error the call's answer, and not success? */\n"
               "static inline bool message_tells(uint16_t type)\n{\n\tswitch (type) {")
    out += [f"\tcase VGPU_MSG_{e.key}:" for e in entries if e.tells]
    out.append("\t\treturn true;\n\tdefault:\n\t\treturn false;\n\t}\n}")
    out.append("\n#endif")
    return "\n".join(out) + "\n"


def emit_names(entries, results):
    """Names of CUresult values."""
    out = [HEAD, '#include <stddef.h>\n\n#include "errors.h"\n']
    out.append("/* The words of a name are its text, but where CUDA programs know it by another one. */")
    own = {"CUDA_SUCCESS": "no error", "CUDA_ERROR_INVALID_VALUE": "invalid argument",
           "CUDA_ERROR_INVALID_HANDLE": "invalid resource handle",
           "CUDA_ERROR_NO_DEVICE": "no CUDA-capable device is detected",
           "CUDA_ERROR_INVALID_DEVICE": "invalid device ordinal",
           "CUDA_ERROR_INVALID_CONTEXT": "invalid device context",
           "CUDA_ERROR_ILLEGAL_ADDRESS": "an illegal memory access was encountered",
           "CUDA_ERROR_LAUNCH_FAILED": "unspecified launch failure",
           "CUDA_ERROR_NOT_READY": "device not ready",
           "CUDA_ERROR_NOT_SUPPORTED": "operation not supported",
           "CUDA_ERROR_NOT_FOUND": "named symbol not found",
           "CUDA_ERROR_NOT_INITIALIZED": "initialization error",
           "CUDA_ERROR_DEINITIALIZED": "driver shutting down",
           "CUDA_ERROR_UNKNOWN": "unknown error",
           "CUDA_ERROR_NO_BINARY_FOR_GPU": "no kernel image is available for execution on the device",
           "CUDA_ERROR_ASSERT": "device-side assert triggered"}
    out.append("static const struct { int value; const char *name, *text; } results[] = {")
    for name, value in sorted(results, key=lambda r: r[1]):
        text = own.get(name, name.removeprefix("CUDA_ERROR_").replace("_", " ").lower())
        out.append(f'\t{{ {value}, "{name}", "{text}" }},')
    out.append("""};

bool error_text(int value, const char **name, const char **text)
{
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		if (results[i].value != value)
			continue;
		*name = results[i].name;
		*text = results[i].text;
		return true;
	}
	*name = *text = NULL;
	return false;
}
""")
    return "\n".join(out)


def emit_refused(entries, names):
    """Exports of calls that are not carried. No cuda.h here: all have one form."""
    rows = [e for e in entries if e.klass in ("refused", "foreign") or e.base and names[e.base].klass == "refused"]
    out = [HEAD, '#include "refuse.h"\n', "static struct refused_call calls[] = {"]
    for e in rows:
        out.append(f'\t{{ "{e.name}", "{e.reason or names[e.base].reason}", 0 }},')
    out.append("};\n")
    out.append("struct refused_call *const refused_calls = calls;")
    out.append(f"const unsigned int refused_count = {len(rows)};\n")
    for i, e in enumerate(rows):
        out.append(f"VGPU_EXPORT int {e.name}(void);\nint {e.name}(void)\n{{\n\treturn refuse(&calls[{i}]);\n}}")
    return "\n".join(out) + "\n"


def emit_resolver(entries):
    out = [HEAD, '#include "resolve.h"\n']
    exports = [e for e in entries if not e.internal]
    for e in exports:
        out.append(f"int {e.name}(void);")
    out.append("\n/* By name, then version, then plain before per-thread. */\nconst struct resolve_entry resolve_table[] = {")
    for e in sorted(exports, key=lambda e: (base_name(e.name), e.version, e.per_thread)):
        out.append(f'\t{{ "{base_name(e.name)}", {e.version}, {int(e.per_thread)}, (void *){e.name} }},')
    out.append("};\n")
    out.append(f"const unsigned int resolve_count = {len(exports)};")
    return "\n".join(out) + "\n"


# --- the worker -------------------------------------------------------------------------------------------

def emit_range(e, prototypes, before=""):
    """What a decoder has compared, and the driver gets, must be one number: none may be one that narrowing changes."""
    narrow = [p for k, p in pairs(e, prototypes) if k == "val" and p.type not in WIDE + ("CUdevice", "float")]
    if not narrow:
        return ""
    changed = " || ".join(f"q->{p.name} != (uint64_t)({p.type})q->{p.name}" for p in narrow)
    if len(narrow) > 1 and before:
        changed = f"({changed})"
    return (f"\tif ({before}{changed}) {{\n\t\tworker_reply(w, &m->header, &q->call, 0, "
            "CUDA_ERROR_INVALID_VALUE, NULL, 0);\n\t\treturn;\n\t}")


def emit_checked(e, prototypes):
    """Before a decoder by hand; it looks at the length itself. None: nothing to check."""
    check = emit_range(e, prototypes, "m->header.payload_len == sizeof(*q) && ")
    if not check:
        return None
    return (f"static void do_{e.key}(struct worker *w, const struct idm_message *m)\n{{\n"
            f"\tconst struct vgpu_rq_{e.key} *q = m->payload;\n\n{check}\n\t{e.handler}(w, m);\n}}\n")


def emit_decoder(e, prototypes):
    plist = pairs(e, prototypes)
    has_reply = any(is_out(k) for k in e.kinds)
    created = [(k, p) for k, p in plist if k.startswith("new:")]
    decl = [f"\tconst struct vgpu_rq_{e.key} *q = m->payload;"]
    if has_reply:
        decl.append(f"\tstruct vgpu_rp_{e.key} rp;")
    decl.append("\tCUresult r = CUDA_SUCCESS;\n\tint err;")
    body, args = [], []
    for kind, p in plist:
        what, _, handle = kind.partition(":")
        if kind == "val" and p.type == "CUdevice":
            args.append(f"worker_device(w, q->{p.name})")
        elif kind == "val" and p.type == "float":
            args.append(f"float_of(q->{p.name})")
        elif kind == "val":
            args.append(f"({p.type})q->{p.name}")
        elif what == "addr":
            args.append(f"q->{p.name}")
            body.append(f"\tif (q->{p.name} && !worker_address(w, q->{p.name}, q->{handle})) {{\n"
                        "\t\tr = CUDA_ERROR_INVALID_VALUE;\n\t\tgoto out;\n\t}")
        elif what == "obj":
            decl.append(f"\t{p.pointee} {p.name} = NULL;")
            args.append(f"&{p.name}")
        elif what in ("in", "out") and handle:
            args.append(f"({p.pointee} *)q->{p.name}" if what == "in" else f"rp.{p.name}")
        elif kind == "in":
            args.append(f"({p.pointee} *)&q->{p.name}")
        elif kind in ("out", "outz", "out8"):
            args.append(f"&rp.{p.name}")
        elif kind == "in8":
            args.append(f"(void *)&q->{p.name}")
        elif what == "new":
            decl.append(f"\t{p.pointee} {p.name} = NULL;")
            body.append(f"\terr = worker_handle_free(w, q->{p.name}, VGPU_H_{handle.upper()});\n"
                        "\tif (err)\n\t\tgoto out;")
            args.append(f"&{p.name}")
        else:
            decl.append(f"\tvoid *{p.name} = NULL;")
            args.append(p.name)
            if kind == "stream":
                body.append(f"\terr = worker_stream(w, &q->call, q->{p.name}, &{p.name});\n\tif (err)\n\t\tgoto out;")
                continue
            if kind == "hf":
                lookup = (f"worker_handle(w, q->{p.name}, VGPU_HANDLE_TYPE(q->{p.name}) == VGPU_H_KERNEL ? "
                          "VGPU_H_KERNEL : VGPU_H_FUNCTION)")
            elif what == "del" and e.klass == "post":
                lookup = f"worker_handle_del(w, q->{p.name}, VGPU_H_{handle.upper()})"
            else:
                lookup = f"worker_handle(w, q->{p.name}, VGPU_H_{handle.upper()})"
            test = f"q->{p.name} && !{p.name}" if what == "hz" else f"!{p.name}"
            guard = f"\tif (q->{p.name})\n\t" if what == "hz" else ""
            body.append(f"{guard}\t{p.name} = {lookup};\n"
                        f"\tif ({test}) {{\n\t\terr = IDM_ERROR_INVALID_HANDLE;\n\t\tgoto out;\n\t}}")
    # An object leaves the table only when nothing can refuse the call any more.
    body.sort(key=lambda step: "worker_handle_del" in step)
    text = [f"static void do_{e.key}(struct worker *w, const struct idm_message *m)\n{{"]
    text += decl
    text.append("\n\tif (m->header.payload_len != sizeof(*q)) {\n\t\tworker_reply(w, &m->header, NULL, "
                "IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);\n\t\treturn;\n\t}")
    text += [check for check in [emit_range(e, prototypes)] if check]
    if has_reply:
        text.append("\tmemset(&rp, 0, sizeof(rp));")
    text.append("\terr = worker_enter(w, &q->call);\n\tif (err)\n\t\tgoto out;")
    text.append(f"\tif (!worker_driver.{e.name}) {{\n\t\tr = CUDA_ERROR_NOT_SUPPORTED;\n\t\tgoto out;\n\t}}")
    text += body
    text.append(f"\tr = worker_driver.{e.name}({', '.join(args)});")
    for kind, p in plist:
        # Who waits for the answer keeps what the driver refuses to destroy.
        if kind.startswith("del:") and e.klass != "post":
            text.append(f"\tif (r == CUDA_SUCCESS)\n\t\tworker_handle_del(w, q->{p.name}, VGPU_H_{kind[4:].upper()});")
    for kind, p in created:
        text.append(f"\tif (r == CUDA_SUCCESS)\n\t\terr = worker_handle_add(w, q->{p.name}, "
                    f"VGPU_H_{kind[4:].upper()}, {p.name});")
    for kind, p in plist:
        if kind.startswith("obj:"):
            text.append(f"\tif (r == CUDA_SUCCESS && {p.name})\n\t\trp.{p.name} = worker_handle_of(w, {p.name}, "
                        f"VGPU_H_{kind[4:].upper()});")
    results = "&rp, sizeof(rp)" if has_reply else "NULL, 0"
    text.append(f"out:\n\tworker_reply(w, &m->header, &q->call, err, r, {results});\n}}\n")
    return "\n".join(text)


def emit_worker(entries, prototypes):
    out = [HEAD, '#include <dlfcn.h>\n#include <string.h>\n\n#include "worker_gen.h"\n', "struct worker_driver worker_driver;\n"]
    plain = [e for e in entries if not e.base and not e.internal and e.name in prototypes and
             "Profiler" not in e.name]
    out.append("static const struct { const char *name; void **at; } symbols[] = {")
    for e in plain:
        out.append(f'\t{{ "{e.name}", (void **)&worker_driver.{e.name} }},')
    out.append("""};

unsigned int worker_driver_load(void *dl)
{
	unsigned int found = 0;

	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		*symbols[i].at = dlsym(dl, symbols[i].name);
		found += *symbols[i].at != NULL;
	}
	return found;
}
""")
    checked = {e.key: emit_checked(e, prototypes) for e in entries if e.generated and e.worker}
    for e in entries:
        if e.generated and not e.worker:
            out.append(emit_decoder(e, prototypes))
        elif checked.get(e.key):
            out.append(checked[e.key])
    carried = [e for e in entries if e.klass in CARRIED]
    out.append("#define P VGPU_CALL_POSTED\n#define W VGPU_CALL_WAITS\n#define H VGPU_CALL_HAND\n")
    for low, array, span in ((0, "classic", 0x100), (0x1000, "calls", None)):
        rows = [e for e in carried if (e.number < 0x1000) == (low == 0)]
        span = span or max(e.number for e in rows) - low + 1
        out.append(f"static const struct worker_call {array}[{span:#x}] = {{")
        for e in sorted(rows, key=lambda e: e.number):
            flags = [f for f, on in (("P", e.klass == "post"), ("W", e.klass == "wait"),
                                     ("H", e.worker or e.wire)) if on]
            out.append(f'\t[{e.number - low:#x}] = {{ {e.number:#06x}, {" | ".join(flags) or "0"}, "{e.key}", '
                       f"{'do_' + e.key if checked.get(e.key) else e.handler} }},")
        out.append("};\n")
    out.append("""const struct worker_call *worker_call_find(uint16_t type)
{
	const struct worker_call *c = NULL;

	if (type < sizeof(classic) / sizeof(classic[0]))
		c = &classic[type];
	else if (type >= IDM_CUDA_BASE && (size_t)(type - IDM_CUDA_BASE) < sizeof(calls) / sizeof(calls[0]))
		c = &calls[type - IDM_CUDA_BASE];
	return c && c->fn ? c : NULL;
}
""")
    return "\n".join(out)


def emit_worker_header(entries, prototypes):
    out = [HEAD, "#ifndef VGPU_WORKER_GEN_H\n#define VGPU_WORKER_GEN_H\n", '#include "cuda_wire.h"\n#include "worker_abi.h"\n',
           "/** struct worker_driver - the driver library's entry points; what it lacks is NULL. */",
           "struct worker_driver {"]
    for e in entries:
        if not e.base and not e.internal and e.name in prototypes and "Profiler" not in e.name:
            out.append(f"\t__typeof__({e.name}) *{e.name};")
    out.append("};\nextern struct worker_driver worker_driver;\n")
    out.append("/* Decoders by hand. */")
    seen = set()
    for e in entries:
        if e.klass in CARRIED and (e.worker or e.wire) and e.handler not in seen:
            seen.add(e.handler)
            what = f"struct vgpu_rq_{e.key}" if e.worker else "wire.h"
            out.append(f"void {e.handler}(struct worker *w, const struct idm_message *m);\t/* {what} */")
    out.append("\n#endif")
    return "\n".join(out) + "\n"


# --- the coverage page ------------------------------------------------------------------------------------

def emit_coverage(entries, names, documentation):
    exports = [e for e in entries if not e.internal and not e.foreign]
    foreign = sum(e.foreign for e in entries)
    effective = {e.name: (names[e.base].klass if e.base else e.klass) for e in exports}
    bases = collections.OrderedDict()
    for e in exports:
        bases.setdefault(base_name(e.name), []).append(e)
    count = collections.Counter(effective.values())
    done = sum(n for k, n in count.items() if k != "refused")
    whole = sum(1 for rows in bases.values() if any(effective[e.name] != "refused" for e in rows))
    documented = sum(len(documentation.errors[call]) for call in {documentation.call(n) for n, k in effective.items() if k != "refused"})
    out = [".. SPDX-License-Identifier: Apache-2.0", ".. Generated from userspace/cuda/cuda.tbl: make coverage-page", "",
           "Driver calls", "============", "",
           f"The driver library of CUDA 13.0 exports {len(exports)} entry points, forms of {len(bases)} calls. "
           f"{done} of them, forms of {whole} calls, work here; the others return ``CUDA_ERROR_NOT_SUPPORTED`` and are "
           f"named once on standard error, and so are {foreign} of OpenGL, EGL and VDPAU that other headers declare.", "",
           "The programs in ``selftests/cuda`` call each of those that work, with success, with an error of its own, and with "
           f"each error that ``cuda.h`` lists in the comment of the call. These are {documented} pairs of a call and an error; "
           "``selftests/cuda/exercised``, which ``make check`` runs, reads them from the header and fails when one was neither "
           "seen nor is in ``selftests/cuda/unprovoked.py``, which has the reason. It lists the few calls that cannot succeed on the "
           "software GPU itself.", "",
           "``driver_sweep`` gives each call wrong arguments, and makes it before ``cuInit``, without a context, after the reset and "
           "the end of one, after the end of the session and after that of the library: it is made from the same table. Errors of "
           "hardware and of installations come from a driver library that gives what it is told to (``driver_told``).", "",
           "====================  ======  =================================================",
           "class                 number  meaning",
           "====================  ======  ================================================="]
    for klass, meaning in (("local", "answered by the shim without a message"),
                           ("post", "a message without an answer"), ("reply", "a message with an answer"),
                           ("wait", "the same, and may block for long"),
                           ("via", "carried by other entries' messages"), ("refused", "not carried: the word behind it says why")):
        out.append(f"{klass:<20}  {count[klass]:>6}  {meaning}")
    refused = collections.Counter(e.reason or names[e.base].reason for e in exports if effective[e.name] == "refused")
    rule = "====================  ======  ========================================================================================="
    out += ["====================  ======  =================================================", "",
            "Why calls are refused, in the same words as on standard error. What is not carried of a call that works otherwise is "
            "refused with a reason of its own.", "",
            rule, "reason                number  meaning", rule]
    out += [f"{word:<20}  {refused[word]:>6}  {meaning}" for word, meaning in REASONS.items()]
    out += [rule, "",
            "Every call", "----------", "", ".. list-table::", "   :header-rows: 1", "",
            "   * - call", "     - entry points", "     - state"]
    for base, rows in bases.items():
        states = []
        for e in rows:
            state = effective[e.name]
            if state == "refused":
                state += " (" + (e.reason or names[e.base].reason) + ")"
            if state not in states:
                states.append(state)
        out += [f"   * - {base}", "     - " + ", ".join(e.name[len(base):] or "plain" for e in rows),
                "     - " + ", ".join(states)]
    return "\n".join(out) + "\n"


def arguments(doc, *more):
    """The command line of what is made from table and header, here and in selftests; all but --cc are needed."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name in ("--table", "--header", "--out", *more):
        parser.add_argument(name, required=True)
    parser.add_argument("--cc", default="cc")
    return parser.parse_args()


def main():
    args = arguments(__doc__, "--wire")
    entries, names, text = read_table(args.table)
    prototypes, results = read_header(args.header, args.cc)
    for e in entries:
        if not e.internal and not e.foreign and e.name not in prototypes and e.name != "cuProfilerInitialize":
            fail(f"line {e.lineno}: {e.name} is not declared in {args.header}")
    with open(args.wire, encoding="utf-8") as f:
        agreed = table_hash(entries, prototypes, f.read())
    files = {
        "cuda_wire.h": emit_wire(entries, prototypes, agreed),
        "shim_gen.h": emit_shim_header(entries, prototypes),
        "shim_gen.c": emit_shim(entries, names, prototypes),
        "names_gen.c": emit_names(entries, results),
        "refused_gen.c": emit_refused(entries, names),
        "resolve_gen.c": emit_resolver(entries),
        "worker_gen.h": emit_worker_header(entries, prototypes),
        "worker_gen.c": emit_worker(entries, prototypes),
        "cuda-coverage.rst": emit_coverage(entries, names, Documentation(args.header)),
    }
    os.makedirs(args.out, exist_ok=True)
    for name, content in files.items():
        path = os.path.join(args.out, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(content)


if __name__ == "__main__":
    main()
