"""Archives of the same pictures: two that were fitted apart, and one of the encoder itself."""

from __future__ import annotations

import numpy as np

import landcue
import tiny_models
from landcue.archive.indexing import IndexOptions, index_source
from landcue.models.fitted_codes import FittedCodes, fit_codes
from landcue.models.load import BUILTIN, load_model
from landcue.models.space import unit_rows
from landcue.types import Encoding


def save_fit(encoder, seed, folder):
    """Write a model folder of the built-in encoder, fitted to made-up embeddings."""
    rng = np.random.default_rng(seed)
    sample = unit_rows(rng.normal(size=(400, encoder.dim)) + 0.4)
    none = np.zeros((400, 0))
    made = Encoding(sample, none.astype(np.uint8), 0, none.astype(np.float32))
    general = int(encoder.provenance["recipe"]["general"])
    space = fit_codes(made, 32, centered=general, seed=seed)
    FittedCodes(encoder, space).save(folder)
    return folder


def make_archives(folder, n=12):
    """Return the folder of the pictures and three opened archives: fit0, fit1 and own."""
    photos = tiny_models.write_pictures(folder / "photos", n)
    encoder = load_model(BUILTIN)
    for seed in (0, 1):
        model = save_fit(encoder, seed, folder / f"model{seed}")
        index_source(photos, folder / f"fit{seed}", model=model)
    index_source(photos, folder / "own", options=IndexOptions(fit=False))
    return photos, *(landcue.open(folder / name) for name in ("fit0", "fit1", "own"))
