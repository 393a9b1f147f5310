"""A user's files: every usual form gives the same examples; what is wrong is named by line."""

import csv
import io
import json
import os
import re
import tempfile
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal import tasks
from frugal.errors import FrugalError
from frugal.tasks import userfile

ROWS = [
    {
        "prompt": f"Ticket {i}: {{0}} of {{x}}\u2028 “né”",
        "choices": [" cards", " loans"],
        "label": y,
    }
    for i, y in enumerate((0, 1, 1))
]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
LINE = {"prompt": "Sky:", "choices": [" blue", " green"], "label": 0}


def put(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table(header, *rows, mark=","):
    file = io.StringIO()
    csv.writer(file, delimiter=mark).writerows([header, *rows])
    return file.getvalue()


def read(path, **options):
    return [(e.prompt, list(e.choices), e.label) for e in tasks.load(path, **options).test()]


def refusal(path, **options):
    with pytest.raises(FrugalError) as error:
        tasks.load(path, **options)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("plain.jsonl", JSONL.encode()),
        ("UPPER.JSONL", JSONL.encode()),
        ("mark.jsonl", JSONL.encode("utf-8-sig")),
        ("crlf.jsonl", JSONL.replace("\n", "\r\n").encode()),
        ("cr.jsonl", JSONL.replace("\n", "\r").encode()),
        ("blank.jsonl", ("\n" + JSONL.replace("\n", "\n\n  \n")).encode()),
        ("utf16.jsonl", JSONL.encode("utf-16")),
        ("utf16be.jsonl", b"\xfe\xff" + JSONL.encode("utf-16-be")),
        ("utf32.jsonl", JSONL.encode("utf-32")),
    ],
)
def test_jsonl_is_read_however_a_system_writes_it(tmp_path, name, raw):
    assert read(put(tmp_path, name, raw)) == [tuple(row.values()) for row in ROWS]


PROMPTED = [(r["prompt"], json.dumps(r["choices"]), r["label"]) for r in ROWS]
BARS = [(r["prompt"], " cards| loans", ["cards", "loans"][r["label"]]) for r in ROWS]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", table(["prompt", "choices", "label"], *PROMPTED)),
        ("a.csv", table(["prompt", "choices", "label"], *BARS)),
        ("a.tsv", table(["prompt", "choices", "label"], *BARS, mark="\t")),
        ("excel.csv", "\ufeff" + table(["Prompt", "CHOICES", " label "], *BARS, mark=";")),
        ("tabs.CSV", table(["prompt", "choices", "label"], *PROMPTED, mark="\t")),
        ("index.csv", table(["", "label", "choices", "prompt"], *[(i, r[2], "cards | loans", r[0])
                                                                  for i, r in enumerate(BARS)])),
        ("padded.csv", table(["prompt", "choices", "label"], *BARS, ["", " ", ""], []) + "\r\n"),
    ],
)  # fmt: skip
def test_a_table_of_prompts_says_what_the_jsonl_says(tmp_path, name, text):
    assert read(put(tmp_path, name, text)) == [tuple(row.values()) for row in ROWS]


