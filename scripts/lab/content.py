# SPDX-License-Identifier: Apache-2.0
"""What goes into dom0 and into the pods: their initramfs archives."""

import contextlib
import hashlib
import os
import shutil
import subprocess

from archive import LIBDIR, Archive, LabError, add_with_libraries, libraries, merged

XEN_TOOLS = "xl xenstored xen-init-dom0 xenconsoled xenconsole xentrace lsevtchn xenstore-control".split()
XENSTORE_TOOLS = "ls read write rm list exists watch chmod".split()
DOM0_MODULES = "xen-privcmd xenfs xen-evtchn xen-gntdev xen-gntalloc virtio_pci virtio_console loop xen-blkback".split()
DEBIAN_POD_MODULES = "xen-privcmd xenfs xen-evtchn xen-gntdev".split()
# Loaded by name at run time, so that ldd does not tell of them.
DLOPENED = ["libgcc_s.so.1", "libcudart.so.13"]
PASSWD = """root:x:0:0:root:/root:/bin/sh
vgpu:x:990:990:vgpu workers:/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = "root:x:0:\nvgpu:x:990:\nnogroup:x:65534:\n"


class Tree:
    """The checkout: what was built, and the lab's own scripts."""

    def __init__(self, top):
        self.top = top
        self.build = os.path.join(top, "build")
        self.lab = os.path.join(top, "scripts", "lab")

    def product(self, *names):
        path = os.path.join(self.build, *names)
        if not os.path.exists(path):
            raise LabError(f"build/{'/'.join(names)} is missing: run make first")
        return path

    def command_line(self):
        """What minimal-kernel/cmdline says, in one line."""
        with open(os.path.join(self.top, "minimal-kernel", "cmdline"), encoding="ascii") as f:
            return " ".join(line.strip() for line in f if line.strip() and not line.startswith("#"))


def base(archive):
    archive.file("/usr/bin/busybox", "/bin/busybox", 0o755)
    for name, target in (("lib", "usr/lib"), ("lib64", "usr/lib64"), ("bin", "usr/bin"), ("sbin", "usr/sbin")):
        archive.directory("/usr/" + name)
        archive.symlink("/" + name, target)
    archive.directory("/root", 0o700)
    archive.directory("/tmp", 0o1777)
    archive.directory("/usr/sbin")
    archive.directory("/run")
    archive.directory("/var")
    archive.symlink("/var/run", "/run")
    archive.device("/dev/console", 0o600, 5, 1)
    archive.device("/dev/null", 0o666, 1, 3)
    archive.text("/etc/passwd", PASSWD)
    archive.text("/etc/group", GROUP)
    archive.text("/etc/hosts", "127.0.0.1 localhost\n")


def find_module(modules, name):
    for folder, _, files in os.walk(modules):
        for variant in (name, name.replace("_", "-"), name.replace("-", "_")):
            if variant + ".ko" in files:
                return os.path.join(folder, variant + ".ko")
    return None  # built into the kernel


SIGNED = b"~Module signature appended~\n"


def unsigned(path):
    """A kernel module without its signature, which takes an emulated machine a fifth of a second to check and nobody asks for."""
    with open(path, "rb") as f:
        module = f.read()
    if not module.endswith(SIGNED):
        return module
    end = len(module) - len(SIGNED) - 12	# struct module_signature, whose last word is the signature's length
    return module[:end - int.from_bytes(module[end + 8:end + 12], "big")]


def add_modules(archive, folder, modules, names, extra=()):
    """Kernel modules out of the folder `modules` with what they depend on, and the order in which to load them."""
    order = []

    def need(name):
        path = find_module(modules, name)
        if not path:
            return
        name = os.path.basename(path)[: -len(".ko")]
        if name in order:
            return
        depends = subprocess.run(["modinfo", "-F", "depends", path], capture_output=True, text=True, check=True).stdout
        for other in filter(None, depends.strip().split(",")):
            need(other)
        order.append(name)
        archive.data(f"{folder}/{name}.ko", unsigned(path))

    for name in names:
        need(name)
    for path in extra:
        name = os.path.basename(path)[: -len(".ko")]
        order.append(name)
        archive.file(f"{folder}/{name}.ko", path)
    archive.text(f"{folder}/order", "".join(name + "\n" for name in order))


def dom0_base(boot, tree):
    """Xen's tools and busybox: changes only with the packages."""
    archive = Archive()
    base(archive)
    archive.file("/lab/bin/agent", tree.product("lab", "agent"), 0o755)
    search = [boot.libraries]
    for tool in XEN_TOOLS:
        add_with_libraries(archive, f"/usr/bin/{tool}", os.path.join(boot.tools, tool), search)
    for tool in XENSTORE_TOOLS:
        path = shutil.which("xenstore-" + tool)
        if path:
            add_with_libraries(archive, f"/usr/bin/xenstore-{tool}", path, search)
    add_dlopened(archive, search, ["libgcc_s.so.1"])
    archive.text("/etc/xen/xl.conf", "")
    add_modules(archive, "/lab/modules", boot.dom0_modules, DOM0_MODULES)
    return archive


