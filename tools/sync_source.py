"""The text of async classes and functions, as ``tools/gen_sync.py`` needs it."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TypeAlias

__all__ = ["Function", "Mistake", "Source", "arguments_of", "deleted_by", "is_named", "item_of", "names_in", "shape_of"]

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Mistake(Exception):
    """The table and the source do not fit each other, or the source has something that no rule is for."""


class Source:
    """One file of async code."""

    def __init__(self, root: Path, file: str) -> None:
        text = (root / file).read_text(encoding="utf-8")
        self.file = file
        self.lines = text.splitlines()
        self.tree = ast.parse(text)
        module = file.removesuffix(".py").replace("/", ".")
        self._homes: dict[str, str] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                home = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                self._homes.update({alias.asname or alias.name: home for alias in node.names})
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self._homes[node.target.id] = module
            elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                self._homes[node.name] = module

    def class_(self, name: str) -> ast.ClassDef:
        """The class of that name."""
        return next((node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == name), None) or self._missing(name)

    def function(self, name: str) -> ast.AsyncFunctionDef:
        """The coroutine function or async generator of that name."""
        return next((node for node in self.tree.body if isinstance(node, ast.AsyncFunctionDef) and node.name == name), None) or self._missing(name)

    def _missing(self, name: str) -> NoReturn:
        raise Mistake(f"{self.file} has no {name}")

    def home(self, name: str) -> str | None:
        """The module to import a name from; ``""`` for a module, ``None`` for a built-in name."""
        if name not in self._homes and hasattr(builtins, name):
            return None
        if name.startswith("_") or name not in self._homes:
            raise Mistake(f"{self.file}: {name} stands in a public signature, and cannot be imported")
        return self._homes[name]

    def docstring(self, node: ast.ClassDef | Function) -> str:
        """As it stands in the file, with its quotes and its indentation (but for the first line's)."""
        first = node.body[0]
        if ast.get_docstring(node) is None:
            raise Mistake(f"{self.file}: {node.name} has no docstring of its own lines")
        return "\n".join(self.lines[first.lineno - 1 : first.end_lineno]).strip()

    def signature(self, node: Function) -> tuple[list[str], bool, str]:
        """Its parameters as they stand in the file, whether each has a line of its own, and what follows them, the colon included."""
        if node.body[0].lineno == node.lineno:
            raise Mistake(f"{self.file}: {node.name} has no docstring of its own lines")
        lines = [re.sub(r"\s*# noqa.*", "", line) for line in self.lines[node.lineno - 1 : node.body[0].lineno - 1]]
        text = "\n".join(lines)
        start, depth, parameters = text.index("(") + 1, 0, list[str]()
        for position, character in enumerate(text[start:], start):
            depth += (character in "([{") - (character in ")]}")
            if depth < 0 or (depth == 0 and character == ","):
                parameters.append(text[start:position].strip())
                start = position + 1
            if depth < 0:
                return [each for each in parameters if each], not parameters[-1], text[position + 1 :].partition("\n")[0]
        raise Mistake(f"{self.file}: the signature of {node.name} has no end")


def arguments_of(node: Function, *, skip: int = 0) -> dict[str, str]:
    """The parameters by name, and how each is passed on."""
    arguments = {each.arg: each.arg for each in [*node.args.posonlyargs, *node.args.args][skip:]}
    if node.args.vararg:
        arguments[node.args.vararg.arg] = f"*{node.args.vararg.arg}"
    arguments.update({each.arg: f"{each.arg}={each.arg}" for each in node.args.kwonlyargs})
    if node.args.kwarg:
        arguments[node.args.kwarg.arg] = f"**{node.args.kwarg.arg}"
    return arguments


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a function, but not in those inside it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _own(child)


def deleted_by(node: Function) -> set[str]:
    """The parameters that a function deletes: they are secrets (SH-5)."""
    return {target.id for each in _own(node) if isinstance(each, ast.Delete) for target in each.targets if isinstance(target, ast.Name)}


def is_named(node: Function, decorator: str) -> bool:
    """Whether a function has this decorator."""
    return any(ast.unparse(each).rpartition(".")[2] == decorator for each in node.decorator_list)


def item_of(node: Function, *containers: str) -> str | None:
    """What a function gives in one of those containers, if its annotation says so."""
    returns = node.returns
    if not isinstance(returns, ast.Subscript) or ast.unparse(returns.value) not in containers:
        return None
    inner = returns.slice
    return ast.unparse(inner.elts[0] if isinstance(inner, ast.Tuple) else inner)


def names_in(node: Function, *, skip: int = 0) -> Iterator[str]:
    """The names in a signature, but for those of the first parameters."""
    arguments = [*[*node.args.posonlyargs, *node.args.args][skip:], *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    annotations = [each.annotation for each in arguments if each is not None]
    for part in [*annotations, node.returns, *node.args.defaults, *node.args.kw_defaults]:
        for each in ast.walk(part) if part is not None else ():
            if isinstance(each, ast.Name):
                yield each.id


def shape_of(node: Function, more: str = "") -> tuple[str, str]:
    """What a function takes and gives."""
    return ast.unparse(node.args), ast.unparse(node.returns or ast.Constant(None)) + more