def test_texts_and_labels_become_prompts_and_choices(tmp_path):
    rows = [['says "{hi} {0}"', "up{b}"], ["two\nlines; %s", "down "], ["x", "up{b}"]]
    path = put(tmp_path, "a.csv", table(["Text", "Label"], *rows))
    choices = [" down", " up{b}"]  # sorted; what is in braces is text
    assert read(path) == [
        ('says "{hi} {0}"\nLabel:', choices, 1),
        ("two\nlines; %s\nLabel:", choices, 0),
        ("x\nLabel:", choices, 1),
    ]
    assert tasks.load(path).chance == 0.5
    mine = read(path, template=r"Review: {text}\nSentiment: {{}} ")
    assert mine[2] == ("Review: x\nSentiment: {} ", ["down", "up{b}"], 1)
    other = put(tmp_path, "b.tsv", table(["title", "body", "label"], *["ABy", "CDx"], mark="\t"))
    assert read(other, template="{title}: {body}") == [
        ("A: B", [" x", " y"], 1),
        ("C: D", [" x", " y"], 0),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "line 2: no JSON object"),
        ("{'prompt': 1}", "line 2: no JSON"),
        ('{"prompt": "a", "prompt": "b"}', "line 2: 'prompt' stands twice"),
        (json.dumps({**LINE, "label": 0.0}), "line 2: label"),
        (json.dumps({**LINE, "label": 10**100}), "line 2: label: 10000000000000000000 is not"),
        (json.dumps(LINE).replace("0}", "9" * 5000 + "}"), "line 2: holds a number of thousands"),
        (json.dumps({**LINE, "prompt": "\ud800"}), "line 2: a lone surrogate"),
        (json.dumps({**LINE, "choices": [" \udfff", " a"]}), "line 2: a lone surrogate"),
        ("[" * 100_000, "line 2: no JSON that can be read"),
        (json.dumps({**LINE, "choices": {"a": 1, "b": 2}}), "line 2: choices"),
        (json.dumps({**LINE, "choices": "ab"}), "line 2: choices"),
        (json.dumps(LINE).replace("Sky", "S\0y"), "line 2: a NUL byte"),
        (json.dumps(LINE) * 2, "line 2: no JSON (Extra data"),
    ],
)
def test_a_line_that_is_no_example_is_named(tmp_path, line, message):
    path = put(tmp_path, "a.jsonl", json.dumps(LINE) + "\n" + line + "\n")
    assert f"a.jsonl, {message}" in refusal(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,x\nb,y,z\n", "a.csv, line 3: 3 fields; the header has 2"),
        ('text,label\n"a\nb",x\nc\n', "a.csv, line 4: 1 fields"),
        ("text,label\na,\n ,y\n", "line 2: label: empty; line 3: text: empty"),
        ("text,label\na,x\nb, x\n", "a.csv: the label is always 'x'"),
        ("text,label\na,Pos\nb,pos\n", "'Pos' (line 2) and 'pos' (line 3) are one label"),
        ("text,label\na,1\nb,1.0\n", "'1' (line 2) and '1.0' (line 3) are one label"),
        ("text,y\na,x\n", "a.csv: no column 'label'; there are 'text', 'y'"),
        ("review,label\na,x\n", "a.csv: no column 'text', nor 'prompt' and 'choices'; there are"),
        ("text,Text,label\na,b,c\n", ""),
        ("text,text,label\na,b,c\n", "2 columns are called 'text'"),
        ('text,label\n"a,x\nb,y\n', "a.csv, line 2: unexpected end of data"),
        ("text,label\n" + "".join(f"t{i},{i}\n" for i in range(200)), "200 different labels on"),
        ("text,label\n", "a.csv: no example"),
        ("", "a.csv: no example"),
        ("text,label\ncaf\u00e9,x\n".encode("cp1252"), "not UTF-8 at byte 14 (line 2)"),
        ("text,label\n한국,긍정\n".encode("cp949"), "(line 2); save it as UTF-8"),
        (b"\xff\xfe" + "a\ud800".encode("utf-16-le", "surrogatepass"), "not UTF-16-LE at byte 4"),
        ("prompt,choices,label\np,a|b,c\n", "line 2: label: 'c' is neither the index nor the text"),
        ("prompt,choices,label\np,a|b,-1\n", "line 2: label: '-1' is neither"),
        ("prompt,choices,label\np,a|b,2\n", "line 2: label: 2 is not the index of one of 2"),
        ("prompt,choices,label\np,1|2,1\n", "line 2: label: 1 may be an index or the choice '1'"),
        ("prompt,choices,label\np,\"['a', 'b']\",0\n", "line 2: choices: no JSON list"),
        ('prompt,choices,label\np,"[1, 2]",0\n', "line 2: choices.0: Input should be a valid str"),
        ("prompt,choices,label\np,a|a,0\n", "line 2: choices: two are the same"),
        ("prompt,choices\np,a|b\n", "no column 'label'"),
    ],
)
def test_a_table_that_is_unclear_is_refused_with_its_line(tmp_path, text, message):
    if not message:
        # one column is called just so, the other differs in case
        assert read(put(tmp_path, "a.csv", text + "d,e,f\n"))[0][0] == "a\nLabel:"
        return
    assert message in refusal(put(tmp_path, "a.csv", text))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{tex}:", "unknown column 'tex'; did you mean 'text'?"),
        ("{text.__class__}", "{text.__class__} does not name a column"),
        ("{text!r}", "does not name a column"),
        ("{text:>999999999}", "does not name a column"),
        ("{}", "does not name a column"),
        ("{0}", "does not name a column"),
        ("{text", "expected '}'"),
        ("text", "names no column"),
        ("{text} {label}", "would put the answer into the prompt"),
        ("{Label}{text}", "would put the answer into the prompt"),
    ],
)
def test_a_template_names_columns_and_nothing_else(tmp_path, template, message):
    path = put(tmp_path, "a.csv", "text,label\na,x\nb,y\n")
    assert message in refusal(path, template=template)


