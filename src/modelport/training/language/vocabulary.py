"""A tokenizer that knows fewer pieces of words: those that texts use, and what spells out the rest.

A text of pieces that were kept is cut as before; what was dropped is cut into smaller pieces, or unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tokenizers

from modelport.errors import InvalidInput

_WHOLE = ("WordPiece", "BPE", "WordLevel", "Unigram")


def used(tokenizer: Any, rows: Iterable[Sequence[int]], most: int) -> list[int]:
    """The numbers of at most so many pieces, rising: special ones, single ASCII characters and bytes, what those rows
    use most often, and what that is put together from. Raises InvalidInput when ``most`` has no place for the first."""
    state = json.loads(tokenizer.to_str())
    kind, vocabulary = str(state["model"]["type"]), _vocabulary(state)
    if kind not in _WHOLE:
        raise InvalidInput(f"size: a tokenizer of the kind {kind} cannot be made smaller; leave the vocabulary out")
    counts = np.zeros(max(vocabulary.values()) + 1, np.int64)
    for row in rows:
        np.add.at(counts, np.asarray(row, np.int64), 1)
    plain = {one["id"] for one in state["added_tokens"]}
    plain |= {number for piece, number in vocabulary.items() if _is_basic(piece, kind)}
    unknown = state["model"].get("unk_token")
    plain |= {vocabulary[unknown]} if isinstance(unknown, str) and unknown in vocabulary else set()
    plain |= {state["model"]["unk_id"]} if isinstance(state["model"].get("unk_id"), int) else set()
    if len(plain) > most:
        raise InvalidInput(f"size: a vocabulary of {most} has no place for the {len(plain)} pieces that always stay")
    parts = _parts(state) if kind == "BPE" else {}
    kept = set(plain)
    for number in np.lexsort((np.arange(len(counts)), -counts)).tolist():
        if not counts[number] or len(kept) >= most:
            break
        wanted = _with_parts(number, parts, kept)
        if len(kept) + len(wanted) <= most:
            kept |= wanted
    return sorted(kept)


def reduced(tokenizer: Any, kept: Sequence[int]) -> Any:
    """The tokenizer with these pieces alone, whose numbers are their places in ``kept``."""
    state = json.loads(tokenizer.to_str())
    place = {number: at for at, number in enumerate(kept)}
    model = state["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][number] for number in kept]
        if isinstance(model.get("unk_id"), int):
            model["unk_id"] = place[model["unk_id"]]
    else:
        model["vocab"] = {piece: place[at] for piece, at in model["vocab"].items() if at in place}
    if model["type"] == "BPE":
        own = model["vocab"]
        model["merges"] = [
            pair for pair in model["merges"]
            if (left := _pair(pair)[0]) in own and (right := _pair(pair)[1]) in own and left + right in own
        ]  # fmt: skip
    for one in state["added_tokens"]:
        one["id"] = place[one["id"]]
    state["post_processor"] = _renumbered(state["post_processor"], place)
    state["padding"] = state["truncation"] = None
    return tokenizers.Tokenizer.from_str(json.dumps(state, ensure_ascii=False))


def _vocabulary(state: Any) -> dict[str, int]:
    found = state["model"].get("vocab", {})
    if isinstance(found, list):  # Unigram: pieces and scores
        return {str(one[0]): at for at, one in enumerate(found)}
    return {str(piece): int(number) for piece, number in found.items()}


def _is_basic(piece: str, kind: str) -> bool:
    """What words can be spelled with: ASCII characters, and with BPE whatever has one character (its bytes)."""
    bare = piece.removeprefix("##")
    return len(bare) == 1 and (kind == "BPE" or bare.isascii())


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return str(left), str(right)


def _parts(state: Any) -> dict[int, set[int]]:
    """What each piece is put together from, in one step."""
    vocabulary, found = _vocabulary(state), dict[int, set[int]]()
    for merge in state["model"]["merges"]:
        left, right = _pair(merge)
        whole = vocabulary.get(left + right)
        if whole is not None:
            found.setdefault(whole, set()).update((vocabulary[left], vocabulary[right]))
    return found


def _with_parts(number: int, parts: dict[int, set[int]], kept: set[int]) -> set[int]:
    found, waiting = set[int](), [number]
    while waiting:
        one = waiting.pop()
        if one not in found and one not in kept:
            found.add(one)
            waiting += parts.get(one, ())
    return found


def _renumbered(processor: Any, place: dict[int, int]) -> Any:
    """Numbers of special tokens, wherever a post-processor says them."""
    if isinstance(processor, dict):
        found = {name: _renumbered(value, place) for name, value in processor.items()}
        if isinstance(found.get("ids"), list):
            found["ids"] = [place[number] for number in found["ids"]]
        for name in ("sep", "cls"):
            if isinstance(found.get(name), list):  # of BERT's and RoBERTa's own
                found[name] = [found[name][0], place[found[name][1]]]
        return found
    if isinstance(processor, list):
        return [_renumbered(one, place) for one in processor]
    return processor
