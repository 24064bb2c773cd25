"""Promises of the store that are switched off, and the tests that are to notice."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_STORE = "tests/store/test_store.py::"
_SHARING = "tests/store/test_sharing.py::"
_CORE = "core/kitaru/"
_CONNECTION = _CORE + "store/connection.py"

STORE = (
    Mutant(
        "full-by-default",
        _CORE + "config.py",
        'os.environ.get("KITARU_DURABILITY", "full")',
        'os.environ.get("KITARU_DURABILITY", "normal")',
        (_SHARING + "test_by_default_each_commit_of_a_process_is_pushed_to_the_disk",),
    ),
    Mutant(
        "synchronous",
        _CONNECTION,
        'conn.execute(f"PRAGMA synchronous={self._durability}")',
        'conn.execute("PRAGMA synchronous=OFF")',
        (_SHARING + "test_by_default_each_commit_of_a_process_is_pushed_to_the_disk",),
    ),
    Mutant(
        "file-lock",
        _CORE + "store/locking.py",
        "            locks.lock(self._fd)\n",
        "",
        (_SHARING + "test_writers_take_turns_at_one_lock",),
    ),
    Mutant(
        "transaction",
        _CONNECTION,
        "_Turn(self, is_transaction=True)",
        "_Turn(self, is_transaction=False)",
        (_STORE + "test_a_write_that_raises_leaves_nothing",),
    ),
    Mutant(
        "part-undone",
        _CORE + "store/groups.py",
        'conn.execute("ROLLBACK TO part")',
        "pass",
        ("tests/store/test_together.py::test_a_part_that_raises_is_undone_and_no_other",),
    ),
    Mutant(
        "digest-of-values",
        _CORE + "store/values.py",
        "if not isinstance(data, bytes) or codec.digest(data) != digest:",
        "if not isinstance(data, bytes):",
        (_STORE + "test_a_value_whose_bytes_changed_is_never_returned",),
    ),
    Mutant(
        "digest-of-chunks",
        _CORE + "store/values.py",
        "    return checked(data, stored.digest, what=what)\n",
        "    return checked(data, stored.digest, what=what) if stored.data else data\n",
        (_STORE + "test_a_value_whose_bytes_changed_is_never_returned",),
    ),
    Mutant(
        "digest-in-rows",
        _CORE + "store/values.py",
        "    return checked(data, stored.digest, what=what)\n",
        "    return stored.data or checked(data, stored.digest, what=what)\n",
        ("tests/store/test_faults.py::test_a_damaged_result_is_an_error_wherever_it_is_read",),
    ),
    Mutant(
        "digest-of-results-read-ahead",
        _CORE + "store/results.py",
        "return values.checked(stored.data, stored.digest, what=what)",
        "return stored.data",
        ("tests/store/test_faults.py::test_a_damaged_result_is_an_error_wherever_it_is_read",),
    ),
    Mutant(
        "digest-of-artifacts",
        _CORE + "store/artifacts.py",
        "    stored = StoredValue(*values.one_row(rows, what=what))\n",
        "    data, size, _ = values.one_row(rows, what=what)\n"
        "    stored = StoredValue(data, size, values.codec.digest(data))\n",
        (_STORE + "test_damage_is_named_wherever_it_is_read",),
    ),
    Mutant(
        "digest-of-cached",
        _CORE + "store/artifacts.py",
        'stored = StoredValue(row["data"], row["size"], row["digest"])',
        'stored = StoredValue(row["data"], row["size"], values.codec.digest(row["data"]))',
        ("tests/runtime/test_caching.py::test_a_damaged_source_is_told_and_never_a_wrong_value",),
    ),
    Mutant(
        "digest-of-answers",
        _CORE + "store/waits.py",
        "if not isinstance(value, bytes) or codec.digest(value) != row[1]:",
        "if not isinstance(value, bytes):",
        (_STORE + "test_a_damaged_answer_fails_the_execution_and_never_answers",),
    ),
    Mutant(
        "fork-guard",
        _CONNECTION,
        "        if os.getpid() != self._pid:\n",
        "        if False:\n",
        (_SHARING + "test_a_fork_may_not_use_its_parents_store_but_opens_its_own",),
    ),
    Mutant(
        "opened-once",
        _CORE + "store/opening.py",
        "os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600",
        "os.O_RDWR | os.O_CREAT, 0o600",
        (_SHARING + "test_a_process_that_opens_the_file_twice_still_has_it_open",),
    ),
    Mutant(
        "wal-limit",
        _CONNECTION,
        'conn.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")',
        "pass",
        (_SHARING + "test_the_wal_gets_smaller_again_after_a_large_write",),
    ),
    Mutant(
        "private-file",
        _CORE + "store/opening.py",
        "os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600",
        "os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644",
        (_SHARING + "test_everything_in_a_home_is_for_its_owner_only",),
    ),
    Mutant(
        "private-home",
        _CORE + "private.py",
        "path.mkdir(mode=0o700,",
        "path.mkdir(mode=0o755,",
        (_SHARING + "test_everything_in_a_home_is_for_its_owner_only",),
    ),
    Mutant(
        "network-file-systems",
        _CORE + "private.py",
        'if kind.removeprefix("fuse.").startswith(_NETWORK_FILE_SYSTEMS):',
        "if False:",
        (_SHARING + "test_a_home_on_a_network_file_system_is_refused",),
    ),
    Mutant(
        "newer-schema",
        _CORE + "store/schema.py",
        "    if version > SCHEMA_VERSION:\n",
        "    if False:\n",
        ("tests/store/test_faults.py::test_a_store_of_a_newer_program_is_refused_and_not_touched",),
    ),
    Mutant(
        "atomic-migration",
        _CORE + "store/schema.py",
        "    except BaseException:\n        if conn.in_transaction:\n"
        '            conn.execute("ROLLBACK")\n        raise\n',
        "    except BaseException:\n        if conn.in_transaction:\n"
        '            conn.execute("COMMIT")\n        raise\n',
        (_STORE + "test_a_migration_that_is_cut_off_leaves_the_file_as_it_was",),
    ),
    Mutant(
        "roll-up",
        _CORE + "store/schema.py",
        "AFTER DELETE ON executions BEGIN",
        "AFTER DELETE ON executions WHEN 0 BEGIN",
        ("tests/store/test_rollup.py::test_after_any_changes_it_is_what_a_count_gives",),
    ),
)
