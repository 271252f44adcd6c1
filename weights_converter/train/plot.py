"""A training's log as a picture: loss by step, validation by step, and the latest curve of rate and distortion."""

from __future__ import annotations

from pathlib import Path

from refcodec.errors import CheckFailed, Unsupported
from refcodec.io.files import check_target

from .state import read_log


def plot(log: Path, target: str) -> None:
    """Draw a log.

    Raises
    ------
    Unsupported
        matplotlib is missing.
    CheckFailed
        The log has no line to draw yet.
    """
    check_target(target, force=True)
    try:
        import matplotlib
    except ImportError:
        raise Unsupported("plots need matplotlib", cause='pip install "refcodec[plot]"') from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = read_log(log)
    trained = [row for row in rows if row.get("event") == "train"]
    validated = [row for row in rows if row.get("event") == "validation"]
    if not trained:
        raise CheckFailed("the log has no step yet", where=str(log))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    steps = [row["step"] for row in trained]
    left.plot(steps, [row["loss"] for row in trained])
    left.set(title="training", xlabel="step", ylabel="loss", yscale="log")
    middle.plot([row["step"] for row in validated], [row["loss"] for row in validated], marker=".")
    middle.set(title="held-out pictures", xlabel="step", ylabel="mean log loss")
    for row in validated[:: max(1, len(validated) // 5)][-5:] + validated[-1:]:
        points = row["points"]
        right.plot([p["bpp"] for p in points], [p["psnr"] for p in points], marker=".", label=f"step {row['step']}")
    right.set(title="held-out pictures", xlabel="bits per pixel", ylabel="PSNR, dB")
    if validated:
        right.legend()
    figure.savefig(target, dpi=100)
    plt.close(figure)
