"""Decoders with one planted fault each, and their traces, for the tests of bisect."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from planted import model, reference, tiled_reference

from conformance.kit.clauses import LIST_PATH
from conformance.locate.stages import ANCHOR, CLAUSES, NONANCHOR, Key, keyed, network, of_picture
from conformance.run.bisect import unit_vectors
from refcodec.arith.engine import Engine
from refcodec.arith.maps import interior
from refcodec.model.config import PROFILES
from refcodec.model.integer_model import Model
from refcodec.model.layer_table import layer_table
from refcodec.planes import crop_samples

# ------------------------------------------------------------------------------------------------------------ stages


@pytest.mark.parametrize("profile", PROFILES)
def test_stages_are_those_of_the_layer_table(profile):
    config = PROFILES[profile]
    ops = {op.name: op for op in layer_table(config)}
    decoding = [op for op in ops.values() if op.name.split("/")[0] not in ("g_a", "y", "h_a", "z", "ctx")]
    stages = network([*ops, *(f"y_hat/{i}" for i in range(config.slices))])
    names = {op.name for op in decoding}
    assert {k.name for k in stages} == names | {"z_hat", "samples"} | {
        f"{kind}/{i}" for kind in ("ctx", "y_hat") for i in range(config.slices)
    }
    for op in decoding:
        node, kinds = stages[Key(op.name)], {"igdn", "gain", "sum", "norm", "local_attention", "linear_attention"}
        assert node.operations[0] == (op.kind if op.kind in kinds else "conv")
        flags = {
            "gelu": op.gelu,
            "depthwise": op.depthwise,
            "shuffle": op.shuffle,
            "wide": op.wide,
            "branch": bool(op.add),
        }
        assert {name for name, holds in flags.items() if holds} == set(node.operations) & set(flags)
        tensors = [{"hyper_means": "h_s/4", "y_hat": "y_hat/0"}.get(name, name) for name in op.inputs]
        tensors += [op.add] if op.add else []
        if op.name.endswith("norm1"):
            tensors = [f"ctx/{op.name.split('/')[1]}"]
        if op.name == "g_s/input":
            tensors = [f"y_hat/{i}" for i in range(config.slices)]
        assert [k.name for k in node.inputs] == tensors, op.name


@pytest.mark.parametrize(("trace", "packed"), [(reference, (8, 2)), (tiled_reference, (4, 2))])
def test_stages_are_in_the_order_of_a_trace_and_read_what_came_before(trace, packed):
    names = [stage.name for stage in trace().stages]
    stages = network(names)
    assert list(stages) == keyed(names)
    place = {key: n for n, key in enumerate(stages)}
    assert all(place[read] < place[key] for key, node in stages.items() for read in node.inputs)
    for key, node in stages.items():
        shape = trace().stages[place[key]].shape
        assert (key.name != "samples" and shape[:2] == packed) == node.packed, key


def test_tiles_are_walks_of_their_own():
    stages = network(stage.name for stage in tiled_reference().stages)
    one = network(stage.name for stage in reference().stages)
    walk = [key for key in one if not of_picture(key.name)]
    for tile in range(4):
        own = {key: node for key, node in stages.items() if key.tile == tile}
        assert [(key.own, key.turn) for key in own] == [tuple(key) for key in walk]
        read = {read for node in own.values() for read in node.inputs if read.tile != tile}
        assert read == {Key("h_s/4")} and all(node.tile == tile for node in own.values())
        assert all(
            replace(node, tile=None, inputs=()) == replace(one[Key(k.own, k.turn)], inputs=())
            for k, node in own.items()
        )
    assert stages[Key("g_s/input")].inputs == tuple(Key(f"tiles/{k}/y_hat/{i}") for k in range(4) for i in range(3))
    assert stages[Key("tiles/3/ctx/2", 1)].pass_name == "tile 3, slice 2, anchors"
    assert all(stages[key] == one[key] for key in one if of_picture(key.name) and key != Key("g_s/input"))
    assert stages[Key("tiles/3/y_hat/0")].pass_name == "tile 3, slice 0, both passes"
    assert stages[Key("z_hat")].pass_name == "" and stages[Key("samples")].pass_name == ""


def test_a_picture_without_loss_has_one_stage():
    assert list(network(["samples"])) == [Key("samples")]


def test_clauses_of_stages_exist():
    known = {clause["id"] for clause in json.loads(LIST_PATH.read_text())}
    stages = network(stage.name for stage in reference().stages)
    cited = {c for node in stages.values() for c in node.clauses}
    assert cited <= known
    assert {operation for node in stages.values() for operation in node.operations} == set(CLAUSES)


def test_every_operation_has_unit_vectors():
    assert all(unit_vectors([operation]) for operation in CLAUSES if operation != "stored")
    assert [v.id for v in unit_vectors(["norm"])] == ["units/norm"]
    assert {v.id for v in unit_vectors(["linear_attention", "gelu"])} >= {"units/linear-attention", "units/gelu"}


# ------------------------------------------------------------------------------------------------------------ faults


class ParityFlip(Engine):
    """Symbols of slice 1 go to the other half."""

    def place(self, name, symbols, means, parity, y_hat, current):
        """Place them wrongly."""
        super().place(name, symbols, means, 1 - parity if name == "ctx/1" else parity, y_hat, current)


class StaleCopy(Engine):
    """The context copy is not renewed after the residual."""

    def add_residual(self, name, residual, x, parity, y_hat, current):
        """Leave the copy as it is."""
        before = interior(current).copy()
        trace, self.trace = self.trace, lambda name, values: None
        super().add_residual(name, residual, x, parity, y_hat, current)
        self.trace = trace
        interior(current)[...] = before
        self.show(name, before)


class SliceOrder(Engine):
    """The channel context of slice 2 reads the last slice first."""

    def conv(self, name, x, **more):
        """Exchange slices."""
        if name == "chan/2/0":
            x = np.ascontiguousarray(np.roll(x, x.shape[2] // 2, axis=2))
        return super().conv(name, x, **more)


class LevelOffByOne(Engine):
    """Scales get the level below theirs."""

    def levels_and_means(self, parameters):
        """One level less."""
        levels, means = super().levels_and_means(parameters)
        return np.maximum(levels - 1, 0).astype(np.int32), means


class UnsignedTanh(Engine):
    """Half tanh forgets the sign."""

    def half_tanh(self, name, x):
        """Its magnitude."""
        return np.abs(super().half_tanh(name, x))


class NoMask(Engine):
    """The intra context's inputs are not masked."""

    def masked(self, x, parity):
        """As it is."""
        return x


