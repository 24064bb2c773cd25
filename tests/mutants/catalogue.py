"""The promises that are switched off, how, and the tests that are to notice."""

from __future__ import annotations

from tests.mutants.mutant import Mutant
from tests.mutants.of_models import MODELS
from tests.mutants.of_store import STORE

_STORE = "tests/store/test_store.py::"
_LEASE = "tests/runtime/test_lease.py::"
_JUMPS = "tests/runtime/test_clock_jumps.py::"
_WORKER = "tests/cli/test_worker.py::"
_CORE = "core/kitaru/"
_JOURNAL = _CORE + "journal.py"

DRIVING = (
    Mutant(
        "fencing",
        _CORE + "store/leases.py",
        "    if now[0] != lease.epoch:\n",
        "    if False:\n",
        (_STORE + "test_a_driver_that_was_overtaken_writes_nothing",),
    ),
    Mutant(
        "one-driver",
        _CORE + "launch.py",
        '    if row.holder == "alive":\n',
        "    if False:\n",
        (_LEASE + "test_a_live_execution_is_not_taken_over",),
    ),
    Mutant(
        "dead-drivers",
        _CORE + "host.py",
        "    except ProcessLookupError:\n        return True\n",
        "    except ProcessLookupError:\n        return False\n",
        ("tests/runtime/test_crash.py::test_a_killed_execution_is_seen_as_stalled_at_once",),
    ),
    Mutant(
        "renewed-after-a-jump",
        _CORE + "runtime.py",
        "            has_jumped\n            or now",
        "            now",
        (_JUMPS + "test_a_live_execution_is_not_taken_over_when_the_clock_was_set",),
    ),
    Mutant(
        "second-look",
        _CORE + "launch.py",
        "        if not leases.is_late(conn, row.id):\n",
        "        if True:\n",
        (_JUMPS + "test_a_live_execution_is_not_taken_over_when_the_clock_was_set",),
    ),
    Mutant(
        "patient-worker",
        _CORE + "worker.py",
        "        if self._jumps.has_jumped():",
        "        if False:",
        (_WORKER + "test_when_the_clock_was_set_drivers_have_time_to_renew_their_leases",),
    ),
    Mutant(
        "workers-differ",
        _CORE + "worker.py",
        "random.sample(found, len(found))",
        "found",
        (_WORKER + "test_each_worker_has_an_order_of_its_own_so_that_few_want_the_same",),
    ),
    Mutant(
        "no-time-runs-backwards",
        _CORE + "clock.py",
        "return max(now_us(), moment)",
        "return now_us()",
        (_JUMPS + "test_nothing_that_is_shown_has_ended_before_it_began",),
    ),
    Mutant(
        "divergence-of-calls",
        _JOURNAL,
        "        if record.call_id != call_id or record.kind != call.kind:\n",
        "        if False:\n",
        (
            "tests/core/test_journal.py::test_a_divergence_says_what_was_recorded_what_came_and_what_to_do",
            "tests/runtime/test_divergence.py::test_a_flow_cannot_swallow_a_divergence",
        ),
    ),
    Mutant(
        "divergence-of-inputs",
        _JOURNAL,
        "        if record.inputs_digest != call.digest and not record.is_copied:\n",
        "        if False:\n",
        ("tests/core/test_journal.py::test_inputs_that_look_the_same_are_told_apart",),
    ),
    Mutant(
        "divergence-at-the-end",
        _JOURNAL,
        "        if left:\n",
        "        if False:\n",
        ("tests/core/test_journal.py::test_a_flow_may_not_end_before_its_record",),
    ),
    Mutant(
        "idempotency-keys",
        _CORE + "store/keys.py",
        "    if key is None:\n",
        "    if True:\n",
        (
            "tests/runtime/test_idempotency.py::test_a_repetition_starts_nothing_and_returns_what_the_first_one_did",
        ),
    ),
    Mutant(
        "cancel-at-the-next-call",
        _CORE + "course.py",
        "            if self.ledger.cancelled:\n",
        "            if False:\n",
        (
            "tests/runtime/test_cancel.py::test_a_running_call_ends_and_is_recorded_and_no_other_starts",
        ),
    ),
    Mutant(
        "looked-at-again",
        _CORE + "ledger.py",
        "if self.store.commits != commit or clock.monotonic() - at > _FRESH_SECONDS:",
        "if self.store.commits != commit:",
        (_STORE + "test_right_after_a_commit_a_driver_asks_only_for_what_others_may_have_changed",),
    ),
    Mutant(
        "own-commits-looked-at",
        _CORE + "ledger.py",
        "if self.store.commits != commit or clock.monotonic() - at > _FRESH_SECONDS:",
        "if clock.monotonic() - at > _FRESH_SECONDS:",
        (_STORE + "test_right_after_a_commit_a_driver_asks_only_for_what_others_may_have_changed",),
    ),
    Mutant(
        "cancel-wins",
        _CORE + "ledger.py",
        'if self.cancelled and action != "cancel":',
        "if False:",
        (
            "tests/runtime/test_cancel.py::test_a_cancellation_in_the_last_moment_wins_over_the_result",
        ),
    ),
    Mutant(
        "children-started-once",
        _CORE + "children.py",
        "    earlier = step.earlier.child_exec_id if step.earlier else None\n",
        "    earlier = None\n",
        (
            "tests/runtime/test_children.py::test_a_child_is_started_once_over_any_number_of_crashes",
        ),
    ),
)

