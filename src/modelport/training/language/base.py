"""The model that training goes on from: a Hugging Face folder, or a GGUF file that becomes one.

Nothing of it is run: no custom code, no pickle, no file from the network. Knows no recipe's loss and no trainer.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from modelport.engine.formats import safetensors_file
from modelport.engine.formats.huggingface_folder import Recipe, model_folder, read_recipe
from modelport.errors import ArtifactRefused, InvalidInput, MissingExtra
from modelport.training.recipe import TrainingRun

#: Where a version that a recipe made keeps what training goes on from.
KEPT = "training"
_LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError)


@dataclass(frozen=True, slots=True)
class Base:
    """A folder that was looked through."""

    folder: Path
    """With config.json, weights and tokenizer."""
    recipe: Recipe
    """What the folder says of itself."""

    @property
    def positions(self) -> int | None:
        """The most tokens that the model has positions for; None when it does not say."""
        found = self.recipe.config.get("max_position_embeddings") or self.recipe.config.get("n_positions")
        return found if isinstance(found, int) and found > 0 else None


def find_base(run: TrainingRun) -> Base | None:
    """The model among the caller's files, or else the version to go on from; None when neither holds one.

    Raises InvalidInput with the cause and the next step for what is there and cannot be used.
    """
    places = [(run.code, "files")] if run.code is not None else []
    if run.start is not None:
        places += [(run.start.folder / KEPT, "start"), (run.start.folder, "start")]
    for place, name in places:
        if not place.is_dir():
            continue
        try:
            found = _base_in(place) or _from_gguf(place, run.folder / "base", name)
        except ArtifactRefused as error:
            raise InvalidInput(f"{name}: {error.message}") from None
        if found is not None:
            return found
    return None


def _base_in(place: Path) -> Base | None:
    """The Hugging Face folder at or below ``place``, the outermost first."""
    for config in sorted(place.rglob("config.json"), key=lambda path: (len(path.parts), path)):
        folder = config.parent
        files = _files(folder)
        if model_folder(folder, files) is None:
            continue
        recipe = read_recipe(folder, files)
        inner = f"{recipe.model_folder}"
        weights = [name for name in files if name.startswith(inner) and name.endswith(".safetensors")]
        if not weights:
            raise ArtifactRefused(
                "the model's folder holds no safetensors: save it with model.save_pretrained(folder) and send that"
            )
        if f"{inner}tokenizer.json" not in files:
            raise ArtifactRefused(
                "the model's folder has no tokenizer.json: add it with AutoTokenizer.from_pretrained(…)"
                ".save_pretrained(folder)"
            )
        return Base(folder / inner, recipe)
    return None


def _files(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))


def _from_gguf(place: Path, folder: Path, name: str) -> Base | None:
    """A GGUF file's weights in full precision, with its tokenizer, as a folder; made once."""
    found = sorted(place.rglob("*.gguf"))
    if not found:
        return None
    if len(found) > 1:
        raise InvalidInput(f"{name}: there are {len(found)} GGUF files; send one")
    if not folder.exists():
        half = folder.with_name("base.half")
        shutil.rmtree(half, ignore_errors=True)
        unpack_gguf(found[0], half)
        half.rename(folder)
    return _base_in(folder)


def unpack_gguf(path: Path, folder: Path) -> None:
    """A GGUF file as a Hugging Face folder in full precision; raises InvalidInput when it cannot be."""
    if path.open("rb").read(4) != b"GGUF":
        raise InvalidInput(f"files: {path.name[:100]!r} is not a GGUF file, or is damaged: copy it again")
    if not transformers.utils.is_gguf_available():
        raise MissingExtra("finetune", "reading a GGUF file (gguf)")
    options = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    unpack = transformers.GgufConfig(dequantize=True)
    try:
        with _quiet():
            packed = transformers.AutoModelForCausalLM.from_pretrained(
                str(path.parent), dtype=torch.float32, quantization_config=unpack, **options
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), **options)
            config = type(packed.config)(
                **{key: value for key, value in packed.config.to_dict().items() if key != "quantization_config"}
            )
            plain = type(packed)(config)
    except _LOAD_ERRORS as error:
        raise InvalidInput(
            f"files: {path.name[:100]!r} cannot be unpacked ({first_line(error)}); send the model as a "
            "Hugging Face folder with safetensors"
        ) from None
    plain.load_state_dict(packed.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_model(base: Base, head: Any, **options: Any) -> Any:
    """The network of the class ``head`` (one of transformers' Auto classes), in 32 bits; raises InvalidInput."""
    try:
        with _quiet():
            model = head.from_pretrained(
                str(base.folder), trust_remote_code=False, use_safetensors=True, local_files_only=True,
                **{"dtype": torch.float32} | options,
            )  # fmt: skip
    except _LOAD_ERRORS as error:
        raise InvalidInput(
            f"base model: transformers cannot load it ({first_line(error)}); save it again with save_pretrained"
        ) from None
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    return model


def load_tokenizer(base: Base) -> Any:
    """The folder's tokenizer as the library ``tokenizers`` reads it, without truncation or padding."""
    return read_tokenizer(base.folder / "tokenizer.json")


def read_tokenizer(path: Path) -> Any:
    """A tokenizer.json; raises InvalidInput when it is none."""
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise InvalidInput(f"base model: tokenizer.json cannot be read: {first_line(error)}; save it again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_writer(base: Base) -> Any:
    """transformers' own tokenizer of the folder, with its chat template; raises InvalidInput."""
    try:
        with _quiet():
            return transformers.AutoTokenizer.from_pretrained(
                str(base.folder), trust_remote_code=False, local_files_only=True
            )
    except _LOAD_ERRORS as error:
        raise InvalidInput(f"base model: its tokenizer cannot be read ({first_line(error)}); save it again") from None


def pad_of(base: Base, tokenizer: Any) -> tuple[int, str]:
    """Number and text of the token that rows are padded with; what it is does not matter behind the mask."""
    number = base.recipe.config.get("pad_token_id")
    if isinstance(number, list):
        number = number[0] if number else None
    if number is None or tokenizer.id_to_token(int(number)) is None:
        number = next((found for token in _PADS if (found := tokenizer.token_to_id(token)) is not None), 0)
    return int(number), tokenizer.id_to_token(int(number)) or ""


_PADS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>", "</s>")


def checked_length(base: Base | None, wanted: int | None, default: int) -> int:
    """How many tokens of a text are kept; raises InvalidInput when the model has no positions for so many."""
    limit = min(base.positions or 1 << 24, base.recipe.max_length or 1 << 24) if base is not None else 1 << 24
    if wanted is None:
        return min(default, limit)
    hard = base.positions if base is not None else None
    if hard is not None and wanted > hard:
        raise InvalidInput(
            f"options.max_length: {wanted} tokens are more than the base model has positions for; say at most {hard}"
        )
    return wanted


def parameters_of(folder: Path) -> int:
    """The number of weights in a folder's safetensors, by their headers."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safetensors_file.opened(path) as file:
            total += sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())  # noqa: SIM118
    return total


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its reports and bars."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The start of an error's text, without the server's paths."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return " ".join("…" if "/" in word and word.count("/") > 1 else word for word in line.split())[:200]
