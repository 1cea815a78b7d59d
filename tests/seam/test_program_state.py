"""The local cloud's engine decides as Pulumi's does: what is made, changed, replaced, left alone and removed.

Small programs on a side that exists only here; the real program in moto and on an API server has tests of its own.
"""

from __future__ import annotations

import json
import textwrap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest

from infra.local import world_monitor
from infra.local.world_engine import Kind, Made, World, WorldError
from infra.local.world_monitor import Registration
from infra.local.world_random import Random
from infra.local.world_state import Entry, State, StateError, removal_order

PRELUDE = """
import pulumi
import pulumi_random as random

class Thing(pulumi.CustomResource):
    ref: pulumi.Output[str]
    def __init__(self, logical_name, opts=None, /, type="test:index:Thing", **inputs):
        super().__init__(type, logical_name, {**inputs, "ref": None}, opts)

Options = pulumi.ResourceOptions
"""


class Shelf:
    """A Side that keeps things in a list. Other `size`s are changes in place, all else takes a new thing."""

    name = "shelf"

    def __init__(self, identity: str = "first") -> None:
        self.identity = identity
        self.things: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []
        self.fails_at = ""
        self.slow = ""
        self.begun, self.may_end = threading.Event(), threading.Event()
        self._made = 0

    def kind(self, type_: str) -> Kind | None:
        return Kind(self._make, self._change, self._delete, "name") if type_ == "test:index:Thing" else None

    def call(self, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return {"answer": 42} if token == "test:index:ask" else None

    def lacks(self, asked: Registration) -> str | None:
        return "there are none" if asked.type == "test:index:Unicorn" else None

    def lacks_parts(self, asked: Registration) -> Mapping[str, str]:
        return {"horn": "it has none"} if asked.inputs.get("horn") else {}

    def _make(self, inputs: dict[str, Any], taken: frozenset[str]) -> Made:
        if inputs["name"] == self.slow:
            self.begun.set()
            self.may_end.wait(10)
        if inputs["name"] == self.fails_at:
            self.begun.wait(10 if self.slow else 0)
            threading.Timer(0.2, self.may_end.set).start()
            raise WorldError(f"{inputs['name']} can't be made")
        there = [key for key, thing in self.things.items() if thing["name"] == inputs["name"] and key not in taken]
        if there:
            return Made(there[0], {**inputs, "ref": f"ref-{there[0]}"})
        self._made += 1
        identity = f"thing-{self._made}"
        self.things[identity] = inputs
        self.log.append(f"make {inputs['name']}")
        return Made(identity, {**inputs, "ref": f"ref-{identity}"})

    def _change(self, old: Entry, inputs: dict[str, Any]) -> Made | None:
        if {**old.inputs, "size": 0} != {**inputs, "size": 0}:
            return None
        self.things[old.id] = inputs
        self.log.append(f"change {inputs['name']}")
        return Made(old.id, {**inputs, "ref": old.outputs["ref"]})

    def _delete(self, old: Entry) -> None:
        del self.things[old.id]
        self.log.append(f"delete {old.inputs['name']}")


class Stack:
    """One state file and one shelf, to which programs are deployed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "stack.jsonl"
        self.shelf = Shelf()
        self.world: World
        self.outputs: dict[str, Any] = {}

    def deploy(self, program: str) -> list[str]:
        """What was done to the shelf, in order."""
        file = self.folder / "program.py"
        file.write_text(PRELUDE + textwrap.dedent(program))
        self.shelf.log = []
        state = State.open(self.state, {self.shelf.name: self.shelf.identity})
        self.world = World(state, [self.shelf, Random()])
        try:
            self.outputs = world_monitor.run(self.world, {}, "test", program=file)
            self.world.remove_the_rest()
        finally:
            self.world.close()
            state.close()
        return self.shelf.log

    def names(self) -> list[str]:
        return sorted(thing["name"] for thing in self.shelf.things.values())


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


CHAIN = """
first = Thing("first", name="first")
second = Thing("second", name="second", of=first.ref)
Thing("third", Options(depends_on=[second]), name="third")
"""


def test_what_is_deployed_already_is_not_touched(stack: Stack) -> None:
    stack.deploy(CHAIN)
    before = stack.state.read_bytes()
    assert stack.deploy(CHAIN) == []
    assert stack.world.changes.unchanged == 3
    assert stack.state.read_bytes() == before


def test_outputs_of_what_was_left_alone_are_those_of_when_it_was_made(stack: Stack) -> None:
    program = 'pulumi.export("ref", Thing("a", name="a").ref)'
    stack.deploy(program)
    assert stack.outputs == {"ref": "ref-thing-1"}
    stack.deploy(program)
    assert stack.outputs == {"ref": "ref-thing-1"}


def test_a_change_touches_only_what_changed(stack: Stack) -> None:
    stack.deploy('Thing("a", name="a", size=1)\nThing("b", name="b", size=1)')
    assert stack.deploy('Thing("a", name="a", size=1)\nThing("b", name="b", size=2)') == ["change b"]
    assert stack.world.changes.updated == ["test:index:Thing b"]
    assert stack.world.changes.unchanged == 1


def test_what_the_program_has_no_more_is_removed_before_what_it_needs(stack: Stack) -> None:
    stack.deploy(CHAIN)
    assert stack.deploy("") == ["delete third", "delete second", "delete first"]
    assert stack.deploy(CHAIN) == ["make first", "make second", "make third"]


def test_children_are_removed_before_the_resource_that_they_belong_to(stack: Stack) -> None:
    stack.deploy('a = Thing("z", name="parent")\nThing("a", Options(parent=a), name="child")')
    assert stack.deploy("") == ["delete child", "delete parent"]


def test_a_resource_that_cannot_be_changed_is_replaced_and_its_dependents_follow(stack: Stack) -> None:
    program = 'a = Thing("a", name="{}")\nThing("b", name="b", size=a.ref)'
    stack.deploy(program.format("old"))
    assert stack.deploy(program.format("new")) == ["make new", "change b", "delete old"]
    assert stack.world.changes.replaced == ["test:index:Thing a"]
    assert stack.world.changes.removed == []


def test_a_failure_keeps_what_was_made_and_the_next_deploy_goes_on_from_there(stack: Stack) -> None:
    stack.shelf.fails_at = "second"
    with pytest.raises(WorldError, match="second can't be made"):
        stack.deploy(CHAIN)
    stack.shelf.fails_at = ""
    assert stack.deploy(CHAIN) == ["make second", "make third"]


def test_nothing_is_removed_while_the_program_fails(stack: Stack) -> None:
    stack.deploy(CHAIN)
    with pytest.raises(ZeroDivisionError):
        stack.deploy("1 / 0")
    assert stack.names() == ["first", "second", "third"]


def test_what_was_made_just_before_a_crash_is_adopted_by_its_name(stack: Stack) -> None:
    stack.deploy(CHAIN)
    lines = stack.state.read_bytes().splitlines(keepends=True)
    stack.state.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])  # the last one was cut off
    assert stack.deploy(CHAIN) == []
    assert stack.names() == ["first", "second", "third"]
    assert stack.deploy("") == ["delete third", "delete second", "delete first"]


def test_a_made_up_name_is_the_same_at_the_next_try(stack: Stack) -> None:
    stack.deploy('Thing("a")')
    (name,) = stack.names()
    assert name.startswith("a-")
    stack.state.unlink()
    assert stack.deploy('Thing("a")') == []


def test_what_another_cloud_had_is_forgotten(stack: Stack) -> None:
    stack.deploy(CHAIN)
    stack.shelf = Shelf(identity="second")
    assert stack.deploy(CHAIN) == ["make first", "make second", "make third"]


def test_a_protected_resource_is_neither_removed_nor_replaced(stack: Stack) -> None:
    stack.deploy('Thing("a", Options(protect=True), name="a")\nThing("b", name="b")')
    with pytest.raises(WorldError, match="protected, so not removed: test:index:Thing a; deploy them with protect off"):
        stack.deploy("")
    with pytest.raises(WorldError, match="test:index:Thing a is protected, and this change would replace it"):
        stack.deploy('Thing("a", Options(protect=True), name="other")')
    assert stack.names() == ["a", "b"]
    stack.deploy('Thing("a", name="a")')
    stack.deploy("")
    assert stack.names() == []


def test_a_retained_resource_stays_when_the_program_forgets_it(stack: Stack) -> None:
    stack.deploy('Thing("a", Options(retain_on_delete=True), name="a")')
    assert stack.deploy("") == []
    assert stack.names() == ["a"]


def test_ignored_changes_are_ignored_at_any_depth(stack: Stack) -> None:
    program = (
        'Thing("a", Options(ignore_changes=["size", "scaling.wanted"]), name="a", size={0}, scaling={{"wanted": {0}}})'
    )
    stack.deploy(program.format(1))
    assert stack.deploy(program.format(2)) == []
    assert stack.world.changes.unchanged == 1


def test_two_resources_of_one_urn_are_refused(stack: Stack) -> None:
    with pytest.raises(
        pulumi.RunError, match="two resources have the urn urn:pulumi:test::tidepool::test:index:Thing::a"
    ):
        stack.deploy('Thing("a", name="a")\nThing("a", name="b")')


def test_resources_of_one_name_below_different_parents_are_two(stack: Stack) -> None:
    stack.deploy('a = Thing("p", name="p")\nThing("x", name="x")\nThing("x", Options(parent=a), name="y")')
    assert stack.names() == ["p", "x", "y"]


def test_what_cannot_be_had_here_is_listed_each_time_and_never_made(stack: Stack) -> None:
    program = 'Thing("u", type="test:index:Unicorn")\nThing("a", name="a", horn=True)'
    for _ in range(2):
        stack.deploy(program)
        assert stack.world.not_here == [
            {"type": "test:index:Unicorn", "name": "u", "reason": "there are none"},
            {"type": "test:index:Thing", "name": "a: horn", "reason": "it has none"},
        ]
    assert stack.names() == ["a"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ('Thing("a", type="test:index:Dragon")', "a: the local cloud can't create test:index:Dragon in shelf"),
        ('Thing("a", Options(id="thing-9"))', "a: the local cloud can't look up the test:index:Thing thing-9"),
        ('pulumi.runtime.invoke("test:index:tell", {})', "the local cloud can't answer test:index:tell"),
    ],
)
def test_what_nobody_taught_is_an_error(stack: Stack, program: str, message: str) -> None:
    with pytest.raises(WorldError, match=message):
        stack.deploy(program)


def test_secrets_are_kept_by_their_owner_alone_and_never_shown(stack: Stack) -> None:
    program = """
        made = random.RandomPassword("p", length=12).result
        Thing("a", name="a", secret=made)
        pulumi.export("p", made)
    """
    stack.deploy(program)
    assert stack.outputs == {"p": "[secret]"}
    assert stack.state.stat().st_mode & 0o777 == 0o600
    (thing,) = stack.shelf.things.values()
    assert len(thing["secret"]) == 12
    assert stack.deploy(program) == []
    assert next(iter(stack.shelf.things.values()))["secret"] == thing["secret"]


def test_random_values_are_random_and_of_the_asked_letters(stack: Stack) -> None:
    stack.deploy('a = random.RandomPassword("a", length=20, special=False)\nThing("t", name="t", text=a.result)')
    (thing,) = stack.shelf.things.values()
    assert thing["text"].isalnum()
    first = thing["text"]
    stack.deploy('a = random.RandomPassword("a", length=21, special=False)\nThing("t", name="t", text=a.result)')
    (thing,) = stack.shelf.things.values()
    assert len(thing["text"]) == 21
    assert thing["text"][:20] != first


def test_two_deploys_at_once_are_refused(stack: Stack) -> None:
    held = State.open(stack.state, {})
    with pytest.raises(StateError, match=r"another deploy is at work with .*stack\.jsonl; wait for it"):
        stack.deploy("")
    held.close()
    stack.deploy("")


def test_a_state_that_is_none_is_named_with_its_line(stack: Stack) -> None:
    stack.state.write_text(json.dumps({"sides": {}}) + "\n" + json.dumps({"put": {"urn": "a"}}) + "\n")
    with pytest.raises(StateError, match=r"stack\.jsonl, line 2: not a state of this version"):
        stack.deploy("")


def test_dependents_are_removed_first_whatever_the_order_of_their_making() -> None:
    def entry(urn: str, *needs: str) -> Entry:
        return Entry(urn, "t", urn, {}, {}, needs)

    order = removal_order([entry("b", "a"), entry("a"), entry("d", "b", "c"), entry("c", "a", "elsewhere")])
    position = {each.urn: index for index, each in enumerate(order)}
    assert position["d"] < position["b"] < position["a"]
    assert position["d"] < position["c"] < position["a"]


def test_a_deploy_that_fails_ends_when_what_it_had_begun_is_made_and_remembered(stack: Stack) -> None:
    stack.shelf.fails_at, stack.shelf.slow = "bad", "slow"
    with pytest.raises(WorldError, match="bad can't be made"):
        stack.deploy('Thing("slow", name="slow")\nThing("bad", name="bad")')
    assert stack.names() == ["slow"]
    assert '"slow"' in stack.state.read_text()
    with pytest.raises(WorldError, match="late came after the deploy had ended"):
        stack.world.register(asked("late"))


def asked(name: str) -> Registration:
    return Registration(
        urn=f"urn:pulumi:test::tidepool::test:index:Thing::{name}",
        type="test:index:Thing",
        name=name,
        inputs={"name": name},
        custom=True,
        remote=False,
        parent="",
        provider="",
        dependencies=(),
        secrets=frozenset(),
        protect=False,
        retain_on_delete=False,
        ignore_changes=(),
    )
