"""Prompts around a text query, after CLIP's and RemoteCLIP's, and words that center texts."""

from __future__ import annotations

PROMPTS = (
    "{}",
    "a satellite image of {}.",
    "an aerial photograph of {}.",
    "a satellite photo with {} in it.",
    "an overhead view of {}.",
    "a remote sensing image of {}.",
    "a top-down view of {} from above.",
)
"""The features of a query are averaged over these."""

VOCABULARY = (
    *("water", "a river", "a lake", "the sea", "a beach", "a harbor with boats", "a ship"),
    *("an airport", "an airplane", "a runway", "a road", "an intersection", "a bridge"),
    *("a railway station", "a parking lot with cars", "buildings", "a dense residential area"),
    *("a sparse residential area", "an industrial area", "storage tanks", "a power plant"),
    *("a school", "a church", "a stadium", "a tennis court", "a golf course", "a park"),
    *("trees", "a forest", "grassland", "farmland", "a circular field", "a greenhouse"),
    *("bare soil", "a desert", "mountains", "rocks", "snow and ice", "clouds", "a wetland"),
    *("a construction site", "a mine", "solar panels", "wind turbines", "a village"),
)
"""The mean of their features is subtracted from that of a query, as images are centered too."""
