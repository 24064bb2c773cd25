"""Each mutant can still be made: `python3 dev mutants` then sees that a test notices it."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant
from tests.support import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_and_is_still_python(mutant: Mutant) -> None:
    text = (ROOT / mutant.path).read_text()
    applied = mutant.applied(text)
    assert applied != text
    ast.parse(applied)


def test_mutants_have_names_of_their_own() -> None:
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1


def test_a_mutant_whose_code_has_changed_is_an_error() -> None:
    with pytest.raises(ValueError, match="has its text 0 times"):
        MUTANTS[0].applied("something else")
    with pytest.raises(ValueError, match="has its text 2 times"):
        MUTANTS[0].applied(MUTANTS[0].old * 2)
