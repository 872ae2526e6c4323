from __future__ import annotations

from dataclasses import fields, replace

import pytest

from landcue.data.datasets import DATASETS
from landcue.data.splits import parse_split
from landcue.errors import UsageError
from landcue.metrics.protocol import (
    DCG_GAINS,
    DENOMINATORS,
    PROTOCOLS,
    Protocol,
    Roles,
    find_protocol,
)

# A published protocol never changes. If one of these fails, give the new rules a new version.
FINGERPRINTS = {
    "ml-retrieval-v1": "01430f792917",
    "sl-retrieval-v1": "be15fd5eaa2a",
    "ml-papers-v1": "091cfe8faa46",
    "run-v1": "a80904c4c053",
    "ucm-ml-v1": "43a6824a8823",
    "dlrsd-v1": "9acf8fdc2f3b",
    "ml-aid-v1": "20b0c269c694",
    "whdld-v1": "47253de47f90",
    "ucmd-dhcl-v1": "d6ed7f53e94d",
    "ucmd-dhcl-train-v1": "ca8d29b8e7c3",
    "aid-dhcl-v1": "8f1e5d77bde2",
    "aid-dhcl-train-v1": "39a24024be65",
}


def test_published_protocols_have_not_changed():
    assert {name: p.fingerprint for name, p in PROTOCOLS.items()} == FINGERPRINTS


def test_every_rule_is_part_of_the_fingerprint():
    base = PROTOCOLS["ucm-ml-v1"]
    changes = {
        "roles": Roles("ucmerced", "files-80-20"), "relevance": "j0.5", "grades": (),
        "gain": "jaccard", "ties": "id", "exclude_group": True, "map_ks": (7,),
        "precision_ks": (7,), "hit_ks": (7,), "recall_ks": (7,), "ndcg_ks": (7,), "gain_ks": (7,),
        "denominators": DENOMINATORS, "dcg_gains": DCG_GAINS, "more_gains": ("jaccard",),
    }  # fmt: skip
    assert {field.name for field in fields(Protocol)} == {"name", *changes}
    found = {replace(base, **{name: value}).fingerprint for name, value in changes.items()}
    assert len(found | {base.fingerprint}) == len(changes) + 1
    assert replace(base, name="other-v1").fingerprint == base.fingerprint


def test_every_role_is_part_of_the_fingerprint():
    roles = Roles("ucmerced", "files-80-20")
    others = [
        Roles("aid", "files-80-20"),
        Roles("ucmerced", "files-50-50"),
        replace(roles, target="group"),
        replace(roles, query="val"),
        replace(roles, gallery="train"),
    ]
    found = {Protocol("p-v1", roles=r).fingerprint for r in (roles, *others)}
    assert len(found) == len(others) + 1


def test_a_protocol_prints_itself():
    lines = find_protocol("ucmd-dhcl-train").describe()
    assert lines[0] == "protocol ucmd-dhcl-train-v1 (fingerprint ca8d29b8e7c3)"
    assert lines[1] == "dataset ucmerced (scene class as the only label), split files-80-20"
    assert lines[2] == "queries: the test part; gallery: the train part"
    assert "a query does not find itself (the same id)" in lines
    loo = find_protocol("ucm-ml-v1").describe()
    assert loo[2] == "queries: the test part; gallery: the same part (leave-one-out)"
    assert len(find_protocol("ml-retrieval-v1").describe()) == len(loo) - 2


@pytest.mark.parametrize("name", ["ucmd-dhcl", "dlrsd", "ml-aid", "whdld", "aid-dhcl", "ucm-ml"])
def test_a_name_without_version_is_the_newest(name, monkeypatch):
    assert find_protocol(name).name == f"{name}-v1"
    for version in (2, 10):
        monkeypatch.setitem(PROTOCOLS, f"{name}-v{version}", Protocol(f"{name}-v{version}"))
    assert find_protocol(name).name == f"{name}-v10"


def test_named_images_can_be_read_and_divided():
    for protocol in PROTOCOLS.values():
        if protocol.roles is not None:
            assert protocol.roles.dataset in DATASETS
            split = protocol.roles.split.replace("*", "3")
            assert split == "published" or parse_split(split).id == split


def test_the_definitions_of_other_tools_stand_beside_the_own_ones():
    plain, tools = find_protocol("ucm-ml-v1"), find_protocol("ucm-ml-v1+tools")
    assert tools.name == "ucm-ml-v1+tools"
    assert find_protocol("ucm-ml+tools") == tools
    extra = set(tools.definitions()) - set(plain.definitions())
    assert extra == {
        "mAP@20(/R)", "mAP@20(/hits)", "mAP@20(/k)", "nDCG@10(linear)", "nDCG@100(linear)",
    }  # fmt: skip
    for name, definition in plain.definitions().items():
        assert tools.definitions()[name] == definition
    assert all("for comparison with other tools" in tools.definitions()[name] for name in extra)
    for protocol in PROTOCOLS.values():  # never by default
        assert not any("other tools" in text for text in protocol.definitions().values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"denominators": ("R",)}, r"must start with 'min\(k,R\)'"),
        ({"denominators": ()}, "must start with"),
        ({"denominators": ("min(k,R)", "n")}, "go on with any of"),
        ({"dcg_gains": ("linear",)}, "must start with 'exponential'"),
    ],
)
def test_no_other_definition_takes_the_plain_name(change, message):
    with pytest.raises(UsageError, match=message):
        Protocol("mine-v1", **change)


def test_impossible_roles_and_names():
    with pytest.raises(UsageError, match=r"unknown role 'tests'.*'test'"):
        Roles("ucmerced", "files-80-20", query="tests")
    with pytest.raises(UsageError, match="unknown role 'class'"):
        Roles("ucmerced", "files-80-20", target="class")
    with pytest.raises(UsageError, match="did you mean 'ucm-ml-v1'"):
        find_protocol("ucm-ml-v9")
    with pytest.raises(UsageError, match="unknown protocol 'ucm-ml-v1-tools'"):
        find_protocol("ucm-ml-v1-tools")


def test_roles_accept_any_seed_where_the_split_says_so():
    roles = PROTOCOLS["ucm-ml-v1"].roles
    fits = {"dataset": "ucmerced", "target": "labels", "part": "test"}
    roles.check("ucm-ml-v1", split="per-class-70-10-20-seed3", **fits)
    with pytest.raises(UsageError, match=r"split per-class-70-10-20-seed\* \(not files-80-20\)"):
        roles.check("ucm-ml-v1", split="files-80-20", **fits)
