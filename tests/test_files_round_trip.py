"""Model files: what is saved comes back, bit for bit, with all that training needs."""

from __future__ import annotations

import json
import os
from types import ModuleType

import attrs
import numpy as np
import pytest
from operation_samples import SAMPLES

import mfcore as mf
import mfops_nn.pack
import mfoptim.pack
from mfcore import Constant, Graph, Input, Parameter, Registry, Session, registry
from mfcore.errors import (
    GraphError,
    GraphFormatError,
    ModelFileAccessError,
    ModelFileError,
    PackVersionWarning,
)
from mfops_basic import BroadcastTo, Concatenate, Index, OneHot
from mfops_nn import MSE, Dropout, Linear, Sigmoid
from mfoptim import SGD, Adam, CosineDecay, ExponentialDecay, StepDecay, Warmup


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def network():
    """A small network with a cost; the nodes by name."""
    x, t = Input("x", shape=(None, 3), dtype="float32"), Input("t")
    rng = np.random.default_rng(0)
    W = Parameter(rng.normal(size=(3, 2)).astype(np.float32), name="W")
    b = Parameter(np.zeros(2), name="b")
    y = Sigmoid(Linear(x, W, b), name="y")
    return {"x": x, "t": t, "W": W, "b": b, "y": y, "cost": MSE(t, y)}


FEEDS = {
    "x": np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32),
    "t": np.random.default_rng(2).normal(size=(5, 2)),
}


def described(graph):
    """All that is known of a graph, except where it was built."""
    return [
        (
            type(node),
            node.name,
            sources,
            mf.shape_of(node),
            mf.dtype_of(node),
            repr([getattr(node, f) for f in (node.__operation__ or Graph).hyperparameters])
            if node.__operation__
            else "",
        )
        for node, sources in zip(graph.nodes, graph.sources, strict=True)
    ]


def bits(array):
    array = np.asarray(array)
    return array.dtype, array.shape, array.tobytes()


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_every_operation_comes_back_and_computes_the_same_bits(sample, path):
    inputs = [
        Parameter(x) if x.dtype.kind == "f" and i % 2 else Constant(x)
        for i, x in enumerate(sample.inputs)
    ]
    node = sample.operation(*inputs, **sample.hyperparameters)
    mf.save(path, {"result": node})

    model = mf.load(path)

    back = model["result"]
    graph = Graph(node)
    assert described(model.graph) == described(graph)
    expected = Session(graph, engine="reference", seed=3).run()[node]
    assert bits(model.session(engine="reference", seed=3).run()[back]) == bits(expected)


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_every_operation_goes_through_plain_json(sample):
    node = sample.operation(*map(Constant, sample.inputs), **sample.hyperparameters)

    text = json.dumps(mf.graph_to_dict(node), allow_nan=False)
    graph = mf.graph_from_dict(json.loads(text))

    assert described(graph) == described(Graph(node))
    assert json.dumps(mf.graph_to_dict(graph)) == text
    for old, new in zip(Graph(node).nodes, graph.nodes, strict=True):
        if isinstance(old, Constant):
            assert bits(old.value) == bits(new.value)


def test_gradients_as_nodes_come_back(path):
    nodes = network()
    gradient = mf.gradient(nodes["cost"], nodes["W"])
    second = mf.gradient((gradient * gradient).sum(), nodes["b"])
    mf.save(path, {"first": gradient, "second": second})

    model = mf.load(path)

    run = Session([gradient, second], engine="reference").run(FEEDS)
    back = model.session(engine="reference").run(FEEDS)
    assert bits(back[model["first"]]) == bits(run[gradient])
    assert bits(back[model["second"]]) == bits(run[second])


