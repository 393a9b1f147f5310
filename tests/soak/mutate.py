"""One mistake in a sound input: a byte, a key, a value or a tensor that is not what it was.

Every function returns a hypothesis strategy of (what was done, the changed thing), so that a
finding says in words how to make it again.
"""

import copy
import json

import torch
from hypothesis import strategies as st

HUGE = 10**400  # an int that no float holds
EXTREMES = [
    *(None, True, False, 0, -1, 1, 2, 3, 2**31, 2**63 - 1, 2**63, -(2**63), 10**17, HUGE, -HUGE),
    *(0.5, -0.0, 1.0, 1e-320, 1e17, 1e308, -1e308),
    *(float("nan"), float("inf"), float("-inf")),
    *(
        "", " ", "0", "-1", "NaN", "null", "\x00", "\ud800", "é", "e\u0301", "👍", "a\nb", "{x}",
        "%s",
    ),
    *("../..", "/", "x" * 5000),
    *([], [None], [[]], {}, {"": None}, {"a": {"b": []}}),
]  # fmt: skip
numbers = st.sampled_from([x for x in EXTREMES if isinstance(x, int | float)])
NESTED = 20_000  # deeper than any recursion limit


def walk(document, path=()):
    """Every place of a JSON document, the root first, as a tuple of keys and indices."""
    yield path
    items = ()
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document)
    for key, value in items:
        yield from walk(value, (*path, key))


def at(document, path):
    for key in path:
        document = document[key]
    return document


def _renamed(key):
    return st.sampled_from(
        [key + "_", key.upper(), key[:-1], " " + key, key + "\u200b", key[::-1], "unknown_field"]
    )


def _retyped(value):
    found = [str(value), [value], {"value": value}, None, bool(value)]
    if isinstance(value, str):
        found += [len(value), [*value[:5]], value.encode().hex()]
    if isinstance(value, bool | int | float):
        found += [float(value), -value, [value, value]]
    if isinstance(value, list):
        found += [value * 2, value[:-1], value[::-1], dict(enumerate(map(str, value[:3])))]
    if isinstance(value, dict):
        found += [list(value), list(value.items())]
    return st.sampled_from(found)


@st.composite
def document(draw, whole):
    """`whole`, JSON as Python has it, with one key or value changed."""
    whole = copy.deepcopy(whole)
    path = draw(st.sampled_from(list(walk(whole))))
    if not path:
        value = draw(st.sampled_from(EXTREMES) | _retyped(whole))
        return f"all of it becomes {_short(value)}", value
    parent, key = at(whole, path[:-1]), path[-1]
    place = ".".join(map(str, path))
    how = draw(st.sampled_from(["remove", "rename", "retype", "extreme", "extreme", "add"]))
    if how == "remove" or (how == "rename" and isinstance(parent, list)):
        del parent[key]
        return f"{place} removed", whole
    if how == "rename":
        new = draw(_renamed(key))
        changed = {new if k == key else k: v for k, v in parent.items()}
        parent.clear()
        parent.update(changed)
        return f"{place} renamed to {new!r}", whole
    if how == "add":
        value = draw(st.sampled_from(EXTREMES))
        if isinstance(parent, list):
            parent.insert(key, value)
        else:
            parent["unknown_field"] = value
        return f"{_short(value)} added beside {place}", whole
    value = draw(_retyped(parent[key]) if how == "retype" else st.sampled_from(EXTREMES))
    parent[key] = value
    return f"{place} becomes {_short(value)}", whole


def _short(value):
    text = ascii(value)
    return text if len(text) < 60 else f"{text[:40]}… ({len(text)} characters)"


def dumps(value):
    """JSON as a careless writer writes it: NaN and lone surrogates are let through."""
    return json.dumps(value).encode()


@st.composite
def raw(draw, content):
    """`content`, bytes, with one piece of damage."""
    how = draw(
        st.sampled_from(["flip", "flip", "flip", "cut", "drop", "insert", "double", "empty"])
    )
    if how == "empty" or not content:
        return "emptied", b""
    i = draw(st.integers(0, len(content) - 1))
    if how == "flip":
        bit = draw(st.integers(0, 7))
        changed = bytes([content[i] ^ (1 << bit)])
        return f"bit {bit} of byte {i} flipped", content[:i] + changed + content[i + 1 :]
    if how == "cut":
        return f"cut after {i} bytes", content[:i]
    n = draw(st.integers(1, 9))
    if how == "drop":
        return f"{n} bytes dropped at {i}", content[:i] + content[i + n :]
    if how == "double":
        return f"{n} bytes doubled at {i}", content[: i + n] + content[i:]
    more = draw(st.sampled_from([b"\x00", b"\xff", b"\n", b"}", b'"', b",", b"\xef\xbb\xbf", b"0"]))
    return f"{more!r} inserted at {i}", content[:i] + more + content[i:]


@st.composite
def tensors(draw, whole):
    """`whole`, tensors by name, with one of them changed."""
    whole = dict(whole)
    name = draw(st.sampled_from(sorted(whole)))
    value = whole[name]
    how = draw(
        st.sampled_from(["remove", "rename", "add", "type", "shape", "value", "value", "swap"])
    )
    if how == "remove":
        del whole[name]
        return f"{name} removed", whole
    if how == "rename":
        new = draw(_renamed(name))
        whole = {new if k == name else k: v for k, v in whole.items()}
        return f"{name} renamed to {new!r}", whole
    if how == "add":
        whole[f"{name}.unknown"] = value.clone()
        return f"{name}.unknown added", whole
    if how == "type":
        kind = draw(
            st.sampled_from([torch.float16, torch.float64, torch.int64, torch.bool, torch.uint8])
        )
        whole[name] = value.to(kind)
        return f"{name} is of {kind}", whole
    if how == "shape":
        shapes = {
            "a row less": value[:-1] if value.dim() else value[None],
            "transposed": value.T.contiguous() if value.dim() == 2 else value[None],
            "flat": value.flatten(),
            "empty": value.flatten()[:0],
            "doubled": torch.cat([value, value]) if value.dim() else value[None],
            "a scalar": value.flatten().sum(),
        }
        said = draw(st.sampled_from(sorted(shapes)))
        whole[name] = shapes[said].clone()
        return f"{name} is {said}", whole
    if how == "swap":
        other = draw(st.sampled_from(sorted(whole)))
        whole[name], whole[other] = whole[other], whole[name]
        return f"{name} and {other} swapped", whole
    if not value.numel():
        return f"{name} is empty anyway", whole
    number = draw(st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e38, -1e38]))
    if not value.is_floating_point():
        number = draw(st.sampled_from([-1, 2**31 - 1]))
    changed = value.clone()
    changed.view(-1)[draw(st.integers(0, value.numel() - 1))] = number
    whole[name] = changed
    return f"{name} holds {number}", whole


# Text from nowhere, and JSON that is no document of ours.
words = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words
wild_json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
wild_bytes = st.one_of(
    st.binary(max_size=60),
    words.map(lambda text: text.encode("utf-8", "surrogatepass")),
    wild_json.map(dumps),
    st.sampled_from(
        [b"[" * NESTED, b'{"a":' * NESTED, b"null", b"{}", b"[]", b"\xff\xfe{\x00}\x00"]
    ),
)
