#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make sweep_gen.h: every entry point that works here, and of what kind each of its arguments is.

usage: gen_sweep.py --table cuda.tbl --header CUDA_H --out FILE [--cc CC]

A line is SWEEP(name, number of arguments, kinds); CALL_name(a) calls it with arguments from an array of 8-byte words. Kinds: a
letter for each argument, a handle's type as below; d device address, v device number, p pointer, l to a location, f function to call,
c text, e one of an enumeration, b flags (w of 64 bits), s a size, - a number or what else is no matter of life
and death.
"""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, "../../userspace/cuda"))
import gen  # noqa: E402

HANDLES = {"CUcontext": "C", "CUstream": "S", "CUevent": "E", "CUmodule": "M", "CUfunction": "F", "CUlibrary": "L",
           "CUkernel": "K", "CUmemoryPool": "P", "CUarray": "A", "CUmipmappedArray": "I", "CUtexref": "T",
           "CUsurfref": "U", "CUtexObject": "X", "CUsurfObject": "Y", "CUgraph": "G", "CUgraphExec": "H",
           "CUgraphNode": "N", "CUlinkState": "J", "CUmemGenericAllocationHandle": "V", "CUgreenCtx": "R",
           "CUuserObject": "O", "CUdevResourceDesc": "D"}
FUNCTIONS = ("CUhostFn", "CUstreamCallback", "CUoccupancyB2DSize", "CUasyncCallback", "CUlogsCallback")


def enumerations(header):
    """The types of cuda.h that are enumerations, by all their names."""
    with open(header, encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", f.read(), flags=re.DOTALL)
    found = set(re.findall(r"typedef\s+enum\s+\w*\s*\{[^{}]*\}\s*(\w+)\s*;", text))
    aliases = re.findall(r"typedef\s+(\w+)\s+(\w+)\s*;", text)
    aliases += [(of, name) for name, of in re.findall(r"#define\s+(\w+)\s+(\w+)", text)]
    return found | {name for of, name in aliases if of in found}


def kind(param, enums):
    if param.type in HANDLES:
        return HANDLES[param.type]
    if param.type == "CUdeviceptr":
        return "d"
    if param.type == "CUdevice":
        return "v"
    if param.type in FUNCTIONS:
        return "f"
    if re.fullmatch(r"const char ?\*", param.type):
        return "c"
    if re.fullmatch(r"(const )?(CUmemLocation|CUmemAccessDesc) ?\*", param.type):
        return "l"
    if param.type in enums:
        return "e"
    if param.type.endswith("*"):
        return "p"
    if re.fullmatch(r"(use)?flags", param.name, re.IGNORECASE):
        return "w" if param.type in gen.WIDE else "b"
    if param.type == "size_t" and re.fullmatch(r"bytesize|ByteCount|N|size|length|Width|Height|\w+InBytes", param.name):
        return "s"
    return "-"


def main():
    args = gen.arguments(__doc__)
    enums = enumerations(args.header)
    entries, names, _ = gen.read_table(args.table)
    prototypes, _ = gen.read_header(args.header, args.cc)
    out = [gen.HEAD]
    rows = []
    for e in entries:
        params = prototypes.get(e.name, [])
        if e.internal or names[e.base or e.name].klass in ("refused", "foreign") or not params:
            continue
        out.append(f"static CUresult CALL_{e.name}(const uint64_t *a)\n{{")
        for i, p in enumerate(params):
            out.append(f"\t__typeof__({p.type}) a{i};")
        out.append("")
        for i in range(len(params)):
            out.append(f"\tmemcpy(&a{i}, &a[{i}], sizeof(a{i}));")
        out.append(f"\treturn {e.name}({', '.join(f'a{i}' for i in range(len(params)))});\n}}\n")
        kinds = "".join(kind(p, enums) for p in params)
        rows.append(f'SWEEP({e.name}, {len(params)}, "{kinds}")')
    out.append("#define SWEEPS \\\n\t" + " \\\n\t".join(rows))
    with open(args.out, "w", encoding="utf-8") as f:
        f.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
