#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The call table against CUDA's headers, and the built shim against both. Prints TAP."""
import ctypes
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "../../.."))
sys.path.insert(0, os.path.dirname(HERE))
import gen  # noqa: E402

CACHE = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
CUDA = os.environ.get("CUDA", os.path.join(CACHE, "xen-vgpu/cuda"))
CC = os.environ.get("CC", "cc")
PROFILER = {"cuProfilerInitialize", "cuProfilerStart", "cuProfilerStop"}
# NVIDIA's library exports them and no header has ever declared them.
UNDECLARED = {"cuEGLApiInit", "cuMemGetAttribute", "cuMemGetAttribute_v2"}
# cuda.h says nothing of the errors that these give.
UNDOCUMENTED = PROFILER | {"cuGetExportTable", "cuDeviceGetNvSciSyncAttributes", "cuMemPoolGetAccess", "cuMemPrefetchBatchAsync",
                           "cuMemDiscardBatchAsync", "cuMemDiscardAndPrefetchBatchAsync"}
GLIBC = (2, 17)  # userspace/idm/idm.mk

count = failed = 0


def ok(passed, what, detail=""):
    global count, failed
    count += 1
    failed += not passed
    print(f"{'' if passed else 'not '}ok {count} - {what}")
    if not passed and detail:
        print("# " + str(detail))


def typedefs():
    """(base name, version, suffix) of every PFN typedef."""
    source = "#define __CUDA_API_VERSION_INTERNAL\n#include <cudaTypedefs.h>\n"
    text = subprocess.run(CC.split() + ["-E", "-P", "-xc", "-I", CUDA + "/include", "-"], input=source,
                          capture_output=True, text=True, check=True).stdout
    return pfns_of(text)


def foreign_typedefs():
    """The same of the headers that need OpenGL's, EGL's and VDPAU's to be compiled; Windows's call left out."""
    text = ""
    for library in ("GL", "EGL", "VDPAU"):
        with open(f"{CUDA}/include/cuda{library}Typedefs.h", encoding="utf-8") as header:
            text += header.read()
    return [p for p in pfns_of(text) if not p[0].startswith("cuWGL")]


def pfns_of(text):
    return [(n, int(v), s or "") for n, v, s in
            re.findall(r"PFN_(cu\w+?)_v(\d+)(_ptsz|_ptds)?\s*\)", text)]


def refusals(library, reason):
    """Two processes, since a refusal is told once in each."""
    call = "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).cuGraphicsUnregisterResource; print(f(None), f(None))"
    for log, told in (("1", [f"vgpu: cuGraphicsUnregisterResource is not carried ({reason}): CUDA_ERROR_NOT_SUPPORTED"]), ("0", [])):
        run = subprocess.run([sys.executable, "-c", call, library], env={**os.environ, "VGPU_LOG": log}, capture_output=True,
                             text=True, check=True)
        ok(run.stdout.split() == ["801"] * 2 and run.stderr.splitlines() == told,
           "what is refused is CUDA_ERROR_NOT_SUPPORTED, " + ("said once, by name, with the reason" if told else "and nothing with VGPU_LOG=0"),
           run.stdout + run.stderr)


def exported(library):
    out = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    return {name for name in (line.split()[-1].split("@")[0] for line in out.splitlines()) if re.match(r"cu[A-Z]", name)}


def needs_of(library):
    """(versions of glibc, libraries it wants them of), without which it is not loaded."""
    out = subprocess.run(["readelf", "-VW", library], capture_output=True, text=True, check=True).stdout
    return ({tuple(map(int, v.split("."))) for v in re.findall(r"Name: GLIBC_([\d.]+)", out)},
            set(re.findall(r"File: (\S+)", out)))


