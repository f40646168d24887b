#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Performance of this machine, as ratios within one run.

    D  the program on the software GPU directly (with --driver on NVIDIA's library)
    O  the same program through shim, rings and worker (local transport), placed by the scheduler
    O1 the same, with client and worker held on one CPU: what the futex floor is to be compared with
    L  what the machine can do at all: futex and spin ping-pong, memcpy
    T  libidm with a worker that does nothing

Systems are interleaved, once per round; a cell is the median over rounds with the smallest and the largest.
Targets that are ratios are judged; if the machine was too restless for that, the run is marked NOISY.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import system

# name, unit, better is: what each program prints
METRICS = [
    ("sync_us.p50", "us", "B1 cuCtxSynchronize, median"),
    ("sync_us.p99", "us", "B1 cuCtxSynchronize, p99"),
    ("alloc_pairs_per_s", "/s", "B2 alloc + free of 64 KB"),
    ("launches_per_s", "/s", "B3 10k launches + 1 sync"),
    ("launch_sync_us", "us", "B3 launch + sync, each"),
]
for kind in ("pageable", "pinned"):
    for size in ("4KB", "1MB", "256MB"):
        for way, arrow in (("h2d", "to device"), ("d2h", "from device")):
            unit = "us" if size == "4KB" else "GBs"
            METRICS.append((f"{way}_{kind}_{size}_{unit}", unit.replace("GBs", "GB/s"),
                            f"B4 {size} {kind} {arrow}"))
METRICS += [("images_memcpy_GBs", "GB/s", "B9 19 images, 75 MB: memcpy"),
            ("images_staged_GBs", "GB/s", "B9 copied to the device"),
            ("images_first_GBs", "GB/s", "B9 loaded for the first time"),
            ("images_again_GBs", "GB/s", "B9 loaded again"),
            ("images_other_GBs", "GB/s", "B9 loaded by another process")]


def fingerprint():
    cpu = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) // 1024
    try:
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
                                check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {"cpu": cpu, "cpus": os.cpu_count(), "memory_MiB": memory, "kernel": platform.release().split("-")[0],
            "load_before": os.getloadavg()[0], "commit": commit,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


class Table:
    """system -> metric -> the values of all rounds"""

    def __init__(self):
        self.values = {}

    def add(self, name, values):
        for metric, value in values.items():
            self.values.setdefault(name, {}).setdefault(metric, []).append(value)

    def get(self, name, metric):
        return self.values.get(name, {}).get(metric)

    def median(self, name, metric):
        values = self.get(name, metric)
        return statistics.median(values) if values else None


def short(value):
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    if value >= 1e4:
        return f"{value / 1e3:.0f} k"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def cell(values):
    if not values:
        return "-"
    return f"{short(statistics.median(values))} [{short(min(values))}..{short(max(values))}]"


def with_busy_loops(function):
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count())]
    try:
        return function()
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure_cost(build, broker):
    """B6: CPU time per call, client and broker with its workers; and what an idle session costs."""
    marks = {}
    last = [0]

    def on_mark(name):
        now = broker.cpu_ns()
        if name != "begin":
            marks[name] = (now - last[0]) / 1000
        last[0] = now

    values = system.run([f"{build}/bench/bench", "cost"], broker.environment(), on_mark)
    result = {}
    for op in ("sync", "alloc", "launch"):
        client = values[f"cost_{op}_client_us"]
        worker = marks[f"cost_{op}"] / values[f"cost_{op}_calls"]
        result[f"cpu_{op}_client_us"] = client
        result[f"cpu_{op}_worker_us"] = worker
    system.run([f"{build}/bench/bench", "idle", "5"], broker.environment(), on_mark)
    result["idle_5s_worker_us"] = marks["idle"]
    return result


