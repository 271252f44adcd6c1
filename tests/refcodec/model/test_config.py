"""The layer table counts what the paper counts."""

import pytest

from conformance.synthetic.models.wires import blank, z_arrays
from refcodec.errors import InvalidModel
from refcodec.model.config import PROFILES, config_from
from refcodec.model.integer_model import build_model, check_size
from refcodec.model.layer_table import layer_table, parameter_count

KNOWN = {  # parameters, kMAC per picture sample
    "paper": (69_920_128, 271.39),
    "mlicpp": (83_501_408, 1126.88),
    "mlicpp-old": (116_716_928, 1256.60),
    "default": (14_627_304, 91.83),
}

PAPER_PARTS = {
    "g_a": 24.98,
    "h_a": 2.34,
    "h_s": 21.24,
    "ep_anchor": 14.96,
    "ep_nonanchor": 16.48,
    "lrp_anchor": 50.58,
    "lrp_nonanchor": 50.58,
    "local": 2.92,
    "inter": 18.05,
    "chan": 22.68,
    "intra": 2.55,
    "g_s": 44.03,
}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_parameters_and_macs(name):
    config = PROFILES[name]
    assert parameter_count(config) == KNOWN[name][0]
    assert round(sum(op.macs for op in layer_table(config)) / 1000, 2) == KNOWN[name][1]


def test_the_papers_cost_by_part():
    parts = dict.fromkeys(PAPER_PARTS, 0.0)
    for op in layer_table(PROFILES["paper"]):
        if op.kind == "conv":
            parts[op.name.split("/")[0]] += op.macs / 1000
    assert {k: round(v, 2) for k, v in parts.items()} == PAPER_PARTS


def test_names_are_unique_and_inputs_come_first():
    for config in PROFILES.values():
        ready = {"x", "y_hat", "z_hat", "hyper_means", *(f"y_hat/{i}" for i in range(config.slices))}
        for op in layer_table(config):
            assert op.name not in ready
            assert set(op.inputs) <= ready and (not op.add or op.add in ready), op
            ready.add(op.name)


@pytest.mark.parametrize(
    "change",
    [
        {"M": 193},
        {"N": [32, 64]},
        {"N": [32, 64, 95]},
        {"slices": 0},
        {"window": 7},
        {"qualities": 65},
        {"lrp": [96]},
        {"hyper": True},
        {"hyper": 1 << 20},
        {"hyper": "96"},
        {"local_heads": 3},
        {"unknown": 1},
        {"old_synthesis": 1},
        {"slices": 48},
        {"inter_head_width": 5},
        {"M": 66, "slices": 1},
    ],
)
def test_configurations_that_break_a_rule_are_refused(change):
    with pytest.raises(InvalidModel):
        config_from({**PROFILES["default"].as_dict(), **change})


def test_a_missing_field_is_refused():
    values = PROFILES["default"].as_dict()
    del values["hyper"]
    with pytest.raises(InvalidModel):
        config_from(values)


SMALL = {"N": [2, 2, 2], "hyper": 2, "hs": [2, 2], "chan": [2, 2], "ent": [2, 2, 2], "lrp": [2, 2]}


@pytest.mark.parametrize(
    "change",
    [
        {"M": 64, "slices": 1, "local_heads": 64},
        {"M": 64, "slices": 32, "local_heads": 1, "intra_heads": 1, "inter_head_width": 4096},
        {"M": 10, "slices": 5, "lrp": [], "intra_heads": 1, "inter_head_width": 4096},
        {"M": 4, "slices": 2, "ent": [4096, 2, 2], "inter_head_width": 2, "qualities": 64, "old_synthesis": True},
    ],
)
def test_configurations_inside_the_rules_have_a_model(change):
    """(SPEC 6.1-2) One of zeros and the smallest clamps, at the ends of the rules."""
    config = config_from({**PROFILES["default"].as_dict(), **SMALL, **change})
    check_size(config)
    content = {**blank(config), **z_arrays([(0, [0, 1, 65536])] * config.hyper)}
    for n, op in enumerate(layer_table(config)):
        if op.kind != "norm" and not op.wide:
            content["formats"][n, 1] = 1
    assert build_model(content).config == config


def test_configurations_of_too_many_integers_are_refused():
    """(SPEC 6.1-2) The largest width of z that tiny may have, and the next one."""
    tiny = PROFILES["tiny"].as_dict()
    check_size(config_from({**tiny, "hyper": 2718}))
    with pytest.raises(InvalidModel, match="too large"):
        check_size(config_from({**tiny, "hyper": 2720}))
