"""Writes docs/api/ from the docstrings: `python docs/make_api.py`, after a docstring has changed.

A page for each module of fastnn and an index; tests/test_api_pages.py compares them with the docstrings.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastnn

FOLDER = Path(__file__).parent / "api"


def modules() -> dict[str, types.ModuleType]:
    """Page -> module: the package itself, then its public modules."""
    inner = {name: getattr(fastnn, name) for name in fastnn.__all__}
    found = {name: value for name, value in inner.items() if inspect.ismodule(value)}
    return {"fastnn": fastnn, **dict(sorted(found.items()))}


def entries(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """(name, object) of each public name, classes with their own documented methods after them."""
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if inspect.ismodule(value) or name.startswith("__"):
            continue
        yield name, value
        if inspect.isclass(value) and not issubclass(value, tuple):
            for key, member in vars(value).items():
                member = getattr(member, "__func__", member)  # of a class method
                kind = inspect.isfunction(member) or isinstance(member, property)
                if kind and member.__doc__ and not key.startswith("_"):
                    yield f"{name}.{key}", member


def title(name: str, value: Any) -> str:
    """Name and arguments as they are called; types stand in the text."""
    if isinstance(value, property) or not callable(value):
        return name
    try:
        signature = inspect.signature(value)
    except ValueError:  # pybind11's functions say it in words
        words = re.match(r"\w+\((.*)\) ->", value.__doc__ or "")
        names = [word.split(":")[0] for word in words[1].split(", ")] if words else []
        return f"{name}({', '.join(names)})"
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    return f"{name}{signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)}"


def doc(value: Any) -> str:
    """The docstring, without the signature that pybind11 puts before it."""
    return re.sub(r"\A\w+\(.*\) -> .*\n+", "", inspect.getdoc(value) or "")


def markdown(text: str) -> str:
    """A docstring as Markdown: examples and tables in fences, sections in bold, parameters as a list."""
    out: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.split("\n")
        example = next((i for i, line in enumerate(lines) if line.lstrip().startswith(">>>")), len(lines))
        out.append(_prose(lines[:example]))
        out.append(_fenced("pycon", lines[example:]))
    return "\n\n".join(part for part in out if part)


def _fenced(kind: str, lines: list[str]) -> str:
    return "\n".join([f"```{kind}", *lines, "```"]) if lines else ""


def _prose(lines: list[str]) -> str:
    if len(lines) > 1 and re.fullmatch(r"-{3,}", lines[1].strip()):
        return "\n\n".join(filter(None, [f"**{lines[0].strip()}**", _prose(lines[2:])]))
    if (lines and lines[0].startswith("    ")) or any(re.search(r"\S {3,}\S", line) for line in lines):
        return _fenced("text", lines)  # a formula or a table, as it is
    items, listed = [], False
    for line in lines:
        if re.match(r"[\w.*,() -]+ : ", line):
            listed = True
            name, _, what = line.partition(" : ")
            items.append(f"- `{name.strip()}`: {_escaped(what)}")
        elif listed and line.startswith(" "):
            items.append(f"  {_escaped(line.strip())}")
        else:
            items.append(_escaped(line))
    return "\n".join(items)


def _escaped(text: str) -> str:
    """Text outside `code` without characters that Markdown or HTML would read."""
    parts = re.split(r"(`+[^`]*`+)", text)
    return "".join(part if i % 2 else re.sub(r"([*<])", r"\\\1", part) for i, part in enumerate(parts))


def page(module: types.ModuleType) -> str:
    name = module.__name__
    parts = [f"# {name}", markdown(doc(module))]
    for entry, value in entries(module):
        level = "###" if "." in entry else "##"
        parts += [f"{level} {entry}", _fenced("text", [title(entry, value)])]
        parts.append(markdown(doc(value)))
    return "\n\n".join(part for part in parts if part) + "\n"


def index() -> str:
    lines = [
        "# All public names",
        "",
        "From the docstrings, by `python docs/make_api.py`. `help(name)` shows the same.",
    ]
    for name, module in modules().items():
        lines += ["", f"## [{module.__name__}]({name}.md)", "", "| Name | |", "| --- | --- |"]
        for entry, value in entries(module):
            if "." not in entry:
                first = doc(value).split("\n\n")[0].replace("\n", " ")
                sentence = re.split(r"(?<=[a-z)`]\.) ", first)[0]
                told = _escaped(sentence).replace("|", "\\|")
                lines.append(f"| [`{entry}`]({name}.md#{entry.lower()}) | {told} |")
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """File name -> text."""
    return {"index.md": index(), **{f"{name}.md": page(module) for name, module in modules().items()}}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
