"""The documentation is true: links, commands, code, figures and names exist."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cyclopts.exceptions import CycloptsError

import skerry
from skerry.app.main import JSON_FLAG, make_app
from skerry.core import errors
from skerry.edge.protocol.routes import find_route
from skerry.tasks.task import parse_task
from tests.architecture.source import REPOSITORY, shipped_modules

PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")],
    key=lambda path: path.relative_to(REPOSITORY).as_posix(),
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
EXTRAS = set(PYPROJECT["project"]["optional-dependencies"])
MACHINE_PATH = re.compile(
    r"(?<![\w.$~>-])/(?:home|root|work|tmp|opt|Users|mnt)/\w|[a-z]:\\Users",
    re.IGNORECASE,
)
REGISTRY = re.compile(
    r"(?:pypi|npmjs|artifactory|nexus|pythonhosted|devpi)\.[a-z]|index-url|find-links"
)
TEXT_SUFFIXES = {"", ".cfg", ".css", ".html", ".json", ".md", ".py", ".toml", ".yml"}


def page_ids() -> list[str]:
    """Name the pages in the test report."""
    return [path.relative_to(REPOSITORY).as_posix() for path in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of one language in a page."""
    return [code for kind, code in BLOCK.findall(page.read_text()) if kind == language]


def headings(page: Path) -> set[str]:
    """The anchors that a page offers."""
    titles = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


def linked_files(page: Path) -> list[tuple[Path, str]]:
    """The files of the repository that a page links to, with the anchor."""
    links = LINK.findall(BLOCK.sub("", page.read_text()))
    split = (link.partition("#") for link in links if "://" not in link)
    return [
        ((page.parent / file).resolve() if file else page, anchor)
        for file, _, anchor in split
    ]


@pytest.mark.parametrize("page", PAGES, ids=page_ids())
def test_each_link_leads_somewhere(page: Path) -> None:
    """Files exist, and so do the headings inside them."""
    for file, anchor in linked_files(page):
        assert file.exists(), file
        assert not anchor or anchor in headings(file), f"{file}#{anchor}"


def test_each_page_is_reachable() -> None:
    """From docs/README.md, by links, as a reader would."""
    start = REPOSITORY / "docs" / "README.md"
    seen: set[Path] = set()
    ahead = [start]
    while ahead:
        page = ahead.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            ahead += [file for file, _ in linked_files(page)]
    assert {page for page in PAGES if page.is_relative_to(start.parent)} <= seen


def test_the_generated_parts_are_up_to_date() -> None:
    """`python docs/generate.py` would change nothing."""
    done = subprocess.run(
        [sys.executable, REPOSITORY / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


@pytest.mark.parametrize("page", PAGES, ids=page_ids())
def test_each_command_shown_exists(page: Path) -> None:
    """A line after `$` can be typed: the command, its arguments, the make target."""
    for block in blocks(page, "console"):
        for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE):
            check_command(shlex.split(line, comments=True))


@pytest.mark.parametrize("page", PAGES, ids=page_ids())
def test_each_command_named_in_a_sentence_exists(page: Path) -> None:
    """`skerry word` in the text is a command, or the first word of several."""
    known = {"skerry", *make_app()}
    for word in re.findall(r"`skerry ([a-z]+)[ `]", BLOCK.sub("", page.read_text())):
        assert word in known, word


def check_command(words: list[str]) -> None:
    """Fail if the command line could not be run as it stands."""
    program, *rest = words
    if program == "skerry":
        ours = [word for word in rest if word != JSON_FLAG]  # main takes it out first
        make_app(ours[:1]).parse_args(ours, print_error=False, exit_on_error=False)
    elif program == "curl":
        (url,) = (word for word in rest if "://" in word)
        assert find_route(urlsplit(url).path), url
    elif program == "make":
        makefile = (REPOSITORY / "Makefile").read_text()
        targets = re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE)
        assert rest[0] in targets, rest
    elif program == "pip":
        for extra in re.findall(r"\[([\w,-]+)\]", " ".join(rest)):
            assert set(extra.split(",")) <= EXTRAS, extra
    elif program == "python":
        assert (REPOSITORY / rest[0]).exists(), rest
    else:
        pytest.fail(f"the documentation shows an unknown program: {words}")


@pytest.mark.parametrize("page", PAGES, ids=page_ids())
def test_the_code_shown_imports(page: Path) -> None:
    """Each Python block compiles, and what it imports is there."""
    for block in blocks(page, "python"):
        for node in ast.parse(block).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(compile(ast.unparse(node), str(page), "exec"), {})  # noqa: S102 - our own page


@pytest.mark.parametrize("page", PAGES, ids=page_ids())
def test_each_task_file_shown_is_one(page: Path) -> None:
    """A TOML block of the task schema can be copied and used."""
    for block in blocks(page, "toml"):
        if "skerry.task/" in block:
            assert parse_task(block.encode(), name=str(page)).labels


def test_a_command_that_is_not_there_is_found_out() -> None:
    """The checks above can fail."""
    for line in ("skerry fly", "skerry doctor --x", "make tea", "pip install 'a[b]'"):
        with pytest.raises((AssertionError, CycloptsError)):
            check_command(shlex.split(line))
    with pytest.raises(pytest.fail.Exception, match="unknown program"):
        check_command(["rm"])


def test_each_error_is_documented() -> None:
    """The reference has a heading for each class of the tree."""
    documented = headings(REPOSITORY / "docs" / "reference" / "errors.md")
    classes = inspect.getmembers(errors, inspect.isclass)
    named = {name.lower() for name, kind in classes if issubclass(kind, Exception)}
    assert named <= documented


def test_the_changelog_names_the_version() -> None:
    """The first version in it is the package's."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert versions[0] == skerry.__version__


def test_the_rules_for_machine_names_can_fail() -> None:
    """They find a path and a host, and let a path of a user's through."""
    assert MACHINE_PATH.search("see /home/" + "me/x")
    assert REGISTRY.search("https://pypi." + "org/simple")
    assert not MACHINE_PATH.search("out/tmp/x, tests/work/y, ~/home/z")


def test_no_machine_is_named() -> None:
    """No tracked text holds a path of somebody's machine or a package index."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        path = REPOSITORY / name
        if path.suffix not in TEXT_SUFFIXES or not path.is_file():
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for rule in (MACHINE_PATH, REGISTRY):
                found = rule.search(line)
                assert found is None or name == "tests/test_docs.py", (
                    f"{name}:{number}: {line.strip()}"
                )


EXAMPLES = [module for module in shipped_modules() if ">>> " in module.text]


@pytest.mark.parametrize("name", [module.name for module in EXAMPLES])
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    """What a docstring shows after >>> is what Python prints."""
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0
