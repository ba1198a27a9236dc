"""The registry: versions, aliases, labels, lineage, files, deletion; on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from modelport.control import audit, resolved
from modelport.control.actors import Actor
from modelport.control.blobs import Limits
from modelport.control.registry import Registry
from modelport.engine.runtime import Inspected
from modelport.errors import ArtifactRefused, Conflict, InvalidInput, NotFound, TooLarge
from modelport.schemas.models import FileEntry, VersionPush
from modelport.schemas.preprocessing import TextStep
from modelport.storage import tables
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database
from modelport.tensors import Signature, TensorSpec
from tests import onnx_models
from tests.control.conftest import Push, upload


def deploy(database: Database, model: str, number: int, serving: int | None = None, name: str = "live") -> None:
    """Rows of a deployment whose revision 1 wishes for ``number``, and whose revision 2 may serve ``serving``."""
    with database.session() as session:
        ids = {version.number: version.id for version in session.scalars(select(tables.Version))}
        deployment = tables.Deployment(
            project_id=1, name=name, model=model, desired_revision=1, serving_revision=2 if serving else None
        )
        session.add(deployment)
        session.flush()
        for revision, version in enumerate([number, *([serving] if serving else [])], 1):
            session.add(
                tables.Revision(
                    project_id=1, deployment_id=deployment.id, number=revision, version_id=ids[version], spec={}
                )
            )


def test_a_push_becomes_a_version(registry: Registry, actor: Actor, push: Push) -> None:
    made = push(labels={"team": "vision"}, alias="champion", metrics={"accuracy": 0.9}, description="d", licence="MIT")
    assert (made.model, made.version, made.format) == ("digits", 1, "onnx")
    assert made.aliases == ["champion"]
    assert made.labels == {"team": "vision"}
    assert made.manifest.signature.inputs[0].shape == (-1, 4)
    assert made.manifest.metrics == {"accuracy": 0.9}
    assert made.created_by == "loopback"
    assert registry.version(actor, "digits") == made
    assert registry.version(actor, "digits", "champion") == made
    assert registry.version(actor, "digits", "1") == registry.version(actor, "digits", 1) == made


def test_numbers_grow_and_are_never_used_again(registry: Registry, actor: Actor, push: Push) -> None:
    assert [push(width=width).version for width in (1, 2, 3)] == [1, 2, 3]
    registry.delete_version(actor, "digits", 3)
    assert push(width=5).version == 4
    registry.delete_model(actor, "digits")
    with pytest.raises(NotFound):
        registry.model(actor, "digits")
    assert push().version == 5
    assert registry.model(actor, "digits").versions == 1


def test_equal_files_have_equal_digests(push: Push) -> None:
    first, second, other = push("a"), push("b"), push("c", width=9)
    assert first.digest == second.digest != other.digest


def test_concurrent_pushes_to_a_new_model_all_succeed(
    registry: Registry, actor: Actor, push: Push, database: Database
) -> None:
    start = threading.Barrier(5)

    def run(width: int) -> int:
        start.wait()
        return push("fresh", width=width, alias="newest").version

    with ThreadPoolExecutor(5) as pool:
        assert sorted(pool.map(run, range(1, 6))) == [1, 2, 3, 4, 5]
    model = registry.model(actor, "fresh")
    assert (model.versions, model.latest_version) == (5, 5)
    assert model.aliases["newest"] in range(1, 6)


def test_a_content_that_was_not_uploaded_is_named(registry: Registry, actor: Actor) -> None:
    entry = FileEntry(path="m.onnx", size=3, sha256="a" * 64)
    with pytest.raises(InvalidInput, match=r"'m\.onnx': its content is not uploaded"):
        registry.push(actor, "digits", VersionPush(files=[entry]))


def test_a_lying_size_is_named(registry: Registry, actor: Actor) -> None:
    entry = upload(registry, actor, onnx_models.identity())
    with pytest.raises(InvalidInput, match="bytes, 1 are declared"):
        registry.push(actor, "digits", VersionPush(files=[entry.model_copy(update={"size": 1})]))


def test_another_projects_content_is_not_there(registry: Registry, actor: Actor, stranger: Actor) -> None:
    entry = upload(registry, actor, onnx_models.identity())
    assert registry.missing_blobs(stranger, [entry.sha256]) == [entry.sha256]
    with pytest.raises(InvalidInput, match="not uploaded"):
        registry.push(stranger, "digits", VersionPush(files=[entry]))


def test_what_is_refused_leaves_nothing(registry: Registry, actor: Actor) -> None:
    entry = upload(registry, actor, b"\x80\x04\x95 not a model")
    with pytest.raises(ArtifactRefused):
        registry.push(actor, "digits", VersionPush(files=[entry]))
    assert registry.models(actor) == []


def test_a_failure_inside_the_transaction_leaves_nothing(
    registry: Registry, actor: Actor, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("modelport.control.registry.audit.record", fail)
    with pytest.raises(RuntimeError):
        push(alias="champion", labels={"a": "b"})
    monkeypatch.undo()
    assert registry.models(actor) == []
    assert push().version == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "-a", "a\n", "a\x00", "é", "x" * 101, "%2e", "a\\b", "_a", "a:1", "a@b"]
)
def test_bad_names_are_refused_on_the_way_in_and_unknown_on_the_way_out(
    registry: Registry, actor: Actor, push: Push, name: str
) -> None:
    with pytest.raises(InvalidInput, match="model name"):
        push(name)
    for ask in (registry.model, registry.version, registry.delete_model, registry.lineage):
        with pytest.raises(NotFound):
            ask(actor, name)


@pytest.mark.parametrize(
    "ref", ["2", "0", "01", "-1", "1.0", "9" * 30, "nobody", "", "\x00", "١", "1\n", "../1", "Latest"]
)
def test_unknown_references_are_not_found(registry: Registry, actor: Actor, push: Push, ref: str) -> None:
    push()
    for ask in (registry.version, registry.lineage, registry.delete_version):
        with pytest.raises(NotFound):
            ask(actor, "digits", ref)


def sample(data: list, shape: list[int], name: str = "input", datatype: str = "FP32") -> dict:
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alias": "latest"}, "alias"),
        ({"metrics": {"loss": float("nan")}}, r"metrics\.loss"),
        ({"metrics": {"loss": float("inf")}}, r"metrics\.loss"),
        ({"description": "a\x00b"}, "description"),
        ({"parents": ["a", "b\x00"]}, r"parents\.1"),
        ({"class_labels": ["a", "b"]}, "class_labels: 2 names"),
        ({"sample": {}}, r"sample\.inputs"),
        ({"sample": {"inputs": []}}, r"sample\.inputs"),
        ({"sample": {"inputs": [{"name": "x"}]}}, r"sample\.inputs\.0"),
        ({"sample": sample([1, 2, 3, 4], [1, 4], "x", "FP32")}, "sample"),
        ({"sample": sample([1, 2, 3, 4], [1, 4], "input", "INT8")}, "INT8"),
        ({"sample": sample([1, 2], [1, 4], "input", "FP32")}, "4 elements"),
        ({"sample": sample([1], [-1], "input", "FP32")}, "shape"),
        ({"sample": sample([1, 2], [1, 2], "input", "FP32")}, "shape"),
        ({"sample": sample([1, 2, 3, "x"], [1, 4], "input", "FP32")}, "data"),
        ({"sample": sample([1, 2, 3, None], [1, 4], "input", "FP32")}, "None"),
        ({"sample": sample([1, 2, 3, {}], [1, 4], "input", "FP32")}, "element"),
    ],
)  # fmt: skip
def test_bad_fields_of_a_push_are_named(push: Push, fields: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        push(**fields)


def test_a_good_sample_is_kept(push: Push) -> None:
    sample = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [[1, 2, 3, 4.5]]}]}
    assert push(sample=sample).manifest.sample == sample


def test_class_labels_go_to_the_outputs_that_they_fit(push: Push) -> None:
    assert push(width=3, class_labels=["ant", "bee", "cat"]).manifest.labels == {"output": ["ant", "bee", "cat"]}


@pytest.mark.parametrize("path", ["../m.onnx", "/m.onnx", "a//b", "a\\b"])
def test_hostile_paths_are_refused(registry: Registry, actor: Actor, path: str) -> None:
    entry = upload(registry, actor, onnx_models.identity())
    with pytest.raises(InvalidInput, match="file path"):
        registry.push(actor, "digits", VersionPush(files=[entry.model_copy(update={"path": path})]))
    with pytest.raises(InvalidInput, match="file path"):
        registry.add_file(actor, path, [b""])


def test_too_large_is_refused(registry: Registry, actor: Actor) -> None:
    with pytest.raises(TooLarge):
        registry.put_blob(actor, "a" * 64, [bytes(1 << 19)] * 3)


def test_aliases_move_and_tell(registry: Registry, actor: Actor, push: Push) -> None:
    moves: list[tuple[str, str, int]] = []
    registry.on_alias_moved.append(lambda _, *move: moves.append(move))
    push(width=1, alias="champion")
    push(width=2)
    registry.set_alias(actor, "digits", "champion", 2)
    assert registry.version(actor, "digits", "champion").version == 2
    assert moves == [("digits", "champion", 1), ("digits", "champion", 2)]
    registry.delete_alias(actor, "digits", "champion")
    with pytest.raises(NotFound):
        registry.version(actor, "digits", "champion")
    with pytest.raises(NotFound):
        registry.delete_alias(actor, "digits", "champion")
    with pytest.raises(NotFound):
        registry.set_alias(actor, "digits", "champion", 9)
    with pytest.raises(InvalidInput):
        registry.set_alias(actor, "digits", "latest", 1)


def test_labels_change_and_leave(registry: Registry, actor: Actor, push: Push) -> None:
    push()
    registry.set_label(actor, "digits", 1, "team", "a")
    registry.set_label(actor, "digits", "latest", "team", "b")
    assert registry.version(actor, "digits").labels == {"team": "b"}
    registry.delete_label(actor, "digits", 1, "team")
    assert registry.version(actor, "digits").labels == {}
    with pytest.raises(NotFound):
        registry.delete_label(actor, "digits", 1, "team")


def test_resolve(registry: Registry, actor: Actor, push: Push) -> None:
    push(width=1, alias="champion")
    push(width=2)
    assert registry.resolve(actor, "digits").version == 2
    assert registry.resolve(actor, "digits", version=1).version == 1
    assert registry.resolve(actor, "digits", alias="champion").version == 1
    with pytest.raises(InvalidInput):
        registry.resolve(actor, "digits", 1, "champion")


def test_lineage_goes_both_ways(registry: Registry, actor: Actor, push: Push, database: Database) -> None:
    push("base")
    push("small", width=2, parents=["base:1", "mnist:3"])
    deploy(database, "base", 1)
    node = registry.lineage(actor, "base")
    assert (node.version, node.parents, node.children) == ("base:1", [], ["small:1"])
    assert registry.lineage(actor, "small").parents == ["base:1", "mnist:3"]


def test_pages(registry: Registry, actor: Actor, push: Push) -> None:
    for name in ("c", "a", "b"):
        push(name)
    push("a", width=2)
    assert [model.name for model in registry.models(actor, limit=2)] == ["a", "b"]
    assert [model.name for model in registry.models(actor, limit=2, after="b")] == ["c"]
    assert [version.version for version in registry.versions(actor, "a", limit=1)] == [2]
    assert [version.version for version in registry.versions(actor, "a", after=2)] == [1]


def test_files_come_back_verified(registry: Registry, actor: Actor, push: Push) -> None:
    push()
    entry = registry.find_file(actor, "digits", 1, "model.onnx")
    chunks = registry.iterate_file(actor, entry)
    assert b"".join(chunks) == onnx_models.identity("FP32", (-1, 4))
    assert entry.path == "model.onnx"
    for path in ("other", "../model.onnx", "", "\x00"):
        with pytest.raises(NotFound):
            registry.find_file(actor, "digits", 1, path)


def test_a_version_is_materialized_by_its_id(registry: Registry, actor: Actor, push: Push, database: Database) -> None:
    push()
    with database.reading() as session:
        version_id = session.scalars(select(tables.Version.id)).one()
    assert (registry.materialize(1, version_id) / "model.onnx").read_bytes() == onnx_models.identity("FP32", (-1, 4))
    for wrong in ((2, version_id), (1, version_id + 1)):
        with pytest.raises(NotFound):
            registry.materialize(*wrong)


def test_what_is_deployed_cannot_be_deleted(registry: Registry, actor: Actor, push: Push, database: Database) -> None:
    for width in (1, 2, 3):
        push(width=width)
    deploy(database, "digits", 2, serving=1)
    assert (
        registry.version(actor, "digits", 1).deployed_in == registry.version(actor, "digits", 2).deployed_in == ["live"]
    )
    for number in (1, 2):
        with pytest.raises(Conflict, match="live"):
            registry.delete_version(actor, "digits", number)
    with pytest.raises(Conflict, match="live"):
        registry.delete_model(actor, "digits")
    registry.delete_version(actor, "digits", 3)
    with database.session() as session:  # revision 2 takes over: revision 1 becomes history
        session.scalars(select(tables.Deployment)).one().desired_revision = 2
    registry.delete_version(actor, "digits", 2)
    assert [version.version for version in registry.versions(actor, "digits")] == [1]


def test_what_has_an_alias_cannot_be_deleted_alone(registry: Registry, actor: Actor, push: Push) -> None:
    push(alias="champion")
    with pytest.raises(Conflict, match="champion"):
        registry.delete_version(actor, "digits", 1)
    registry.delete_model(actor, "digits")
    assert registry.models(actor) == []
    assert push(width=2).aliases == []


def test_another_projects_objects_answer_as_missing_ones(
    registry: Registry, actor: Actor, stranger: Actor, push: Push
) -> None:
    push(alias="champion")
    asks = {
        "model": registry.model,
        "versions": registry.versions,
        "version": lambda who, name: registry.version(who, name, 1),
        "alias": lambda who, name: registry.set_alias(who, name, "x", 1),
        "unalias": lambda who, name: registry.delete_alias(who, name, "champion"),
        "label": lambda who, name: registry.set_label(who, name, 1, "k", "v"),
        "unlabel": lambda who, name: registry.delete_label(who, name, 1, "k"),
        "lineage": lambda who, name: registry.lineage(who, name, 1),
        "file": lambda who, name: registry.find_file(who, name, 1, "model.onnx"),
        "delete version": lambda who, name: registry.delete_version(who, name, 1),
        "delete": registry.delete_model,
    }
    for ask in asks.values():
        with pytest.raises(NotFound) as theirs:
            ask(stranger, "digits")
        with pytest.raises(NotFound) as missing:
            ask(stranger, "nothing")
        assert theirs.value.message.replace("digits", "nothing") == missing.value.message
    assert registry.models(stranger) == []
    assert push(by=stranger).version == 1
    assert registry.model(actor, "digits").aliases == {"champion": 1}


def test_every_action_is_in_the_audit(
    registry: Registry, actor: Actor, stranger: Actor, push: Push, database: Database
) -> None:
    push(alias="champion")
    push(width=2)
    registry.set_label(actor, "digits", 1, "k", "v")
    registry.delete_label(actor, "digits", 1, "k")
    registry.delete_alias(actor, "digits", "champion")
    registry.delete_version(actor, "digits", 1)
    registry.delete_model(actor, "digits")
    registry.gc(actor)
    rows = audit.rows(database, actor, 100)
    assert [row.action for row in reversed(rows)] == [
        "key.create", "version.push", "alias.set", "version.push", "label.set", "label.delete", "alias.delete",
        "version.delete", "model.delete", "gc.run",
    ]  # fmt: skip
    assert {(row.actor, row.request_id) for row in rows} == {("loopback", "req-1")}
    assert audit.rows(database, actor, 1, before=rows[0].id) == [rows[1]]
    assert audit.rows(database, stranger, 100) == []


def test_what_failed_is_not_in_the_audit(registry: Registry, actor: Actor, database: Database) -> None:
    with pytest.raises(NotFound):
        registry.delete_model(actor, "digits")
    assert audit.rows(database, actor, 10) == []


def test_the_packages_of_a_version_are_recorded_when_they_change(
    registry: Registry, database: Database, actor: Actor, stranger: Actor, push: Push
) -> None:
    push()
    assert registry.lineage(actor, "digits").packages == []
    for packages in (["numpy==2.1"], ["numpy==2.1"], ["numpy==2.2", "x==1"], []):
        resolved.record(database, actor.project_id, actor.project, "digits:1", packages)
    resolved.record(database, stranger.project_id, stranger.project, "digits:1", ["other==1"])
    assert registry.lineage(actor, "digits").packages == ["numpy==2.2", "x==1"]
    rows = [row.detail["packages"] for row in audit.rows(database, actor, 100) if row.action == "version.resolve"]
    assert rows == [["numpy==2.2", "x==1"], ["numpy==2.1"]]


def test_a_sample_of_the_models_own_inputs_is_not_one_of_what_callers_send(
    database: Database, artifacts: Artifacts, actor: Actor
) -> None:
    """An artifact's own sample has the model's tensors; behind preprocessing callers send texts."""
    sample = {"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [1, 1], "data": [1]}]}
    tensors = [TensorSpec(name, "INT64", (-1, -1)) for name in ("input_ids", "attention_mask")]
    signature = Signature(tuple(tensors), (TensorSpec("scores", "FP32", (-1, 2)),))
    found = Inspected("onnx", "onnx", signature, sample=sample)
    registry = Registry(database, artifacts, lambda folder, files: found, Limits())
    files = [upload(registry, actor, b"model"), upload(registry, actor, b"{}", "tokenizer.json")]
    plain = registry.push(actor, "plain", VersionPush(files=files))
    assert plain.manifest.sample == sample
    wrapped = registry.push(actor, "wrapped", VersionPush(files=files, preprocessing=[TextStep(kind="text")]))
    assert wrapped.manifest.sample is None
    assert [spec.name for spec in wrapped.manifest.signature.inputs] == ["text"]
