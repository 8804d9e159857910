"""docs/faults.md names tests that exist, runs them when it says, and leaves out no kind of fault."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text()
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_\w+)`(?: \((soak)?)?")
KINDS = 38


def function(path: str, name: str) -> ast.FunctionDef | None:
    file = ROOT / path
    tree = ast.parse(file.read_text()) if file.exists() else ast.Module([], [])
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return found[0] if found else None


def test_every_test_that_the_page_of_faults_names_exists_and_runs_when_it_says() -> None:
    wrong = []
    for path, name, soak in NAMED.findall(PAGE):
        found = function(path, name)
        if found is None:
            wrong.append(f"{path}::{name} does not exist")
            continue
        marks = [ast.unparse(mark) for mark in found.decorator_list]
        if ("pytest.mark.soak" in marks) != bool(soak):
            wrong.append(f"{path}::{name} runs otherwise than the page says")
    assert not wrong, "\n".join(wrong)


def test_the_page_of_faults_has_every_kind_in_order() -> None:
    assert re.findall(r"^\| F(\d+) \|", PAGE, re.MULTILINE) == [str(number) for number in range(1, KINDS + 1)]
