"""Where stories are told: each on a database and a sandbox of its own, and how long they are."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from app.database import create_engine
from app.embedded.state import SANDBOX_KEY_PREFIX
from tests import soak_report
from tests.processes.sandbox import SandboxProcess
from tests.processes.services import Databases
from tests.sandbox.receiver import Receiver
from tests.story.judge import Difference
from tests.story.stage import Mortality, Stage
from tests.story.teller import Plan, Teller

COLLECTED_AFTER_S = 60.0
"""So long after finalization Stripe charges, and after a charge its fee is known: the story's clock decides when."""


@dataclass
class Told:
    """What several stories came to."""

    stories: int = 0
    days: int = 0
    compared: int = 0
    deferred: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.stories} stories, {self.days} days, {self.compared} times a customer's books were those on paper, "
            f"{self.deferred} times not all was heard yet; {dict(sorted(self.kinds.items()))}"
        )


class Theatre:
    """Tells stories."""

    def __init__(self, databases: Databases, folder: Path, redis_url: str) -> None:
        self._databases, self._folder, self._redis_url = databases, folder, redis_url

    def tell(self, plan: Plan) -> Teller:
        """One story, to its end.

        Raises:
            Difference: the books, or Stripe's balance, are not those of the model.
        """
        name = self._databases.clone()
        engine = create_engine(self._databases.url(name))
        folder = self._folder / f"{plan.seed}-{len(list(self._folder.iterdir()))}"
        folder.mkdir()
        sandbox, receiver = SandboxProcess(folder, api_key=f"{SANDBOX_KEY_PREFIX}story"), Receiver()
        try:
            sandbox.start(
                webhook_url=receiver.url, collection_delay_s=COLLECTED_AFTER_S, settlement_delay_s=COLLECTED_AFTER_S
            )
            with Mortality().installed() as mortality:
                teller = Teller(Stage(engine, sandbox, receiver, mortality, redis_url=self._redis_url), plan)
                teller.tell()
            return teller
        finally:
            sandbox.kill9()
            receiver.close()
            engine.dispose()
            self._databases.drop(name)

    def tell_all(self, plans: Iterable[Plan]) -> Told:
        """Many stories, one after the other.

        Raises:
            Difference: of one story or several; the others were told all the same.
        """
        told, differences = Told(), []
        for plan in plans:
            try:
                teller = self.tell(plan)
            except Difference as difference:
                differences.append(str(difference))
                soak_report.add("story", f"seed {plan.seed}", days=plan.days, difference=str(difference))
                continue
            soak_report.add(
                "story", f"seed {plan.seed}", days=plan.days, compared=teller.judge.compared, difference=None
            )
            told.stories += 1
            told.days += plan.days
            told.compared += teller.judge.compared
            told.deferred += teller.judge.deferred
            told.kinds += teller.kinds
        if differences:
            raise Difference(f"{len(differences)} beside {told.stories} that agree:\n" + "\n\n".join(differences))
        return told


def planned(seeds: Iterable[int], *, customers: int, days: int) -> list[Plan]:
    """These seeds, as long as the environment says, or as these defaults do. STORY_SEED: that one alone."""
    customers = int(os.environ.get("STORY_CUSTOMERS", customers))
    days = int(os.environ.get("STORY_DAYS", days))
    alone = os.environ.get("STORY_SEED")
    return [Plan(seed, customers, days) for seed in (seeds if alone is None else [int(alone)])]
