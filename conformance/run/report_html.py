"""A report as one HTML page that needs nothing else: styles, script and heat maps are inside it."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from .baseline import AS_HOPED, NEW, NOT_RUN
from .outcomes import MEANING, OPEN, OUTCOMES, PASS
from .report import Report, alike, brief
from .report_text import hints

_FOLDER = Path(__file__).parent
_SLOWEST, _OPEN, _SUGGESTED = 10, 3, 3
_CLAUSE = re.compile(r"\b[0-9A-D]+(\.[0-9]+)+-[0-9]+(\.\.[0-9]+)?\b")


def kind(outcome: str) -> str:
    """The class of an outcome's colour."""
    return "pass" if outcome == PASS else "open" if outcome in OPEN else "fail"


def tag(outcome: str) -> str:
    """An outcome as a coloured label that explains itself."""
    return f'<span class="tag {kind(outcome)}" title="{escape(MEANING[outcome])}">{escape(outcome)}</span>'


def marked(text: str) -> str:
    """Text for HTML, in which no line ends inside the number of a clause."""
    return _CLAUSE.sub(r'<span class="clause">\g<0></span>', escape(text))


def _head(report: Report) -> str:
    colour = {0: "pass", 3: "open"}.get(report["exit_code"], "fail")
    suites = ", ".join(f"{name} {facts['version']}" for name, facts in report["kit"]["suites"].items())
    kit = f"; suites {escape(suites)}; kit <code>{report['kit']['sha256'][:16]}</code>" if suites else ""
    return (
        f"<h1>Conformance of {'an encoder' if report['kind'] == 'encoder' else 'a decoder'}</h1>"
        f'<p class="command"><code>{escape(report["command_line"] or report["command"])}</code></p>'
        f'<div class="conclusion {colour}">{escape(report["conclusion"][:1].upper() + report["conclusion"][1:])}'
        f"<small>{escape(report['started'])}, {report['seconds']:.1f} s, exit code {report['exit_code']}{kit}"
        "</small></div>"
    )


def _summary(report: Report) -> str:
    total, suites = report["summary"]["all"], report["summary"]["suites"]
    shown = [o for o in OUTCOMES if total[o] or o == PASS]
    head = "".join(f'<th class="n">{tag(o)}</th>' for o in shown)
    lines = [f'<tr><th>suite</th><th class="n">vectors</th>{head}<th class="n">seconds</th></tr>']
    for name, counted in [*suites.items(), ("all", total)]:
        cells = "".join(f'<td class="n{"" if counted[o] else " zero"}">{counted[o]}</td>' for o in shown)
        took = sum(e["seconds"] for e in report["vectors"] if name in ("all", e["suite"]))
        lines.append(
            f'<tr><td>{escape(name)}</td><td class="n">{sum(counted.values())}</td>{cells}'
            f'<td class="n">{took:.2f}</td></tr>'
        )
    return f"<h2>Summary</h2><table>{''.join(lines)}</table>"


def _hints(report: Report) -> str:
    lines = "".join(f"<li>{marked(line)}</li>" for line in hints(report))
    return f"<h2>Where to look first</h2><ul>{lines}</ul>" if lines else ""


def _filter(report: Report) -> str:
    total, suites = report["summary"]["all"], report["summary"]["suites"]
    troubled = any(e["judgement"] != AS_HOPED for e in report["vectors"])
    choices = [
        '<option value="">all results</option>',
        f'<option value="attention"{" selected" if troubled else ""}>everything but passes</option>',
        *(f'<option value="{o}">{o}</option>' for o in OUTCOMES if total[o]),
    ]
    names = "".join(f'<option value="{escape(s)}">{escape(s)}</option>' for s in suites)
    return (
        '<div class="filter"><input id="text" type="search" placeholder="id, clause, model or detail" '
        f'aria-label="filter"><select id="outcome" aria-label="result">{"".join(choices)}</select>'
        f'<select id="suite" aria-label="suite"><option value="">all suites</option>{names}</select>'
        '<output id="shown"></output></div>'
    )


def _figure(entry: dict[str, Any]) -> str:
    if not entry["heat_map"]:
        return ""
    says = "Largest difference of each pixel: blue 1, red 6, yellow 40, white 255."
    if entry["blocks"]:
        says = "Blocks that differ are bright; --reference gives the difference of each pixel."
    return f'<figure><img src="{entry["heat_map"]}" alt="heat map"><figcaption>{says}</figcaption></figure>'


def _more(group: list[dict[str, Any]]) -> str:
    """Details of equal results: heat map, traces, what they suggest, model, clauses, and the other vectors."""
    entry = group[0]
    clauses = list(dict.fromkeys(clause for one in group for clause in one["clauses"]))
    suggests = list(dict.fromkeys(one["suggests"] for one in group if one["suggests"]))[:_SUGGESTED]
    traced = f"<pre>{marked(chr(10).join(entry['divergence']))}</pre>" if entry["divergence"] else ""
    if entry["try_trace_of"]:
        traced += (
            f"<p>With a trace: <code>python -m conformance bisect --vector {escape(entry['try_trace_of'])}</code></p>"
        )
    said = "".join(f"<p>A failure suggests: {marked(text)}</p>" for text in suggests)
    models = ", ".join(dict.fromkeys(one["model"] for one in group if one["model"]))
    model = f"Model {escape(models)}. " if models else ""
    others = ", ".join(f'<span class="id">{escape(one["id"])}</span>' for one in group[1:])
    also = f"<p>Also {others}.</p>" if others else ""
    return (
        f'<div>{_figure(entry)}<div class="words">{traced}{said}'
        f"<p>{model}Clauses {marked(brief(clauses))}.</p>{also}</div></div>"
    )


