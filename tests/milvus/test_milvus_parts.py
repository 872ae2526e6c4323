"""Addresses, expressions and ranges, without a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcue.errors import ArchiveError, UsageError
from landcue.milvus.link import Address, after_prefix, check_version, credentials, quoted
from landcue.search.opened import is_collection


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("milvus://localhost:19530/chips", Address("localhost", 19530, "chips")),
        ("milvus://10.0.0.7/chips", Address("10.0.0.7", 19530, "chips")),
        ("milvuss://db.example.org:443/a_1", Address("db.example.org", 443, "a_1", secure=True)),
        ("milvus://[::1]:19530/chips", Address("[::1]", 19530, "chips")),
    ],
)
def test_an_address_survives_the_path_of_a_command_line(text, address):
    assert is_collection(text)
    assert is_collection(Path(text))
    assert Address.parse(text) == Address.parse(Path(text)) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "milvus://localhost:19530",
        "milvus://localhost:19530/",
        "milvus://localhost:0/chips",
        "milvus://localhost:99999/chips",
        "milvus://localhost/a-b",
        "milvus://localhost/a/b",
        "milvus:///chips",
        "http://localhost/chips",
        "chips",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(text):
    with pytest.raises(UsageError, match=r"write milvus://host:port/collection"):
        Address.parse(text)


def test_credentials_stand_in_the_environment_alone(monkeypatch):
    with pytest.raises(UsageError, match=r"LANDCUE_MILVUS_USER and LANDCUE_MILVUS_PASSWORD"):
        Address.parse("milvus://root:secret@localhost/chips")
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"LANDCUE_MILVUS_{name}", raising=False)
    assert credentials() == {}
    monkeypatch.setenv("LANDCUE_MILVUS_USER", "root")
    with pytest.raises(UsageError, match="set both"):
        credentials()
    monkeypatch.setenv("LANDCUE_MILVUS_PASSWORD", "secret")
    assert credentials() == {"user": "root", "password": "secret"}
    monkeypatch.setenv("LANDCUE_MILVUS_TOKEN", "t")
    assert credentials() == {"token": "t"}


@pytest.mark.parametrize("folder", ["archive", "./milvus", "/data/milvus:/x", "s3://bucket/a"])
def test_a_folder_is_no_address(folder):
    assert not is_collection(folder)


@pytest.mark.parametrize("version", ["v2.2.16", "2.3.1", "v1.1.0", "unknown", ""])
def test_an_old_server_is_refused(version):
    with pytest.raises(ArchiveError, match=r"Milvus at host:1 .* needs 2\.3\.2 or newer"):
        check_version(version, "host:1")


@pytest.mark.parametrize("version", ["v2.3.5-lite", "2.3.2", "v2.4.0", "v2.10.1", "3.0.0"])
def test_a_newer_server_is_taken(version):
    check_version(version, "host:1")


@given(st.text())
def test_a_literal_is_one_string_and_means_its_text(text):
    literal = quoted(text)
    assert literal[0] == literal[-1] == '"'
    inner = literal[1:-1]
    assert inner.isascii()
    assert '"' not in inner
    assert inner.encode().decode("unicode_escape") == text


def test_half_characters_are_refused():
    with pytest.raises(UsageError, match="not valid Unicode"):
        quoted("a\udce4")


@given(st.text(min_size=1), st.text())
def test_after_a_prefix_come_all_that_start_so_and_no_other(prefix, rest):
    after = after_prefix(prefix)
    starting = (prefix + rest).encode()
    assert starting >= prefix.encode()
    assert after is None or starting < after.encode()
    if after is not None:  # nothing lies between the prefix's own texts and what follows
        assert not after.startswith(prefix)
        assert (prefix + "\U0010ffff" * 3).encode() < after.encode()


def test_pymilvus_is_loaded_by_what_needs_it_alone():
    code = (
        "import sys, landcue, landcue.cli.main, landcue.milvus.backend\n"
        "import landcue.milvus.push\n"
        "assert 'pymilvus' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_is_opened_and_searched_without_the_milvus_code(made, tmp_path):
    made.make_archive(tmp_path / "archive", n=20)
    code = (
        "import sys, landcue\n"
        "archive = landcue.open(sys.argv[1])\n"
        "assert len(archive.search(archive.ids()[0], k=3)) == 3\n"
        "found = [name for name in sys.modules if name.startswith('landcue.milvus')]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "archive")], check=True)


def test_without_pymilvus_the_extra_is_named(monkeypatch, tmp_path):
    from landcue.search.opened import open_storage

    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(UsageError, match=r"pip install 'landcue\[milvus\]'"):
        open_storage(Path("milvus://127.0.0.1:1/chips"))


def test_a_folder_takes_no_model(tmp_path):
    from landcue.search.opened import open_storage

    with pytest.raises(UsageError, match="--model is for milvus"):
        open_storage(tmp_path, tmp_path)
