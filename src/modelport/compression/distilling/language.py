"""A smaller language model that learns what a larger one says: token by token, from its texts, or about its own.

``rows`` and ``sequence``: forward KL at each token beside the tokens themselves, of the rows or of texts that the
teacher wrote (Kim and Rush 2016). ``reverse``: of every second batch the student writes on from the rows' beginnings,
and learns KL(student || teacher) there (on-policy, Agarwal et al. 2024; MiniLLM without its policy gradient).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional

from modelport.compression.distilling.student import copy_from, parameters
from modelport.compression.method import Model
from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training import randomness
from modelport.training.language import adapters, causal, tokens
from modelport.training.language import base as bases
from modelport.training.loop import LoopOptions
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.recipes.language_model import LanguageModelOptions
from modelport.training.trainer import Trainer


def distil(run: TrainingRun, model: Model, data: TrainingData, options: Any) -> Trained:
    """Write the student's version."""
    randomness.settle(run.seed, run.threads)
    base = bases.find_base(replace(run, code=None, start=model.start))
    if base is None or base.recipe.task != "generate":
        raise InvalidInput("the version holds no whole model that writes (a Hugging Face folder or a GGUF file)")
    how = _as_recipe(options)
    length = min(options.max_length, base.positions or 1 << 30)
    tokenizer = bases.load_writer(base)
    learning, judging, about, warnings = causal.read(run, replace(data, replay=()), how, tokenizer, base, length)
    teacher = bases.load_model(base, transformers.AutoModelForCausalLM).eval().requires_grad_(False)
    student, size = _student(run, teacher, options)
    copied = copy_from(student, teacher)
    before = causal.perplexity(teacher, judging, options.batch_size)
    begun = causal.perplexity(student, judging, options.batch_size)
    if options.mode == "sequence":
        learning = _written(run, teacher, learning, options)
    lesson = _Lesson(teacher, options)
    fit = Trainer(
        run, _loop(options), student, lesson.loss, learning,
        lambda network: causal.perplexity(network, judging, options.batch_size), name="language",
    ).fit()  # fmt: skip
    run.progress(1, 1, "writing and proving the model", "steps")
    adapters.write(student.cpu(), tokenizer, base, run.out, how)
    after = causal.perplexity(student, judging, options.batch_size)
    trained = Trained("language", warnings=warnings, judged_itself=True)
    trained.metrics = fit.figures | {f"validation_{name}": value for name, value in after.items()}
    trained.report = {
        "history": fit.history, "mode": options.mode, "size": size, "copied": round(copied, 4), **about,
        "before": {"parameters": parameters(teacher)} | before,
        "begun": begun, "after": {"parameters": parameters(student)} | after,
        "parity": causal.prove(student, run.out, base, judging, how),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }  # fmt: skip
    return trained


def _as_recipe(options: Any) -> LanguageModelOptions:
    """As the recipe reads rows and writes files."""
    return LanguageModelOptions(
        text=options.text, messages=options.messages, method="full", output="merged", packing=False,
        max_length=options.max_length, validation_rows=options.validation_rows, batch_size=options.batch_size,
    )  # fmt: skip


def _loop(options: Any) -> LoopOptions:
    return LoopOptions(
        epochs=options.epochs, batch_size=options.batch_size, learning_rate=options.learning_rate, schedule="cosine",
        warmup=0.03, clip=1.0, weight_decay=0.0,
    )  # fmt: skip