@pytest.mark.parametrize("engine", ["reference", "numpy"])
@pytest.mark.parametrize("name", ["SGD", "AdaGrad", "Adam", "RMSProp"])
def test_training_goes_on_to_the_same_bits(engine, name, path):
    nodes = network()
    optimizer = registry.current().optimizer(name)(learning_rate=0.1)
    session = Session([nodes["cost"], nodes["y"]], engine=engine)
    for _ in range(3):
        session.step(FEEDS, optimizer, cost=nodes["cost"])
    mf.save(path, {n: nodes[n] for n in ("cost", "y")}, session, optimizer_state=True)

    model = mf.load(path, optimizer_state=True)

    again = model.session(engine=engine)
    assert model.optimizer == optimizer
    assert again.steps == model.steps == 3
    for _ in range(3):
        expected = session.step(FEEDS, optimizer, cost=nodes["cost"])
        assert again.step(FEEDS, model.optimizer, cost=model["cost"]) == expected
    for parameter in ("W", "b"):
        assert bits(again[parameter]) == bits(session[parameter])


def test_trained_values_are_saved_and_initial_ones_without_a_session(path):
    nodes = network()
    session = Session(nodes["cost"])
    session["b"] = [3.0, 4.0]

    mf.save(path, nodes["y"], session)
    assert mf.load(path).parameters["b"].tolist() == [3.0, 4.0]
    assert mf.load(path).session()["b"].tolist() == [3.0, 4.0]

    mf.save(path, nodes["y"])
    assert mf.load(path).parameters["b"].tolist() == [0.0, 0.0]


def test_sessions_of_a_model_share_nothing(path):
    nodes = network()
    optimizer = registry.current().optimizer("Adam")()
    session = Session(nodes["cost"])
    session.step(FEEDS, optimizer)
    mf.save(path, nodes["cost"], session, optimizer_state=True)
    model = mf.load(path, optimizer_state=True)
    first, second = model.session(), model.session()

    expected = session.step(FEEDS, optimizer), session.step(FEEDS, optimizer)

    for one in (first, second):
        assert (one.step(FEEDS, model.optimizer), one.step(FEEDS, model.optimizer)) == expected


def halved(step):
    return 0.1 * 0.5**step


@pytest.mark.parametrize(
    "schedule",
    [
        CosineDecay(0.1, steps=5, end=0.01),
        ExponentialDecay(0.1, 0.5, 2),
        StepDecay(0.1, 0.5, 2),
        Warmup(0.1, steps=3),
        Warmup(Warmup(CosineDecay(0.1, steps=2), steps=1), steps=2),
    ],
    ids=repr,
)
def test_schedules_come_back_and_go_on(schedule, path):
    nodes = network()
    optimizer = Adam(schedule)
    session = Session(nodes["cost"])
    session.step(FEEDS, optimizer)
    mf.save(path, nodes["cost"], session, optimizer_state=True)

    model = mf.load(path, optimizer_state=True)

    again = model.session()
    assert model.optimizer == optimizer
    assert set(model.packs) == {"mfcore", "mfops_nn", "mfoptim"}
    expected = [session.step(FEEDS, optimizer) for _ in range(4)]
    assert [again.step(FEEDS, model.optimizer) for _ in range(4)] == expected


def test_every_schedule_of_the_packs_is_tested():
    provided = registry.current().all("schedule")

    assert set(provided.values()) == {CosineDecay, ExponentialDecay, StepDecay, Warmup}


@pytest.mark.parametrize("schedule", [halved, Warmup(halved, steps=2)], ids=["bare", "within"])
def test_an_optimizer_whose_schedule_is_a_function_is_given_again(schedule, path):
    nodes = network()
    optimizer = Adam(schedule)
    session = Session(nodes["cost"])
    session.step(FEEDS, optimizer)
    mf.save(path, nodes["cost"], session, optimizer_state=True)
    model = mf.load(path, optimizer_state=True)
    like = Adam(schedule)

    again = model.session(optimizer=like)

    assert model.optimizer is None
    expected = [session.step(FEEDS, optimizer) for _ in range(3)]
    assert [again.step(FEEDS, like) for _ in range(3)] == expected
    with pytest.raises(ModelFileError, match=r"mfoptim.Adam has no place .* give an optimizer"):
        model.session()
    with pytest.raises(
        ModelFileError, match=r"SGD cannot go on: the state is that of mfoptim.Adam"
    ):
        model.session(optimizer=SGD())


# Random numbers


def noisy(seed):
    """A trained session with dropout, and its cost."""
    nodes = network()
    cost = MSE(nodes["t"], Dropout(nodes["y"], rate=0.5))
    session = Session(cost, seed=seed)
    for _ in range(3):
        session.step(FEEDS, Adam())
    return session, cost


