"""The command ``amltk``."""

import os
import subprocess
import sys

import pytest

from amltk.cli import DAG_FILE, install_dag, main
from amltk.executors.airflow import dag as airflow_dag


def read_constants(path):
    """Run the installed file as a module of amltk would be, so that it makes no DAG."""
    namespace = {"__name__": "amltk.installed"}
    exec(path.read_text(), namespace)  # what Airflow does with it
    return namespace


class TestInstallDag:
    def test_it_puts_the_dag_there_and_says_where(self, tmp_path, capsys):
        assert main(["airflow", "install-dag", str(tmp_path)]) == 0
        path = tmp_path / DAG_FILE
        assert capsys.readouterr().out == f"{path}\n"
        assert read_constants(path)["VERSION"] == airflow_dag.VERSION
        assert [found.name for found in tmp_path.iterdir()] == [DAG_FILE]

    def test_store_and_name_can_be_set(self, tmp_path):
        store = "s3://bucket/it's"
        arguments = ["--dag-id", "mine", "--store", store]
        assert main(["airflow", "install-dag", str(tmp_path), *arguments]) == 0
        constants = read_constants(tmp_path / "mine.py")
        assert (constants["DAG_ID"], constants["STORE"]) == ("mine", store)

    def test_again_is_harmless(self, tmp_path):
        assert install_dag(tmp_path) == install_dag(tmp_path)

    def test_a_missing_folder_is_said(self, tmp_path, capsys):
        assert main(["airflow", "install-dag", str(tmp_path / "none")]) == 1
        assert "could not be installed" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["a/b", "", "a b"])
    def test_a_name_that_is_none_is_refused(self, name, tmp_path, capsys):
        with pytest.raises(SystemExit):
            main(["airflow", "install-dag", str(tmp_path), "--dag-id", name])
        assert "no name for a DAG" in capsys.readouterr().err

    def test_without_a_command_it_tells_how(self, capsys):
        with pytest.raises(SystemExit):
            main([])
        assert "usage: amltk" in capsys.readouterr().err

    def test_python_m_amltk_is_the_same(self, tmp_path):
        command = [sys.executable, "-m", "amltk", "airflow", "install-dag", tmp_path]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        assert done.stdout.strip() == str(tmp_path / DAG_FILE)
