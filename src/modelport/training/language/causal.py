"""Goes on training a causal language model: what the recipe ``language-model`` does once it has rows.

The loss is the mean over the tokens that are to be learnt; perplexity is measured before and after on the same
validation tokens, and what is written is loaded again and has to give the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional

from modelport.errors import InvalidInput
from modelport.training import randomness
from modelport.training.batches import in_turn
from modelport.training.language import adapters, chat, columns, tokens
from modelport.training.language import base as bases
from modelport.training.memory import check_fits
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.recipes.language_model import LanguageModelOptions, filled
from modelport.training.trainer import Trainer, device_of

_DEFAULT_LENGTH = 512
_PROVEN = 8
"""Batches of validation rows that the written files are compared on, at most."""
_TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Difference of the mean loss of a token."""
IGNORED = -100

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Examples:
    """Lots of rows as ids, positions that begin anew with each row, and what is to be said next."""

    def __init__(self, found: tokens.Tokens, lots: Sequence[Sequence[int]], pad: int) -> None:
        self.tokens, self.lots, self.pad = found, lots, pad

    def __len__(self) -> int:
        return len(self.lots)

    def batch(self, numbers: torch.Tensor, epoch: int) -> Batch:
        """Ids, positions and targets, INT64 [lots, tokens]."""
        lots = [self.lots[number] for number in numbers.tolist()]
        rows = [[self.tokens[row] for row in lot] for lot in lots]
        ids, mask = tokens.padded([np.concatenate(lot) for lot in rows], self.pad)
        positions, targets = np.zeros_like(ids), np.full_like(ids, IGNORED)
        for index, lot in enumerate(lots):
            begin = 0
            for row, known in zip(lot, rows[index], strict=True):
                end = begin + len(known)
                positions[index, begin:end] = np.arange(len(known))
                learnt = self.tokens.marks(row)[1:].astype(bool)
                targets[index, begin : end - 1][learnt] = known[1:][learnt]
                begin = end
            positions[index, begin:] = np.arange(ids.shape[1] - begin)
        assert mask.shape == positions.shape
        return torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(targets)


def token_losses(network: nn.Module, batch: Batch) -> torch.Tensor:
    """The loss of every token that is to be learnt, FP32 [tokens]."""
    ids, positions, targets = batch
    scores = network(input_ids=ids, position_ids=positions, use_cache=False).logits
    asked = targets != IGNORED
    return functional.cross_entropy(scores[asked].float(), targets[asked], reduction="none")


def mean_loss(network: nn.Module, batch: Batch) -> torch.Tensor:
    """The mean over the batch's tokens."""
    return token_losses(network, batch).mean()


