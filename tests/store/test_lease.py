from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from phagostat.model.errors import LeaseError, StoreError
from phagostat.store import lease as module
from phagostat.store.lease import STALE_AFTER_S, Holder, hold_lease, read_holder

TAKER = """
import sys, time
from pathlib import Path
from phagostat.model.errors import LeaseError
from phagostat.store.lease import hold_lease
path, start = Path(sys.argv[1]), float(sys.argv[2])
while time.time() < start:
    pass
try:
    with hold_lease(path):
        time.sleep(1.5)
        print("held")
except LeaseError:
    print("refused")
"""


def write(path: Path, holder: Holder) -> None:
    path.write_text(json.dumps(asdict(holder)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out/driver.lease"


def dead() -> Holder:
    """A process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    started = module._process_start(process.pid) or "1"
    process.wait()
    return replace(Holder.this_process(), pid=process.pid, started=started)


def test_a_lease_is_held_and_given_back(path):
    with hold_lease(path) as lease:
        assert read_holder(path) == lease.holder
        lease.renew()
    assert list(path.parent.iterdir()) == []


def test_a_living_holder_is_not_disturbed(path):
    with hold_lease(path) as lease:
        before = path.read_bytes()
        with pytest.raises(LeaseError) as caught, hold_lease(path):
            pytest.fail("two drivers at once")
        sentence = str(caught.value)
        assert f"process {os.getpid()} on" in sentence
        assert "another run is at work on this output" in sentence
        assert caught.value.remedy
        assert "\n" not in sentence
        assert caught.value.exit_code == 3
        assert path.read_bytes() == before
        lease.renew()
        assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_dead_process_is_taken_over(path):
    path.parent.mkdir()
    write(path, dead())
    with hold_lease(path) as lease:
        assert read_holder(path) == lease.holder
    assert list(path.parent.iterdir()) == []


def test_a_process_number_that_was_given_away_again_is_told_by_its_start(path):
    path.parent.mkdir()
    me = Holder.this_process()
    write(path, replace(me, token="other", started=str(int(me.started) - 1)))
    with hold_lease(path) as lease:
        assert read_holder(path) == lease.holder


@pytest.mark.parametrize(("age_s", "alive"), [(0.0, True), (STALE_AFTER_S + 5, False)])
def test_a_process_of_another_boot_or_container_lives_by_its_heartbeat(path, age_s, alive):
    """It may be one from before a restart, or of another machine or container of the same name: who knows."""
    path.parent.mkdir()
    write(path, replace(Holder.this_process(), token="other", boot="another boot", pid=2**22 + 1))
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    if alive:
        with pytest.raises(LeaseError, match="another run is at work"), hold_lease(path):
            pytest.fail("two drivers at once")
    else:
        with hold_lease(path):
            pass


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="needs /proc")
def test_process_numbers_are_compared_within_one_name_space_of_them_alone():
    assert str(Path("/proc/self/ns/pid").readlink()) in Holder.this_process().boot


@pytest.mark.parametrize(("age_s", "alive"), [(0.0, True), (STALE_AFTER_S / 2, True), (STALE_AFTER_S + 5, False)])
def test_a_holder_on_another_machine_lives_by_its_heartbeat(path, age_s, alive):
    path.parent.mkdir()
    write(path, replace(Holder.this_process(), token="other", host="elsewhere"))
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    if alive:
        with pytest.raises(LeaseError, match="another run is at work") as caught, hold_lease(path):
            pass
        assert "on elsewhere" in str(caught.value)
        assert read_holder(path).host == "elsewhere"
    else:
        with hold_lease(path):
            pass
    assert [p for p in path.parent.iterdir() if p != path] == []


def test_renewing_is_the_heartbeat(path):
    with hold_lease(path) as lease:
        os.utime(path, (1.0, 1.0))
        lease.renew()
        assert time.time() - path.stat().st_mtime < 60


def test_a_driver_that_was_taken_over_stops_and_leaves_the_new_ones_lease_alone(path):
    with hold_lease(path) as lease:
        other = replace(lease.holder, token="other", pid=1)
        write(path, other)
        with pytest.raises(LeaseError, match="took this output over"):
            lease.renew()
    assert read_holder(path) == other
    path.unlink()
    with pytest.raises(LeaseError, match="took this output over"):
        lease.renew()


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', "[]"])
def test_a_damaged_lease_holds_nothing(path, text):
    path.parent.mkdir()
    path.write_text(text)
    assert read_holder(path) is None
    with hold_lease(path) as lease:
        lease.renew()


def test_the_lease_of_who_came_first_is_never_out_of_place(path, monkeypatch):
    """Between the look at a dead holder and its succession, another driver may have taken the lease."""
    path.parent.mkdir()
    write(path, dead())
    other, judge = hold_lease(path), Holder.alive
    first: list[Holder] = []
    seen: list[Holder | None] = []

    def slowly(holder: Holder, lease: Path) -> bool:
        alive = judge(holder, lease)
        if not alive and not first:
            monkeypatch.setattr(Holder, "alive", judge)
            first.append(other.__enter__().holder)
        return alive

    def watched(act):
        def acting(*args, **kwargs):
            done = act(*args, **kwargs)
            if first:
                seen.append(read_holder(path))
            return done

        return acting

    monkeypatch.setattr(Holder, "alive", slowly)
    for owner, name in [(os, "link"), (os, "replace"), (os, "unlink"), (Path, "rename"), (Path, "unlink")]:
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    with pytest.raises(LeaseError, match="another run is at work"), hold_lease(path):
        pytest.fail("two drivers at once")
    assert len(seen) > 0
    assert set(seen) == set(first)
    other.__exit__(None, None, None)
    assert list(path.parent.iterdir()) == []


def test_a_driver_that_is_being_succeeded_does_not_give_back_what_is_no_longer_its_own(path):
    """One that had stopped for minutes on another machine may wake up just then."""
    with hold_lease(path) as lease:
        succession = module.succession_path(path, path.read_bytes())
        write(succession, Holder.this_process())
    assert read_holder(path) == lease.holder
    with pytest.raises(LeaseError, match="another run is at work"), hold_lease(path):
        pass


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_drivers_that_died_while_they_took_over_are_taken_over(path, depth):
    path.parent.mkdir()
    place = path
    for _ in range(depth + 1):
        write(place, dead())
        place = module.succession_path(path, place.read_bytes())
    with hold_lease(path) as lease:
        assert read_holder(path) == lease.holder
        with pytest.raises(LeaseError), hold_lease(path):
            pass
    assert read_holder(path) is None


def test_a_lease_is_renewed_while_its_holder_is_busy(path, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.02)
    with hold_lease(path):
        os.utime(path, (1.0, 1.0))
        until = time.monotonic() + 10
        while path.stat().st_mtime < 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert time.time() - path.stat().st_mtime < 60


@pytest.mark.parametrize("held_by", ["nobody", "a dead process"])
@pytest.mark.parametrize("attempt", range(2))
def test_of_several_takers_at_once_exactly_one_wins(path, held_by, attempt):
    path.parent.mkdir()
    if held_by != "nobody":
        write(path, dead())
    start = time.time() + 1.0
    takers = [
        subprocess.Popen([sys.executable, "-c", TAKER, str(path), str(start)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = sorted(taker.communicate(timeout=60)[0].strip() for taker in takers)
    assert said == ["held", "refused", "refused", "refused"]
    assert list(path.parent.iterdir()) == []


def test_a_lease_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written") as caught, hold_lease(tmp_path / "file/driver.lease"):
        pass
    assert caught.value.remedy
