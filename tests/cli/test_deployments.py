"""What `deployments` and `keys` show of deployments and keys, in a person's words."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from modelport.cli.deployments import deployment_rows, spec_text
from modelport.cli.keys import key_rows
from modelport.schemas.access import Key
from modelport.schemas.deployments import Cascade, Deployment, DeploymentSpec

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def deployment(name: str, spec: DeploymentSpec) -> Deployment:
    return Deployment.model_construct(
        name=name, model=name, version=1, alias=None, serving_version=1, state="ready", replicas_ready=1,
        revision=1, updated_at=NOW, spec=spec,
    )  # fmt: skip


def key(name: str, **limits: object) -> Key:
    return Key.model_validate(
        {"id": name, "name": name, "prefix": "mp_", "role": "caller", "project": "default", "created_at": NOW}
        | {"expires_at": None, "revoked_at": None} | limits
    )  # fmt: skip


def test_a_specification_is_told_as_it_is_typed() -> None:
    cascade = Cascade(first="small", mean_logprob=-0.4, valid_json=True)
    told = spec_text(DeploymentSpec(fallback=["small", "tiny"], cascade=cascade))
    assert "fallback=small,tiny" in told and "cascade.first=small" in told
    assert "cascade.mean_logprob=-0.4" in told and "cascade.valid_json=true" in told
    assert not re.search(r"[{}\[\]']|engine|env|None|True", told)


def test_who_stands_in_for_whom_is_a_column_where_somebody_does() -> None:
    plain = deployment("plain", DeploymentSpec())
    assert deployment_rows([plain])[0][-1] == "UPDATED"
    spec = DeploymentSpec(fallback=["small", "tiny"], cascade=Cascade(first="small", valid_json=True))
    columns, rows = deployment_rows([plain, deployment("large", spec)])
    assert columns[-2:] == ("FALLBACK", "CASCADE")
    assert [row[-2:] for row in rows] == [(None, None), (["small", "tiny"], "small")]


def test_what_a_key_is_held_to_is_listed_where_one_is() -> None:
    assert key_rows([key("free")])[0][-1] == "REVOKED"
    columns, rows = key_rows([key("free"), key("intern", models=["small"], tokens_per_minute=6000, max_tokens=500)])
    assert columns[-3:] == ("MODELS", "TOKENS/MIN", "MAX TOKENS")
    assert [row[-3:] for row in rows] == [(None, None, None), (["small"], 6000, 500)]
