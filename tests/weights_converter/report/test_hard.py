"""Rendered pictures that photographs do not teach."""

from __future__ import annotations

import json

import numpy as np

from weights_converter.__main__ import main
from weights_converter.report.hard import hard_pictures, measure


def test_the_pictures_are_what_their_names_say():
    found = hard_pictures()
    assert len(np.unique(found["web-safe"].reshape(-1, 3), axis=0)) == 216
    assert found["grey"].ndim == 2 and (found["grey as RGB"] == found["grey"][:, :, None]).all()
    assert all(samples.dtype == np.uint8 for samples in found.values())
    assert abs(np.diff(found["sky"].astype(int), axis=0)).max() <= 1


def test_errors_and_tint_are_those_of_the_samples(model):
    pictures = {"grey": hard_pictures()["grey"][:64, :64]}
    (row,) = measure(model, pictures, [50])
    assert row["mean_error"] <= row["largest_error"] and row["tint"] <= row["mean_error"] + 1e-9 and row["bpp"] > 0


def test_the_command_prints_a_row_for_every_picture(capsys):
    assert main(["hard", "--qualities", "60", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["picture"] for row in rows} == set(hard_pictures())
