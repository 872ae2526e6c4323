"""Exported collections and saved searches, read by another service, and hostile files."""

from __future__ import annotations

import base64
import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import landcue
import pixel_encoder as tools
import services
from commands import error_line
from commands import landcue as command
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.client import Client
from landcue.search import open_archive
from landcue.server.archives import Catalog, Served
from landcue.server.settings import Tokens

BASE = "http://127.0.0.1"


class OtherEncoder(tools.PixelEncoder):
    def __init__(self):
        super().__init__(seed=1)


def write_archive(root, encoder=tools.PixelEncoder, names=12):
    files = [f"{i:03}.png" for i in range(names)]
    records = tools.write_images(root / "source", files)
    ingest(SourceImages(records, root / "source"), root / "area", encoder())


def application(root, name="area", encoder=tools.PixelEncoder, **settings):
    served = Served(name, open_archive(root / "area", model=encoder))
    kept = root / "kept.sqlite"
    return services.application(
        Catalog([served]), collections_file=kept, follow_seconds=0, **settings
    )


def service(*args, **settings):
    app = application(*args, **settings)
    return TestClient(app, base_url=BASE, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def areas(tmp_path_factory):
    """Archives of the same images on two servers, and one of another model with fewer of them."""
    roots = {name: tmp_path_factory.mktemp(name) for name in ("here", "there", "other")}
    write_archive(roots["here"])
    write_archive(roots["there"])
    write_archive(roots["other"], OtherEncoder, 6)
    return roots


@pytest.fixture(scope="module")
def exported(areas, send, png):
    """What a service says of a collection with an uploaded image: its export and its results."""
    with service(areas["here"]) as client:
        query = {"filters": {"labels": "not water"}, "positives": ["003.png"], "k": 9}
        members = [{"id": "001.png", "mark": "good", "note": "n", "labels": ["a"]}]
        members.append({"id": "010.png", "mark": "bad"})
        files = (("image", png(seed=5)), ("negative", png(seed=6)))
        made = send(client, *files, url="/v1/collections", name="ships", who="Ann",
                    query=query, members=members).json()  # fmt: skip
        own = {"filters": {"labels": "not water"}, "images_of": made["id"], "min_score": 0.3}
        saved = {"name": "new ships", "collection": made["id"], "search": own}
        assert client.post("/v1/watches", json=saved).status_code == 201
        answer = client.get(f"/v1/collections/{made['id']}/export")
        assert answer.status_code == 200, answer.text
        assert "attachment" in answer.headers["content-disposition"]
        found = client.post("/v1/search", json={**query, "images_of": made["id"]}).json()["hits"]
        watches = client.get("/v1/watches/export").json()
    return answer.json(), [(hit["id"], hit["distance"]) for hit in found], watches


@pytest.fixture(scope="module")
def there(areas):
    with service(areas["there"]) as client:
        yield client


def put(client, file, url="/v1/collections/import"):
    return client.post(url, json=file)


def test_a_collection_with_an_uploaded_query_is_searched_on_another_server(exported, areas):
    file, hits, _ = exported
    with service(areas["there"], "elsewhere") as client:
        answer = put(client, file)
        assert answer.status_code == 201, answer.text
        made, problems = answer.json()["collection"], answer.json()["problems"]
        assert problems == []
        assert made["archive"] == "elsewhere"
        assert made["id"] != file["id"]
        assert made["images"] == ["image", "negative"]
        said = [(one["id"], one["mark"], one["note"], one["who"]) for one in made["members"]]
        assert said == [("001.png", "good", "n", "Ann"), ("010.png", "bad", None, "Ann")]
        again = client.post("/v1/search", json={**made["query"], "images_of": made["id"]}).json()
        assert [(hit["id"], hit["distance"]) for hit in again["hits"]] == hits
        small = client.get(f"/v1/collections/{made['id']}/images/0")
        assert Image.open(io.BytesIO(small.content)).size == (40, 30)
        (watch,) = client.get("/v1/watches").json()["watches"]
        assert (watch["name"], watch["min_score"]) == ("new ships", 0.3)
        assert watch["collection"] == watch["search"]["images_of"] == made["id"]
        # Once more: names that are taken get a number, and what is exported again is the same.
        second = put(client, file).json()["collection"]
        names = [one["name"] for one in client.get("/v1/watches").json()["watches"]]
        assert names == ["new ships", "new ships (2)"]
        back = client.get(f"/v1/collections/{second['id']}/export").json()
        for name in ("name", "members"):
            assert back[name] == file[name]
        for one, old in zip(back["images"], file["images"], strict=True):
            assert {**one, "thumbnail": ""} == {**old, "thumbnail": ""}
        assert back["watches"][0]["embedding"] == file["watches"][0]["embedding"]


def test_an_imported_search_by_an_image_reports_what_is_like_it(areas, tmp_path, send):
    """Its collection is on the server where it was saved; the embedding comes with the file."""
    tools.write_images(tmp_path / "mine", ["query.png"], first_seed=13)
    upload = ("image", (tmp_path / "mine/query.png").read_bytes())
    with service(areas["here"]) as client:
        made = send(client, upload, url="/v1/collections", name="mine").json()
        search = {"images_of": made["id"], "min_score": 0.9999}
        client.post("/v1/watches", json={"name": "same", "search": search})
        file = client.get("/v1/watches/export").json()
    write_archive(tmp_path)
    with service(tmp_path) as client:
        answer = put(client, file, "/v1/watches/import")
        assert answer.json()["problems"] == []
        assert answer.json()["imported"] == len(file["watches"])
        (one,) = [each for each in client.get("/v1/watches").json()["watches"]
                  if each["name"] == "same"]  # fmt: skip
        assert one["search"] is None  # its image is not here to be shown
    records = tools.write_images(tmp_path / "source", ["012.png", "013.png"], first_seed=12)
    ingest(SourceImages(records, tmp_path / "source"), tmp_path / "area", tools.PixelEncoder())
    archive = landcue.open(tmp_path / "area", model=tools.PixelEncoder)
    hits = archive.watches.run().hits
    assert [hit.id for hit in hits if hit.watch == "same"] == ["013.png"]


def test_what_another_model_or_archive_cannot_use_is_named(exported, areas):
    file, _, watches = exported
    with service(areas["other"], encoder=OtherEncoder) as client:
        answer = put(client, file).json()
        assert answer["problems"] == [
            "1 record is not in archive 'area' and was left out: 010.png",
            "Images of the query were left out: another model encoded them",
            "Saved search 'new ships' was left out: another model encoded it",
        ]
        assert [one["id"] for one in answer["collection"]["members"]] == ["001.png"]
        assert answer["collection"]["images"] == []
        reported = put(client, watches, "/v1/watches/import").json()
        assert reported["imported"] == 0
        assert "another model" in reported["problems"][0]
        assert client.get("/v1/watches").json()["watches"] == []


def test_a_collection_that_uses_images_of_another_one_takes_them_along(areas, send, png):
    with service(areas["here"]) as client:
        first = send(client, ("image", png(seed=7)), url="/v1/collections", name="first").json()
        query = {"images_of": first["id"], "filters": {"labels": "not water"}}
        second = client.post("/v1/collections", json={"name": "second", "query": query}).json()
        file = client.get(f"/v1/collections/{second['id']}/export").json()
        client.delete(f"/v1/collections/{first['id']}")
        without = client.get(f"/v1/collections/{second['id']}/export").json()
    assert [one["part"] for one in file["images"]] == ["image"]
    with service(areas["there"]) as client:
        made = put(client, file).json()["collection"]
        assert made["query"] == {"filters": {"labels": "not water"}}
        assert client.post("/v1/search", json={"images_of": made["id"]}).status_code == 200
        assert put(client, without).json()["problems"] == [
            "Images of the query were left out: the file does not hold them"
        ]


def test_examples_and_vectors_that_another_archive_cannot_use_are_named(exported, areas, there):
    examples = {"id": "011.png", "positives": ["003.png", "010.png"], "negatives": ["004.png"]}
    file = {**exported[0], "watches": [], "images": [], "members": []}
    vector = [1.0, *[0.0] * 15]
    asked = {**file, "query": {**examples, "vector": vector, "k": 9}}
    with service(areas["other"], encoder=OtherEncoder) as client:
        answer = put(client, asked).json()
    assert answer["problems"] == [
        "The vector of the query was left out: it is not known to be of this model",
        "2 records of the query are not in archive 'area' and were left out: 011.png, 010.png",
    ]
    kept = {"positives": ["003.png"], "negatives": ["004.png"], "k": 9}
    assert answer["collection"]["query"] == kept
    made = put(there, asked).json()
    kept = {**asked["query"], "space": file["model"]}
    assert (made["problems"], made["collection"]["query"]) == ([], kept)
    assert put(there, {**asked, "model": None}).json()["problems"] == answer["problems"][:1]


def test_lines_about_hostile_names_are_printable(exported, there):
    evil = "\0\x1b[2J\r\n\u202e" + "x" * 900
    (one,) = exported[0]["watches"]
    bad = {**one, "name": evil[:100], "filters": {"labels": f"({evil}"}}
    made = put(there, {**exported[0], "members": [{"id": evil}], "watches": [bad]}).json()
    assert len(made["problems"]) == 2
    assert all(line.isprintable() and len(line) <= 500 for line in made["problems"])
    assert there.delete(f"/v1/collections/{made['collection']['id']}").status_code == 200


def test_a_collection_whose_saved_searches_cannot_be_written_is_not_added(
    exported, tmp_path, is_problem
):
    write_archive(tmp_path, names=2)
    with service(tmp_path) as client:
        assert put(client, exported[0]).status_code == 201
        before = client.get("/v1/collections").json()
        (tmp_path / "area.watches.sqlite").write_bytes(b"no database " * 1_000)
        assert "area" not in is_problem(put(client, exported[0]), 503)
        is_problem(put(client, exported[2], "/v1/watches/import"), 503)
        assert client.get("/v1/collections").json() == before


def test_imports_at_once_save_all_searches(exported, areas, tmp_path):
    shutil.copytree(areas["there"] / "area", tmp_path / "area")
    (one,) = exported[0]["watches"]
    file = {"watches": [{**one, "name": f"n{i}"} for i in range(9)]}
    with service(tmp_path) as client, ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda _: put(client, file, "/v1/watches/import").json(), range(4))
        assert [(one["imported"], one["problems"]) for one in answers] == [(9, [])] * 4
        names = {one["name"] for one in client.get("/v1/watches").json()["watches"]}
    numbers = ("", " (2)", " (3)", " (4)")
    assert names == {f"n{i}{number}" for i in range(9) for number in numbers}