def perplexity(network: nn.Module, examples: Examples, batch_size: int, batches: int | None = None) -> dict[str, float]:
    """Mean loss of a token and its exponential, over all tokens that are to be learnt."""
    network.eval()
    device = next(network.parameters()).device
    total, count = 0.0, 0
    with torch.no_grad():
        for number, batch in enumerate(in_turn(examples, batch_size)):
            if batches is not None and number >= batches:
                break
            found = token_losses(network, tuple(part.to(device) for part in batch))
            total, count = total + float(found.double().sum()), count + len(found)
    loss = total / max(count, 1)
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def train(run: TrainingRun, data: TrainingData, options: LanguageModelOptions) -> Trained:
    """Learn, write, prove."""
    options = filled(options)
    randomness.settle(run.seed, run.threads)
    base = bases.find_base(run)
    if base is None:
        raise InvalidInput(
            "files: a language model is fine-tuned from a base: send its Hugging Face folder (config.json, "
            "safetensors, tokenizer.json) or a GGUF file, or say start"
        )
    if base.recipe.task != "generate":
        raise InvalidInput(
            f"files: the base model ({_architecture(base)}) is not one that writes; a causal language model is needed "
            "(…ForCausalLM)"
        )
    length = min(bases.checked_length(base, options.max_length, _DEFAULT_LENGTH), base.positions or 1 << 30)
    _check_memory(base, options, length)
    tokenizer = bases.load_writer(base)
    learning, judging, about, warnings = read(run, data, options, tokenizer, base, length)
    network = _network(run, base, options)
    if options.packing and not _keeps_rows_apart(network, learning):
        warnings.append("the base model cannot keep packed texts apart, so each is an example of its own (packing)")
        learning, judging = (Examples(each.tokens, [[row] for lot in each.lots for row in sorted(lot)], each.pad)
                             for each in (learning, judging))  # fmt: skip
    before = _before(run.folder / "before.json", network.to(device_of(options)), judging, options)

    def validate(model: nn.Module) -> Mapping[str, float]:
        return perplexity(model, judging, options.batch_size)

    fit = Trainer(run, options, network, mean_loss, learning, validate, groups=adapters.learning_groups(network)).fit()
    after = fit.history[fit.best_epoch - 1]
    trained = Trained("language", warnings=warnings, judged_itself=True)
    trained.metrics = fit.figures | {f"{name}_before": value for name, value in before.items()}
    trained.metrics |= {name: after[name] for name in ("validation_loss", "validation_perplexity")}
    if after["validation_loss"] > before["loss"]:
        trained.warnings.append(
            f"perplexity rose from {before['perplexity']:.4g} to {after['validation_perplexity']:.4g}: lower "
            "learning_rate, or give it more rows"
        )
    network = adapters.write(network.cpu(), tokenizer, base, run.out, options)
    trained.report = {"history": fit.history, "stopped_early": fit.stopped_early, **about}
    trained.report["parity"] = prove(network, run.out, base, judging, options)
    trained.report["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    return trained


def read(
    run: TrainingRun, data: TrainingData, options: LanguageModelOptions, tokenizer: Any, base: bases.Base, length: int
) -> tuple[Examples, Examples, dict[str, Any], list[str]]:
    """Training and validation examples, what they are like, and warnings."""
    column, is_chat = columns.conversation_or_text(data, options.messages, options.text)
    pad, _ = bases.pad_of(base, tokenizer.backend_tokenizer)
    found, warnings = [], []
    parts = {"train": ((*data.train, *data.replay), None), "validation": (data.validation, options.validation_rows)}
    for name, (files, most) in parts.items():
        reader = chat.Reader(
            tokenizer, column, chat=is_chat, answers_only=options.answers_only, max_length=length
        )  # fmt: skip
        kept = tokens.kept(run.folder / "tokens" / name, lambda r=reader, f=files, m=most: r.read(f, m))  # type: ignore[misc]
        if not len(kept):
            raise InvalidInput(f"data: no {name} row has anything to learn in column {column!r}")
        if reader.left_out:
            warnings.append(f"{reader.left_out} {name} rows have no text to learn and were left out")
        if reader.cut:
            warnings.append(f"{reader.cut} {name} conversations are cut off at {length} tokens (max_length)")
        lots = chat.packed(kept.lengths().tolist(), length) if options.packing else [[row] for row in range(len(kept))]
        found.append(Examples(kept, lots, pad))
    about = {
        "rows": {"train": len(found[0].tokens), "validation": len(found[1].tokens)},
        "examples": {"train": len(found[0]), "validation": len(found[1])},
        "tokens": int(found[0].tokens.lengths().sum()),
        "max_length": length,
        "chat": is_chat,
    }
    return found[0], found[1], about, warnings


def _network(run: TrainingRun, base: bases.Base, options: LanguageModelOptions) -> Any:
    """The base with what is to learn on it; the same for the same seed."""
    network = bases.load_model(
        base, transformers.AutoModelForCausalLM,
        dtype=torch.bfloat16 if options.weights == "bf16" else torch.float32,
    )  # fmt: skip
    torch.manual_seed(run.seed)
    if options.checkpointing:
        network.activation_checkpointing_enable()
    if options.method == "lora":
        network = adapters.with_lora(network, options, run.start.folder if run.start is not None else None)
    return network


def _before(path: Path, network: nn.Module, judging: Examples, options: LanguageModelOptions) -> dict[str, float]:
    """What the base itself reaches; measured once, also when training begins again."""
    if not path.exists():
        path.with_suffix(".half").write_text(json.dumps(perplexity(network, judging, options.batch_size)))
        path.with_suffix(".half").rename(path)
    found: dict[str, float] = json.loads(path.read_text())
    return found


def _keeps_rows_apart(network: Any, learning: Examples) -> bool:
    """Whether two rows in one example answer as they do alone."""
    rows = next((lot[:2] for lot in learning.lots if len(lot) > 1), None)
    if rows is None:
        return True
    network.eval()
    with torch.no_grad():
        found = [
            token_losses(network, Examples(learning.tokens, [lot], 0).batch(torch.tensor([0]), 0))
            for lot in (rows, rows[:1], rows[1:])
        ]
    return bool(torch.allclose(found[0], torch.cat(found[1:]), atol=1e-3 if found[0].dtype == torch.float32 else 5e-2))


def prove(
    network: Any, folder: Path, base: bases.Base, judging: Examples, options: LanguageModelOptions
) -> dict[str, Any]:
    """Load what was written, compare the loss of the validation rows; raises InvalidInput when it is another."""
    again = adapters.read(folder, base, options)
    found = perplexity(again, judging, options.batch_size, _PROVEN)["loss"]
    wanted = perplexity(network, judging, options.batch_size, _PROVEN)["loss"]
    difference = abs(found - wanted)
    if not difference <= _TOLERANCE[options.weights]:
        raise InvalidInput(
            f"the written model's loss differs by {difference:.2g} from the trained one's; nothing is registered: "
            "say weights fp32"
        )
    return {"loss": found, "difference": difference}


def _check_memory(base: bases.Base, options: LanguageModelOptions, length: int) -> None:
    config, count = base.recipe.config, bases.parameters_of(base.folder)
    tokens_at_once = options.batch_size * length
    width, depth = int(config.get("hidden_size") or 768), int(config.get("num_hidden_layers") or 12)
    kept = 4 if options.checkpointing else 64
    activations = tokens_at_once * (width * depth * kept + int(config.get("vocab_size") or 32_000) * 4 * 3)
    check_fits(count, 1.0 if options.method == "full" else 0.02, activations)


def _architecture(base: bases.Base) -> str:
    return str((base.recipe.config.get("architectures") or ["unknown"])[0])[:100]
