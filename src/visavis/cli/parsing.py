"""Make a command line of a dataclass, and say in one sentence what is wrong with one."""

import ast
import contextlib
import dataclasses
import difflib
import inspect
import io
import itertools
import re
import textwrap
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

import tyro
from tyro.conf import arg

from visavis.config import Experiment
from visavis.errors import ConfigError

T = TypeVar("T")


def parse(
    cls: type[T],
    arguments: Sequence[str],
    *,
    prog: str,
    default: T | None = None,
    required: Sequence[str] = (),
) -> T:
    """Read a command line into `cls`; what it does not set is as in `default`.

    Args:
        required: fields that the command line has to set all the same.

    Raises:
        ConfigError: an unknown flag, a bad value, or something missing.
        SystemExit: after --help.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            result, unknown = tyro.cli(
                cls,
                prog=prog,
                args=arguments,
                default=tyro.MISSING_NONPROP if default is None else default,
                return_unknown_args=True,
                config=(tyro.conf.DisallowNone,),
                registry=_registry(required),
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise ConfigError(_sentence(said.getvalue(), arguments, cls)) from None
    if unknown:
        raise ConfigError(_unknown(unknown[0], list(flags(cls))))
    return result


def peek(arguments: Sequence[str], flag: str) -> str | None:
    """The last value given to `flag`, before anything is checked."""
    found = None
    for argument, following in itertools.pairwise([*arguments, None]):
        name, equals, value = str(argument).partition("=")
        if name == flag:
            found = value if equals else following
    return found


def flags(cls: type, prefix: str = "") -> Iterator[str]:
    """Every flag of `cls`, as it is typed."""
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        kind, *markers = typing.get_args(hint) if hasattr(hint, "__metadata__") else [hint]
        if dataclasses.is_dataclass(kind):
            inner = "" if kind is Experiment else f"{name}."
            yield from flags(typing.cast(type, kind), prefix + inner)
        elif tyro.conf.Positional not in markers:
            yield f"--{prefix}{name.replace('_', '-')}"
            if getattr(cls, name, None) is True:
                yield f"--{prefix}no-{name.replace('_', '-')}"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint at the nearest of `known`, to be put after a message; empty if none is near."""
    near = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _unknown(argument: str, known: list[str]) -> str:
    if not argument.startswith("-"):
        return f"there is no place for {argument!r} here"
    flag = argument.partition("=")[0].replace("_", "-")
    ends = [name for name in known if name.lstrip("-").split(".")[-1] == flag.lstrip("-")]
    hint = f"; did you mean {' or '.join(ends)}?" if ends else did_you_mean(flag, known)
    return f"there is no flag {flag}{hint}"


def _sentence(box: str, arguments: Sequence[str], cls: type) -> str:
    """What tyro says in a box, as one sentence."""
    lines = [line.strip("│ ") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    inside = [line for line in lines if line and line[0] not in "╭╰"]
    if len(inside) > 1 and set(inside[1]) == {"-"}:  # without UTF-8, the title is a line as well
        inside = inside[2:]
    rule = next((i for i, line in enumerate(inside) if set(line) <= {"─", "-"}), len(inside))
    text = " ".join(inside[:rule])
    if found := re.match(r"invalid choice '(.*)' for argument '(.*?)'. Expected .*\((.*)\)", text):
        value, flag, choices = found.groups()
        known = re.findall(r"'(.*?)'", choices)
        allowed = f"{', '.join(known[:-1])} or {known[-1]}"
        return f"{flag} {value}: use {allowed}{did_you_mean(value, known)}"
    if found := re.match(r"Error parsing (\S+): invalid literal for int\S* .*: '(.*)'", text):
        return "{} {}: use a whole number".format(*found.groups())
    if found := re.match(r"Error parsing (\S+): could not convert string to float: '(.*)'", text):
        return "{} {}: use a number".format(*found.groups())
    if found := re.match(r"Missing value for argument '(.*)'. Expected (\d+) value", text):
        flag, count = found.groups()
        return f"{flag} needs {'a value' if count == '1' else f'{count} values'}"
    known = ["--help", *flags(cls)]
    for argument in arguments:  # a flag that does not exist may be why another is missing
        if argument.startswith("--") and argument.partition("=")[0].replace("_", "-") not in known:
            return _unknown(argument, known)
    if found := re.match(r"Missing from [^:]*: ((?:--\S+ )?\S+) (.*?) \(required\)", text):
        return "{} is missing: {}".format(*found.groups())
    return re.sub(r"^Error parsing \S+: ", "", text)


def _registry(required: Sequence[str]) -> tyro.constructors.ConstructorRegistry:
    """How tyro reads our dataclasses: as it does by itself, but with help text that flows."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.struct_rule
    def _(
        info: tyro.constructors.StructTypeInfo,
    ) -> tyro.constructors.StructConstructorSpec | None:
        cls = info.type
        if not (dataclasses.is_dataclass(cls) and cls.__module__.startswith("visavis.")):
            return None
        hints, docs = typing.get_type_hints(cls, include_extras=True), _field_docs(cls)
        specs = []
        for each in dataclasses.fields(cls):
            hint = hints[each.name]
            default = _default(each, None if each.name in required else info.default)
            if default is None:
                hint = Annotated[hint, arg(help_behavior_hint="")]
            elif default is False:
                hint = Annotated[hint, arg(help_behavior_hint=""), tyro.conf.FlagCreatePairsOff]
            specs.append(
                tyro.constructors.StructFieldSpec(
                    name=each.name, type=hint, default=default, helptext=docs.get(each.name)
                )
            )
        return tyro.constructors.StructConstructorSpec(instantiate=cls, fields=tuple(specs))

    return registry


def _default(each: "dataclasses.Field[Any]", instance: Any) -> Any:
    if hasattr(instance, each.name):
        return getattr(instance, each.name)
    if each.default is not dataclasses.MISSING:
        return each.default
    if each.default_factory is not dataclasses.MISSING:
        return each.default_factory()
    return tyro.MISSING_NONPROP


def _field_docs(cls: type) -> dict[str, str]:
    """The string under each field of a dataclass."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=doc)):
                docs[name] = " ".join(str(doc).split())
    return docs
