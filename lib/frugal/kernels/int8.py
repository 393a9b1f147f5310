"""Linear maps with frozen int8 weights: a quarter of the memory, and products of integers.

    y = (q_x q_Wᵀ) ⊙ s_x s_W + b        x ≈ q_x s_x, W ≈ q_W s_W, all q in -127 … 127

q_W (out, in) has a scale s_W for each output channel; q_x (tokens, in) is made of the input as it
comes, with a scale s_x for each token, so that a token's values depend on that token alone. The
product of integers is exact. The weights are frozen; the gradient that goes on below is

    dL/dx = (q_g q_W) ⊙ s_g / c         g = dL/dy ⊙ s_W ≈ q_g s_g, a scale for each token

Smoothing (SmoothQuant: Xiao et al., ICML 2023, eq. 4 with α = ½): a few channels of a language
model's activations are hundreds of times the others, and would leave these a few steps of a scale.
They are divided by c, and the weights multiplied by it:

    x Wᵀ = (x / c) (W c)ᵀ               c_j = max|x_j|^½ / max|W_j|^½, as seen on a few texts

A token whose largest value is still beyond 16 times its root mean square is rounded twice on the
way forward: what the first rounding leaves gets a scale of its own, and its product is added. In
SmolLM2-135M these are 3 to 16 of a hundred, first of all the first of a text, on which attention
rests; half of what int8 changed came of them. The gradient is rounded once.

Projections that read the same input (q, k and v; gate and up) quantise it once, and their products
are one.
"""

import contextlib
import contextvars
import functools
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from frugal.costs import layers
from frugal.errors import FrugalError

LEVELS = 127  # of either sign; -128 is not used, so that both are alike
LOUD = 16  # times the root mean square: an ordinary value would be left fewer than 8 levels
_TINY = 1e-30  # in place of a largest value of 0; 127 / 1e-30 is still a float32
_QUIET = 0.1  # of the mean channel: less than this is not taken for a channel's largest value
KEPT = 8  # values of a weight, by which it is known
_STRIDE = 7919  # between them: a prime, so that they are of many rows and columns


def reference(
    x: Tensor, weight: Tensor, scale: Tensor, shrink: Tensor, loud: float = LOUD
) -> Tensor:
    """(tokens, in) → (tokens, out): each step by itself; what the fast form must equal.

    weight: (out, in) q_W; scale: (out,) s_W; shrink: (in,) 1/c; loud: see LOUD

    The gradient is this too, of dL/dy, with q_Wᵀ, the two scales in each other's place, and
    `loud` infinite.
    """

    def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
        largest = x.abs().amax(-1, keepdim=True).clamp(min=_TINY)
        return torch.round(x * (LEVELS / largest)), largest / LEVELS

    x = x.float() * shrink
    q, s = rounded(x)
    y = (q.double() @ weight.double().T).float() * s
    more, finer = rounded(x - q * s)
    again = x.abs().amax(-1, keepdim=True) > loud * _root_mean_square(x)
    y = torch.where(again, y + (more.double() @ weight.double().T).float() * finer, y)
    return y * scale


def multiply_(x: Tensor, w: Tensor) -> Tensor:
    """(m, k) float32, which is overwritten, times (k, n) int8 → (m, n) float32."""
    q, s = quantise_(x, _largest(x))
    return _floats_(product(q, w)).mul_(s)


def multiply_finely_(x: Tensor, w: Tensor) -> Tensor:
    """As `multiply_`, with the loud rows rounded twice."""
    largest = _largest(x)
    loud = (largest > LOUD * _root_mean_square(x)).nonzero()[:, 0]
    if not len(loud):
        return multiply_(x, w)
    rest = x.index_select(0, loud)
    q, s = quantise_(x, largest)
    rest -= x.index_select(0, loud) * s.index_select(0, loud)  # x is round(x / s) by now
    more, finer = quantise_(rest, _largest(rest))
    y = _floats_(product(torch.cat([q, more]), w)).mul_(torch.cat([s, finer]))
    return y[: len(x)].index_add_(0, loud, y[len(x) :])


