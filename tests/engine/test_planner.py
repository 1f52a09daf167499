"""The planner as what it is: a pure function, asked about made-up sources and logs."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phagostat.engine.planner import (
    WINDOW_BLOCKS,
    Facts,
    Folded,
    FrameEntries,
    Place,
    Plan,
    Planner,
    Replay,
    SceneFacts,
    Work,
)
from phagostat.engine.steps import ANALYSIS_STEPS, FROZEN, Scope, Step
from phagostat.store.commits import WHOLE, Entry
from phagostat.store.digests import value_digest

AHEAD = 2
FRAME_STEPS = ("images", "measures", "aggregates", "probability", "territories", "overlaps")
STEPS = (
    *ANALYSIS_STEPS,
    Step("a movie", 1, Scope.MOVIE, needs=("cells", "verdicts", "reference")),
)
"""The analysis, and a step that reads a whole movie's folds as well."""
SCOPES = {step.name: step.scope for step in STEPS}
NAMES = [name for name, scope in SCOPES.items() if scope is not Scope.FOLD]
CHANNELS = (0, 1)
Content = Callable[[Place, Mapping[str, str | None]], object]


def verdicts(scene: int, frames: Sequence[FrameEntries], about: Mapping[str, Entry]) -> list[Folded]:
    """A fold that remembers: whether the values of the frames so far are even in number of even ones."""
    found, state = [], False
    for entries in frames:
        state ^= int(entries["measures"].content, 16) % 2 == 0
        found.append(Folded("usable" if state else "unusable"))
    return found


def passed_on(scene: int, frames: Sequence[FrameEntries], about: Mapping[str, Entry]) -> list[Folded]:
    """A fold of a fold."""
    return [Folded(entries["verdicts"].verdict) for entries in frames]


def planner(*, block: int = 4, folds: Mapping[str, Replay] | None = None, **changed: str) -> Planner:
    tokens = {step.name: f"{step.name} as it was" for step in STEPS} | changed
    blocks = dict.fromkeys(range(8), block)
    return Planner(
        STEPS,
        tokens,
        blocks,
        ahead={"cells": AHEAD},
        folds={"verdicts": verdicts, "usable": passed_on} | dict(folds or {}),
    )


def facts(*lengths: int, missing: set[tuple[int, int, int]] | None = None, closed: bool = True, **more) -> Facts:
    gone = missing or set()
    scenes = {
        s: SceneFacts(n, {c: frozenset(t for t in range(n) if (s, t, c) not in gone) for c in CHANNELS})
        for s, n in enumerate(lengths)
    }
    return Facts(scenes, closed, **({"candidates": 3} | more))


@dataclass
class Store:
    """A log without files, and contents without pixels: what a step gives is a function of what it reads."""

    planner: Planner
    content: Content = lambda place, needs: [place, dict(needs)]
    searched: int = 3
    entries: dict[tuple[str, int | None], dict[int, Entry]] = field(default_factory=dict)
    done: list[Place] = field(default_factory=list)
    retracted: list[Place] = field(default_factory=list)

    def __getitem__(self, place: Place) -> Entry | None:
        step, scene, index = place
        return self.entries.get((step, scene), {}).get(index)

    def places(self) -> set[Place]:
        return {(step, scene, index) for (step, scene), found in self.entries.items() for index in found}

    def retract(self, plan: Plan) -> None:
        for step, scene, index in plan.stale:
            del self.entries[step, scene][index]
            self.retracted.append((step, scene, index))

    def compute(self, work: Work, seen: Facts, folded: Mapping[Place, Folded]) -> None:
        """Fill the places of a work as the loop does, from what the source had when it was handed out."""
        for step in work.steps:
            for index in range(work.start, work.stop):
                place = (step, work.scene, index)
                read = list(self.planner.needed_places(*place, seen))
                contents = {p: e.content for p in read if (e := self[p] or folded.get(p))}
                needs = self.planner.needed_contents(*place, contents, seen)
                assert needs is not None, f"{place} was handed out before what it reads"
                record: dict[str, object] = {}
                span = 0
                if SCOPES[step] is Scope.SCENE:
                    span = min(self.searched, seen.scenes[work.scene].n_frames)
                    record["frames_searched"] = span
                key = self.planner.key(*place, seen, needs, span=span)
                record["value"] = value_digest(self.content(place, needs))
                assert self[place] is None, f"{place} was computed although it is committed"
                self.entries.setdefault((step, work.scene), {})[index] = Entry(index, key, "ok", record)
                self.done.append(place)

    def run(self, seen: Facts, *, rounds: int = 20) -> Plan:
        """Plan and compute until there is nothing left to do now."""
        for _ in range(rounds):
            plan = self.planner.plan(seen, self.entries)
            self.retract(plan)
            if not plan.work:
                return plan
            for work in plan.work:
                self.compute(work, seen, plan.folded)
        pytest.fail("planning does not come to an end")


