"""Linear layers with frozen int8 weights: a quarter of the memory, and products of integers.

`int8_products` says how a product is made. A few channels of a language model's activations are
hundreds of times the others, and would leave these a few steps of a scale. So each channel is
divided by c, and the weights multiplied by it (SmoothQuant: Xiao et al., ICML 2023, eq. 3):

    x Wᵀ = (x / c) (W c)ᵀ               c_j = rms(x_j)^½ / rms(W_j)^½, as seen on a few texts

Both sides are rounded to steps of one size, so the error in y has the mean square

    Σ_j s_W² x_j² / c_j² + s_x² W_j² c_j²      least at this c, for given steps

SmoothQuant takes the largest values in place of the root mean squares: then one value decides, and
twice the error is left. A token's values count in units of its own root mean square, as they are
rounded in units of its own scale.

Projections that read the same input (q, k and v; gate and up) quantise it once, and their products
are one.
"""

import functools
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from frugal.costs import layers
from frugal.errors import FrugalError
from frugal.internals import Conv1D
from frugal.kernels import int8_products as products

_QUIET = 0.1  # of the mean channel: less than this is not taken for a channel's size
KEPT = 8  # values of a weight, by which it is known
_STRIDE = 7919  # between them: a prime, so that they are of many rows and columns


class _Kept(NamedTuple):
    """Products that were made for one input and are not taken yet."""

    of: "weakref.ref[Tensor]"
    state: tuple[Any, ...]
    outputs: dict[int, Tensor]