def _vector(group: list[dict[str, Any]], slowest: float, opened: bool) -> str:
    """A row for equal results."""
    entry = group[0]
    words = [word for one in group for word in (one["id"], one["detail"], one["model"], *one["clauses"])]
    text = " ".join(dict.fromkeys(map(str, words))).lower()
    plain = entry["judgement"] in (AS_HOPED, NEW, NOT_RUN)
    outcome_note = "" if plain else f" <small>{entry['judgement']}</small>"
    seconds = sum(one["seconds"] for one in group)
    bar = f'<span class="bar" style="width:{4 * min(seconds / slowest, 1):.2f}rem"></span>'
    detail = f'<span class="detail">{marked(str(entry["detail"]))}</span>' if entry["detail"] else ""
    others = f" and {len(group) - 1} more" if len(group) > 1 else ""
    expected = ", ".join(dict.fromkeys(str(one["expected"]) for one in group))
    facts = {"suite": entry["suite"], "outcome": entry["outcome"], "judgement": entry["judgement"], "text": text}
    data = " ".join(f'data-{name}="{escape(str(value))}"' for name, value in (facts | {"count": len(group)}).items())
    return (
        f'<tr {data}><td><details{" open" if opened else ""}><summary><span class="id">{escape(str(entry["id"]))}'
        f"</span>{others}{detail}</summary>{_more(group)}</details></td><td>{escape(expected)}</td>"
        f'<td>{tag(str(entry["outcome"]))}{outcome_note}</td><td class="n">{bar}{seconds:.3f}</td>'
        f'<td class="n">{max(one["peak_mib"] for one in group) or ""}</td></tr>'
    )


def shown_open(entries: list[dict[str, Any]]) -> set[object]:
    """Ids of the vectors whose details are shown at once: the first with a divergence, else with a heat map."""
    telling = [e["id"] for e in entries if e["divergence"]] or [e["id"] for e in entries if e["heat_map"]]
    return set(telling[:_OPEN])


def _vectors(report: Report) -> str:
    slowest = max([e["seconds"] for e in report["vectors"]], default=0) or 1
    opened = shown_open(report["vectors"])
    rows = "".join(_vector(group, slowest, group[0]["id"] in opened) for group in alike(report["vectors"]))
    head = '<th>vector</th><th>expected</th><th>result</th><th class="n">seconds</th><th class="n">MiB</th>'
    return (
        f'<h2>Vectors</h2>{_filter(report)}<table id="vectors"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table>"
    )


def _timing(report: Report) -> str:
    slow = sorted(report["vectors"], key=lambda e: -e["seconds"])[:_SLOWEST]
    rows = "".join(
        f'<tr><td class="id">{escape(e["id"])}</td><td class="n">{e["seconds"]:.3f}</td>'
        f'<td class="n">{e["peak_mib"] or ""}</td></tr>'
        for e in slow
    )
    limits, head = report["limits"], '<th>vector</th><th class="n">seconds</th><th class="n">MiB</th>'
    return (
        f"<h2>Slowest</h2><table><tr>{head}</tr>{rows}</table>"
        f'<p class="flags">Limits: {limits["seconds"]:g} s and {limits["memory_mib"]} MiB a vector, '
        f"{limits['jobs']} at once. Memory is resident memory of all processes, sampled.</p>"
    )


def _system(report: Report) -> str:
    system = report["system"]
    packages = ", ".join(f"{name} {number}" for name, number in system["packages"].items())
    facts = {
        "system": system["platform"],
        "processor": f"{system['processor']} ({system['machine']}), "
        f"{system['cores']} cores, {system['memory_mib']} MiB",
        "python": f"{system['python']}; {packages}",
    }
    rows = "".join(f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in facts.items())
    hashes = "".join(
        f"<tr><th>suite {escape(name)}</th><td><code>{facts['sha256']}</code></td></tr>"
        for name, facts in report["kit"]["suites"].items()
    )
    flags = escape(" ".join(system["flags"]))
    return (
        f'<h2>System and suites</h2><table>{rows}{hashes}</table><details class="flags"><summary>instruction sets'
        f"</summary><div>{flags}</div></details>"
    )


def render(report: Report) -> str:
    """The page."""
    style, script = ((_FOLDER / name).read_text("utf-8") for name in ("page.css", "page.js"))
    body = "".join(part(report) for part in (_head, _summary, _hints, _vectors, _timing, _system))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><title>Conformance report</title>'
        f"<style>{style}</style></head><body>{body}<script>{script}</script></body></html>\n"
    )
