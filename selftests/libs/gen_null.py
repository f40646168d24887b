#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the null GPU's answer to every driver call that nullgpu.c does not write by hand: success, with a new handle, an
address or zeros where something is to come back.

usage: gen_null.py --table cuda.tbl --header CUDA_H --out FILE [--cc CC]
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../userspace/cuda"))
import gen  # noqa: E402

HANDLE = re.compile(r"CU(context|stream|event|module|function|library|kernel|memoryPool|array|mipmappedArray|graph|"
                    r"graphExec|graphNode|linkState|greenCtx|userObject|texref|surfref|graphicsResource|"
                    r"externalMemory|externalSemaphore|devResourceDesc|eglStreamConnection)$")
WHOLE = re.compile(r"(CU(texObject|surfObject|memGenericAllocationHandle|graphConditionalHandle|asyncCallbackHandle)|"
                   r"unsigned long long|cuuint64_t|size_t|int|unsigned int|float|CUdevice|CUDA_\w+|CU\w+)$")
# Arrays that are read, though their types do not say const; and what is read and written.
READ = ("dependencies", "numDependencies", "mode", "paramBuffer", "optionValues", "options", "attributes", "data",
        "paramArray")
# The worker does without these on GPUs of its kind.
ABSENT = ("cuGetProcAddress", "cuGetProcAddress_v2", "cuGetExportTable", "cuStreamBeginCapture_v2", "cuStreamEndCapture")


def answer(name, params):
    size = next((p.name for p in params if p.name in ("size", "bytesize", "Bytesize", "ByteCount") and "*" not in p.type),
                "1ull << 21")
    lines = []
    for p in params:
        if not p.type.endswith("*") or p.type.startswith("const") or p.name in READ:
            continue
        pointee = p.type[:-1].strip()
        if pointee == "CUdeviceptr":
            lines.append(f"\tif ({p.name} && cuMemAlloc_v2({p.name}, {size}))\n\t\treturn CUDA_ERROR_OUT_OF_MEMORY;")
        elif HANDLE.match(pointee):
            lines.append(f"\tif ({p.name})\n\t\t*{p.name} = ({pointee})null_handle();")
        elif pointee != "void" and "char" not in pointee and WHOLE.match(pointee):
            lines.append(f"\tif ({p.name})\n\t\tmemset({p.name}, 0, sizeof(*{p.name}));")
    body = "\n".join(lines)
    return (f"WEAK {name}({gen.c_params(params)});\nWEAK {name}({gen.c_params(params)})\n{{\n{body}\n"
            "\treturn CUDA_SUCCESS;\n}\n")


def main():
    args = gen.arguments(__doc__)
    entries, names, _ = gen.read_table(args.table)
    prototypes, _ = gen.read_header(args.header, args.cc)
    out = [gen.HEAD, '#include <string.h>\n\n#include "../../selftests/libs/nullgpu.h"\n',
           '#define WEAK __attribute__((weak, visibility("default"))) CUresult CUDAAPI\n']
    for e in entries:
        if not e.internal and not e.base and e.name in prototypes and e.name not in ABSENT:
            out.append(answer(e.name, prototypes[e.name]))
    with open(args.out, "w", encoding="utf-8") as f:
        f.write("\n".join(out))


if __name__ == "__main__":
    main()
