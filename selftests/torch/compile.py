# SPDX-License-Identifier: Apache-2.0
"""
The newest wheel for CUDA 13 (torch-env --newest). Its own kernels are machine code for real GPUs only: refused by name. What
it compiles itself, by Triton, comes as PTX and runs: TRITON_PTXAS_PATH leads to selftests/torch/ptxas.
"""
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch.cuda.green_contexts import GreenContext
from torch.profiler import ProfilerActivity, profile

from tap import run, test

cuda = torch.device("cuda")


def same(got, want, **tolerance):
    torch.testing.assert_close(got.cpu(), want, **tolerance)


def never_time():
    """Choosing among variants by time needs PyTorch's own kernels, and here means nothing: the first one is as good."""
    from torch._inductor.runtime import triton_heuristics
    triton_heuristics.CachingAutotuner.bench = lambda self, *args, **kwargs: 1.0


def compiled(f, *tensors, **tolerance):
    torch._dynamo.reset()
    got = torch.compile(f, dynamic=False)(*[t.to(cuda) for t in tensors])
    same(got, f(*tensors), **tolerance)


@test("the device is there; memory is allocated and copied")
def _():
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1
    x = torch.randn(1 << 16)
    same(x.to(cuda), x)
    same(x.pin_memory().to(cuda, non_blocking=True), x)
    return f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}"


@test("a kernel that is machine code only is refused by name, again and again, and the process lives on")
def _():
    x = torch.randn(8).to(cuda)
    for _ in range(3):
        try:
            x + x
        except RuntimeError as e:
            assert "no kernel image is available" in str(e), e
        else:
            raise AssertionError("it ran")
    same(x, x.cpu())
    return "CUDA error: no kernel image is available for execution on the device"


@test("cuBLAS: the same")
def _():
    x = torch.randn(8, 8).to(cuda)
    try:
        got = x @ x
    except RuntimeError as e:
        assert "CUBLAS" in str(e) or "no kernel image" in str(e), e
        same(x, x.cpu())
        return str(e).splitlines()[0]
    same(got, x.cpu() @ x.cpu(), rtol=1e-4, atol=1e-4)
    return "it ran, and right"


@test("torch.compile: element-wise, softmax, layer norm, a sum")
def _():
    compiled(lambda x, w: F.layer_norm(F.softmax(x * w + 1, -1), (64,)).sum(0), torch.randn(32, 64), torch.randn(64))


@test("torch.compile: many operations, several types")
def _():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        compiled(lambda x: torch.tanh(x) + torch.exp(-x.abs()) * torch.sigmoid(x) - F.gelu(x), torch.randn(50, 40).to(dtype),
                 rtol=2e-2, atol=2e-2)
    compiled(lambda x: (x * 3) // 7 + (x % 5) ^ (x << 1), torch.randint(0, 1000, (333,)))


@test("torch.compile: indexing, gathering, reductions")
def _():
    compiled(lambda x, i: x[i].cumsum(0).amax(1) + x.mean(1)[i], torch.randn(50, 33), torch.randint(0, 50, (70,)),
             rtol=1e-4, atol=1e-4)
    compiled(lambda x: x.var(1) + x.argmax(1) + (x > 0).sum(1), torch.randn(40, 300))


@test("torch.compile: steps of SGD and Adam, forward and backward, as on the CPU")
def _():
    def products(a, b):
        return (a.unsqueeze(2) * b.unsqueeze(0)).sum(1)

    def sgd(x, y, w1, w2):
        h = torch.tanh(products(x, w1))
        d = 2 * (products(h, w2) - y) / y.numel()
        g1 = products(x.t(), products(d, w2.t()) * (1 - h * h))
        return torch.cat([(w1 - 0.1 * g1).flatten(), (w2 - 0.1 * products(h.t(), d)).flatten()])

    def adam(w, g, m, v):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return w - 0.01 * (m / 0.1) / ((v / 0.001).sqrt() + 1e-8)

    compiled(sgd, torch.randn(16, 8), torch.randn(16, 4), torch.randn(8, 12), torch.randn(12, 4), rtol=1e-4, atol=1e-5)
    compiled(adam, *[torch.randn(500) for _ in range(3)], torch.rand(500), rtol=1e-4, atol=1e-5)


@triton.jit
def twice(src, dst, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(dst + i, tl.load(src + i, mask=i < n) * 2, mask=i < n)


@test("green contexts: kernels and copies in one, and in a stream of it")
def _():
    def doubled(x):
        y = torch.empty_like(x)
        twice[(4,)](x, y, x.numel(), BLOCK=256)
        return y

    x = torch.randn(1000)
    on_gpu = x.to(cuda)
    green = GreenContext.create(num_sms=1, device_id=0)
    green.set_context()
    inside = doubled(on_gpu).clone()
    same(inside, x * 2)
    green.pop_context()
    same(inside, x * 2)
    stream = green.Stream()
    with torch.cuda.stream(stream):
        inside = doubled(on_gpu)
    stream.synchronize()
    same(inside, x * 2)
    del green, stream
    same(doubled(on_gpu), x * 2)


@test("the profiler finds nothing of the GPU here, and tells the host's part")
def _():
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as p:
        x = torch.zeros(1000).to(cuda)
        torch.cuda.synchronize()
        with torch.no_grad():
            (torch.ones(8) + 1).sum()
    names = {e.key for e in p.key_averages()}
    assert {"aten::add", "aten::sum"} <= names, names
    same(x, torch.zeros(1000))


never_time()
run()
