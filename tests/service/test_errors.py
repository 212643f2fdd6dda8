"""The error tree is complete: every class is drawn, coded, mapped and documented."""

import re
from pathlib import Path

import pytest

from service import errors
from service.errors import ServiceError, concrete_errors, example_of

DOCS = Path(__file__).parents[2] / "docs"


def classes_of_the_module() -> set[type[ServiceError]]:
    found = (value for value in vars(errors).values() if isinstance(value, type))
    return {value for value in found if issubclass(value, ServiceError) and value is not ServiceError}


def test_a_leaf_is_coded_and_a_group_is_not() -> None:
    concrete = list(concrete_errors())
    assert len(concrete) == len(set(concrete))
    for error in classes_of_the_module():
        is_leaf = not error.__subclasses__()
        assert is_leaf == (error in concrete), f"{error.__name__}: give it a code and a status, or subclasses"
        assert is_leaf == ("code" in vars(error) and "status" in vars(error))


def test_codes_are_distinct_and_statuses_are_errors() -> None:
    codes = [error.code for error in concrete_errors()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)
    assert all(400 <= error.status < 600 for error in concrete_errors())


def test_the_docstring_draws_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+Error)(?:\s+(\w+)\s+(\d{3}))?", errors.__doc__ or "")
    assert {(name, code, status) for name, code, status in drawn} == {
        (error.__name__, error.code, str(error.status) if error.status else "") for error in classes_of_the_module()
    }


def test_api_md_has_a_row_for_every_error_and_no_other() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", text, flags=re.MULTILINE)
    assert sorted(rows) == sorted((error.code, str(error.status)) for error in concrete_errors())


def test_only_what_may_work_later_says_when() -> None:
    assert all(error.is_retryable for error in concrete_errors() if error.retry_after_s is not None)
    assert all(error.is_retryable for error in concrete_errors() if error.status in (429, 503))
    assert not any(error.is_retryable for error in concrete_errors() if error.status in (400, 401, 403, 404, 405, 422))


def test_a_copy_is_the_same_error_with_a_traceback_of_its_own() -> None:
    for error in map(example_of, concrete_errors()):
        error.retry_after_s = 7
        with pytest.raises(ServiceError) as raised:
            raise error.copy()
        assert raised.value is not error
        assert error.__traceback__ is None
        assert type(raised.value) is type(error)
        assert (str(raised.value), raised.value.retry_after_s) == (str(error), 7)
        assert raised.value.field_errors == error.field_errors
