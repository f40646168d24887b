# SPDX-License-Identifier: Apache-2.0
"""Archives, written without root: initramfs ("newc" cpio) or squashfs; and the shared libraries a program needs."""

import io
import os
import re
import stat
import subprocess
import tarfile

# Debian's merged /usr: one name for one file.
MERGED = {"/lib": "/usr/lib", "/lib64": "/usr/lib64", "/bin": "/usr/bin", "/sbin": "/usr/sbin"}
LIBDIR = "/usr/lib/x86_64-linux-gnu"


class LabError(Exception):
    """Something that the user is told in one line."""


def merged(path):
    path = os.path.normpath("/" + path.lstrip("/"))
    top = "/" + path.split("/")[1]
    return MERGED[top] + path[len(top) :] if top in MERGED and path != top else path


class Archive:
    """Collects files in memory order and writes them as one cpio archive; later names win over earlier ones."""

    def __init__(self):
        self.entries = {}

    def _parents(self, path):
        parent = os.path.dirname(path)
        if parent not in ("/", "") and parent not in self.entries:
            self._parents(parent)
            self.entries[parent] = (stat.S_IFDIR | 0o755, None, 0)

    def _put(self, path, mode, content, device=0):
        path = merged(path) if not stat.S_ISLNK(mode) else path
        self._parents(path)
        self.entries[path] = (mode, content, device)

    def directory(self, path, mode=0o755):
        self._put(path, stat.S_IFDIR | mode, None)

    def text(self, path, text, mode=0o644):
        self._put(path, stat.S_IFREG | mode, text.encode())

    def data(self, path, data, mode=0o644):
        self._put(path, stat.S_IFREG | mode, data)

    def symlink(self, path, target):
        self._put(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path, mode, major, minor):
        self._put(path, stat.S_IFCHR | mode, None, (major << 16) | minor)

    def file(self, path, source, mode=None):
        """A file of this machine; read only when the archive is written."""
        info = os.stat(source)
        self._put(path, stat.S_IFREG | (mode if mode is not None else info.st_mode & 0o777), source)

    def tree(self, path, source):
        """A file or a folder with all that is below; symbolic links stay what they are."""
        if os.path.islink(source):
            self.symlink(path, os.readlink(source))
        elif os.path.isdir(source):
            self.directory(path)
            for name in sorted(os.listdir(source)):
                self.tree(os.path.join(path, name), os.path.join(source, name))
        elif os.path.isfile(source):
            self.file(path, source)

    def write(self, out):
        """Append to the open binary file `out`, padded so that another archive may follow."""
        for number, (path, (mode, content, device)) in enumerate(self.entries.items(), 1):
            if isinstance(content, str):
                with open(content, "rb") as source:
                    content = source.read()
            content = content or b""
            self._entry(out, number, path.lstrip("/"), mode, content, device)
        self._entry(out, 0, "TRAILER!!!", 0, b"", 0)
        out.write(b"\0" * (-out.tell() % 512))

    def bytes(self):
        """The archive as write() would write it."""
        out = io.BytesIO()
        self.write(out)
        return out.getvalue()

    def write_squashfs(self, path):
        """The same as a squashfs image. Not compressed: it lives for one run, and in memory."""
        command = ["sqfstar", "-quiet", "-no-progress", "-no-xattrs", "-noI", "-noD", "-noF", path]
        packer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            with tarfile.open(fileobj=packer.stdin, mode="w|", format=tarfile.GNU_FORMAT) as tar:
                for name, (mode, content, device) in self.entries.items():
                    self._member(tar, name.lstrip("/"), mode, content, device)
            packer.stdin.close()
        except BrokenPipeError:
            pass
        said = packer.stderr.read().decode(errors="replace")
        if packer.wait():
            raise LabError(f"sqfstar (package squashfs-tools) could not make {path}: {said.strip()}")

    @staticmethod
    def _member(tar, name, mode, content, device):
        info = tarfile.TarInfo(name)
        info.mode = stat.S_IMODE(mode)
        if stat.S_ISDIR(mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(content)
        elif stat.S_ISCHR(mode):
            info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, device >> 16, device & 0xFFFF
        elif isinstance(content, str):
            with open(content, "rb") as source:
                info.size = os.fstat(source.fileno()).st_size
                tar.addfile(info, source)
            return
        else:
            info.size = len(content or b"")
        tar.addfile(info, io.BytesIO(content) if info.isreg() else None)

    @staticmethod
    def _entry(out, number, name, mode, content, device):
        name = os.fsencode(name) + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, device >> 16, device & 0xFFFF, len(name), 0)
        out.write(b"070701" + b"".join(b"%08X" % f for f in fields) + name)
        out.write(b"\0" * (-(110 + len(name)) % 4) + content + b"\0" * (-len(content) % 4))


def is_elf(path):
    with open(path, "rb") as f:
        return f.read(4) == b"\x7fELF"


def libraries(program, search=()):
    """{name as the program asks for it: file here or None} of all that the loader would load for `program`."""
    env = dict(os.environ)
    if search:
        env["LD_LIBRARY_PATH"] = ":".join([*search, *filter(None, [env.get("LD_LIBRARY_PATH")])])
    done = subprocess.run(["ldd", program], env=env, capture_output=True, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        line = line.strip()
        match = re.match(r"(\S+) => (not found|\S+)", line)
        if match:
            found[match[1]] = None if match[2] == "not found" else match[2]
        elif line.startswith("/"):
            path = line.split()[0]
            found[path] = path  # the loader itself
    return found


def add_with_libraries(archive, path, source, search=(), ours=(), keep_paths=False):
    """Put a program or library at `path` with all it needs.

    With keep_paths, libraries keep the folders they have here (run paths and $ORIGIN go on working);
    otherwise they all land in LIBDIR. Names in `ours` are provided by the caller. Returns the folders
    used beside the loader's defaults.
    """
    archive.file(path, source)
    folders = []
    if not is_elf(source):
        return folders
    for name, where in libraries(source, search).items():
        if os.path.basename(name) in ours or name.startswith("linux-vdso"):
            continue
        if where is None:
            raise LabError(
                f"{source} needs {name}, which is not found on this machine: install it, or say where it is with LD_LIBRARY_PATH"
            )
        if name.startswith("/"):
            archive.file(name, where)
        elif keep_paths:
            folder = os.path.dirname(where)
            archive.file(os.path.join(folder, name), where)
            # A symbolic link's target may be asked for by its own name, too.
            real = os.path.realpath(where)
            if os.path.basename(real) != name:
                archive.symlink(merged(os.path.join(os.path.dirname(real), os.path.basename(real))), merged(os.path.join(folder, name)))
            if merged(folder) not in (LIBDIR, "/usr/lib") and folder not in folders:
                folders.append(folder)
        else:
            archive.file(f"{LIBDIR}/{name}", where)
    return folders
