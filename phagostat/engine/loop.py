"""The one loop: batch, resume and watch.

It asks which frames are complete in the source and which results that they allow are not yet committed, computes them
in blocks, commits them, and asks again, until the source is closed and every result holds. Then the output is sealed.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from phagostat.engine.executor import Executor, Outcome, WorkerLostError
from phagostat.engine.graph import block_graph, check_graph, whole_graph, window_graph
from phagostat.engine.planner import Facts, Folded, Place, Plan, Planner, SceneFacts, Work
from phagostat.engine.progress import Progress, Report
from phagostat.engine.replay import replays
from phagostat.engine.steps import FROZEN, PER_FRAME, Scope, Step, step_tokens
from phagostat.engine.work import UNDETERMINED, Job, Needed, Present, Receipt
from phagostat.model.errors import PhagostatError, StoreError
from phagostat.settings import settings_digest
from phagostat.sources.protocol import Availability
from phagostat.store.commits import Commit, CommitLog, Entry
from phagostat.store.digests import value_digest
from phagostat.store.files import remove_file, remove_partial_files, storage_error
from phagostat.store.integrity import missing_chunks
from phagostat.store.lease import Lease
from phagostat.store.seal import Seal, read_seal, remove_seal, sweep_orphans, write_seal
from phagostat.store.tables import table_digests

Tabulate = Callable[[Job, CommitLog, Mapping[Place, Folded]], dict[str, str]]

ATTEMPTS = 3
"""How often a range is handed out again after the workers that had it died."""
CHECKED_TOGETHER = 256
"""Chunks that are compared with their digests in one task."""


class Loop:
    """One output on its way to its seal.

    Parameters
    ----------
    job
        Source, output and settings.
    steps
        The step table.
    prepare
        Makes the groups and arrays that the steps write into.
    tabulate
        Writes the final tables from the log and the folds; gives the digest of each.
    table_settings
        Names of the settings that it reads.
    """

    def __init__(
        self,
        job: Job,
        steps: tuple[Step, ...],
        *,
        prepare: Callable[[Job, CommitLog], None] | None = None,
        tabulate: Tabulate | None = None,
        table_settings: Iterable[str] = (),
    ) -> None:
        self.job = job
        self.steps = steps
        self.scopes = {step.name: step.scope for step in steps}
        self.committed_steps = tuple(step for step in steps if step.scope is not Scope.FOLD)
        self.prepare = prepare
        self.tabulate = tabulate
        self._table_token = settings_digest(job.settings, table_settings)
        self.planner = Planner(
            steps,
            step_tokens(steps, job.settings, job.acquisition),
            {scene.index: job.block_frames(scene.index) for scene in job.scenes},
            ahead={step.name: step.ahead(job.settings) for step in steps},
            folds=replays(job, steps),
        )
        self.log = CommitLog(job.layout.commits, fsync=job.settings.execution.fsync)
        self.report = Report()
        self._windows: dict[int, int] = {}
        self._folded: Mapping[Place, Folded] = {}
        self._out: dict[int, tuple[Work, dict[Place, str]]] = {}
        self._attempts: dict[Work, int] = {}
        self._handed_out = 0

    # ---- what is asked -------------------------------------------------------------------------------------------

    def facts(self, availability: Availability) -> Facts:
        """What the source has, for the channels and scenes of this job."""
        return Facts(
            scenes={
                scene.index: SceneFacts(
                    scene.n_frames,
                    {c: frozenset(availability.complete.get((scene.index, c), ())) for c in self.job.channels},
                )
                for scene in self.job.scenes
            },
            closed=availability.closed,
            candidates=self.job.settings.reference.candidates,
            windows=dict(self._windows),
        )

    def plan(self, facts: Facts) -> Plan:
        """What is to be done now."""
        plan = self.planner.plan(facts, self._committed(), {p for work, _ in self._out.values() for p in work.places()})
        self._folded = plan.folded
        return plan

    def expected(self, facts: Facts) -> dict[str, int]:
        """Number of results that there will be, by step."""
        frames = sum(scene.n_frames for scene in facts.scenes.values())
        per_scene = {Scope.SCENE, Scope.MOVIE}
        return {
            step.name: 1
            if step.scope is Scope.ACQUISITION
            else len(facts.scenes)
            if step.scope in per_scene
            else frames
            for step in self.committed_steps
        }

    def _committed(self) -> dict[tuple[str, int | None], dict[int, Entry]]:
        scenes: list[int | None] = [None, *(scene.index for scene in self.job.scenes)]
        return {
            (step.name, scene): self.log.entries(step.name, scene) for step in self.committed_steps for scene in scenes
        }

    # ---- the loop ------------------------------------------------------------------------------------------------

    def run(
        self,
        executor: Executor,
        lease: Lease | None = None,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        handover: Callable[[], bool] = lambda: False,
        poll_s: float = 1.0,
    ) -> Report:
        """Compute, commit and ask again, until the output is sealed.

        Once `handover` says so, what is out is committed and the run ends without a seal: another source goes on.

        Raises
        ------
        StoreError
            If the output cannot be written, or another driver took it over; what is committed is kept.
        """
        self._journal("start", host=platform.node(), profile=self.job.settings.profile)
        for name in self.log.damaged:
            progress(Progress("compute", 0, 0, 0, f"commit {name} is damaged: its range is computed again"))
        if self._already_sealed():
            self.report.sealed = True
            return self.report
        remove_seal(self.job.layout)
        self.log.remove_damaged()
        self.report.swept += remove_partial_files(self.job.layout.root)
        self._retract(tuple(self._left_out()))
        if self.prepare is not None:
            self.prepare(self.job, self.log)
        self.report.swept += sweep_orphans(self.job.layout, self.log)
        try:
            while True:
                facts = self._until_planned_work_is_done(executor, lease, progress, handover, poll_s)
                if facts is None:
                    self._journal("handover", computed=self.report.computed)
                    return self.report
                damaged = self._check(executor, lease, progress)
                if not damaged and self.plan(facts).finished:
                    break
        except BaseException:
            executor.cancel()
            raise
        progress(Progress("seal", 1, 1, sum(self.report.computed.values())))
        self.report.swept += sweep_orphans(self.job.layout, self.log)
        tables = self.tabulate(self.job, self.log, self._folded) if self.tabulate is not None else {}
        write_seal(self.job.layout, Seal(self._results_digest(), tables))
        self.report.sealed = True
        self._journal("seal", computed=self.report.computed, retracted=self.report.retracted)
        return self.report

    def _already_sealed(self) -> bool:
        seal = read_seal(self.job.layout)
        if seal is None or self.log.damaged:
            return False
        finished = self.plan(self.facts(self.job.source.poll())).finished
        if not finished or seal.log != self._results_digest():
            return False
        return table_digests(self.job.layout.tables, seal.tables) == seal.tables

    def _results_digest(self) -> str:
        """Digest of all that tables are made from: committed results and, as of the last plan, folds."""
        folded = {"/".join(map(str, place)): folded.content for place, folded in self._folded.items()}
        return value_digest([self.log.digest([s.name for s in self.committed_steps]), folded, self._table_token])

    def _until_planned_work_is_done(
        self,
        executor: Executor,
        lease: Lease | None,
        progress: Callable[[Progress], None],
        handover: Callable[[], bool],
        poll_s: float,
    ) -> Facts | None:
        """Go round until the source is closed and every result holds; None after a handover."""
        idle: Facts | None = None
        while True:
            facts = self.facts(self.job.source.poll())
            if handover():
                while self._out:
                    self._work_off([], facts, executor, lease=lease, progress=progress, poll_s=poll_s)
                return None
            if lease is not None:
                lease.renew()
            self._announce(progress, facts)
            if facts != idle:  # else nothing has come since there was nothing to do
                plan = self.plan(facts)
                self._retract(plan.stale)
                if plan.finished and facts.closed:
                    return facts
                queue = list(reversed(plan.work))
                if queue or self._out:
                    self._work_off(queue, facts, executor, lease=lease, progress=progress, poll_s=poll_s)
                    continue
                if facts.closed:
                    raise StoreError(
                        "the run does not come to an end",
                        where=self.job.layout.root,
                        found={step: n for step, n in plan.waiting.items() if n},
                        remedy="this is a mistake of phagostat: please report it",
                    )
                idle = facts
            time.sleep(poll_s)

    def _work_off(
        self,
        queue: list[Work],
        facts: Facts,
        executor: Executor,
        *,
        lease: Lease | None,
        progress: Callable[[Progress], None],
        poll_s: float,
    ) -> None:
        """Hand work out and commit what comes back, until there is reason to plan again."""
        in_flight = executor.capacity * self.job.settings.execution.in_flight_per_worker
        unlocked = False
        while (queue or self._out) and not unlocked:
            while queue and len(self._out) < in_flight:
                self._submit(executor, queue.pop(), facts)
            outcomes = executor.wait(None if facts.closed else poll_s)
            for outcome in outcomes:
                work, needs = self._out.pop(outcome.ticket)
                if outcome.error is not None:
                    self._failed(work, outcome)
                    unlocked = True  # so that it is planned again
                else:
                    self._commit(work, outcome.value.item(), needs, facts)
                    unlocked |= any(self.scopes[step] in FROZEN for step in work.steps)
            if outcomes and lease is not None:
                lease.renew()
            self._announce(progress, facts)
            unlocked |= not facts.closed and not queue

    def _left_out(self) -> Iterator[Place]:
        """Results of steps, scenes and frames that are no longer there: it was taken for other channels or axes."""
        lengths = {scene.index: scene.n_frames for scene in self.job.scenes}
        for commit in self.log:
            scope = self.scopes.get(commit.step)
            known = scope is not None and (commit.scene is None or commit.scene in lengths)
            length = lengths[commit.scene] if known and scope in PER_FRAME and commit.scene is not None else None
            for entry in commit.entries:
                if not known or (length is not None and entry.index >= length):
                    yield commit.step, commit.scene, entry.index

    def _retract(self, stale: tuple[Place, ...]) -> None:
        """Take results back that no longer hold, first the commits, then what they promised."""
        by_log: dict[tuple[str, int | None], list[int]] = {}
        for step, scene, index in stale:
            by_log.setdefault((step, scene), []).append(index)
            self.report.retracted[step] = self.report.retracted.get(step, 0) + 1
        for (step, scene), indices in by_log.items():
            chunks = [c for i in indices if (e := self.log.entry(step, scene, i)) is not None for c in e.chunks]
            self.log.retract(step, scene, indices)
            for chunk in chunks:
                remove_file(self.job.layout.images / chunk)

    def _submit(self, executor: Executor, work: Work, facts: Facts) -> None:
        contents, needs = self._needs(work, facts)
        present: Present = {
            scene: facts.scenes[scene].complete for scene in ([work.scene] if work.scene is not None else facts.scenes)
        }
        self._handed_out += 1
        name = f"{self._handed_out}"
        if self.scopes[work.steps[0]] is Scope.FRAME:
            graph = block_graph(work, self.job, needs=needs, present=_cut(present, work), name=name)
        elif self.scopes[work.steps[0]] is Scope.WINDOW:
            graph = window_graph(work, self.job, ahead=self.planner.ahead[work.steps[0]], needs=needs, name=name)
        else:
            graph = whole_graph(
                work, self.job, needs=needs, present=present, frames_final=facts.frames_final(work.scene), name=name
            )
        self._out[executor.submit(graph)] = (work, contents)

    def _needs(self, work: Work, facts: Facts) -> tuple[dict[Place, str], dict[str, dict[int, Needed]]]:
        """What the steps of a range read: contents for the keys, records for the task; as they are now."""
        contents: dict[Place, str] = {}
        needs: dict[str, dict[int, Needed]] = {}
        for step in work.steps:
            for index in range(work.start, work.stop):
                for place in self.planner.needed_places(step, work.scene, index, facts):
                    name, scene, at = place
                    folded = self._folded.get(place)
                    if folded is not None:
                        contents[place] = folded.content
                        needs.setdefault(name, {})[at] = Needed(folded.verdict, folded.record)
                        continue
                    entry = (
                        self.log.entry(name, scene, at) if place not in contents and name not in work.steps else None
                    )
                    if entry is not None:
                        contents[place] = entry.content
                        label = scene if work.scene is None and scene is not None else at
                        rows_digest = self.log.row_file_digest(name, scene, at)
                        needs.setdefault(name, {})[label] = Needed.of(entry, rows_digest)
        return contents, needs

    def _commit(self, work: Work, receipt: Receipt, contents: dict[Place, str], facts: Facts) -> None:
        versions = {step.name: step.version for step in self.steps}
        for step in work.steps:
            entries = []
            path, digest = receipt.row_files.get(step, (None, None))
            for index, result in zip(range(work.start, work.stop), receipt.results[step], strict=True):
                if result.verdict == UNDETERMINED and work.scene is not None:
                    searched = int(result.record["frames_searched"])
                    self._windows[work.scene] = searched // max(facts.candidates, 1)
                    return
                needs = self.planner.needed_contents(step, work.scene, index, contents, facts)
                if needs is None:
                    raise StoreError("a result came without what it reads", where=f"{step} {work.scene} {index}")
                span = int(result.record.get("frames_searched", 0))
                rows = receipt.rows.get(step, {}).get(index)
                entry = Entry(
                    index,
                    self.planner.key(step, work.scene, index, facts, needs, span=span),
                    result.verdict,
                    result.record,
                    result.chunks,
                    rows,
                    path if rows is not None else None,
                    result.inputs,
                    result.stored,
                )
                contents[step, work.scene, index] = entry.content
                entries.append(entry)
            promised = [chunk for entry in entries for chunk in entry.chunks]
            absent = missing_chunks(self.job.layout.images, promised)
            if absent:
                raise StoreError(
                    "a chunk that was written is not there",
                    where=self.job.layout.images / absent[0],
                    remedy="check the output's file system, then run again",
                )
            files = {path: digest} if path is not None and digest is not None else {}
            self.log.commit(Commit(step, versions[step], work.scene, work.start, work.stop, tuple(entries), files))
            self.report.computed[step] = self.report.computed.get(step, 0) + len(entries)
        self._journal(
            "commit", steps=work.steps, scene=work.scene, start=work.start, stop=work.stop, seconds=receipt.seconds
        )

    def _failed(self, work: Work, outcome: Outcome) -> None:
        """Hand a range out again whose workers died; end the run on anything else."""
        error = outcome.error
        if isinstance(error, PhagostatError):
            raise error
        if isinstance(error, OSError):
            raise storage_error(error, self.job.layout.root) from error
        self._attempts[work] = self._attempts.get(work, 0) + 1
        self._journal("failed", scene=work.scene, start=work.start, stop=work.stop, error=repr(error))
        if not isinstance(error, WorkerLostError):
            raise error if error is not None else RuntimeError("no outcome")
        if self._attempts[work] >= ATTEMPTS:
            frames = f"{self.job.source.metadata.path} scene {work.scene} frames {work.start} to {work.stop - 1}"
            raise StoreError(
                f"workers died {ATTEMPTS} times on the same work",
                where=frames if work.scene is not None else self.job.layout.root,
                found=f"{', '.join(work.steps)}: {type(error).__name__}",
                remedy="give the workers more memory, or a smaller execution.block_frames",
            )

    def _check(self, executor: Executor, lease: Lease | None, progress: Callable[[Progress], None]) -> list[str]:
        """Compare every chunk and row file with its commit; retract what does not match."""
        owners = {
            chunk: (commit.step, commit.scene, entry.index, digest)
            for commit in self.log
            for entry in commit.entries
            for chunk, digest in entry.chunks.items()
        }
        stored = {c: d for commit in self.log for entry in commit.entries for c, d in entry.stored.items()}
        chunks = list(owners)
        starts = range(0, len(chunks), CHECKED_TOGETHER)
        queue = [Work(("check",), None, i, min(i + CHECKED_TOGETHER, len(chunks))) for i in reversed(starts)]
        out: dict[int, Work] = {}
        damaged: list[str] = []
        done = 0
        while queue or out:
            while queue and len(out) < executor.capacity * self.job.settings.execution.in_flight_per_worker:
                work = queue.pop()
                batch = chunks[work.start : work.stop]
                self._handed_out += 1
                graph = check_graph(
                    self.job,
                    {c: owners[c][3] for c in batch},
                    stored={c: stored[c] for c in batch if c in stored},
                    name=f"{self._handed_out}",
                )
                out[executor.submit(graph)] = work
            for outcome in executor.wait(None):
                work = out.pop(outcome.ticket)
                if outcome.error is not None:
                    self._failed(work, outcome)
                    queue.append(work)
                    continue
                damaged += outcome.value.item()
                done += work.stop - work.start
            if lease is not None:
                lease.renew()
            progress(Progress("check", done, len(chunks), sum(self.report.computed.values())))
        stale: list[Place] = [owners[chunk][:3] for chunk in damaged]
        lost = self.log.damaged_row_files(self.job.layout.rows)
        stale += [place for places in lost.values() for place in places]
        for name in (*damaged, *lost):
            progress(Progress("check", done, len(chunks), 0, f"{name} does not match its commit: computed again"))
            self._journal("damaged", file=name)
        self.report.damaged += [*damaged, *lost]
        self._retract(tuple(dict.fromkeys(stale)))
        return [*damaged, *lost]

    # ---- beside the results --------------------------------------------------------------------------------------

    def _announce(self, progress: Callable[[Progress], None], facts: Facts) -> None:
        total = sum(self.expected(facts).values())
        progress(Progress("compute", len(self.log), total, sum(self.report.computed.values())))

    def _journal(self, event: str, **values: Any) -> None:
        line = json.dumps({"time": time.time(), "event": event, **values}, default=str)
        try:
            self.job.layout.books.mkdir(parents=True, exist_ok=True)
            with self.job.layout.journal.open("a", encoding="utf-8") as handle:
                handle.write(line + "\n")
        except OSError as error:
            raise storage_error(error, self.job.layout.journal) from error


def _cut(present: Present, work: Work) -> Present:
    wanted = frozenset(range(work.start, work.stop))
    return {s: {c: frames & wanted for c, frames in channels.items()} for s, channels in present.items()}
