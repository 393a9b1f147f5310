"""What later work says: each claim has a source, what was read of it, and the tables' numbers."""

from datetime import date

import pytest

from frugal import data
from frugal.papers import tables

ROWS = data.rows("since_2023.csv")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["question"])
def test_every_claim_names_its_source_and_what_was_read(row):
    assert all(row.values())
    assert row["verdict"] in ("stands", "fallen", "qualified", "open")
    assert row["url"].startswith("https://")
    assert any(word in row["read"] for word in ("page", "abstract", "unverified"))
    assert date(2026, 1, 1) < date.fromisoformat(row["day"]) <= date.today()
    assert "chapter" in row["here"]


def test_what_the_papers_are_said_to_print_is_in_their_tables():
    said = " ".join(row["papers"] + row["since"] for row in ROWS)
    first, raft = (
        tables.wide("tfew_table1")["accuracy"],
        tables.wide("tfew_table2_raft")["accuracy"],
    )
    for value in (first["T-Few"], first["GPT-3 175B"], raft.iloc[0], raft.iloc[1]):
        assert f"{value:.1f}" in said
    assert len(ROWS) >= 8
