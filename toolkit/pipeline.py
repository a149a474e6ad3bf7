"""The corridor: ONNX file in, Program out, every pass named once, in order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from codegen.board import extensions
from codegen.kernels import taken_names
from codegen.plan import plan
from codegen.program import Function, Port, Program
from codegen.schedule import lifetimes, lower_bound, schedule
from codegen.verify import verify_program
from toolkit.errors import UserError
from toolkit.ir import SAVED, Array, Graph, TensorType, verify
from toolkit.lower import Memory, lower_function
from toolkit.ops.dense_batch import weights_by_output
from toolkit.ops.fold_batch_norm import fold_batch_normalization
from toolkit.ops.fuse_bias import fuse_bias
from toolkit.ops.fuse_swish import fuse_swish
from toolkit.ops.rectified_gradient import fuse_rectified_gradients
from toolkit.ops.rectified_layer import fuse_rectifiers
from toolkit.ops.residual_layer import fuse_residuals
from toolkit.quant import Context, QuantizationPlan, quantize
from toolkit.quant.ab_inference import integer_inference
from toolkit.quant.constants import fold_constants
from toolkit.quant.table_memory import limit_tables, use_core
from toolkit.quant.thresholds import collapse_to_thresholds
from toolkit.train.as_pytorch import LEAST
from toolkit.train.channel_rule import with_channel_rules
from toolkit.train.codecs import SavePlan, save_tensors
from toolkit.train.mobiletl import masks_of
from toolkit.train.round_again import round_inputs_again
from toolkit.train.schemes import layers, read_scheme
from toolkit.train.step import TrainingOptions, training_graphs
from toolkit.walk import Roles, Walk, asked, choose, roles


@dataclass(frozen=True)
class Options:
    """What a model is compiled for.

    Attributes:
        train: an update scheme (see toolkit.train.schemes); "none" for inference only.
        training: loss, optimizer and the like.
        fma: whether multiply-adds round once: what the target's hardware does.
        batch: replaces the first dimension of the inputs.
        shapes: input name -> shape, for dynamic dimensions.
        until: cut the model after this node.
        name: C identifier; from the file name where absent.
        quant: which layers are quantized, and how.
        samples: for the type of the model's input as ONNX has it, float32 inputs [M, ...] to calibrate on; None where
            there are none.
        isa: of the target, for the choice between kernels of the same bits; "" where it is not known.
        save: in what form tensors wait for the backward pass.
        tables: bytes of scratch that a layer of packed signs may take for tables; None where no budget says so.
        opt: what the code is to spare, "speed" (instructions) or "size" (bytes); the bits are the same.
        cache: bytes of arena from which on a function walks over its batch (toolkit.walk); None for machines without.
        walk: samples at a time that are asked for whatever the cache; 0 never walks.
    """

    train: str = "none"
    training: TrainingOptions = field(default_factory=TrainingOptions)
    fma: bool = True
    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    until: str | None = None
    name: str | None = None
    quant: QuantizationPlan = field(default_factory=lambda: QuantizationPlan(""))
    samples: Callable[[TensorType], Array] | None = None
    isa: str = ""
    save: SavePlan = field(default_factory=SavePlan)
    tables: int | None = None
    opt: Literal["speed", "size"] = "speed"
    cache: int | None = None
    walk: int | None = None


@dataclass(frozen=True)
class Compiled:
    """A model ready to be emitted or simulated.

    Attributes:
        graphs: by function name: what the reference runs.
        trained: parameters that training changes.
        walks: by function name, how it goes over its batch, where that was asked.
    """

    program: Program
    graphs: Mapping[str, Graph]
    trained: frozenset[str]
    options: Options
    source: str
    walks: Mapping[str, Walk] = field(default_factory=dict)

    @property
    def model(self) -> Graph:
        """The inference graph."""
        return self.graphs["infer"]

    @property
    def trainable(self) -> bool:
        """Whether there is a training step."""
        return "train_step" in self.graphs

    def orders(self) -> dict[str, list[str]]:
        """For each function, its node names in the order of the steps that write what the nodes compute."""
        return {name: _node_order(self.graphs[name], f) for name, f in self.program.functions.items()}


def load(source: str | Path, options: Options) -> Graph:
    """The model as imported, parameters in place, biases and SiLU fused: what update schemes speak about."""
    from toolkit.frontend.load import load_model

    graph = load_model(str(source), batch=options.batch, shapes=dict(options.shapes), until=options.until)
    return verify(fuse_swish(verify(fuse_bias(verify(graph)))))


def compile_model(source: str | Path, options: Options) -> Compiled:
    """From a model file, or the name of a zoo model, to a planned and verified Program.

    Raises:
        UserError: whatever is wrong with the model or the options.
    """

    def part(samples: int) -> Mapping[str, Graph]:
        return _graphs(load(source, replace(options, batch=samples)), options)[0]

    return _compile(load(source, options), options, str(source), part)


def compile_graph(graph: Graph, options: Options, source: str) -> Compiled:
    """The passes after the import. A graph has one batch size, so nothing walks over it."""
    return _compile(graph, options, source)


def _graphs(graph: Graph, options: Options, by_output: bool = False) -> tuple[Mapping[str, Graph], frozenset[str]]:
    """The graph of each function, and the parameters that training changes.

    Args:
        by_output: dense layers may have weights that lie so.
    """
    selection = read_scheme(graph, options.train)
    trained = selection.trained
    if options.quant:
        context = Context(set(trained), _samples(graph, options.samples), options.fma, _saved(graph))
        graph = quantize(graph, options.quant, context)
        trained = frozenset(context.trained)
        graph = verify(fold_constants(graph, trained, options.fma))
    graph = verify(fold_batch_normalization(graph, trained)).without_dead_nodes()
    graph = verify(collapse_to_thresholds(graph, trained, options.fma))
    if not trained:
        graph = verify(integer_inference(graph))
    graph = with_channel_rules(graph, selection.channels, trained)
    if by_output:
        graph = weights_by_output(graph, trained)
    graphs: dict[str, Graph] = {"infer": graph}
    if trained:
        masks = masks_of(graph, selection.mobiletl, selection.reading)
        training = training_graphs(graph, trained, options.training, masks)
        graphs["train_step"] = verify(save_tensors(training.train_step, options.save, options.training.save == LEAST))
        if training.update is not None and training.discard is not None:
            graphs["update"] = verify(training.update)
            graphs["discard"] = verify(training.discard)
    graphs = {name: use_core(each, extensions(options.isa)) for name, each in graphs.items()}
    if options.tables is not None:
        graphs = {name: limit_tables(each, options.tables) for name, each in graphs.items()}
    changing = frozenset(name for each in graphs.values() for name in each.updates)
    small_code = options.opt == "size"

    bounds: dict[tuple[str, int], tuple[Graph, int]] = {}  # by identity: passes ask again

    def arena_bytes(name: str, graph: Graph) -> int:
        if (name, id(graph)) not in bounds:
            fused = fuse_rectifiers(graph, small_code)
            lowered = lower_function(name, fused, Memory(changing, trained), name == "infer")
            bounds[name, id(graph)] = graph, lower_bound(lifetimes(schedule(lowered)))
        return bounds[name, id(graph)][1]

    if trained:
        step = round_inputs_again(graphs["train_step"], partial(arena_bytes, "train_step"))
        graphs = {**graphs, "train_step": verify(step)}
    fused = fuse_residuals(graphs, arena_bytes, small_code)
    graphs = {name: verify(fuse_rectifiers(each, small_code)) for name, each in fused.items()}
    if not small_code and _may_have_vectors(options.isa):
        graphs = {name: verify(fuse_rectified_gradients(each)) for name, each in graphs.items()}
    return graphs, trained


def _may_have_vectors(isa: str) -> bool:
    """Whether nothing says that there are none: without them, ends in registers save nothing over a pass."""
    return not isa.startswith("rv") or any(each == "v" or each.startswith("zve") for each in extensions(isa))


def _compile(
    graph: Graph, options: Options, source: str, part: Callable[[int], Mapping[str, Graph]] | None = None
) -> Compiled:
    """From graph to Program.

    Args:
        part: the graphs for a batch of so many samples, for walks.
    """
    graphs, trained = _graphs(graph, options)
    memory, functions, walks = _planned(graphs, trained, options, part)
    fast_pc = options.cache is not None and options.opt == "speed" and all(w.parts == 1 for w in walks.values())
    if fast_pc and weights_by_output(graph, trained) is not graph:
        graphs, _ = _graphs(graph, options, by_output=True)
        memory, functions, _ = _planned(graphs, trained, options, None)
    graph = graphs["infer"]
    program = Program(
        name=options.name or model_name(Path(source).stem if source.endswith(".onnx") else source),
        functions=functions,
        params=tuple(b for b in memory.buffers.values() if b.name in memory.changing),
        flash=tuple(b for b in memory.buffers.values() if b.name not in memory.changing),
        inputs=tuple(Port(n, n, graph.type(n).shape, graph.type(n).dtype) for n in graph.inputs),
        outputs=tuple(_output_port(graph, functions["infer"].buffers, name) for name in graph.outputs),
        label=_label_port(graphs.get("train_step")),
        fma=options.fma,
        facts={"source": Path(source).name, "sha256": _digest(graph), "options": describe(options)},
        small_code=options.opt == "size",
    )
    return Compiled(verify_program(program), graphs, trained, options, source, walks)


def _planned(
    graphs: Mapping[str, Graph],
    trained: frozenset[str],
    options: Options,
    part: Callable[[int], Mapping[str, Graph]] | None,
) -> tuple[Memory, dict[str, Function], dict[str, Walk]]:
    """The functions with their buffers in memory, and how they go over the batch."""
    memory = Memory(frozenset(name for each in graphs.values() for name in each.updates), trained)
    functions = {}
    for name, each in graphs.items():
        functions[name] = plan(schedule(lower_function(name, each, memory, with_outputs=name == "infer")))
    walks = {}
    if part is not None and (options.cache is not None or options.walk is not None):
        walks = _walk(functions, graphs, memory, options, part)
    return memory, functions, walks


def _walk(
    functions: dict[str, Function],
    graphs: Mapping[str, Graph],
    memory: Memory,
    options: Options,
    part: Callable[[int], Mapping[str, Graph]],
) -> dict[str, Walk]:
    """Puts walks in the place of the functions for which they pay; gives what was decided."""
    batch = graphs["infer"].type(graphs["infer"].inputs[0]).shape[0]
    weights = sum(graphs["infer"].data[name].nbytes for name in graphs["infer"].parameters())
    walks = {}
    for name in ("infer", "train_step"):
        if name not in graphs:
            continue
        if options.walk is not None:
            walk = asked(options.walk, batch)
        elif options.quant:
            walk = Walk(batch, 1, "quantized layers take all samples at once")
        else:
            assert options.cache is not None
            walk = choose(functions[name], batch, options.cache, weights)
        if walk.parts > 1:
            try:
                each = part(walk.samples)[name]
                found = roles(graphs[name], each, walk.parts)
            except UserError:
                found = Roles(against=f"the model takes no batch of {walk.samples}")
            if not found.against:
                lowered = lower_function(name, each, memory, name == "infer", walk.parts, found.role)
                functions[name] = plan(schedule(lowered))
            elif options.walk is not None and (name == "train_step" or "train_step" not in graphs):
                raise UserError(f"the batch cannot be walked: {found.against}", where="--walk", hint="--walk 0")
            else:
                walk = Walk(batch, 1, found.against)
        walks[name] = walk
    return walks


def _saved(graph: Graph) -> Mapping[str, Array]:
    """What the model file keeps for quantizers."""
    return {name.removeprefix(SAVED): value for name, value in graph.data.items() if name.startswith(SAVED)}


def _samples(graph: Graph, given: Callable[[TensorType], Array] | None) -> Callable[[], Array] | None:
    """Gives samples in the layout of the graph's input, as many as fill whole batches."""
    if given is None:
        return None
    side = graph.interface[graph.inputs[0]]
    batch = side.shape[0]

    def inside() -> Array:
        samples = given(TensorType(side.shape))
        if len(samples) < batch:
            what = f"{len(samples)} samples to calibrate on are fewer than a batch of {batch}"
            raise UserError(what, where="--calibrate")
        starts = range(0, len(samples) - batch + 1, batch)
        return np.concatenate([side.inward(samples[start : start + batch]) for start in starts])

    return inside


