# SPDX-License-Identifier: Apache-2.0
"""
A sweep over PyTorch's operators: each element-wise operation in each type, and each reduction, against the CPU.

One test per operation. A type that the CPU has not is left out; one that PyTorch has on the CPU only is counted as such.
"""
import torch

from tap import run, test

cuda = torch.device("cuda")
TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool,
         torch.complex64)
TOLERANCE = {torch.float32: (2e-5, 2e-5), torch.float64: (1e-9, 1e-9), torch.float16: (4e-3, 4e-3),
             torch.bfloat16: (3e-2, 6e-2), torch.complex64: (1e-4, 1e-4)}

UNARY = """abs acos acosh angle asin asinh atan atanh bitwise_not ceil conj_physical cos cosh deg2rad digamma erf erfc erfinv
exp exp2 expm1 floor frac i0 isfinite isinf isnan isneginf isposinf isreal lgamma log log10 log1p log2 logical_not logit
nan_to_num neg positive rad2deg reciprocal relu round rsqrt sgn sigmoid sign signbit sin sinc sinh sqrt square tan tanh
trunc real imag clone zeros_like ones_like bernoulli_shape""".split()
UNARY.remove("bernoulli_shape")
SPECIAL = """airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 entr erfcx i0e i1 i1e log_ndtr modified_bessel_i0 modified_bessel_i1
modified_bessel_k0 modified_bessel_k1 ndtr ndtri psi scaled_modified_bessel_k0 spherical_bessel_j0""".split()
# Computed with constants of single precision in every type, in PyTorch's CUDA code.
COARSE = ("hardsigmoid", "hardswish")
BINARY = """add sub mul div true_divide floor_divide remainder fmod pow maximum minimum fmax fmin atan2 hypot copysign nextafter
logaddexp logaddexp2 eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor
bitwise_left_shift bitwise_right_shift gcd lcm heaviside ldexp xlogy float_power igamma igammac dist isclose""".split()
FUNCTIONAL = """celu elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu6 rrelu selu silu softplus
softshrink softsign tanhshrink threshold softmin softmax log_softmax normalize glu""".split()
REDUCE = """sum mean prod amax amin aminmax all any argmax argmin std var norm logsumexp cumsum cumprod cummax cummin logcumsumexp
median mode nansum nanmean count_nonzero sort argsort diff flip trapezoid unique std_mean var_mean""".split()


def values(dtype, positive=False):
    torch.manual_seed(11)
    if dtype is torch.bool:
        return torch.rand(7, 37) > 0.5
    if not dtype.is_floating_point and not dtype.is_complex:
        return torch.randint(1 if positive else (0 if dtype is torch.uint8 else -20), 20, (7, 37)).to(dtype)
    x = torch.randn(7, 37, dtype=torch.float64) * 3
    if positive:
        x = x.abs() + 0.25
    if dtype.is_complex:
        return torch.complex(x, torch.randn(7, 37, dtype=torch.float64)).to(dtype)
    return x.to(dtype)


def flat(r):
    if isinstance(r, torch.Tensor):
        return [r]
    if isinstance(r, (tuple, list)):
        return [t for e in r for t in flat(e)]
    return []


def compare(f, types, positive, coarse):
    good, none, bad = [], [], []
    for dtype in types:
        args = [values(dtype, p) for p in positive]
        name = str(dtype).replace("torch.", "")
        try:
            want = flat(f(*args))
        except (RuntimeError, TypeError, NotImplementedError):
            continue
        try:
            got = [t.cpu() for t in flat(f(*[a.to(cuda) for a in args]))]
        except NotImplementedError as e:
            none.append(name)
            continue
        except RuntimeError as e:
            # PyTorch's own words for a type that it has no kernel for; a refusal of the driver's is "CUDA error: ... not supported".
            if "CUDA error" not in str(e) and ("not implemented for" in str(e) or "not support" in str(e)):
                none.append(name)
            else:
                bad.append(f"{name}: {' '.join(str(e).split())[-150:]}")
            continue
        try:
            assert len(got) == len(want)
            for g, w in zip(got, want):
                rtol, atol = TOLERANCE.get(torch.float32 if coarse and dtype is torch.float64 else dtype, (1e-5, 1e-5))
                torch.testing.assert_close(g, w, rtol=rtol, atol=atol, equal_nan=True)
            good.append(name)
        except AssertionError as e:
            bad.append(f"{name}: " + " ".join(str(e).split())[:160])
    return good, none, bad


totals = {"operations": 0, "right": 0, "none": 0, "wrong": 0}


