"""Reading ONNX files, with an error that says what to do for every way in which a file can be broken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import UserError

if TYPE_CHECKING:
    from onnx import ModelProto, TypeProto

OLDEST_OPSET = 6


def read_model(source: str | Path | ModelProto) -> tuple[str, ModelProto]:
    """A model and its name.

    Args:
        source: an ONNX file, the name of a model of the zoo, or a model that is loaded already.

    Raises:
        UserError: no such file or zoo model; not an ONNX file or a truncated one; weights in a missing external file;
            an opset older than 6 or newer than the installed onnx package.
    """
    if not isinstance(source, str | Path):
        return source.graph.name or "model", _checked(source, "model")
    path = Path(source)
    if path.is_file():
        return path.stem, _checked(_read_file(path), str(path))
    from toolkit.zoo import build, zoo_names

    if str(source) in zoo_names():
        return str(source), build(str(source))
    if path.suffix == ".onnx" or len(path.parts) > 1:
        raise UserError("no such file", where=str(source))
    from toolkit.zoo import nearest

    raise UserError(
        f"'{source}' is neither a file nor a model of the zoo",
        hint=f"did you mean {nearest(str(source))}? The zoo has {', '.join(zoo_names())}",
    )


def _read_file(path: Path) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model(str(path), format="protobuf", load_external_data=False)
    except (DecodeError, ValueError, UnicodeDecodeError) as problem:
        raise UserError(
            "not an ONNX file, or a truncated one", where=str(path), hint="export the model again, or fetch it again"
        ) from problem
    except OSError as problem:
        raise UserError(f"cannot be read: {problem.strerror or problem}", where=str(path)) from problem
    _load_external_data(model, path)
    return model


def _load_external_data(model: ModelProto, path: Path) -> None:
    """Reads weights that are kept in files beside the model."""
    from onnx import TensorProto
    from onnx.external_data_helper import load_external_data_for_model

    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if not (path.parent / location).is_file():
            raise UserError(
                f"the weights of {tensor.name} are in the file '{location}', which is missing",
                where=str(path),
                hint=f"put '{location}' beside the model, or save the model as one file",
            )
    try:
        load_external_data_for_model(model, str(path.parent))
    except Exception as problem:
        raise UserError(f"its external weights cannot be read: {problem}", where=str(path)) from problem


def _checked(model: ModelProto, where: str) -> ModelProto:
    """The model, functions of its own inlined. Raises UserError where it is no complete model."""
    import onnx

    if not model.ir_version or not model.opset_import:
        raise UserError("not an ONNX file, or a truncated one", where=where, hint="export the model again")
    if not model.graph.output:
        raise UserError("the model has no outputs", where=where)
    opset = opset_of(model)
    newest = onnx.defs.onnx_opset_version()
    if opset < OLDEST_OPSET:
        raise UserError(
            f"the model uses opset {opset}; {OLDEST_OPSET} is the oldest supported",
            where=where,
            hint="convert it: onnx.version_converter.convert_version(model, 13)",
        )
    if opset > newest:
        raise UserError(
            f"the model uses opset {opset}; the installed onnx {onnx.__version__} knows {newest}",
            where=where,
            hint="pip install --upgrade onnx",
        )
    if model.functions:
        from onnx.inliner import inline_local_functions

        return inline_local_functions(model)
    return model


def opset_of(model: ModelProto) -> int:
    """The opset of the standard operators; the newest known for a model that imports none."""
    import onnx

    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return int(max(versions)) if versions else int(onnx.defs.onnx_opset_version())


def dtype_name(element_type: int) -> str:
    """The name of an ONNX element type: float32, int8, bfloat16."""
    from onnx import TensorProto, helper

    if element_type == TensorProto.UNDEFINED:
        return "undefined"
    try:
        return str(helper.tensor_dtype_to_np_dtype(element_type))
    except KeyError:
        return str(TensorProto.DataType.Name(element_type)).lower()


def input_shape(
    name: str, type: TypeProto, batch: int | None, shapes: Mapping[str, tuple[int, ...]], where: str
) -> tuple[int, ...]:
    """The fixed shape of a graph input.

    Args:
        batch: takes the place of the first dimension, dynamic or not; where None, a dynamic first dimension is 1.
        shapes: full shapes by input name; they win.

    Raises:
        UserError: another dimension is dynamic, or a given shape contradicts the model.
    """
    dimensions = type.tensor_type.shape.dim
    known = [int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None for d in dimensions]
    shown = "x".join(str(n) if n else (d.dim_param or "?") for n, d in zip(known, dimensions, strict=True))
    if name in shapes:
        given = tuple(shapes[name])
        fits = len(given) == len(known) and all(n in (None, m) for n, m in zip(known[1:], given[1:], strict=True))
        if not type.tensor_type.HasField("shape"):
            fits = True
        if not fits or any(n < 1 for n in given):
            raise UserError(f"input '{name}' is {shown}; it cannot be {'x'.join(map(str, given))}", where=where)
        return given
    if not type.tensor_type.HasField("shape"):
        raise UserError(
            f"input '{name}' has no shape", where=where, hint=f"give one: --shape {name}=1,3,32,32 (for example)"
        )
    if known and batch is not None:
        known[0] = batch
    elif known and known[0] is None:
        known[0] = 1
    if None in known:
        example = ",".join(str(n or "N") for n in known)
        raise UserError(
            f"input '{name}' is {shown}: sizes must be known when compiling",
            where=where,
            hint=f"give its shape: --shape {name}={example}, with numbers for N",
        )
    return tuple(n for n in known if n is not None)


def attributes(node: Any) -> dict[str, Any]:
    """Attributes of a node as int, float, str, list or array; subgraphs are left out."""
    from onnx import AttributeProto, helper, numpy_helper

    values: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            values[attribute.name] = numpy_helper.to_array(attribute.t)
        elif attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            continue
        else:
            value = helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            elif isinstance(value, int | float):
                pass
            else:
                value = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in value]
            values[attribute.name] = value
    return values