class Joined(nn.Module):
    """The int8 weights of all linear maps that read the same input: one parameter, frozen for good.

    weights: (out, in) of each, in floats
    inputs:  (in,) rms of each channel over some texts, or None: no smoothing
    """

    weight: nn.Parameter  # (all outputs, in) q_W, int8
    scale: Tensor
    shrink: Tensor
    rest: Tensor
    finer: Tensor
    loud: Tensor

    def __init__(self, weights: Sequence[Tensor], inputs: Tensor | None) -> None:
        super().__init__()
        w = torch.cat([weight.detach().float() for weight in weights])
        self.sizes = [len(weight) for weight in weights]
        c = w.new_ones(w.shape[1])
        if inputs is not None and bool((inputs > 0).any()):
            # A channel that is quiet in a few texts may speak in others.
            inputs = inputs.float().clamp(min=inputs.float().mean() * _QUIET)
            c = (inputs / products.root_mean_square(w.T)[:, 0].clamp(min=1e-5)).sqrt()
        found = products.rounded(w, c)
        self.weight = nn.Parameter(found.q, requires_grad=False)
        for name, tensor in found._asdict().items():
            if name != "q":
                self.register_buffer(name, tensor)
        self._kept: _Kept | None = None

    @property
    def weights(self) -> products.Weights:
        """What the products take."""
        buffers = self.scale, self.shrink, self.rest, self.finer, self.loud
        return products.Weights(self.weight, *buffers)

    def forward(self, x: Tensor, index: int) -> Tensor:
        """(…, in) → (…, out) product of the map `index`; of all of them at the first one's call.

        Those of the others wait for their call with the same tensor, no longer than it exists.
        """
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        if len(self.sizes) == 1:
            return self._products(x, dtype)[0]
        version = None if x.is_inference() else x._version
        state = (version, dtype, x.requires_grad, torch.is_grad_enabled())
        kept = self._kept
        if (
            kept is None
            or kept.of() is not x
            or kept.state != state
            or (found := kept.outputs.pop(index, None)) is None
        ):
            outputs = dict(enumerate(self._products(x, dtype)))
            found = outputs.pop(index)
            self._kept = kept = _Kept(weakref.ref(x, self._forget), state, outputs)
        if not kept.outputs:
            self._kept = None
        return found

    def _products(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        if products.is_unrounded():
            parts = (x.float() @ products.dequantised(self.weights).T).to(dtype)
            return tuple(part.clone() for part in parts.split(self.sizes, dim=-1))
        found: tuple[Tensor, ...] = products.Product.apply(x, self.weights, self.sizes, dtype)
        return found

    def _forget(self, input: "weakref.ref[Tensor]") -> None:
        if self._kept is not None and self._kept.of is input:
            self._kept = None

    def _apply(self, fn: Any, recurse: bool = True) -> "Joined":
        """Moved like any module, but scales stay float32 when a model is cast."""
        self.weight = nn.Parameter(fn(self.weight.data), requires_grad=False)
        for name, tensor in self.named_buffers():
            setattr(self, name, tensor.to(self.weight.device))
        return self


class Int8Linear(nn.Module):
    """y = W x + b in place of a frozen `nn.Linear`, or of GPT-2's `Conv1D`, with W in int8.

    conv1d: whether it is in place of a `Conv1D`, which stores (in, out)
    sample: what `sample` says of the weight as it was
    """

    bias: nn.Parameter | None
    sample: Tensor

    def __init__(self, layer: Any, joined: Joined, index: int) -> None:
        super().__init__()
        self.conv1d = isinstance(layer, Conv1D)
        self.joined, self.index = joined, index
        self.register_parameter("bias", layer.bias)
        self.register_buffer("sample", sample(layer.weight))

    @property
    def in_features(self) -> int:
        return int(self.joined.weight.shape[1])

    @property
    def out_features(self) -> int:
        return self.joined.sizes[self.index]

    @property
    def weight(self) -> Tensor:
        """q_W, int8, laid out as in the layer in whose place it is; times c, without s_W."""
        q = self.joined.weight.split(self.joined.sizes)[self.index]
        return q.T if self.conv1d else q

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.joined(x, self.index)
        return y if self.bias is None else y.add_(self.bias)

    def extra_repr(self) -> str:
        joined = len(self.joined.sizes)
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, of {joined}"


def sample(weight: Any) -> Tensor:
    """(KEPT,) values of a tensor, at positions that depend on its size: they tell which it is."""
    steps = torch.arange(KEPT) * _STRIDE
    flat = weight.detach().reshape(-1)
    found: Tensor = flat[(steps % flat.numel()).to(flat.device)].float()
    return found


def quantised(linear: Sequence[nn.Module], inputs: Tensor | None = None) -> list[Int8Linear]:
    """What takes the place of `linear`, layers that read the same input.

    inputs: (in,) rms of each channel over some texts, for smoothing
    """
    weights = [_weight(layer) for layer in linear]
    joined = Joined(weights, inputs)
    return [Int8Linear(layer, joined, i) for i, layer in enumerate(linear)]


def _weight(layer: Any) -> Tensor:
    """(out, in)"""
    weight: Tensor = layer.weight
    return weight.T if isinstance(layer, Conv1D) else weight


def convert(model: Any, batches: Iterable[Mapping[str, Tensor]] = ()) -> None:
    """Put an `Int8Linear` in the place of every linear layer of a model's stacks, for good.

    Embeddings, the vocabulary, and weights that something shares stay as they are. Which layers
    read the same input, and how large its channels are, is seen while the model reads `batches`;
    without any, each layer is alone and nothing is smoothed.

    batches: arguments of the model's forward, such as {"input_ids": …}, without padding, whose
        values no text has; some 30 short texts do

    Raises FrugalError for a model without such layers, and one that has something attached.
    """
    owners: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    stacked = {id(m.module) for s in layers.stacks_of(model) for m in layers.matrices_of(s)}
    linear = {
        name: module
        for name, module in model.named_modules()
        if id(module) in stacked
        and type(module) in (nn.Linear, Conv1D)  # what is derived from them may do anything
        and owners[id(module.weight)] == 1
    }
    if not linear:
        raise FrugalError(f"{type(model).__name__} has no linear layer that could be int8")
    for name, module in linear.items():
        if module._forward_hooks or module._forward_pre_hooks:
            raise FrugalError(f"{name} has something attached; make the model int8 before")
    groups, inputs = _seen(model, linear, batches)
    for names in groups:
        layers_of = [linear[name] for name in names]
        for name, layer in zip(names, quantised(layers_of, inputs.get(names[0])), strict=True):
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, layer)


@torch.no_grad()
def _seen(
    model: Any, linear: Mapping[str, nn.Module], batches: Iterable[Mapping[str, Tensor]]
) -> tuple[list[list[str]], dict[str, Tensor]]:
    """Which layers of a module read the same tensor, and by name (in,) rms of each one's channels.

    Of a token in units of its own rms.
    """
    first = {name: name for name in linear}  # of those that read what `name` reads
    squares: dict[str, list[Tensor]] = {}  # (in,) mean squares in each text
    readers: dict[str, list[tuple[weakref.ref[Tensor], str]]] = {}  # by owner

    def look(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0]
        rows = x.float().flatten(0, -2)
        rows = rows / products.root_mean_square(rows).clamp(min=products.TINY)
        squares.setdefault(name, []).append(rows.square().mean(0))
        beside = readers.setdefault(name.rpartition(".")[0], [])
        first[name] = next((other for tensor, other in beside if tensor() is x), name)
        beside.append((weakref.ref(x), name))

    handles = [
        module.register_forward_pre_hook(functools.partial(look, name))
        for name, module in linear.items()
    ]
    try:
        for batch in batches:
            readers.clear()
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    groups: dict[str, list[str]] = {}
    for name, of in first.items():
        groups.setdefault(of, []).append(name)
    inputs = {name: torch.stack(of).mean(0).sqrt() for name, of in squares.items()}
    return list(groups.values()), inputs