def judge(table, noisy):
    """The targets. Ratios within the run are judged; absolute figures are for this project's reference machine."""
    rows = []

    def row(text, value, target, below=False, unit="", gate=True):
        if value is None:
            return
        reached = value <= target if below else value >= target
        rows.append({"text": text, "value": value, "target": target, "below": below, "unit": unit,
                     "reached": reached, "gate": gate and not noisy})

    def ratio(a, b):
        return a / b if a is not None and b else None

    floor = table.median("L", "futex_1cpu_us.p50")
    row("B1 sync on one CPU / futex floor", ratio(table.median("O1", "sync_us.p50"), floor), 1.5, below=True, unit="x")
    row("B1 sync as scheduled / futex floor", ratio(table.median("O", "sync_us.p50"), floor), 1.5, below=True, unit="x",
        gate=False)
    row("B2 alloc+free pairs", table.median("O", "alloc_pairs_per_s"), 80e3, unit="/s", gate=False)
    row("B3 pipelined launches", table.median("O", "launches_per_s"), 700e3, unit="/s", gate=False)
    for way in ("h2d", "d2h"):
        for kind, target in (("pageable", 60), ("pinned", 90)):
            value = ratio(table.median("O", f"{way}_{kind}_256MB_GBs"), table.median("D", f"{way}_{kind}_256MB_GBs"))
            row(f"B4 256 MB {kind} {way} of direct", value and value * 100, target, unit="%")
    row("B4 4 KB pageable h2d / futex floor",
        ratio(table.median("O", "h2d_pageable_4KB_us"), floor), 1.7, below=True, unit="x")
    for name, text, target in (("first", "first time", 0.7), ("other", "by another process", 0.2)):
        row(f"B9 75 MB of images, {text} / copied to the device",
            ratio(table.median("O", f"images_{name}_GBs"), table.median("O", "images_staged_GBs")), target, unit="x",
            gate=False)
        row(f"B9 75 MB of images, {text} / memcpy",
            ratio(table.median("O", f"images_{name}_GBs"), table.median("O", "images_memcpy_GBs")), 0.2, unit="x",
            gate=False)
    row("B6 worker CPU in 5 s of an idle session", table.median("O", "idle_5s_worker_us"), 1000, below=True, unit="us")
    worst = [table.median("ptx", f"ptx_{k}_Minstr_s") for k in ("arithmetic", "stream", "matrix")]
    if all(worst):
        row("PTX thread-instructions on one core (slowest of three)", min(worst), 300, unit=" M/s", gate=False)
    return rows


def is_noisy(table):
    reasons = []
    for name, metric, limit in (("D", "h2d_pageable_256MB_GBs", 0.15), ("L", "futex_1cpu_us.p50", 0.20)):
        values = table.get(name, metric)
        if values and (max(values) - min(values)) / statistics.median(values) > limit:
            reasons.append(f"{name} {metric} moved by more than {limit:.0%}")
    return reasons