def add(what, f, types=TYPES, positive=(False,), coarse=False):
    @test(what)
    def _():
        good, none, bad = compare(f, types, positive, coarse)
        totals["operations"] += 1
        totals["right"] += len(good)
        totals["none"] += len(none)
        totals["wrong"] += len(bad)
        assert not bad, "\n".join(bad)
        return " ".join(good) + (f" (not on CUDA in PyTorch: {' '.join(none)})" if none else "")


for n in UNARY:
    add(n, getattr(torch, n))
for n in SPECIAL:
    add("special." + n, getattr(torch.special, n), TYPES[:2])
for n in ("digamma", "lgamma", "log", "sqrt", "rsqrt", "log2", "log10", "reciprocal"):
    add(n + " of positive numbers", getattr(torch, n), TYPES, (True,))
add("polygamma", lambda x: torch.polygamma(2, x), TYPES, (True,))
add("mvlgamma", lambda x: torch.mvlgamma(x + 2, 2), TYPES, (True,))
add("special.zeta", torch.special.zeta, TYPES[:2], (True, True))
for n in BINARY:
    add(n, getattr(torch, n), TYPES, (n in ("pow", "float_power", "igamma", "igammac", "xlogy"), True))
for n in FUNCTIONAL:
    if n == "rrelu":
        continue
    f = getattr(torch.nn.functional, n)
    if n in ("softmin", "softmax", "log_softmax"):
        add("nn.functional." + n, lambda x, f=f: f(x, dim=1))
    elif n == "threshold":
        add("nn.functional." + n, lambda x, f=f: f(x, 0.5, 2))
    elif n == "glu":
        add("nn.functional." + n, lambda x, f=f: f(x[:, :36], 1))
    else:
        add("nn.functional." + n, f, coarse=n in COARSE)
for n in REDUCE:
    f = getattr(torch, n)
    if n in ("count_nonzero", "flip"):
        add(n, lambda x, f=f: f(x, (0,)))
    elif n in ("aminmax", "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "logsumexp"):
        add(n, lambda x, f=f, n=n: f(x, dim=0))
    elif n in ("unique",):
        add(n, f)
    elif n == "median":
        add(n, lambda x, f=f: f(x, 1).values)
    elif n == "mode":  # any of several that are as frequent: how often it occurs is compared
        add(n, lambda x: (x == x.mode(1, keepdim=True).values).sum(1))
    elif n in ("sort",):
        add(n, lambda x, f=f: f(x, stable=True))
    elif n in ("argsort",):
        add(n, lambda x, f=f: f(x, stable=True))
    elif n in ("diff", "trapezoid", "norm"):
        add(n, f)
    elif n in ("argmax", "argmin"):
        add(n, lambda x, f=f: f(x, 1) if x.is_floating_point() else x.gather(1, f(x, 1, keepdim=True)))
    else:
        add(n, lambda x, f=f: f(x, 0))
add("where", lambda a, b: torch.where(a > b, a, b), TYPES, (False, True))
add("clamp", lambda a, b: torch.clamp(a, max=b), TYPES, (False, True))
add("lerp", lambda a, b: torch.lerp(a, b, 0.25), TYPES, (False, True))
add("addcmul", lambda a, b: torch.addcmul(a, a, b, value=2), TYPES, (False, True))
add("addcdiv", lambda a, b: torch.addcdiv(a, a, b, value=2), TYPES, (False, True))
add("masked_fill", lambda a, b: a.masked_fill(b > 5, 1), TYPES, (False, True))
add("masked_select", lambda a, b: a.masked_select(b > 5), TYPES, (False, True))
add("index_select", lambda a: a.index_select(1, torch.tensor([3, 1, 30], device=a.device)))
add("gather", lambda a: a.gather(1, torch.arange(7, device=a.device)[:, None]))
add("take", lambda a: a.take(torch.tensor([0, 100, 3], device=a.device)))
add("tril", torch.tril)
add("roll", lambda a: a.roll(5, 1))
add("repeat", lambda a: a.repeat(3, 2))
add("outer", lambda a: torch.outer(a[0], a[1]))
add("cross", lambda a: torch.cross(a[:, :3], a[:, 3:6], dim=1))
add("fill", lambda a: torch.full_like(a, 3))
add("arange", lambda a: torch.arange(0, 100, 3, device=a.device, dtype=a.dtype))
add("linspace", lambda a: torch.linspace(0, 100, 31, device=a.device, dtype=a.dtype))
for to in TYPES:
    add(f"conversion to {str(to)[6:]}", lambda a, to=to: a.to(to), TYPES, (True,))


@test("the sum of it")
def _():
    return (f"{totals['operations']} operations, {totals['right']} operation-type pairs as on the CPU, "
            f"{totals['wrong']} not, {totals['none']} that PyTorch has on the CPU only")


run()
