#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What one CUDA call costs, counted, not timed. TAP.

local	system calls per call of client and worker while both are awake (strace)
xen	the same through Xen in the lab under QEMU's -icount, with notifications and instructions per call

The same program runs with N and with 2N calls; the difference belongs to N calls, whatever set-up cost. A long
spin budget and a CPU for each side keep both awake, so that what remains is the price of the hot path: none.
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import system

CALLS = 20000
LIMIT = 0.02  # system calls per call; a preempted peer costs a sleep now and then


def total(log):
    """The sum of the "calls" column of strace -c."""
    calls = 0
    for line in log.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 4 and fields[-1] != "total" and fields[3].isdigit():
            calls += int(fields[3])
    return calls


def count_program(command, environment, log):
    """System calls of a program and its children."""
    subprocess.run(["taskset", "-c", "0", "strace", "-f", "-c", "-qq", "-o", str(log), *command],
                   env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    return total(log)


def count_workers(broker, command, log):
    """System calls of the workers that stand ready while a program runs; one of them will serve it."""
    time.sleep(0.3)  # a worker of the last program may be on its way out, its successor on its way in
    attach = [arg for pid in broker.children() for arg in ("-p", str(pid))]
    tracer = subprocess.Popen(["taskset", "-c", "1", "strace", "-f", "-c", "-qq", "-o", str(log), *attach])
    time.sleep(0.5)
    if tracer.poll() is not None:
        raise system.Broken(f"strace cannot watch the workers (status {tracer.returncode}); root may")
    try:
        subprocess.run(["taskset", "-c", "0", *command], env={**os.environ, **broker.environment()}, check=True,
                       stdout=subprocess.DEVNULL)
        time.sleep(0.3)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    calls = total(log)
    if not calls:
        raise system.Broken("strace has seen no system call of any worker, not even of its start")
    return calls


def per_call(counter):
    """@counter(N) for N and 2N calls. Three tries: somebody else's load may put a peer to sleep."""
    best = None
    for _ in range(3):
        value = max(0.0, (counter(2 * CALLS) - counter(CALLS)) / CALLS)
        best = value if best is None else min(best, value)
        if best <= LIMIT:
            break
    return best


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def line(self, good, text):
        self.count += 1
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {self.count} - {text}", flush=True)

    def skip(self, text, why):
        self.count += 1
        print(f"ok {self.count} - {text} # SKIP {why}", flush=True)


def local(build, tap):
    if (os.cpu_count() or 1) < 2:
        tap.skip("local: system calls per call", "client and worker cannot both be awake on one CPU")
        return
    if not shutil.which("strace"):
        raise system.Broken("strace is missing: scripts/deps installs it")
    # Both sides inherit it.
    os.environ["VGPU_SPIN_US"] = "1000"
    side = tempfile.mkdtemp(prefix="vgpu-counts-")
    broker = system.Broker(build, ["taskset", "-c", "1"])
    try:
        log = pathlib.Path(side) / "strace"
        bench = f"{build}/bench/bench"
        rows = [("libidm alone, client and worker together",
                 lambda n: count_program([f"{build}/bench/transport", str(n)], {}, log))]
        for op in ("sync", "alloc", "launch"):
            rows.append((f"{op}, the client's", lambda n, op=op: count_program([bench, "count", op, str(n)],
                                                                               broker.environment(), log)))
            rows.append((f"{op}, the worker's", lambda n, op=op: count_workers(broker, [bench, "count", op, str(n)],
                                                                               log)))
        for name, counter in rows:
            per = per_call(counter)
            tap.line(per <= LIMIT, f"local, awake, {name}: {per:.4f} system calls per call")
    except subprocess.CalledProcessError as e:
        raise system.Broken(f"{e}\n{broker.tail()}") from e
    finally:
        broker.stop()
        shutil.rmtree(side, ignore_errors=True)


def xen(build, tap):
    """selftests/bench/xen/dom0.sh in the lab, its results renumbered."""
    lab = subprocess.run(
        ["scripts/xenlab", "script", "--icount", "--cpus", "2", "--pod-cpus", "1", "--pods", "1", "--quiet",
         "--bin", f"{build}/bench/bench", "--bin", shutil.which("strace") or "strace", "selftests/bench/xen"],
        stdout=subprocess.PIPE, text=True, check=False)
    seen = 0
    for line in lab.stdout.splitlines():
        verdict, _, text = line.partition(" - ")
        if text and verdict.startswith(("ok ", "not ok ")):
            tap.line(verdict.startswith("ok "), f"xen, {text}")
            seen += 1
    if lab.returncode or not seen:
        tap.line(False, f"xen: the lab ended with status {lab.returncode} after {seen} results")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("part", nargs="*", choices=["local", "xen", []], help="default: both")
    args = parser.parse_args()
    build = pathlib.Path(args.build).resolve()
    tap = Tap()
    print("TAP version 13")
    try:
        for part in args.part or ["local", "xen"]:
            {"local": local, "xen": xen}[part](build, tap)
    except system.Broken as e:
        print(f"Bail out! {e}")
        return 1
    print(f"1..{tap.count}")
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