def quantise_(x: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, n) float32, which becomes q → q as int8, s (rows, 1): |x - q s| ≤ s / 2.

    largest: (rows, 1) max|x|; where it is not finite, so is s
    """
    q = x.mul_(LEVELS / largest).round_()  # q = round(x / s)
    return q.to(torch.int8), largest / LEVELS  # s = max|x| / 127


def _floats_(y: Tensor) -> Tensor:
    """int32 → float32 in the same memory: fresh memory of that size takes longer than the work."""
    return y.view(torch.float32).copy_(y)


def _apart(y: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """The next n of the last axis for each n of `sizes`, in the same memory.

    They are no views, so that whoever gets one may change it in place, as a layer's own output.
    """
    return tuple(
        y.new_empty(0).set_(y.untyped_storage(), part.storage_offset(), part.shape, part.stride())
        for part in y.split(sizes, dim=-1)
    )


def _largest(x: Tensor) -> Tensor:
    """(rows, 1) max|x|, in two passes that write nothing."""
    return torch.maximum(x.amax(-1, keepdim=True), -x.amin(-1, keepdim=True)).clamp_(min=_TINY)


def _root_mean_square(x: Tensor) -> Tensor:
    """(rows, 1) root of the mean square."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm * x.shape[-1] ** -0.5


def product(a: Tensor, b: Tensor) -> Tensor:
    """(m, k) int8 times (k, n) int8 → (m, n) int32, exact, on integer units where there are any."""
    if not _integer_units(a.device.type):
        return _by_floats(a, b)
    if a.is_cuda:  # takes more than 16 rows, and multiples of 8 elsewhere
        return _padded(a, b)
    return torch._int_mm(_plain(a), _plain(b))


def _plain(t: Tensor) -> Tensor:
    """The same matrix, whose strides are those of its shape also where a dimension is 1.

    torch's product on CPU takes them at their word, and else returns nonsense (pytorch #195066).
    """
    rows, columns = t.shape
    return t.as_strided((rows, columns), (columns, 1) if t.is_contiguous() else (1, rows))


def _padded(a: Tensor, b: Tensor) -> Tensor:
    (m, k), n = a.shape, b.shape[1]
    a = nn.functional.pad(a, (0, -k % 8, 0, max(0, 17 - m)))
    b = nn.functional.pad(b, (0, -n % 8, 0, -k % 8))
    return torch._int_mm(_plain(a), _plain(b))[:m, :n]


def _by_floats(a: Tensor, b: Tensor) -> Tensor:
    """As `product`: sums of 1,024 products are below 2²⁴, and so exact in float32."""
    parts = zip(a.split(1024, dim=1), b.split(1024, dim=0), strict=True)
    with torch.autocast(a.device.type, enabled=False):
        found = [(x.float() @ y.float()).int() for x, y in parts]
    return torch.stack(found).sum(0, dtype=torch.int32)


@functools.cache
def _integer_units(device: str) -> bool:
    """Whether torch multiplies int8 there, and exactly: in some processors sums of two saturate."""
    a = torch.full((32, 64), LEVELS, dtype=torch.int8, device=device)
    a[::2] = -LEVELS
    try:
        return all(torch.equal(torch._int_mm(a, b), _by_floats(a, b)) for b in (a.T, a.T.clone()))
    except (RuntimeError, NotImplementedError):
        return False


_unrounded = contextvars.ContextVar("unrounded", default=False)


@contextlib.contextmanager
def unrounded() -> Iterator[None]:
    """While this lasts, inputs are not rounded, and products are of floats.

    A rounding turns a difference in the last digit into one of a whole step. What should be equal
    but for the order of sums, as two ways to the same answer, is compared without it.
    """
    token = _unrounded.set(True)
    try:
        yield
    finally:
        _unrounded.reset(token)