def _node_order(graph: Graph, function: Function) -> list[str]:
    """Node names; a node that takes several steps comes where the first of its outputs is written.

    A copy of an input in another layout is a step of the node too, and may be made long before.
    """
    computed = {name for node in graph.nodes for name in node.outputs}
    writers = [step.node for step in function.steps if computed.intersection(step.writes())]
    silent = {step.node for step in function.steps} - set(writers)
    return [step.node for step in function.steps if step.node in silent or computed.intersection(step.writes())]


def describe(options: Options) -> str:
    """The options that shape the generated code, as on the command line."""
    words = [f"--quant {Path(options.quant.text).name}"] if options.quant else []
    words += [f"--train {options.train}"]
    if options.train != "none":
        training = options.training
        words += [f"--loss {training.loss}", f"--optimizer {training.optimizer}"]
        words += [f"--accumulate {training.accumulate}"] if training.accumulate > 1 else []
        words += ["--atomic"] if training.atomic else []
        words += [f"--batch-norm {training.batch_norm}"] if training.batch_norm != "batch" else []
        words += [f"save={training.save}"] if training.save != "least" else []
        words += [f"--save {options.save.text}"] if options.save.text else []
    words += [f"--batch {options.batch}"] if options.batch is not None else []
    words += [f"--shape {name}={','.join(map(str, shape))}" for name, shape in options.shapes.items()]
    words += [f"--walk {options.walk}"] if options.walk is not None else []
    words += [f"--until {options.until}"] if options.until else []
    words += [f"--opt {options.opt}"] if options.opt != "speed" else []
    return " ".join([*words, f"--fma {'on' if options.fma else 'off'}"])


