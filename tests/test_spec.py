"""SPEC.md holds together: its examples run, its tables are the code's, and code and document refer to each other."""

import ast
import doctest
import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from spec import blocks, sections, spec_module, text, universal_tables, words
from tiny_models import TINY, TINY_OLD, random_picture, spec_content, spec_model, tiny_content, tiny_model

from conformance.cli import run_command
from conformance.generate.specification import MODEL, default_decoding, printed_decoding
from conformance.kit import levels
from conformance.kit import vectors as kit_vectors
from conformance.kit.clauses import LIST_PATH, SECTION, extract, listing, load
from refcodec import errors, limits
from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import InvalidModel
from refcodec.model import file as model_file
from refcodec.model import hdf5, hdf5_arrays
from refcodec.model import tables as data
from refcodec.model.config import PROFILES, config_from
from refcodec.model.integer_model import build_model, check_size, expected_arrays, fingerprint
from refcodec.model.layer_table import layer_table
from refcodec.model.registry import load_model
from refcodec.trace import Recorder

SPEC = spec_module()
ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for package in ("refcodec", "weights_converter", "conformance") for path in (ROOT / package).rglob("*.py")
)
CONFIGS = {**PROFILES, "tests": TINY, "tests-old": TINY_OLD}
CLAUSES = extract(text())
KNOWN = {*sections(), *(clause.id for clause in CLAUSES)}

NUMBER = r"(?:(?:\d+(?:\.\d+)?|[A-Z](?:\.\d+)?\b)(?:-\d+)?)"
JOINT = r"(?:,\s+|\s+and\s+|\s+to\s+)"
REFERENCE = re.compile(rf"\bSPEC\s+(?:section\s+|annex\s+)?{NUMBER}(?:{JOINT}(?:annex\s+)?{NUMBER})*")
CLAUSE = re.compile(rf"(?<![\w.\[-]){SECTION}-\d+(?![\w.-])")
"""An identifier of a clause on its own, not in the brackets of its clause."""

ABOUT_THE_DOCUMENT = {"1.3", "1.4", "3"}
"""Sections whose clauses are for readers; no function has them to name."""


def plain(config):
    """A Config as the integers of SPEC 6.1."""
    return {name: int(value) if isinstance(value, bool) else value for name, value in config.as_dict().items()}


def referenced(sentence):
    """Sections and clauses named in a text; ranges are filled in."""
    found = set()
    for match in REFERENCE.finditer(sentence):
        numbers = re.findall(NUMBER, match[0].removeprefix("SPEC"))
        joints = re.findall(rf"{NUMBER}({JOINT})", match[0])
        found.update(numbers)
        for first, joint, last in zip(numbers, joints, numbers[1:], strict=False):
            if joint.strip() == "to":
                base, low = re.findall(r"(.+[.-])(\d+)", first)[0]
                found.update(f"{base}{n}" for n in range(int(low), int(re.split("[.-]", last)[-1])))
    return found


