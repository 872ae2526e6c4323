"""Vectors of another space are converted or refused: archives of one encoder, fitted apart."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import landcue
from commands import error_line
from commands import landcue as run
from fitted_archives import make_archives
from landcue.archive import ImportColumns, import_table, write_geoparquet
from landcue.archive.archive import ArchiveFolder
from landcue.archive.space import Embeddings
from landcue.errors import UsageError
from landcue.models.load import BUILTIN, load_model
from landcue.search import Query

BARE = "a vector does not say of which space it is"


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Archives of the same pictures: two that were fitted apart, and one of the encoder itself."""
    return make_archives(tmp_path_factory.mktemp("spaces"))


def ranked(result):
    return [(hit.id, round(hit.distance, 3)) for hit in result]


def test_embeddings_that_landcue_returned_are_converted(archives):
    photos, one, other, own = archives
    id_ = "sand003.png"
    everything = (one, other, own)
    assert abs(one.embed(id_) - other.embed(id_)).max() > 0.05
    columns = {archive: archive.columns() for archive in everything}
    for archive in everything:
        wanted = ranked(archive.search(photos / id_, k=5, mode="embedding"))
        assert wanted[0] == (id_, 0)
        for source in everything:
            given = source.embed(id_)
            assert ranked(archive.search(given, k=5)) == wanted
            assert ranked(archive.search(given[0].copy(), k=5)) == wanted
            row = columns[source].find(id_)
            assert ranked(archive.search(columns[source].embedding[row], k=5)) == wanted
            np.testing.assert_allclose(archive.embed(given), archive.embed(id_), atol=1e-4)
        for mode in ("embedding", "code", "cue"):
            encoding = archive.encoder().encode([photos / id_])
            wanted = ranked(archive.search(photos / id_, k=5, mode=mode))
            assert ranked(archive.search(encoding, k=5, mode=mode)) == wanted


def test_what_the_encoder_itself_returns_is_converted(archives):
    photos, one, _, own = archives
    id_ = own.ids()[0]
    encoding = load_model(BUILTIN).encode([photos / id_])
    for mode in ("embedding", "code", "cue"):
        wanted = ranked(one.search(photos / id_, k=5, mode=mode))
        assert ranked(one.search(encoding, k=5, mode=mode)) == wanted
    wanted = ranked(one.search(photos / id_, k=5, mode="embedding"))
    bare = np.array(encoding.embedding)
    assert ranked(one.search(bare, k=5, space="encoder")) == wanted
    assert ranked(one.search(one.convert(bare), k=5)) == wanted
    assert ranked(one.search(bare, k=5, space=own.manifest.fingerprint)) == wanted
    assert ranked(one.search(Query([bare, 2 * bare], space="encoder"), k=5)) == wanted


def test_a_plain_array_must_name_its_space_where_embeddings_were_fitted(archives):
    photos, one, other, own = archives
    id_ = "sand003.png"
    plain = np.array(one.embed(id_))
    assert type(plain) is np.ndarray
    wanted = ranked(one.search(photos / id_, k=5, mode="embedding"))
    fingerprint = one.manifest.fingerprint
    for space in ("archive", fingerprint):
        for factor in (3, 1e300, 1e-300):
            scaled = plain[0].astype(float) * factor
            assert ranked(one.search(scaled, k=5, space=space)) == wanted
    assert ranked(one.search_all(plain, space="archive"))[:5] == wanted
    assert ranked(one.search_many([Query(plain, space="archive")], k=5)[0]) == wanted
    moved = other.convert(plain, one)
    assert (type(moved), moved.space.fingerprint) == (Embeddings, other.manifest.fingerprint)
    assert ranked(other.search(moved, k=1)) == [(id_, 0)]
    mean = (one.embed(id_) + other.embed(id_)) / 2  # of no space
    refused = {
        BARE: [(one, plain, None), (other, plain, None), (one, mean, None)],
        f"space {fingerprint[:12]}, and .*fit1 of": [(other, plain, fingerprint)],
        f"of space {fingerprint[:12]}, not of 'encoder'": [(one, one.embed(id_), "encoder")],
        "it cannot be converted": [(one, plain, "0" * 64), (own, plain, "0" * 64)],
        r"\[2, 256\]: search with one at a time": [(one, np.repeat(plain, 2, 0), "archive")],
        "use one of 256 float values": [(one, plain[:, 1:], "encoder")],
        "length 0": [(one, plain * 0, "encoder")],
    }  # fmt: skip
    for message, cases in refused.items():
        for archive, vector, space in cases:
            with pytest.raises(UsageError, match=message) as error:
                archive.search(vector, space=space)
            assert "\n" not in str(error.value)
    assert own.search(np.array(own.embed(id_)), k=1).ids == (id_,)  # nothing was fitted
    assert own.search(np.array(own.embed(id_)), k=1, space="archive").ids == (id_,)


