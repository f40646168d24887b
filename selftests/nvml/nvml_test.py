#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libnvidia-ml.so.1 as programs use it: NVIDIA's own Python binding (pynvml), in a zone, beside CUDA programs.

Usage: nvml_test.py LIBRARY_TABLE OTHER_ZONE_TRANSPORT
LD_LIBRARY_PATH leads to the shims, VGPU_TRANSPORT to the zone's broker, PYTHONPATH to pynvml. TAP.
"""
import ctypes
import os
import sys
import time

import pynvml as nv

MIB = 1 << 20
count = failed = 0


def ok(promise, good, *said):
    global count, failed
    count += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {count} - {promise}", flush=True)
    if not good and said:
        print("#", *said, flush=True)


def refuses(promise, error, call, *args):
    try:
        got = call(*args)
    except nv.NVMLError as e:
        ok(promise, e.value == error, f"it said {e}")
    else:
        ok(promise, False, f"it said {got}")


class Cuda:
    """A few Driver API calls of this process."""

    def __init__(self):
        self.lib = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        self.context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), 0)
        self.call("cuCtxSetCurrent", self.context)

    def call(self, name, *args):
        result = getattr(self.lib, name)(*args)
        if result:
            raise RuntimeError(f"{name}: {result}")

    def alloc(self, size):
        p = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(p), ctypes.c_size_t(size))
        return p

    def text(self, name, size):
        s = ctypes.create_string_buffer(size)
        if name == "cuDeviceGetUuid":
            self.call(name, s, 0)
            return s.raw[:16].hex()
        self.call(name, s, size, 0)
        return s.value.decode()

    def memory(self):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value


def soon(true):
    """The broker hears of a client's end a moment after it."""
    end = time.monotonic() + 5
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def child(transport, size):
    """A process that holds device memory until told to end. Returns its number and the function that ends it."""
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.environ["VGPU_TRANSPORT"] = transport
            cuda = Cuda()
            cuda.alloc(size)
            os.write(ready[1], b"r")
            os.read(done[0], 1)
        finally:
            os._exit(0)
    os.close(ready[1])
    os.close(done[0])
    if os.read(ready[0], 1) != b"r":
        raise RuntimeError("the child could not allocate")

    def end():
        os.write(done[1], b"e")
        os.waitpid(pid, 0)
        os.close(done[1])
        os.close(ready[0])

    return pid, end


def names(table):
    with open(table, encoding="ascii") as f:
        return [line.split()[1] for line in f if line.strip() and not line.startswith("#")]


