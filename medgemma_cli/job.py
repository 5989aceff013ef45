"""What is asked of every document of a run."""

from dataclasses import dataclass, field
from typing import Any

from medgemma_cli import identity, readers, templates
from medgemma_cli.records import Limits


@dataclass(frozen=True)
class Job:
    """What to ask of every document, when to ask again, and what to keep of it."""

    template: templates.Template
    limits: Limits
    read_limits: readers.ReadLimits = field(default_factory=readers.ReadLimits)
    question: str | None = None
    force: bool = False
    retry_failed: bool = False
    max_attempts: int = 3
    fsync: bool = True
    keep_views: bool = False

    def settings(self, engine_identity: dict[str, Any]) -> str:
        """The digest that all keys of this job share."""
        return identity.settings_digest(
            template_hash=self.template.hash,
            question=self.question,
            model=engine_identity,
            limits=self.limits,
        )
