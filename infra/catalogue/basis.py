"""The features of prompts that the product ships for its own embedder, for routers without enough prompts of their own.

They were made of prompts from our own templates (`bench/routing/basis_prompts.py`): no outcome is in them.
"""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np

from modelpilot.learning.estimation.basis import Basis

BASIS_FILE = Path(__file__).with_name("basis.npz")


EMBEDDER = "wordllama-l2_supercat-256+surface-1"


def features_for(embedder: str) -> Basis | None:
    """The features for vectors of the embedder of this name; None: the product ships none."""
    return shipped_basis() if embedder == EMBEDDER else None


@cache
def shipped_basis() -> Basis:
    """The basis for vectors of the product's own embedder."""
    with np.load(BASIS_FILE, allow_pickle=False) as archive:
        columns = {name: archive[name] for name in archive.files}
    singles = {name: columns.pop(name).astype(np.float32) for name in ("landmarks", "axes")}
    return Basis(**{name: column.astype(np.float64) for name, column in columns.items()}, **singles)


def save_basis(basis: Basis, path: Path) -> None:
    """Write a basis, its landmarks to half precision. Raises OSError."""
    columns = asdict(basis)
    np.savez_compressed(path, **{**columns, "landmarks": columns["landmarks"].astype(np.float16)})