def packed(values):
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


def thumbnail(form="PNG"):
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, form)
    return base64.b64encode(out.getvalue()).decode()


BOMB = base64.b64encode(
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xd9"
).decode()


@pytest.mark.parametrize(
    ("field", "value", "status", "detail"),
    [
        ("embedding", packed(np.zeros(12)), 400, "bytes, the archive's model makes"),
        ("embedding", "zero", 400, "not of length 1"),
        ("embedding", "nan", 400, "not finite"),
        ("embedding", "huge", 400, "not of length 1"),
        ("embedding", "%%%%", 400, "not valid base64"),
        ("embedding", "é", 400, "not valid base64"),
        ("embedding", "A" * 100_001, 422, "embedding"),
        ("embedding", 3, 422, "embedding"),
        ("code", packed(np.zeros(99)), 400, "its code has 396 bytes"),
        ("code", "////", 400, "its code has bits beyond 20"),
        ("n_bits", 9, 400, "its code has 9 bits"),
        ("n_bits", -1, 422, "n_bits"),
        ("label_scores", "", 400, "label scores has 0 bytes"),
        ("label_scores", "minus", 400, "not in 0..1"),
        ("thumbnail", "", 400, "no JPEG"),
        ("thumbnail", thumbnail(), 400, "no JPEG"),
        ("thumbnail", base64.b64encode(b"\xff\xd8\xff<script>").decode(), 400, "cannot be decoded"),
        ("thumbnail", BOMB, 400, "cannot be decoded"),
        ("thumbnail", "A" * 100_001, 422, "thumbnail"),
        ("part", "header", 422, "part"),
        ("path", "/etc/passwd", 422, "path"),
    ],
)
def test_hostile_images_are_one_line_and_leave_nothing(
    exported, there, is_problem, field, value, status, detail
):
    file = json.loads(json.dumps(exported[0]))
    dim = len(base64.b64decode(file["images"][0]["embedding"])) // 4
    n_labels = len(base64.b64decode(file["images"][0]["label_scores"])) // 4
    special = {
        "zero": packed(np.zeros(dim)),
        "nan": packed(np.full(dim, np.nan)),
        "huge": packed(np.full(dim, 1e30)),
        "minus": packed(np.full(n_labels, -1)),
    }
    file["images"][0][field] = special.get(value, value) if isinstance(value, str) else value
    before = there.get("/v1/collections").json(), there.get("/v1/watches").json()
    assert detail in is_problem(put(there, file), status)
    assert before == (there.get("/v1/collections").json(), there.get("/v1/watches").json())