@cache
def strings(path):
    """String constants of a module, docstrings among them, and the docstrings alone."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    constants = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    expressions = [node.value for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    return constants, [node.value for node in expressions if isinstance(node.value, str)]


# ------------------------------------------------------------------------------------------------------ the document


def test_examples_run_as_printed():
    report: list[str] = []
    runner, names = doctest.DocTestRunner(), {**vars(SPEC), "universal_tables": universal_tables}
    for line, code in blocks("pycon"):
        example = doctest.DocTestParser().get_doctest(code, {}, "SPEC.md", "SPEC.md", line)
        example.globs = names
        runner.run(example, out=report.append, clear_globs=False)
    assert runner.summarize(verbose=False).attempted > 140
    assert not report, "".join(report)


def test_the_decoding_with_a_released_model_is_current():
    """(SPEC D.9) Its stream and its stages; a later default model does not replace it."""
    stream, stages = printed_decoding(text())
    assert (stream, stages) == default_decoding(), "run python -m conformance.generate.specification"
    assert bytes.fromhex(stream)[16:32] == load_model(MODEL).fingerprint and stages.count("\n") > 200


def test_blocks_import_nothing_but_three_modules_and_use_no_float_function():
    imported: set[str] = set()
    for _, code in blocks("python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            assert not isinstance(node, ast.ImportFrom)
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "math":
                assert node.attr == "isqrt"
    assert imported <= {"math", "hashlib", "struct", "zlib"}


def test_no_name_is_defined_twice():
    names = [
        node.name for _, code in blocks("python") for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)
    ]
    assert len(names) == len(set(names))


def test_fences_are_closed_and_known():
    opened = [line for line in text().splitlines() if line.startswith("```")]
    assert len(opened) % 2 == 0
    assert set(opened[0::2]) <= {"```", "```python", "```pycon"} and set(opened[1::2]) == {"```"}


def test_sections_count_up():
    numbers = [n for n in sections() if "." in n]
    for before, after in pairwise(numbers):
        chapter, n = after.split(".")
        assert int(n) == (int(before.split(".")[1]) + 1 if before.startswith(chapter + ".") else 1), after


# ------------------------------------------------------------------------------------------------------- clauses


def test_the_list_of_clauses_is_current(capsys):
    assert run_command("clauses", ["--check"]) == 0, "run python -m conformance clauses"
    assert list(load().values()) == CLAUSES and "current" in capsys.readouterr().out


def test_the_list_of_clauses_travels_with_the_package():
    assert json.loads(LIST_PATH.read_text(encoding="utf-8"))[0].keys() == {"id", "section", "title", "words", "line"}
    left_out = re.findall(r'"(conformance/[^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert left_out and not any(LIST_PATH.is_relative_to(ROOT / folder) for folder in left_out)


def test_clauses_are_where_the_list_says_and_begin_as_it_says():
    lines, titles = text().splitlines(), sections()
    assert len(CLAUSES) > 300
    for clause in CLAUSES:
        assert f"[{clause.id}] " in lines[clause.line - 1]
        assert clause.id.startswith(f"{clause.section}-") and titles[clause.section] == clause.title
        assert re.search(r"\w", clause.words)


GOOD = "## 1 One\n\n[1-1] First.\n\n- [1-2] second\n\n```python\n[1-9] is no clause here\n```\n| [1-3] a | b |\n"


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("[1-1]", "[1-2]", "where .1-1. is due"),
        ("[1-2]", "[1-1]", "where .1-2. is due"),
        ("[1-3]", "[1-4]", "where .1-3. is due"),
        ("[1-2]", "[2-2]", "where .1-2. is due"),
        ("First.", "First, see [1-2].", "is not at the start"),
        ("[1-1] First", "First [1-1]", "at the start"),
        ("## 1 One", "## 0 Nought\n```python\n```\n## 1 One", "section 0 has a python block but no clause"),
    ],
)
def test_misplaced_identifiers_are_found(good, bad, message):
    assert [(clause.id, clause.line, clause.words) for clause in extract(GOOD)] == [
        ("1-1", 3, "First."),
        ("1-2", 5, "second"),
        ("1-3", 10, "a, b"),
    ]
    assert listing(extract(GOOD)).count("\n") == 5
    with pytest.raises(ValueError, match=message):
        extract(GOOD.replace(good, bad, 1))


# ------------------------------------------------------------------------------------------- code and document


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_reference_names_a_section_or_a_clause(path):
    assert referenced(path.read_text(encoding="utf-8")) <= KNOWN
    lone, _ = strings(path)
    assert {value for value in lone if re.fullmatch(r"(\d+|[A-D])\.\d+-\d+", value)} <= KNOWN


def test_every_rule_is_named_by_a_docstring():
    named = {number.split("-")[0] for path in SOURCES for words in strings(path)[1] for number in referenced(words)}
    assert {clause.section for clause in CLAUSES} - ABOUT_THE_DOCUMENT <= named


def test_every_vector_names_clauses():
    """Of the suites that are there."""
    named = {}
    for path in sorted((ROOT / "conformance" / "data" / "suites").glob("*/manifest.json")):
        for vector in json.loads(path.read_text(encoding="utf-8"))["vectors"]:
            assert vector["clauses"], vector["id"]
            named.update(dict.fromkeys(vector["clauses"], vector["id"]))
    assert {number: vector for number, vector in named.items() if number not in KNOWN} == {}


def test_references_inside_the_document_name_sections_and_clauses():
    group = r"(?:annex [A-D]|(?:annex )?(?:\d+(?:\.\d+)?|[A-Z]\.\d+)(?:-\d+)?)"
    told = "\n".join(
        [
            words(),
            *(
                ast.get_docstring(node) or ""
                for _, code in blocks("python")
                for node in ast.parse(code).body
                if isinstance(node, ast.FunctionDef)
            ),
        ]
    )
    inside = re.findall(rf"\(({group}(?:(?:, | and | to ){group})*)\)", told)
    numbers = {number for part in inside for number in re.findall(NUMBER, part)}
    assert len(numbers) > 40 and numbers <= KNOWN
    single = {match[0] for match in CLAUSE.finditer(words())}
    assert len(single) > 10 and single <= KNOWN


def test_references_are_recognised():
    assert referenced("(SPEC 5.5 to 5.8) and (SPEC 6.9, 7), SPEC annex A, SPEC 5, 9.2 and annex B") == {
        "5.5",
        "5.6",
        "5.7",
        "5.8",
        "6.9",
        "7",
        "A",
        "5",
        "9.2",
        "B",
    }
    assert referenced("(SPEC 5.3-2) and (SPEC 9.2-2 to 9.2-4, A.6-1)") == {"5.3-2", "9.2-2", "9.2-3", "9.2-4", "A.6-1"}


def test_errors_are_those_of_the_document():
    table = re.findall(r"^\| (\w+) +\|", text()[text().index("### 8.9") : text().index("### 8.10")], re.MULTILINE)
    classes = [
        c
        for c in vars(errors).values()
        if isinstance(c, type)
        and issubclass(c, (errors.InvalidStream, errors.Unsupported, errors.LimitExceeded, errors.ModelError))
    ]
    names = {c.__name__ for c in classes} - {"InvalidStream", "Unsupported"}
    assert set(table) - {"name"} == names == set(kit_vectors.ERROR_CLASSES)


def test_every_error_of_a_block_is_one_of_the_document():
    raised = {name for _, code in blocks("python") for name in re.findall(r'raise ValueError\("(\w+)"\)', code)}
    assert raised <= set(kit_vectors.ERROR_CLASSES) and len(raised) > 8
    assert sum(code.count("raise") for _, code in blocks("python")) == sum(
        len(re.findall(r'raise ValueError\("\w+"\)', code)) for _, code in blocks("python")
    )


# ------------------------------------------------------------------------------------------------------- traces


@pytest.mark.parametrize(
    ("config", "quality", "channels"), [(TINY, 100, 3), (TINY_OLD, 1, 1)], ids=["tiny", "tiny-old"]
)
def test_traces_are_those_of_the_document(config, quality, channels):
    coded = encode_picture(random_picture(5, 7, 3, channels), quality, model=tiny_model(config), backend="numpy")
    recorder = Recorder()
    samples, _ = decode_stream(coded.data, model=tiny_model(config), backend="numpy", trace=recorder)
    recorder("samples", samples)
    stages: list = []
    SPEC.decode_picture(coded.data, spec_model(config), stages)
    assert [json.loads(stage.line()) for stage in recorder.stages] == SPEC.trace_lines(stages)


# ------------------------------------------------------------------------------------------------ tables and models


def test_profiles_are_those_of_the_document():
    assert {name: plain(config) for name, config in PROFILES.items()} == SPEC.PROFILES


@pytest.mark.parametrize("name", CONFIGS)
def test_the_layer_table_is_that_of_the_document(name):
    config = CONFIGS[name]
    table, ours = SPEC.layer_table(plain(config)), layer_table(config)
    assert [op["name"] for op in table] == [op.name for op in ours]
    for entry, op in zip(table, ours, strict=True):
        for field in entry.keys() - {"area", "inputs"}:
            assert entry[field] == getattr(op, field), (op.name, field)
        assert tuple(entry["inputs"]) == op.inputs
        assert op.positions == (1 / entry["area"] if op.kind == "conv" else 0)
        assert (SPEC.op_parameters(entry), SPEC.op_macs(entry)) == (op.parameters, op.macs)


@pytest.mark.parametrize(
    ("name", "parameters", "kilomacs"),
    [
        ("paper", 69_920_128, 271.39),
        ("mlicpp", 83_501_408, 1126.88),
        ("mlicpp-old", None, 1256.60),
        ("default", 14_627_304, 91.83),
    ],
)
def test_counts_are_the_published_ones(name, parameters, kilomacs):
    config = PROFILES[name]
    ops = layer_table(config)
    assert round(sum(op.macs for op in ops) / 1000, 2) == kilomacs
    folded = 2 * config.ch * (config.slices - 1)  # biases of the inter contexts' skip convolutions
    norms = config.slices * 2 * 3 * config.ch
    positions = config.slices * 81 * config.local_heads
    gains = config.qualities * 2 * (config.M + config.hyper) if config.qualities > 1 else 0
    total = sum(op.parameters for op in ops) + 61 * config.hyper + norms + positions + folded + gains
    assert parameters in (None, total)


@pytest.mark.parametrize("name", CONFIGS)
def test_expected_arrays_are_those_of_the_document(name):
    assert SPEC.expected_arrays(plain(CONFIGS[name])) == expected_arrays(CONFIGS[name])


@pytest.mark.parametrize(
    "change",
    [
        {"M": 320},
        {"N": [32, 64]},
        {"N": [31, 64, 96]},
        {"hyper": 0},
        {"hs": [96, 4098]},
        {"lrp": [96]},
        {"slices": 64},
        {"slices": 5},
        {"window": 7},
        {"local_heads": 3},
        {"intra_heads": 5},
        {"inter_head_width": 24},
        {"qualities": 65},
        {"qualities": 0},
        {"M": 72, "slices": 1, "inter_head_width": 2},
        {"hyper": 4096},
    ],
)
def test_configurations_outside_the_rules_are_refused_by_both(change):
    assert SPEC.config_is_valid(SPEC.PROFILES["default"])
    values = {**SPEC.PROFILES["default"], **change}
    assert not SPEC.config_is_valid(values)
    with pytest.raises(InvalidModel):
        check_size(config_from({**values, "old_synthesis": False}))


def test_limits_are_those_of_the_document():
    allowed = {name: values for name, _, _, values in SPEC.CONTAINER_FIELDS}
    assert allowed["width"] == allowed["height"] == range(1, limits.MAX_SIDE + 1)
    assert limits.MAX_LATENT_POSITIONS == 2**23 and limits.MAX_SYMBOL == SPEC.CODER_MAX_SYMBOL
    assert limits.MAX_METADATA_BYTES == 2**24
    assert SPEC.PICTURE_LEVELS[-2] == (7, limits.MAX_LATENT_POSITIONS, limits.MAX_SIDE)
    assert SPEC.PICTURE_LEVELS[-1] == (8, (limits.MAX_SIDE // 16) ** 2, limits.MAX_SIDE)
    assert SPEC.PICTURE_LEVELS[5][1] * 256 == limits.Limits().max_pixels


def test_profiles_and_levels_of_the_kit_are_those_of_the_document():
    assert levels.PICTURE_LEVELS == SPEC.PICTURE_LEVELS
    assert set(kit_vectors.PROFILES) == {name for config in SPEC.PROFILES.values() for name in SPEC.profiles(config)}
    assert "".join(kit_vectors.MODEL_LEVELS) == "".join(level for level, _, _ in SPEC.MODEL_LEVELS) + "D"


def test_limits_of_model_files_are_those_of_the_document():
    rules = " ".join(line for line in words()[words().index("### B.1") : words().index("### B.2")].split())
    for said in (
        f"deeper than {hdf5.MAX_DEPTH},",
        f"2^{hdf5.MAX_DATASETS.bit_length() - 1} objects",
        f"than {hdf5_arrays.MAX_CHUNKS} chunks",
        f"2^{hdf5_arrays.MAX_PART.bit_length() - 1} bytes",
        f"than {hdf5.MAX_PATH} bytes",
        f"2^{model_file.MAX_NUMBERS.bit_length() - 1} integers",
        f"2^{model_file.MAX_PROVENANCE.bit_length() - 1} entries",
        f"than {model_file.MAX_NESTING} deep",
        f"2^{model_file.MAX_FLOATS.bit_length() - 1} numbers",
        f"`{model_file.FORMAT}`",
        f"integer {model_file.VERSION} ",
    ):
        assert said in rules


@pytest.mark.parametrize("config", [TINY, TINY_OLD], ids=["tiny", "tiny-old"])
def test_models_are_the_same_in_both(config):
    model, other = tiny_model(config), spec_model(config)
    assert other["fingerprint"] == model.fingerprint == fingerprint(tiny_content(config))
    assert other["config"] == plain(config)
    assert other["medians"] == model.medians.tolist()
    assert SPEC.prove(other) == dict(model.margins)
    for name, layer in model.layers.items():
        assert (other["layers"][name]["frac"], other["layers"][name]["limit"]) == (layer.frac, layer.limit)
    assert other["tables"]["gelu_q8"] == data.load_tables().gelu[8].tolist()


CONV, GDN, GAIN, NORM = "layers/g_a/0/conv1", "layers/g_s/1/igdn", "layers/y", "layers/local/1/norm2"
LAST_LRP = [op.name for op in layer_table(TINY)].index("lrp_anchor/1/2")
WIDE = [op.name for op in layer_table(TINY)].index("ep_anchor/1/3")
TINY_STARTS = tiny_content(TINY)["z/start"].tolist()
DAMAGES = {
    "weight of -32768": (f"{CONV}/weight", (0, 0, 0, 0), -32768),
    "shift above 30": (f"{CONV}/constants", (0, 1), 31),
    "negative shift": (f"{CONV}/constants", (0, 1), -1),
    "branch shift without a branch": (f"{CONV}/constants", (0, 2), 1),
    "bias that overflows": (f"{CONV}/constants", (0, 0), 2**31 - 1),
    "negative gamma": (f"{GDN}/gamma", (0, 0), -1),
    "gamma that overflows": (f"{GDN}/gamma", (0, 0), 2**51),
    "beta of 0": (f"{GDN}/beta", (0,), 0),
    "GDN shift": (f"{GDN}/constants", (0,), 37),
    "multiplier of 14 bits": (f"{GAIN}/multiplier", (0, 0), 2**14 - 1),
    "multiplier of 16 bits": (f"{GAIN}/multiplier", (0, 0), 2**15),
    "gain shift of 0": (f"{GAIN}/shift", (0, 0), 0),
    "epsilon of 0": (f"{NORM}/constants", (0,), 0),
    "epsilon of 2^50": (f"{NORM}/constants", (0,), 2**50),
    "sum shift": ("layers/g_a/1/sum/constants", (0,), 16),
    "rescale shift": ("layers/ctx/0/constants", (0,), 16),
    "attention shift": ("layers/local/0/attention/constants", (0,), 31),
    "key shift": ("layers/inter/1/attention/constants", (0,), 17),
    "context shift": ("layers/inter/1/attention/constants", (2,), 13),
    "fraction bits": ("formats", (2, 0), 16),
    "GELU without a table": ("formats", (0, 0), 3),
    "half tanh without a table": ("formats", (LAST_LRP, 0), 13),
    "clamp of 0": ("formats", (0, 1), 0),
    "clamp of 2^15": ("formats", (0, 1), 2**15),
    "clamp of a wide layer": ("formats", (WIDE, 1), 1),
    "median": ("z/medians", (0,), 32768),
    "first symbol": ("z/first", (0,), -32768),
    "boundary": ("z/cdf", (1,), 0),
    "last boundary": ("z/cdf", (-1,), 65535),
    "start": ("z/start", (1,), 1),
    "start counted from the end": ("z/start", (2,), TINY_STARTS[2] - TINY_STARTS[-1]),
    "universal table": ("tables/exp2", (5,), 7),
    "configuration": ("config/slices", (), 5),
}


@cache
def plain_tiny():
    """The tiny model's content as nested lists."""
    return spec_content(tiny_content(TINY))