def cached_dom0_base(boot, tree):
    """The archive's path in the cache, under a hash of all that is in it."""
    archive = dom0_base(boot, tree)
    digest = hashlib.sha256()
    for path, (mode, content, device) in archive.entries.items():
        digest.update(f"{path} {mode} {device} ".encode())
        if isinstance(content, str):
            info = os.stat(content)
            digest.update(f"{content} {info.st_size} {info.st_mtime_ns}".encode())
        else:
            digest.update(content or b"")
    folder = os.path.join(boot.cache, "lab")
    os.makedirs(folder, exist_ok=True)
    kind = "dom0-" if boot.dom0_kernel == boot.kernel else "debug-dom0-"
    path = os.path.join(folder, f"{kind}{digest.hexdigest()[:16]}.cpio")
    if not os.path.exists(path):
        for old in os.listdir(folder):
            # Not what somebody else is writing just now.
            if old.startswith(kind) and old.endswith(".cpio"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, old))
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "wb") as out:
            archive.write(out)
        os.rename(temporary, path)
    return path


def add_dlopened(archive, search, names):
    places = [*search, LIBDIR, "/usr/lib64", "/usr/local/cuda/lib64"]
    for name in names:
        for place in places:
            path = os.path.join(place, name)
            if os.path.exists(path):
                archive.file(f"{LIBDIR}/{name}", path)
                break


DEBUG_KERNELS = ("lockdep", "kasan")


