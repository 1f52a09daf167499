"""What to do next, as a pure function of what the source has and what the log holds.

Nothing here reads a file or a clock: batch, resume and watch are the same question, asked with other facts. A committed
result holds as long as its key equals the key that today's settings and inputs give; dependence is by content, so a
result recomputed to the same content invalidates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phagostat.engine.steps import FROZEN, PER_FRAME, Scope, Step
from phagostat.store.commits import WHOLE, Entry
from phagostat.store.digests import value_digest

WINDOW_BLOCKS = 3
"""A range of windows is this many blocks long: its planes are small, and what follows a range is read for each."""

Place = tuple[str, int | None, int]
"""A result's place: step, scene (None: the acquisition), index."""


@dataclass(frozen=True)
class SceneFacts:
    """What is known of a scene's planes.

    Parameters
    ----------
    n_frames
        Frames that the scene has or will have.
    complete
        For each channel that matters, the frames whose plane can be read now.
    """

    n_frames: int
    complete: Mapping[int, frozenset[int]]

    def flags(self, frame: int) -> str:
        """Which channels of a frame are there, as a string of 0 and 1 in channel order."""
        return "".join("1" if frame in self.complete[channel] else "0" for channel in sorted(self.complete))

    def whole(self, frame: int) -> bool:
        """Whether every channel of a frame is there."""
        return all(frame in frames for frames in self.complete.values())


@dataclass(frozen=True)
class Facts:
    """What the source has now.

    Parameters
    ----------
    scenes
        By scene index.
    closed
        Whether nothing more will come: what is not there then is missing.
    candidates
        Frames that a reference is chosen among at a time.
    windows
        For each scene, how many windows of candidates were found without a usable frame so far.
    """

    scenes: Mapping[int, SceneFacts]
    closed: bool
    candidates: int = 1
    windows: Mapping[int, int] = field(default_factory=dict)

    def final(self, scene: int, frame: int) -> bool:
        """Whether what is known of a frame will not change."""
        return self.closed or self.scenes[scene].whole(frame)

    def frames_final(self, scene: int | None) -> int:
        """How many first frames of a scene will not change; 0 for the acquisition, which has none."""
        if scene is None:
            return 0
        n_frames = self.scenes[scene].n_frames
        return next((frame for frame in range(n_frames) if not self.final(scene, frame)), n_frames)


@dataclass(frozen=True)
class Folded:
    """What a fold says of one frame: replayed whenever it is asked for, never committed."""

    verdict: str
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """Digest of the result: what depends on it depends on nothing else of it."""
        return value_digest([self.verdict, dict(self.record)])


FrameEntries = Mapping[str, Entry | Folded]
"""What is known of one frame, by step."""

Replay = Callable[[int, Sequence[FrameEntries], Mapping[str, Entry]], Sequence[Folded]]
"""A fold: from the scene, what is known of its first frames in frame order, and the committed entries of the scene and
the acquisition, to what it says of these frames."""


@dataclass(frozen=True)
class Work:
    """Steps to compute together for frames ``[start, stop)`` of a scene, or for a whole scene or acquisition."""

    steps: tuple[str, ...]
    scene: int | None
    start: int
    stop: int

    def places(self) -> Iterator[Place]:
        """The places that this work fills."""
        for step in self.steps:
            for index in range(self.start, self.stop):
                yield step, self.scene, index


