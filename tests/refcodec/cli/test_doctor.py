"""``doctor``: one text to paste into a bug report, and a meaningful exit code."""

import json

from refcodec.agreement import selftest
from refcodec.cli import doctor, main


def test_everything_is_said_at_once(capsys, monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["numpy"] and found["selftest"]["right"] and found["machine"]["cores"] >= 1
    assert found["variables"]["NUMBA_NUM_THREADS"] == "2"
    assert any(model["fingerprint"] for model in found["models"])
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    words = (
        "refcodec ",
        "packages ",
        "machine ",
        "backend ",
        "model ",
        "self-test ",
        "variable        NUMBA_NUM_THREADS=2",
    )
    assert all(word in text for word in words)


def test_a_wrong_machine_and_a_wrong_word_are_told(capsys, monkeypatch):
    wrong = selftest.Report("numpy", 1, 0.1, 3, (selftest.Difference("conv", "a", "b", "the cause"),))
    with monkeypatch.context() as patch:
        patch.setattr(doctor.selftest, "run", lambda: wrong)
        assert main(["doctor"]) == 1
    assert "2 of 3 items are right" in (text := capsys.readouterr().out) and "wrong           conv" in text
    monkeypatch.setenv("REFCODEC_BACKEND", "fortran")
    assert main(["doctor"]) == 1
    assert "unknown backend" in capsys.readouterr().out
