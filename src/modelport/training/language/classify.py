"""Learns to tell classes of texts apart: what the recipe ``text`` does once it has rows.

A base model with a new head, or a small encoder from nothing; both answer token ids and a mask with scores, and both
become an ONNX file with the softmax inside, beside the tokenizer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training import randomness, targets
from modelport.training.batches import in_turn
from modelport.training.language import base as bases
from modelport.training.language import columns, export, heads, pieces, rows, small, smaller, tokens, vocabulary
from modelport.training.language.scoring import Probabilities, Scores
from modelport.training.loop import LoopOptions
from modelport.training.memory import check_fits
from modelport.training.optimizers import Group
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.recipes.text import TextOptions, filled
from modelport.training.reopen import Reopened
from modelport.training.trainer import Fit, Trainer

OUTPUT = "probabilities"
_CLASSES = "classes.json"
_DEFAULT_LENGTH = 256


@dataclass(slots=True)
class Prepared:
    """A network that has not learnt yet, and how it reads."""

    network: nn.Module
    """``(input_ids, attention_mask)`` to scores [rows, classes]."""
    tokenizer: Any
    pad: int
    pad_token: str
    max_length: int
    classes: list[str]
    groups: list[Group]
    save: Callable[[Any, Any, Path], None]
    """Writes what training can go on from into a folder, of a network like this one and its tokenizer."""
    about: dict[str, Any]


class Examples:
    """Texts as padded ids with their classes."""

    def __init__(self, found: Any, codes: Sequence[int], pad: int) -> None:
        self.tokens, self._codes, self._pad = found, torch.tensor(codes, dtype=torch.int64), pad

    def __len__(self) -> int:
        return len(self._codes)

    def batch(self, numbers: torch.Tensor, epoch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids, mask and codes."""
        ids, mask = tokens.padded([self.tokens[row] for row in numbers.tolist()], self._pad)
        return torch.from_numpy(ids), torch.from_numpy(mask), self._codes[numbers]


def train(run: TrainingRun, data: TrainingData, options: TextOptions) -> Trained:
    """Learn, export, prove."""
    randomness.settle(run.seed, run.threads)
    column = columns.text_column(data, options.text)
    assert data.target is not None
    found, options = _model_of(run, options)
    known = _known_classes(run, found)
    classes = [*known, *(one for one in rows.class_names(data.train, data.target) if one not in known)]
    old, new = _read(run, data, options, column, classes)
    prepared = _prepare(run, options, found, classes, known, old.texts)
    train_rows = _tokens(run, prepared, "train", old.texts)
    seen_rows = _tokens(run, prepared, "validation", new.texts)
    learning = Examples(train_rows, old.codes, prepared.pad)
    judging = Examples(seen_rows, new.codes, prepared.pad)
    loss = _loss(options, classes, old.codes)

    def validate(network: nn.Module) -> Mapping[str, float]:
        return _figures(run, network, judging, new.codes, options.batch_size)

    fit = Trainer(
        run, options, prepared.network, lambda network, batch: loss(network(*batch[:2]), batch), learning, validate,
        groups=prepared.groups,
    ).fit()  # fmt: skip
    trained = _version(run, prepared, prepared.network, column, judging, new.texts)
    trained.warnings += _warnings(data, old, new, train_rows, prepared.max_length)
    trained.metrics = fit.figures
    trained.report |= _report(fit, prepared, len(old.texts), len(new.texts))
    return trained


