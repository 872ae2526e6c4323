"""Saved searches and kept images of an archive that is fitted again, also if that is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from fastapi.testclient import TestClient

import landcue
import remembered
from commands import landcue as run
from fitted_archives import make_archives
from landcue.archive.indexing import index_source
from landcue.archive.rebuild import reembed
from landcue.models.load import load_model
from landcue.search import Filter
from landcue.server.archives import Catalog, Served
from pixel_encoder import PixelEncoder
from services import application

ID = "sand003.png"
SCORES = (-1.0, 0.2, 0.9, 1.0)


@pytest.fixture(scope="module", autouse=True)
def _remembered():
    """Of images that these tests fit again and again."""
    with remembered.encodings():
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """An archive with saved searches, and another model to fit it again with."""
    root = tmp_path_factory.mktemp("refit")
    photos, one, *_ = make_archives(root)
    one.watches.add("near", one.embed(ID))
    for score in SCORES:
        one.watches.add(f"from {score}", one.embed(ID), min_score=score)
    one.watches.add("wet", None, where=Filter.parse("pavement or not pavement"))
    one.close()
    return root, photos


@pytest.fixture
def copy(fitted, tmp_path):
    root, photos = fitted
    for name in ("fit0", "fit0.watches.sqlite"):
        source = root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    return tmp_path / "fit0", root / "model1", photos


def refit(folder, model):
    reembed(folder, load_model(model), model_folder=model)
    return landcue.open(folder)


def share_within(archive, score):
    """Return the share of records whose nearest neighbor has at least this score."""
    return np.mean(1 - archive.backend.typical("embedding").nearest >= score - 1e-6)


def add_copy(folder, photos, tmp_path):
    """Index a copy of the query's image under a new name."""
    more = tmp_path / "more"
    more.mkdir()
    shutil.copy(photos / ID, more / "again.png")
    index_source(more, folder)
    return landcue.open(folder)


def check_converted(archive, near):
    """Check that the saved searches are of the archive as it is fitted now."""
    kept = {one["name"]: one for one in archive.watches.export()}
    assert {one["model"] for one in kept.values()} == {archive.manifest.fingerprint}
    assert {one.problem for one in archive.watches.list()} == {None}
    for name in ("near", *(f"from {score}" for score in SCORES)):
        np.testing.assert_allclose(kept[name]["embedding"], archive.embed(ID)[0], atol=2e-4)
    least = [kept[f"from {score}"]["min_score"] for score in SCORES]
    assert least[0] == -1
    assert least[-1] == 1
    assert least == sorted(least)
    assert share_within(archive, kept["near"]["min_score"]) == pytest.approx(near, abs=0.2)
    assert kept["wet"]["embedding"] is None


def test_saved_searches_are_converted_with_their_least_scores(copy, tmp_path):
    folder, model, photos = copy
    before = landcue.open(folder)
    near = share_within(before, {w.name: w for w in before.watches.list()}["near"].min_score)
    after = refit(folder, model)
    assert after.manifest.fingerprint != before.manifest.fingerprint
    assert {one.problem for one in after.watches.list()} == {None}  # before they are converted, too
    report = after.watches.run()
    assert (report.hits, report.problems) == ((), ())
    check_converted(after, near)
    assert after.verify() == ()
    found = add_copy(folder, photos, tmp_path).watches.run()
    assert found.problems == ()
    assert {hit.id for hit in found.hits} == {"again.png"}
    assert {"near", "from 0.9", "from -1.0", "wet"} <= {hit.watch for hit in found.hits}


def test_a_fit_is_followed_by_others_and_by_none(copy, fitted):
    folder, model, _ = copy
    refit(folder, model)
    run("archive", "reembed", folder, "--no-fit")  # which converts them
    bare = landcue.open(folder)
    check_kept = bare.watches.export()
    assert {one["model"] for one in check_kept} == {bare.manifest.fingerprint}
    again = refit(folder, fitted[0] / "model0")
    again.watches.run()
    kept = {one["name"]: one for one in again.watches.export()}
    original = landcue.open(fitted[0] / "fit0")
    assert again.manifest.fingerprint == original.manifest.fingerprint
    first = {one["name"]: one for one in original.watches.export()}
    for name in ("near", "from 0.9"):
        np.testing.assert_allclose(kept[name]["embedding"], first[name]["embedding"], atol=5e-4)
        assert kept[name]["min_score"] == pytest.approx(first[name]["min_score"], abs=0.02)
    vector = np.array(original.embed(ID))
    moved = refit(folder, model)
    found = moved.search(vector, k=1, space=original.manifest.fingerprint)  # of a former fit
    assert (found.ids, round(found[0].distance, 3)) == ((ID,), 0)