@dataclass(frozen=True)
class Plan:
    """What to do now.

    Parameters
    ----------
    stale
        Committed results that no longer hold: to be retracted before anything is written.
    work
        What can be computed now, in order.
    waiting
        Number of results that are still to come but cannot be computed yet, by step.
    uncertain
        How many of these are committed, and will show whether they hold once what they read was computed anew.
    folded
        What the folds say of the frames that they have reached.
    """

    stale: tuple[Place, ...]
    work: tuple[Work, ...]
    waiting: Mapping[str, int]
    uncertain: Mapping[str, int]
    folded: Mapping[Place, Folded] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether every result is there and holds."""
        return not (self.stale or self.work or any(self.waiting.values()))


class Planner:
    """Plans for one table of steps.

    Parameters
    ----------
    steps
        The step table, each step after those that it needs.
    tokens
        For each step the digest of its version, settings and facts (:func:`~phagostat.engine.steps.step_tokens`).
    block_frames
        For each scene the largest number of frames computed together.
    ahead
        For each ``WINDOW`` step the number of frames after its own that a result reads.
    folds
        For each ``FOLD`` step its replay: a pure function.
    """

    def __init__(
        self,
        steps: tuple[Step, ...],
        tokens: Mapping[str, str],
        block_frames: Mapping[int, int],
        *,
        ahead: Mapping[str, int] | None = None,
        folds: Mapping[str, Replay] | None = None,
    ) -> None:
        self.steps = steps
        self.tokens = tokens
        self.block_frames = block_frames
        self.ahead = dict(ahead or {})
        self.folds = dict(folds or {})
        self._by_name = {step.name: step for step in steps}

    def key(
        self, step: str, scene: int | None, index: int, facts: Facts, needs: Mapping[str, str | None], *, span: int = 0
    ) -> str:
        """Digest of everything that a result depends on.

        Parameters
        ----------
        step, scene, index
            The result's place.
        facts
            What the source has.
        needs
            Content of each needed result, by step (and scene, for an acquisition's).
        span
            For a scene's step: how many frames from the first it looked at.
        """
        scope = self._by_name[step].scope
        seen: object = None
        if scope is Scope.FRAME and scene is not None:
            seen = facts.scenes[scene].flags(index)
        elif scope is Scope.SCENE and scene is not None:
            seen = [facts.scenes[scene].flags(frame) for frame in range(span)]
            if span % facts.candidates:  # the search was cut by the end, which may have been told too early
                seen = [*seen, facts.scenes[scene].n_frames]
        elif scope is Scope.ACQUISITION:
            seen = sorted(facts.scenes)
        return value_digest([self.tokens[step], scene, index, seen, dict(needs)])

    def scope(self, step: str) -> Scope:
        """What results of a step belong to."""
        return self._by_name[step].scope

    def plan(
        self,
        facts: Facts,
        committed: Mapping[tuple[str, int | None], Mapping[int, Entry]],
        in_flight: Collection[Place] = (),
    ) -> Plan:
        """What to retract, what to compute now, and how much has to wait."""
        survey = _Survey(self, facts, committed, frozenset(in_flight))
        return survey.plan()

    def needed_contents(
        self, step: str, scene: int | None, index: int, contents: Mapping[Place, str], facts: Facts
    ) -> dict[str, str | None] | None:
        """Contents that a result reads, by name; None if one of them is not there (yet)."""
        found: dict[str, str | None] = {}
        scope = self._by_name[step].scope
        for place in self.needed_places(step, scene, index, facts):
            content = contents.get(place)
            if content is None:
                return None
            name, its_scene, at = place
            if scope is Scope.ACQUISITION:
                name = f"{name}/{its_scene}"
            elif scope is Scope.WINDOW and self._by_name[name].scope in PER_FRAME:
                name = f"{name}+{at - index}"
            elif scope is Scope.MOVIE and self._by_name[name].scope in PER_FRAME:
                name = f"{name}/{at}"
            found[name] = content
        return found

    def needed_places(self, step: str, scene: int | None, index: int, facts: Facts) -> Iterator[Place]:
        """Places of the results that a result reads."""
        for name in self._by_name[step].needs:
            scope = self._by_name[name].scope
            if scope is Scope.ACQUISITION:
                yield name, None, WHOLE
            elif scope in PER_FRAME and scene is not None:
                yield from ((name, scene, frame) for frame in self.frames_read(step, scene, index, facts))
            elif scene is None:
                yield from ((name, s, WHOLE) for s in sorted(facts.scenes))
            else:
                yield name, scene, WHOLE

    def frames_read(self, step: str, scene: int, index: int, facts: Facts) -> range:
        """Frames whose results a result reads."""
        scope, n_frames = self._by_name[step].scope, facts.scenes[scene].n_frames
        if scope is Scope.MOVIE:
            return range(n_frames)
        ahead = self.ahead.get(step, 0) if scope is Scope.WINDOW else 0
        return range(index, min(index + ahead + 1, n_frames))


class _Survey:
    """One look at everything, step by step in the order of the table."""

    def __init__(
        self,
        planner: Planner,
        facts: Facts,
        committed: Mapping[tuple[str, int | None], Mapping[int, Entry]],
        in_flight: frozenset[Place],
    ) -> None:
        self.planner, self.facts, self.committed, self.in_flight = planner, facts, committed, in_flight
        self.contents: dict[Place, str] = {}  # results that hold
        self.todo: dict[Place, None] = {}
        self.stale: list[Place] = []
        self.waiting: dict[str, int] = {step.name: 0 for step in planner.steps}
        self.uncertain = dict(self.waiting)
        self.folded: dict[Place, Folded] = {}

    def plan(self) -> Plan:
        for step in self.planner.steps:
            if step.scope is Scope.FOLD:
                for folded_scene in sorted(self.facts.scenes):
                    self._replay(step, folded_scene)
                continue
            for scene, index in self._targets(step):
                self._look(step, scene, index)
        return Plan(tuple(self.stale), tuple(self._work()), self.waiting, self.uncertain, self.folded)

    def _replay(self, step: Step, scene: int) -> None:
        """Fold the first frames of a scene, as far as what the fold reads is there and holds."""
        places = list(self.planner.needed_places(step.name, scene, WHOLE, self.facts))
        whole = [place for place in places if self._scope(place) not in PER_FRAME]
        names = [place[0] for place in places if self._scope(place) in PER_FRAME]
        if any(place not in self.contents for place in whole):
            return
        frames: list[FrameEntries] = []
        for frame in range(self.facts.scenes[scene].n_frames):
            if any((name, scene, frame) not in self.contents for name in names):
                break
            frames.append({name: self._of_frame(name, scene, frame) for name in names})
        about = {name: self.committed[name, at][index] for name, at, index in whole}
        for frame, folded in enumerate(self.planner.folds[step.name](scene, frames, about)):
            self.folded[step.name, scene, frame] = folded
            self.contents[step.name, scene, frame] = folded.content

    def _of_frame(self, name: str, scene: int, frame: int) -> Entry | Folded:
        return self.folded.get((name, scene, frame)) or self.committed[name, scene][frame]

    def _targets(self, step: Step) -> Iterator[tuple[int | None, int]]:
        if step.scope is Scope.ACQUISITION:
            yield None, WHOLE
        for scene in sorted(self.facts.scenes):
            if step.scope in {Scope.SCENE, Scope.MOVIE}:
                yield scene, WHOLE
            elif step.scope in {Scope.FRAME, Scope.WINDOW}:
                yield from ((scene, frame) for frame in range(self.facts.scenes[scene].n_frames))

    def _look(self, step: Step, scene: int | None, index: int) -> None:
        place = (step.name, scene, index)
        entry = self.committed.get((step.name, scene), {}).get(index)
        if place in self.in_flight:
            self.waiting[step.name] += 1
            return
        needs = self.planner.needed_contents(step.name, scene, index, self.contents, self.facts)
        if entry is not None:
            if needs is None:  # what it reads is being recomputed: whether it holds will be seen then
                self.waiting[step.name] += 1
                self.uncertain[step.name] += 1
                return
            span = min(int(entry.record.get("frames_searched", 0)), self._n_frames(scene))
            if self.planner.key(step.name, scene, index, self.facts, needs, span=span) == entry.key:
                self.contents[place] = entry.content
                return
            self.stale.append(place)
        if self._ready(step, scene, index) and (needs is not None or self._needs_in_hand(step, scene, index)):
            self.todo[place] = None
        else:
            self.waiting[step.name] += 1

    def _n_frames(self, scene: int | None) -> int:
        return self.facts.scenes[scene].n_frames if scene is not None else 0

    def _ready(self, step: Step, scene: int | None, index: int) -> bool:
        """Whether the source has what a result reads."""
        if scene is None:
            return True
        if step.scope is not Scope.SCENE:
            read = self.planner.frames_read(step.name, scene, index, self.facts)
            return all(self.facts.final(scene, frame) for frame in read)
        stop = self.facts.candidates * (self.facts.windows.get(scene, 0) + 1)
        return all(self.facts.final(scene, frame) for frame in range(min(stop, self._n_frames(scene))))

    def _needs_in_hand(self, step: Step, scene: int | None, index: int) -> bool:
        """Whether each need either holds or is computed for the same frame in the same task."""
        return step.scope is Scope.FRAME and all(
            place in self.contents
            or (place in self.todo and place[1:] == (scene, index) and self._scope(place) is Scope.FRAME)
            for place in self.planner.needed_places(step.name, scene, index, self.facts)
        )

    def _scope(self, place: Place) -> Scope:
        return self.planner.scope(place[0])

    def _unlocking(self) -> bool:
        """Whether what frames wait for is being computed, or is about to be."""
        return any(self._scope(place) in FROZEN for place in (*self.todo, *self.in_flight))

    def _work(self) -> Iterator[Work]:
        yield from self._whole(FROZEN)
        if self.facts.closed and self._unlocking():
            return  # frames are read once, for all their steps together, when the references and threshold are there
        yield from self._blocks([step.name for step in self.planner.steps if step.scope is Scope.FRAME])
        for step in self.planner.steps:
            if step.scope is Scope.WINDOW:
                yield from self._blocks([step.name], blocks=WINDOW_BLOCKS)
        yield from self._whole({Scope.MOVIE})

    def _whole(self, scopes: Collection[Scope]) -> Iterator[Work]:
        groups: dict[str, list[str]] = {}
        for step in self.planner.steps:
            if step.scope in scopes:
                groups.setdefault(step.group or step.name, []).append(step.name)
        for names in groups.values():
            together: dict[tuple[int | None, int], list[str]] = {}
            for name, scene, index in self.todo:
                if name in names:
                    together.setdefault((scene, index), []).append(name)
            for (scene, index), steps in together.items():
                yield Work(tuple(steps), scene, index, index + 1)

    def _blocks(self, together: Sequence[str], *, blocks: int = 1) -> Iterator[Work]:
        """Ranges of frames that need the same ones of these steps."""
        for scene in sorted(self.facts.scenes):
            longest = blocks * self.planner.block_frames[scene]
            start: int | None = None
            current: tuple[str, ...] = ()
            for frame in range(self.facts.scenes[scene].n_frames + 1):
                steps = tuple(name for name in together if (name, scene, frame) in self.todo)
                if start is not None and (steps != current or frame - start >= longest):
                    yield Work(current, scene, start, frame)
                    start = None
                if start is None and steps:
                    start, current = frame, steps
