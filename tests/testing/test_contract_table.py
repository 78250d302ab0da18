"""The page that tells which engine passes which test of the contract."""

import contract_table
import pytest
import support

pytest_plugins = ["pytester"]


@pytest.fixture
def table():
    return contract_table.Table()


def test_a_row_is_a_sentence_and_a_column_an_engine(table):
    table.note("test_none_is_a_result", "Ray", contract_table.PASSED, "")
    table.note("test_none_is_a_result", "Dask", contract_table.PASSED, "")

    assert "| | Dask | Ray |\n|---|---|---|\n| none is a result | yes | yes |" in str(table)


def test_a_skip_has_its_reason_below(table):
    table.note("test_a", "threads", contract_table.SKIPPED, "nothing is pickled")
    table.note("test_b", "threads", contract_table.SKIPPED, "nothing is pickled")

    assert "| a | no (1) |\n| b | no (1) |\n\n1. nothing is pickled\n" in str(table)


def test_a_failure_is_not_covered_up_by_a_later_success(table):
    table.note("test_a", "Ray", contract_table.FAILED, "")
    table.note("test_a", "Ray", contract_table.PASSED, "")

    assert "| a | FAILED |" in str(table)


def test_a_run_writes_the_page_from_what_has_happened(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(support.ROOT / "tests"))
    pytester.makepyfile(
        """
        from concurrent.futures import ThreadPoolExecutor
        import pytest
        from amltk.testing.contracts import ExecutorContract

        class TestThreads(ExecutorContract):
            engine = "threads"

            @pytest.fixture
            def executor(self):
                with ThreadPoolExecutor(1) as executor:
                    yield executor
        """
    )
    page = pytester.path / "page.md"
    options = ("-p", "contract_table", "--contract-table", page, "-k", "none_is or single or ended")

    pytester.runpytest_subprocess(*options, "-p", "no:randomly").assert_outcomes(
        passed=1, skipped=1
    )

    assert "| none is a result | yes |" in page.read_text()
    assert "no (1)" in page.read_text()