def reopen(run: TrainingRun, data: TrainingData, options: TextOptions) -> Reopened:
    """The network of ``run.start`` with its rows; raises InvalidInput for rows that do not fit it."""
    randomness.settle(run.seed, run.threads)
    run, data = replace(run, code=None), replace(data, replay=())
    column = columns.text_column(data, options.text)
    assert data.target is not None
    found, options = _model_of(run, options)
    classes = _known_classes(run, found)
    if not classes:
        raise InvalidInput("the version does not say which classes it tells apart; train it anew by the recipe text")
    old, new = _read(run, data, options, column, classes)
    prepared = _prepare(run, options, found, classes, classes, old.texts)
    plain = Examples(_tokens(run, prepared, "train", old.texts), old.codes, prepared.pad)
    judged = Examples(_tokens(run, prepared, "validation", new.texts), new.codes, prepared.pad)
    lengths = plain.tokens
    pieces_used = vocabulary.used(prepared.tokenizer, map(lengths.__getitem__, range(len(lengths))), 1 << 30)

    def build(size: Mapping[str, Any]) -> nn.Module:
        torch.manual_seed(run.seed)
        whole = smaller.checked(size, smaller.layers_in(prepared.network), smaller.words_in(prepared.network))
        if whole["vocabulary"] == smaller.words_in(prepared.network):
            return smaller.plain(prepared.network, whole, prepared.pad)
        rows_read = map(lengths.__getitem__, range(len(lengths)))
        kept = vocabulary.used(prepared.tokenizer, rows_read, whole["vocabulary"])
        core = smaller.plain(prepared.network, whole | {"vocabulary": len(kept)}, kept.index(prepared.pad))
        return smaller.FewerWords(core, kept, smaller.words_in(prepared.network), _unknown(prepared, kept))

    return Reopened(
        network=prepared.network.eval(), task="classification", inputs=lambda batch: tuple(batch[:2]),
        truth=lambda batch: batch[2],
        loss=_loss(options, classes, old.codes), learning=plain, plain=plain, judged=judged,
        figures=lambda network: _figures(run, network, judged, new.codes, options.batch_size),
        write=lambda network, run: _version(run, prepared, network, column, judged, new.texts),
        build=build, sizes=smaller.sizes(prepared.network, len(pieces_used)),
        loop=LoopOptions.model_validate(options.model_dump(include=set(LoopOptions.model_fields))),
    )  # fmt: skip


def _unknown(prepared: Prepared, kept: Sequence[int]) -> int:
    """The piece that stands for those that are not known."""
    for piece in ("[UNK]", "<unk>"):
        number = prepared.tokenizer.token_to_id(piece)
        if number in kept:
            return int(number)
    return prepared.pad


def _loss(
    options: TextOptions, classes: Sequence[str], codes: Sequence[int]
) -> Callable[[torch.Tensor, Any], torch.Tensor]:
    """Of scores and a batch."""
    counted = targets.class_weights(options.class_weights, classes, np.asarray(codes))
    weights = None if counted is None else torch.from_numpy(counted)
    smoothing = options.label_smoothing or 0.0
    return lambda scores, batch: functional.cross_entropy(scores, batch[2], weight=weights, label_smoothing=smoothing)


def _figures(
    run: TrainingRun, network: nn.Module, judged: Examples, codes: Sequence[int], batch_size: int
) -> Mapping[str, float]:
    scores = scores_of(network, judged, batch_size)
    figures = {"loss": float(functional.cross_entropy(scores, torch.tensor(codes)))}
    return figures | run.score("classification", np.asarray(codes), torch.softmax(scores, -1).numpy())


def scores_of(network: nn.Module, examples: Examples, batch_size: int) -> torch.Tensor:
    """Scores of all rows, FP32 [rows, classes], on the CPU."""
    device = next(network.parameters()).device
    with torch.no_grad():
        found = [network(ids.to(device), mask.to(device)).float().cpu()
                 for ids, mask, _ in in_turn(examples, max(batch_size, 32))]  # fmt: skip
    return torch.cat(found)


def _model_of(run: TrainingRun, options: TextOptions) -> tuple[bases.Base | Path | None, TextOptions]:
    """Where learning begins: a base model, a small one that was kept, or nothing; options with its defaults."""
    kept = run.start.folder / bases.KEPT if run.start is not None else None
    if options.model != "base" and kept is not None and small.saved_in(kept):
        return kept, filled(options, base=False)
    found = None if options.model == "small" else bases.find_base(run)
    if found is None and options.model == "base":
        raise InvalidInput(
            "options.model: there is no base model: send a Hugging Face folder (config.json, safetensors, "
            "tokenizer.json) among the files, or say start"
        )
    if found is None and run.start is not None:
        raise InvalidInput(
            "start: that version holds nothing that this recipe can go on from; name one that the recipe 'text' made, "
            "or a Hugging Face folder"
        )
    return found, filled(options, base=found is not None)


