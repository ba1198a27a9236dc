"""The shell of the pages that commands write: one file, no script, no address outside itself, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2733;background:#fff}
h1{font-size:1.6rem;margin:0}
h2{font-size:1.15rem;margin:2rem 0 .6rem}
dl{display:grid;grid-template-columns:9rem 1fr;gap:.2rem}
dt{color:#5b6b7b}
dd{margin:0;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}
.card{border:1px solid #d8e0e8;border-radius:8px;padding:.8rem 1rem}
.card h3{margin:0;font-size:1rem;overflow-wrap:anywhere}
.type{color:#5b6b7b;font-size:.85rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
td,th{text-align:left;padding:.2rem .6rem .2rem 0;vertical-align:top;overflow-wrap:anywhere}
th{color:#5b6b7b;font-weight:500}
.card th{width:4.5rem;overflow-wrap:normal}
.bars{width:auto;max-width:100%}
.bars td:nth-child(2){text-align:right;white-space:nowrap}
.bars td:last-child{min-width:4rem}
svg{width:100%;height:auto;display:block;margin-top:.5rem}
rect{fill:#2b6cb0}
text{font-size:9px;fill:#5b6b7b}
.axis{fill:none;stroke:#b8c4d0}
.line{fill:none;stroke-width:1.8}
.cell{stroke:#d8e0e8;stroke-width:.5}
.cell.wrong{fill:#c53030}
.count.strong{fill:#fff}
.point{fill:#2b6cb0;fill-opacity:.5}
.point.met{fill:#2f855a;fill-opacity:.9}
.key{margin-right:1.2rem;white-space:nowrap}
.key::before{content:"";display:inline-block;width:.9rem;height:.25rem;margin-right:.4rem;vertical-align:middle}
.line.c0{stroke:#2b6cb0}.line.c1{stroke:#c05621}.line.c2{stroke:#2f855a}
.line.c3{stroke:#805ad5}.line.c4{stroke:#b7791f}.line.c5{stroke:#c53030}
.key.c0::before{background:#2b6cb0}.key.c1::before{background:#c05621}.key.c2::before{background:#2f855a}
.key.c3::before{background:#805ad5}.key.c4::before{background:#b7791f}.key.c5::before{background:#c53030}
@media(prefers-color-scheme:dark){
body{background:#11161c;color:#dbe4ec}
.card{border-color:#2c3844}
rect{fill:#63a4e8}
dt,th,.type,text{color:#93a4b4;fill:#93a4b4}
}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, body: str) -> str:
    """The whole page; ``body`` is HTML already."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{text(title)}</h1>{body}</body></html>\n"
    )


def facts(pairs: Iterable[tuple[str, Any]]) -> str:
    """Names and values below one another, without those that are empty."""
    listed = (f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs if value not in ("", None))
    return f"<dl>{''.join(listed)}</dl>"


def number(value: Any) -> str:
    """A float shortened, anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def text(value: Any) -> str:
    """Escaped, and without what no page should hold."""
    return escape("".join(c if c.isprintable() else " " for c in str(value)))
