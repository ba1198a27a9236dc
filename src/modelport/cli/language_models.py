"""Which language model a command is about, when nobody says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelport.sdk.client import Client


def only_one(client: Client) -> str:
    """The name of the only language model that is served; raises InvalidInput with the list of several, NotFound."""
    from modelport.errors import InvalidInput, NotFound

    found = client.chat.models()
    if len(found) == 1:
        return found[0].name
    if found:
        names = ", ".join(model.name for model in found)
        raise InvalidInput(f"several language models are served here; name one of them: {names}")
    raise NotFound(
        f"no language model is served at {client.url}; `modelport push model.gguf --name NAME` and "
        "`modelport deploy NAME` serve one, `modelport serve model.gguf` a file alone"
    )
