# SPDX-License-Identifier: Apache-2.0
"""A device-side assertion: told with its text, and it sticks, as CUDA's does. The process ends with it."""
import torch

from tap import run, test


@test("an index out of bounds is a device-side assert")
def _():
    x = torch.randn(10, device="cuda")
    i = torch.tensor([3, 11], device="cuda")
    try:
        x[i].cpu()
    except RuntimeError as e:
        assert "device-side assert" in str(e), e
        return
    raise AssertionError("nothing was raised")


@test("and every later call fails with it")
def _():
    try:
        torch.ones(3, device="cuda").cpu()
    except RuntimeError as e:
        assert "device-side assert" in str(e), e
        return
    raise AssertionError("the context still works")


run()