@pytest.mark.parametrize(
    ("patch", "status", "detail"),
    [
        ({"name": ""}, 422, "name"),
        ({"extra": 1}, 422, "extra"),
        ({"members": [{"id": "a"}] * 10_001}, 422, "members"),
        ({"members": [{"id": "000.png", "mark": "great"}]}, 422, "mark"),
        ({"images": "all"}, 422, "images"),
        ({"watches": [{"name": "a"}]}, 422, "watches"),
        ({"query": {"k": 0}}, 422, "k"),
    ],
)
def test_hostile_files_are_one_line(exported, there, is_problem, patch, status, detail):
    before = there.get("/v1/collections").json()
    assert detail in is_problem(put(there, {**exported[0], **patch}), status)
    assert there.get("/v1/collections").json() == before


def zigzag():
    """A valid polygon with 1,200 edges at one latitude."""
    ring = [[i / 100, 9 * (i % 2)] for i in range(1_200)]
    return {"type": "Polygon", "coordinates": [[*ring, [12, -1], [0, -1], ring[0]]]}


def test_a_hostile_saved_search_is_left_out_and_named(exported, there):
    (one,) = exported[0]["watches"]
    dim = len(base64.b64decode(one["embedding"])) // 4
    bad = [
        {**one, "name": "zero", "embedding": packed(np.zeros(dim))},
        {**one, "name": "short", "embedding": packed(np.ones(1))},
        {**one, "name": "all", "embedding": None, "filters": {}},
        {**one, "name": "words", "filters": {"labels": "not ("}},
        {**one, "name": "zigzag", "filters": {"polygon": zigzag()}},
        {**one, "name": " "},
    ]
    count = len(there.get("/v1/watches").json()["watches"])
    answer = put(there, {"watches": [*bad, {**one, "name": "good"}]}, "/v1/watches/import")
    assert answer.status_code == 201, answer.text
    reported = answer.json()
    assert {line.split("'")[1] for line in reported["problems"]} == {each["name"] for each in bad}
    assert len(reported["problems"]) == len(bad)
    assert all("\n" not in line for line in reported["problems"])
    assert reported["imported"] == 1
    names = [each["name"] for each in there.get("/v1/watches").json()["watches"]]
    assert len(names) == count + 1
    assert "good" in names


