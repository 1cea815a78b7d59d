"""AWS resource types as rows of tables: which operations of the AWS API make, find, change and delete them.

A row says what is special about a type. The rest follows from the API's own description in botocore: an input of the
provider is the parameter of the same name, and one that neither the API nor the row knows is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jmespath  # type: ignore[import-untyped]
from botocore.exceptions import ClientError

from infra.local.world_engine import Kind, Made, WorldError
from infra.local.world_state import Entry

ACCOUNT = "123456789012"  # moto's
_GONE = ("NotFound", "NoSuch", "KMSInvalidState")  # parts of the error codes by which AWS says so

Inputs = dict[str, Any]
Setter = Callable[[Any, str, Any, Any], None]
"""Sets one input of a resource that is there: client, id, value, value before (None where it isn't known)."""


@dataclass(frozen=True)
class Row:
    """One resource type.

    service: boto3's name; create: the operation; id: where its answer has the new id (JMESPath), or a template of
    inputs such as `{role}:{name}`. names: the parameter of an input, where the API calls it otherwise; parameters: all
    of them from all inputs, where no renaming will do; defaults: the provider's own. tag_resource: EC2's name of the
    type, for tags at creation. setters: inputs that can be changed in place, or that creation does not take.
    put: the operation that changes all but the `identity` inputs in place, with the parameters of creation.
    find: ids of what is there already under the same name. outputs: templates of inputs, id, region and account.
    """

    service: str
    create: str
    id: str
    delete: Callable[[Any, Entry], object]
    names: Mapping[str, str] = field(default_factory=dict)
    parameters: Callable[[Inputs], Inputs] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    tag_resource: str = ""
    setters: Mapping[str, Setter] = field(default_factory=dict)
    put: str = ""
    identity: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    find: Callable[[Any, Inputs], list[str]] | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    auto_name: str = ""


def kind(row: Row, client: Any, region: str) -> Kind:
    """A row as the engine uses it."""
    taken_at_creation = {key for key in row.setters if _takes(client, row, key)}

    def make(inputs: Inputs, taken: frozenset[str]) -> Made:
        there = [each for each in row.find(client, inputs) if each not in taken] if row.find else []
        identity = there[0] if there else _create(row, client, inputs, taken_at_creation)
        for key in row.setters.keys() & inputs.keys():
            if there or key not in taken_at_creation:
                row.setters[key](client, identity, inputs[key], None)
        return made(identity, inputs)

    def change(old: Entry, inputs: Inputs) -> Made | None:
        changed = {key for key in old.inputs.keys() | inputs.keys() if old.inputs.get(key) != inputs.get(key)}
        if row.put and changed - row.setters.keys() and not changed & set(row.identity):
            getattr(client, row.put)(**_parameters(row, client, row.put, inputs, set()))
            changed &= row.setters.keys()
        changed -= set(row.ignored)
        if not changed <= row.setters.keys() & inputs.keys():
            return None
        for key in sorted(changed):
            row.setters[key](client, old.id, inputs[key], old.inputs.get(key))
        return made(old.id, inputs)

    def delete(old: Entry) -> None:
        try:
            row.delete(client, old)
        except ClientError as error:
            if not is_gone(error):
                raise

    def made(identity: str, inputs: Inputs) -> Made:
        known = {**inputs, "id": identity, "region": region, "account": ACCOUNT}
        return Made(identity, {**inputs, **{key: text.format(**known) for key, text in row.outputs.items()}})

    return Kind(make, change, delete, row.auto_name)


def is_gone(error: ClientError) -> bool:
    """Whether AWS says that there is no such thing (any more)."""
    code = error.response.get("Error", {}).get("Code", "")
    return any(part in code for part in _GONE)


def calls(operation: str, **parameters: str) -> Callable[[Any, Entry], object]:
    """An operation on a resource that is there; each parameter is its `id` or the input of the given name."""

    def call(client: Any, old: Entry) -> object:
        known = {**old.inputs, "id": old.id}
        return getattr(client, operation)(**{parameter: known[source] for parameter, source in parameters.items()})

    return call


def sets(operation: str, identity_parameter: str, parameter: str) -> Setter:
    """A setter that is one operation."""

    def set_it(client: Any, identity: str, wanted: Any, before: Any) -> None:
        parameters = {identity_parameter: identity, parameter: wanted}
        getattr(client, operation)(**parameters_of(client, operation, parameters))

    return set_it


def tagger(tag: str, untag: str, parameter: str, arn: str = "") -> Setter:
    """The setter of tags: two operations, and the parameter that says of what; arn: a template, where it wants that."""

    def set_them(client: Any, identity: str, wanted: dict[str, str], before: dict[str, str] | None) -> None:
        known = arn.format(id=identity, region=client.meta.region_name, account=ACCOUNT) if arn else identity
        if stale := sorted((before or {}).keys() - wanted.keys()):
            getattr(client, untag)(**parameters_of(client, untag, {parameter: known, "tagKeys": stale}))
        getattr(client, tag)(**parameters_of(client, tag, {parameter: known, "tags": wanted}))

    return set_them


def filtered(operation: str, path: str, **filters: str) -> Callable[[Any, Inputs], list[str]]:
    """Ids of what EC2's filters let through: inputs by filter, with `_` for `-` and `tag_Name` for `tag:Name`."""

    def find(client: Any, inputs: Inputs) -> list[str]:
        wanted = {name.replace("tag_", "tag:").replace("_", "-"): source for name, source in filters.items()}
        values = {name: jmespath.search(source, inputs) for name, source in wanted.items()}
        if None in values.values():
            return []
        written = [{"Name": name, "Values": [value]} for name, value in values.items()]
        return list(jmespath.search(path, getattr(client, operation)(Filters=written)))

    return find


def named(operation: str, path: str, parameter: str, source: str = "name") -> Callable[[Any, Inputs], list[str]]:
    """The id of the one resource of that name, if it is there."""

    def find(client: Any, inputs: Inputs) -> list[str]:
        try:
            return [jmespath.search(path, getattr(client, operation)(**{parameter: inputs[source]}))]
        except ClientError as error:
            if is_gone(error):
                return []
            raise

    return find


def pairs(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    """Tags as most of AWS's services write them."""
    return [{key: name, value: text} for name, text in sorted(tags.items())]


def parameters_of(client: Any, operation: str, inputs: Inputs) -> dict[str, Any]:
    """The parameters of an operation, from inputs that bear their names in any case of letters.

    WorldError for a name that the API does not know.
    """
    return dict(_shaped(_shape(client, operation), inputs, operation))


def require_all_used(what: str, rest: Mapping[str, Any]) -> None:
    """WorldError if inputs are left that nobody has used."""
    if rest:
        raise WorldError(
            f"{what}: the local cloud does not know what to do with {', '.join(sorted(rest))}; "
            "teach it in infra/local/world_*.py"
        )


def _create(row: Row, client: Any, inputs: Inputs, with_setters: set[str]) -> str:
    parameters = _parameters(row, client, row.create, inputs, with_setters)
    if row.tag_resource and inputs.get("tags"):
        parameters["TagSpecifications"] = [{"ResourceType": row.tag_resource, "Tags": pairs(inputs["tags"])}]
    answer = getattr(client, row.create)(**parameters)
    return row.id.format(**inputs) if row.id.startswith("{") else str(jmespath.search(row.id, answer))


def _parameters(row: Row, client: Any, operation: str, inputs: Inputs, with_setters: set[str]) -> dict[str, Any]:
    left_out = {*row.ignored, *row.setters} - with_setters | ({"tags"} if row.tag_resource else set())
    given = {key: value for key, value in {**row.defaults, **inputs}.items() if key not in left_out}
    wanted = row.parameters(given) if row.parameters else {row.names.get(key, key): given[key] for key in given}
    return parameters_of(client, operation, wanted)


def _takes(client: Any, row: Row, key: str) -> bool:
    """Whether creation takes an input for which there is a setter too."""
    members = {name.lower() for name in _shape(client, row.create).members}
    return (key == "tags" and bool(row.tag_resource)) or row.names.get(key, key).lower() in members


def _shape(client: Any, operation: str) -> Any:
    return client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).input_shape


def _shaped(shape: Any, value: Any, what: str) -> Any:
    """A value in the API's spelling and types: the provider writes some truth values as text, and tags as maps."""
    if shape.type_name == "structure" and isinstance(value, dict):
        known = {name.lower(): name for name in shape.members}
        require_all_used(what, {key: item for key, item in value.items() if key.lower() not in known})
        names = {key: known[key.lower()] for key in value}
        return {names[key]: _shaped(shape.members[names[key]], item, what) for key, item in value.items()}
    if shape.type_name == "list" and isinstance(value, dict):  # only tags are
        return pairs(value, *shape.member.members)
    if shape.type_name == "list" and isinstance(value, list):
        return [_shaped(shape.member, item, what) for item in value]
    if shape.type_name == "boolean" and isinstance(value, str):
        return value == "true"
    return str(value) if shape.type_name == "string" and isinstance(value, int) else value