def every_place(seen: Facts) -> set[Place]:
    found: set[Place] = set()
    for name, scope in SCOPES.items():
        if scope is Scope.ACQUISITION:
            found.add((name, None, WHOLE))
        for scene, about in seen.scenes.items():
            if scope in {Scope.SCENE, Scope.MOVIE}:
                found.add((name, scene, WHOLE))
            elif scope in {Scope.FRAME, Scope.WINDOW}:
                found |= {(name, scene, t) for t in range(about.n_frames)}
    return found


@st.composite
def sources(draw, *, closed: bool | None = None) -> Facts:
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    planes = [(s, t, c) for s, n in enumerate(lengths) for t in range(n) for c in CHANNELS]
    missing = draw(st.sets(st.sampled_from(planes), max_size=len(planes)))
    is_closed = draw(st.booleans()) if closed is None else closed
    return facts(*lengths, missing=missing, closed=is_closed, candidates=draw(st.integers(1, 6)))


@st.composite
def half_done(draw, seen: Facts, at: Planner) -> Store:
    """A store in which some of the work was done, some of that with settings that have changed since."""
    store = Store(at, searched=seen.candidates)
    for step in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
        store.planner = planner(**{step: "other settings"})
    for _ in range(draw(st.integers(0, 4))):
        plan = store.planner.plan(seen, store.entries)
        store.retract(plan)
        for work in draw(st.permutations(plan.work)) if plan.work else []:
            if draw(st.booleans()):
                store.compute(work, seen, plan.folded)
        store.planner = at
    store.done, store.retracted, store.planner = [], [], at
    return store


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_plan_is_deterministic_and_covers_everything_once(data):
    seen = data.draw(sources())
    at = planner(block=data.draw(st.integers(1, 5)))
    store = data.draw(half_done(seen, at))
    entries = {key: dict(found) for key, found in store.entries.items()}
    plan = at.plan(seen, store.entries)
    assert plan == at.plan(seen, {key: store.entries[key] for key in reversed(list(store.entries))})
    assert store.entries == entries, "planning changed what it was given"
    planned = [place for work in plan.work for place in work.places()]
    assert len(planned) == len(set(planned)), "a place is planned twice"
    stale = set(plan.stale)
    assert stale <= store.places()
    assert not set(planned) & (store.places() - stale), "what is committed and holds is planned"
    assert set(planned) <= every_place(seen)
    assert all(work.scene is not None for work in plan.work if SCOPES[work.steps[0]] in {Scope.FRAME, Scope.WINDOW})
    for work in plan.work:
        blocks = WINDOW_BLOCKS if SCOPES[work.steps[0]] is Scope.WINDOW else 1
        assert work.stop - work.start <= blocks * at.block_frames[0]
    held_back = plan.waiting
    # planned, held, or still to come; frames that wait for a reference's turn are in none of them
    holding = store.places() - stale
    for step in NAMES:
        total = sum(place[0] == step for place in every_place(seen))
        counted = sum(p[0] == step for p in planned) + sum(p[0] == step for p in holding) - plan.uncertain[step]
        assert counted + held_back[step] <= total
        if not (seen.closed and any(SCOPES[work.steps[0]] in FROZEN for work in plan.work)):
            assert counted + held_back[step] == total


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_executing_plans_ends_with_everything_there(data):
    seen = data.draw(sources(closed=True))
    at = planner(block=data.draw(st.integers(1, 5)))
    store = data.draw(half_done(seen, at))
    last = store.run(seen)
    assert last.finished
    assert store.places() == every_place(seen)
    assert len(store.done) == len(set(store.done)), "a result was computed twice in one run"
    fresh = Store(at, searched=seen.candidates)
    fresh.run(seen)
    assert {k: v for k, v in fresh.entries.items() if v} == {k: v for k, v in store.entries.items() if v}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_open_source_is_never_planned_beyond_what_is_there(data):
    seen = data.draw(sources(closed=False))
    store = Store(planner(), searched=seen.candidates)
    last = store.run(seen)
    for step, scene, index in store.done:
        if SCOPES[step] is Scope.FRAME:
            assert seen.scenes[scene].whole(index)
        elif SCOPES[step] is Scope.WINDOW:
            end = min(index + AHEAD, seen.scenes[scene].n_frames - 1)
            assert all(seen.scenes[scene].whole(t) for t in range(index, end + 1))
        elif SCOPES[step] is Scope.MOVIE:
            assert all(seen.scenes[scene].whole(t) for t in range(seen.scenes[scene].n_frames))
        elif SCOPES[step] is Scope.SCENE:
            span = min(seen.candidates, seen.scenes[scene].n_frames)
            assert all(seen.scenes[scene].whole(t) for t in range(span))
    everything = all(scene.whole(t) for scene in seen.scenes.values() for t in range(scene.n_frames))
    assert last.finished == everything


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_in_flight_is_not_planned_again_and_changes_nothing_else(data):
    seen = data.draw(sources())
    at = planner(block=data.draw(st.integers(1, 5)))
    store = data.draw(half_done(seen, at))
    plan = at.plan(seen, store.entries)
    store.retract(plan)
    out = [work for work in plan.work if data.draw(st.booleans())]
    flying = {place for work in out for place in work.places()}
    again = at.plan(seen, store.entries, flying)
    planned = {place for work in again.work for place in work.places()}
    assert not again.stale
    assert not planned & flying
    before = {place for work in plan.work for place in work.places()}
    if not any(SCOPES[work.steps[0]] in FROZEN for work in plan.work):
        assert planned | flying == before
    else:
        assert planned <= before


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 2**16))
def test_block_size_and_order_never_change_the_union_of_the_work(data, seed):
    seen = data.draw(sources(closed=True))
    results = []
    for block in (1, 3, 8):
        store = Store(planner(block=block), searched=seen.candidates)
        generator = random.Random(seed + block)
        flying: list[tuple[Work, Mapping[Place, Folded]]] = []
        for _ in range(500):  # as the loop goes: hand some out, take one in, ask again
            plan = store.planner.plan(seen, store.entries, {p for work, _ in flying for p in work.places()})
            if plan.finished and not flying:
                break
            flying += [(work, plan.folded) for work in plan.work[: generator.randrange(1, 4)]]
            if flying:
                work, folded = flying.pop(generator.randrange(len(flying)))
                store.compute(work, seen, folded)
        assert store.places() == every_place(seen)
        results.append(store.entries)
    assert results[0] == results[1] == results[2]


