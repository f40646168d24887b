# SPDX-License-Identifier: Apache-2.0
"""The machine the lab runs on: QEMU, emulating unless KVM was seen to run a guest."""

import ctypes
import hashlib
import lzma
import os
import re
import signal
import struct
import subprocess
import tempfile
import time

from archive import Archive, LabError
from remote import Remote

QEMU = "qemu-system-x86_64"
# Emulated nested SVM is stable only this way: one processor, one emulator thread, and without three features that
# QEMU 7.2 gets wrong below Xen. Documentation/lab.rst has the details, above all why one processor.
EMULATED = ["-accel", "tcg,thread=single", "-cpu", "max,-smap,-rdtscp,-xsave"]
HARDWARE = ["-accel", "kvm", "-cpu", "host"]
# For pods: a processor that sleeps although a task is ready on it is interrupted soon. Documentation/lab.rst says why it may.
EMULATED_POD = "vgpu.pulse=50"
TRIPLE_FAULT = re.compile(r"\(XEN\).*[Tt]riple fault")


def bzimage_payload(path):
    """The ELF image in a bzImage that is packed with xz, as Debian's are (Documentation/arch/x86/boot.rst)."""
    with open(path, "rb") as f:
        image = f.read()
    offset, length = struct.unpack_from("<II", image, 0x248)
    offset += ((image[0x1f1] or 4) + 1) * 512
    try:
        return lzma.LZMADecompressor().decompress(image[offset:offset + length])
    except lzma.LZMAError as e:
        raise LabError(f"{path} is no kernel packed with xz: {e}") from e


class Boot:
    """What a boot is made of, all from the cache folder that scripts/deps filled."""

    def __init__(self, cache):
        self.cache = cache
        release = os.path.join(cache, "kernel-release")
        if not os.path.islink(release):
            raise LabError("Xen and the dom0 kernel are not there: run scripts/deps (or make) first")
        self.release = os.readlink(release)
        self.debian = os.path.join(cache, "debian")
        self.kernel = os.path.join(self.debian, "boot", "vmlinuz-" + self.release)
        self.modules = os.path.join(self.debian, "lib/modules", self.release)
        self.dom0_kernel, self.dom0_modules = self.kernel, self.modules
        self.tools = os.path.join(self.debian, "usr/lib/xen-4.17/bin")
        self.libraries = os.path.join(self.debian, "usr/lib/x86_64-linux-gnu")

    def unpacked(self, name, packed, unpack):
        """The file @name in the cache: what @unpack makes of @packed, made again when that is newer."""
        path = os.path.join(self.cache, name)
        if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(packed):
            data = unpack(packed)
            with open(path + f".{os.getpid()}", "wb") as out:
                out.write(data)
            os.rename(out.name, path)
        return path

    def xen(self):
        """QEMU's multiboot loader wants the ELF image, not the compressed one."""
        return self.unpacked("xen.elf", os.path.join(self.debian, "boot/xen-4.17-amd64.gz"),
                             lambda packed: subprocess.run(["gzip", "-dc", packed], stdout=subprocess.PIPE, check=True).stdout)

    def dom0(self):
        """dom0's kernel. Xen unpacks a bzImage itself, which takes an emulated machine four seconds; an ELF image it takes as it is."""
        if self.dom0_kernel != self.kernel:
            return self.dom0_kernel
        return self.unpacked("vmlinux-" + self.release, self.kernel, bzimage_payload)


PROBE_INIT = """#!/bin/busybox sh
/bin/busybox mkdir /proc
/bin/busybox mount -t proc proc /proc
/bin/busybox grep -qwE 'svm|vmx' /proc/cpuinfo && echo PROBE-OK >/dev/console || echo PROBE-NO-NESTING >/dev/console
/bin/busybox reboot -f
"""