@pytest.mark.parametrize(
    "kind", [np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox,
             np.random.SFC64], ids=lambda kind: kind.__name__,
)  # fmt: skip
def test_random_numbers_go_on_where_they_stood(kind, path):
    session, cost = noisy(np.random.Generator(kind(3)))
    session.rng.integers(5, dtype=np.uint32)  # half a number of 64 bits is kept for later
    mf.save(path, cost, session, optimizer_state=True)

    model = mf.load(path, optimizer_state=True)

    optimizer = session.optimizer_state().optimizer
    expected = [session.step(FEEDS, optimizer) for _ in range(4)]
    for again in (model.session(), model.session()):
        assert type(again.rng.bit_generator) is kind
        assert [again.step(FEEDS, model.optimizer) for _ in range(4)] == expected
    other = model.session(seed=8)
    assert [other.step(FEEDS, model.optimizer) for _ in range(4)] != expected


def test_random_numbers_of_a_file_without_a_state_start_anew(path):
    session, cost = noisy(0)
    mf.save(path, cost, session)

    model = mf.load(path)

    assert model.session().rng.random() != model.session().rng.random()


def test_a_generator_that_is_none_of_numpys_is_refused(path):
    class Own(np.random.PCG64):
        @property
        def state(self):
            return {**super().state, "bit_generator": "Own"}

    session, cost = noisy(np.random.Generator(Own(3)))

    with pytest.raises(ModelFileError, match="random numbers cannot be saved: it is of none of"):
        mf.save(path, cost, session, optimizer_state=True)
    assert not path.exists()
    mf.save(path, cost, session)


@pytest.mark.parametrize(
    "value",
    [
        *(np.array([[0, 1], [1, 0]], dtype) for dtype in "?bBhHiIqQefd"),
        np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
        np.array([2**64 - 1, 0], np.uint64),
        np.zeros((0, 3)),
        np.array(1.5, np.float32),
        np.arange(6.0).reshape(2, 3).T,
        np.arange(3, dtype=">i4"),
        True,
        3,
        -0.0,
        2**70,
        float("inf"),
    ],
    ids=repr,
)
def test_every_kind_of_constant_comes_back(value, path):
    node = Index(Constant([1.0, 2.0]), index=0) * 1.0 if value is None else Constant(value)
    mf.save(path, {"c": node})

    for back in (mf.load(path)["c"], mf.graph_from_dict(mf.graph_to_dict(node)).outputs[0]):
        if isinstance(value, np.ndarray):
            native = value.astype(value.dtype.newbyteorder("="))
            assert bits(back.value) == bits(native)
        else:
            assert type(back.value) is type(value)
            assert repr(back.value) == repr(value)


def test_outputs_keep_their_names_and_order(path):
    nodes = network()

    mf.save(path, {"loss": nodes["cost"], "prediction": nodes["y"], "same": nodes["y"]})
    model = mf.load(path)

    assert list(model.outputs) == ["loss", "prediction", "same"]
    assert model["prediction"] is model["same"] is model["y"]
    assert model.graph.outputs == tuple(model.outputs.values())
    mf.save(path, [nodes["cost"], nodes["y"]])
    assert list(mf.load(path).outputs) == ["mse_1", "y"]
    mf.save(path, Graph(nodes["y"]))
    assert list(mf.load(path).outputs) == ["y"]


def test_the_same_model_is_the_same_file(path, tmp_path):
    mf.save(path, network()["cost"])
    mf.save(tmp_path / "again", mf.load(path).outputs)

    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_names_that_the_format_reserves_or_that_clash_are_avoided(path):
    x = Parameter([1.0, 2.0, 3.0], name="__metadata__")
    part = Index(x, index=([0, 2],), name="i")
    clash = Parameter([5.0, 6.0], name="i.index.0")
    mf.save(path, {"sum": part + clash})

    model = mf.load(path)

    assert model.session().run()[model["sum"]].tolist() == [6.0, 9.0]


