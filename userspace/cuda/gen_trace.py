#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the exports that write VGPU_TRACE's lines around the shim's functions.

usage: gen_trace.py --table cuda.tbl --header CUDA_H --out DIR [--cc CC]

The shim's own objects are linked into one whose functions cuX are renamed to shim_cuX (trace.syms is objcopy's list);
trace_gen.c exports cuX, which calls shim_cuX and, if there is a trace, writes a line about it. What the shim's
functions call of each other is shim_cuX: a line is a call of the program's.
"""
import argparse
import os
import re

import gen

LOCAL_NAMES = {"cuProfilerInitialize": "const char *configFile, const char *outputFile, int outputMode"}
NUMBERS = re.compile(r"^(unsigned int|int|size_t|unsigned long long|cuuint\d+_t|unsigned char|unsigned short|CUdevice)$")


def kind(param):
    """How an argument is shown: s text, d or u a number, p an address or a handle."""
    if re.fullmatch(r"const char ?\*", param.type):
        return "s"
    if param.type in ("int", "CUdevice"):
        return "d"
    return "u" if NUMBERS.match(param.type) else "p"


def emit(entries, prototypes):
    out = [gen.HEAD, '#include <string.h>\n\n#include "shim.h"\n#include "trace.h"\n']
    for e in entries:
        if e.internal or e.foreign:
            continue
        params = prototypes.get(e.name)
        if params is None:
            params = [gen.Param(p) for p in LOCAL_NAMES[e.name].split(",")]
        decl, args = gen.c_params(params), gen.c_args(params)
        kinds = "".join(kind(p) for p in params)
        shown = ", ".join(f"TRACE_ARGUMENT({p.name})" for p in params) or "0"
        out.append(f"""CUresult CUDAAPI shim_{e.name}({decl});
VGPU_EXPORT CUresult CUDAAPI {e.name}({decl});
VGPU_EXPORT CUresult CUDAAPI {e.name}({decl})
{{
	struct trace_call t;
	CUresult r;

	if (__builtin_expect(!tracing, 1))
		return shim_{e.name}({args});
	trace_begin(&t);
	r = shim_{e.name}({args});
	trace_end(&t, r, "{e.name}", "{kinds}", (const uint64_t[]){{ {shown} }});
	return r;
}}
""")
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", required=True)
    parser.add_argument("--header", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--cc", default="cc")
    args = parser.parse_args()
    entries, _, _ = gen.read_table(args.table)
    prototypes, _ = gen.read_header(args.header, args.cc)
    with open(os.path.join(args.out, "trace_gen.c"), "w", encoding="utf-8") as f:
        f.write(emit(entries, prototypes))
    with open(os.path.join(args.out, "trace.syms"), "w", encoding="utf-8") as f:
        f.write("".join(f"{e.name} shim_{e.name}\n" for e in entries if not e.internal and not e.foreign))


if __name__ == "__main__":
    main()