OF_CELLS = {"cells", "tracks", "track_features", "a movie"}
LEDGER = {"eaten", "fates"}
DEPENDENTS = {
    "reference": set(NAMES) - {"reference"},
    "threshold": {"aggregates", "territories", "overlaps"} | LEDGER,
    "images": set(),
    "measures": {"aggregates", "territories", "overlaps"} | LEDGER | OF_CELLS,  # cells through the folds
    "aggregates": {"territories", "overlaps"} | LEDGER,
    "probability": OF_CELLS,
    "territories": LEDGER,
    "overlaps": LEDGER,
    "cells": OF_CELLS - {"cells"},
    "tracks": {"track_features"},
    "track_features": set(),
    "eaten": set(),
    "fates": set(),
    "a movie": set(),
}


@pytest.mark.parametrize("step", NAMES)
def test_a_changed_setting_redoes_its_step_and_dependents_only_if_its_content_changed(step):
    seen = facts(6, 3)
    same: Content = lambda place, needs: place  # noqa: E731 - whatever was read, the result is the same
    store = Store(planner(), content=same)
    store.run(seen)
    store.done.clear()
    store.planner = planner(**{step: "changed"})
    store.run(seen)
    assert {name for name, _, _ in store.done} == {step}
    assert set(store.retracted) == set(store.done) == {p for p in every_place(seen) if p[0] == step}

    reading: Content = lambda place, needs: [place, dict(needs), store.planner.tokens[place[0]]]  # noqa: E731
    store = Store(planner(), content=reading)
    store.run(seen)
    store.done.clear()
    store.planner = planner(**{step: "changed"})
    store.run(seen)
    assert {name for name, _, _ in store.done} == {step} | DEPENDENTS[step]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.integers(0, 1))
def test_one_changed_frame_redoes_what_reads_that_frame_alone(frame, scene):
    seen = facts(6, 6)
    flipped = ("measures", scene, frame)
    store = Store(planner())
    store.run(seen)
    store.done.clear()
    store.content = lambda place, needs: [place, dict(needs)] + (["flipped"] if place == flipped else [])
    store.planner = planner(measures="changed")
    store.run(seen)
    measures = {place for place in every_place(seen) if place[0] == "measures"}
    read = measures | {(name, scene, frame) for name in ("aggregates", "territories", "overlaps")}
    assert set(store.done) - read <= {p for p in every_place(seen) if p[0] in OF_CELLS | LEDGER}
    assert read <= set(store.done)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 8), st.integers(0, 1))
