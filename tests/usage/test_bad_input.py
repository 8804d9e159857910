"""Bad usage events in files: each is listed by its line with every reason, and the good ones are posted."""

import csv
import io
import json
from collections import defaultdict
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.usage.bad_events import BAD_EVENTS, NOT_IN_CSV, event
from tests.usage.conftest import BillingHere

COLUMNS = ("id", "customer", "item", "quantity", "at", "amount", "currency", "labels")


def as_jsonl(events: list[dict[str, object]]) -> str:
    return "".join(json.dumps(found) + "\n" for found in events)


def as_csv(events: list[dict[str, object]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for found in events:
        labels = {"labels": json.dumps(found["labels"])} if "labels" in found else {}
        writer.writerow({**found, **labels})
    return file.getvalue()


def rejects(path: Path) -> dict[int, list[tuple[str, str]]]:
    listed: dict[int, list[tuple[str, str]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            listed[int(row["line"])].append((row["field"], row["code"]))
    return {line: sorted(found) for line, found in listed.items()}


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_every_bad_event_of_a_file_is_listed_with_every_reason(
    billing_here: BillingHere, acme: str, session: Session, kind: str
) -> None:
    # An empty cell is a field that is left out: what is wrong then is that it is missing.
    missing = {("item", "bad_text"): ("item", "missing")} if kind == "csv" else {}
    cases = BAD_EVENTS if kind == "csv" else [*BAD_EVENTS, *NOT_IN_CSV]
    events = [event(number, changes) for number, (_, changes, _) in enumerate(cases)]
    good = event(-1, {})
    path = billing_here.folder / f"u.{kind}"
    path.write_text(as_csv([*events, good]) if kind == "csv" else as_jsonl([*events, good]), encoding="utf-8")
    done = billing_here("usage", "import", str(path), "--format", kind, "--json")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout) | {"rejects": None} == {
        "rows": len(cases) + 1, "posted": 1, "replayed": 0, "refused": len(cases), "customers": 0, "rejects": None,
    }  # fmt: skip
    found = rejects(Path(f"{path}.rejects.csv"))
    first = 2 if kind == "csv" else 1
    for number, (name, changes, problems) in enumerate(cases):
        is_empty = changes.get("item") == ""
        expected = sorted(missing.get(problem, problem) if is_empty else problem for problem in problems)
        assert found.get(number + first) == expected, name
    assert session.scalars(text("SELECT count(*) FROM ledger_entries")).all() == [1]