def main():
    entries, names, _ = gen.read_table(os.path.join(ROOT, "userspace/cuda/cuda.tbl"))
    prototypes, results = gen.read_header(CUDA + "/include/cuda.h", CC)
    documentation = gen.Documentation(CUDA + "/include/cuda.h")
    exports = [e for e in entries if not e.internal and not e.foreign]
    foreign = [e for e in entries if e.foreign]
    every = exports + foreign
    declared = set(prototypes) | PROFILER

    ok(len(exports) == 637, "637 entry points", len(exports))
    ok({e.name for e in exports} == declared, "the table has what cuda.h declares, and nothing else",
       declared ^ {e.name for e in exports})
    ok(len({gen.base_name(e.name) for e in exports}) == 450, "450 calls")

    with open(os.path.join(ROOT, "Documentation/cuda-coverage.rst"), encoding="utf-8") as page:
        ok(page.read() == gen.emit_coverage(entries, names, documentation), "the coverage page is up to date",
           "run make coverage-page")
    ok(documentation.errors["cuInit"] == {"CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_INVALID_DEVICE",
                                          "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"},
       "a call's documented errors are read", documentation.errors["cuInit"])
    ok(documentation.errors["cuMemFreeAsync"] >= {"CUDA_ERROR_INVALID_CONTEXT", "CUDA_ERROR_NOT_SUPPORTED"},
       "words between them are none", documentation.errors["cuMemFreeAsync"])
    silent = {documentation.call(e.name) for e in exports} - {call for call, errors in documentation.errors.items() if errors}
    ok(silent == UNDOCUMENTED, "all calls have some but those whose comments list none", silent ^ UNDOCUMENTED)

    with open(os.path.join(ROOT, "userspace/cuda/wire.h"), encoding="utf-8") as header:
        wire = header.read()
    agreed = gen.table_hash(entries, prototypes, wire)
    commented = re.sub(r"\n\t", " /* \" */\n\n    ", wire).replace("{", "{ // struct {\n")
    ok(commented != wire and gen.table_hash(entries, prototypes, commented) == agreed,
       "shim and worker agree whatever comments and white space wire.h has")
    same = [before for before, after in (("uint64_t arena_base;", "uint32_t arena_base;"),
                                         ("uint32_t pid;\n\tuint32_t reserved;", "uint32_t reserved;\n\tuint32_t pid;"),
                                         ("#define VGPU_ATTRIBUTES_MAX\t160", "#define VGPU_ATTRIBUTES_MAX\t161"),
                                         ("VGPU_H_CTX, VGPU_H_STREAM", "VGPU_H_STREAM, VGPU_H_CTX"))
            if gen.table_hash(entries, prototypes, wire.replace(before, after, 1)) == agreed]
    ok(not same, "and refuse each other when a field, a length or a number in it differs", same)
    internal = next(e for e in entries if e.internal and e.klass in gen.CARRIED)
    internal.number ^= 0x800
    ok(gen.table_hash(entries, prototypes, wire) != agreed, "or a message of ours has another number")
    internal.number ^= 0x800

    pfns = typedefs()
    table = {(gen.base_name(e.name), e.version, e.klass if e.base else "") for e in exports if e.name not in PROFILER}
    ok(table == {(n, v, s.lstrip("_")) for n, v, s in pfns}, "name, version and form agree with cudaTypedefs.h",
       sorted(table ^ {(n, v, s.lstrip("_")) for n, v, s in pfns})[:10])
    abroad = {(gen.base_name(e.name), e.version, e.name[-5:] if e.per_thread else "") for e in foreign}
    ok(abroad == set(foreign_typedefs()), "the graphics calls are those of cudaGLTypedefs.h, cudaEGLTypedefs.h, cudaVDPAUTypedefs.h",
       sorted(abroad ^ set(foreign_typedefs())))
    # NVIDIA's wheels have no stub library; an installed toolkit has, and then every one of its exports must be here.
    stubs = [p for d in ("lib64", "lib") for p in [f"{CUDA}/{d}/stubs/libcuda.so"] if os.path.exists(p)]
    if stubs:
        stub = exported(stubs[0])
        unknown = stub - {e.name for e in every} - UNDECLARED
        ok(not unknown, "the table has every call that the toolkit's stub library exports", sorted(unknown))
    else:
        ok(True, "the table has every call that the toolkit's stub library exports # SKIP this toolkit has none")
    # The real thing, of whatever version Debian has: it knows no call that the table does not know.
    real = os.environ.get("NVIDIA_LIBCUDA", "")
    if os.path.exists(real):
        unknown = exported(real) - {e.name for e in every} - UNDECLARED
        ok(not unknown, "the table has every call that NVIDIA's own driver library exports", sorted(unknown))
    else:
        ok(True, "the table has every call that NVIDIA's own driver library exports # SKIP there is none to be had")
    wrong = [e.name for e in entries if e.tells and (e.klass not in ("reply", "wait") or
                                                     any(k.startswith(("new:", "del:")) for k in e.kinds))]
    ok(not wrong and any(e.tells for e in entries), "no call that makes or ends something tells of earlier ones", wrong)
    plain = [e for e in exports if not e.base]
    ok(all(e.number is not None for e in plain) and len({e.number for e in plain}) == len(plain),
       "every plain entry has a number of its own")
    ok(all(e.name.startswith(e.base + "_pts") or e.name.startswith(e.base + "_ptds") for e in exports if e.base),
       "per-thread forms stand on the entry they belong to")

    library = os.path.join(ROOT, "build/lib/libcuda.so.1")
    lib = ctypes.CDLL(library)

    def address(symbol):
        return ctypes.cast(getattr(lib, symbol), ctypes.c_void_p).value

    missing = [e.name for e in every if not hasattr(lib, e.name)]
    ok(not missing, "the library exports all of them", missing)
    out = subprocess.run(["nm", "-D", "--defined-only", os.path.join(ROOT, "build/lib/libcuda.so.1")],
                         capture_output=True, text=True, check=True).stdout
    extra = {line.split()[-1] for line in out.splitlines()} - {e.name for e in every}
    ok(extra == {"vgpu_client_stats"}, "and nothing else but vgpu_client_stats()", extra)

    # Containers bring their own C library; before glibc 2.34 threads and dlsym() were in two others, and 2.28 looks only there.
    for shim in ("libcuda.so.1", "libnvidia-ml.so.1"):
        versions, needed = needs_of(os.path.join(ROOT, "build/lib", shim))
        ok(versions and max(versions) <= GLIBC, f"{shim} asks for no version of glibc after 2.17", sorted(versions))
        ok(needed == {"libc.so.6", "libpthread.so.0", "libdl.so.2"}, f"{shim} wants threads and dlsym() of the libraries that had them", needed)

    def resolve(name, version, flags=0):
        pfn, status = ctypes.c_void_p(), ctypes.c_int(-1)
        result = lib.cuGetProcAddress_v2(name.encode(), ctypes.byref(pfn), version, ctypes.c_uint64(flags),
                                         ctypes.byref(status))
        return result, pfn.value, status.value

    def finds(symbol, name, version, flags=0):
        got = resolve(name, version, flags)
        ok(got == (0, address(symbol), 0), f"{name} at {version}, flags {flags}, is {symbol}", got)

    wrong = []
    by_key = {(gen.base_name(e.name), e.version, "_" + e.klass if e.base else ""): e.name for e in exports}
    for name, version, suffix in pfns:
        if resolve(name, version, 2 if suffix else 0)[:2] != (0, address(by_key[name, version, suffix])):
            wrong.append((name, version, suffix))
        # CU_GET_PROC_ADDRESS_LEGACY_STREAM
        if not suffix and resolve(name, version, 1)[:2] != (0, address(by_key[name, version, suffix])):
            wrong.append((name, version, "legacy"))
    ok(not wrong, "cuGetProcAddress_v2 gives every form at its own version", wrong)

    finds("cuMemAlloc", "cuMemAlloc", 2000)
    finds("cuMemAlloc_v2", "cuMemAlloc", 13000)
    finds("cuMemAlloc_v2", "cuMemAlloc", 13000, 2)
    finds("cuCtxGetDevice", "cuCtxGetDevice", 12090)
    finds("cuCtxGetDevice_v2", "cuCtxGetDevice", 13000)
    finds("cuCtxCreate_v2", "cuCtxCreate", 3020)
    finds("cuCtxCreate_v4", "cuCtxCreate", 13000)
    finds("cuDevicePrimaryCtxRelease", "cuDevicePrimaryCtxRelease", 7000)
    finds("cuMemcpyHtoD_v2", "cuMemcpyHtoD", 12000)
    finds("cuMemcpyHtoD_v2_ptds", "cuMemcpyHtoD", 12000, 2)
    finds("cuMemcpyHtoD_v2", "cuMemcpyHtoD", 3020, 2)
    finds("cuStreamSynchronize_ptsz", "cuStreamSynchronize", 13000, 2)
    ok(resolve("", 0) == (0, None, 1), "no name is not found")
    ok(resolve("cuInitialise", 13000) == (0, None, 1), "an unknown name is not found")
    finds("cuGLCtxCreate_v2", "cuGLCtxCreate", 13000)
    finds("cuGLMapBufferObject_v2_ptds", "cuGLMapBufferObject", 13000, 2)
    ok(lib.cuGLInit() == 801, "a graphics call is refused")
    ok(resolve("cuLaunchKernelEx", 4000) == (0, None, 2), "a name that is too new says so")
    pfn = ctypes.c_void_p()
    ok(lib.cuGetProcAddress(b"cuInitialise", ctypes.byref(pfn), 13000, ctypes.c_uint64(0)) == 500,
       "the first form of cuGetProcAddress says CUDA_ERROR_NOT_FOUND")
    ok(resolve("cuInit", 13000, 8)[0] == 1, "unknown flags are refused")

    lib.cuGetErrorName.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
    text, bad = ctypes.c_char_p(), []
    for name, value in results:
        if lib.cuGetErrorName(value, ctypes.byref(text)) or text.value.decode() != name:
            bad.append(name)
    ok(not bad and len(results) > 90, "every CUresult has its name", bad)
    ok(lib.cuGetErrorName(123456, ctypes.byref(text)) == 1, "an unknown CUresult has none")

    version = ctypes.c_int()
    ok(lib.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value >= 13000, "the version needs no broker")
    ok(lib.cuDeviceGetCount(ctypes.byref(version)) == 3, "before cuInit a call is CUDA_ERROR_NOT_INITIALIZED")
    refusals(library, next(e.reason for e in entries if e.name == "cuGraphicsUnregisterResource"))
    print(f"1..{count}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