def _known_classes(run: TrainingRun, found: bases.Base | Path | None) -> list[str]:
    """The classes that the start already tells apart, in the order of its scores."""
    folder = found.folder if isinstance(found, bases.Base) else found
    if run.start is None or folder is None or not folder.is_relative_to(run.start.folder):
        return []
    if (folder / _CLASSES).is_file():
        return [str(name) for name in json.loads((folder / _CLASSES).read_text())]
    return list(found.recipe.labels) if isinstance(found, bases.Base) else []


def _read(
    run: TrainingRun, data: TrainingData, options: TextOptions, column: str, classes: Sequence[str]
) -> tuple[rows.Labelled, rows.Labelled]:
    """Training rows (older ones mixed in) and validation rows; raises InvalidInput when there are none."""
    assert data.target is not None
    old = rows.labelled(data.train, column, data.target, classes)
    new = rows.labelled(data.validation, column, data.target, classes)
    for name, found in (("training", old), ("validation", new)):
        if not found.texts:
            raise InvalidInput(f"data: no {name} row has a text in column {column!r}")
    if data.replay:
        again = rows.labelled(data.replay, column, data.target, classes)
        count = min(len(again.texts), int(len(old.texts) * options.replay_share))
        for row in sorted(random.Random(run.seed).sample(range(len(again.texts)), count)):  # noqa: S311
            old.texts.append(again.texts[row])
            old.codes.append(again.codes[row])
    return old, new


