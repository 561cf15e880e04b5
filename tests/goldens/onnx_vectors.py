"""ONNX's conformance vectors for the operators that Stable Diffusion needs, from PyPI's `onnx` package (Apache-2.0).

Two sources inside the package: the backend node tests (made by its own numpy references when imported, seeded there) and
the models in backend/test/data/pytorch-*, which PyTorch computed and whose weights lie in the model. Writes
onnx.safetensors with `<case>/<input or output name>` and onnx.json with one entry per case: op, attributes (defaults
filled in where a reader needs them), inputs and outputs in the operator's order with shapes. Layouts are ONNX's own (NCHW).
"""

import warnings
from pathlib import Path

import numpy
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.loader import load_model_tests
from safetensors.numpy import save_file

from common import HERE, write_json

# What the operator assumes where the node says nothing.
DEFAULTS = {
    "Conv": {"group": 1},
    "GroupNormalization": {"epsilon": 1e-5},
    "LayerNormalization": {"axis": -1, "epsilon": 1e-5},
    "Softmax": {"axis": -1},
    "Gelu": {"approximate": "none"},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    "Attention": {"is_causal": 0},
    "MatMul": {},
    "Resize": {"mode": "nearest"},
    "Upsample": {"mode": "nearest"},
}


def attributes(node):
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    found = {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}
    found = {**DEFAULTS[node.op_type], **found}
    return {k: round(v, 12) if isinstance(v, float) else v for k, v in found.items()}


def wanted(node, given, inputs, outputs):
    """Whether the case maps to one of our kernels."""
    arrays = [a for a in [*inputs, *outputs] if a is not None]
    if node.op_type not in DEFAULTS or any(a.dtype != numpy.float32 for a in arrays if a.dtype != numpy.int64):
        return False
    if node.op_type == "Conv":
        return inputs[0].ndim == 4
    if node.op_type == "Attention":  # plain heads: no mask, cache, soft cap, window or grouped queries; one output
        q, k = inputs[0].shape, inputs[1].shape
        return len(inputs) == 3 and len(outputs) == 1 and len(q) == 4 and q[1] == k[1] and set(given) <= {"is_causal", "scale"}
    if node.op_type in ("Resize", "Upsample"):  # nearest, each input value repeated in both directions
        if given["mode"] != "nearest" or outputs[0].ndim != 4:
            return False
        repeats = [o // i for o, i in zip(outputs[0].shape, inputs[0].shape)]
        picture = inputs[0]
        for axis, count in enumerate(repeats):
            picture = picture.repeat(count, axis)
        return min(repeats) >= 1 and max(repeats) > 1 and numpy.array_equal(picture, outputs[0])
    return True


def spelled_out(given, x, w):
    """A convolution's geometry with nothing left to defaults; pads are top, left, bottom, right."""
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    pads = given.get("pads", [0, 0, 0, 0])
    mode = given.pop("auto_pad", "NOTSET")
    if mode.startswith("SAME"):  # output = ceil(input / stride); the odd one goes first for SAME_LOWER, last for SAME_UPPER
        total = [max((-(-i // s) - 1) * s + d * (k - 1) + 1 - i, 0) for i, s, d, k in zip(x[2:], strides, dilations, w[2:])]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = more + less if mode == "SAME_LOWER" else less + more
    return {"strides": strides, "dilations": dilations, "pads": pads, "kernel_shape": list(w[2:])}


def node_cases():
    for case in load_model_tests(kind="node"):
        node = case.model.graph.node
        if len(node) == 1 and node[0].op_type in DEFAULTS:
            inputs, outputs = case.data_sets[0]
            yield case.name, node[0], list(inputs), list(outputs), "node"


def pytorch_cases():
    """Models of a single interesting node; its weights become inputs."""
    for kind in ("pytorch-converted", "pytorch-operator"):
        for case in sorted(load_model_tests(kind=kind), key=lambda c: c.name):
            folder = Path(case.model_dir)
            graph = onnx.load(folder / "model.onnx").graph
            if len(graph.node) != 1 or graph.node[0].op_type not in DEFAULTS:
                continue
            values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
            free = [i.name for i in graph.input if i.name not in values]
            for i, name in enumerate(free):
                values[name] = read_tensor(folder / f"test_data_set_0/input_{i}.pb")
            node = graph.node[0]
            if all(n in values for n in node.input):
                yield case.name, node, [values[n] for n in node.input], [read_tensor(folder / "test_data_set_0/output_0.pb")], kind


def read_tensor(path):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def main():
    warnings.simplefilter("ignore")
    names = {"Conv": "x w b", "GroupNormalization": "x scale bias", "LayerNormalization": "x scale bias", "Gemm": "a b c",
             "MatMul": "a b", "Attention": "q k v"}
    tensors, index = {}, []
    for name, node, inputs, outputs, source in sorted([*node_cases(), *pytorch_cases()], key=lambda c: (c[1].op_type, c[0])):
        given = attributes(node)
        if not wanted(node, given, inputs, outputs):
            continue
        if node.op_type == "Softmax" and source != "node":
            given["axis"] = dict((a.name, a.i) for a in node.attribute).get("axis", 1)
            if given["axis"] not in (-1, inputs[0].ndim - 1):
                continue  # the older operator flattened the axes from `axis` on
        if node.op_type == "Conv":
            given.update(spelled_out(given, inputs[0].shape, inputs[1].shape))
            if inputs[0].size > 100_000:  # one of 20 images says as much
                inputs[0], outputs[0] = inputs[0][:1], outputs[0][:1]
        if node.op_type == "LayerNormalization":
            outputs = outputs[:1]  # the others are the mean and the inverse deviation
        if node.op_type in ("Resize", "Upsample"):
            inputs = inputs[:1]
            given = {"mode": "nearest", "repeats": [o // i for o, i in zip(outputs[0].shape, inputs[0].shape)]}
        entry = {"name": name, "op": node.op_type, "source": source, "attributes": given, "inputs": {}, "outputs": {}}
        labels = names.get(node.op_type, "x").split()
        for kind, group in (("inputs", zip(labels, inputs)), ("outputs", zip("y", outputs))):
            for label, value in group:
                tensors[f"{name}/{label}"] = numpy.ascontiguousarray(value)
                entry[kind][label] = list(value.shape)
        index.append(entry)
    save_file(tensors, HERE / "onnx.safetensors")
    write_json(HERE / "onnx.json", index, width=160)
    for op in DEFAULTS:
        print(op, sum(e["op"] == op for e in index))


if __name__ == "__main__":
    main()
