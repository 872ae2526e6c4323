"""A client of ``landcue serve``: it needs httpx and pydantic, and neither torch nor NumPy.

>>> client = Client("http://127.0.0.1:8000")
>>> client
Client('http://127.0.0.1:8000')
"""

from landcue.client.client import Client
from landcue.client.transport import SearchArguments
from landcue.errors import ServiceError
from landcue.server.schemas.archives import (
    ArchiveAnswer,
    FacetsAnswer,
    LabelCount,
    LabelErrorsAnswer,
    LabelScore,
    MapAnswer,
    MapPoint,
    ModelAnswer,
    OwnScoresAnswer,
    Reading,
    RecordAnswer,
    RegionGrid,
    RegionsAnswer,
    SpaceScores,
    TestScores,
    ValueCount,
    WorstQuery,
)
from landcue.server.schemas.changes import ChangeAnswer, ChangedPair, Moment
from landcue.server.schemas.collections import (
    CollectionAnswer,
    CollectionSummary,
    ImportAnswer,
    Member,
)
from landcue.server.schemas.searches import (
    Hit,
    HitRegion,
    MapCluster,
    MapRecord,
    PlacesAnswer,
    Plan,
    ScoreParts,
    ScoresAnswer,
    SearchAnswer,
)
from landcue.server.schemas.watches import Watch, WatchesImportAnswer, WatchHit

__all__ = [
    "ArchiveAnswer",
    "ChangeAnswer",
    "ChangedPair",
    "Client",
    "CollectionAnswer",
    "CollectionSummary",
    "FacetsAnswer",
    "Hit",
    "HitRegion",
    "ImportAnswer",
    "LabelCount",
    "LabelErrorsAnswer",
    "LabelScore",
    "MapAnswer",
    "MapCluster",
    "MapPoint",
    "MapRecord",
    "Member",
    "ModelAnswer",
    "Moment",
    "OwnScoresAnswer",
    "PlacesAnswer",
    "Plan",
    "Reading",
    "RecordAnswer",
    "RegionGrid",
    "RegionsAnswer",
    "ScoreParts",
    "ScoresAnswer",
    "SearchAnswer",
    "SearchArguments",
    "ServiceError",
    "SpaceScores",
    "TestScores",
    "ValueCount",
    "Watch",
    "WatchHit",
    "WatchesImportAnswer",
    "WorstQuery",
]
