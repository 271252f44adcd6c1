"""The rules by which a decoder's end becomes a result, and results an exit code."""

from __future__ import annotations

import itertools

import pytest

from conformance.kit.errors import UsageError
from conformance.kit.vectors import ERROR_CLASSES, Accept, Reject
from conformance.run import baseline, outcomes
from conformance.run.outcomes import Seen, Verdict, observe, score
from conformance.run.process import MEMORY, TIMEOUT, Ended

VALID = Accept(2, 2, 3, "0" * 64)
INVALID = Reject("ChecksumError", "container", ("TrailingBytes",))
LATER = Reject("UnknownVersion", "container")


def json_error(name):
    return f'{{"error": "{name}"}}\n'.encode()


@pytest.mark.parametrize(
    ("ended", "kind", "error"),
    [
        (Ended(0), "accepted", ""),
        (Ended(0, stdout=json_error("ChecksumError")), "accepted", ""),
        (Ended(65), "refused", ""),
        (Ended(65, stdout=json_error("ChecksumError")), "refused", "ChecksumError"),
        (Ended(65, stdout=b"progress\n{not json\n" + json_error("CoderError")), "refused", "CoderError"),
        (Ended(65, stdout=b'{"width": 1}\n' + json_error("CoderError")), "refused", "CoderError"),
        (Ended(65, stdout=json_error("MyOwnName")), "refused", ""),
        (Ended(65, stdout=json_error("MyOwnName"), stderr=b"ChecksumError"), "refused", ""),
        (Ended(65, stdout=b'{"error": 5}\n', stderr=b"ChecksumError"), "refused", "ChecksumError"),
        (Ended(65, stderr=b"mydec: ChecksumError at byte 9\n"), "refused", "ChecksumError"),
        (Ended(65, stderr=b"BadMagic? no: HeaderError\n"), "refused", "HeaderError"),
        (Ended(65, stderr=b"NotAChecksumError, ChecksumErrors"), "refused", ""),
        (Ended(78, stderr=b"ModelError: none"), "refused", "ModelError"),
        (Ended(78), "refused", ""),
        (Ended(77), "refused", "LimitExceeded"),
        (Ended(77, stderr=b"HeaderError"), "refused", "HeaderError"),
        (Ended(69), "not-supported", ""),
        (Ended(69, stdout=json_error("UnknownVersion")), "not-supported", "UnknownVersion"),
        (Ended(1, stderr=b"ChecksumError"), "refused", "ChecksumError"),
        (Ended(2, stdout=json_error("BadMagic")), "refused", "BadMagic"),
        (Ended(1), "crash", ""),
        (Ended(1, stderr=b"it broke"), "crash", ""),
        (Ended(70, stderr=b"ChecksumError"), "crash", ""),
        (Ended(-11), "crash", ""),
        (Ended(-6, stderr=b"ChecksumError"), "crash", ""),
        (Ended(139), "crash", ""),
        (Ended(134, stderr=b"ChecksumError"), "crash", ""),
        (Ended(1, stderr=b"MemoryError"), "out-of-memory", ""),
        (Ended(-6, stderr=b"terminate: std::bad_alloc"), "out-of-memory", ""),
        (Ended(134, stderr=b"memory allocation of 800 bytes failed"), "out-of-memory", ""),
        (Ended(1, stderr=b"fatal: Out of Memory, ChecksumError"), "out-of-memory", ""),
        (Ended(65, stderr=b"out of memory"), "refused", ""),
        (Ended(-9, TIMEOUT), "timeout", ""),
        (Ended(0, TIMEOUT), "timeout", ""),
        (Ended(-9, MEMORY), "out-of-memory", ""),
    ],
)
def test_how_it_ended_says_what_it_did(ended, kind, error):
    seen = observe(ended)
    assert (seen.kind, seen.error) == (kind, error)


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (Ended(-9, TIMEOUT, 3.21), "ended after 3.2 s"),
        (Ended(-9, MEMORY, peak=300 << 20), "ended at 300 MiB"),
        (Ended(-11), "SIGSEGV"),
        (Ended(139, stderr=b"core dumped"), "SIGSEGV; core dumped"),
        (Ended(-63), "SIGRTMAX-1"),
        (Ended(3, stderr=b"one\ntwo\n\n"), "exit code 3; two"),
        (Ended(3), "exit code 3"),
        (Ended(200), "exit code 200"),
        (Ended(65, stderr=b"a\x1b[31mred\xff"), "a\\x1b[31mred\ufffd"),
        (Ended(65, stderr=b"x" * 300), "x" * 197 + "..."),
        (Ended(65, stderr=b"x" * 200), "x" * 200),
    ],
)
def test_the_detail_is_one_safe_line(ended, says):
    if ended.exit_code == -63:
        says = outcomes.signal_of(-63)
        assert says.startswith(("SIG", "signal"))
    assert observe(ended).detail == says


