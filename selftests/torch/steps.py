# SPDX-License-Identifier: Apache-2.0
"""What an eager training step costs in messages, from VGPU_TRACE: steps.py FILE, the file that VGPU_TRACE names."""
import collections
import re
import sys

import torch
import torch.nn.functional as F

from tap import run, test

path = sys.argv.pop(1)
LINE = re.compile(r"pid=\d+ thread=\d+ ns=(\d+) how=(\w+) posted=(\d+) waited=(\d+) result=(\w+) (\w+)\(")
at = 0


def calls():
    """The calls since the last time it was asked: name -> calls, posted, waited."""
    global at
    seen = collections.defaultdict(lambda: [0, 0, 0])
    with open(path, encoding="utf-8", errors="replace") as f:
        f.seek(at)
        for line in f:
            m = LINE.match(line)
            if m:
                c = seen[m.group(6)]
                c[0] += 1
                c[1] += int(m.group(3))
                c[2] += int(m.group(4))
        at = f.tell()
    return seen


def table(seen, steps):
    total = [sum(c[i] for c in seen.values()) for i in range(3)]
    lines = [f"a step: {total[0] / steps:.1f} calls, {total[1] / steps:.1f} posted, {total[2] / steps:.1f} waited for"]
    for name, c in sorted(seen.items(), key=lambda e: (-e[1][2], -e[1][0]))[:12]:
        lines.append(f"{name:34} {c[0] / steps:7.1f} calls {c[1] / steps:7.1f} posted {c[2] / steps:7.1f} waited")
    return "\n".join(lines), total[2] / steps


def step_of(optimiser, **args):
    torch.manual_seed(7)
    net = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.GELU(), torch.nn.LayerNorm(32), torch.nn.Linear(32, 5)).cuda()
    x, y = torch.randn(16, 20).cuda(), torch.randint(0, 5, (16,)).cuda()
    o = optimiser(net.parameters(), **args)

    def step(read):
        o.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        o.step()
        return loss.item() if read else None
    return step


for name, optimiser, args in (("SGD", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}), ("Adam", torch.optim.Adam, {"lr": 0.01})):
    @test(f"round trips of a training step that reads its loss, {name}")
    def _(optimiser=optimiser, args=args):
        step = step_of(optimiser, **args)
        for _ in range(3):
            step(True)
        calls()
        for _ in range(10):
            step(True)
        text, waited = table(calls(), 10)
        assert waited <= 3, text
        return text

    @test(f"and of one that reads nothing, {name}")
    def _(optimiser=optimiser, args=args):
        step = step_of(optimiser, **args)
        for _ in range(3):
            step(False)
        torch.cuda.synchronize()
        calls()
        for _ in range(10):
            step(False)
        text, waited = table(calls(), 10)
        assert waited <= 1, text
        return text


run()
