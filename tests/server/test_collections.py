"""Collections: marks that several people share, undo, export, and what hostile requests may do."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import httpx
import pytest
from PIL import Image

import landcue
from landcue.data.label_table import read_label_table
from landcue.data.marks import Marks
from landcue.errors import UsageError
from landcue.server.collections import MAX_MEMBERS, Collections
from landcue.server.settings import Tokens

A, B, C = "port/01.png", "port/03.png", "farm/02.png"


@pytest.fixture
def client(start, tmp_path):
    with start(collections_file=tmp_path / "picks.db") as client:
        yield client


def create(client, **given):
    answer = client.post("/v1/collections", json={"name": "ports", **given})
    assert answer.status_code == 201, answer.text
    return answer.json()


def marks(value):
    return {member["id"]: member["mark"] for member in value["members"]}


def test_a_collection_is_made_changed_undone_and_deleted(client):
    query = {"id": A, "k": 5, "filters": {"labels": "water", "bbox": [0, -1, 30, 1]}}
    made = create(client, query=query, members=[{"id": A, "mark": "good"}], who="Ann")
    at = f"/v1/collections/{made['id']}"
    assert made["query"]["id"] == A
    assert made["members"][0]["who"] == "Ann"
    change = {"members": [{"id": B, "mark": "bad", "note": "x"}, {"id": A, "labels": ["quay"]}]}
    changed = client.post(at, json={**change, "name": "quays", "who": "Bo"}).json()
    assert (changed["name"], marks(changed)) == ("quays", {A: None, B: "bad"})
    assert client.get(at).json() == changed
    removed = client.post(at, json={"members": [{"id": B}]}).json()
    assert marks(removed) == {A: None}
    for before in (changed, made):
        undone = client.post(f"{at}/undo").json()["members"]
        assert [{**one, "revision": 0} for one in undone] == [
            {**one, "revision": 0} for one in before["members"]
        ]
    assert client.post(f"{at}/undo").json()["members"] == []
    assert client.post(f"{at}/undo").status_code == 409
    (listed,) = client.get("/v1/collections").json()["collections"]
    assert (listed["id"], listed["name"], listed["members"]) == (made["id"], "quays", 0)
    assert client.get("/v1/collections", params={"archive": "made"}).json()["collections"] == []
    assert client.delete(at).json()["name"] == "quays"
    assert client.get(at).status_code == client.delete(at).status_code == 404


def test_a_record_that_is_twice_in_a_change_is_undone_once(client):
    twice = [{"id": B, "mark": "good"}, {"id": B, "mark": "bad"}]
    made = create(client, members=[{"id": A, "mark": "good"}])
    at = f"/v1/collections/{made['id']}"
    assert marks(client.post(at, json={"members": twice}).json()) == {A: "good", B: "bad"}
    assert marks(client.post(f"{at}/undo").json()) == {A: "good"}


def test_a_merge_adds_members_and_keeps_own_marks(client, is_problem):
    one = create(client, members=[{"id": A, "mark": "good"}])
    two = create(client, members=[{"id": A, "mark": "bad"}, {"id": C, "mark": "bad"}])
    merged = client.post(f"/v1/collections/{one['id']}", json={"merge": two["id"]}).json()
    assert marks(merged) == {A: "good", C: "bad"}
    other = create(client, archive="made")
    is_problem(client.post(f"/v1/collections/{one['id']}", json={"merge": other["id"]}), 409)


def test_a_member_that_was_changed_since_is_not_overwritten(client, is_problem):
    made = create(client, members=[{"id": A, "mark": "good"}])
    at = f"/v1/collections/{made['id']}"
    seen = made["members"][0]["revision"]
    theirs = {"members": [{"id": A, "mark": "bad", "revision": seen}], "who": "Bo"}
    now = client.post(at, json=theirs).json()
    assert now["members"][0]["revision"] > seen
    mine = {"members": [{"id": B, "mark": "good"}, {"id": A, "note": "mine", "revision": seen}]}
    detail = is_problem(client.post(at, json=mine), 409)
    assert detail == f"Record {A} was changed by Bo since it was read: read the collection again"
    assert client.get(at).json() == now  # and of the other member nothing, either
    new = {"members": [{"id": C, "mark": "good", "revision": 0}]}
    assert client.post(at, json=new).status_code == 200
    is_problem(client.post(at, json=new), 409)
    undone = client.post(f"{at}/undo").json()
    is_problem(client.post(f"{at}/undo", params={"revision": undone["revision"] + 1}), 409)
    back = client.post(f"{at}/undo", params={"revision": undone["revision"]}).json()
    assert marks(back) == {A: "good"}
    assert back["members"][0]["revision"] > now["members"][0]["revision"]  # never one twice
    removed = client.post(at, json={"members": [{"id": A}]}).json()
    assert removed["members"] == []
    assert "was removed" in is_problem(client.post(at, json=theirs), 409)


def test_a_collection_that_was_renamed_since_keeps_its_name(client, is_problem):
    at = f"/v1/collections/{create(client, name='boats')['id']}"
    assert client.post(at, json={"name": "ships", "old_name": "boats"}).json()["name"] == "ships"
    mine = {"name": "quays", "old_name": "boats", "members": [{"id": A, "mark": "good"}]}
    detail = is_problem(client.post(at, json=mine), 409)
    assert detail == "The collection was renamed to 'ships' since it was read: read it again"
    kept = client.get(at).json()
    assert (kept["name"], kept["members"]) == ("ships", [])
    assert client.post(at, json={**mine, "old_name": "ships"}).json()["name"] == "quays"
    assert client.post(at, json={"name": "docks"}).json()["name"] == "docks"


def test_uploaded_queries_are_kept_and_searched_again(client, send, png, is_problem):
    upload = png(seed=3), png(seed=4)
    files = [("image", upload[0]), ("negative", upload[1])]
    asked = {"filters": {"labels": "water"}, "positives": [A], "mode": "code"}
    wanted = send(client, *files, crop=[2, 2, 20, 20], **asked).json()
    query = {**asked, "crop": [2, 2, 20, 20], "k": 7}
    answer = send(client, *files, url="/v1/collections", name="like mine", query=query)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["images"] == ["image", "negative"]
    assert made["query"] == {**asked, "k": 7}
    again = client.post("/v1/search", json={**asked, "images_of": made["id"]}).json()
    found = [[(hit["id"], hit["distance"]) for hit in one["hits"]] for one in (wanted, again)]
    assert found[0] == found[1]
    assert again["labels"] == wanted["labels"]
    at = f"/v1/collections/{made['id']}"
    small = client.get(f"{at}/images/0")
    assert small.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(small.content)).size == (20, 20)
    is_problem(client.get(f"{at}/images/2"), 404)
    other = {"images_of": made["id"], "archive": "made"}
    assert "another archive" in is_problem(client.post("/v1/search", json=other), 409)
    plain = {"images_of": create(client)["id"]}
    assert "keeps no image" in is_problem(client.post("/v1/search", json=plain), 409)
    listed = len(client.get("/v1/collections").json()["collections"])
    is_problem(send(client, ("image", b"no image"), url="/v1/collections", name="x"), 400)
    assert len(client.get("/v1/collections").json()["collections"]) == listed


def test_images_of_another_model_are_refused(client, send, png, tmp_path, is_problem):
    made = send(client, ("image", png()), url="/v1/collections", name="mine").json()
    with sqlite3.connect(tmp_path / "picks.db") as database:
        database.execute("UPDATE images SET fingerprint = 'other'")
    answer = client.post("/v1/search", json={"images_of": made["id"]})
    assert "upload them again" in is_problem(answer, 409)


def test_labels_come_back_as_a_table_that_indexing_reads(client, tmp_path):
    members = [{"id": A, "labels": ["quay", "open water"]}, {"id": B, "labels": ["quay"]}]
    made = create(client, members=[*members, {"id": C, "mark": "bad"}])
    answer = client.get(f"/v1/collections/{made['id']}/labels")
    (tmp_path / "labels.csv").write_bytes(answer.content)
    table = read_label_table(tmp_path / "labels.csv")
    rows = {row.path: row.labels for row in table.rows}
    assert rows == {A: ("quay", "open water"), B: ("quay",)} or rows == {
        A: ("open water", "quay"),
        B: ("quay",),
    }


def test_collections_outlive_the_service(start, tmp_path):
    with start(collections_file=tmp_path / "picks.db") as client:
        made = create(client, members=[{"id": A, "mark": "good"}])
    with start(collections_file=tmp_path / "picks.db") as client:
        assert client.get(f"/v1/collections/{made['id']}").json() == made


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"members": [{"id": "none", "mark": "good"}]}, 404),
        ({"members": [{"id": A, "mark": "great"}]}, 422),
        ({"members": [{"id": A, "labels": ["a;b"]}]}, 422),
        ({"members": [{"id": A, "labels": ["x" * 300]}]}, 422),
        ({"members": [{"id": A, "note": "x" * 3_000}]}, 422),
        ({"members": [{"id": A}] * 1_001}, 422),
        ({"name": ""}, 422),
        ({"name": "x" * 300_000}, 413),
        ({"archive": "none"}, 404),
        ({"query": {"k": 0}}, 422),
        ({"secret": 1}, 422),
    ],
)
def test_bad_collections_are_refused_and_leave_nothing(client, is_problem, given, status):
    is_problem(client.post("/v1/collections", json={"name": "a", **given}), status)
    assert client.get("/v1/collections").json()["collections"] == []


def test_names_are_data(client):
    names = ["'; DROP TABLE members; --", "<script>alert(1)</script>", "=1+1", "\x1b[2J\n"]
    ids = [create(client, name=name)["id"] for name in names]
    assert [client.get(f"/v1/collections/{id_}").json()["name"] for id_ in ids] == names
    for id_ in ("none", "' OR 1=1 --", "..%2f..", "%00"):
        assert client.get(f"/v1/collections/{id_}").status_code == 404
    made = create(client, members=[{"id": A, "labels": ["=cmd()", "b"]}])
    table = client.get(f"/v1/collections/{made['id']}/labels").text
    assert table == f"path,labels\r\n{A},'=cmd(); b\r\n"


def test_changes_need_the_scope_feedback(start, tmp_path, is_problem):
    tokens = Tokens(read=("r" * 30,), feedback=("f" * 30,))
    read, write = ({"Authorization": f"Bearer {one * 30}"} for one in "rf")
    with start(tokens=tokens, collections_file=tmp_path / "picks.db") as client:
        is_problem(client.post("/v1/collections", json={"name": "a"}, headers=read), 403)
        made = client.post("/v1/collections", json={"name": "a"}, headers=write).json()
        at = f"/v1/collections/{made['id']}"
        assert client.get(at, headers=read).status_code == 200
        is_problem(client.post(at, json={"name": "b"}, headers=read), 403)
        is_problem(client.post(f"{at}/undo", headers=read), 403)
        is_problem(client.delete(at, headers=read), 403)
        is_problem(client.get(at), 401)


def test_without_a_file_or_room_it_is_one_line(start, tmp_path, is_problem):
    with start() as client:
        assert "keeps no collections" in is_problem(client.get("/v1/collections"), 404)
    with start({"collections_bytes": 60_000}, collections_file=tmp_path / "picks.db") as client:
        made = create(client)
        at = f"/v1/collections/{made['id']}"
        full = {"members": [{"id": A, "note": "x" * 2_000}]}
        answers = [client.post(at, json=full) for _ in range(60)]
        assert "full" in is_problem(answers[-1], 503)
        assert client.get(at).status_code == 200
    old = tmp_path / "old.db"
    with sqlite3.connect(old) as database:
        database.execute("CREATE TABLE collections (id TEXT)")
    with pytest.raises(UsageError, match="another version"):
        Collections(old, 1 << 20).check()
    (tmp_path / "other.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(UsageError, match=r"other\.db: cannot be used"):
        Collections(tmp_path / "other.db", 1 << 20).check()


def test_a_file_that_could_not_be_created_whole_is_created_later(tmp_path):
    path = tmp_path / "picks.db"
    for pages in range(1, 8):
        with pytest.raises(UsageError, match="full"):
            Collections(path, pages * 4096).check()
    kept = Collections(path, 1 << 20)
    kept.check()
    assert kept.create("a", "first", None, [], None)["members"] == []


def test_many_members_are_refused(tmp_path):
    kept = Collections(tmp_path / "picks.db", 100 << 20)
    kept.check()
    members = [
        {"id": str(i), "mark": "good", "note": None, "labels": []} for i in range(MAX_MEMBERS)
    ]
    made = kept.create("a", "many", None, members, None)
    with pytest.raises(landcue.CollectionError, match="a collection has at most 10,000") as caught:
        kept.change(made["id"], None, None, [{**members[0], "id": "more"}], None)
    assert caught.value.status == 413
    with pytest.raises(landcue.CollectionError, match="there is no such collection"):
        kept.get("unknown")
    assert len(kept.get(made["id"])["members"]) == MAX_MEMBERS


def suggestions(client, **given):
    answer = client.post("/v1/suggest", json=given)
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def test_suggestions_come_from_the_marks_of_a_collection_and_of_the_request(client, photos):
    made = create(
        client,
        members=[
            {"id": A, "mark": "good", "labels": ["quay"]},
            {"id": B, "labels": ["quay", "crane"]},
            {"id": C, "mark": "bad", "labels": ["farm"]},
        ],
    )
    archive = landcue.open(photos)
    found = client.post("/v1/suggest", json={"collection": made["id"], "k": 4}).json()
    assert (found["mode"], found["query"], len(found["hits"])) == ("suggest", "ports", 4)
    assert all(0 <= hit["score"] <= 1 for hit in found["hits"])
    ids = [hit["id"] for hit in found["hits"]]
    members = [(one["id"], one["mark"], one["labels"]) for one in made["members"]]
    assert ids == list(archive.suggest(Marks.of("ports", members), 4).ids)
    assert not {A, B, C} & set(ids)
    two = list(archive.suggest({A: True, C: False}, 4).ids)
    assert suggestions(client, positives=[A], negatives=[C], k=4) == two
    both = list(archive.suggest({A: True, C: False, B: True}, 4).ids)
    assert suggestions(client, collection=made["id"], positives=[B], k=4) == both
    labels = {A: ["quay"], B: ["quay", "crane"], C: ["farm"]}
    by_label = archive.suggest(labels, 4, label="crane").ids
    assert suggestions(client, collection=made["id"], label="crane", k=4) == list(by_label)
    corners = [[2, -1], [12, -1], [12, 1], [2, -1]]
    for where in (
        {"bbox": [0, -1, 30, 1]},
        {"polygon": {"type": "Polygon", "coordinates": [corners]}},
    ):
        allowed = client.post("/v1/search", json={"filters": where, "k": 100}).json()
        ids = {hit["id"] for hit in allowed["hits"]}
        assert 0 < len(ids) < len(archive)
        assert set(suggestions(client, positives=[A], filters=where, k=100)) == ids - {A}


@pytest.mark.parametrize(
    ("given", "status", "detail"),
    [
        ({}, 400, "marks: no record is marked"),
        ({"negatives": [A]}, 400, "marks: none of 1 records is marked as good"),
        ({"positives": ["none"]}, 404, "No record has the id 'none'"),
        ({"collection": "none"}, 404, "There is no such collection"),
        ({"positives": [A], "label": "quay"}, 400, "marks: no record has the label 'quay'"),
        ({"positives": [A], "k": 0}, 422, "k"),
        ({"positives": [A], "apart": -1}, 422, "apart"),
        ({"positives": [A], "filters": {"labels": "wter"}}, 400, "No record has the label"),
        ({"positives": [A], "archive": "none"}, 404, "none"),
    ],
)
def test_suggestions_that_cannot_be_made_are_one_line(client, is_problem, given, status, detail):
    assert detail in is_problem(client.post("/v1/suggest", json=given), status)


def test_suggestions_from_a_collection_of_another_archive_are_refused(client, is_problem):
    other = create(client, archive="made")
    answer = client.post("/v1/suggest", json={"collection": other["id"]})
    assert "another archive" in is_problem(answer, 409)


WRITER = """
import sys
import time
from pathlib import Path
from landcue.server.collections import Collections
kept = Collections(Path(sys.argv[1]), 100 << 20)
made = kept.create("a", sys.argv[2], None, [], None)
print(made["id"], flush=True)
for i in range(100_000):
    member = {"id": str(i), "mark": "good", "note": None, "labels": []}
    kept.change(made["id"], None, None, [member], None)
    print(i, flush=True)
    time.sleep(0.02)  # clients pause, too: SQLite lets others in then