def _student(run: TrainingRun, teacher: Any, options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Of the same kind, with fewer layers; raises InvalidInput for a budget that none meets."""
    whole, depth = parameters(teacher), int(teacher.config.num_hidden_layers)
    if options.layers is not None:
        if options.layers > depth or (options.layers == depth and options.feed == 1):
            raise InvalidInput(f"options.layers: the version has {depth} layers; say fewer")
        return _built(run, teacher, options.layers, options.feed), {"layers": options.layers, "feed": options.feed}
    most = whole / (options.ratio or 1.5)
    for layers in range(depth, 0, -1):
        with torch.device("meta"):
            count = parameters(_built(run, teacher, layers, options.feed))
        if count <= most:
            return _built(run, teacher, layers, options.feed), {"layers": layers, "feed": options.feed}
    raise InvalidInput(
        f"options.ratio: with one layer of {depth} there are {whole / count:.2f} times fewer weights, no more: its "
        "words take the rest; ask for less, or say feed too"
    )


def _built(run: TrainingRun, teacher: Any, layers: int, feed: float) -> nn.Module:
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = layers
    if isinstance(getattr(config, "layer_types", None), list):
        config.layer_types = config.layer_types[:layers]
    if feed < 1:
        if not hasattr(config, "intermediate_size"):
            raise InvalidInput(f"options.feed: of a {config.model_type} no narrower form is known; leave it out")
        config.intermediate_size = max(8, int(config.intermediate_size * feed) // 8 * 8)
    torch.manual_seed(run.seed)
    try:
        made: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
    except (ValueError, TypeError, RuntimeError, AttributeError, KeyError) as error:
        raise InvalidInput(
            f"of a {config.model_type} no form with {layers} layers can be made ({bases.first_line(error)})"
        ) from None
    return made


class _Lesson:
    """The loss of a batch."""

    def __init__(self, teacher: Any, options: Any) -> None:
        self._teacher, self._options = teacher, options

    def loss(self, student: nn.Module, batch: causal.Batch) -> torch.Tensor:
        """Of rows, or of what the student writes on from them."""
        options = self._options
        if options.mode == "reverse" and float(torch.rand(())) < 0.5:  # drawn: a run that goes on draws the same
            return self._about_its_own(student, batch)
        ids, positions, targets = batch
        asked = targets != causal.IGNORED
        mine = student(input_ids=ids, position_ids=positions, use_cache=False).logits[asked].float()
        with torch.no_grad():
            theirs = self._teacher(input_ids=ids, position_ids=positions, use_cache=False).logits[asked].float()
        soft = _apart(theirs, mine, options.temperature)
        hard = functional.cross_entropy(mine, targets[asked])
        return options.alpha * soft + (1 - options.alpha) * hard

    def _about_its_own(self, student: Any, batch: causal.Batch) -> torch.Tensor:
        begins = beginnings(batch, self._options.prompt)
        student.eval()
        written = go_on(student, begins, self._options.written, sample=True)
        student.train()
        mine = student(input_ids=written, use_cache=False).logits[:, begins.shape[1] - 1 : -1].float()
        with torch.no_grad():
            theirs = self._teacher(input_ids=written, use_cache=False).logits[:, begins.shape[1] - 1 : -1].float()
        return _apart(mine.flatten(0, 1), theirs.flatten(0, 1), self._options.temperature)


def _apart(wanted: torch.Tensor, found: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(wanted || found) of logits [tokens, words], the mean over the tokens."""
    one, other = (functional.log_softmax(logits / temperature, -1) for logits in (wanted, found))
    return (one.exp() * (one - other)).sum(-1).mean() * temperature**2


def beginnings(batch: causal.Batch, most: int) -> torch.Tensor:
    """The first tokens of the rows, as many of each: at most ``most``, and at most half of the shortest row."""
    ids, _, targets = batch
    lengths = (targets != causal.IGNORED).flip(1).int().argmax(1)
    shortest = int((ids.shape[1] - lengths).min())
    return ids[:, : max(1, min(most, shortest // 2))]


def go_on(network: Any, begins: torch.Tensor, count: int, *, sample: bool) -> torch.Tensor:
    """Texts that go on from beginnings, ``count`` tokens each (fewer where the model has no positions for more)."""
    limit = int(getattr(network.config, "max_position_embeddings", 1 << 30))
    count = max(1, min(count, limit - begins.shape[1]))
    with torch.no_grad():
        found: torch.Tensor = network.generate(
            input_ids=begins, attention_mask=torch.ones_like(begins), do_sample=sample, top_k=0, max_new_tokens=count,
            min_new_tokens=count, use_cache=True, pad_token_id=network.config.pad_token_id or 0,
        )  # fmt: skip
    return found


def _written(run: TrainingRun, teacher: Any, learning: causal.Examples, options: Any) -> causal.Examples:
    """What the teacher writes on from the rows' beginnings; written once, in pieces that a killed run finds again."""
    lots = torch.arange(len(learning)).split(options.batch_size)
    known: list[tuple[Sequence[int], Sequence[int]]] = []
    key = hashlib.sha256(f"{options.prompt} {options.written} {len(learning)}".encode()).hexdigest()[:8]
    for number, rows in enumerate(lots):
        run.progress(number, len(lots), "the teacher writes", "batches")

        def write(rows: torch.Tensor = rows, number: int = number) -> list[tuple[Array, Array]]:
            torch.manual_seed(run.seed * 1_000_003 + number)
            begins = beginnings(learning.batch(rows, 0), options.prompt)
            found = go_on(teacher, begins, options.written, sample=True).numpy()
            marks = np.concatenate([[0] * begins.shape[1], [1] * (found.shape[1] - begins.shape[1])])
            return [(row, marks) for row in found]

        piece = tokens.kept(run.folder / f"written-{key}" / str(number), write)  # type: ignore[arg-type]
        known += [(piece[row].tolist(), piece.marks(row).tolist()) for row in range(len(piece))]
    whole = tokens.kept(run.folder / f"written-{key}" / "all", lambda: known)
    return causal.Examples(whole, [[row] for row in range(len(whole))], learning.pad)
