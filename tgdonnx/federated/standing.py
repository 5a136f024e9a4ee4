"""Who took part so far, and where the rounds stand: which is best, as `tgdonnx.train` would say of epochs.

The loss of a round is the mean of the sites' validation losses, weighted by their validation samples. A round after which the
vendor's own task is worse by more than the limit, at any site, is none to keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from tgdonnx.federated.examining import Sent
from tgdonnx.federated.history import SiteRound
from tgdonnx.finetuning.federation import Federation, settings_of_federation
from tgdonnx.finetuning.metrics import worsening
from tgdonnx.finetuning.state import RunState
from tgdonnx.records import FederationPart, PreparationPart, SitePart


@dataclass
class Tally:
    """Who took part.

    Attributes:
        rounds: those that count.
        steps: of the site that did most in each round, together.
        sites: by their names, how many samples they have and in how many rounds they counted.
        prepared: how data was prepared, and what classes are called, by the names of sites.
    """

    rounds: int = 0
    steps: int = 0
    sites: dict[str, SitePart] = field(default_factory=dict)
    prepared: dict[str, tuple[tuple[str, ...], Optional[PreparationPart]]] = field(default_factory=dict)

    def add(self, sent: Sequence[Sent]) -> None:
        """Counts a round."""
        self.rounds += 1
        self.steps += max(each.steps for each in sent)
        for each in sent:
            rounds = self.sites[each.name].rounds + 1 if each.name in self.sites else 1
            self.sites[each.name] = SitePart(each.name, each.samples, rounds)
            self.prepared[each.name] = (each.classes, each.preparation)

    @property
    def agreed(self) -> bool:
        """Whether all sites prepare their data alike, and call classes the same."""
        found = list(self.prepared.values())
        return all(each == found[0] for each in found)

    def federation(self) -> Federation:
        """Returns what the record of a tuned file says of it."""
        part = FederationPart(self.rounds, [self.sites[name] for name in sorted(self.sites)])
        classes, preparation = next(iter(self.prepared.values()), ((), None)) if self.agreed else ((), None)
        return Federation(part, classes, preparation)


@dataclass(frozen=True)
class Standing:
    """Where the rounds stand.

    Attributes:
        round: the last one done; 0 is the start.
        validation: its loss; None where no site has validation data.
        retain_fall: by how much the vendor's own task is worse, where that is most; None where it is not measured.
        is_best: whether it is the one to keep.
        limit: of the fall; None for none.
        best_round: the one to keep, so far; None where that is the last.
        best_validation: its loss.
        start: for names of sites the name and the value of the metric of the vendor's own task that is guarded, at the start.
    """

    round: int
    validation: Optional[float]
    retain_fall: Optional[float]
    is_best: bool
    limit: Optional[float]
    best_round: Optional[int]
    best_validation: Optional[float]
    start: Mapping[str, tuple[str, float]]

    @classmethod
    def at_start(cls, sites: Sequence[SiteRound], limit: Optional[float]) -> Standing:
        """Returns where it stands before the first round."""
        guarded = {site.site: next(iter(site.retain.items()), None) for site in sites}
        start = {name: (each[0], each[1]) for name, each in guarded.items() if each is not None and each[1] is not None}
        blank = cls(0, None, None, False, limit, None, None, start)
        return blank.after(0, sites)

    def after(self, number: int, sites: Sequence[SiteRound]) -> Standing:
        """Returns where it stands after a round."""
        judged = [(site.validated, site.validation) for site in sites if site.validated and site.validation is not None]
        count = sum(samples for samples, _ in judged)
        loss = sum(samples * loss for samples, loss in judged) / count if count else None
        falls = [
            worsening(name, start, now)
            for site in sites
            if site.site in self.start
            for name, start in [self.start[site.site]]
            if (now := site.retain.get(name)) is not None
        ]
        fall = max(falls, default=None)
        within = self.limit is None or fall is None or fall <= self.limit
        if loss is None:
            best = within and self.limit is not None
        else:
            best = within and (self.best_validation is None or loss < self.best_validation)
        told = replace(self, round=number, validation=loss, retain_fall=fall, is_best=best)
        return replace(told, best_round=number, best_validation=loss) if best else told

    def run_state(self, tally: Tally) -> RunState:
        """Returns what a checkpoint says of it."""
        steps = max(tally.steps, self.round)
        settings = settings_of_federation(tally.federation())
        return RunState(self.round, steps, settings, recorded=steps, validation=self.validation)