"""


def test_nothing_acknowledged_is_lost_by_a_kill_and_writers_share_the_file(tmp_path):
    path = tmp_path / "picks.db"
    Collections(path, 100 << 20).check()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, name], stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    said = [[] for _ in writers]

    def follow(writer, lines):
        lines.extend(line.strip() for line in writer.stdout)

    readers = [
        threading.Thread(target=follow, args=pair) for pair in zip(writers, said, strict=True)
    ]
    for reader in readers:
        reader.start()
    while min(map(len, said)) < 20:
        assert all(writer.poll() is None for writer in writers)
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    for reader in readers:
        reader.join()
    for id_, *acknowledged in said:
        found = {member["id"] for member in Collections(path, 100 << 20).get(id_)["members"]}
        assert set(acknowledged) <= found
        assert len(found) <= len(acknowledged) + 1


@pytest.mark.slow
def test_a_killed_server_keeps_every_mark_that_it_acknowledged(serve, photos, tmp_path):
    path = tmp_path / "picks.db"
    process, address, _ = serve(photos, "--collections", path)
    acknowledged = {}
    with httpx.Client(base_url=address, timeout=30) as client:
        at = f"/v1/collections/{create(client)['id']}"

    def save(worker):
        with contextlib.suppress(httpx.HTTPError), httpx.Client(base_url=address) as client:
            for n in range(10_000):
                id_ = f"port/{1 + 2 * (worker % 15):02}.png"
                answer = client.post(at, json={"members": [{"id": id_, "note": str(n)}]})
                assert answer.status_code == 200, answer.text
                acknowledged[id_] = n

    savers = [threading.Thread(target=save, args=(worker,)) for worker in range(4)]
    for saver in savers:
        saver.start()
    while len(acknowledged) < 4 or min(acknowledged.values()) < 10:
        assert process.poll() is None
    process.kill()
    for saver in savers:
        saver.join()
    kept = Collections(path, 100 << 20).get(at.rpartition("/")[2])
    notes = {member["id"]: int(member["note"]) for member in kept["members"]}
    assert all(notes[id_] in (n, n + 1) for id_, n in acknowledged.items())