def debug_kernel(tree, kind):
    """The folder of a kernel that looks for mistakes (scripts/debug-kernels/build); it is not compiled by the way."""
    build = os.path.join(tree.top, "scripts", "debug-kernels", "build")
    done = subprocess.run([build, "--if-ready", kind], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise LabError(f"the {kind} kernel is not built: run make debug-{kind} first")
    return done.stdout.strip()


class PodKernel:
    """The kernel that pods boot, and the modules that go with it."""

    def __init__(self, boot, tree, kind):
        self.kind, self.boot = kind, boot
        if kind == "auto":
            build = os.path.join(tree.top, "minimal-kernel", "build")
            done = subprocess.run([build, "--if-ready"], capture_output=True, text=True, check=False)
            self.kind = "pod" if done.returncode == 0 and os.path.exists(os.path.join(tree.build, "drivers-pod", "vgpu-front.ko")) else "debian"
            folder = done.stdout.strip()
        elif kind in ("pod", "builtin"):
            build = [os.path.join(tree.top, "minimal-kernel", "build"), *(["--builtin"] if kind == "builtin" else [])]
            folder = subprocess.run(build, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        elif kind in DEBUG_KERNELS:
            folder = debug_kernel(tree, kind)
        if self.kind in ("pod", "builtin", *DEBUG_KERNELS):
            self.path = os.path.join(folder, "vmlinux")
            with open(os.path.join(folder, "release"), encoding="ascii") as f:
                self.release = f.read().strip()
            self.image = tree.product("pod", "root.squashfs" if self.kind == "pod" else f"root-{self.kind}.squashfs")
        else:
            self.path, self.release = boot.kernel, boot.release
            self.front = tree.product("drivers", "vgpu-front.ko")
            self.others = DEBIAN_POD_MODULES
            self.image = None  # its drivers for images are modules: everything comes in an initramfs

    def add_to(self, archive, tree):
        """What a pod needs before it runs anything."""
        if self.image:  # the module is in there; tests that load it by hand look here
            archive.symlink(f"/lab/modules/{self.release}", f"/usr/lib/modules/{self.release}")
            archive.directory("/root", 0o700)
            archive.directory("/tmp", 0o1777)
            return
        base(archive)
        archive.file("/init", os.path.join(tree.lab, "pod-init"), 0o755)
        archive.file("/sbin/vgpu-init", tree.product("bin", "vgpu-init"), 0o755)
        add_modules(archive, f"/lab/modules/{self.release}", self.boot.modules, self.others, [self.front])


def pod(tree, boot, kernel, programs, added, script, cwd=None):
    """The pods' archive. `programs` are (path in the pod, file here); returns it and the folders with libraries."""
    archive = Archive()
    kernel.add_to(archive, tree)
    cuda = os.path.join(boot.cache, "cuda", "lib")
    search = [folder for folder in (cuda,) if os.path.isdir(folder)]
    folders = []
    for path, source in programs:
        for folder in add_with_libraries(archive, path, source, search, ("libcuda.so.1", "libcuda.so"), True):
            if folder not in folders:
                folders.append(folder)
        with open(source, "rb") as f:
            first = f.readline(256)
        if first.startswith(b"#!"):
            interpreter = first[2:].split()[0].decode()
            if os.path.basename(interpreter) == "env" and len(first[2:].split()) > 1:
                interpreter = shutil.which(first[2:].split()[1].decode()) or interpreter
            if interpreter not in ("/bin/sh", "/usr/bin/sh") and os.path.exists(interpreter):
                add_with_libraries(archive, interpreter, interpreter, search, (), True)
    add_dlopened(archive, search, DLOPENED)
    shim = tree.product("lib", "libcuda.so.1")
    add_with_libraries(archive, f"{LIBDIR}/libcuda.so.1", shim)
    archive.symlink(f"{LIBDIR}/libcuda.so", "libcuda.so.1")
    if cwd and cwd != "/" and merged(cwd) not in archive.entries:
        archive.directory(cwd)
    for target, source in added:
        archive.tree(target, source)
    if script:
        archive.tree("/lab/script", script)
    return archive, folders


# Where libxenlight looks for them, and the map that QEMU wants although nobody types.
P9_SERVER = "usr/libexec/xen-qemu-system-i386"
KEYMAP = "/usr/share/qemu/keymaps/en-us"


def add_p9_server(archive, boot):
    """QEMU as Debian builds it for Xen: it serves the folders that p9= in a domain's configuration names. 30 MB."""
    server = os.path.join(boot.debian, P9_SERVER)
    for path in (server, KEYMAP):
        if not os.path.exists(path):
            raise LabError(f"{path} is missing: run scripts/deps (or make)")
    add_with_libraries(archive, "/" + P9_SERVER, server, [boot.libraries])
    archive.file(KEYMAP, KEYMAP)


def other_kernel(tree, boot):
    """Debian's kernel for single pods (PV ones, which the pods' own does not know) with an initramfs of little content."""
    kernel = PodKernel(boot, tree, "debian")
    archive = Archive()
    kernel.add_to(archive, tree)
    return kernel, archive


def driver_domain(tree, boot, script):
    """The initramfs of a domain that is not dom0 and has the GPU: a pod with Debian's kernel, and the product's other half in it."""
    _, archive = other_kernel(tree, boot)
    add_modules(archive, "/lab/modules/" + boot.release, boot.modules, DEBIAN_POD_MODULES + ["xen-gntalloc"])
    archive.file("/lab/lib.sh", os.path.join(tree.lab, "lib.sh"))
    backend(archive, tree, boot, "drivers")
    add_with_libraries(archive, "/lab/bin/vgpuctl", tree.product("bin", "vgpuctl"), [boot.libraries])
    add_dlopened(archive, [boot.libraries], ["libgcc_s.so.1"])
    if script:
        archive.tree("/lab/script", script)
    return archive


def backend(archive, tree, boot, drivers):
    """What serves pods."""
    for name in ("vgpu-broker", "vgpu-worker"):
        add_with_libraries(archive, f"/lab/bin/{name}", tree.product("bin", name), [boot.libraries])
    add_with_libraries(archive, "/lab/softgpu/libsoftgpu.so", tree.product("softgpu", "libsoftgpu.so"))
    archive.symlink("/lab/softgpu/libcuda.so.1", "libsoftgpu.so")
    archive.file("/lab/modules/vgpu-back.ko", tree.product(drivers, "vgpu-back.ko"))


def dom0(tree, boot, kernel, pod_archive, dom0_programs, script, drivers):
    """What is added to dom0's base for one run: the product, the pods' kernel and content, the script."""
    archive = Archive()
    archive.file("/init", os.path.join(tree.lab, "dom0-init"), 0o755)
    archive.file("/lab/lib.sh", os.path.join(tree.lab, "lib.sh"))
    archive.file("/lab/bin/podexec", os.path.join(tree.lab, "podexec"), 0o755)
    archive.file("/lab/bin/vgpu-agentctl", tree.product("bin", "vgpu-agentctl"), 0o755)
    search = [boot.libraries]
    backend(archive, tree, boot, drivers)
    for name in ("vgpuctl", "vgpu-xl"):
        add_with_libraries(archive, f"/lab/bin/{name}", tree.product("bin", name), search)
    archive.file("/etc/xen/scripts/vgpu-block", tree.product("bin", "vgpu-block"), 0o755)
    archive.file("/lab/pod/kernel", kernel.path, 0o644)
    if kernel.image:
        archive.file("/lab/pod/root.squashfs", kernel.image)
        archive.file("/lab/pod/content.squashfs", pod_archive)
        archive.text("/lab/pod/cmdline", tree.command_line())
    else:
        archive.file("/lab/pod/initrd", pod_archive)
    for path, source in dom0_programs:
        add_with_libraries(archive, path, source, search)
    if script:
        archive.tree("/lab/script", script)
    return archive


def check_program(path):
    """A clear word before anything boots."""
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        raise LabError(f"{path}: not an executable file")
    with open(path, "rb") as f:
        head = f.read(20)
    if head[:4] == b"\x7fELF" and head[18:20] != b"\x3e\x00":
        raise LabError(f"{path}: not a program for x86-64")
    missing = [name for name, where in (libraries(path) if head[:4] == b"\x7fELF" else {}).items() if where is None]
    return missing