class _Product(torch.autograd.Function):
    """(…, in) → a tensor (…, n) for each of `sizes`, the next n output channels of `weight`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        shrink: Tensor,
        sizes: Sequence[int],
        dtype: torch.dtype,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(weight, scale, shrink)
        ctx.sizes, ctx.like = sizes, (x.shape, x.dtype)
        ctx.set_materialize_grads(False)
        y = multiply_finely_(x.reshape(-1, x.shape[-1]) * shrink, weight.T)  # (q_x q_Wᵀ) ⊙ s_x
        y = y.mul_(scale).to(dtype).view(*x.shape[:-1], len(weight))  # ⊙ s_W
        return _apart(y, sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        weight, scale, shrink = ctx.saved_tensors
        shape, dtype = ctx.like
        g = scale.new_empty(shape[:-1].numel(), len(weight))
        for part, of, gradient in zip(
            g.split(ctx.sizes, dim=1), scale.split(ctx.sizes), gradients, strict=True
        ):
            if gradient is None:
                part.zero_()
            else:
                torch.mul(gradient.reshape(part.shape), of, out=part)  # g = dL/dy ⊙ s_W
        x = multiply_(g, weight).mul_(shrink)  # (q_g q_W) ⊙ s_g / c
        return x.to(dtype).view(shape), None, None, None, None, None


class _Kept(NamedTuple):
    """Products that were made for one input and are not taken yet."""

    of: "weakref.ref[Tensor]"
    state: tuple[Any, ...]
    outputs: dict[int, Tensor]


class Joined(nn.Module):
    """The int8 weights of all linear maps that read the same input: one parameter, frozen for good.

    weights: (out, in) of each, in floats
    inputs:  (in,) max|x_j| over some texts, or None: no smoothing
    """

    weight: nn.Parameter  # (all outputs, in) q_W, int8
    scale: Tensor  # (all outputs,) s_W
    shrink: Tensor  # (in,) 1/c

    def __init__(self, weights: Sequence[Tensor], inputs: Tensor | None) -> None:
        super().__init__()
        w = torch.cat([weight.detach().float() for weight in weights])
        self.sizes = [len(weight) for weight in weights]
        c = w.new_ones(w.shape[1])
        if inputs is not None and bool((inputs > 0).any()):
            # A channel that is quiet in a few texts may speak in others.
            largest = inputs.float().clamp(min=inputs.float().mean() * _QUIET)
            c = (largest / w.abs().amax(0).clamp(min=1e-5)).sqrt()  # max|x_j|^½ / max|W_j|^½
        w *= c
        q, s = quantise_(w, _largest(w))
        self.weight = nn.Parameter(q, requires_grad=False)
        self.register_buffer("scale", s[:, 0])
        self.register_buffer("shrink", 1 / c)
        self._kept: _Kept | None = None

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
        if _unrounded.get():
            w = self.weight * self.scale[:, None] * self.shrink
            parts = (x.float() @ w.T).to(dtype).split(self.sizes, dim=-1)
            return tuple(part.clone() for part in parts)
        buffers = self.weight, self.scale, self.shrink
        found: tuple[Tensor, ...] = _Product.apply(x, *buffers, self.sizes, dtype)
        return found

    def _forget(self, input: "weakref.ref[Tensor]") -> None:
        if self._kept is not None and self._kept.of is input:
            self._kept = None

    def _apply(self, fn: Any, recurse: bool = True) -> "Joined":
        """Moved like any module, but scales stay float32 when a model is cast."""
        self.weight = nn.Parameter(fn(self.weight.data), requires_grad=False)
        self.scale, self.shrink = (t.to(self.weight.device) for t in (self.scale, self.shrink))
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
        """q_W, int8, in the layout of the layer in whose place it is; times c and without s_W."""
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

    inputs: (in,) max|x_j| over some texts, for smoothing
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
    groups, largest = _seen(model, linear, batches)
    for names in groups:
        layers_of = [linear[name] for name in names]
        for name, layer in zip(names, quantised(layers_of, largest.get(names[0])), strict=True):
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, layer)


@torch.no_grad()
def _seen(
    model: Any, linear: Mapping[str, nn.Module], batches: Iterable[Mapping[str, Tensor]]
) -> tuple[list[list[str]], dict[str, Tensor]]:
    """Which layers of a module read the same tensor, and each one's (in,) max|x_j|, by name."""
    first = {name: name for name in linear}  # of those that read what `name` reads
    largest: dict[str, Tensor] = {}
    readers: dict[str, list[tuple[weakref.ref[Tensor], str]]] = {}  # by owner

    def look(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0]
        seen = x.abs().flatten(0, -2).amax(0).float()
        largest[name] = torch.maximum(largest.get(name, seen), seen)
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
    return list(groups.values()), largest
