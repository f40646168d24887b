#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make told_gpu.c, a driver library that gives the errors it is told to, and told_gen.h, which errors to tell it.

usage: gen_told.py --table cuda.tbl --header CUDA_H --out DIR [--cc CC]

The library is the software GPU, but for what told_gpu.h says. A line of told_gen.h is TOLD(entry point, the call's number, error)
for each error that cuda.h documents for the call, but those that a library without a session gives by itself.
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../userspace/cuda"))
import gen  # noqa: E402

UNTOLD = ("CUDA_ERROR_NOT_INITIALIZED", "CUDA_ERROR_DEINITIALIZED", "CUDA_ERROR_UNKNOWN")
BY_HAND = "cuCtxSetLimit"  # what the library itself is told by


def main():
    args = gen.arguments(__doc__)
    entries, names, _ = gen.read_table(args.table)
    prototypes, _ = gen.read_header(args.header, args.cc)
    documentation = gen.Documentation(args.header)
    numbers = {call: i + 1 for i, call in enumerate(sorted(documentation.errors))}
    code = [gen.HEAD, "#define TOLD_GPU", '#include "../../selftests/cuda/told_gpu.h"\n']
    told = []
    for e in entries:
        if e.internal or e.base or e.name not in prototypes or e.name == BY_HAND:
            continue
        call, params = documentation.call(e.name), prototypes[e.name]
        number = numbers.get(call, 0)
        code.append(f"TOLD({e.name}, {number}, ({gen.c_params(params)}), ({gen.c_args(params)}))")
        if names[e.name].klass in ("refused", "foreign") or not number:
            continue
        told += [f"TOLD({e.name}, {number}, {error})" for error in sorted(documentation.errors[call]) if error not in UNTOLD]
    for path, lines in (("told_gpu.c", code), ("told_gen.h", [*(f"#define TOLD_{call}\t{n}" for call, n in numbers.items()),
                                               "#define ALL_TOLD \\\n\t" + " \\\n\t".join(told)])):
        with open(os.path.join(args.out, path), "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
