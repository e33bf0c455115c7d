"""No module imports one that imports it, not even for its types."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import skylake

SOURCE = Path(skylake.__file__).parents[1]


def modules() -> dict[str, Path]:
    """Return the file of each module of the package."""
    files = sorted((SOURCE / "skylake").rglob("*.py"))
    return {".".join(file.relative_to(SOURCE).with_suffix("").parts): file for file in files}


def imported(file: Path, known: set[str]) -> set[str]:
    """Return the modules that a file imports anywhere; a name of a package is its `__init__`."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {module_of(name.name, known) for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            whole = module_of(node.module, known)
            found |= {module_of(f"{node.module}.{name.name}", known) or whole for name in node.names}
    return {name for name in found if name is not None}


def module_of(name: str, known: set[str]) -> str | None:
    """Return the module or package of a name; None for names inside of one, and those of others."""
    return next((module for module in (name, f"{name}.__init__") if module in known), None)


def test_there_is_no_circle_of_imports() -> None:
    files = modules()
    graph = {name: imported(file, set(files)) - {name} for name, file in files.items()}
    assert len(graph) > 100
    tuple(TopologicalSorter(graph).static_order())


def test_a_circle_would_be_found(tmp_path: Path) -> None:
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from b import thing\n")
    second.write_text("def late() -> None:\n    import a\n")
    assert imported(first, {"a", "b"}) == {"b"}
    assert imported(second, {"a", "b"}) == {"a"}
