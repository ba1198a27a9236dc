"""Fine-tunes a sentence encoder: what the recipe ``embedding`` does once it has rows.

Token vectors are pooled as the base model says and brought to length 1, inside the network and so inside the ONNX
file. Judged on validation rows before and after: by the order of scores, or by what is found nearest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training import randomness
from modelport.training.batches import in_turn
from modelport.training.language import base as bases
from modelport.training.language import export, heads, rows, tokens
from modelport.training.language.nearest import judged
from modelport.training.memory import check_fits
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.recipes.embedding import EmbeddingOptions, Plan, plan_of
from modelport.training.trainer import Trainer, device_of

OUTPUT = "embeddings"
_DEFAULT_LENGTH = 256
_MOST_JUDGED = 5000
"""Validation rows that are searched through, at most."""


@dataclass(slots=True)
class Rows:
    """Texts by column, and each row's score, class or (for pairs alone) the number of its second text."""

    texts: list[list[str]]
    values: list[float]
    left_out: int


class Examples:
    """Rows as padded ids by column, with their values."""

    def __init__(self, found: Sequence[tokens.Tokens], values: Tensor, pad: int) -> None:
        self._columns, self.values, self._pad = found, values, pad

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, numbers: Tensor, epoch: int) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Ids and mask of each column, and the values."""
        wanted = numbers.tolist()
        found = [tokens.padded([column[row] for row in wanted], self._pad) for column in self._columns]
        return [(torch.from_numpy(ids), torch.from_numpy(mask)) for ids, mask in found], self.values[numbers]


class Encoder(nn.Module):
    """Token ids and mask [rows, tokens] to vectors of length 1 [rows, width]."""

    def __init__(self, model: Any, pooling: Sequence[str]) -> None:
        super().__init__()
        self.model, self.pooling = model, tuple(pooling)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found = self.model(input_ids=input_ids, attention_mask=attention_mask)[0].float()
        weights = attention_mask.unsqueeze(-1).to(found.dtype)
        return functional.normalize(torch.cat([_pooled(found, weights, mode) for mode in self.pooling], 1), dim=1)


def _pooled(found: Tensor, weights: Tensor, mode: str) -> Tensor:
    """Token vectors [rows, tokens, width] as one, as sentence-transformers defines the modes."""
    if mode == "max":
        return found.masked_fill(weights == 0, -1e9).amax(1)
    if mode == "cls":
        return found[:, 0]
    if mode == "lasttoken":
        last = (weights.squeeze(-1).sum(1) - 1).long().clamp(min=0)
        return found.gather(1, last[:, None, None].expand(-1, 1, found.shape[2])).squeeze(1)
    if mode == "weightedmean":
        weights = weights * torch.arange(1, found.shape[1] + 1, device=found.device, dtype=found.dtype)[None, :, None]
    total = (found * weights).sum(1)
    count = weights.sum(1).clamp(min=1e-9)
    return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


def train(run: TrainingRun, data: TrainingData, options: EmbeddingOptions) -> Trained:
    """Learn, export, prove."""
    randomness.settle(run.seed, run.threads)
    plan = plan_of(data, options)
    base = bases.find_base(run)
    if base is None:
        raise InvalidInput(
            "files: a sentence encoder is fine-tuned from a base: send its folder (config.json, safetensors, "
            "tokenizer.json), or say start"
        )
    if base.recipe.task != "embed":
        raise InvalidInput("files: the base model is no encoder; one of …Model, or a sentence-transformers folder, is")
    length = bases.checked_length(base, options.max_length, _DEFAULT_LENGTH)
    tokenizer = _tokenizer(base)
    pad, pad_token = bases.pad_of(base, tokenizer)
    tokenizer.enable_truncation(length)
    old, new, classes = _read(data, plan)
    learning = _examples(run, "train", old, tokenizer, pad, _scaled(plan, old, old))
    judging = _examples(run, "validation", new, tokenizer, pad, _scaled(plan, new, old))
    check_fits(bases.parameters_of(base.folder))
    network = Encoder(bases.load_model(base, transformers.AutoModel, pad_token_id=pad), base.recipe.pooling)
    before = _before(run.folder / "before.json", network.to(device_of(options)), judging, plan, options)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return loss_of(plan, options, [model(*column) for column in batch[0]], batch[1])

    def validate(model: nn.Module) -> Mapping[str, float]:
        return figures(model, judging, plan, options)

    groups = heads.groups_of(network.model, _Rates(options))
    fit = Trainer(run, options, network, loss, learning, validate, groups=groups).fit()
    after = {name.removeprefix("validation_"): value for name, value in fit.history[fit.best_epoch - 1].items()}
    trained = Trained("embedding", warnings=_warnings(old, new, before, after), judged_itself=True)
    trained.metrics = fit.figures | {f"{name}_before": value for name, value in before.items()}
    trained.metrics |= {f"validation_{name}": after[name] for name in before}
    column = plan.texts[0] if len(plan.texts) == 1 else "text"
    trained.inputs = {column: [plan.texts[0]]}
    trained.preprocessing = [export.step(column, length)]
    trained.sample = {"inputs": [{"name": column, "datatype": "BYTES", "shape": [1], "data": [new.texts[0][0][:2000]]}]}
    trained.report = {
        "history": fit.history, "stopped_early": fit.stopped_early, "loss": plan.loss, "classes": classes,
        "rows": {"train": len(learning), "validation": len(judging)}, "max_length": length,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }  # fmt: skip
    _write(run, network.cpu(), tokenizer, (pad, pad_token), length, base, judging, new.texts[0], trained)
    return trained


class _Rates:
    """The options that decide about layers; an encoder has no head."""

    head_rate = 1.0

    def __init__(self, options: EmbeddingOptions) -> None:
        self.freeze, self.unfreeze_epoch, self.layer_decay = (
            options.freeze, options.unfreeze_epoch, options.layer_decay,
        )  # fmt: skip


def loss_of(plan: Plan, options: EmbeddingOptions, vectors: Sequence[Tensor], values: Tensor) -> Tensor:
    """One number; vectors by column [rows, width], values [rows]."""
    if plan.loss == "ranking":
        scores = vectors[0] @ vectors[1].T * options.scale
        same = values[:, None] == values[None, :]  # another row's equal text is no wrong answer
        same.fill_diagonal_(False)
        return functional.cross_entropy(scores.masked_fill(same, -1e9), torch.arange(len(scores), device=scores.device))
    if plan.loss == "cosine":
        return functional.mse_loss((vectors[0] * vectors[1]).sum(1), values)
    distances = 1 - vectors[0] @ vectors[0].T
    same = values[:, None] == values[None, :]
    itself = torch.eye(len(values), dtype=torch.bool, device=values.device)
    farthest = distances.masked_fill(~same | itself, -1.0).amax(1)
    nearest = distances.masked_fill(same, 3.0).amin(1)
    counts = (same & ~itself).any(1) & (~same).any(1)
    found = functional.relu(farthest - nearest + options.margin)
    return (found * counts).sum() / counts.sum().clamp(min=1)


def figures(network: nn.Module, judging: Examples, plan: Plan, options: EmbeddingOptions) -> dict[str, float]:
    """The loss of the validation rows, and how good the order of their cosines is."""
    network.eval()
    device = next(network.parameters()).device
    vectors: list[list[Tensor]] = [[] for _ in plan.texts]
    losses, count = 0.0, 0
    with torch.no_grad():
        for columns, values in in_turn(judging, options.batch_size):
            found = [network(ids.to(device), mask.to(device)) for ids, mask in columns]
            losses += float(loss_of(plan, options, found, values.to(device))) * len(values)
            count += len(values)
            for kept, one in zip(vectors, found, strict=True):
                kept.append(one.cpu())
    joined = [torch.cat(kept).numpy() for kept in vectors]
    return {"loss": losses / count} | judged(plan.loss, joined, judging.values.numpy(), _MOST_JUDGED)


def _read(data: TrainingData, plan: Plan) -> tuple[Rows, Rows, list[str]]:
    """Training rows (older ones with them) and validation rows, and the names of classes."""
    names = rows.class_names(data.train, plan.value) if plan.loss == "triplet" and plan.value else []
    found = []
    for name, parts in (("training", (*data.train, *data.replay)), ("validation", data.validation)):
        one = _read_rows(parts, plan, names)
        if len(one.values) < 2:
            raise InvalidInput(
                f"data: {len(one.values)} {name} rows have a text in {' and '.join(plan.texts)}; 2 are needed"
            )
        found.append(one)
    return found[0], found[1], names


def _read_rows(parts: Sequence[Path], plan: Plan, names: Sequence[str]) -> Rows:
    found = Rows([[] for _ in plan.texts], [], 0)
    codes = {name: float(code) for code, name in enumerate(names)}
    seconds: dict[str, float] = {}
    wanted = [*plan.texts, *([plan.value] if plan.value else [])]
    for number, values in enumerate(rows.rows(parts, wanted)):
        texts = values[: len(plan.texts)]
        if not all(rows.is_text(text) for text in texts):
            found.left_out += 1
            continue
        if plan.loss == "ranking":
            value = seconds.setdefault(texts[1], float(len(seconds)))
        else:
            value = _value(values[-1], plan, codes, number)
        for column, text in zip(found.texts, texts, strict=True):
            column.append(text)
        found.values.append(value)
    return found


def _value(value: Any, plan: Plan, codes: Mapping[str, float], number: int) -> float:
    if plan.loss == "cosine":
        if value is None or not np.isfinite(value):
            raise InvalidInput(f"column {plan.value!r}, row {number}: the score is {value}; leave such rows out")
        return float(value)
    if rows.name_of(value) not in codes:
        raise InvalidInput(
            f"target: class {rows.name_of(value)[:60]!r} is not among the training rows' classes; split with stratify"
        )
    return codes[rows.name_of(value)]


def _scaled(plan: Plan, found: Rows, old: Rows) -> Tensor:
    """Values as the loss takes them: scores from 0 (the lowest of the training rows) to 1."""
    values = torch.tensor(found.values, dtype=torch.float32)
    if plan.loss != "cosine":
        return values
    low, high = min(old.values), max(old.values)
    if low == high:
        raise InvalidInput(
            f"column {plan.value!r}: every training row has the score {low:g}; there is nothing to learn"
        )
    return (values - low) / (high - low)


def _examples(run: TrainingRun, name: str, found: Rows, tokenizer: Any, pad: int, values: Tensor) -> Examples:
    kept = [
        tokens.kept(run.folder / "tokens" / f"{name}-{index}", lambda t=texts: tokens.encoded(tokenizer, t))  # type: ignore[misc]
        for index, texts in enumerate(found.texts)
    ]
    return Examples(kept, values, pad)


def _tokenizer(base: bases.Base) -> Any:
    """The folder's tokenizer, with what sentence-transformers does to a text before it."""
    tokenizer, recipe = bases.load_tokenizer(base), base.recipe
    first: list[Any] = [tokenizers.normalizers.Lowercase()] if recipe.lower else []
    first += [tokenizers.normalizers.Prepend(recipe.prompt)] if recipe.prompt else []
    if first:
        own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = tokenizers.normalizers.Sequence([*first, *own])
    return tokenizer


