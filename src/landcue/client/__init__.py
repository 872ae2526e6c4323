"""A client of ``landcue serve``: needs neither torch nor NumPy, and no package but this one."""

from landcue.client.asking import Asked
from landcue.client.client import Client
from landcue.client.model import LabelScore, ModelInfo, OwnScores, SpaceScores, TestScores
from landcue.client.results import ArchiveInfo, FoundRecord, Hit, LabelCount, SearchPage
from landcue.client.views import EmbeddingMap, Facets, MapPoint, RegionGrid, Regions, ValueCount
from landcue.errors import ServiceError

__all__ = [
    "ArchiveInfo",
    "Asked",
    "Client",
    "EmbeddingMap",
    "Facets",
    "FoundRecord",
    "Hit",
    "LabelCount",
    "LabelScore",
    "MapPoint",
    "ModelInfo",
    "OwnScores",
    "RegionGrid",
    "Regions",
    "SearchPage",
    "ServiceError",
    "SpaceScores",
    "TestScores",
    "ValueCount",
]
