#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the refusing functions of libnvidia-ml.so.1 from nvml.tbl. Usage: gen.py nvml.tbl > nvml_gen.c"""
import sys

names = [line.split() for line in open(sys.argv[1]) if line.strip() and not line.startswith("#")]
print("// SPDX-License-Identifier: Apache-2.0")
print("/* Made by userspace/libnvml/gen.py from nvml.tbl. Arguments are not looked at. */")
print('#include "nvml.h"\n')
for state, name in names:
    if state != "refused":
        continue
    print(f"NVML_API int {name}(void);")
    print(f"NVML_API int {name}(void)\n{{\n\tstatic int told;\n\n\treturn nvml_refuse(\"{name}\", &told);\n}}\n")
