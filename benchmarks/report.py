"""From records to what people read: medians, ratios, Markdown tables and a picture. Knows nothing of servers.

A ratio is Modelport's figure divided by the other's in the same round, and the median of these over the rounds: what
disturbed a round disturbed both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import picture
from contenders import CONTENDERS
from models import write as write_models
from rich.console import Console

OURS = "modelport"
#: Not peers: ours in another form, and limits.
OWN = ("modelport", "modelport-2", "serve", "echo-uvicorn", "echo-granian")
TITLES = {contender.name: contender.title for contender in CONTENDERS}
LAYOUT_TITLES = {"one": "server and client on one core", "two": "server and client on two cores"}

Results = dict[str, Any]
Record = dict[str, Any]


def of(results: Results, layout: str, model: str) -> dict[str, list[Record]]:
    """The records of one table, by contender, in the table's order."""
    found: dict[str, list[Record]] = {name: [] for name in TITLES}
    for record in results["records"]:
        if (record["layout"], record["model"]) == (layout, model):
            found[record["contender"]].append(record)
    return {name: records for name, records in found.items() if records}


def tables(results: Results) -> list[tuple[str, str]]:
    """Layout and model of each table that has records."""
    return sorted({(record["layout"], record["model"]) for record in results["records"]})


def callers(results: Results) -> list[str]:
    return sorted({count for record in results["records"] for count in record["load"]}, key=int)


def rate(records: list[Record], count: str) -> float:
    """Requests per second, the median over rounds."""
    return median(record["load"][count]["rate"] for record in records)


def ratio(above: Iterable[Record], below: Iterable[Record], count: str) -> float | None:
    """How many times faster, within rounds; None where no round has both."""
    others = {record["round"]: record["load"][count]["rate"] for record in below}
    found = [record["load"][count]["rate"] / others[record["round"]] for record in above if others.get(record["round"])]
    return median(found) if found else None


def raw(results: Results, layout: str, model: str, batch: int) -> float | None:
    """Rows per second of ONNX Runtime alone."""
    found = [
        entry["rows_per_s"]
        for entry in results["raw"]
        if (entry["layout"], entry["model"], entry["batch"]) == (layout, model, batch)
    ]
    return median(found) if found else None