def outcomes(content):
    """Whether SPEC's loader and ours refuse content, a variant of the tiny model's."""
    found, base = [], tiny_content(TINY)
    lists = {
        name: plain_tiny()[name] if array is base.get(name) else spec_content({name: array})[name]
        for name, array in content.items()
    }
    for build, error in ((lambda: SPEC.build_model(lists), ValueError), (lambda: build_model(content), InvalidModel)):
        try:
            build()
            found.append("accepted")
        except error:
            found.append("refused")
    return found


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_refused_by_both(damage):
    name, at, value = DAMAGES[damage]
    array = tiny_content(TINY)[name].copy()
    array[at] = value
    assert outcomes({**tiny_content(TINY), name: array}) == ["refused", "refused"]


@pytest.mark.parametrize("name", ["formats", "z/cdf", "z/start", f"{CONV}/weight", "config/M", "tables/exp2"])
def test_missing_unknown_and_retyped_arrays_are_refused_by_both(name):
    content = tiny_content(TINY)
    assert outcomes({k: v for k, v in content.items() if k != name}) == ["refused", "refused"]
    assert outcomes({**content, name + "x": content[name]}) == ["refused", "refused"]
    if not name.startswith("config/"):
        assert outcomes({**content, name: content[name].astype(np.int64)}) == ["refused", "refused"]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("tables/gelu_q4", (37, 1)),
        ("tables/exp2", (1, 257)),
        ("z/cdf", (-1, 1)),
        ("z/first", (4, 1)),
        ("config/N", (3, 1)),
        ("config/M", (1,)),
        ("formats", (-1,)),
    ],
)
def test_reshaped_arrays_are_refused_by_both(name, shape):
    content = tiny_content(TINY)
    assert outcomes({**content, name: content[name].reshape(shape)}) == ["refused", "refused"]


@pytest.mark.parametrize("name", ["tables/exp2", "z/cdf", "z/start", "config/N", f"{CONV}/weight"])
def test_scalars_for_arrays_are_refused_by_both(name):
    content = tiny_content(TINY)
    assert outcomes({**content, name: content[name].reshape(-1)[0].reshape(())}) == ["refused", "refused"]


def test_a_retyped_configuration_is_refused_by_both():
    content = tiny_content(TINY)
    assert outcomes({**content, "config/M": content["config/M"].astype(np.int64)}) == ["refused", "refused"]
