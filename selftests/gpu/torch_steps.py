#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch at work, in steps: timed, and with a checksum of what each computed.

Usage: torch_steps.py STEP…     (torch_steps.py --list names them)
Prints a line of JSON for each: step, unit, milliseconds of a repetition (median, least, most), checksum of the results, round
trips and posted messages of a repetition (null on NVIDIA's own library).
Everything is made from fixed seeds; the networks are written out here, so that torch is all that is needed.
"""
import ctypes
import hashlib
import json
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

DEVICE = "cuda"


class Stats(ctypes.Structure):
    """struct idm_stats of libidm.h."""
    _fields_ = [(n, ctypes.c_uint64) for n in ("posted", "called", "spun", "slept", "kicks", "grown")]


def stats():
    """Counters of this process's session, None on NVIDIA's own library."""
    try:
        read = ctypes.CDLL("libcuda.so.1").vgpu_client_stats
    except AttributeError:
        return None
    s = Stats()
    return s if read(ctypes.byref(s)) == 0 else None


def measure(unit, repeat, results, warm=5, count=20):
    """Time `repeat` after warming up; `results` are tensors (or a function giving them) to be summed up."""
    for _ in range(warm):
        repeat()
    torch.cuda.synchronize()
    before, times = stats(), []
    for _ in range(count):
        start = time.perf_counter()
        repeat()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    after = stats()
    digest = hashlib.sha256()
    for t in results() if callable(results) else results:
        digest.update(t.detach().to("cpu").contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return {"unit": unit, "ms": [statistics.median(times), min(times), max(times)], "checksum": digest.hexdigest()[:16],
            "round_trips": (after.called - before.called) / count if before else None,
            "posted": (after.posted - before.posted) / count if before else None}


class Bottleneck(nn.Module):
    def __init__(self, inside, planes, stride):
        super().__init__()
        out = planes * 4
        self.body = nn.Sequential(
            nn.Conv2d(inside, planes, 1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True),
            nn.Conv2d(planes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True),
            nn.Conv2d(planes, out, 1, bias=False), nn.BatchNorm2d(out))
        self.skip = nn.Identity() if stride == 1 and inside == out else nn.Sequential(
            nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        return F.relu(self.body(x) + self.skip(x))


def resnet50():
    layers, inside = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)], 64
    for planes, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(blocks):
            layers.append(Bottleneck(inside, planes, stride if not i else 1))
            inside = planes * 4
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


def resnet50_train():
    net = resnet50().to(DEVICE, memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), 0.01, 0.9)
    x = torch.randn(32, 3, 224, 224, device=DEVICE).to(memory_format=torch.channels_last)
    y = torch.randint(1000, (32,), device=DEVICE)

    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimiser.step()

    return measure("training step of 32 pictures", step, net.parameters)


def resnet50_infer():
    net = resnet50().to(DEVICE, torch.half, memory_format=torch.channels_last).eval()
    x = torch.randn(8, 3, 224, 224, device=DEVICE, dtype=torch.half).to(memory_format=torch.channels_last)
    out = []

    @torch.no_grad()
    def step():
        out[:] = [net(x)]

    return measure("inference of 8 pictures", step, out)


class Block(nn.Module):
    """A decoder block with a cache of keys and values; one token at a time."""

    def __init__(self, d, heads, length):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.register_buffer("cache", torch.zeros(2, 1, heads, length, d // heads))

    def forward(self, x, at, mask):
        b, _, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, 1, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        self.cache[0].index_copy_(2, at, k)
        self.cache[1].index_copy_(2, at, v)
        x = x + self.out(F.scaled_dot_product_attention(q, self.cache[0], self.cache[1], mask).transpose(1, 2).reshape(b, 1, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Decoder(nn.Module):
    def __init__(self, layers=12, d=1024, heads=16, length=256, words=32000):
        super().__init__()
        self.words = nn.Embedding(words, d)
        self.blocks = nn.ModuleList(Block(d, heads, length) for _ in range(layers))
        self.head = nn.Linear(d, words, bias=False)
        self.register_buffer("places", torch.arange(length))

    def forward(self, token, at):
        x, mask = self.words(token), (self.places <= at)[None, None, None]
        for block in self.blocks:
            x = block(x, at, mask)
        return self.head(x).argmax(-1)


def decoder():
    net = Decoder().to(DEVICE, torch.bfloat16).eval()
    return net, torch.zeros(1, 1, dtype=torch.long, device=DEVICE), torch.zeros(1, dtype=torch.long, device=DEVICE)


def decode():
    net, token, at = decoder()
    said = torch.zeros(256, dtype=torch.long, device=DEVICE)

    @torch.no_grad()
    def step():
        token.copy_(net(token, at))
        said.index_copy_(0, at, token.view(-1))
        at.add_(1)

    return measure("token of a 12-layer decoder", step, [said], count=100)


def graphs():
    net, token, at = decoder()
    said = torch.zeros(256, dtype=torch.long, device=DEVICE)

    def step():
        token.copy_(net(token, at))
        said.index_copy_(0, at, token.view(-1))
        at.add_(1)

    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    return measure("token of the decoder as a CUDA graph", graph.replay, [said], count=100)


def compiled():
    net = nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.LayerNorm(4096), nn.Linear(4096, 1024)).to(DEVICE).eval()
    x, out = torch.randn(256, 1024, device=DEVICE), []
    fast = torch.compile(net)

    @torch.no_grad()
    def step():
        out[:] = [fast(x)]

    step()
    with torch.no_grad():
        torch.testing.assert_close(out[0], net(x), rtol=1e-3, atol=1e-3)
    return measure("forward of a compiled network", step, out, count=50)


def mlp():
    net = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)).to(DEVICE)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    x, y = torch.randn(64, 256, device=DEVICE), torch.randint(10, (64,), device=DEVICE)

    def step():
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(net(x), y).backward()
        optimiser.step()

    return measure("training step of a small network", step, net.parameters, count=100)


class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return 512

    def __getitem__(self, i):
        return torch.full((3, 224, 224), i % 255, dtype=torch.uint8)


def loader():
    data = torch.utils.data.DataLoader(Pictures(), 64, num_workers=2, pin_memory=True, persistent_workers=True)
    total = torch.zeros((), dtype=torch.long, device=DEVICE)

    def step():
        for x in data:
            total.add_(x.to(DEVICE, non_blocking=True).sum())

    return measure("512 pictures from a pinned DataLoader", step, [total], warm=1, count=5)


def streams():
    side = [torch.cuda.Stream() for _ in range(4)]
    a = [torch.randn(1024, 1024, device=DEVICE) for _ in side]
    out = [torch.empty_like(m) for m in a]
    torch.cuda.synchronize()

    def step():
        done = []
        for s, m, o in zip(side, a, out):
            with torch.cuda.stream(s):
                for _ in range(4):
                    torch.mm(m, m, out=o)
                    o.tanh_()
                done.append(s.record_event())
        for e in done:
            torch.cuda.current_stream().wait_event(e)

    return measure("products in four streams", step, out)


def copies():
    size = 256 << 20
    pinned, plain = torch.empty(size, dtype=torch.uint8, pin_memory=True), torch.ones(size, dtype=torch.uint8)
    device = torch.empty(size, dtype=torch.uint8, device=DEVICE)

    def step():
        device.copy_(plain)
        pinned.copy_(device, non_blocking=True)
        torch.cuda.synchronize()
        device.copy_(pinned, non_blocking=True)

    return measure("256 MiB pageable in, pinned out and in", step, [device[:4096]], warm=2, count=5)


def other_process(to_child, from_child):
    """Doubles what it is sent, in place: the memory is the parent's, opened by CUDA IPC."""
    for t in iter(to_child.get, None):
        t.mul_(2)
        torch.cuda.synchronize()
        del t
        from_child.put(True)


def multiprocess():
    mp = torch.multiprocessing.get_context("spawn")
    to_child, from_child = mp.Queue(), mp.Queue()
    child = mp.Process(target=other_process, args=(to_child, from_child))
    child.start()
    x = torch.arange(1 << 20, dtype=torch.int64, device=DEVICE)

    def step():
        to_child.put(x)
        from_child.get(timeout=60)

    result = measure("8 MiB lent to another process and back", step, [x], warm=2, count=10)
    to_child.put(None)
    child.join(30)
    if child.exitcode != 0:
        sys.exit(f"the other process ended with status {child.exitcode}")
    return result


STEPS = {f.__name__: f for f in (mlp, decode, graphs, resnet50_train, resnet50_infer, compiled, streams, copies, loader, multiprocess)}


def main():
    if sys.argv[1:] == ["--list"]:
        print(*STEPS, sep="\n")
        return 0
    if len(sys.argv) < 2 or not set(sys.argv[1:]) <= set(STEPS):
        sys.exit(f"usage: torch_steps.py --list | STEP…, of {' '.join(STEPS)}")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    for step in sys.argv[1:]:
        torch.manual_seed(1)
        result = STEPS[step]()
        result.update(step=step, torch=torch.__version__, device=torch.cuda.get_device_name())
        print(json.dumps(result), flush=True)
        torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
