"""A guard, and how it is taken away."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
UNLOCKED_BOOKS = (
    "SELECT customer_id, holder, currency, time_zone, anchor_day, last_seq, last_recorded_at FROM ledger_books"
)
"""What `ledger.books.lock_books` answers, without the lock: for guards that are that lock."""


class GuardMoved(Exception):
    """What the list says of a guard is no longer so: its text, its place or its test has changed. Mend the list."""


@dataclass(frozen=True, slots=True)
class Replace:
    """A text that stands exactly once in a file is put in another's place."""

    path: str
    """From the top of the project."""
    old: str
    new: str = ""

    def apply(self, tree: Path) -> None:
        """Rewrite the file in `tree`.

        Raises:
            GuardMoved: the text does not stand there exactly once.
        """
        file = tree / self.path
        text = file.read_text() if file.exists() else ""
        if (found := text.count(self.old)) != 1:
            raise GuardMoved(f"this guard has moved: {self.path} has {found} times {self.old!r}")
        # A new file: in a copy that is made of hard links, the old one is the original.
        file.unlink()
        file.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True, slots=True)
class Sql:
    """A statement that the schema's owner runs after the last migration."""

    statement: str


def without(function: str, old: str, new: str = "NULL;") -> Sql:
    """A text that stands exactly once in a function of the schema, as its last migration left it, is put away.

    No migration is changed for it, so that the schema need not be made anew.
    """
    return Sql(
        f"DO $do$ DECLARE body text := pg_get_functiondef('public.{function}'::regproc);\n"
        f"    times integer := (length(body) - length(replace(body, $old${old}$old$, ''))) / length($old${old}$old$);\n"
        "BEGIN\n"
        f"    IF times <> 1 THEN RAISE EXCEPTION 'this guard has moved: {function} has it % times', times; END IF;\n"
        f"    EXECUTE replace(body, $old${old}$old$, $new${new}$new$);\n"
        "END $do$"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Something that keeps money right, and the test that says so."""

    name: str
    protects: str
    """What could happen without it, in a sentence."""
    taken: Sequence[Replace | Sql]
    """How it is taken away; where it stands twice, in code and in Postgres, both."""
    noticed_by: str
    """The quickest test that turns red: a file, or a test in it."""
    fails_with: tuple[str, ...] = ("AssertionError", "Failed")
    """How that test fails: by a claim of its own, unless a refusal from elsewhere is what it would meet."""

    @property
    def statements(self) -> list[str]:
        """What is run on the migrated schema, as its owner."""
        return [step.statement for step in self.taken if isinstance(step, Sql)]

    @property
    def is_in_migrations(self) -> bool:
        """Whether a migration is changed, so that the schema has to be made anew."""
        return any(isinstance(step, Replace) and step.path.startswith("migrations/") for step in self.taken)

    @property
    def is_in_schema(self) -> bool:
        """Whether the schema without this guard is another one."""
        return self.is_in_migrations or bool(self.statements)

    def apply(self, tree: Path) -> None:
        """Take the guard away in a copy of the project; statements become a last migration, if others change as well.

        Raises:
            GuardMoved: a text is not where it was.
        """
        for step in self.taken:
            if isinstance(step, Replace):
                step.apply(tree)
        if self.is_in_migrations and self.statements:
            _add_migration(tree, self.statements)

    def moved(self, root: Path = ROOT) -> list[str]:
        """What of the list is no longer true of the sources; statements are tried elsewhere, on a database."""
        found = []
        for step in self.taken:
            if isinstance(step, Replace):
                file = root / step.path
                times = file.read_text().count(step.old) if file.exists() else 0
                if times != 1:
                    found.append(f"{self.name}: {step.path} has {times} times {step.old!r}")
        path, _, test = self.noticed_by.partition("::")
        name, _, case = test.partition("[")
        text = (root / path).read_text() if (root / path).exists() else ""
        # A case is named after its parameters, and what is no number of pytest's own stands in the file.
        words = [word for word in case.removesuffix("]").split("-") if not re.fullmatch(r"[a-z]+\d+", word)]
        if not text or (name and f"def {name}(" not in text) or not all(word in text for word in words):
            found.append(f"{self.name}: there is no test {self.noticed_by}")
        return found


def _add_migration(tree: Path, statements: Sequence[str]) -> None:
    """A last migration that runs the statements, as if somebody had released it."""
    versions = tree / "migrations" / "versions"
    texts = [path.read_text() for path in versions.glob("*.py")]
    revisions = {name for text in texts for name in re.findall(r'^revision = "(\w+)"', text, re.MULTILINE)}
    followed = {name for text in texts for name in re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE)}
    [newest] = revisions - followed
    body = "".join(f"    run({statement!r})\n" for statement in statements)
    (versions / "9999_taken_away.py").write_text(
        f"from migrations.sql import run\n\n"
        f'revision = "9999"\ndown_revision = "{newest}"\n\n\ndef upgrade() -> None:\n{body}'
    )
