"""What a name of a precision means, and that "fastest" is measured and nothing else."""

import pytest
import torch
from torch.nn import functional as F

from frugal.errors import FrugalError
from frugal.kernels import precision
from frugal.kernels.precision import NAMES, resolve


@pytest.fixture
def machine(monkeypatch):
    """Makes a machine on which a product takes so many seconds."""

    def of(**taken):
        clock = [0.0]

        def work(name):
            clock[0] += taken[name]

        products = {name: lambda name=name: work(name) for name in NAMES}
        monkeypatch.setattr(precision, "_products", lambda device: products)
        monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
        return clock

    return of


@pytest.mark.parametrize("fastest", NAMES)
def test_the_fastest_of_the_machine_is_taken(machine, fastest):
    machine(**{name: 0.001 if name == fastest else 0.003 for name in NAMES})
    assert resolve("fastest") == fastest


def test_only_what_is_allowed_is_taken_and_measured(machine):
    machine(float32=0.004, bfloat16=0.002, int8=0.001)
    assert resolve("fastest", "cpu", ("float32", "bfloat16")) == "bfloat16"
    assert resolve("fastest", "cpu", ("float32",)) == "float32"
    assert set(precision.seconds("cpu", ("float32", "int8"))) == {"float32", "int8"}


def test_measuring_takes_a_tenth_of_a_second(machine):
    clock = machine(float32=0.004, bfloat16=0.002, int8=0.001)
    precision.seconds("cpu")
    assert 0.1 <= clock[0] < 0.12
    clock = machine(float32=1.0, bfloat16=5.0, int8=20.0)  # a first call and one that counts
    assert precision.seconds("cpu") == {"float32": 1.0, "bfloat16": 5.0, "int8": 20.0}
    assert clock[0] == 52


def test_a_slow_moment_is_no_verdict(machine):
    taken = {"float32": 0.004, "bfloat16": 0.002, "int8": 0.001}
    clock = machine(**taken)
    fast = precision._products("cpu")["int8"]
    calls = []

    def interrupted():
        calls.append(clock[0])
        fast()
        if len(calls) == 2:
            clock[0] += 0.05

    precision._products("cpu")["int8"] = interrupted
    assert resolve("fastest") == "int8"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_itself_and_nothing_is_measured(name, monkeypatch):
    monkeypatch.setattr(precision, "_products", None)
    assert resolve(name) == name


def test_what_does_not_exist_or_serve_is_refused():
    with pytest.raises(FrugalError, match=r"unknown precision 'int4'; did you mean 'int8'\?"):
        resolve("int4")
    with pytest.raises(FrugalError, match="'int8' does not serve here; float32, bfloat16 can"):
        resolve("int8", "cpu", ("float32", "bfloat16"))


def test_this_machine_has_a_fastest_one():
    taken = precision.seconds("cpu")
    assert set(taken) == set(NAMES)
    assert all(0 < t < 10 for t in taken.values())
    assert resolve("fastest") in NAMES


def test_products_are_in_bfloat16_and_attention_is_not_on_a_cpu():
    cpu, x = torch.device("cpu"), torch.randn(2, 3, 5, 8)
    exact = F.scaled_dot_product_attention(x, x, x)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with precision.products(name, cpu):
            assert (x @ x.mT).dtype == dtype
            half = x.to(dtype)
            found = F.scaled_dot_product_attention(half, half, value=half)
        assert found.dtype == torch.float32
        assert torch.allclose(found, exact, atol=0.02)
    assert (x @ x.mT).dtype == torch.float32