def test_with_another_encoder_each_saved_search_is_named_in_one_line(copy):
    folder, _, _ = copy
    reembed(folder, PixelEncoder())
    report = landcue.open(folder).watches.run()
    assert len(report.problems) == 2 + len(SCORES)
    assert all("made with another model: remove it and add it again" in str(p) and
               "\n" not in str(p) for p in report.problems)  # fmt: skip


def test_images_that_collections_keep_are_converted(copy, tmp_path):
    folder, model, photos = copy
    data = (photos / ID).read_bytes()

    def service():
        catalog = Catalog([Served("a", landcue.open(folder))])
        app = application(catalog, collections_file=tmp_path / "c.sqlite")
        return TestClient(app, base_url="http://127.0.0.1")

    def hits(answer):
        assert answer.status_code == 200, answer.text
        return [(hit["id"], round(hit["distance"], 3)) for hit in answer.json()["hits"]]

    with service() as client:
        made = client.post("/v1/collections", data={"request": '{"name": "sands", "query": {}}'},
                           files={"image": ("x", data)}).json()  # fmt: skip
    refit(folder, model)
    with service() as client:
        for mode in ("embedding", "code", "cue"):
            asked = {"k": 4, "mode": mode}
            again = client.post("/v1/search", json={**asked, "images_of": made["id"]})
            new = client.post("/v1/search", data={"request": f'{{"k": 4, "mode": "{mode}"}}'},
                              files={"image": ("x", data)})  # fmt: skip
            assert hits(again) == hits(new)
        file = client.get(f"/v1/collections/{made['id']}/export").json()
        assert file["images"][0]["fingerprint"] == file["model"]
        assert client.post("/v1/collections/import", json=file).json()["problems"] == []
    reembed(folder, PixelEncoder())
    with service() as client:
        answer = client.post("/v1/search", json={"images_of": made["id"]})
        assert answer.status_code == 409
        assert "model encoded the collection's images" in answer.json()["detail"]


KILLED = """
import json, os, signal, sqlite3, sys, warnings
from pathlib import Path
from types import SimpleNamespace
import lancedb, onnxruntime  # imported before the forks, not used before them
import landcue, landcue.models.onnx, landcue.search.watch
from landcue.archive import rebuild, space
from landcue.models.load import load_model

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(function):
    def call(*args):
        function(*args)
        die()
    return call

def refit(folder, model, when):
    if when == "keep":
        rebuild.keep_former_spaces = then_die(rebuild.keep_former_spaces)
    if when == "write":
        write = then_die(space.storage.write)
        space.storage = SimpleNamespace(local_copy=space.storage.local_copy, write=write)
    if when == "switch":
        rebuild.switch = then_die(rebuild.switch)
    rebuild.reembed(folder, load_model(model), model_folder=model)
    if when == "convert":  # before the transaction ends
        connect = sqlite3.connect

        def watched(*args, **options):
            database = connect(*args, **options)
            database.set_trace_callback(lambda text: text == "COMMIT" and die())
            return database

        sqlite3.connect = watched
    landcue.open(folder).watches.run()

warnings.simplefilter("ignore")  # a fork before any table is touched is safe
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.alarm(120)  # one that hangs ends
        folder, model, when = json.loads(line)
        refit(Path(folder), Path(model), when)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def killed():
    """Fit an archive again in a process that is killed meanwhile; gives its exit status."""
    command, pipe = [sys.executable, "-c", KILLED], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:

        def killed(*order):
            print(json.dumps([str(one) for one in order]), file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield killed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
@pytest.mark.parametrize("when", ["write", "keep", "switch", "convert"])
def test_a_refit_that_is_killed_loses_no_saved_search(copy, killed, when):
    folder, model, _ = copy
    before = landcue.open(folder)
    near = share_within(before, {w.name: w for w in before.watches.list()}["near"].min_score)
    old, stored = before.manifest.fingerprint, before.watches.export()
    before.close()
    assert killed(folder, model, when) == -signal.SIGKILL
    now = landcue.open(folder)
    assert now.verify() == ()
    assert (now.manifest.fingerprint == old) == (when in ("write", "keep"))
    kept = now.watches.export()
    assert {one["model"] for one in kept} == {old}  # converted whole, or not at all
    for one, same in zip(kept, stored, strict=True):
        np.testing.assert_array_equal(one["embedding"], same["embedding"])
    assert {one.problem for one in now.watches.list()} == {None}
    if when in ("write", "keep"):
        assert now.watches.run().problems == ()
        now.close()
        now = refit(folder, model)
    assert now.watches.run().problems == ()
    check_converted(now, near)