@pytest.mark.parametrize(
    ("operation", "hyperparameters"),
    [(OneHot, {"depth": 2000}), (BroadcastTo, {"shape": (600, 2000, 3)})],
)
def test_a_node_of_large_sizes_comes_back_with_its_shape(operation, hyperparameters, path):
    x = Input("x", shape=(3,), dtype="int64")
    node = operation(x, **hyperparameters)
    summed = Concatenate(node, node)
    mf.save(path, {"node": node, "twice": summed})

    model = mf.load(path)

    feeds = {"x": [1, 0, 1999]}
    assert mf.shape_of(model["node"]) == mf.shape_of(node) is not None
    assert model["node"].inputs == (model.graph["x"],)
    expected = Session(summed, engine="reference").run(feeds)
    back = model.session(engine="reference").run(feeds)
    assert np.array_equal(back[model["node"]], expected[node])
    assert mf.shape_of(model["twice"]) == expected[summed].shape
    assert back[model["twice"]].shape == expected[summed].shape


def test_shapes_are_known_of_models_as_large_as_their_file(path):
    x, W = Input("x", shape=(None, 3000)), Parameter(np.zeros((3000, 2000), np.float32))
    mf.save(path, {"y": Sigmoid(Linear(x, W, Parameter(np.zeros(2000))))})

    assert mf.load(path)["y"].shape == (None, 2000)


def test_a_long_chain_is_no_problem(path):
    node = Constant(1.0)
    for _ in range(20_000):
        node = Sigmoid(node)
    mf.save(path, node)

    assert len(mf.load(path).graph) == 20_001


def test_other_readers_of_the_format_read_the_arrays(path):
    numpy_format = pytest.importorskip("safetensors.numpy")
    nodes = network()
    values = {"bool": np.array([True]), "half": np.ones((2, 0), np.float16), "0-d": np.array(7)}
    extra = [Constant(value, name=name) for name, value in values.items()]
    mf.save(path, [nodes["y"], *extra])

    found = numpy_format.load_file(path)

    assert found.keys() == {"W", "b", *values}
    for name, value in {"W": nodes["W"].value, "b": nodes["b"].value, **values}.items():
        assert bits(found[name]) == bits(value)


def test_a_file_written_again_by_another_writer_is_read(path):
    numpy_format = pytest.importorskip("safetensors.numpy")
    safetensors = pytest.importorskip("safetensors")
    mf.save(path, network()["y"])
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    numpy_format.save_file(numpy_format.load_file(path), path, metadata)

    assert mf.load(path).parameters["W"].shape == (3, 2)


# What cannot be saved


def test_an_operation_of_no_pack_is_refused_by_name(path):
    @mf.operation
    class Homeless(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x):
            return x

    node = Homeless(Input("x"), name="here")

    with pytest.raises(ModelFileError, match=r"model.safetensors.*here .*no enabled pack provides"):
        mf.save(path, node)
    with pytest.raises(GraphFormatError, match="no enabled pack provides the operation"):
        mf.graph_to_dict(node)
    assert os.listdir(path.parent) == []


def pack_of(*operations):
    class Plugin:
        @mf.hookimpl
        def mf_operations(self):
            return operations

    return Plugin()


def test_a_hyperparameter_that_is_no_data_is_refused(path):
    @mf.operation
    class Mapped(mf.Node):
        x: mf.Node
        by: object = mf.hyperparameter()

        @staticmethod
        def forward(x, by):
            return by(x)

    with registry.using(Registry(autoload=False)) as packs:
        packs.register(pack_of(Mapped), "test_files_round_trip")
        with pytest.raises(ModelFileError, match="hyperparameter by: builtins.function|function"):
            mf.save(path, Mapped(Input("x"), by=lambda x: x))
    assert not path.exists()


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1.5,
        float("nan"),
        "text",
        (1, (2.0, "x"), None),
        [1, [2]],
        {"a": (1, {}), "schedule": None},
        Warmup(CosineDecay(0.5, steps=3), steps=2),
        slice(1, None, 2),
        ...,
        np.dtype("float32"),
        np.float32(0.1),
        np.bool_(True),
        np.array([[1, 2]]),
        (slice(None), np.array([True, False]), ..., None),
        Linear,
    ],
    ids=repr,
)
def test_every_kind_of_hyperparameter_comes_back(value, path):
    @mf.operation
    class Holds(mf.Node):
        x: mf.Node
        what: object = mf.hyperparameter()

        @staticmethod
        def forward(x, what):
            return x

    with registry.using(Registry()) as packs:
        packs.register(pack_of(Holds), "held")
        node = Holds(Input("x"), what=value)
        mf.save(path, {"out": node})
        back = mf.load(path)["out"].what
        plain = mf.graph_from_dict(mf.graph_to_dict({"out": node})).outputs[0].what

    assert type(back) is type(plain) is type(value)
    assert repr(back) == repr(plain) == repr(value)