def probe(boot, accelerator, timeout):
    """Does a guest run so, and could it have guests of its own?"""
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive()
        archive.symlink("/bin", "usr/bin")  # where the archive puts what belongs in /bin
        archive.file("/bin/busybox", "/bin/busybox")
        archive.text("/init", PROBE_INIT, 0o755)
        archive.device("/dev/console", 0o600, 5, 1)
        initrd = os.path.join(folder, "initrd")
        with open(initrd, "wb") as out:
            archive.write(out)
        command = [QEMU, *accelerator, "-m", "256", "-kernel", boot.kernel, "-initrd", initrd]
        command += ["-append", "console=ttyS0 quiet panic=-1", "-display", "none", "-monitor", "none"]
        command += ["-serial", "stdio", "-no-reboot", "-nodefaults"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return False
    return b"PROBE-OK" in done.stdout


def kvm_works(boot):
    """True if KVM really ran a guest with nested virtualisation. That /dev/kvm opens says nothing."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        model = re.search(r"model name.*", f.read())
    key = f"{PROBE_INIT} {os.uname()} {boot.release} {model and model[0]} {os.stat('/dev/kvm').st_ctime}"
    memo = os.path.join(boot.cache, "kvm." + hashlib.sha256(key.encode()).hexdigest()[:16])
    if not os.path.exists(memo):
        works = probe(boot, HARDWARE, int(os.environ.get("VGPU_LAB_PROBE_SECONDS", "20")))
        with open(memo, "w", encoding="ascii") as out:
            out.write("yes" if works else "no")
    with open(memo, encoding="ascii") as f:
        return f.read() == "yes"


PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def die_with_parent():
    """In QEMU's process, before it is one: however this program ends, the machine does not stay behind."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Machine:
    """One run of QEMU with Xen and dom0 in it."""

    def __init__(self, boot, initrd, *, memory, dom0_memory, cpus=None, icount=False, hardware=False, xen_options=""):
        self.folder = tempfile.TemporaryDirectory(prefix="xenlab.")
        port = os.path.join(self.folder.name, "port")
        self.cpus = cpus = cpus or (min(os.cpu_count(), 4) if hardware else 1)
        self.console = os.path.join(self.folder.name, "console.log")
        # No more of them than processors, nor for pods: on one, two that wait for each other double the time that a boot takes.
        vcpus = min(cpus, 2)
        xen = f"console=com1 com1=115200,8n1 dom0_mem={dom0_memory}M dom0_max_vcpus={vcpus} bootscrub=0 "
        xen += "guest_loglvl=all gnttab_max_frames=1024 gnttab_max_maptrack_frames=4096 " + xen_options
        command = [QEMU, *(HARDWARE if hardware else EMULATED), "-m", str(memory), "-smp", str(cpus)]
        if icount:
            command += ["-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm"]
        command += ["-kernel", boot.xen(), "-append", xen.strip()]
        command += ["-initrd", f"{boot.dom0()} console=hvc0 panic=-1 quiet loglevel=4 mitigations=off,{initrd}"]
        command += ["-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot"]
        command += ["-serial", f"file:{self.console}", "-device", "virtio-serial-pci"]
        command += ["-chardev", f"socket,id=lab,path={port},server=on,wait=off"]
        command += ["-device", "virtserialport,chardev=lab,name=lab"]
        self.errors = os.path.join(self.folder.name, "qemu.log")
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, preexec_fn=die_with_parent
            )
        deadline = time.monotonic() + 60
        while not os.path.exists(port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise LabError("QEMU did not start: " + self._read(self.errors).strip())
            time.sleep(0.02)
        self.remote = Remote(port)

    @staticmethod
    def _read(path):
        try:
            with open(path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def console_text(self):
        return self._read(self.console)

    def console_tail(self, lines=25):
        return "\n".join(self.console_text().replace("\r", "").splitlines()[-lines:])

    def triple_faults(self):
        return len(TRIPLE_FAULT.findall(self.console_text()))

    def alive(self):
        return self.process.poll() is None and not self.remote.closed.is_set()

    def wait_for_dom0(self, seconds):
        deadline = time.monotonic() + seconds
        while not self.remote.hello.wait(0.1):
            if not self.alive():
                raise LabError("the machine stopped while dom0 was starting\n" + self.console_tail())
            if time.monotonic() > deadline:
                raise LabError(f"dom0 did not come up within {seconds} s\n" + self.console_tail())

    def stop(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.stop()
        self.folder.cleanup()
