# SPDX-License-Identifier: Apache-2.0
"""PyTorch in eager mode on the virtual GPU: each result against the CPU's."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from tap import Skip, run, test

cuda = torch.device("cuda")
torch.manual_seed(1)


def same(got, want, **tolerance):
    torch.testing.assert_close(got.cpu() if isinstance(got, torch.Tensor) else got, want, **tolerance)


def both(f, *tensors, **tolerance):
    same(f(*[t.to(cuda) for t in tensors]), f(*tensors), **tolerance)


@test("the device is there and says what it is")
def _():
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1
    p = torch.cuda.get_device_properties(0)
    assert p.total_memory > 0 and p.multi_processor_count > 0 and p.warp_size == 32, p
    free, total = torch.cuda.mem_get_info()
    assert 0 < free <= total
    return f"{p.name}, {p.major}.{p.minor}, {total >> 20} MiB, PyTorch {torch.__version__}"


@test("memory is allocated, counted, cached and given back")
def _():
    before = torch.cuda.memory_allocated()
    x = torch.empty(1 << 20, device=cuda)
    assert torch.cuda.memory_allocated() - before >= 4 << 20
    del x
    assert torch.cuda.memory_allocated() == before
    torch.cuda.empty_cache()
    try:
        torch.empty(1 << 42, dtype=torch.uint8, device=cuda)
    except torch.cuda.OutOfMemoryError:
        return
    raise AssertionError("4 TiB were allocated")


@test("copies: both ways, pinned, strided, between types, on the device")
def _():
    for dtype in (torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64):
        x = (torch.randn(257, 33) * 8).to(dtype)
        same(x.to(cuda), x)
        same(x.to(cuda).clone(), x)
    x = torch.randn(1 << 20).pin_memory()
    y = x.to(cuda, non_blocking=True)
    z = torch.empty_like(x).pin_memory()
    z.copy_(y, non_blocking=True)
    torch.cuda.synchronize()
    same(z, x)
    a = torch.randn(40, 50, 60)
    both(lambda t: t.permute(2, 0, 1).contiguous(), a)
    both(lambda t: t[3:30:3, ::7, 5:].clone(), a)
    both(lambda t: t.double().half().float(), a)
    b = a.to(cuda)
    b[::2, 1:40:3] = 5
    a[::2, 1:40:3] = 5
    same(b, a)


@test("element-wise operations")
def _():
    x, y = torch.randn(1000, 33), torch.rand(1000, 33) + 0.5
    for f in (lambda a, b: a + b * 2 - a / b, lambda a, b: torch.exp(a) * torch.log(b), lambda a, b: torch.tanh(a) + b ** 1.5,
              lambda a, b: torch.where(a > b, a, b), lambda a, b: torch.sigmoid(a) * torch.erf(b), torch.atan2, torch.fmod,
              lambda a, b: F.gelu(a) + F.silu(b), lambda a, b: a.clamp(-1, 1) + b.round(), torch.maximum,
              lambda a, b: torch.lerp(a, b, 0.3), lambda a, b: torch.addcmul(a, a, b, value=0.5)):
        both(f, x, y)
    n, m = torch.randint(-1000, 1000, (4097,)), torch.randint(1, 64, (4097,))
    for f in (torch.add, torch.mul, lambda a, b: a // b, torch.remainder, lambda a, b: (a & b) | (a ^ b),
              lambda a, b: a << (b % 8), torch.gcd, lambda a, b: (a > b) == (a != b)):
        both(f, n, m)
    both(lambda t: t[:, None] + t[None, :], torch.randn(77))


@test("reductions")
def _():
    x = torch.randn(67, 129, 31)
    for f in (torch.sum, torch.mean, torch.prod, torch.amax, torch.amin, torch.std, torch.var, torch.logsumexp):
        for dim in (0, 1, 2, (0, 2)):
            if f is torch.prod and not isinstance(dim, int):
                continue
            both(lambda t, f=f, dim=dim: f(t, dim), x, rtol=1e-4, atol=1e-4)
    both(lambda t: t.sum(), x, rtol=1e-4, atol=1e-3)
    both(lambda t: t.norm(), x, rtol=1e-5, atol=1e-5)
    both(lambda t: t.argmax(1), x)
    both(lambda t: t.max(2).indices, x)
    both(lambda t: (t > 3).any(1), x)
    both(lambda t: t.double().sum((0, 1)), x)
    both(lambda t: t.cumsum(1), x, rtol=1e-4, atol=1e-4)
    both(lambda t: t.cumprod(0), x[:9])
    both(lambda t: torch.median(t), x)
    both(lambda t: torch.histc(t, 20, -3, 3), x)
    both(lambda t: torch.bincount(t), torch.randint(0, 50, (5000,)))
    both(lambda t: (t > 0).sum(), x)


@test("indexing, gathering, scattering")
def _():
    x, i = torch.randn(50, 60), torch.randint(0, 50, (200,))
    both(lambda t, k: t[k], x, i)
    both(lambda t, k: t.index_select(0, k), x, i)
    both(lambda t: t[t > 0.5], x)
    both(lambda t: t.nonzero(), x > 1)
    both(lambda t, k: t.gather(0, k[:, None].expand(-1, 60)), x, i)
    both(lambda t, k: torch.zeros_like(t).index_add(0, k[:50], t), x, i, rtol=1e-4, atol=1e-4)
    both(lambda t, k: torch.zeros_like(t).scatter_add(0, k[:50, None].expand(-1, 60), t), x, i, rtol=1e-4, atol=1e-4)
    both(lambda t: t.masked_fill(t < 0, 7), x)
    both(lambda t: torch.take_along_dim(t, t.argsort(1), 1), x)
    both(lambda t: torch.cat([t, t * 2], 1).flip(0).roll(3, 1), x)
    both(lambda t: t.triu() + t.tril(-2), x)
    both(lambda t: F.embedding(torch.arange(40, device=t.device), t), x)
    y = x.to(cuda)
    y[i.to(cuda), 3] = 2.5
    x[i, 3] = 2.5
    same(y, x)


@test("sorting and searching")
def _():
    for n in (17, 1000, 5000):
        x = torch.randn(n)
        both(lambda t: t.sort().values, x)
        both(lambda t: t.argsort(stable=True), x.round(decimals=1))
    both(lambda t: t.sort(1, descending=True).values, torch.randn(20, 300))
    both(lambda t: t.topk(7, 1).values, torch.randn(20, 300))
    both(lambda t: t.unique(), torch.randint(0, 30, (1000,)))
    both(lambda t: torch.searchsorted(t, t + 0.01), torch.randn(100).sort().values)
    both(lambda t: torch.kthvalue(t, 5).values, torch.randn(100))


@test("softmax, losses, normalisation")
def _():
    x = torch.randn(64, 100)
    both(lambda t: F.softmax(t, 1), x)
    both(lambda t: F.log_softmax(t, 0), x)
    both(lambda t: F.softmax(t, 1), torch.randn(3, 5000))
    both(lambda t: F.layer_norm(t, (100,)), x)
    both(lambda t, w, b: F.layer_norm(t, (100,), w, b), x, torch.randn(100), torch.randn(100))
    both(lambda t: F.group_norm(t.view(4, 16, 100), 4), x)
    both(lambda t, k: F.cross_entropy(t, k), x, torch.randint(0, 100, (64,)))
    both(lambda t: F.mse_loss(t, torch.zeros_like(t)), x)
    both(lambda t: F.smooth_l1_loss(t, torch.ones_like(t)), x)
    both(lambda t: F.binary_cross_entropy_with_logits(t, (t > 0).float()), x)
    both(lambda t: F.normalize(t, dim=1), x)
    both(lambda t: F.max_pool2d(t.view(1, 4, 16, 100), 2), x)
    both(lambda t: F.avg_pool2d(t.view(1, 4, 16, 100), 2), x)
    both(lambda t: F.interpolate(t.view(1, 4, 16, 100), scale_factor=2, mode="bilinear"), x)


@test("batch norm without cuDNN")
def _():
    x = torch.randn(8, 16, 9, 9)
    with torch.backends.cudnn.flags(enabled=False):
        both(lambda t: F.batch_norm(t, None, None, training=True), x)
        both(lambda t: F.batch_norm(t, t.new_zeros(16), t.new_ones(16)), x)


@test("random numbers: the generator's sequence and its moments")
def _():
    torch.cuda.manual_seed(5)
    a = torch.rand(100000, device=cuda)
    b = torch.randn(100000, device=cuda)
    torch.cuda.manual_seed(5)
    same(torch.rand(100000, device=cuda), a.cpu())
    assert abs(a.mean().item() - 0.5) < 0.01 and abs(b.mean().item()) < 0.02 and abs(b.std().item() - 1) < 0.02
    assert 0 <= a.min().item() and a.max().item() < 1
    p = torch.randperm(1000, device=cuda)
    same(p.sort().values, torch.arange(1000))
    assert abs(F.dropout(torch.ones(100000, device=cuda), 0.3).mean().item() - 1) < 0.02


def products(a, b):
    """A product that asks no library: element-wise and a sum."""
    return (a.unsqueeze(2) * b.unsqueeze(0)).sum(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(20, 32) / math.sqrt(20))
        self.b1 = nn.Parameter(torch.zeros(32))
        self.norm = nn.LayerNorm(32)
        self.w2 = nn.Parameter(torch.randn(32, 5) / math.sqrt(32))

    def forward(self, x):
        return products(F.gelu(self.norm(products(x, self.w1) + self.b1)), self.w2)


def train(device, optimiser, steps=10, **args):
    torch.manual_seed(7)
    net = Net()
    x, y = torch.randn(16, 20), torch.randint(0, 5, (16,))
    net, x, y = net.to(device), x.to(device), y.to(device)
    o = optimiser(net.parameters(), **args)
    losses = []
    for _ in range(steps):
        o.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        o.step()
        losses.append(loss.item())
    return losses, [p.detach().cpu() for p in net.parameters()]


for name, optimiser, args in (
        ("SGD", torch.optim.SGD, {"lr": 0.1}), ("SGD with momentum", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        ("SGD, one tensor at a time", torch.optim.SGD, {"lr": 0.1, "foreach": False}),
        ("Adam", torch.optim.Adam, {"lr": 0.01}), ("Adam, fused", torch.optim.Adam, {"lr": 0.01, "fused": True}),
        ("Adam, one tensor at a time", torch.optim.Adam, {"lr": 0.01, "foreach": False}),
        ("AdamW", torch.optim.AdamW, {"lr": 0.01})):
    @test(f"ten training steps of a small MLP, {name}: losses and weights as on the CPU")
    def _(optimiser=optimiser, args=args):
        want, weights = train("cpu", optimiser, **args)
        got, gpu_weights = train("cuda", optimiser, **args)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        for g, w in zip(gpu_weights, weights):
            torch.testing.assert_close(g, w, rtol=1e-3, atol=1e-4)
        assert got[-1] < got[0]


@test("autograd through many operations, gradients as on the CPU")
def _():
    def grads(device):
        torch.manual_seed(3)
        a, b = torch.randn(12, 30), torch.rand(12, 30) + 0.5
        a, b = a.to(device).requires_grad_(), b.to(device).requires_grad_()
        z = (torch.tanh(a) * torch.log(b) + F.softmax(a, 1) / b + torch.cumsum(a * b, 1)).pow(2)
        (z.sum() + F.layer_norm(a, (30,)).std() + a.sort(1).values[:, ::3].sum() + b.norm() + a[a > 0].prod()).backward()
        return a.grad.cpu(), b.grad.cpu()
    for g, w in zip(grads("cuda"), grads("cpu")):
        torch.testing.assert_close(g, w, rtol=1e-3, atol=1e-3)


@test("streams, events, timing")
def _():
    s = torch.cuda.Stream()
    x = torch.randn(1000, device=cuda)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    s.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(s):
        start.record()
        y = x * 2
        z = y + 1
        end.record()
    torch.cuda.current_stream().wait_stream(s)
    same(z, x.cpu() * 2 + 1)
    end.synchronize()
    assert end.query() and start.elapsed_time(end) >= 0


@test("cuBLAS: products in float, double, half and bfloat16, from the PTX that the library carries")
def _():
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)):
        for m, n, k in ((16, 16, 16), (33, 65, 17), (128, 64, 96)):
            a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
            try:
                got = a.to(cuda) @ b.to(cuda)
            except RuntimeError as e:
                assert "CUBLAS" in str(e) or "CUDA error" in str(e), e
                torch.randn(4, device=cuda).sum().item()
                raise Skip(f"{dtype} {m}x{n}x{k}: refused: {str(e).splitlines()[0]}")
            torch.testing.assert_close(got.cpu().double(), a.double() @ b.double(), rtol=tolerance, atol=tolerance * 10)


@test("cuDNN, which has machine code only: refused by name, and the process lives on")
def _():
    x, w = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3)
    try:
        got = F.conv2d(x.to(cuda), w.to(cuda))
    except RuntimeError as e:
        assert "cuDNN" in str(e) or "CUDNN" in str(e) or "CUDA error" in str(e), e
        same(torch.ones(3, device=cuda) * 2, torch.full((3,), 2.0))
        return str(e).splitlines()[0]
    same(got, F.conv2d(x, w), rtol=1e-3, atol=1e-3)
    return "it ran, and right"


@test("convolution without cuDNN")
def _():
    with torch.backends.cudnn.flags(enabled=False):
        both(lambda a, b: F.conv2d(a, b, padding=1), torch.randn(2, 3, 12, 12), torch.randn(4, 3, 3, 3), rtol=1e-4, atol=1e-4)


run()