EDGES = (
    Mutant(
        "answered-once",
        _CORE + "store/waits.py",
        "\"WHERE execution = ? AND status = 'pending' ORDER BY seq\",",
        "\"WHERE execution = ? AND status IN ('pending', 'answered') ORDER BY seq\",",
        ("tests/runtime/test_waits.py::test_an_answer_is_accepted_once",),
    ),
    Mutant(
        "answers-fit",
        _CORE + "client/steering.py",
        "        answers.validate(data, asked.schema, wait=asked.wait_id)",
        "        pass",
        (
            "tests/runtime/test_waits.py::"
            "test_an_answer_that_does_not_fit_is_refused_and_the_question_stays_open",
        ),
    ),
    Mutant(
        "tuples",
        _CORE + "codec/encoder.py",
        "        tuple: _tuple,\n",
        "        tuple: _list,\n",
        (
            "tests/core/test_codec.py::test_every_accepted_value_comes_back_equal_and_of_the_same_type",
        ),
    ),
    Mutant(
        "not-a-number",
        _CORE + "codec/encoder.py",
        'return value if isfinite(value) else _tagged("float", value)',
        "return value",
        ("tests/core/test_codec.py::test_a_record_is_json_that_any_reader_takes",),
    ),
    Mutant(
        "refused-values",
        _CORE + "codec/encoder.py",
        "raise Refused(unsupported(value))",
        "return self._tree(str(value), depth)",
        ("tests/core/test_codec_refusals.py::test_what_cannot_be_held_is_refused_with_its_path",),
    ),
    Mutant(
        "unpickling",
        _CORE + "serializers.py",
        "return PICKLE if allow_pickle is True else JSON",
        "return PICKLE",
        ("tests/core/test_serializers.py::test_load_reads_a_pickle_only_where_that_is_allowed",),
    ),
    Mutant(
        "secret-keys",
        _CORE + "redaction.py",
        "return bool(_SECRET_KEY.search(key)),",
        "return False,",
        ("tests/core/test_render.py::test_values_under_keys_of_secrets_are_masked",),
    ),
    Mutant(
        "secret-values",
        _CORE + "redaction.py",
        "return text if _mask is None else _mask(text)",
        "return text",
        (
            "tests/core/test_secrets.py::test_recorded_values_stay_exact_and_everything_shown_is_masked",
        ),
    ),
    Mutant(
        "hiding-characters",
        _CORE + "redaction.py",
        "return text if text.isascii() and text.isprintable() else text.translate(_characters)",
        "return text",
        ("tests/core/test_render.py::test_no_control_or_format_character_leaves",),
    ),
    Mutant(
        "target-policy",
        "kitaru_mcp/policy.py",
        "if path is not None and path.is_relative_to(root):",
        "if path is not None:",
        ("tests/mcp/test_policy.py::test_a_flow_outside_the_root_may_not_run",),
    ),
    Mutant(
        "recorded-targets",
        "kitaru_mcp/policy.py",
        "if files and starts_here and all(file.is_relative_to(allowed) for file in files):",
        "if files:",
        ("tests/mcp/test_policy.py::test_recorded_code_from_elsewhere_may_not_run_again",),
    ),
    Mutant(
        "confirmation",
        "kitaru_mcp/desk.py",
        "            if not confirmed:\n",
        "            if False:\n",
        ("tests/mcp/test_confirming.py::test_without_a_person_the_call_has_to_confirm",),
    ),
    Mutant(
        "person-decides",
        "kitaru_mcp/desk.py",
        'elif answer.action != "accept" or',
        "elif False and",
        ("tests/mcp/test_confirming.py::test_a_person_who_does_not_agree_outweighs_the_call",),
    ),
    Mutant(
        "read-only-server",
        "kitaru_mcp/policy.py",
        "if tool.effect.read_only or not policy.read_only}",
        "}",
        ("tests/mcp/test_tools.py::test_a_read_only_server_offers_and_does_nothing_that_changes",),
    ),
)

MUTANTS = (*STORE, *DRIVING, *EDGES, *MODELS)
