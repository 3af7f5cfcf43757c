"""Parameters: passed where declared, refused where not, and in the type that the chapter declares."""

from __future__ import annotations

import pytest

from addlib.book import BookError
from addlib.book.profiles import chapter_parameters


def given(tiny, text, source="02-number"):
    (tiny.book / "profiles" / "smoke.yaml").write_text(text)
    return chapter_parameters(tiny, "smoke", tiny.book / f"{source}.ipynb")


def test_only_declared_parameters_are_passed(tiny):
    assert given(tiny, "common: {profile: smoke, other: 1}\nchapters: {}") == {"profile": "smoke"}


def test_an_override_holds_for_its_chapter(tiny):
    text = "common: {level: 2}\nchapters: {02-number: {level: 5}}"
    assert given(tiny, text) == {"level": 5}
    assert given(tiny, text, "01-pixel") == {"level": 2}


def test_an_override_that_is_not_declared_is_an_error_that_names_it(tiny):
    with pytest.raises(BookError, match=r"02-number a value for epochs.*declares profile, level"):
        given(tiny, "chapters: {02-number: {epochs: 5}}")


def test_an_override_of_no_chapter_is_an_error(tiny):
    with pytest.raises(BookError, match="02-numbre"):
        given(tiny, "chapters: {02-numbre: {level: 5}}")


def test_an_unknown_profile_lists_the_known_ones(tiny):
    with pytest.raises(BookError, match="no profile 'smoek'; there are smoke"):
        chapter_parameters(tiny, "smoek", tiny.book / "02-number.ipynb")


def test_numbers_that_yaml_reads_as_text_are_refused(tiny):
    tiny.chapter("02-number", ("a", "code", "1"), parameters="rate = 0.1")
    with pytest.raises(BookError, match=r"rate of 02-number is '1e-3'.*1\.0e-3"):
        given(tiny, "chapters: {02-number: {rate: 1e-3}}")
    assert given(tiny, "chapters: {02-number: {rate: 1.0e-3}}") == {"rate": 0.001}
    whole = given(tiny, "chapters: {02-number: {rate: 1}}")["rate"]
    assert type(whole) is float


def test_the_parameters_cell_holds_literals_only(tiny):
    tiny.chapter("02-number", ("a", "code", "1"), parameters="level = 1\nwidth = level + 1")
    with pytest.raises(BookError, match="02-number: line 2 of the parameters cell.*width = level"):
        given(tiny, "common: {}")
