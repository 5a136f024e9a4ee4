"""HTML as a person or a browser gets it: elements, their attributes and their text, and whether tags match."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Optional

_VOID = {"meta", "link", "br", "img"}


class Element:
    def __init__(self, tag: str, attributes: dict[str, str], parent: Optional[Element]) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Element | str] = []

    @property
    def text(self) -> str:
        parts = (child if isinstance(child, str) else child.text for child in self.children)
        return " ".join("".join(parts).split())

    def all(self, tag: Optional[str] = None, **attributes: str) -> list[Element]:
        """Elements inside, in order, with a tag and attributes; ``class_`` stands for class."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if tag in (None, child.tag) and all(child.attributes.get(n) == v for n, v in wanted.items()):
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def one(self, tag: Optional[str] = None, **attributes: str) -> Element:
        (element,) = self.all(tag, **attributes)
        return element

    def rows(self) -> list[list[str]]:
        return [[c.text for c in row.children if isinstance(c, Element)] for row in self.all("tr")]


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.place = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        element = Element(tag, {name: value or "" for name, value in attrs}, self.place)
        self.place.children.append(element)
        if tag not in _VOID:
            self.place = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.place.tag == tag, f"</{tag}> closes <{self.place.tag}>"
        assert self.place.parent is not None
        self.place = self.place.parent

    def handle_data(self, data: str) -> None:
        self.place.children.append(data)


def parse_page(path: Path) -> Element:
    """The root of a page; tags must match, and ids be unique."""
    builder = _Builder()
    builder.feed(path.read_bytes().decode("utf-8"))
    builder.close()
    assert builder.place is builder.root, f"<{builder.place.tag}> is not closed"
    ids = [element.attributes["id"] for element in builder.root.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids)), "an id is there twice"
    return builder.root
