"""Promises about models that are switched off, and the tests that are to notice."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CORE = "core/kitaru/"
_LLM = "tests/models/test_llm.py::"
_CANARY = "tests/models/test_canary.py::"
_ODD = "tests/models/test_odd_answers.py::"
_TOTALS = "tests/models/test_totals.py::test_what_is_on_record_is_what_the_server_told"
_LEFT = (
    "tests/models/test_totals.py"
    "::test_what_a_thread_tells_after_its_checkpoint_has_ended_is_counted"
)
_LATE = (
    "tests/models/test_totals.py::test_what_a_late_attempt_has_used_stays_when_the_next_one_ends"
)

MODELS = (
    Mutant(
        "usage-is-written-at-once",
        _CORE + "context.py",
        "        if self.keep is not None and not ends:\n",
        "        if False:\n",
        (_TOTALS,),
    ),
    Mutant(
        "summed-at-the-end",
        _CORE + "store/executions.py",
        "    if status.is_finished:\n        usage.settle(conn, row.id)\n",
        "",
        (_TOTALS,),
    ),
    Mutant(
        "summed-again",
        _CORE + "attempts.py",
        "                executions.settle_again(conn, execution)\n",
        "",
        (_LLM + "test_what_answers_after_its_time_is_counted_though_the_execution_has_ended",),
    ),
    Mutant(
        "late-usage-stays",
        _CORE + "attempts.py",
        "            ended.metadata[usage.KEY] = dict(scope.usage)\n",
        "            pass\n",
        (_LATE,),
    ),
    Mutant(
        "late-usage-of-a-simple-call",
        _CORE + "store/journal.py",
        "        of_call |= metadata\n",
        "        pass\n",
        (_LEFT,),
    ),
    Mutant(
        "reused-is-not-incurred",
        _CORE + "usage.py",
        '{**record, "billing_effect": REUSED, "cache_status": reuse}',
        '{**record, "cache_status": reuse}',
        (_TOTALS,),
    ),
    Mutant(
        "each-attempt-counts",
        _CORE + "usage.py",
        "    sources = [*attempts] or [metadata]\n",
        "    sources = [metadata]\n",
        (_TOTALS,),
    ),
    Mutant(
        "broken-off-counts-what-came",
        _CORE + "conversation.py",
        '"interrupted" if is_broken else "failed"',
        '"failed"',
        (_ODD + "test_what_breaks_off_may_be_charged_for_and_has_what_was_told_by_then",),
    ),
    Mutant(
        "retry-after",
        _CORE + "attempts.py",
        "policy.pause(tried, asked=retry.asked_by(tried_now.cause))",
        "policy.pause(tried)",
        (_LLM + "test_a_provider_is_left_alone_as_long_as_it_asks",),
    ),
    Mutant(
        "keys-are-masked",
        _CORE + "masks.py",
        "            values += model_variables.secrets_in(_variables)\n",
        "",
        (_CANARY + "test_an_answer_that_holds_a_key_is_kept_exactly_shown_masked_and_warned_of",),
    ),
    Mutant(
        "accounts-are-masked",
        _CORE + "model_variables.py",
        '    "OPENAI_ORG_ID",\n',
        "",
        (_CANARY + "test_nothing_of_the_environment_is_kept_or_told",),
    ),
    Mutant(
        "requests-are-not-overheard",
        _CORE + "capture.py",
        "first and not _unheard.get() and",
        "first and",
        (_CANARY + "test_a_request_leaves_no_address_in_the_log",),
    ),
    Mutant(
        "counts-are-no-secrets",
        _CORE + "redaction.py",
        "    return named and not (counts and isinstance(value, (int, float)))\n",
        "    return named or counts\n",
        (_CANARY + "test_counts_of_tokens_are_numbers_wherever_they_are_shown",),
    ),
)
