"""Features of a prompt for the online model: the principal components of the kernel's columns.

The directions in which prompts of many kinds differ most are known before any outcome is, so that a few outcomes say
something of prompts like theirs. Which is better at what, they do not say.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np

from modelpilot.arrays import Floats
from modelpilot.learning.estimation.kernel import Kernel, Singles, choose_kernel, whitening
from modelpilot.requests.records import Vector

COMPONENTS = 20


@dataclass(frozen=True)
class Basis:
    """A kernel, and the axes along which its columns are looked at. Over the prompts that it was made of the features
    have mean 0 and a mean square length of 1."""

    surface_middle: Floats
    surface_spread: Floats
    surface_range: Floats
    landmarks: Singles  # [M, d]
    axes: Singles  # [M, COMPONENTS]
    middle: Floats  # [COMPONENTS]

    @property
    def width(self) -> int:
        """How many features a prompt has, the constant 1 included."""
        return 1 + len(self.middle)

    @property
    def dimension(self) -> int:
        """Length of the vectors that it is for."""
        return int(self.landmarks.shape[1])

    @cached_property
    def name(self) -> str:
        """Tells it from every other one."""
        return sha256(self.landmarks.tobytes() + self.axes.tobytes()).hexdigest()[:16]

    @cached_property
    def _kernel(self) -> Kernel:
        return Kernel(self.surface_middle, self.surface_spread, self.surface_range, self.landmarks)

    def features(self, vectors: Vector) -> Floats:
        """[..., width] of prompts by their vectors: 1, then the components."""
        columns = self._kernel.columns(self._kernel.scaled(vectors))
        found = (columns @ self.axes).astype(np.float64) - self.middle
        whole: Floats = np.concatenate([np.ones((*found.shape[:-1], 1)), found], axis=-1)
        return whole

    def plain(self) -> Floats:
        """[width] the features of a prompt of which nothing is known."""
        whole: Floats = np.eye(1, self.width)[0]
        return whole


def make_basis(vectors: Vector, landmarks: int, components: int = COMPONENTS) -> Basis:
    """The basis of these prompts [n, dimension], whatever order they come in."""
    kernel = choose_kernel(vectors, landmarks)
    columns = kernel.columns(kernel.scaled(vectors)).astype(np.float64)
    white = whitening(kernel)
    values = columns @ white
    centred = values - values.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :components]
    # The sign of an eigenvector is anybody's guess.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    scale = float(((centred @ axes) ** 2).sum(axis=1).mean()) ** 0.5
    turned = (white @ axes / max(scale, 1e-9)).astype(np.float32)
    return Basis(
        kernel.surface_middle,
        kernel.surface_spread,
        kernel.surface_range,
        kernel.landmarks,
        turned,
        (columns @ turned).mean(axis=0).astype(np.float64),
    )