def _prepare(
    run: TrainingRun, options: TextOptions, found: bases.Base | Path | None, classes: list[str], known: list[str],
    texts: Sequence[str],
) -> Prepared:  # fmt: skip
    if isinstance(found, bases.Base):
        return _prepare_base(run, options, found, classes, known)
    length = bases.checked_length(None, options.max_length, _DEFAULT_LENGTH)
    path = run.folder / "tokenizer.json"
    if found is not None:
        tokenizer = bases.read_tokenizer(found / "tokenizer.json")
        network = small.load_small(found)
        network.head = heads.widened(network.head, len(classes))
        network.shape["classes"] = len(classes)
    else:
        if not path.exists():
            pieces.learnt_tokenizer(texts, options.vocabulary, options.lower).save(str(path.with_suffix(".half")))
            path.with_suffix(".half").rename(path)
        tokenizer = bases.read_tokenizer(path)
        network = small.SmallClassifier(
            tokenizer.get_vocab_size(), len(classes), options.width, options.layers, max(1, options.width // 32),
            options.dropout,
        )  # fmt: skip

    def save(network: Any, tokenizer: Any, folder: Path) -> None:
        network.save(folder)
        tokenizer.save(str(folder / "tokenizer.json"))

    about = {"model": "small", "vocabulary": tokenizer.get_vocab_size(), "shape": network.shape}
    return Prepared(network, tokenizer, 0, pieces.PAD, length, classes, [Group([network])], save, about)


def _prepare_base(
    run: TrainingRun, options: TextOptions, found: bases.Base, classes: list[str], known: list[str]
) -> Prepared:
    length = bases.checked_length(found, options.max_length, _DEFAULT_LENGTH)
    tokenizer = bases.load_tokenizer(found)
    pad, pad_token = bases.pad_of(found, tokenizer)
    check_fits(bases.parameters_of(found.folder))
    names = dict(enumerate(known or classes))
    model = bases.load_model(
        found, transformers.AutoModelForSequenceClassification, num_labels=len(names), ignore_mismatched_sizes=True,
        id2label=names, label2id={name: code for code, name in names.items()}, pad_token_id=pad,
    )  # fmt: skip
    if known:
        place = heads.head_of(model, len(known))
        model.set_submodule(place, heads.widened(model.get_submodule(place), len(classes)))
    model.config.id2label = dict(enumerate(classes))
    model.config.label2id = {name: code for code, name in enumerate(classes)}
    model.config.num_labels = model.num_labels = len(classes)
    model.config.problem_type = "single_label_classification"

    def save(network: Any, tokenizer: Any, folder: Path) -> None:
        network.model.save_pretrained(folder)
        beside = ["tokenizer_config.json", "special_tokens_map.json"]
        if tokenizer.get_vocab_size() == model.config.vocab_size:
            beside += ["tokenizer.json", "vocab.txt"]
        else:
            tokenizer.save(str(folder / "tokenizer.json"))
        for name in beside:
            if (found.folder / name).is_file():
                (folder / name).write_bytes((found.folder / name).read_bytes())

    about = {"model": model.config.model_type, "parameters": model.num_parameters()}
    groups = heads.groups_of(model, options)
    return Prepared(Scores(model), tokenizer, pad, pad_token, length, classes, groups, save, about)


def _tokens(run: TrainingRun, prepared: Prepared, name: str, texts: Sequence[str]) -> tokens.Tokens:
    prepared.tokenizer.enable_truncation(prepared.max_length)
    return tokens.kept(run.folder / "tokens" / name, lambda: tokens.encoded(prepared.tokenizer, texts))


def _version(
    run: TrainingRun, prepared: Prepared, network: nn.Module, column: str, judging: Examples, texts: Sequence[str]
) -> Trained:
    """The version's files: ONNX and tokenizer that raw texts go into, and what training can go on from.

    Raises InvalidInput when the file does not answer as the network does. Where it cannot be made at all, a base model
    is served by transformers instead, and a warning says so.
    """
    trained = Trained("classification", class_labels=prepared.classes)
    trained.preprocessing = [export.step(column, prepared.max_length)]
    trained.sample = {"inputs": [{"name": column, "datatype": "BYTES", "shape": [1], "data": [texts[0][:2000]]}]}
    core, tokenizer, pad = network.cpu(), prepared.tokenizer, prepared.pad
    if isinstance(network, smaller.FewerWords):
        core, pad = network.core, int(network.places[pad])
        tokenizer = vocabulary.reduced(tokenizer, network.kept)
        tokenizer.enable_truncation(prepared.max_length)
        found = [np.asarray(ids, np.int32) for ids, _ in tokens.encoded(tokenizer, texts[: export.PROVEN])]
        judging = Examples(found, [0] * len(found), pad)
    if smaller.is_as_built(core):
        prepared.save(core, tokenizer, run.out / bases.KEPT)
        (run.out / bases.KEPT / _CLASSES).write_text(json.dumps(prepared.classes))
    else:
        trained.warnings.append("its network is another one than the recipe builds, so training cannot go on from it")
    served = Probabilities(core)
    try:
        export.write(served, run.out, OUTPUT, prepared.classes)
    except InvalidInput as error:
        if not isinstance(core, Scores) or trained.warnings:
            raise
        export.serve_folder(run.out, trained, error.message)
        return trained
    export.save_tokenizer(tokenizer, run.out / export.TOKENIZER, pad, prepared.pad_token)

    def same(ids: Array, mask: Array, row: int) -> bool:
        wanted, seen, _ = judging.batch(torch.arange(row, row + len(ids)), 0)
        return np.array_equal(ids, wanted.numpy()) and np.array_equal(mask, seen.numpy())

    trained.report["parity"] = export.prove(served, run.out, trained.preprocessing[0], texts, same)
    return trained


def _warnings(
    data: TrainingData, old: rows.Labelled, new: rows.Labelled, lengths: tokens.Tokens, limit: int
) -> list[str]:
    found = []
    if old.left_out or new.left_out:
        found.append(f"{old.left_out} training and {new.left_out} validation rows have no text and were left out")
    cut = int((lengths.lengths() >= limit).sum())
    if cut > len(lengths) // 20:
        found.append(f"{cut} of {len(lengths)} training texts are cut off at {limit} tokens (max_length)")
    both = set(old.texts) & set(new.texts)
    if both:
        found.append(
            f"{len(both)} texts are among the training rows and among the validation rows too: figures are too good; "
            "split again with leaks: move"
        )
    return found


def _report(fit: Fit, prepared: Prepared, rows_learnt: int, rows_judged: int) -> dict[str, Any]:
    return {
        "history": fit.history,
        "stopped_early": fit.stopped_early,
        "rows": {"train": rows_learnt, "validation": rows_judged},
        "max_length": prepared.max_length,
        "base": prepared.about,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