def model_name(text: str) -> str:
    """A lower-case C identifier that still reads like the text, and whose functions are nobody else's."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "model"
    name = f"m{name}" if name[0].isdigit() else name
    return f"{name}_model" if name in taken_names() else name


def layer_names(graph: Graph) -> Sequence[str]:
    """The layers that an update scheme may name."""
    return [layer.name for layer in layers(graph)]


def _output_port(graph: Graph, buffers: Mapping[str, object], name: str) -> Port:
    returned = f"{name} returned"
    return Port(name, returned if returned in buffers else name, graph.type(name).shape, graph.type(name).dtype)


def _label_port(graph: Graph | None) -> Port | None:
    if graph is None or graph.label is None:
        return None
    return Port("label", graph.label, graph.type(graph.label).shape, graph.type(graph.label).dtype)


def _digest(graph: Graph) -> str:
    """Identifies structure and weights: the same model gives the same firmware."""
    digest = hashlib.sha256()
    for node in graph.nodes:
        digest.update(repr((node.name, node.op, node.inputs, node.outputs)).encode())
    for name in sorted(graph.data):
        digest.update(name.encode() + graph.data[name].tobytes())
    return digest.hexdigest()


def check_trainable(compiled: Compiled) -> None:
    """Raises UserError unless there is a training step."""
    if not compiled.trainable:
        raise UserError("the model was compiled for inference only", where="--train none", hint="use --train all")
