"""The rules of DESIGN, section 2, hold in `src`; and each rule can fail."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.architecture import imports, shape
from tests.architecture.source import Module, module_of, shipped_modules

Rule = Callable[[Iterable[Module]], Iterator[str]]
RULES: list[Rule] = [
    imports.rooms,
    imports.doors,
    imports.quiet,
    imports.cycles,
    shape.file_sizes,
    shape.body_sizes,
    shape.depths,
    shape.words,
    shape.docstrings,
    shape.dataclasses,
]
MODULES = shipped_modules()
EXEMPTIONS = tomllib.loads(
    (Path(__file__).parent / "architecture" / "exemptions.toml").read_text()
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_shipped_modules_keep_the_rule(rule: Rule) -> None:
    """No module breaks the rule, but for what the list of exemptions names."""
    exempt = EXEMPTIONS.get(rule.__name__, [])
    used = set()
    broken = []
    for found in rule(MODULES):
        for index, entry in enumerate(exempt):
            if found.startswith(entry["starts"]) and entry["holds"] in found:
                used.add(index)
                break
        else:
            broken.append(found)
    assert broken == []
    assert used == set(range(len(exempt))), "an exemption that nothing needs"


def test_each_exemption_names_a_rule() -> None:
    """A misspelt rule in the list of exemptions does not go unseen."""
    assert set(EXEMPTIONS) <= {rule.__name__ for rule in RULES}


def test_there_are_modules_to_check() -> None:
    """The rules do not hold merely because nothing was read."""
    assert {"skerry", "skerry.core.errors"} <= {module.name for module in MODULES}


LONG_BODY = "    x = 1\n" * 61
BROKEN: list[tuple[Rule, dict[str, str]]] = [
    (imports.rooms, {"core/a.py": "import skerry.graph.files"}),
    (imports.rooms, {"core/a.py": "from skerry import graph"}),
    (
        imports.rooms,
        {"adapt/a.py": "import skerry.compress.ptq.qdq"},
    ),
    (imports.rooms, {"tasks/a.py": "def f():\n    import skerry.adapt"}),
    (imports.rooms, {"edge/a.py": "from skerry.cloud import hub"}),
    (imports.rooms, {"evolve/a.py": "from skerry.comms import memory"}),
    (imports.rooms, {"core/a.py": "import_module('skerry.app.main')"}),
    (imports.rooms, {"app/a.py": "from skerry.testing import FakeClock"}),
    (imports.rooms, {"attic/a.py": ""}),
    (imports.doors, {"graph/files.py": "import onnx"}),
    (imports.doors, {"graph/files.py": "def f():\n    from onnx_ir import passes"}),
    (imports.doors, {"tasks/steps.py": "from PIL import Image"}),
    (imports.doors, {"app/main.py": "importlib.import_module('torch')"}),
    (imports.quiet, {"core/a.py": "import time"}),
    (imports.quiet, {"evolve/a.py": "from random import Random"}),
    (imports.quiet, {"core/a.py": "import asyncio.events"}),
    (
        imports.cycles,
        {"core/a.py": "from skerry.core import b", "core/b.py": "import skerry.core.a"},
    ),
    (
        imports.cycles,
        {
            "core/a.py": "from skerry.core.b import X",
            "core/b.py": "from skerry.core.c import X",
            "core/c.py": "def f():\n    from skerry.core.a import X",
        },
    ),
    (shape.file_sizes, {"core/a.py": "x = 1\n" * 601}),
    (shape.body_sizes, {"core/a.py": f"def f():\n{LONG_BODY}"}),
    (shape.body_sizes, {"core/a.py": f"async def f():\n    '''D.'''\n{LONG_BODY}"}),
    (shape.depths, {"app/b/c/d/e.py": ""}),
    (shape.words, {"core/manager.py": ""}),
    (shape.words, {"core/a.py": "class ModelHandler: ..."}),
    (shape.words, {"core/a.py": "class HTTPHelper: ..."}),
    (shape.words, {"core/a.py": "def do_it(): ..."}),
    (shape.words, {"core/a.py": "def f(base): ..."}),
    (shape.words, {"core/a.py": "model_info = 1"}),
    (shape.words, {"core/a.py": "self.data = 1"}),
    (shape.words, {"core/a.py": "import x as common"}),
    (shape.docstrings, {"core/a.py": "x = 1"}),
    (shape.docstrings, {"core/a.py": "'''M.'''\ndef f(): ..."}),
    (
        shape.docstrings,
        {"core/a.py": "'''M.'''\nclass A:\n    '''C.'''\n    def f(): ..."},
    ),
    (shape.dataclasses, {"core/a.py": "@dataclass\nclass A: ..."}),
    (shape.dataclasses, {"core/a.py": "@dataclass(frozen=True)\nclass A: ..."}),
    (
        shape.dataclasses,
        {"core/a.py": "@dataclass(frozen=True, slots=True)\nclass A: ..."},
    ),
]


@pytest.mark.parametrize(("rule", "sources"), BROKEN)
def test_the_rule_can_fail(rule: Rule, sources: dict[str, str]) -> None:
    """A small source that breaks the rule is found."""
    modules = [module_of(text, f"skerry/{place}") for place, text in sources.items()]
    assert list(rule(modules)) != []


KEPT: list[tuple[Rule, dict[str, str]]] = [
    (imports.rooms, {"app/a.py": "import skerry.adapt, skerry.core.errors"}),
    (imports.rooms, {"app/a.py": "import skerry\nfrom skerry import __version__"}),
    (imports.doors, {"graph/_onnx.py": "import onnx, onnx_ir"}),
    (imports.quiet, {"core/clock.py": "import time"}),
    (imports.quiet, {"app/a.py": "import subprocess"}),
    (imports.cycles, {"core/a.py": "import skerry.core.b", "core/b.py": ""}),
    (shape.body_sizes, {"core/a.py": f"def f():\n    '''D{LONG_BODY}'''\n    x = 1"}),
    (shape.depths, {"app/b/c/d.py": ""}),
    (shape.words, {"core/a.py": "class Dataset: metadata = database = 1"}),
    (shape.dataclasses, {"core/a.py": "class Graph: ..."}),
]


@pytest.mark.parametrize(("rule", "sources"), KEPT)
def test_the_rule_lets_good_code_pass(rule: Rule, sources: dict[str, str]) -> None:
    """A small source that keeps the rule is not found."""
    modules = [module_of(text, f"skerry/{place}") for place, text in sources.items()]
    assert list(rule(modules)) == []
