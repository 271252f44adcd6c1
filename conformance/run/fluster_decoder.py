"""Decoders of .loclic streams for Fluster; copy this file into its folder ``fluster/decoders``.

The decoder is refcodec, or what the environment names: ``LOCLIC_DECODER`` a command with {stream} and {output},
``LOCLIC_MODEL_ARG`` what is added where there is a model, and ``LOCLIC_OUTPUT_FORMAT`` the format of its output, as for
``python -m conformance run``. Its rules and limits are used: the Python that runs Fluster needs refcodec's package
``conformance``, too. What it returns is the SHA-256 of the samples, or "refused" and the class of the refusal, which
Fluster compares with the suite's. Fluster knows neither the codec nor the pixel format: suites are marked "Dummy" and
"None".
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from fluster.codec import Codec, OutputFormat
from fluster.decoder import Decoder, NotSupportedError, register_decoder

from conformance.kit.vectors import Accept, Reject
from conformance.run import outcomes, pictures, process
from conformance.run.decoders import filled, parse
from conformance.run.files import remove, scratch

DECODER = os.environ.get("LOCLIC_DECODER", f"{sys.executable} -m refcodec decode {{stream}} {{output}} --json --force")
FORM = os.environ.get("LOCLIC_OUTPUT_FORMAT", "pnm" if "LOCLIC_DECODER" in os.environ else "npy")
MODEL_ARG = os.environ.get("LOCLIC_MODEL_ARG", "" if "LOCLIC_DECODER" in os.environ else "--model {model}")


def answer(seen: outcomes.Seen, output: Path, facts: dict[str, Any]) -> str:
    """The text that Fluster compares.

    Parameters
    ----------
    seen : Seen
    output : Path
    facts : dict
        The vector's "optional_params": "width", "height" and "channels" of a valid stream, "classes" of an invalid one.

    Returns
    -------
    str
        SHA-256 of the samples, how the stream was refused, or what is wrong.

    Raises
    ------
    NotSupportedError
        The decoder does not support the stream.
    RuntimeError
        The decoder crashed, ran out of time or out of memory.
    """
    expect: Accept | Reject
    if "classes" in facts:
        expect = Reject(facts["classes"][0], "container", tuple(facts["classes"][1:]))
    else:
        expect = Accept(facts["width"], facts["height"], facts["channels"], "")
    verdict = outcomes.score(expect, seen, "", pictures.left_something(output))
    if verdict.outcome == outcomes.UNSUPPORTED:
        raise NotSupportedError(verdict.detail or "not supported")
    if verdict.outcome in (outcomes.CRASH, outcomes.TIMEOUT, outcomes.MEMORY):
        raise RuntimeError(f"{verdict.outcome}: {verdict.detail}")
    if verdict.outcome != outcomes.PASS:
        return f"{verdict.outcome}: {verdict.detail}"
    if isinstance(expect, Reject):
        return f"refused {expect.error}"
    return hashlib.sha256(pictures.read_picture(output, FORM, expect)).hexdigest()


@register_decoder
class LocLic(Decoder):
    """A decoder as a command."""

    name = "loclic"
    codec = Codec.DUMMY
    description = "Decoder of .loclic streams: refcodec, or $LOCLIC_DECODER"

    def decode(
        self,
        input_filepath: str,
        output_filepath: str,
        output_format: OutputFormat,
        timeout: int,
        verbose: bool,
        keep_files: bool,
        optional_params: dict[str, Any] | None = None,
    ) -> str:
        """Decode one stream for Fluster.

        Parameters
        ----------
        input_filepath, output_filepath : str
            The stream, and the picture without its extension.
        output_format : OutputFormat
            Not used.
        timeout : int
            Seconds.
        verbose, keep_files : bool
            Not used.
        optional_params : dict or None
            Facts of the vector, as for `answer`, and names of models.

        Returns
        -------
        str
            As `answer`.

        Raises
        ------
        TimeoutExpired
            The decoder ran out of time.
        NotSupportedError, RuntimeError
            As `answer`.
        """
        facts, spec = optional_params or {}, parse(DECODER, MODEL_ARG)
        stream, output = Path(input_filepath).resolve(), Path(f"{Path(output_filepath).resolve()}.{FORM}")
        words, values = spec.command, {"stream": stream, "output": output, "model": None, "trace": None}
        if facts.get("model"):
            words += spec.model_words
        if model := facts.get("model") or facts.get("spare"):
            values["model"] = (stream.parent / model).resolve()
        with scratch() as folder:
            limits = replace(process.Limits(), seconds=float(timeout))
            ended = process.run(filled(words, values), limits, folder)
        if ended.stopped == process.TIMEOUT:
            raise TimeoutExpired(list(words), timeout)
        try:
            return answer(outcomes.observe(ended), output, facts)
        finally:
            if not keep_files:
                remove(output)