def test_an_encoding_of_another_fit_is_refused_and_one_of_an_unknown_model_too(archives):
    photos, one, other, own = archives
    foreign = other.encoder().encode([photos / "sand003.png"])
    for archive in (one, own):
        with pytest.raises(UsageError, match=r"the encoding is of space .*cannot be converted"):
            archive.search(foreign)
    unknown = replace(one.encoder().encode([photos / "sand003.png"]), model="")
    with pytest.raises(UsageError, match="does not say which model made it"):
        one.search(unknown)
    wanted = ranked(one.search(photos / "sand003.png", k=5))
    assert ranked(one.search(unknown, k=5, space="archive")) == wanted


def test_saved_searches_take_no_vector_of_another_space(archives):
    _, one, other, _ = archives
    query = other.embed("sand003.png")
    one.watches.add("moved", query, min_score=0.9)
    one.watches.add("named", np.array(query), space="archive", min_score=0.9)
    stored = {row["name"]: row["embedding"] for row in one.watches.export()}
    np.testing.assert_allclose(stored["moved"], one.embed("sand003.png")[0], atol=1e-4)
    np.testing.assert_allclose(stored["named"], query[0], atol=1e-6)
    with pytest.raises(UsageError, match=BARE):
        one.watches.add("bare", np.array(query), min_score=0.9)


def test_an_exported_table_says_its_space_to_the_archive_that_imports_it(archives, tmp_path):
    photos, one, other, own = archives
    file, columns = tmp_path / "one.parquet", ImportColumns("embedding")
    write_geoparquet(ArchiveFolder.open(one.folder), file)
    import_table(file, tmp_path / "back", columns)
    back = landcue.open(tmp_path / "back")
    id_ = "sand003.png"
    wanted = ranked(one.search(photos / id_, k=5, mode="embedding"))
    assert ranked(back.search(one.embed(id_), k=5)) == wanted
    assert ranked(one.search(back.embed(id_), k=5)) == wanted
    assert ranked(back.search(np.array(one.embed(id_)), k=5, space="archive")) == wanted
    write_geoparquet(ArchiveFolder.open(back.folder), tmp_path / "again.parquet")
    facts = [json.loads(pq.read_schema(tmp_path / f"{name}.parquet").metadata[b"landcue"])
             for name in ("one", "again")]  # fmt: skip
    for name in ("model_fingerprint", "fitted_from"):
        assert facts[0][f"landcue:{name}"] == facts[1][f"landcue:{name}"]
    assert facts[0]["landcue:fitted_from"] == own.manifest.fingerprint
    for vector, space, message in (
        (np.array(one.embed(id_)), None, BARE),
        (other.embed(id_), None, "it cannot be converted"),
        (own.embed(id_), None, "it cannot be converted"),  # there is no model here
        (np.array(own.embed(id_)), "encoder", "it cannot be converted"),
    ):
        with pytest.raises(UsageError, match=message):
            back.search(vector, space=space)
    # A table that does not say it.
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), tmp_path / "bare.parquet")
    import_table(tmp_path / "bare.parquet", tmp_path / "bare", columns)
    bare = landcue.open(tmp_path / "bare")
    assert ranked(bare.search(np.array(one.embed(id_)), k=5)) == wanted
    with pytest.raises(
        UsageError, match=r"is not known: add the space 'archive' if it is the same"
    ):
        bare.search(one.embed(id_))
    assert ranked(bare.search(one.embed(id_), k=5, space="archive")) == wanted
    broken = pq.read_table(file).replace_schema_metadata({"landcue": "[1"})
    pq.write_table(broken, tmp_path / "broken.parquet")
    import_table(tmp_path / "broken.parquet", tmp_path / "broken", columns)
    assert "space" not in landcue.open(tmp_path / "broken").manifest.model
    assert pa.types.is_fixed_size_list(broken.schema.field("embedding").type)


def test_the_command_takes_the_space_of_a_vector(archives, tmp_path):
    photos, one, _, _ = archives
    np.save(tmp_path / "v.npy", load_model(BUILTIN).encode([photos / "sand003.png"]).embedding)
    asked = ("search", one.folder, "--vector", tmp_path / "v.npy")
    found = json.loads(run(*asked, "--space", "encoder", "-k", 1, "--json").stdout)
    assert found["hits"][0]["id"] == "sand003.png"
    assert found["hits"][0]["distance"] == pytest.approx(0, abs=1e-4)
    assert BARE in error_line(2, *asked)
    assert "--space is for --vector" in error_line(2, "search", one.folder, "--space", "archive")