def test_imports_are_limited_and_need_the_scope_feedback(exported, areas, is_problem):
    tokens = Tokens(read=("r" * 30,), feedback=("f" * 30,))
    read, write = ({"Authorization": f"Bearer {one * 30}"} for one in "rf")
    with service(areas["there"], tokens=tokens, limits={"import_bytes": 500_000}) as client:
        for path, file in (("collections", exported[0]), ("watches", exported[2])):
            at = f"/v1/{path}/import"
            is_problem(client.post(at, json=file, headers=read), 403)
            assert client.post(at, json=file, headers=write).status_code == 201
            is_problem(client.post(at, content=b" " * 500_001, headers=write), 413)
            is_problem(client.post(at, content=b"{}", headers=write), 415)
            deep = b"[" * 400_000
            json_ = {**write, "content-type": "application/json"}
            is_problem(client.post(at, content=deep, headers=json_), 422)


def test_the_client_exports_and_imports(areas, tmp_path, png):
    (tmp_path / "q.png").write_bytes(png(seed=8))
    one, two = (application(areas[name]) for name in ("here", "there"))
    with services.running(one) as here, services.running(two) as there:
        mine, theirs = (Client(f"http://127.0.0.1:{port}") for port in (here, there))
        made = mine.create_collection("mine", query={"image": tmp_path / "q.png"})
        mine.save_watch("like mine", collection=made.id, images_of=made.id)
        mine.export_collection(made.id, tmp_path / "mine.json")
        answer = theirs.import_collection(tmp_path / "mine.json")
        assert answer.collection.images == ("image",)
        assert answer.problems == ()
        mine.export_watches(tmp_path / "searches.json")
        assert theirs.import_watches(tmp_path / "searches.json").problems == ()
        assert theirs.import_watches(tmp_path / "mine.json").imported == 1
        found = [one.name for one in theirs.watches()]
        assert "like mine (2)" in found
    with pytest.raises(landcue.errors.DataError, match="cannot read"):
        theirs.import_collection(tmp_path / "none.json")
    with pytest.raises(landcue.errors.DataError, match="json: id: field required"):
        theirs.import_collection(tmp_path / "searches.json")


