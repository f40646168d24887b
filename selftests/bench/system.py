# SPDX-License-Identifier: Apache-2.0
"""The systems under test: which library a program finds, and which processes work for it."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time


# What every program is started with, the broker too.
PREFIX = []


class Broken(Exception):
    """A benchmark program failed: there is nothing to report."""


class Broker:
    """A broker of our own on a socket of its own. @driver: the driver library of its workers, None: the software GPU."""

    def __init__(self, build, prefix=None, driver=None):
        self.build = pathlib.Path(build).resolve()
        self.dir = tempfile.mkdtemp(prefix="vgpu-bench-")
        os.chmod(self.dir, 0o755)
        self.log = open(pathlib.Path(self.dir) / "log", "w+")
        command = [
            str(self.build / "bin/vgpu-broker"),
            "--run-dir", self.dir,
            "--driver", driver or str(self.build / "softgpu/libsoftgpu.so"),
            "--worker", str(self.build / "bin/vgpu-worker"),
            "--local", "default:memory=4096",
            "--foreground",
        ]
        self.process = subprocess.Popen(PREFIX + (prefix or []) + command, stdout=self.log, stderr=self.log)
        socket = pathlib.Path(self.dir) / "vgpu.sock"
        for _ in range(200):
            if socket.exists():
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise Broken(f"vgpu-broker did not start:\n{self.tail()}")

    def tail(self):
        self.log.flush()
        self.log.seek(0)
        return "".join(self.log.readlines()[-15:])

    def environment(self):
        return {
            "LD_LIBRARY_PATH": str(self.build / "lib"),
            "VGPU_TRANSPORT": f"local:{self.dir}/vgpu.sock",
        }

    def children(self):
        """The workers, and whatever they started."""
        parents = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text()
                except OSError:
                    continue
                parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
        family, size = {self.process.pid}, 0
        while len(family) != size:
            size = len(family)
            family |= {pid for pid, parent in parents.items() if parent in family}
        return family - {self.process.pid}

    def cpu_ns(self):
        """CPU time used so far by broker and workers."""
        total = 0
        for pid in self.children() | {self.process.pid}:
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
                try:
                    total += int((task / "schedstat").read_text().split()[0])
                except OSError:
                    pass
        return total

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def direct_environment(build, driver=None):
    return {"LD_LIBRARY_PATH": os.path.dirname(driver) if driver else str(pathlib.Path(build).resolve() / "softgpu")}


def run(command, environment=None, on_mark=None, timeout=120):
    """Run a benchmark program; its "name value" lines as a dictionary."""
    process = subprocess.Popen(
        PREFIX + command, env={**os.environ, **(environment or {})}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    values = {}
    # A program that says nothing more is killed too: reading its output would wait for ever.
    watchdog = threading.Timer(timeout, process.kill)
    watchdog.start()
    for line in process.stdout:
        name, _, value = line.strip().partition(" ")
        if name == "mark":
            if on_mark:
                on_mark(value)
            process.stdin.write("\n")
            process.stdin.flush()
        else:
            try:
                values[name] = float(value)
            except ValueError as e:
                process.kill()
                raise Broken(f"{command}: a line that is no result: {line!r}") from e
    process.stdin.close()
    error = process.stderr.read()
    status = process.wait()
    watchdog.cancel()
    if status:
        raise Broken(f"{' '.join(command)}: exit status {process.returncode}\n{error}")
    return values
