"""What is wrong with one job, told at once."""

from __future__ import annotations

from types import TracebackType

from tidepool.job import JobError


class Problems:
    """Around each part of a job that may be wrong: `with problems: …`, and then `problems.tell()`."""

    def __init__(self, task: str) -> None:
        self._task = f"task {task!r}"
        self._found: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, JobError):
            return False
        self.append(str(error))
        return True

    def append(self, words: str) -> None:
        """Note one, unless it was said already."""
        if not any(self._alone(words) in found for found in self._found):
            self._found.append(words)

    def tell(self) -> None:
        """Raise JobError with everything that was found, if anything was."""
        if len(self._found) == 1 and self._found[0].startswith(self._task):
            raise JobError(self._found[0])
        if self._found:
            *others, last = map(self._alone, self._found)
            raise JobError(f"{self._task}: " + "; ".join([*(words.removesuffix(".") for words in others), last]))

    def _alone(self, words: str) -> str:
        """Without the task's name, which is in front of most."""
        return words.removeprefix(self._task).removeprefix(":").strip()
