"""One pass through a model's matrix products: what each takes forward, and what backward.

The rules are here, part by part; `costs.flops` asks for a pass, a query or a training step. What
takes a gradient is decided product by product, as PyTorch does.
"""

from collections import defaultdict

from frugal.costs import methods
from frugal.costs.arch import Architecture
from frugal.costs.methods import Method


class Walk:
    """One pass through the matrix products, counting them forward and backward.

    "Needs" means: a gradient with respect to this tensor has to be computed.
    """

    def __init__(self, arch: Architecture, method: Method) -> None:
        self.arch, self.method = arch, method
        self.forward: dict[str, int] = defaultdict(int)
        self.backward: dict[str, int] = defaultdict(int)
        self.prefix, self.times = "", 1

    def _add(self, part: str, flops: int, gradients: int) -> None:
        self.forward[self.prefix + part] += self.times * flops
        if gradients:
            self.backward[self.prefix + part] += self.times * flops * gradients

    def linear(
        self, part: str, tokens: int, d_in: int, d_out: int, x: bool, trained: bool | None = None
    ) -> bool:
        """y = x W; returns whether y needs a gradient. `trained`: W is, whatever the method."""
        weights = self.method.weights if trained is None else trained
        flops = 2 * tokens * d_in * d_out
        # dL/dx = dL/dy W^T and dL/dW = x^T dL/dy cost as much as y itself, each.
        self._add(part, flops, x + weights)
        if trained is None and self.method.rank and self.targets(part):  # y += x A B
            rank = self.method.rank
            self._add(f"lora/{part}", 2 * tokens * d_in * rank, x + True)
            self._add(f"lora/{part}", 2 * tokens * rank * d_out, 2)
            return True
        if trained is None and self.method.scales and self.targets(part):
            return True
        return x or weights or (trained is None and self.method.biases)

    def targets(self, part: str) -> bool:
        return methods.role(part) in self.method.targets

    def adapter(self, part: str, tokens: int, h: bool) -> bool:
        """h + W_up ReLU(W_down h); Compacter's matrices are made without matrix products."""
        d = self.arch.d_model
        flops = 2 * tokens * d * self.method.bottleneck(d)
        self._add(f"adapter/{part}", flops, h + True)
        self._add(f"adapter/{part}", flops, 2)
        return True

    def product(self, part: str, flops: int, a: bool, b: bool) -> bool:
        """A product of two activations, each of which may need a gradient."""
        self._add(part, flops, a + b)
        return a or b

    def attention(self, name: str, x: bool, tokens: int, keys: int, source: bool, new: int) -> bool:
        """One attention: `tokens` queries see `keys` keys, `new` of which are computed here.

        x, source: whether the states that queries and keys come from need a gradient.
        """
        a, m = self.arch, self.method
        q = self.linear(f"{name}/q", tokens, a.d_model, a.d_q, x)
        k = self.linear(f"{name}/k", new, a.d_model, a.d_kv, source)
        v = self.linear(f"{name}/v", new, a.d_model, a.d_kv, source)
        if a.fused:  # one product makes all three
            q = k = v = q or k or v
        if m.prefix:  # [P_k; K], [P_v; V]
            k, v, keys = True, True, keys + m.tokens
        pairs = 2 * tokens * keys * a.d_q  # every pair, masked or not; kv heads are repeated
        scores = self.product(f"{name}/scores", pairs, q, k)  # Q K^T
        mixed = self.product(f"{name}/mix", pairs, scores, v)  # softmax(Q K^T) V
        mixed |= m.scales and self.targets("o")
        out = self.linear(f"{name}/o", tokens, a.d_q, a.d_model, mixed)
        if m.placement == "houlsby" and name == "attention":
            out = self.adapter(name, tokens, out)
        return out

    def layer(
        self, x: bool, tokens: int, context: int, source: tuple[bool, int, int] | None
    ) -> bool:
        """One block; `source`: (needs, length, length to project now) of what is cross-attended."""
        a, m = self.arch, self.method
        # A norm in front of each part: where norms are trained, every product has a parameter
        # below it. (BERT's norms stand behind, the first one behind the embeddings: the same.)
        x = below = x or m.trains_norms or (m.biases and a.shift_first)
        x |= self.attention("attention", x, tokens, context + tokens, x, tokens)
        if source is not None:
            needs, length, new = source
            x |= self.attention("cross-attention", x, tokens, length, needs, new)
        if not a.parallel:
            below = x
        gate = a.gated and self.linear("ffn/gate", tokens, a.d_model, a.d_ff, below)
        up = self.linear("ffn/up", tokens, a.d_model, a.d_ff, below)
        hidden = gate or up or (m.scales and self.targets("ffn/down"))  # l_ff * act(W_1 x)
        out = self.linear("ffn/down", tokens, a.d_ff, a.d_model, hidden)
        return (self.adapter("ffn", tokens, out) if m.placement else out) or x

    def stack(
        self,
        layers: int,
        x: bool,
        tokens: int,
        context: int = 0,
        source: tuple[bool, int, int] | None = None,
    ) -> bool:
        """All layers, and the norm behind them."""
        # A gradient once needed is needed in all layers above: from the second on they are alike.
        x = self.layer(x, tokens, context, source)
        if layers > 1:
            self.times = layers - 1
            x = self.layer(x, tokens, context, source)
            self.times = 1
        return x

    def model(
        self, prompt: int, target: int, logits: int, context: int, *, read: bool = False
    ) -> None:
        """The whole model on one sequence. `read`: the encoder has run, its K and V are cached."""
        a, m = self.arch, self.method
        # With m.weights the embeddings need gradients; prompts stand among them.
        x = embedded = m.trains_norms or m.prompt
        soft = m.tokens if m.prompt else 0
        prompt, target = prompt + soft, target + soft * bool(a.decoder_layers)
        if a.kind != "decoder-only" and not read:
            self.prefix = "encoder/" if a.decoder_layers else ""
            x = self.stack(a.layers, embedded, prompt)
        if a.decoder_layers:
            self.prefix = "decoder/"
            if a.family == "bert2bert":  # T5's decoder sees the encoder's prompt, BERT's does not
                prompt -= soft
            source = (x, prompt, 0 if read else prompt)
            x = self.stack(a.decoder_layers, embedded, target, context, source)
        elif a.kind == "decoder-only":
            x = self.stack(a.layers, embedded, prompt + target, context)
        self.prefix = ""
        if a.pooler and a.decoder_layers and not read:  # runs, but nothing reads it
            self._add("pooler", 2 * a.d_model * a.d_model, 0)
        elif a.pooler and not a.decoder_layers:  # reads the first token alone
            self.linear("pooler", 1, a.d_model, a.d_model, x, trained=m.weights or m.head)
        if a.transform and logits:
            x = self.linear("transform", logits, a.d_model, a.d_model, x, trained=m.weights)
            x |= m.trains_norms
        if logits:
            trained = m.weights or m.head
            self.linear("vocabulary", logits, a.d_model, a.vocabulary, x, trained=trained)