def _before(
    path: Path, network: nn.Module, judging: Examples, plan: Plan, options: EmbeddingOptions
) -> dict[str, float]:
    """What the base itself reaches; measured once, also when training begins again."""
    if not path.exists():
        path.with_suffix(".half").write_text(json.dumps(figures(network, judging, plan, options)))
        path.with_suffix(".half").rename(path)
    found: dict[str, float] = json.loads(path.read_text())
    return found


def _warnings(old: Rows, new: Rows, before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    found = []
    if old.left_out or new.left_out:
        found.append(f"{old.left_out} training and {new.left_out} validation rows have no text and were left out")
    main = next(name for name in ("spearman", "recall_at_1") if name in before)
    if after[main] < before[main]:
        found.append(f"{main} fell from {before[main]:.4g} to {after[main]:.4g}: lower learning_rate, or more rows")
    return found


def _write(
    run: TrainingRun, network: Encoder, tokenizer: Any, pad: tuple[int, str], length: int, base: bases.Base,
    judging: Examples, texts: Sequence[str], trained: Trained,
) -> None:  # fmt: skip
    """ONNX and tokenizer that raw texts go into, and a sentence-transformers folder that training can go on from."""
    _save(run.out / bases.KEPT, network, tokenizer, length, base)
    try:
        export.write(network, run.out, OUTPUT, None)
    except InvalidInput as error:
        export.serve_folder(run.out, trained, error.message)
        return
    export.save_tokenizer(tokenizer, run.out / export.TOKENIZER, *pad)

    def same(ids: Array, mask: Array, row: int) -> bool:
        (wanted, seen), *_ = judging.batch(torch.arange(row, row + len(ids)), 0)[0]
        return np.array_equal(ids, wanted.numpy()) and np.array_equal(mask, seen.numpy())

    trained.report["parity"] = export.prove(network, run.out, trained.preprocessing[0], texts, same)


def _save(folder: Path, network: Encoder, tokenizer: Any, length: int, base: bases.Base) -> None:
    network.model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    if (base.folder / "tokenizer_config.json").is_file():
        (folder / "tokenizer_config.json").write_bytes((base.folder / "tokenizer_config.json").read_bytes())
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [
        {"idx": index, "name": str(index), "path": "" if not index else f"{index}_{kind}",
         "type": f"sentence_transformers.models.{kind}"}
        for index, kind in enumerate(kinds)
    ]  # fmt: skip
    width = network.model.config.hidden_size
    pooling = {"word_embedding_dimension": width, "pooling_mode": list(network.pooling)}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(json.dumps(modules, indent=2))
    limits = {"max_seq_length": length, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