def test_commands_export_and_import(areas, tmp_path):
    shutil.copytree(areas["here"] / "area", tmp_path / "one")
    shutil.copytree(areas["here"] / "area", tmp_path / "two")
    archive = landcue.open(tmp_path / "one", model=tools.PixelEncoder)
    embedding = archive.embed("003.png")
    archive.watches.add("from a file", embedding, query="elsewhere.png",
                        where=landcue.Filter(labels=("water",)))  # fmt: skip
    out = tmp_path / "searches.json"
    assert command("watch", "export", tmp_path / "one", out).returncode == 0
    said = command("watch", "import", tmp_path / "two", out)
    assert (said.returncode, said.stdout) == (0, "imported 1 saved search\n")
    (saved,) = landcue.open(tmp_path / "two").watches.export()
    (known,) = archive.watches.export()
    assert np.array_equal(saved.pop("embedding"), known.pop("embedding"))
    assert saved == known
    out.write_text(json.dumps({"watches": [{**json.loads(out.read_text())["watches"][0],
                                            "model": "x"}]}))  # fmt: skip
    said = command("watch", "import", tmp_path / "two", out)
    assert (said.returncode, said.stdout) == (1, "imported 0 saved searches\n")
    assert (
        said.stderr == "error: saved search 'from a file' was left out: another model encoded it\n"
    )
    steep = {**json.loads(out.read_text())["watches"][0], "model": known["model"]}
    out.write_text(json.dumps({"watches": [{**steep, "filters": {"polygon": zigzag()}}]}))
    said = command("watch", "import", tmp_path / "two", out)
    assert (said.returncode, said.stdout) == (1, "imported 0 saved searches\n")
    assert "more than 500 edges at one latitude" in said.stderr
    assert said.stderr.count("\n") == 1
    for text in ("[]", "{", '{"watches": 3}', "[" * 100_000):
        out.write_text(text)
        assert str(out) in error_line(1, "watch", "import", tmp_path / "two", out)


def test_commands_export_and_import_a_collection(exported, areas, tmp_path):
    archive, kept = tmp_path / "area", ("--collections", tmp_path / "c.sqlite")
    shutil.copytree(areas["there"] / "area", archive)
    (tmp_path / "in.json").write_text(json.dumps(exported[0]))
    assert "no such file" in error_line(2, "collection", "list", archive, *kept)
    said = command("collection", "import", archive, tmp_path / "in.json", *kept)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("imported ships: 2 records, id ")
    (one,) = json.loads(command("collection", "list", archive, *kept, "--json").stdout)
    assert (one["name"], one["members"]) == ("ships", 2)
    assert f"{one['id']}: ships, 2 records" in command("collection", "list", archive, *kept).stdout
    out = tmp_path / "out.json"
    assert command("collection", "export", archive, one["id"], out, *kept).returncode == 0
    back = json.loads(out.read_text())
    assert [back[name] for name in ("name", "members", "model")] == [
        exported[0][name] for name in ("name", "members", "model")
    ]
    assert back["images"][0]["embedding"] == exported[0]["images"][0]["embedding"]
    out.write_text(json.dumps({**back, "members": [{"id": "none.png"}]}))
    said = command("collection", "import", archive, out, *kept)
    assert said.returncode == 1
    assert said.stderr.startswith("error: 1 record is not in archive 'area' and was left out")
    for args in (("import", archive, kept[1]), ("export", archive, "none", out)):
        error_line(1, "collection", *args, *kept)