def test_a_template_is_refused_where_prompts_are_there(tmp_path):
    assert "holds its prompts already" in refusal(put(tmp_path, "a.jsonl", JSONL), template="{x}")
    prompted = put(tmp_path, "a.csv", table(["prompt", "choices", "label"], *PROMPTED))
    assert "has a column 'prompt' already" in refusal(prompted, template="{prompt}")
    assert "has templates of its own" in refusal("counting", template="{word}")


def test_what_is_a_file_is_decided_in_one_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counting").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in ("a.jsonl", "b.CSV", "c.tsv", "./counting", "notes.txt", Path("deep") / "x"):
        assert tasks.is_file(name)
    for name in ("counting", "countin", "nowhere.txt", "", "x" * 5000, "nul\0"):
        assert not tasks.is_file(name)
    assert tasks.load("counting").name == "counting"
    assert "counting: is a folder" in refusal("./counting")
    assert "pipe.jsonl: is no regular file" in refusal("pipe.jsonl")
    assert "notes.txt: its name must end in .jsonl, .csv, .tsv" in refusal("notes.txt")
    assert "gone.csv: No such file" in refusal("gone.csv")
    assert "no path (embedded null byte)" in refusal("a\0.csv")
    assert "unknown task 'countin'; did you mean 'counting'?" in refusal("countin")


def test_lines_that_stand_twice_count_once_and_it_is_said(tmp_path):
    rows = [{**LINE, "prompt": f"Sky {i}:"} for i in range(6)]
    twice = [
        {**rows[0], "choices": [" green", " blue"], "label": 1},  # the same answer
        {**rows[1], "prompt": " Sky  1:\r\n"},
        {**rows[2], "label": 1},
    ]
    path = put(tmp_path, "a.jsonl", "".join(json.dumps(r) + "\n" for r in [*rows, *twice]))
    task = tasks.load(path)
    assert [e.prompt for e in task.test()] == [r["prompt"] for r in rows]
    assert [e.label for e in task.test()] == [0] * 6
    assert len(task.notes) == 2
    assert "3 of 9 lines repeat an earlier one" in task.notes[0]
    assert "1 of these contradict it (line 3 says 'blue', line 9 says 'green')" in task.notes[1]
    for seed in range(5):
        drawn = {e.content for e in task.draw(3, seed)}
        assert not drawn & {e.content for e in task.test(shots=3, seed=seed)}
    for same in ("e\u0301", "\u00e9"), ("a\r\nb", "a\nb"):
        text = table(["text", "label"], *zip(same, "xx", strict=True), ["other", "y"])
        assert len(tasks.load(put(tmp_path, "b.csv", text)).rows) == 2
    assert tasks.load(put(tmp_path, "c.csv", "text,label\na,x\nb,y\n")).notes == ()
    numbers = tasks.load(put(tmp_path, "d.csv", "text,label\na,1\nb,0\n"))
    assert "the labels are numbers" in numbers.notes[0]


def test_what_was_drawn_of_one_file_is_not_scored_in_another(tmp_path):
    pool = put(
        tmp_path, "a.csv", "text,label\n" + "".join(f"t{i},{'xyz'[i % 3]}\n" for i in range(9))
    )
    other = put(tmp_path, "b.csv", "text,label\nnew,x\nt1,y\n t2 ,z\nmore,y\n")
    drawn, scored = tasks.pair(pool, other)
    assert scored.test()[0].choices == (" x", " y", " z")
    examples = drawn.draw(9, 0)
    left = scored.without(examples)
    assert [e.prompt for e in left.test()] == ["new\nLabel:", "more\nLabel:"]
    assert "2 of its examples are also among the 9 drawn" in left.notes[-1]
    assert scored.without([]) is scored
    fewer = put(tmp_path, "few.csv", "text,label\nnew,x\nmore,y\n")  # one class does not occur
    assert tasks.pair(pool, fewer)[1].test()[0].choices == (" x", " y", " z")
    with pytest.raises(FrugalError, match="no example is left to score"):
        drawn.without(examples)
    counting = tasks.load("counting")
    shorter = counting.without(counting.test(3))
    assert shorter.test_size == counting.test_size - 3
    assert shorter.draw(8, 0) == counting.draw(8, 0)
    assert shorter.test() == counting.test()[3:]


def test_files_with_other_answers_do_not_go_together(tmp_path):
    one = put(tmp_path, "a.csv", "text,label\na,x\nb,y\n")
    two = put(tmp_path, "b.csv", "text,label\nc,x\nd,z\n")
    with pytest.raises(FrugalError, match=r"b\.csv, line 3: label: 'z' is none of .*'x', 'y'"):
        tasks.pair(one, two)
    lines = put(tmp_path, "c.jsonl", JSONL)
    with pytest.raises(
        FrugalError, match=r"c\.jsonl has the answers ' cards', ' loans', but .*b\.csv"
    ):
        tasks.pair(lines, two)
    with pytest.raises(FrugalError, match=r"has the answers ' x', ' y', but .*c\.jsonl has"):
        tasks.pair(one, lines)
    assert tasks.pair("counting", lines)[1].name == str(lines)  # its choices differ by row


