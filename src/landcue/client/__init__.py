"""A client of ``landcue serve``: needs neither torch nor NumPy, and no package but this one."""

from landcue.client.asking import Asked
from landcue.client.client import Client
from landcue.client.results import ArchiveInfo, FoundRecord, Hit, LabelCount, SearchPage
from landcue.errors import ServiceError

__all__ = [
    "ArchiveInfo",
    "Asked",
    "Client",
    "FoundRecord",
    "Hit",
    "LabelCount",
    "SearchPage",
    "ServiceError",
]
