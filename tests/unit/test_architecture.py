"""Architecture: rooms form no circle of imports, and what is imported is what setup.py declares."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "hcpl_kernel"
# Distributions whose module has another name.
MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "umap-learn": "umap",
    "lightning-fabric": "lightning_fabric",
    "ipython": "IPython",
    "pydantic-core": "pydantic_core",
    "typing-extensions": "typing_extensions",
}
# Imported without being declared: comes with torch where torch has kernels for GPUs, in the release that fits it, and is
# looked for before it is used.
WITH_TORCH = {"triton"}
# Declared, though no module of the package imports them.
NEEDED_BY_OTHERS = {"torchvision": "timm imports it, and it must match torch"}

Import = tuple[str, Path, int]
"""Name of the imported module, and the file and line of the import."""


@cache
def imports(path: Path, root: Path = ROOT) -> list[Import]:
    """Every import of a file, inside of functions too, except those for type checkers only."""
    parts = path.relative_to(root).with_suffix("").parts

    def walk(node: ast.AST) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.orelse:
                yield from walk(child)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, path, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*parts[: len(parts) - node.level], *([node.module] if node.module else [])])
            module = base if node.level else node.module or ""
            for alias in node.names:
                yield f"{module}.{alias.name}", path, node.lineno
        elif isinstance(node, ast.Call) and called(node) == "import_module":
            yield from ((str(a.value), path, node.lineno) for a in node.args[:1] if isinstance(a, ast.Constant))
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    return list(walk(ast.parse(path.read_text(encoding="utf-8"))))


def called(call: ast.Call) -> str:
    """Name of the called function or method."""
    return getattr(call.func, "id", "") or getattr(call.func, "attr", "")


def rooms_of(package: Path) -> set[str]:
    """The folders and loose modules of the package. Its `__init__` is not a room."""
    return {
        path.stem
        for path in package.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
    }


def room_graph(package: Path) -> dict[str, dict[str, str]]:
    """For each room the rooms that it imports, with the place of one such import."""
    rooms = rooms_of(package)
    graph: dict[str, dict[str, str]] = {room: {} for room in rooms}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).with_suffix("").parts[0]
        if room == "__init__":
            continue
        for name, where, line in imports(path, package.parent):
            first, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if first == package.name and other in rooms and other != room:
                graph[room].setdefault(other, f"{where.relative_to(package.parent)}:{line}")
    return graph


def shortest_circle(graph: dict[str, dict[str, str]]) -> list[str]:
    """Rooms of which each imports the next and the last one the first; empty where there is no circle."""
    shortest: list[str] = []
    for start in sorted(graph):
        paths = [[start]]
        seen = {start}
        while paths:
            path = paths.pop(0)
            if start in graph[path[-1]] and (not shortest or len(path) < len(shortest)):
                shortest = path
            paths += [[*path, room] for room in sorted(graph[path[-1]]) if room not in seen]
            seen.update(graph[path[-1]])
    return shortest


def told(circle: list[str], graph: dict[str, dict[str, str]]) -> str:
    steps = zip(circle, circle[1:] + circle[:1], strict=True)
    return "; ".join(f"{one} -> {other} ({graph[one][other]})" for one, other in steps)


def test_rooms_form_no_circle() -> None:
    graph = room_graph(ROOT / PACKAGE)
    circle = shortest_circle(graph)
    assert not circle, f"rooms in a circle: {told(circle, graph)}"


def test_a_circle_would_be_found(tmp_path: Path) -> None:
    """Through a lazy import, a loose module and a relative import; an import for type checkers does not count."""
    package = tmp_path / "house"
    for room, text in {
        "kitchen": "def cook():\n    from house.cellar import wine\n",
        "cellar": "from .. import stairs\n",
        "attic": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.kitchen\n",
    }.items():
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").write_text("")
        (package / room / "thing.py").write_text(text)
    (package / "__init__.py").write_text("from house import kitchen, stairs\n")
    (package / "stairs.py").write_text("import house.attic.thing\n")
    assert shortest_circle(room_graph(package)) == []
    (package / "stairs.py").write_text("import house.kitchen.thing\n")
    imports.cache_clear()
    graph = room_graph(package)
    assert shortest_circle(graph) == ["cellar", "stairs", "kitchen"]
    expected = "cellar -> stairs (house/cellar/thing.py:1); stairs -> kitchen (house/stairs.py:1); kitchen -> cellar"
    assert told(shortest_circle(graph), graph).startswith(expected)


def declared() -> tuple[set[str], dict[str, set[str]]]:
    """Modules of `install_requires`, and those of each extra, as setup.py has them."""

    def modules(requirements: list[str]) -> set[str]:
        names = {requirement.split(">")[0].split("=")[0].split("<")[0].split(";")[0].strip() for requirement in requirements}
        return {MODULES.get(name, name) for name in names}

    call = next(
        node
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Call) and called(node) == "setup"
    )
    values = {keyword.arg: keyword.value for keyword in call.keywords}
    extras = ast.literal_eval(values["extras_require"])
    return modules(ast.literal_eval(values["install_requires"])), {name: modules(found) for name, found in extras.items()}


def third_party(folder: str) -> dict[str, str]:
    """Modules from outside of this repository that a folder imports, with one place each."""
    own = {PACKAGE, "tools", "benchmarks", "tests", *(path.stem for path in (ROOT / folder).glob("*.py"))}
    found: dict[str, str] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name, where, line in imports(path):
            module = name.partition(".")[0]
            if module not in sys.stdlib_module_names and module not in own:
                found.setdefault(module, f"{where.relative_to(ROOT)}:{line}")
    return found


@pytest.mark.parametrize("folder", [PACKAGE, "tools", "benchmarks"])
def test_what_is_imported_is_declared(folder: str) -> None:
    required, extras = declared()
    known = required.union(*extras.values())
    undeclared = {module: place for module, place in third_party(folder).items() if module not in known | WITH_TORCH}
    assert not undeclared, f"not in setup.py: {undeclared}"


def test_what_is_declared_is_imported() -> None:
    required, extras = declared()
    assert required - set(third_party(PACKAGE)) == set(NEEDED_BY_OTHERS)
    everywhere = {module for folder in (PACKAGE, "tools", "benchmarks") for module in third_party(folder)}
    assert set().union(*extras.values()) <= everywhere
