"""A torch.export program as JSON, held to what its graph needs before torch may see it.

``torch.export.load`` would unpickle sample inputs and custom objects, evaluate sizes as Python, look operators up
anywhere below ``torch`` and turn names into source code. So nothing of a program reaches torch here but names that are
names, operators of a list, and sizes that are arithmetic over symbols. What serving does not need (stack traces,
guards, the caller's containers) is left out. Needs only the standard library.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from modelport.errors import ArtifactRefused

SCHEMA = 8
"""Major version of torch's program schema that is understood."""
_DEEPEST = 60
_NAME = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,499})?")
_DOTTED = re.compile(r"[A-Za-z0-9_]{1,200}(\.[A-Za-z0-9_]{1,200}){0,60}")
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|torchvision)\.(?!_?_?(?:save|from_file)\b)(_?[A-Za-z]\w*|__i?(and|or|xor|lshift|rshift)__)"
    r"(\.[A-Za-z]\w*)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|associative_scan|flex_attention"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum)|torch\._sym_(sqrt|log2)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem|lshift|rshift)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
_IN_SIZES = frozenset(
    [
        "Symbol",
        "Integer",
        "Rational",
        "Float",
        "Add",
        "Mul",
        "Pow",
        "Max",
        "Min",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CeilDiv",
        "CleanDiv",
        "ModularIndexing",
        "Where",
        "CeilToInt",
        "FloorToInt",
        "TruncToInt",
        "TruncToFloat",
        "RoundToInt",
        "RoundDecimal",
        "ToFloat",
        "PowByNatural",
        "FloatPow",
        "FloatTrueDiv",
        "IntTrueDiv",
        "LShift",
        "RShift",
        "Identity",
        "Abs",
        "Not",
        "And",
        "Or",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "Equality",
        "Unequality",
        "LessThan",
        "StrictLessThan",
        "GreaterThan",
        "StrictGreaterThan",
        "floor",
        "ceiling",
    ]
)
_ARITHMETIC = (
    ast.Expression, ast.Call, ast.Constant, ast.keyword, ast.Load, ast.Name, ast.UnaryOp, ast.USub, ast.Not, ast.BinOp,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.Compare, ast.Eq, ast.NotEq, ast.Lt,
    ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip
#: Keys whose value is a name in the graph, and those whose value is a dotted name of a parameter or buffer.
_NAMES = {"name", "as_name", "as_graph_name", "user_input_name"}
_DOTTED_NAMES = {"parameter_name", "buffer_name", "tensor_constant_name", "fqn", "original_fqn"}
#: Keys whose value is a mapping by names of the graph.
_BY_NAME = {"tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values"}
_OBJECTS = {"custom_obj", "as_custom_obj", "custom_obj_values", "as_token", "token"}


def checked(program: dict[str, Any]) -> dict[str, Any]:
    """The program, cleaned in place; raises ArtifactRefused naming what it does not accept."""
    version = program.get("schema_version")
    major = version.get("major") if isinstance(version, dict) else None
    if major != SCHEMA:
        raise ArtifactRefused(
            f"the program has torch's schema {str(major)[:20]}, and this release reads {SCHEMA}: "
            "save it again with torch.export.save of torch 2.13, or a release near to it"
        )
    try:
        module = program["graph_module"]
        root = next(entry for entry in module["module_call_graph"] if entry["fqn"] == "")
        module["module_call_graph"], module["metadata"], module["treespec_namedtuple_fields"] = [], {}, {}
        program["guards_code"] = []
        _check(program, 0)
        _check_verifiers(program)
        for name, bounds in program["range_constraints"].items():
            _name(name)
            if set(bounds) - {"min_val", "max_val"} or any(type(v) not in (int, type(None)) for v in bounds.values()):
                raise ArtifactRefused("a range of the program is not two numbers: save it again with torch.export.save")
        module["module_call_graph"] = [root]
    except (KeyError, TypeError, AttributeError, StopIteration):
        raise ArtifactRefused("the exported program is damaged: save it again with torch.export.save") from None
    return program


def _check_verifiers(program: dict[str, Any]) -> None:
    unknown = set(program["verifiers"]) - {"TRAINING", "ATEN"}
    if unknown:
        raise ArtifactRefused(
            "the program is written in a dialect other than ATen (for another backend): push what it was made from"
        )


def _check(node: Any, depth: int) -> None:
    """Walk the JSON; every key that torch would act on is held to its own rule."""
    if depth > _DEEPEST:
        raise ArtifactRefused("the exported program is nested too deeply: export a simpler module")
    if isinstance(node, list):
        for child in node:
            _check(child, depth + 1)
        return
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in _OBJECTS:
            if value:
                raise ArtifactRefused(
                    "the program holds a custom object, which is a pickle, and no pickle is accepted: "
                    "export a module whose state is tensors only"
                )
        elif key == "metadata":
            node[key] = {}
            continue
        elif key in ("target", "as_operator"):
            _operator(value)
        elif key == "expr_str":
            _size(value)
        elif key in _NAMES and value is not None:
            _name(value)
        elif key in _DOTTED_NAMES:
            _dotted(value)
        elif key == "device" and isinstance(value, dict) and value.get("type") not in ("cpu", "meta"):
            raise ArtifactRefused(
                f"the program was exported on {str(value.get('type'))[:20]!r}: move model and inputs to the CPU "
                "and export again"
            )
        elif key in _BY_NAME:
            for name in value:
                _name(name)
        _check(value, depth + 1)


def _name(value: Any) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ArtifactRefused(f"the program has a name that is no name: {str(value)[:80]!r}")


def _dotted(value: Any) -> None:
    if not isinstance(value, str) or (value and not _DOTTED.fullmatch(value)):
        raise ArtifactRefused(f"the program has a parameter called {str(value)[:80]!r}, which is no name")


def _operator(value: Any) -> None:
    if not isinstance(value, str) or not _OPERATOR.fullmatch(value):
        raise ArtifactRefused(
            f"operator {str(value)[:120]!r} is not one of PyTorch's own and is not run here: "
            "export the model with standard operators, or to ONNX"
        )


def _size(value: Any) -> None:
    """A size is arithmetic over symbols: torch would evaluate it as Python."""
    try:
        tree = ast.parse(value, mode="eval") if isinstance(value, str) and len(value) <= 10_000 else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None or not all(_is_arithmetic(node) for node in ast.walk(tree)):
        raise ArtifactRefused(f"the program has a size that is not arithmetic: {str(value)[:80]!r}")


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _IN_SIZES or re.fullmatch(r"[a-z]{1,3}\d{1,6}", node.id) is not None
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _IN_SIZES
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float, bool) or (
            isinstance(node.value, str) and _NAME.fullmatch(node.value) is not None
        )
    return isinstance(node, _ARITHMETIC)