def test_one_flipped_verdict_redoes_the_windows_that_contain_its_frame_alone(frame, scene):
    seen = facts(9, 9)
    store = Store(planner())
    store.run(seen)
    before = {**store.entries["cells", scene]}
    store.done.clear()

    def flipped(at, frames, about):
        found = verdicts(at, frames, about)
        if at == scene and len(found) > frame:
            found[frame] = Folded("flipped")
        return found

    store.planner = planner(folds={"verdicts": flipped})
    store.run(seen)
    windows = {("cells", scene, t) for t in range(max(0, frame - AHEAD), frame + 1)}
    movies = {(name, scene, WHOLE) for name in ("tracks", "track_features", "eaten", "fates", "a movie")}
    assert set(store.done) == windows | movies
    kept = set(range(9)) - {t for _, _, t in windows}
    assert all(store.entries["cells", scene][t] is before[t] for t in kept)


def test_a_fold_goes_as_far_as_what_it_reads():
    """A frame that is not there yet ends it; windows follow as far as they can be sure of."""
    seen = facts(9, closed=False, missing={(0, 6, 0)})
    store = Store(planner())
    plan = store.run(seen)
    assert {place[2] for place in plan.folded} == set(range(6))
    assert sorted(store.entries["cells", 0]) == [0, 1, 2, 3]
    assert ("a movie", 0) not in store.entries
    store.run(facts(9))
    assert sorted(store.entries["cells", 0]) == list(range(9))
    whole = Store(planner())
    whole.run(facts(9))
    assert whole.entries == store.entries


def test_a_late_frame_takes_back_what_had_listed_it_as_missing():
    """A frame called missing when the source was closed, and there all the same when it is looked at again."""
    gap = {(0, 4, 0), (0, 4, 1)}
    store = Store(planner())
    store.run(facts(6, 6, missing=gap))
    store.done.clear()
    store.run(facts(6, 6))
    again = {(name, 0, 4) for name in FRAME_STEPS}
    windows = {p for p in every_place(facts(6)) if p[0] in {"cells", "tracks", "track_features", "a movie"}}
    assert again <= set(store.done) <= again | windows
    assert set(store.retracted) == set(store.done)


def test_a_late_candidate_takes_back_the_reference_and_what_read_it():
    gap = {(0, 1, 0)}
    store = Store(planner())
    store.run(facts(6, 6, missing=gap))
    store.done.clear()
    store.content = lambda place, needs: [place, dict(needs), "late"]
    store.run(facts(6, 6))
    assert ("reference", 0, WHOLE) in store.done
    assert ("reference", 1, WHOLE) not in store.done
    assert {p for p in store.done if p[0] == "images"} == {("images", 0, t) for t in range(6)}
    assert {p for p in store.done if p[0] == "aggregates"} == {
        p for p in every_place(facts(6, 6)) if p[0] == "aggregates"
    }


def test_frames_are_read_once_for_all_their_steps():
    """While references are made no frame is handed out, if all frames are there: they would be read twice."""
    seen = facts(9, 5)
    at = planner(block=4)
    store = Store(at)
    first = at.plan(seen, store.entries)
    assert [work.steps for work in first.work] == [("reference",), ("reference",)]
    for work in first.work:
        store.compute(work, seen, {})
    second = at.plan(seen, store.entries)
    assert [work.steps for work in second.work] == [("threshold",)]
    store.compute(second.work[0], seen, {})
    third = at.plan(seen, store.entries)
    assert {work.steps for work in third.work} == {FRAME_STEPS}
    assert [(w.scene, w.start, w.stop) for w in third.work] == [(0, 0, 4), (0, 4, 8), (0, 8, 9), (1, 0, 4), (1, 4, 5)]


def test_a_reference_without_a_usable_frame_looks_at_the_next_window():
    seen = facts(9, closed=False, missing={(0, t, 0) for t in range(4, 9)})
    at = planner()
    assert [w.steps for w in at.plan(seen, {}).work] == [("reference",)]
    looked = replace(seen, windows={0: 1})
    assert at.plan(looked, {}).work == ()
    there = replace(facts(9, closed=False, missing={(0, t, 0) for t in range(6, 9)}), windows={0: 1})
    assert [w.steps for w in at.plan(there, {}).work] == [("reference",)]
