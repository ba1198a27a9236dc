"""What a format and a runtime are: the two shapes behind the plug-in door.

A format looks at untrusted files in a process of its own and says what they are. A runtime loads a version in a
replica and runs it. Optional abilities are mixins: a runtime that has one inherits from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modelport.engine.language.text import ByWindow, Reader
from modelport.tensors import Array, Signature

if TYPE_CHECKING:
    from modelport.engine.generation import Facts, Sampling
    from modelport.engine.generation import Format as Form


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a format found in an artifact; the fields are those of ``schemas.models.Inspection``."""

    format: str
    runtime: str
    signature: Signature
    labels: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """What the operator of the server allows; never read from an artifact."""

    sklearn_types: tuple[str, ...] = ()
    python_predictors: bool = False
    native_code: bool = False


class Format(ABC):
    """Recognises and inspects the artifacts of one format. Entry-point group ``modelport.formats``."""

    name: ClassVar[str]
    precedence: ClassVar[int] = 0
    """Who is asked first: a format whose folders may hold the files of others has a higher one."""

    @abstractmethod
    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        """Whether the content (not the file names) is of this format. Cheap; must not run anything."""

    @abstractmethod
    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        """Read the signature; raises ArtifactRefused with the cause and the next step."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A small language model that writes a few tokens ahead of the one that is loaded."""

    folder: Path
    files: tuple[str, ...]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a replica is to load its version."""

    folder: Path
    files: tuple[str, ...]
    signature: Signature
    labels: dict[str, list[str]]
    threads: int = 1
    trust: Trust = Trust()
    details: dict[str, Any] = field(default_factory=dict)
    """What the format found out."""
    engine: dict[str, Any] = field(default_factory=dict)
    """What the deployment asks of a language model's engine; see ``schemas.deployments.EngineOptions``."""
    draft: Draft | None = None


class Runtime(ABC):
    """One loaded model. Entry-point group ``modelport.runtimes``. Used by one thread."""

    name: ClassVar[str]
    platform: ClassVar[str]
    """What V2 metadata shows, such as ``onnx_onnxv1``."""
    environment: ClassVar[Mapping[str, str]] = {}
    """Variables that its libraries read; set in the replica's process, before it loads."""
    not_batched: str | None = None
    """Why requests must not share a run, when the model itself says so; otherwise it is tried."""

    @classmethod
    @abstractmethod
    def load(cls, options: LoadOptions) -> Runtime:
        """Load the version; any exception's text reaches the deployment's status."""

    @abstractmethod
    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run once. Inputs and outputs are as the signature says; BYTES are object arrays of ``bytes``.

        Raises ModelRejectedInput when this input cannot be run although it fits the signature.
        """

    def close(self) -> None:  # noqa: B027  (most runtimes have nothing to give back)
        """Give back what the process's end would not."""


class MakesUpInputs(ABC):
    """The ability to say what inputs look like that the signature alone does not tell."""

    @abstractmethod
    def made_up_inputs(self, rows: int, size: int, seed: int) -> dict[str, Array]:
        """Inputs to prove the model with: ``rows`` in a dynamic first dimension, ``size`` in the other dynamic ones."""


class CountsTokens(ABC):
    """The ability to tell how many tokens the texts of a run were."""

    @property
    @abstractmethod
    def counted(self) -> Array | None:
        """Tokens of each row of the last run, INT32 [rows]; None where it read no texts."""


class Streams(ABC):
    """The ability to give an answer in parts."""

    @abstractmethod
    def stream(self, inputs: dict[str, Array]) -> Iterator[dict[str, Array]]:
        """The parts of one answer, each with some or all outputs. Closed early when the caller went away."""


class Generates(ABC):
    """The ability to write several texts at once, a step at a time. The replica's loop (``generating``) decides who is
    begun when; numbers name the texts, and are the loop's."""

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """What callers have to know: context, slots, room."""

    @abstractmethod
    def encode(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text; ``special`` adds those that the model expects around a plain text."""

    def special_texts(self) -> frozenset[str]:
        """Texts that ``encode`` reads as one token that is no text, such as a turn's end."""
        return frozenset()

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens without special ones; unfinished characters come as U+FFFD."""

    @property
    def longest_token(self) -> int:
        """Bytes of text that one token stands for at most; 0 where that is not known."""
        return 0

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Each token's own text."""
        return [self.decode([token]) for token in tokens]

    def reader(self) -> Reader:
        """For one answer's tokens."""
        return ByWindow(self.decode)

    @abstractmethod
    def chat_template(self) -> tuple[str, dict[str, str]] | None:
        """The model's own template in Jinja, and the names it may use (``bos_token``, ``eos_token``)."""

    @property
    def reads_more(self) -> bool:
        """Whether the next step reads the prompt of one more text; False where that has to wait for a step. Engines
        that share each step between prompts and texts always do."""
        return True

    @abstractmethod
    def begin(self, number: int, prompt: Sequence[int], sampling: Sampling, adapter: str | None) -> None:
        """Take one more text into the steps; ``sampling.max_tokens`` is set. Raises InvalidInput."""

    @abstractmethod
    def step(self) -> list[Stepped]:
        """Compute once for all begun texts; what is new, if anything is."""

    @abstractmethod
    def cancel(self, number: int) -> None:
        """Drop one; unknown numbers are ignored."""

    @abstractmethod
    def usage(self) -> float:
        """The share of the cache that is used, 0 to 1."""


class Prepares(ABC):
    """The ability of a runtime that ``Generates`` to make a form ready before a text has to be so, without holding up
    the others' steps."""

    @abstractmethod
    def is_prepared(self, form: Form) -> bool:
        """Whether nothing has to be done for it."""

    @abstractmethod
    def prepare(self, form: Form) -> None:
        """Do it: in a thread of its own, beside ``step``, one form at a time. Raises InvalidInput for what is none;
        what else fails ``begin`` says again."""


class Adapts(ABC):
    """The ability of a runtime that ``Generates`` to hold LoRA adapters beside its model; ``facts`` names them."""

    @abstractmethod
    def attach(self, adapter: str, folder: Path) -> None:
        """Hold one more, of the files that peft writes; raises ArtifactRefused. Texts under way go on as they were."""

    @abstractmethod
    def detach(self, adapter: str) -> None:
        """Hold it no longer. No text under way is written with it."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one text gained by a step."""

    number: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    alternatives: tuple[tuple[tuple[int, float], ...], ...] = ()
    """Per token the likeliest (token, logprob), likeliest first."""
    finish: str | None = None
    """``stop`` or ``length``, once it is complete."""
    cached_tokens: int | None = None
    """Of the prompt, those found in the cache; None where the engine does not tell."""
