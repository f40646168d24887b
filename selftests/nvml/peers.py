#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two devices of a zone are to each other in NVML what they are in CUDA. Run with the shims, by selftests/run-local."""
import ctypes
import sys

import pynvml as nv

ACCESS, ATOMIC = 2, 3       # CU_DEVICE_P2P_ATTRIBUTE_…_SUPPORTED
# pynvml makes tuples of NVML_P2P_CAPS_INDEX_*.
READ, WRITE, NVLINK, ATOMICS = range(4)


def main():
    cuda = ctypes.CDLL("libcuda.so.1")
    good = not cuda.cuInit(0)
    nv.nvmlInit()
    devices = [nv.nvmlDeviceGetHandleByIndex(i) for i in range(nv.nvmlDeviceGetCount())]
    for a, one in enumerate(devices):
        for b, other in enumerate(devices):
            for index, attribute in ((READ, ACCESS), (WRITE, ACCESS), (ATOMICS, ATOMIC)):
                can = ctypes.c_int(a == b)
                if a != b:
                    good = not cuda.cuDeviceGetP2PAttribute(ctypes.byref(can), attribute, a, b) and good
                said = nv.nvmlDeviceGetP2PStatus(one, other, index)
                wanted = nv.NVML_P2P_STATUS_OK if can.value else nv.NVML_P2P_STATUS_NOT_SUPPORTED
                print(f"# {a} to {b}, index {index}: {said}, CUDA says {can.value}")
                good = good and said == wanted
    # Which link they have is not shown.
    good = good and nv.nvmlDeviceGetP2PStatus(*devices[:2], NVLINK) == nv.NVML_P2P_STATUS_NOT_SUPPORTED
    nv.nvmlShutdown()
    return not good or len(devices) < 2


if __name__ == "__main__":
    sys.exit(main())