def test_signals_have_names():
    assert outcomes.signal_of(-11) == outcomes.signal_of(139) == "SIGSEGV"
    assert outcomes.signal_of(-250) == "signal 250"
    assert outcomes.signal_of(128) == outcomes.signal_of(1) == outcomes.signal_of(255) == ""


@pytest.mark.parametrize(
    ("expect", "seen", "trouble", "wrote", "outcome"),
    [
        (VALID, Seen("accepted"), "", True, "pass"),
        (VALID, Seen("accepted"), "another picture", True, "fail"),
        (VALID, Seen("refused", "CoderError"), "", False, "fail"),
        (VALID, Seen("refused"), "", False, "fail"),
        (VALID, Seen("refused", "LimitExceeded"), "", False, "not-supported"),
        (VALID, Seen("not-supported", "UnknownVersion"), "", False, "not-supported"),
        (VALID, Seen("crash"), "", True, "crash"),
        (VALID, Seen("timeout"), "", True, "timeout"),
        (VALID, Seen("out-of-memory"), "", True, "out-of-memory"),
        (INVALID, Seen("accepted"), "", True, "accepted-invalid"),
        (INVALID, Seen("accepted"), "", False, "accepted-invalid"),
        (INVALID, Seen("refused", "ChecksumError"), "", False, "pass"),
        (INVALID, Seen("refused", "TrailingBytes"), "", False, "pass"),
        (INVALID, Seen("refused", "HeaderError"), "", False, "wrong-class"),
        (INVALID, Seen("refused", "LimitExceeded"), "", False, "wrong-class"),
        (INVALID, Seen("refused"), "", False, "pass"),
        (INVALID, Seen("refused", "ChecksumError"), "", True, "fail"),
        (INVALID, Seen("refused"), "", True, "fail"),
        (INVALID, Seen("crash"), "", False, "crash"),
        (INVALID, Seen("timeout"), "", False, "timeout"),
        (INVALID, Seen("out-of-memory"), "", False, "out-of-memory"),
        (INVALID, Seen("not-supported"), "", False, "not-supported"),
        (INVALID, Seen("not-supported", "UnknownVersion"), "", False, "wrong-class"),
        (LATER, Seen("not-supported", "UnknownVersion"), "", False, "pass"),
        (LATER, Seen("not-supported"), "", False, "pass"),
        (LATER, Seen("not-supported"), "", True, "fail"),
        (LATER, Seen("refused", "UnknownVersion"), "", False, "pass"),
        (LATER, Seen("not-supported", "UnknownRequiredChunk"), "", False, "wrong-class"),
    ],
)
def test_what_it_did_becomes_a_result(expect, seen, trouble, wrote, outcome):
    assert score(expect, seen, trouble, wrote).outcome == outcome


def test_results_say_why():
    assert score(VALID, Seen("refused", "CoderError", "bad words"), "", False) == Verdict("fail", "refused: bad words")
    assert score(VALID, Seen("refused", "CoderError"), "", False) == Verdict("fail", "refused: CoderError")
    assert score(VALID, Seen("refused"), "", False) == Verdict("fail", "refused: no reason given")
    assert score(INVALID, Seen("refused", "BadMagic"), "", False) == Verdict(
        "wrong-class", "expected ChecksumError or TrailingBytes, got BadMagic"
    )
    assert score(INVALID, Seen("refused"), "", False) == Verdict("pass", "no class named")
    assert score(INVALID, Seen("accepted"), "", False) == Verdict("accepted-invalid", "expected ChecksumError")


