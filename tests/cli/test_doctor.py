"""What `frugal doctor` finds: a kernel that is wrong on a machine above all."""

import json

import torch

from frugal.kernels import checks, frozen_vocab, int8_products, precision


def test_doctor_says_what_is_here(frugal):
    status, out, _ = frugal("doctor", "--json")
    found = json.loads(out)
    assert status == 0
    rates = {p["name"]: p["gflops"] for p in found["precisions"]}
    assert set(rates) == set(precision.NAMES)
    assert min(rates.values()) > 0
    assert found["fastest"] == max(rates, key=rates.get)
    assert {"int8", "int8 gradient", "frozen_vocab"} <= {
        k["name"].partition(",")[0] for k in found["kernels"]
    }
    assert all(k["ok"] and k["error"] <= checks.EXACT for k in found["kernels"])
    assert found["cores"] >= 1
    assert isinstance(found["instructions"], list)


def test_a_kernel_that_is_wrong_is_told(frugal, monkeypatch):
    def wrong(*arguments):
        return frozen_vocab.reference(*arguments) * 1.001

    def broken(*_):
        raise RuntimeError("no such instruction")

    for form, shown in ((wrong, 1e-3), (broken, None)):
        monkeypatch.setattr(frozen_vocab, "token_logp", form)
        status, out, err = frugal("doctor", "--json")
        assert status == 2
        assert "wrong on this machine: frozen_vocab" in err
        (error,) = (
            k["error"] for k in json.loads(out)["kernels"] if k["name"].startswith("frozen_vocab,")
        )
        assert error is None if shown is None else 5e-4 < error < 5e-3


def test_a_result_that_is_no_number_is_wrong():
    assert not checks.Check("a kernel", float("nan"), 1.0).ok
    assert checks.Check("a kernel", 0.0, 0.0).ok
    assert checks._apart(torch.ones(2), torch.full((2,), 2.0)) == 0.5


def test_a_precision_whose_kernel_is_wrong_is_not_allowed(frugal, monkeypatch):
    monkeypatch.setattr(int8_products, "reference", lambda x, of: x.new_ones(len(x), len(of.q)))
    status, out, _ = frugal("doctor", "--json")
    assert status == 2
    allowed = {p["name"]: p["allowed"] for p in json.loads(out)["precisions"]}
    assert allowed == {"float32": True, "bfloat16": True, "int8": False}
    assert json.loads(out)["fastest"] != "int8"
