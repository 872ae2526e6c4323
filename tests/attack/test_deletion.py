"""Archives that are deleted while they are read: nothing that only reads creates them again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time

import pytest
from fastapi.testclient import TestClient

import landcue
import services
from landcue.archive.changes import delete, describe
from landcue.archive.verify import verify_archive
from landcue.errors import LandcueError
from landcue.search.watch import run_saved

pytestmark = pytest.mark.attack

source, photos, made, app = services.source, services.photos, services.made, services.app
DELETIONS = int(os.environ.get("LANDCUE_DELETIONS", "30"))


def read(folder):
    """Open an archive and use all that writes derived files."""
    with landcue.open(folder, cache=True) as archive:
        first = archive.ids()[0]
        for mode in ("embedding", "code", "cue"):
            archive.search(first, k=3, mode=mode)
        archive.watches.list()
        archive.watches.hits()


def removed(folder):
    """Remove a folder as ``rm -r`` does, again if something was written meanwhile."""
    while folder.exists():
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


def moved(folder):
    removed(folder.rename(folder.with_name("aside")))


def dry_run(folder):
    delete(folder, ["x"], apply=False)


@pytest.mark.parametrize("remove", [removed, moved])
@pytest.mark.parametrize(
    "work", [[describe] * 3, [read, read, verify_archive, run_saved, dry_run]], ids=["open", "use"]
)
def test_readers_of_an_archive_that_is_deleted_create_nothing(photos, tmp_path, work, remove):
    folder, chance = tmp_path / "archives" / "photos", random.Random(remove.__name__)
    gone = threading.Event()

    def repeat(one):
        while not gone.is_set():
            with contextlib.suppress(LandcueError, OSError):
                one(folder)

    for _ in range(DELETIONS):
        gone.clear()
        shutil.copytree(photos, folder)
        threads = [threading.Thread(target=repeat, args=(one,)) for one in work]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.02, 0.2))
        remove(folder)
        time.sleep(0.05)  # for those that found it there and go on now
        gone.set()
        for thread in threads:
            thread.join()
        assert list(folder.parent.rglob("*")) == []


@pytest.mark.parametrize("remove", [removed, moved])
def test_a_service_does_not_create_its_deleted_archive(app, photos, tmp_path, remove):
    folder = shutil.copytree(photos, tmp_path / "archives" / "photos")
    kept = tmp_path / "collections.sqlite"
    made = app(folders=[folder], collections_file=kept)
    with TestClient(made, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        id_ = client.get("/v1/facets").json()["examples"][0]
        remove(folder)
        kept.unlink()
        search = {"id": id_, "k": 5}
        asked = [
            *(("POST", "/v1/search", {**search, "mode": mode}) for mode in ("embedding", "cue")),
            *(("POST", "/v1/search", {"filters": {"labels": "water"}, "k": 9}),),
            *(("POST", "/v1/map?zoom=3", {"k": 5}),),
            *(("POST", "/v1/collections", {"archive": "photos", "name": "a", "members": []}),),
            *(("POST", "/v1/watches", {"name": "a", "search": search}),),
            *(("GET", path, None) for path in ("/v1/archives", "/v1/collections?archive=photos")),
            *(("GET", path, None) for path in ("/v1/watches", "/v1/watches/hits", "/readyz")),
            *(("GET", f"/v1/records/{id_}{what}", None) for what in ("", "/thumbnail", "/chip")),
        ]
        answers = {
            (path, str(body)): client.request(how, path, json=body) for how, path, body in asked
        }
    assert {answer.status_code for answer in answers.values()} <= {200, 400, 404, 503}, answers
    assert answers["/readyz", "None"].status_code == 503
    assert list(folder.parent.rglob("*")) == []
    assert not kept.exists()