def test_only_a_right_ending_passes():
    """Over all combinations: a pass needs the picture, or a refusal that leaves nothing."""
    kinds = ("accepted", "refused", "crash", "timeout", "out-of-memory", "not-supported")
    for expect, kind, error, trouble, wrote in itertools.product(
        (VALID, INVALID, LATER), kinds, ("", *ERROR_CLASSES), ("", "another picture"), (False, True)
    ):
        verdict = score(expect, Seen(kind, error), trouble, wrote)
        assert verdict.outcome in outcomes.OUTCOMES
        if verdict.outcome == "pass":
            if isinstance(expect, Accept):
                assert kind == "accepted" and not trouble
            else:
                assert kind in ("refused", "not-supported") and not wrote and error in ("", *expect.classes)
                assert kind == "refused" or error in expect.classes or (expect is LATER and not error)


def test_every_outcome_is_explained():
    assert set(outcomes.MEANING) == set(outcomes.OUTCOMES)
    assert {"pass", *outcomes.FAILURES, *outcomes.OPEN} == set(outcomes.OUTCOMES)


# Baselines and exit codes

KNOWN = ("core/a", "core/b", "core/c")


def test_a_baseline_is_read():
    text = "# known\n\nfail core/a\n  crash   core/b  # since 1.2\n"
    assert baseline.parse(text, "base", KNOWN) == {"core/a": "fail", "core/b": "crash"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fail", "line 1: expected RESULT ID"),
        ("fail core/a core/b", "expected RESULT ID"),
        ("\noops core/a", "line 2: expected RESULT ID"),
        ("pass core/a", "expected RESULT ID"),
        ("fail core/x", "no vector 'core/x'"),
        ("fail core/a\ncrash core/a", "line 2: 'core/a' has a line already"),
    ],
)
def test_a_wrong_baseline_is_refused(text, says):
    with pytest.raises(UsageError) as error:
        baseline.parse(text, "base", KNOWN)
    assert says in str(error.value) and "base" in str(error.value)


def test_a_written_baseline_makes_its_run_as_expected():
    found = {"core/b": "crash", "core/a": "fail", "core/c": "pass"}
    text = baseline.render(found)
    assert text == "fail core/a\ncrash core/b\n"
    assert baseline.conclude(found, baseline.parse(text, "", KNOWN)).exit_code == 0


@pytest.mark.parametrize(
    ("outcome", "line", "judgement"),
    [
        ("pass", "", "pass"),
        ("pass", "fail", "unexpected-pass"),
        ("fail", "fail", "expected"),
        ("crash", "fail", "changed"),
        ("skipped", "fail", "changed"),
        ("fail", "", "new-failure"),
        ("accepted-invalid", "", "new-failure"),
        ("wrong-class", "", "new-failure"),
        ("crash", "", "new-failure"),
        ("timeout", "", "new-failure"),
        ("out-of-memory", "", "new-failure"),
        ("not-supported", "", "not-run"),
        ("skipped", "", "not-run"),
        ("skipped", "skipped", "expected"),
        ("not-supported", "not-supported", "expected"),
    ],
)
def test_results_are_judged_by_the_baseline(outcome, line, judgement):
    assert baseline.judge("core/a", outcome, {"core/a": line} if line else {"core/b": "fail"}) == judgement


@pytest.mark.parametrize(
    ("found", "lines", "code"),
    [
        ("pass", "", 0),
        ("pass pass", "", 0),
        ("pass fail", "", 1),
        ("pass crash", "", 1),
        ("fail skipped", "", 1),
        ("pass fail", "- fail", 0),
        ("pass fail", "fail fail", 1),
        ("pass crash", "- fail", 1),
        ("pass skipped", "", 3),
        ("pass not-supported", "", 3),
        ("pass skipped", "- skipped", 0),
        ("fail skipped", "fail -", 3),
        ("fail not-supported", "fail not-supported", 0),
        ("fail", "fail", 0),
        ("skipped", "", 4),
        ("skipped not-supported", "", 4),
        ("skipped", "skipped", 4),
        ("", "", 4),
    ],
)
def test_a_run_comes_to_an_exit_code(found, lines, code):
    results = dict(zip(KNOWN, found.split(), strict=False))
    known = {name: line for name, line in zip(KNOWN, lines.split(), strict=False) if line != "-"}
    conclusion = baseline.conclude(results, known)
    assert conclusion.exit_code == code and conclusion.text