class MeanOfOtherSign(Engine):
    """The median or mean is subtracted."""

    @staticmethod
    def reconstruct(symbols, mean):
        """With the wrong sign."""
        return Engine.reconstruct(symbols, -mean)


def changed(name: str, **more: object) -> Callable[[], Model]:
    """The model with another layer."""

    def make() -> Model:
        layer = model().layers[name]
        values = {k: v(layer) if callable(v) else v for k, v in more.items()}
        return replace(model(), layers={**model().layers, name: replace(layer, **values)})

    return make


def shifted_crop(planes, height, width, channels):
    """The crop begins a row too low."""
    return crop_samples(np.concatenate([planes[1:], planes[-1:]]), height, width, channels)


def unrounded_grey(planes, height, width, channels):
    """Grey without the rounding term."""
    r, g, b = (planes[:height, :width, c].astype(int) for c in range(3))
    return (r + 2 * g + b >> 2).astype(np.uint8)


@dataclass(frozen=True)
class Fault:
    """A planted fault and where it must be found."""

    stage: str
    turn: int = 0
    slice: int | None = None
    half: int | None = None
    looks: str = ""
    same_as: str = ""
    engine: type[Engine] = Engine
    model: Callable[[], Model] = model
    crop: Callable[..., np.ndarray] = crop_samples
    channels: int = 3


FAULTS = {
    "no rounding term": Fault(
        "chan/1/2",
        slice=1,
        looks="less by 1",
        model=changed("chan/1/2", bias=lambda layer: layer.bias - (1 << layer.shift >> 1).astype(np.int32)),
    ),
    "parity flip": Fault("ctx/1", 0, 1, ANCHOR, "another parity", engine=ParityFlip),
    "stale copy": Fault("ctx/0", 1, 0, ANCHOR, "only anchors differ", "ctx/0#0", engine=StaleCopy),
    "slice order": Fault("chan/2/0", slice=2, engine=SliceOrder),
    "crop": Fault("samples", looks="shifted up by 1", crop=shifted_crop),
    "grey": Fault("samples", looks="less by 1", crop=unrounded_grey, channels=1),
    "clamp": Fault("g_s/5/conv", looks="the clamp is missing or wider", model=changed("g_s/5/conv", limit=32767)),
    "narrow clamp": Fault("h_s/4", looks="the clamp is narrower", model=changed("h_s/4", limit=1000)),
    "scale index": Fault("ctx/0", 0, 0, ANCHOR, engine=LevelOffByOne),
    "sign of tanh": Fault("ctx/0", 1, 0, ANCHOR, "only anchors differ", engine=UnsignedTanh),
    "mask": Fault("intra/1/queries0", slice=1, half=NONANCHOR, engine=NoMask),
    "median": Fault("z_hat", engine=MeanOfOtherSign),
    "gain of another step": Fault(
        "g_s/input", model=changed("g_s/input", multiplier=lambda layer: np.roll(layer.multiplier, 1, axis=0))
    ),
    "shift": Fault("g_s/3/igdn", model=changed("g_s/3/igdn", shift=lambda layer: layer.shift - 1)),
}
