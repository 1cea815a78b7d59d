import random

import pytest

from tidepool.ledger.events import Event
from tidepool.ledger.lives import lives

TOLD = [
    Event(10.0, "machine.asked", "i-1", "spot", "spot", "m5.large", 0.04),
    Event(11.5, "machine.launched", "i-1", zone="us-east-1a", volume_gib=20),
    Event(20.0, "machine.ready", "i-1", cpu_millis=1930, memory_bytes=7 << 30),
    Event(21.0, "pod.queued", pod="a", pod_uid="u", dag="d", cpu_millis=500),
    Event(22.0, "pod.scheduled", "i-1", pod_uid="u"),
    Event(23.0, "pod.running", "i-1", pod_uid="u"),
    Event(30.0, "pod.ended", "i-1", pod_uid="u", cause="ok"),
    Event(30.0, "machine.idle", "i-1", occurrence="u"),
    Event(40.0, "machine.cordoned", "i-1", occurrence="1"),
    Event(60.25, "machine.gone", "i-1"),
]


def test_a_life_has_what_any_of_its_events_told() -> None:
    everything = lives(TOLD)
    machine, pod = everything.machines["i-1"], everything.pods["u"]
    assert (machine.zone, machine.usd_per_hour, machine.cpu_millis, machine.gone) == ("us-east-1a", 0.04, 1930, 60_250)
    assert (pod.machine, pod.dag, pod.cause, pod.placed, pod.over) == ("i-1", "d", "ok", 22_000, 30_000)


def test_a_machine_is_billed_from_its_launch_or_else_from_the_first_that_is_known_of_it() -> None:
    starts = [lives(TOLD[first:]).machines["i-1"].start for first in (0, 2, 7)]
    assert starts == [11_500, 20_000, 60_250]
    assert lives([TOLD[0]]).machines["i-1"].start == 10_000
    assert lives([TOLD[8]]).machines["i-1"].start is None


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_events_is_no_matter_and_of_a_fact_told_twice_the_earlier_counts(seed: int) -> None:
    again = [
        Event(25.0, "machine.ready", "i-1", cpu_millis=1, zone="elsewhere"),
        Event(35.0, "pod.ended", "i-1", pod_uid="u", cause="node_lost", reconstructed=True, earliest=24.0),
        Event(99.0, "machine.gone", "i-1", reconstructed=True, earliest=50.0),
    ]
    mixed = TOLD + again
    random.Random(seed).shuffle(mixed)  # noqa: S311 - a repeatable one is wanted
    assert lives(mixed) == lives(TOLD)