def main():
    table, other = sys.argv[1:]
    lib = ctypes.CDLL("libnvidia-ml.so.1")
    missing = [n for n in names(table) if not hasattr(lib, n)]
    ok("every function of the table is exported", not missing, missing)

    refuses("before nvmlInit: uninitialised", nv.NVML_ERROR_UNINITIALIZED, nv.nvmlDeviceGetCount)
    one, end_one = child(os.environ["VGPU_TRANSPORT"], 100 * MIB)
    foreign, end_foreign = child(other, 64 * MIB)

    nv.nvmlInit()
    ok("one device", nv.nvmlDeviceGetCount() == 1)
    d = nv.nvmlDeviceGetHandleByIndex(0)
    refuses("a device that is not there", nv.NVML_ERROR_INVALID_ARGUMENT, nv.nvmlDeviceGetHandleByIndex, 1)
    refuses("no device of that UUID", nv.NVML_ERROR_NOT_FOUND, nv.nvmlDeviceGetHandleByUUID, "GPU-0")
    refuses("a made-up handle", nv.NVML_ERROR_INVALID_ARGUMENT, nv.nvmlDeviceGetName,
            ctypes.cast(ctypes.c_void_p(4096), nv.c_nvmlDevice_t))
    small = ctypes.create_string_buffer(4)
    ok("a buffer that is too small", lib.nvmlDeviceGetName(d, small, 4) == nv.NVML_ERROR_INSUFFICIENT_SIZE)
    refuses("what a pod cannot see is not supported", nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceGetTemperature, d, 0)
    refuses("nor may it change anything", nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceSetPersistenceMode, d, 0)

    before = nv.nvmlDeviceGetMemoryInfo(d)
    ok("memory in use is the zone's, and no other zone's", before.used == 100 * MIB, before)
    ok("used and free make the total", before.used + before.free == before.total, before)
    v2 = nv.nvmlDeviceGetMemoryInfo(d, nv.nvmlMemory_v2)
    ok("the same by version 2", (v2.used, v2.free, v2.total) == (before.used, before.free, before.total), v2)
    old = nv.c_nvmlMemory_v2_t()
    old.version = 7
    ok("an unknown version of a structure", lib.nvmlDeviceGetMemoryInfo_v2(d, ctypes.byref(old)) ==
       nv.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
    running = [(p.pid, p.usedGpuMemory) for p in nv.nvmlDeviceGetComputeRunningProcesses(d)]
    ok("processes are the zone's own, with their memory", running == [(one, 100 * MIB)], running, foreign)
    room = ctypes.c_uint(0)
    ok("asked without room, their number", lib.nvmlDeviceGetComputeRunningProcesses_v3(d, ctypes.byref(room), None) ==
       nv.NVML_ERROR_INSUFFICIENT_SIZE and room.value == 1)
    ok("no graphics processes", nv.nvmlDeviceGetGraphicsRunningProcesses(d) == [])
    ok("a process's name", "python" in nv.nvmlSystemGetProcessName(one), nv.nvmlSystemGetProcessName(one))
    end_one()
    ok("its memory is free when it has ended", soon(lambda: nv.nvmlDeviceGetMemoryInfo(d).used == 0))
    ok("and it is no process any more", nv.nvmlDeviceGetComputeRunningProcesses(d) == [])
    end_foreign()

    cuda = Cuda()
    ok("CUDA's name", nv.nvmlDeviceGetName(d) == cuda.text("cuDeviceGetName", 100))
    ok("CUDA's UUID", nv.nvmlDeviceGetUUID(d)[4:].replace("-", "") == cuda.text("cuDeviceGetUuid", 16))
    ok("CUDA's place on the bus", nv.nvmlDeviceGetPciInfo(d).busId.lower().endswith(cuda.text("cuDeviceGetPCIBusId", 32).lower()))
    ok("found by it", nv.nvmlDeviceGetIndex(nv.nvmlDeviceGetHandleByPciBusId(cuda.text("cuDeviceGetPCIBusId", 32))) == 0)
    ok("found by the UUID", nv.nvmlDeviceGetIndex(nv.nvmlDeviceGetHandleByUUID(nv.nvmlDeviceGetUUID(d))) == 0)
    cuda.alloc(32 * MIB)
    free, total = cuda.memory()
    now = nv.nvmlDeviceGetMemoryInfo(d)
    ok("CUDA's total and free memory", (now.total, now.free) == (total, free), now, free, total)
    version = ctypes.c_int()
    cuda.call("cuDriverGetVersion", ctypes.byref(version))
    ok("CUDA's version", nv.nvmlSystemGetCudaDriverVersion_v2() == version.value)
    major, minor = ctypes.c_int(), ctypes.c_int()
    cuda.call("cuDeviceGetAttribute", ctypes.byref(major), 75, 0)
    cuda.call("cuDeviceGetAttribute", ctypes.byref(minor), 76, 0)
    ok("CUDA's compute capability", tuple(nv.nvmlDeviceGetCudaComputeCapability(d)) == (major.value, minor.value))

    # What PyTorch's C++ half cannot do without, and vLLM asks.
    nv.nvmlSystemGetDriverVersion()
    refuses("no NVLink to be seen", nv.NVML_ERROR_NOT_SUPPORTED, nv.nvmlDeviceGetNvLinkRemoteDeviceType, d, 0)
    ok("a device can talk to itself", nv.nvmlDeviceGetP2PStatus(d, d, 0) == nv.NVML_P2P_STATUS_OK)
    refuses("in no way that there is not", nv.NVML_ERROR_INVALID_ARGUMENT, nv.nvmlDeviceGetP2PStatus, d, d, 5)

    pid = os.fork()
    if not pid:
        # The parent's session must not be used; a new one is opened.
        good = False
        try:
            good = nv.nvmlDeviceGetMemoryInfo(d).used >= 32 * MIB
        finally:
            os._exit(not good)
    ok("a child process asks by itself", os.waitpid(pid, 0)[1] == 0)
    ok("and the parent goes on", nv.nvmlDeviceGetMemoryInfo(d).used == now.used)

    nv.nvmlInit()
    nv.nvmlShutdown()
    ok("nvmlInit counts", nv.nvmlDeviceGetCount() == 1)
    nv.nvmlShutdown()
    refuses("after the last nvmlShutdown: uninitialised", nv.NVML_ERROR_UNINITIALIZED, nv.nvmlDeviceGetMemoryInfo, d)
    print(f"1..{count}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