def markdown(results: Results) -> str:
    """All tables."""
    parts = [
        f"{results['date']}, {results['processor']}, {results['cores']} cores, load average"
        f" {results['load_average_before']} before the start; Python {results['python']}, ONNX Runtime"
        f" {results['onnxruntime']}.\n\n`{results['command']}`"
    ]
    models = write_models()
    for layout, model in tables(results):
        parts.append(f"### {model}: {models[model].title}; {LAYOUT_TITLES[layout]}")
        parts += [_speed(results, layout, model), _best(results, layout, model), _latency(results, layout, model)]
    parts += _scaling(results)
    if results["failures"]:
        parts.append("### Not measured")
        rows = [[TITLES[f["contender"]], f["model"], f["layout"], f["reason"]] for f in results["failures"]]
        parts.append(_table(["contender", "model", "layout", "why"], rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def _speed(results: Results, layout: str, model: str) -> str:
    counts, found = callers(results), of(results, layout, model)
    compared = counts if OURS in found else []
    head = ["", *(f"req/s at {count}" for count in counts), *(f"Modelport × at {count}" for count in compared)]
    head += ["PSS MB idle / loaded", "cold start s", "failed"]
    rows = []
    for name, records in found.items():
        ratios = [ratio(found[OURS], records, count) for count in compared]
        failed = sum(entry["failed"] for record in records for entry in record["load"].values())
        rows.append(
            [
                TITLES[name],
                *(_number(rate(records, count)) for count in counts),
                *(_times(value) for value in ratios),
                f"{_median(records, 'pss_idle_mb'):.0f} / {_median(records, 'pss_loaded_mb'):.0f}",
                f"{_median(records, 'cold_s'):.2f}",
                str(failed),
            ]
        )
    for batch in (1, 32):
        if limit := raw(results, layout, model, batch):
            ours = [_times(rate(found[OURS], count) / limit) for count in compared]
            title = f"raw ONNX Runtime, batch {batch}"
            rows.append([title, *[_number(limit)] * len(counts), *ours, "", "", ""])
    return _table(head, rows)


def _best(results: Results, layout: str, model: str) -> str:
    """Modelport against whoever was best in each column."""
    found = of(results, layout, model)
    others = {name: records for name, records in found.items() if name not in OWN}
    if OURS not in found or not others:
        return ""
    lines = []
    for count in callers(results):
        best = max(others, key=lambda name, count=count: rate(others[name], count))  # type: ignore[misc]
        times = ratio(found[OURS], others[best], count)
        lines.append(f"{_times(times)} {TITLES[best]} at {count}")
    return "Modelport is " + ", ".join(lines) + " (the best peer of each column)."


def _latency(results: Results, layout: str, model: str) -> str:
    counts = callers(results)
    rows = []
    for name, records in of(results, layout, model).items():
        pairs = [
            " / ".join(f"{median(r['load'][count][key] for r in records):.2f}" for key in ("p50_ms", "p99_ms"))
            for count in counts
        ]
        rows.append([TITLES[name], *pairs])
    return _table(["p50 / p99 ms", *(f"at {count}" for count in counts)], rows)


def _scaling(results: Results) -> list[str]:
    """Both cores against one; two replicas against one."""
    counts, parts = callers(results), []
    layouts, models = ({record[key] for record in results["records"]} for key in ("layout", "model"))
    rows = []
    for model in sorted(models) if layouts == {"one", "two"} else []:
        on_one, on_two = of(results, "one", model), of(results, "two", model)
        for name, records in on_two.items():
            base = on_one.get("modelport" if name == "modelport-2" else name, [])
            rows.append([model, TITLES[name], *(_times(ratio(records, base, count)) for count in counts)])
    if rows:
        parts += ["### Both cores against one", _table(["", "", *(f"at {count}" for count in counts)], rows)]
    rows = []
    for model in sorted(models):
        found = of(results, "two", model)
        if OURS in found and "modelport-2" in found:
            rows.append([model, *(_times(ratio(found["modelport-2"], found[OURS], count)) for count in counts)])
    if rows:
        parts += ["### Two replicas against one, two cores", _table(["", *(f"at {count}" for count in counts)], rows)]
    return parts


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def _median(records: list[Record], key: str) -> float:
    return median(record[key] for record in records)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} ×"


def write(results: Results, folder: Path, console: Console) -> None:
    """``peers.json``, ``peers.md`` and ``peers.svg``; prints the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(results)
    (folder / "peers.json").write_text(json.dumps(results, indent=1))
    (folder / "peers.md").write_text(text)
    (folder / "peers.svg").write_text(picture.svg(panels(results)))
    console.print(text, soft_wrap=True, markup=False, highlight=False)
    console.print(f"written: peers.md, peers.json and peers.svg in {folder}", highlight=False)


def panels(results: Results) -> list[picture.Panel]:
    """One panel per table: a bar per contender and number of callers, a line per limit."""
    made = []
    for layout, model in tables(results):
        bars = {
            TITLES[name]: [rate(records, count) for count in callers(results)]
            for name, records in of(results, layout, model).items()
            if model == "m1" or not name.startswith("echo")  # elsewhere the limit is the model, and echo hides the rest
        }
        ours = {TITLES[name] for name in ("modelport", "modelport-2", "serve")}
        limit = raw(results, layout, model, 32 if model == "m3" else 1)
        title = f"{model}: {write_models()[model].title}, {LAYOUT_TITLES[layout]}"
        made.append(picture.Panel(title, callers(results), bars, ours, limit))
    return made
