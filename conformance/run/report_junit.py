"""A report as JUnit XML, for continuous integration."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

from .baseline import AS_HOPED, EXPECTED, NEW, NOT_RUN
from .outcomes import CRASH, MEMORY, OPEN, TIMEOUT
from .report import Report

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _clean(text: object) -> str:
    return _NOT_XML.sub("?", str(text))


def _mark(case: Xml.Element, entry: dict[str, object]) -> str:
    """Add the result of a case; returns the counter that it increments, "" for a pass."""
    if entry["judgement"] == AS_HOPED:
        return ""
    says = f"{entry['outcome']}: {entry['detail']}" if entry["detail"] else entry["outcome"]
    if entry["judgement"] in (NOT_RUN, EXPECTED):
        kind = "skipped"
        says = f"expected {says}" if entry["judgement"] == EXPECTED else says
    else:
        kind = "error" if entry["outcome"] in (CRASH, TIMEOUT, MEMORY, *OPEN) else "failure"
    mark = Xml.SubElement(case, kind, message=_clean(says))
    if kind != "skipped":
        mark.set("type", _clean(entry["outcome"] if entry["judgement"] == NEW else entry["judgement"]))
        divergence = entry["divergence"]
        assert isinstance(divergence, list)
        mark.text = _clean("\n".join([f"suggests: {entry['suggests']}", *divergence]))
    return {"skipped": "skipped", "error": "errors", "failure": "failures"}[kind]


def render(report: Report) -> str:
    """One test suite for each suite; an expected failure is a skipped test."""
    root = Xml.Element("testsuites", name="refcodec conformance", time=str(report["seconds"]))
    for suite in report["summary"]["suites"]:
        entries = [e for e in report["vectors"] if e["suite"] == suite]
        element = Xml.SubElement(root, "testsuite", name=_clean(suite), timestamp=_clean(report["started"]))
        facts = {name: report[name] for name in ("command", "command_line")} | {
            "kit": report["kit"]["sha256"],
            **report["system"],
        }
        properties = Xml.SubElement(element, "properties")
        for name, value in facts.items():
            Xml.SubElement(properties, "property", name=_clean(name), value=_clean(value))
        counted = {"failures": 0, "errors": 0, "skipped": 0}
        for entry in entries:
            case = Xml.SubElement(
                element, "testcase", classname=_clean(suite), name=_clean(entry["id"]), time=str(entry["seconds"])
            )
            if counter := _mark(case, entry):
                counted[counter] += 1
        element.set("tests", str(len(entries)))
        element.set("time", str(round(sum(e["seconds"] for e in entries), 4)))
        for name, count in counted.items():
            element.set(name, str(count))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, "unicode") + "\n"