def test_wide_floats_are_refused(path):
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("long doubles are doubles here")

    with pytest.raises(ModelFileError, match="has no place in a file"):
        mf.save(path, Constant(np.ones(2, np.longdouble)))


def test_a_session_of_another_graph_is_refused(path):
    with pytest.raises(ModelFileError, match="the session has no value for W "):
        mf.save(path, network()["y"], Session(network()["cost"]))
    with pytest.raises(ModelFileError, match="no session that has trained"):
        mf.save(path, network()["y"], optimizer_state=True)
    with pytest.raises(GraphError, match="built from nodes"):
        mf.save(path, "y")
    with pytest.raises(ModelFileError, match="an output's name"):
        mf.save(path, {1: network()["y"]})


# Where files are


def test_a_file_that_cannot_be_opened_is_named(path):
    with pytest.raises(ModelFileAccessError, match=r"cannot load '.*model.safetensors'") as caught:
        mf.load(path)
    assert isinstance(caught.value, OSError)
    with pytest.raises(ModelFileAccessError, match="create its folder first"):
        mf.save(path / "deeper", network()["y"])
    with pytest.raises(ModelFileAccessError, match="cannot save"):
        mf.save(path.parent, network()["y"])


def test_what_was_there_stays_when_saving_fails(path, monkeypatch):
    mf.save(path, network()["y"])
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelFileAccessError, match="No space left"):
        mf.save(path, network()["cost"])

    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


# Packs


@attrs.frozen
class Distribution:
    name: str
    version: str
    requires: tuple = ()


@attrs.frozen
class EntryPoint:
    """A pack as if it were installed."""

    name: str
    dist: Distribution
    plugin: object
    value: str = "module"

    def load(self):
        return self.plugin


@mf.operation
class Twice(mf.Node):
    """An operation of the pack that is, or is not, there."""

    x: mf.Node

    @staticmethod
    def forward(x):
        return x * 2.0


def with_pack(version, rule=None, operations=(Twice,), migration=None):
    plugin = pack_of(*operations)
    if rule is not None:
        plugin.mf_file_compatibility = mf.hookimpl(rule)
    if migration is not None:
        plugin.mf_file_migration = mf.hookimpl(migration)
    point = EntryPoint("mfops_mine", Distribution("mfops-mine", version), plugin)
    return registry.using(Registry(entry_points=lambda: [point], disabled=()))


@pytest.fixture
def needs_a_pack(path):
    """A file that was written with the pack mfops_mine 1.4.2."""
    with with_pack("1.4.2"):
        mf.save(path, {"out": Twice(Constant([1.0]))})
    return path


def test_a_missing_pack_is_named_with_the_command_that_installs_it(needs_a_pack):
    with (
        registry.using(Registry(autoload=False)),
        pytest.raises(
            ModelFileError,
            match=r"needs the pack mfops_mine 1.4.2, which is not installed: "
            r"`pip install mfops-mine==1.4.2`",
        ),
    ):
        mf.load(needs_a_pack)


def test_a_disabled_pack_is_said_to_be_disabled(needs_a_pack):
    with with_pack("1.4.2") as packs:
        packs.disable("mfops_mine")
        with pytest.raises(ModelFileError, match=r"mfops_mine 1.4.2, which is disabled"):
            mf.load(needs_a_pack)


@pytest.mark.parametrize("version", ["1.4.2", "1.4", "1.4.99", "1.4.0rc1"])
def test_the_same_first_two_numbers_are_fine(needs_a_pack, version):
    with with_pack(version):
        assert mf.load(needs_a_pack).packs["mfops_mine"] == "1.4.2"


