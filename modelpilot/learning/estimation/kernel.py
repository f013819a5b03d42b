"""Similarity of prompts as columns to regress on: a Gaussian kernel with landmarks (Nyström).

k(x, y) = exp(-a |meaning(x) - meaning(y)|² - b mean((surface(x) - surface(y))²)), the surface standardized over the
router's own prompts. Far from every landmark all columns vanish, and with them whatever was learnt.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from modelpilot.arrays import Floats, between
from modelpilot.learning.estimation.surface import split_surface
from modelpilot.requests.records import Vector

Singles = NDArray[np.float32]

LANDMARKS = 600
_MEANING, _SURFACE = 0.7, 0.7
_SURFACE_CAP = 3.0  # standard deviations
_LEAST_SPREAD = 1e-2  # of a column that hardly varies: standardizing it would blow up noise
_JITTER = 1e-3


@dataclass(frozen=True)
class Kernel:
    """The kernel's own scale, and its landmarks.

    Surfaces are cut to the range seen: a number of ten digits among prompts that have three is no hint of what to
    expect, and must not lead out of all that was learnt.
    """

    surface_middle: Floats  # [surface]
    surface_spread: Floats  # [surface]
    surface_range: Floats  # [2, surface] smallest and largest seen
    landmarks: Singles  # [M, meaning + surface], scaled so that k = exp(-|difference|²)

    @cached_property
    def _lengths(self) -> Singles:
        # Squared, of every landmark: the same for each prompt that is compared with them.
        lengths: Singles = np.einsum("ij,ij->i", self.landmarks, self.landmarks)
        return lengths

    def scaled(self, vectors: Vector) -> Singles:
        """[..., meaning + surface] coordinates in which the kernel is exp(-|difference|²)."""
        return _scaled(vectors, self.surface_middle, self.surface_spread, self.surface_range)

    def columns(self, scaled: Singles) -> Singles:
        """[..., M] the similarities with each landmark."""
        squares = np.einsum("...i,...i->...", scaled, scaled)[..., None]
        distance = squares + self._lengths - 2.0 * (scaled @ self.landmarks.T)
        similarity: Singles = np.exp(-np.maximum(distance, 0.0))
        return similarity


def choose_kernel(vectors: Vector, landmarks: int = LANDMARKS) -> Kernel:
    """A kernel for these prompts [p, dimension]. The same whatever order they come in."""
    _, surface = split_surface(vectors)
    middle, spread = surface.mean(axis=0), surface.std(axis=0)
    seen = np.stack([surface.min(axis=0), surface.max(axis=0)])
    spread = np.where(spread < _LEAST_SPREAD, np.inf, spread)
    order = shuffled(vectors, 1)
    places = np.linspace(0, len(order) - 1, min(landmarks, len(order))).astype(np.int64)
    return Kernel(middle, spread, seen, _scaled(vectors[order[places]], middle, spread, seen))


def whitening(kernel: Kernel) -> Floats:
    """[M, M]: similarities times this have the kernel itself as their inner product."""
    gram = kernel.columns(kernel.landmarks).astype(np.float64)
    values, axes = np.linalg.eigh(gram + _JITTER * np.eye(len(gram)))
    white: Floats = axes / np.sqrt(np.maximum(values, _JITTER))
    return white


def shuffled(vectors: Vector, seed: int) -> NDArray[np.intp]:
    """An order of prompts that depends on what they are, not on where they stand: random, yet always the same."""
    direction = np.random.default_rng(seed).standard_normal(vectors.shape[1])
    # Far digits of a projection: neighbours in meaning do not stay neighbours in this order.
    keys = np.einsum("ij,j->i", vectors.astype(np.float64), direction) * 1e4 % 1.0
    return np.lexsort((*vectors.T[:2], keys))


def _scaled(vectors: Vector, middle: Floats, spread: Floats, seen: Floats) -> Singles:
    meaning, surface = split_surface(vectors)
    surface = between(seen[0], surface, seen[1])
    standard = between(-_SURFACE_CAP, (surface - middle) / spread, _SURFACE_CAP)
    width = max(standard.shape[-1], 1)
    return np.concatenate([meaning * _MEANING**0.5, standard * (_SURFACE / width) ** 0.5], axis=-1).astype(np.float32)