def test_a_rows_repetition_outside_of_files_is_left_out_of_the_test_and_said():
    rows = [{"prompt": p, "choices": [" a", " b"], "label": 0} for p in ("one", "two", "one ")]
    task = tasks.Task("t", Dataset.from_list(rows), order=lambda n, seed: range(n))
    with pytest.warns(UserWarning, match=r"t: repeats a drawn example \(row 2\); left out"):
        assert [e.prompt for e in task.test(shots=1)] == ["two"]


# Any text that UTF-8 can hold but NUL, which no door takes.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
BOUNDED = settings(max_examples=60, deadline=None)


@st.composite
def examples(draw):
    choices = draw(st.lists(TEXTS.filter(str.strip), min_size=2, max_size=4, unique=True))
    return {
        "prompt": draw(TEXTS),
        "choices": choices,
        "label": draw(st.integers(0, len(choices) - 1)),
    }


def once(items, key):
    """Of items with the same key, the first."""
    found = {}
    for item in items:
        found.setdefault(key(item), item)
    return list(found.values())


def unique(rows):
    return once(rows, lambda row: tasks.Example(**row).content)


@BOUNDED
@given(st.lists(examples(), min_size=1, max_size=4), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_whatever_json_holds_comes_back(rows, escaped, end):
    text = "".join(json.dumps(row, ensure_ascii=escaped) + end for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        found = userfile.read(put(Path(folder), "a.jsonl", text)).rows
    assert [{**row, "choices": list(row["choices"])} for row in found] == unique(rows)


@BOUNDED
@given(
    st.lists(examples(), min_size=1, max_size=4),
    st.sampled_from([("csv", ","), ("csv", ";"), ("tsv", "\t")]),
)
def test_whatever_a_table_of_prompts_holds_comes_back(rows, kind):
    name, mark = kind
    cells = [(r["prompt"], json.dumps(r["choices"]), r["label"]) for r in rows]
    unclear = any(
        str(r["label"]) in [c.strip() for c in r["choices"]]
        and r["choices"][r["label"]].strip() != str(r["label"])
        for r in rows
    )
    with tempfile.TemporaryDirectory() as folder:
        path = put(
            Path(folder), f"a.{name}", table(["prompt", "choices", "label"], *cells, mark=mark)
        )
        if unclear:
            assert "may be an index or the choice" in refusal(path)
            return
        found = userfile.read(path).rows
    assert [{**row, "choices": list(row["choices"])} for row in found] == unique(rows)


@BOUNDED
@given(st.lists(TEXTS.filter(str.strip), min_size=2, max_size=5))
def test_whatever_text_is_in_a_table_is_text(texts):
    rows = [(text, ["{x}", "other"][i % 2]) for i, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), "a.csv", table(["text", "label"], *rows))
        found = userfile.read(path, "<{text}>")
    made = [found.template.example(row, row["label"]) for row in found.rows]
    first = once(rows, lambda row: userfile.content(row[0], ()))
    assert [(e.prompt, e.choices[e.label]) for e in made] == [(f"<{t}>", f" {y}") for t, y in first]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["a.jsonl", "a.csv", "b.csv", "a.tsv"]),
    st.integers(0, 10_000),
    st.integers(0, 12),
    st.one_of(st.binary(max_size=6), st.sampled_from([b'"', b"\n", b",", b"{", b"\\ud800", b"|"])),
)  # fmt: skip
def test_a_changed_file_is_read_or_refused_in_one_line(name, at, cut, new):
    whole = {
        "a.jsonl": JSONL,
        "a.csv": table(["prompt", "choices", "label"], *BARS),
        "b.csv": table(["text", "label"], ["a", "x"], ['b "c"\n', "y"], ["d", "x"]),
        "a.tsv": table(["text", "label"], ["a", "x"], ["b", "y"], mark="\t"),
    }[name].encode()
    at %= len(whole) + 1
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), name, whole[:at] + new + whole[at + cut :])
        try:
            found = userfile.read(path)
        except FrugalError as error:
            said = str(error)
        else:
            said = ""
    if said:
        assert re.match(r"[^\n]*\b[ab]\.(jsonl|csv|tsv)[^\n]*\Z", said)
        return
    for row in found.rows:
        found.template.example(row, row["label"])
    assert found.rows