@pytest.mark.parametrize("version", ["1.5.0", "1.3.2", "2.4.2", "1"])
def test_another_version_warns_and_loads(needs_a_pack, version):
    with (
        with_pack(version),
        pytest.warns(PackVersionWarning, match=rf"mfops_mine 1.4.2, and this is {version}") as seen,
    ):
        model = mf.load(needs_a_pack)

    assert seen[0].filename == __file__
    assert model.session(engine="reference").run()[model["out"]].tolist() == [2.0]


def load_with_rule(path, rule, version="2.0"):
    with with_pack(version, rule):
        return mf.load(path)


def test_a_packs_own_rule_may_find_another_version_compatible(needs_a_pack):
    told = []

    def rule(saved, installed, names):
        told.append((saved, installed, names))

    assert load_with_rule(needs_a_pack, rule).packs["mfops_mine"] == "1.4.2"
    assert told == [("1.4.2", "2.0", ("Twice",))]
    load_with_rule(needs_a_pack, rule, version="1.4.2")
    assert len(told) == 1


def test_a_packs_own_rule_may_warn(needs_a_pack):
    def rule(names):
        return f"{', '.join(names)} rounds otherwise"

    with pytest.warns(
        PackVersionWarning, match=r"mfops_mine 1.4.2, and this is 1.4.3: Twice rounds otherwise"
    ) as seen:
        load_with_rule(needs_a_pack, rule, version="1.4.3")
    assert seen[0].filename == __file__


def test_a_packs_own_rule_may_refuse(needs_a_pack):
    def rule():
        raise ModelFileError("Twice doubled the logarithm then")

    with pytest.raises(
        ModelFileError,
        match=r"model.safetensors.*mfops_mine 2.0 does not take what mfops_mine 1.4.2 wrote: "
        r"Twice doubled the logarithm then",
    ):
        load_with_rule(needs_a_pack, rule)


def rule_that_raises():
    raise KeyError("version")


@pytest.mark.parametrize(
    ("rule", "fault"),
    [(rule_that_raises, "KeyError: 'version'"), (lambda: False, "TypeError: it returned bool")],
)
def test_a_rule_that_fails_warns_and_the_default_holds(needs_a_pack, rule, fault):
    with pytest.warns(PackVersionWarning, match=rf"its rule for files failed \({fault}") as seen:
        load_with_rule(needs_a_pack, rule, version="1.4.3")
    assert "results may differ" not in str(seen[0].message)

    with pytest.warns(PackVersionWarning, match=rf"{fault}.*; results may differ"):
        model = load_with_rule(needs_a_pack, rule, version="2.0")
    assert model.session(engine="reference").run()[model["out"]].tolist() == [2.0]


@mf.operation
class Scaled(mf.Node):
    """What ``Twice`` is called in a later version, with a hyperparameter more."""

    x: mf.Node
    factor: float = mf.hyperparameter()

    @staticmethod
    def forward(x, factor):
        return x * factor


def test_mf_file_migration_takes_over_other_names_and_hyperparameters(needs_a_pack):
    told = []

    def migration(saved, name, hyperparameters):
        told.append((saved, name, hyperparameters))
        return "Scaled", {"factor": 2.0}

    with with_pack("1.4.3", operations=[Scaled], migration=migration):
        model = mf.load(needs_a_pack)
        mf.save(needs_a_pack, model.outputs)
        assert type(mf.load(needs_a_pack)["out"]) is Scaled

    assert told == [("1.4.2", "Twice", {})]
    assert model.session(engine="reference").run()[model["out"]].tolist() == [2.0]


def test_mf_file_migration_may_leave_everything_as_it_is(needs_a_pack):
    with with_pack("1.4.3", migration=lambda: None):
        assert type(mf.load(needs_a_pack)["out"]) is Twice


def migration_that_raises(hyperparameters):
    return "Scaled", {"factor": hyperparameters["by"]}


