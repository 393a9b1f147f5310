"""The published tables, as they are printed."""

from typing import TYPE_CHECKING

from frugal import data
from frugal.errors import unknown

if TYPE_CHECKING:
    import pandas as pd


def names() -> list[str]:
    """Names of all published tables in `data/papers/`."""
    return sorted(path.stem for path in (data.ROOT / "papers").glob("*.csv"))


def load(name: str) -> "pd.DataFrame":
    """The published table `name`, every cell as text, as the paper prints it."""
    import pandas as pd

    if name not in names():
        raise unknown("table", name, names())
    return pd.read_csv(data.ROOT / "papers" / f"{name}.csv", dtype=str, keep_default_na=False)