def report(table, rows, noisy, info, rounds):
    print(f"\n{info['cpu']}, {info['cpus']} CPUs, {info['memory_MiB']} MiB, Linux {info['kernel']}, "
          f"load {info['load_before']:.2f}, {info['commit']}, {rounds} rounds, {info['scheduling']} scheduling")
    print("median [smallest..largest] over rounds\n")
    print(f"{'':34}{'D direct':>28}{'O ours':>28}{'O/D':>9}")
    for metric, unit, text in METRICS:
        d, o = table.median("D", metric), table.median("O", metric)
        if d is None and o is None:
            continue
        share = f"{o / d:.2f}" if d and o else "-"
        print(f"{text:34}{cell(table.get('D', metric)):>28}{cell(table.get('O', metric)):>28}{share:>9}  {unit}")
    print()
    for name, title in (("L", "limits of the machine"), ("T", "libidm alone"), ("O1", "O on one CPU"),
                        ("contended", "O with a busy loop on every CPU (B5)"), ("cost", "CPU time per call (B6), us"), ("ptx", "PTX interpreter, one core")):
        for metric in sorted(table.values.get(name, {})):
            print(f"{title + ': ' + metric:62}{cell(table.get(name, metric)):>28}")
    print()
    for r in rows:
        sign = "<=" if r["below"] else ">="
        print(f"{'reached' if r['reached'] else 'MISSED ':8} {r['text']}: {short(r['value'])}{r['unit']} "
              f"(target {sign} {short(r['target'])}{r['unit']}{'' if r['gate'] else ', report only'})")
    if noisy:
        print("\nNOISY: " + "; ".join(noisy) + ". Nothing is judged by this run.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="systems: L,T,D,O,O1,ptx,contended,cost")
    parser.add_argument("--driver", metavar="FILE", help="NVIDIA's libcuda.so.1, in place of the software GPU (no B9: its images are for the software GPU)")
    parser.add_argument("--no-copies", action="store_true", help="leave B4 out")
    parser.add_argument("--realtime", action="store_true",
                        help="every program under SCHED_FIFO: a busy machine measures as a quiet one (root; no B5)")
    parser.add_argument("--json", metavar="FILE", help="where all values go (default bench.json in the build folder)")
    parser.add_argument("--gate", action="store_true", help="exit 1 if a judged target is missed")
    args = parser.parse_args()
    build = pathlib.Path(args.build).resolve()
    only = set(args.only.split(",")) if args.only else {"L", "T", "D", "O", "O1", "ptx", "contended", "cost"}
    what = ["sync", "alloc", "launch"] + ([] if args.no_copies else ["copy"] + ([] if args.driver else ["images"]))
    table, info = Table(), fingerprint()
    info["scheduling"] = "SCHED_FIFO" if args.realtime else "normal"
    if args.realtime:
        # A real-time program that runs away is killed before it holds the machine up.
        system.PREFIX[:] = ["chrt", "-f", "10", "prlimit", "--rttime=10000000"]
        only.discard("contended")
    broker = shared = None
    one_cpu = ["taskset", "-c", "0"]
    try:
        if only & {"O", "contended", "cost"}:
            broker = system.Broker(build, driver=args.driver)
        if "O1" in only:
            shared = system.Broker(build, one_cpu, args.driver)
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
            if "L" in only:
                table.add("L", system.run([f"{build}/bench/limits"]))
            if "T" in only:
                table.add("T", system.run([f"{build}/bench/transport"]))
            if "D" in only:
                table.add("D", system.run([f"{build}/bench/bench", *what], system.direct_environment(build, args.driver)))
            if "O" in only:
                environment = {**broker.environment(), "BENCH_IMAGES": str(time.time_ns())}
                table.add("O", system.run([f"{build}/bench/bench", *what], environment))
                if "images" in what:
                    table.add("O", system.run([f"{build}/bench/bench", "images_other"], environment))
            if "O1" in only:
                table.add("O1", system.run([*one_cpu, f"{build}/bench/bench", "sync", "alloc", "launch"],
                                           shared.environment()))
            if "contended" in only:
                table.add("contended", with_busy_loops(
                    lambda: system.run([f"{build}/bench/bench", "sync", "alloc", "launch"], broker.environment())))
            if "ptx" in only:
                table.add("ptx", system.run([f"{build}/bench/ptx"]))
        if "cost" in only:
            cost = measure_cost(build, broker)
            table.add("O", {"idle_5s_worker_us": cost["idle_5s_worker_us"]})
            table.add("cost", cost)
    except system.Broken as e:
        print(f"bench: {e}", file=sys.stderr)
        for b in filter(None, (broker, shared)):
            print(b.tail(), file=sys.stderr)
        return 1
    finally:
        for b in filter(None, (broker, shared)):
            b.stop()
    noisy = is_noisy(table)
    rows = judge(table, bool(noisy))
    report(table, rows, noisy, info, args.rounds)
    values = args.json or build / "bench.json"
    with open(values, "w") as f:
        json.dump({"machine": info, "rounds": args.rounds, "noisy": noisy, "targets": rows, "values": table.values},
                  f, indent=1)
    print(f"\nall values: {values}")
    return 1 if args.gate and any(r["gate"] and not r["reached"] for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
