from __future__ import annotations

from tidepool import labels


def test_names_on_pods_stay_what_they_are_as_an_older_library_wrote_them() -> None:
    assert (
        tuple(f"tidepool.dev/{name}" for name in ("owner-dag", "owner-task", "owner-run", "attempt", "team"))
        == labels.OWNER_NAMES
    )
    assert (labels.LEASE, labels.HOLDER) == ("tidepool.dev/lease", "tidepool.dev/holder")
    assert labels.DEADLINE == "tidepool.dev/deadline"


def test_times_are_cut_off_to_seconds_in_utc() -> None:
    assert labels.utc(0) == "1970-01-01T00:00:00Z"
    assert labels.utc(1764547199.9) == "2025-11-30T23:59:59Z"