@pytest.mark.parametrize(
    ("migration", "said"),
    [
        (migration_that_raises, "cannot take over Twice of another version: KeyError: 'by'"),
        (lambda: "Scaled", "cannot take over Twice of another version: ValueError"),
        (lambda: (Scaled, {}), "cannot take over Twice .* is no name"),
        (lambda: ("Scaled", {"by": 2.0}), "no hyperparameter 'by'; it has factor"),
        (lambda: ("Gone", {}), "no enabled pack provides an operation 'mfops_mine.Gone'"),
    ],
)
def test_a_migration_that_fails_is_named(needs_a_pack, migration, said):
    with (
        with_pack("1.4.3", operations=[Scaled], migration=migration),
        pytest.raises(ModelFileError, match=rf"node 1 \(mfops_mine.Twice\): .*{said}"),
    ):
        mf.load(needs_a_pack)


def test_optimizers_and_schedules_migrate_too(path):
    nodes = network()
    optimizer = Adam(CosineDecay(0.1, steps=3))
    session = Session(nodes["cost"])
    session.step(FEEDS, optimizer)
    mf.save(path, nodes["cost"], session, optimizer_state=True)
    data = path.read_bytes()
    for new, old in ((b"mfoptim.Cosine", b"mfoptim.Kosine"), (b"beta1", b"betaA")):
        assert data.count(new) == 1
        data = data.replace(new, old)
    installed = registry.current().packs()
    (version,) = {pack.version for pack in installed if pack.name == "mfoptim"}
    said = b'mfoptim\\",\\"version\\":\\"'
    other = version[:-1] + "z"
    path.write_bytes(data.replace(said + version.encode(), said + other.encode()))

    def migration(saved, name, hyperparameters):
        assert saved == other
        if name == "KosineDecay":
            return "CosineDecay", hyperparameters
        return name, {key.replace("betaA", "beta1"): x for key, x in hyperparameters.items()}

    plugin = ModuleType("plugin")
    plugin.mf_optimizers = mfoptim.pack.mf_optimizers
    plugin.mf_schedules = mfoptim.pack.mf_schedules
    plugin.mf_file_migration = mf.hookimpl(migration)
    point = EntryPoint("mfoptim", Distribution("mfoptim", version), plugin)
    nn = EntryPoint("mfops_nn", Distribution("mfops_nn", version), mfops_nn.pack)
    with registry.using(Registry(entry_points=lambda: [point, nn], disabled=())):
        assert mf.load(path, optimizer_state=True).optimizer == optimizer


def test_a_pack_that_only_a_hyperparameter_names_is_needed_too(path):
    @mf.operation
    class Holds(mf.Node):
        x: mf.Node
        what: object = mf.hyperparameter()

        @staticmethod
        def forward(x, what):
            return x

    def packs(*names):
        held = Registry(entry_points=list, disabled=())
        held.register(pack_of(Holds), "held")
        if "mfops_mine" in names:
            held.register(pack_of(Twice), "mfops_mine")
        return registry.using(held)

    with packs("mfops_mine"):
        mf.save(path, {"out": Holds(Input("x"), what=(1, {"a": Twice}))})
    with packs(), pytest.raises(ModelFileError, match="it needs the pack mfops_mine"):
        mf.load(path)


def test_the_optimizers_pack_is_needed_only_where_its_state_is_asked_for(path, core_registry):
    nodes = network()
    session = Session(nodes["cost"])
    session.step(FEEDS, registry.current().optimizer("SGD")())
    mf.save(path, nodes["cost"], session, optimizer_state=True)

    with registry.using(core_registry):
        assert mf.load(path).optimizer is None
        with pytest.raises(ModelFileError, match="needs the pack mfoptim"):
            mf.load(path, optimizer_state=True)
    mf.save(path, nodes["cost"], session)
    with pytest.raises(ModelFileError, match="without the state of an optimizer"):
        mf.load(path, optimizer_state=True)


def test_randomness_and_training_belong_to_the_session(path):
    node = Dropout(Constant(np.ones(20)), rate=0.5)
    mf.save(path, {"out": node})
    model = mf.load(path)

    values = [
        session.run(training=True)[out]
        for session, out in (
            (Session(node, seed=5), node),
            (model.session(seed=5), model["out"]),
        )
    ]

    assert values[0].tolist() == values[1].tolist()
